//! Slowed by overload: a match goes with several periods between two ticks, and back.
//!
//! Nothing but wall time changes by it: each tick computes what it always would, its number is the
//! next one, and what a game knows of time ([`rekindle_sim::Time`]) passes more slowly with it. The
//! decision stands in the journal ([`Decision::Slowdown`]), so that whoever goes on with the match
//! (a recovery, a standby, the node that it moves to) goes on at the rate that its players have.
//!
//! [`Decision::Slowdown`]: rekindle_schema::record::Decision::Slowdown

use super::actor::{MatchState, Mode};

impl MatchState {
    /// How many periods lie between two ticks.
    pub(super) fn slowdown(&self) -> u8 {
        self.cell.supervision.slowdown()
    }

    /// The match begins here, and went with so many periods between its ticks before. What this
    /// node or this build of its game does not allow is taken back, which the journal is told.
    pub(super) fn go_on_slowed(&mut self, periods: u8) {
        let most = if self.host.config.overload.slows() { self.cell.most_slowdown } else { 1 };
        self.set_interval(periods.clamp(1, most));
        // The records that say it may be covered by a checkpoint that was stored meanwhile.
        if periods != 1 {
            self.core.say_slowdown(self.slowdown());
        }
    }

    /// Another rate is decided on, by [`crate::shard::overload`]. It counts from the tick behind
    /// the one that is due.
    pub(super) fn on_slow(&mut self, periods: u8) {
        let periods = periods.clamp(1, self.cell.most_slowdown);
        let goes = matches!(self.mode, Mode::Running | Mode::Waiting { .. });
        if !goes || periods == self.slowdown() {
            return;
        }
        let (match_id, tick) = (self.cell.match_id, self.core.tick());
        let rate = f64::from(self.cell.spec.tick_rate) / f64::from(periods);
        if periods > self.slowdown() {
            self.host.meters.slowdowns.increment(1);
            tracing::warn!(
                code = "RK-HOST-061", %match_id, %tick, periods, rate,
                "too much to do: the match is slowed"
            );
        } else {
            tracing::info!(
                code = "RK-HOST-062", %match_id, %tick, periods, rate,
                "there is room again: the match goes faster"
            );
        }
        self.set_interval(periods);
        self.core.say_slowdown(periods);
    }

    fn set_interval(&mut self, periods: u8) {
        self.interval = self.cell.period * u32::from(periods);
        self.cell.supervision.set_slowdown(periods);
    }
}
