//! `rekindle doctor`: what this host and the store give, each finding with what to do about it.
//!
//! [`host`] looks at the machine, [`disk`] at where the data lies, [`files`] at what is there,
//! [`store`] at the store. All of them measure or read first and judge then; judging is pure.
//! Nothing is changed: what has to be written to be measured is removed again.

mod cgroup;
pub mod disk;
pub mod files;
pub mod host;
pub mod store;

use std::time::Duration;

use serde::Serialize;

use crate::config::Config;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// Matches will suffer or be lost.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at: a short name that does not change.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in words.
    pub found: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Finding {
    fn new(
        check: &'static str,
        level: Level,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let fix = (level > Level::Ok).then(|| fix.into());
        Self { check, level, found: found.into(), fix }
    }
}

/// Looks at everything, in this order. Takes a few seconds.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = host::examine(config).await;
    findings.extend(disk::examine(config));
    findings.extend(files::examine(config));
    findings.extend(store::examine(config).await);
    findings
}

/// Percentiles of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    p50: Duration,
    p99: Duration,
    count: usize,
}

impl Spread {
    /// `None` of an empty sample.
    fn of(mut sample: Vec<Duration>) -> Option<Self> {
        sample.sort_unstable();
        let last = sample.len().checked_sub(1)?;
        let at = |percent: usize| sample[(last * percent).div_ceil(100)];
        Some(Self { p50: at(50), p99: at(99), count: sample.len() })
    }

    /// By the slow end.
    fn level(&self, warn_above: Duration, fail_above: Duration) -> Level {
        match self.p99 {
            slow if slow > fail_above => Level::Fail,
            slow if slow > warn_above => Level::Warn,
            _ => Level::Ok,
        }
    }

    fn words(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        format!("p50 {:.2} ms, p99 {:.2} ms over {}", ms(self.p50), ms(self.p99), self.count)
    }
}

fn mebibytes(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_judged_by_its_slow_end() {
        assert_eq!(Spread::of(Vec::new()), None);
        let ms = Duration::from_millis;
        let spread = Spread::of((1..=100).rev().map(ms).collect()).unwrap();
        assert_eq!((spread.p50, spread.p99, spread.count), (ms(51), ms(100), 100));
        let spread =
            Spread::of((1..=1000).map(|slow| if slow > 995 { ms(500) } else { ms(2) }).collect())
                .unwrap();
        assert_eq!(
            spread.level(ms(10), ms(100)),
            Level::Ok,
            "half a percent is not what p99 means"
        );
        let spread = Spread::of(vec![ms(2), ms(50)]).unwrap();
        assert_eq!(spread.level(ms(10), ms(100)), Level::Warn);
        assert_eq!(spread.level(ms(10), ms(40)), Level::Fail);
        assert_eq!(Spread::of(vec![ms(3)]).unwrap().words(), "p50 3.00 ms, p99 3.00 ms over 1");
    }
}
