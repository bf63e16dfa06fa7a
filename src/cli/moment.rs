//! Moments as they are typed and read: RFC 3339, or how long ago.

use chrono::{DateTime, SecondsFormat};

use super::exit::{Exit, Failure};

/// Milliseconds since 1970 of `2026-11-25T12:00:00Z`, or of `-90s` before `now_ms`.
pub(super) fn parse(text: &str, now_ms: u64) -> Result<u64, Failure> {
    let wrong = || {
        let expected = "expected a time with its offset such as 2026-11-25T12:00:00Z, or how long ago: -90s, -15m, -2h, -7d";
        Failure::new(Exit::Usage, format!("RK-CLI-030: `{text}` is no moment: {expected}"))
    };
    let Some(ago) = text.strip_prefix('-') else {
        let moment = DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
        return u64::try_from(moment.timestamp_millis()).map_err(|_| wrong());
    };
    let unit = match ago.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u64 = ago[..ago.len() - 1].parse().map_err(|_| wrong())?;
    Ok(now_ms.saturating_sub(count.checked_mul(unit).ok_or_else(wrong)?))
}

/// In UTC, as [`parse`] takes it.
pub(super) fn show(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
    moment.map_or_else(|| format!("{ms} ms after 1970"), |moment| moment.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown() {
        let now = 1_800_000_000_000;
        for (text, ms) in [
            ("2026-11-25T12:00:00Z", 1_795_608_000_000),
            ("2026-11-25T13:00:00.250+01:00", 1_795_608_000_250),
            ("-90s", now - 90_000),
            ("-7d", now - 604_800_000),
        ] {
            assert_eq!(parse(text, now).unwrap(), ms, "{text}");
            assert_eq!(parse(&show(ms), now).unwrap(), ms, "{text}");
        }
        for text in ["", "-", "-s", "-5", "-5y", "-é", "yesterday", "2026-11-25", "1969-12-31T23:59:59Z", "-99999999999999999999d"] {
            assert!(parse(text, now).unwrap_err().message.contains("RK-CLI-030"), "{text}");
        }
    }
}
