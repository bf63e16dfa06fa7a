//! The newest hashes of a match, to compare with what a client says that it saw.

use std::collections::VecDeque;

use rekindle_schema::record::Beat;
use rekindle_schema::{StateHash, Tick};

/// How many hashes are remembered: at the usual distance of 30 ticks a minute of a match at 30 Hz,
/// which is longer than a session waits for its player.
const KEPT: usize = 64;

/// The newest hashes of a match, ascending by tick.
#[derive(Debug, Clone, Default)]
pub struct Hashes {
    beats: VecDeque<Beat>,
}

impl Hashes {
    /// Takes the next one; those of the same or a later tick are void.
    pub fn push(&mut self, beat: Beat) {
        while self.beats.back().is_some_and(|last| last.tick >= beat.tick) {
            self.beats.pop_back();
        }
        if self.beats.len() == KEPT {
            self.beats.pop_front();
        }
        self.beats.push_back(beat);
    }

    /// The hash after `tick`, if it is remembered.
    pub fn at(&self, tick: Tick) -> Option<StateHash> {
        let index = self.beats.binary_search_by_key(&tick, |beat| beat.tick).ok()?;
        self.beats.get(index).map(|beat| beat.hash)
    }

    /// The newest one.
    pub fn newest(&self) -> Option<Beat> {
        self.beats.back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(tick: u64) -> Beat {
        Beat { tick: Tick(tick), hash: StateHash([tick as u8; 32]) }
    }

    #[test]
    fn the_newest_hashes_are_found_by_their_tick_and_no_others() {
        let mut hashes = Hashes::default();
        (1..=100).for_each(|n| hashes.push(beat(n * 30)));
        assert_eq!(hashes.newest(), Some(beat(3000)));
        assert_eq!(
            (hashes.at(Tick(3000)), hashes.at(Tick(37 * 30))),
            (Some(beat(3000).hash), Some(beat(37 * 30).hash))
        );
        assert_eq!(
            (hashes.at(Tick(36 * 30)), hashes.at(Tick(2999)), hashes.at(Tick(3030))),
            (None, None, None)
        );
    }

    #[test]
    fn a_tick_that_is_made_again_replaces_what_followed_it() {
        let mut hashes = Hashes::default();
        (1..=5).for_each(|n| hashes.push(beat(n)));
        hashes.push(beat(3));
        assert_eq!((hashes.newest(), hashes.at(Tick(4))), (Some(beat(3)), None));
    }
}
