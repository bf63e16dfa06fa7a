//! Moments as people type and read them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::retention::duration;

/// What was typed is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "RK-CLI-016: `{0}` is no moment: expected a time with its offset such as 2026-11-25T12:00:00Z \
     or 2026-11-25T13:00:00.250+01:00, or how long ago: 90s, 15m, 2h, 7d"
)]
pub struct NoMoment(String);

/// Milliseconds since 1970 of an RFC 3339 time, or of `90s` (also `-90s`) before `now_ms`. A
/// fraction of a millisecond is dropped.
pub fn parse(text: &str, now_ms: u64) -> Result<u64, NoMoment> {
    let wrong = || NoMoment(text.to_owned());
    if let Some(ago) = duration(text.strip_prefix('-').unwrap_or(text)) {
        return Ok(now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    u64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| wrong())
}

/// A moment in UTC, as [`parse`] takes it: always with milliseconds, so that moments stand under
/// each other and are in order as texts.
pub fn show(ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    moment.map_or_else(
        |_| format!("{ms} ms after 1970"),
        |at| {
            format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                at.year(),
                u8::from(at.month()),
                at.day(),
                at.hour(),
                at.minute(),
                at.second(),
                at.millisecond()
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_offsets_and_times_ago_are_read() {
        let now = 1_800_000_000_000;
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-25T12:00:00Z", 1_795_608_000_000),
            ("2026-11-25T13:00:00.250+01:00", 1_795_608_000_250),
            ("2026-11-25T06:30:00-05:30", 1_795_608_000_000),
            ("-90s", now - 90_000),
            ("-15m", now - 900_000),
            ("15m", now - 900_000),
            ("-7d", now - 604_800_000),
        ] {
            assert_eq!(parse(text, now), Ok(ms), "{text}");
            assert_eq!(parse(&show(ms), now), Ok(ms));
        }
    }

    #[test]
    fn moments_are_shown_with_as_many_digits_each() {
        assert_eq!(show(1_795_608_000_000), "2026-11-25T12:00:00.000Z");
        assert_eq!(show(1_795_608_000_230), "2026-11-25T12:00:00.230Z");
        assert_eq!(show(7), "1970-01-01T00:00:00.007Z");
        assert!(show(u64::MAX).ends_with("ms after 1970"));
    }

    #[test]
    fn anything_else_is_refused_with_what_would_do() {
        for text in [
            "",
            "-",
            "-0s",
            "-5",
            "-5y",
            "yesterday",
            "2026-11-25",
            "2026-11-25T12:00:00",
            "2026-13-25T12:00:00Z",
            "1969-12-31T23:59:59Z",
        ] {
            let error = parse(text, 1).unwrap_err().to_string();
            assert!(
                error.contains("RK-CLI-016") && error.contains("2026-11-25T12:00:00Z"),
                "{error}"
            );
        }
    }
}
