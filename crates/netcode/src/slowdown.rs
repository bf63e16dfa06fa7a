//! How far apart the ticks of a match lie, seen from a client.
//!
//! A node with too much to do lets two, three or four tick periods lie between two ticks of a
//! match. The protocol has no word for it: clients see it in their snapshots, so that those of all
//! versions can, and of all carriers.

use std::collections::VecDeque;

use rekindle_schema::Tick;
use rekindle_schema::record::MAX_SLOWDOWN;

/// Least snapshots that it takes to notice a change.
const LEAST: usize = 9;
/// Least time that those have to cover at the match's own rate, in milliseconds: what a line's
/// unevenness does to the mean of so long a time is small.
const LEAST_MS: f64 = 250.0;
/// How near the mean has to come to a whole number of periods.
const NEAR: f64 = 0.25;

/// Finds out how many periods lie between two ticks, from the arrival of snapshots.
#[derive(Debug, Clone)]
pub(crate) struct SlowdownMeter {
    /// Milliseconds a tick at the match's own rate.
    period: f64,
    /// Tick and arrival of the newest snapshots, ascending.
    arrivals: VecDeque<(Tick, u64)>,
    /// Most of them that are kept.
    most: usize,
    periods: u8,
}

impl SlowdownMeter {
    /// Of a match with so many milliseconds a tick.
    pub(crate) fn new(period: f64) -> Self {
        let most = LEAST.max((LEAST_MS / period).ceil() as usize + 1);
        Self { period, arrivals: VecDeque::new(), most, periods: 1 }
    }

    /// How many periods lie between two ticks.
    pub(crate) fn periods(&self) -> u8 {
        self.periods
    }

    /// Milliseconds a tick, as the match goes now.
    pub(crate) fn period(&self) -> f64 {
        self.period * f64::from(self.periods)
    }

    /// A snapshot newer than those before arrived. Whether the ticks lie further apart, or closer,
    /// than before.
    pub(crate) fn arrived(&mut self, tick: Tick, now_ms: u64) -> bool {
        if self.arrivals.len() == self.most {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((tick, now_ms));
        if self.arrivals.len() < self.most {
            return false;
        }
        let (Some(first), Some(last)) = (self.arrivals.front(), self.arrivals.back()) else {
            return false;
        };
        let mean = self.apart(*first, *last);
        let found = mean.round().clamp(1.0, f64::from(MAX_SLOWDOWN));
        let found_periods = found as u8;
        // One long gap moves the mean and not the median; snapshots that come in pairs move the
        // median and not the mean.
        let changed = found_periods != self.periods
            && (mean - found).abs() < NEAR
            && (self.median() - found).abs() < 0.5;
        if changed {
            self.periods = found_periods;
        }
        changed
    }

    /// Periods between two ticks, from one arrival to another.
    fn apart(&self, from: (Tick, u64), to: (Tick, u64)) -> f64 {
        let ticks = to.0.0.saturating_sub(from.0.0).max(1) as f64;
        to.1.saturating_sub(from.1) as f64 / ticks / self.period
    }

    fn median(&self) -> f64 {
        let pairs = self.arrivals.iter().zip(self.arrivals.iter().skip(1));
        let mut gaps: Vec<f64> = pairs.map(|(from, to)| self.apart(*from, *to)).collect();
        gaps.sort_by(f64::total_cmp);
        gaps.get(gaps.len() / 2).copied().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it says behind snapshots of ticks 1, 2, 3 with these gaps in milliseconds.
    fn hears(gaps: impl IntoIterator<Item = f64>) -> (u8, u32) {
        let mut meter = SlowdownMeter::new(1000.0 / 30.0);
        let (mut now, mut changes) = (1000.0, 0);
        for (tick, gap) in (1..).zip(gaps) {
            now += gap;
            changes += u32::from(meter.arrived(Tick(tick), now as u64));
        }
        (meter.periods(), changes)
    }

    #[test]
    fn ticks_that_lie_further_apart_are_noticed_within_nine_of_them_and_so_is_the_return() {
        for periods in 2..=4u8 {
            let slow = f64::from(periods) * 33.3;
            let slowed = || std::iter::repeat_n(33.3, 40).chain(std::iter::repeat_n(slow, 9));
            assert_eq!(hears(slowed()), (periods, 1));
            let back = slowed().chain(std::iter::repeat_n(33.3, 12));
            assert_eq!(hears(back).0, 1);
        }
    }

    #[test]
    fn outages_pairs_and_ticks_that_are_late_by_a_half_are_no_slowdown() {
        let even = || std::iter::repeat_n(33.3, 30);
        assert_eq!(hears(even().chain([3000.0]).chain(even())), (1, 0), "an outage");
        assert_eq!(hears(even().chain([500.0]).chain([0.0; 14]).chain(even())), (1, 0), "a stall");
        assert_eq!(hears([66.6, 0.0].into_iter().cycle().take(60)), (1, 0), "pairs");
        assert_eq!(hears(std::iter::repeat_n(48.0, 60)), (1, 0), "late by a half");
    }
}
