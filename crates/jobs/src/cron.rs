//! When something is due by the clock: `every 10s`, or a cron pattern of five fields. All times are
//! UTC.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Intervals are whole seconds, at most so many: a week.
const LONGEST: u64 = 7 * 86_400;

/// A text that says no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no schedule ({problem}): expected `every 30s` (s, m, h or d) or five cron fields \
     such as `15 3 * * *`, in UTC"
)]
pub struct ScheduleError {
    text: String,
    problem: String,
}

/// When something is due, again and again. The moments depend on the schedule alone, so that all
/// nodes know the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the multiples of so many milliseconds since 1970.
    Every(u64),
    /// When the clock fits a pattern.
    Cron(Box<Cron>),
}

impl Schedule {
    /// The first moment after `now_ms`, in milliseconds since 1970; `None` if there is none any
    /// more (30 February).
    pub fn after(&self, now_ms: u64) -> Option<u64> {
        match self {
            Self::Every(interval) => {
                now_ms.checked_div(*interval)?.checked_add(1)?.checked_mul(*interval)
            }
            Self::Cron(cron) => {
                let now = DateTime::from_timestamp_millis(i64::try_from(now_ms).ok()?)?;
                u64::try_from(cron.find_next_occurrence(&now, false).ok()?.timestamp_millis()).ok()
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {}s", interval / 1_000),
            Self::Cron(cron) => f.write_str(cron.as_str()),
        }
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let fail = |problem: String| ScheduleError { text: text.to_owned(), problem };
        let Some(interval) = text.trim().strip_prefix("every ") else {
            let parser =
                CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
            let cron = parser.parse(text.trim()).map_err(|error| fail(error.to_string()))?;
            return Ok(Self::Cron(Box::new(cron)));
        };
        let interval = interval.trim();
        let (number, unit) = interval
            .split_at(interval.find(|c: char| !c.is_ascii_digit()).unwrap_or(interval.len()));
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            other => return Err(fail(format!("unknown unit `{other}`"))),
        };
        let number: u64 = number.parse().map_err(|_| fail(format!("`{number}` is no number")))?;
        let seconds = number.checked_mul(seconds).filter(|seconds| (1..=LONGEST).contains(seconds));
        let seconds = seconds
            .ok_or_else(|| fail("an interval lasts from one second to a week".to_owned()))?;
        Ok(Self::Every(Duration::from_secs(seconds).as_millis() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(schedule: &str, now: &str) -> Option<String> {
        let now: DateTime<chrono::Utc> = now.parse().unwrap();
        let next = schedule.parse::<Schedule>().unwrap().after(now.timestamp_millis() as u64)?;
        Some(
            DateTime::from_timestamp_millis(next as i64)
                .unwrap()
                .format("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
        )
    }

    #[test]
    fn the_next_moment() {
        for (schedule, now, next) in [
            ("every 10s", "2026-03-01T12:00:00Z", "2026-03-01T12:00:10Z"),
            ("every 10s", "2026-03-01T12:00:09.999Z", "2026-03-01T12:00:10Z"),
            ("every 6h", "2026-03-01T12:00:01Z", "2026-03-01T18:00:00Z"),
            ("every 1 d", "2026-03-01T12:00:01Z", "2026-03-02T00:00:00Z"),
            ("15 3 * * *", "2026-03-01T03:15:00Z", "2026-03-02T03:15:00Z"),
            ("15 3 * * *", "2026-03-01T03:14:59.5Z", "2026-03-01T03:15:00Z"),
            ("*/20 8-9 * * 1-5", "2026-02-27T09:40:00Z", "2026-03-02T08:00:00Z"),
            ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ] {
            assert_eq!(after(schedule, now).as_deref(), Some(next), "{schedule} after {now}");
        }
        assert_eq!(after("0 0 30 2 *", "2026-03-01T00:00:00Z"), None);
    }

    #[test]
    fn moments_go_up_and_never_stand_still() {
        for text in ["every 7s", "*/7 * * * *"] {
            let schedule: Schedule = text.parse().unwrap();
            let mut now = 1_700_000_000_000;
            for _ in 0..500 {
                let next = schedule.after(now).unwrap();
                assert!(next > now, "{text}: {next} after {now}");
                assert_eq!(
                    schedule.after(next - 1),
                    Some(next),
                    "{text}: not seen from just before"
                );
                now = next;
            }
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "every",
            "every s",
            "every 0s",
            "every 8d",
            "every 1w",
            "every 99999999999999999999s",
            "* * * *",
            "60 * * * *",
            "* * * * * *",
        ] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains("every 30s"), "{error}");
        }
    }
}
