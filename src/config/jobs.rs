//! The keys under `jobs`.

use std::time::Duration;

use rekindle_jobs::Schedule;

use super::{ConfigError, Settings, at_least_one, bad, parse, text};

/// The shortest lease: it must outlast a commit of any store a few times over.
const SHORTEST_LEASE_MS: u64 = 1_000;

/// How a node works on jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    /// Jobs of the queue `default` at once.
    pub concurrency: usize,
    /// For how long finished ones are remembered.
    pub keep: Duration,
    /// For how long a claim stands.
    pub lease: Duration,
    /// Kinds of job that are due by the clock, each with its schedule.
    pub cron: Vec<(String, Schedule)>,
}

pub(super) fn load(settings: &Settings) -> Result<Jobs, ConfigError> {
    let lease_ms: u64 = parse(settings, "jobs.lease_ms", "milliseconds")?;
    if lease_ms < SHORTEST_LEASE_MS {
        return Err(bad(settings, "jobs.lease_ms", "at least 1000 milliseconds"));
    }
    Ok(Jobs {
        concurrency: at_least_one(settings, "jobs.concurrency")?,
        keep: days(at_least_one(settings, "jobs.keep_days")?),
        lease: Duration::from_millis(lease_ms),
        cron: cron(settings)?,
    })
}

/// As long as so many days.
pub(super) fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(86_400))
}

fn cron(settings: &Settings) -> Result<Vec<(String, Schedule)>, ConfigError> {
    let mut entries: Vec<(String, Schedule)> = Vec::new();
    for entry in
        text(settings, "jobs.cron").split(';').map(str::trim).filter(|entry| !entry.is_empty())
    {
        let wrong = |expected: String| bad(settings, "jobs.cron", &expected);
        let (kind, schedule) = entry.split_once(char::is_whitespace).ok_or_else(|| {
            wrong(format!(
                "`KIND SCHEDULE; ...`, where `{entry}` has no schedule: `{entry} every 1h`"
            ))
        })?;
        let schedule: Schedule = schedule
            .trim()
            .parse()
            .map_err(|error| wrong(format!("`KIND SCHEDULE; ...`, but {error}")))?;
        if entries.iter().any(|(other, _)| other == kind) {
            return Err(wrong(format!("each kind once, but `{kind}` is there twice")));
        }
        entries.push((kind.to_owned(), schedule));
    }
    Ok(entries)
}
