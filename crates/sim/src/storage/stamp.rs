//! Change stamps: when something was changed, as precisely as "by which system of which tick".
//!
//! A stamp is a `u32`: ticks within a window of two *eras* times [`POSITIONS`], plus the place in
//! the tick (0 for what happens before the systems, then one place per system). At the first tick
//! of each era all stamps move down by one era, those that are older stop at 0. So stamps take four
//! bytes and never overflow, and they depend on nothing but the tick.

use rekindle_schema::Tick;

/// Places within a tick.
pub(crate) const POSITIONS: u32 = 2048;
/// Ticks of an era: nine hours at 30 Hz.
const ERA: u64 = 1 << 20;
/// What stamps move down by at the start of an era.
const SHIFT: u32 = ERA as u32 * POSITIONS;

// Two eras of ticks, each with all its places, are exactly what a stamp can say.
const _: () = assert!(2 * ERA * POSITIONS as u64 - 1 <= Stamp::MAX as u64);
const _: () = assert!(POSITIONS.is_power_of_two() && ERA.is_power_of_two());

/// When something was changed.
pub type Stamp = u32;

/// The stamp of a place in a tick.
pub(crate) fn stamp(tick: Tick, position: u32) -> Stamp {
    debug_assert!(position < POSITIONS, "place {position} of a tick: there are {POSITIONS}");
    ((tick.0 % ERA + ERA) as u32) * POSITIONS + position.min(POSITIONS - 1)
}

/// The place in its tick that a stamp names.
pub(crate) fn position(stamp: Stamp) -> u32 {
    stamp % POSITIONS
}

/// The stamp that the start of the tick `ticks` earlier has in `tick`; 0 if that is too long ago to
/// have one.
pub(crate) fn before(tick: Tick, ticks: u64) -> Stamp {
    let distance = u32::try_from(ticks).unwrap_or(u32::MAX).saturating_mul(POSITIONS);
    stamp(tick, 0).saturating_sub(distance)
}

/// Whether stamps must move down before `tick` is made.
pub(crate) fn starts_era(tick: Tick) -> bool {
    tick.0 > 0 && tick.0.is_multiple_of(ERA)
}

/// Whether stamps of one tick mean the same in the other.
pub(crate) fn same_era(a: Tick, b: Tick) -> bool {
    a.0 / ERA == b.0 / ERA
}

/// The greatest stamp that a change in `tick` can have.
pub(crate) fn last_of(tick: Tick) -> Stamp {
    stamp(tick, POSITIONS - 1)
}

/// Moves a stamp down by an era.
pub(crate) fn age(stamp: &mut Stamp) {
    *stamp = stamp.saturating_sub(SHIFT);
}

/// Which of the two stamps of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StampOf {
    /// When the entity got the component.
    Addition,
    /// When the component was added or changed last.
    Change,
}

/// What runs now, and since when it did not: by this, changes are told apart.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What this run's changes are marked with.
    pub(crate) stamp: Stamp,
    /// Changes with a greater stamp are new to this system.
    pub(crate) last: Stamp,
    /// Seed of the random stream of this run.
    pub(crate) stream: u64,
    /// The tick being made.
    pub(crate) tick: Tick,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_ascend_through_the_ticks_of_an_era_and_its_places() {
        let last = Tick(ERA - 1);
        assert_eq!(stamp(last, POSITIONS - 1), Stamp::MAX);
        assert!(stamp(Tick(7), POSITIONS - 1) < stamp(Tick(8), 0));
        assert!(stamp(last, 0) > stamp(Tick(ERA), POSITIONS - 1));
        let mut old = stamp(last, 5);
        age(&mut old);
        assert!(old < stamp(Tick(ERA), 0));
    }

    #[test]
    #[should_panic(expected = "place 2048 of a tick")]
    fn a_place_that_no_tick_has_is_noticed() {
        stamp(Tick(1), POSITIONS);
    }
}
