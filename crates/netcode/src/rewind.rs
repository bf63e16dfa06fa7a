//! Lag compensation: how far back a server looks to judge a shot by what the player saw.

use rekindle_schema::Tick;

/// The farthest that a server looks back, in milliseconds.
pub const REWIND_MS: u64 = 250;

/// The same in whole ticks, rounded down.
pub fn rewind_ticks(tick_rate: u16) -> u64 {
    REWIND_MS * u64::from(tick_rate) / 1000
}

/// The tick to judge an input by that is applied in the step of tick `now`, made while looking at
/// `view`: at most [`REWIND_MS`] back, never ahead.
pub fn clamp_view(view: Tick, now: Tick, tick_rate: u16) -> Tick {
    view.clamp(Tick(now.0.saturating_sub(rewind_ticks(tick_rate))), now)
}
