//! The keys under `retention`: how much of matches is kept, and for how long.

use std::time::Duration;

use rekindle_cluster::retention::{Keep, Policy};

use super::{ConfigError, Settings, at_least_one, bad, parse, text};

/// Reads the policy and checks it.
pub(super) fn policy(settings: &Settings) -> Result<Policy, ConfigError> {
    Ok(Policy {
        journal: keep(settings, "retention.journal", Some("recovery"))?,
        checkpoints: match parse(settings, "retention.checkpoints", "a whole number")? {
            count @ 2.. => count,
            _ => {
                return Err(bad(
                    settings,
                    "retention.checkpoints",
                    "a whole number, at least 2: a recovery may need the second-newest",
                ));
            }
        },
        archive: keep(settings, "retention.archive", Some("none"))?,
        ended: keep(settings, "retention.ended", None)?,
        chunk_every: Duration::from_secs(at_least_one(settings, "retention.chunk_s")?),
    })
}

/// `all`, `for:TIME`, or the word for what is kept for others only.
fn keep(settings: &Settings, name: &str, needed: Option<&str>) -> Result<Keep, ConfigError> {
    let value = text(settings, name);
    if Some(value.as_str()) == needed {
        return Ok(Keep::Needed);
    }
    let keep = match value.strip_prefix("for:") {
        Some(time) => duration(time).map(Keep::For),
        None => (value == "all").then_some(Keep::All),
    };
    keep.ok_or_else(|| {
        let words: String = needed.map_or_else(String::new, |word| format!("`{word}`, "));
        bad(
            settings,
            name,
            &format!(
                "{words}`all`, or `for:` and a time such as `for:90s`, \
            `for:30m`, `for:12h`, `for:7d`"
            ),
        )
    })
}

/// A whole number, at least 1, of seconds, minutes, hours or days: `90s`, `30m`, `12h`, `7d`.
pub fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok().filter(|&count| count > 0)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    count.checked_mul(seconds).filter(|&time| time <= super::LONGEST_S).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn with(key: &str, value: &str) -> Result<Policy, String> {
        let flags = vec![("--set".to_owned(), key.to_owned(), value.to_owned())];
        let file = Some(std::path::PathBuf::from("/dev/null"));
        let settings = Settings::load(&Sources { file, flags, ..Sources::default() })
            .map_err(|error| error.to_string())?;
        policy(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn policies_are_read() {
        let default = with("retention.checkpoints", "2").unwrap();
        assert_eq!(default, Policy::default(), "the defaults of the keys are those of the policy");
        assert_eq!(with("retention.journal", "all").unwrap().journal, Keep::All);
        assert_eq!(
            with("retention.archive", "for:30d").unwrap().archive,
            Keep::For(Duration::from_hours(30 * 24))
        );
        assert_eq!(
            with("retention.ended", "for:12h").unwrap().ended,
            Keep::For(Duration::from_hours(12))
        );
        assert_eq!(with("retention.checkpoints", "5").unwrap().checkpoints, 5);
    }

    #[test]
    fn an_old_key_still_works() {
        assert_eq!(with("journal", "all").unwrap().journal, Keep::All);
        let error = with("journal", "some").unwrap_err();
        assert!(error.contains("retention.journal") && error.contains("`recovery`"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (key, value, hint) in [
            ("retention.journal", "none", "`recovery`, `all`"),
            ("retention.archive", "for:", "for:7d"),
            ("retention.archive", "for:0d", "for:7d"),
            ("retention.archive", "for:99999999999999999999d", "for:7d"),
            ("retention.archive", "for:5w", "for:7d"),
            ("retention.ended", "none", "`all`"),
            ("retention.checkpoints", "1", "at least 2"),
            ("retention.chunk_s", "0", "at least 1"),
        ] {
            let error = with(key, value).unwrap_err();
            assert!(
                error.contains("RK-CONFIG-004") && error.contains(key) && error.contains(hint),
                "{error}"
            );
        }
    }
}
