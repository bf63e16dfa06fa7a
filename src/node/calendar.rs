//! The moment from which ages are counted when something is removed because it is old.
//!
//! A wall clock that leaps ten years ahead for five seconds makes everything old, and what is
//! removed stays removed. So a leap is not believed before it has lasted for a day; meanwhile time
//! goes on by the steady clock of this process. A step back is believed at once: it only keeps
//! things longer. Called by the chores that remove by age; nothing else needs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rekindle_schema::Incarnation;
use rekindle_store::{Store, StoreError};

use crate::clock;

/// A clock that is ahead by more than this has leapt.
const LEAP_MS: u64 = Duration::from_hours(1).as_millis() as u64;
/// No node ran for longer than this: or the clock leapt while none did.
const ABSENCE_MS: u64 = Duration::from_hours(7 * 24).as_millis() as u64;
/// A leap that has lasted for so long is the truth.
const BELIEVED_AFTER_MS: u64 = Duration::from_hours(24).as_millis() as u64;

/// What is known of time: pure, the clocks are arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Belief {
    /// The moment that is believed, in milliseconds since 1970, and the steady clock at that
    /// moment.
    at: (u64, u64),
    /// Since when, by the steady clock, the wall clock has been too far ahead.
    doubt_since_ms: Option<u64>,
}

impl Belief {
    /// At a start. `known_ms` is the newest moment that the store knows of from earlier runs.
    fn new(wall_ms: u64, known_ms: Option<u64>, steady_ms: u64) -> Self {
        match known_ms.filter(|known_ms| wall_ms > known_ms.saturating_add(ABSENCE_MS)) {
            Some(known_ms) => Self { at: (known_ms, steady_ms), doubt_since_ms: Some(steady_ms) },
            None => Self { at: (wall_ms, steady_ms), doubt_since_ms: None },
        }
    }

    /// The moment to count ages from, and whether the wall clock is doubted since just now.
    fn now(&mut self, wall_ms: u64, steady_ms: u64) -> (u64, bool) {
        let (believed_ms, then_ms) = self.at;
        let expected_ms = believed_ms.saturating_add(steady_ms.saturating_sub(then_ms));
        let ahead = wall_ms > expected_ms.saturating_add(LEAP_MS);
        let since_ms = self.doubt_since_ms.filter(|_| ahead);
        let believed = !ahead
            || since_ms
                .is_some_and(|since_ms| steady_ms.saturating_sub(since_ms) >= BELIEVED_AFTER_MS);
        self.at = (if believed { wall_ms } else { expected_ms }, steady_ms);
        self.doubt_since_ms = if believed { None } else { Some(since_ms.unwrap_or(steady_ms)) };
        (self.at.0, !believed && since_ms.is_none())
    }
}

/// The calendar of a node.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// What the steady clock counts from.
    began: Instant,
    belief: Arc<Mutex<Option<Belief>>>,
}

impl Calendar {
    /// Asks neither a clock nor a store yet.
    pub fn new() -> Self {
        Self { began: Instant::now(), belief: Arc::default() }
    }

    /// The moment to count ages from, in milliseconds since 1970. The first call asks the store
    /// what earlier runs than `me` knew.
    pub async fn now_ms(&self, store: &Store, me: Incarnation) -> Result<u64, StoreError> {
        let known = self.belief.lock().is_some();
        let newest = if known {
            None
        } else {
            store
                .leases
                .nodes()
                .await?
                .iter()
                .filter(|node| node.incarnation != me)
                .map(|node| node.deadline_ms)
                .max()
        };
        let (wall_ms, steady_ms) = (clock::now_ms(), self.began.elapsed().as_millis() as u64);
        let mut belief = self.belief.lock();
        let belief = belief.get_or_insert_with(|| Belief::new(wall_ms, newest, steady_ms));
        let fresh = !known && belief.doubt_since_ms.is_some();
        let (now_ms, doubted) = belief.now(wall_ms, steady_ms);
        if doubted || fresh {
            tracing::warn!(
                code = "RK-NODE-152",
                wall_ms,
                believed_ms = now_ms,
                "the wall clock has leapt ahead: for a day nothing is removed because of the age \
                 that it shows; check the time service of this host"
            );
        }
        Ok(now_ms)
    }
}

impl Default for Calendar {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const YEARS: u64 = 10 * 365 * 24 * HOUR;

    #[test]
    fn a_leap_of_a_few_seconds_makes_nothing_old() {
        for leap in [2 * HOUR, 30 * 24 * HOUR, YEARS] {
            let mut belief = Belief::new(NOW, None, 0);
            assert_eq!(belief.now(NOW + 1_000, 1_000), (NOW + 1_000, false));
            assert_eq!(belief.now(NOW + leap + 2_000, 2_000), (NOW + 2_000, true));
            assert_eq!(belief.now(NOW + leap + 5_000, 5_000), (NOW + 5_000, false), "said once");
            assert_eq!(belief.now(NOW + 7_000, 7_000), (NOW + 7_000, false));
            assert_eq!(
                belief.now(NOW + leap, 8_000),
                (NOW + 8_000, true),
                "and again the next time"
            );
        }
    }

    #[test]
    fn a_leap_that_lasts_is_believed_and_a_step_back_at_once() {
        let mut belief = Belief::new(NOW, None, 0);
        let mut seen = Vec::new();
        for hour in 1..=30 {
            seen.push(belief.now(NOW + YEARS + hour * HOUR, hour * HOUR).0 >= NOW + YEARS);
        }
        assert_eq!(seen.iter().position(|&believed| believed), Some(24), "{seen:?}");
        assert!(seen[24..].iter().all(|&believed| believed));
        for back in [HOUR, YEARS] {
            assert_eq!(belief.now(NOW + YEARS - back, 31 * HOUR), (NOW + YEARS - back, false));
            assert_eq!(
                belief.now(NOW + YEARS - back + MINUTE, 31 * HOUR + MINUTE),
                (NOW + YEARS - back + MINUTE, false)
            );
            belief = Belief::new(NOW + YEARS, None, 31 * HOUR);
        }
        // An hour is summer time, or somebody's mistake: nothing that is kept by age is kept by the
        // hour.
        assert_eq!(belief.now(NOW + YEARS + HOUR, 31 * HOUR), (NOW + YEARS + HOUR, false));
    }

    #[test]
    fn a_start_with_a_clock_far_ahead_of_the_store_is_doubted() {
        let mut belief = Belief::new(NOW + YEARS, Some(NOW), 0);
        assert_eq!(belief.now(NOW + YEARS + 1_000, 1_000).0, NOW + 1_000);
        assert_eq!(belief.now(NOW + 2_000, 2_000), (NOW + 2_000, false), "corrected");
        let mut belief = Belief::new(NOW + 3 * 24 * HOUR, Some(NOW), 0);
        assert_eq!(belief.now(NOW + 3 * 24 * HOUR, 0).0, NOW + 3 * 24 * HOUR, "a long weekend");
        // An earlier run whose clock was ahead takes nothing away from one that is right.
        let mut belief = Belief::new(NOW, Some(NOW + YEARS), 0);
        assert_eq!(belief.now(NOW + 10, 10).0, NOW + 10);
    }
}
