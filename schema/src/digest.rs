//! Short digests by which two builds of a game are compared: of what players are shown of a tick,
//! and of the parts of a state.
//!
//! They tell accidents apart, not attackers: 64 bits, and a few hundred nanoseconds for the view of
//! a hundred entities, because every tick that somebody sees has one. Journals keep them, so what
//! they give for a value never changes; another way of computing them needs another format tag of
//! the record ([`crate::record`]).
//!
//! ```
//! use rekindle_schema::digest;
//! use rekindle_schema::net::NetView;
//!
//! let mut view = NetView { values: vec![1, 2, 3], ..NetView::default() };
//! let before = digest::of_shown(&view, &[]);
//! assert_eq!(before, digest::of_shown(&view.clone(), &[]));
//! view.values[2] ^= 1;
//! assert_ne!(before, digest::of_shown(&view, &[]));
//! ```

use crate::mix::mix;
use crate::net::NetView;

/// Odd, so that a step loses nothing: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Where the lanes begin: digits of pi.
const START: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// Takes a word into a lane. One to one in each of the two while the other stays. High bits are
/// brought down before the product carries them away, so that no other single bit of the next word
/// undoes a difference.
#[inline]
fn step(lane: u64, word: u64) -> u64 {
    let both = lane.rotate_left(27) ^ word;
    (both ^ (both >> 32)).wrapping_mul(FACTOR)
}

/// Four lanes that a processor computes side by side.
struct Lanes([u64; 4]);

impl Lanes {
    fn new() -> Self {
        Self(START)
    }

    /// Takes four words. For equal words the lanes map one to one, so a difference in one word is
    /// never lost.
    #[inline]
    fn take(&mut self, words: [u64; 4]) {
        for (lane, word) in self.0.iter_mut().zip(words) {
            *lane = step(*lane, word);
        }
    }

    fn finish(self) -> u64 {
        self.0.into_iter().fold(0, |digest, lane| mix(digest ^ lane))
    }
}

/// The digest of what players are shown of a tick: the view of the world, and for each command of
/// its step whether the game accepted it. Who may see what has no part in it: a build that shows
/// less, or to others, has made the same tick.
pub fn of_shown(view: &NetView, commands: &[bool]) -> u64 {
    let mut lanes = Lanes::new();
    let whole = view.whole();
    let NetView { tick, entities, values, avatars, restricted: _ } = &*whole;
    lanes.take([tick.0, entities.len() as u64, values.len() as u64, avatars.len() as u64]);
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let mut both = entities.chunks_exact(2);
    for both in &mut both {
        let [a, b] = [both[0], both[1]];
        lanes.take([
            pair(a.slot, a.generation),
            u64::from(a.components),
            pair(b.slot, b.generation),
            u64::from(b.components),
        ]);
    }
    for last in both.remainder() {
        lanes.take([pair(last.slot, last.generation), u64::from(last.components), 0, 0]);
    }
    let mut eights = values.chunks_exact(8);
    for quanta in &mut eights {
        lanes.take([
            pair(quanta[0], quanta[1]),
            pair(quanta[2], quanta[3]),
            pair(quanta[4], quanta[5]),
            pair(quanta[6], quanta[7]),
        ]);
    }
    let mut rest = [0; 4];
    for (index, quantum) in eights.remainder().iter().enumerate() {
        rest[index / 2] |= u64::from(*quantum) << (index % 2 * 32);
    }
    lanes.take(rest);
    for (player, slot) in avatars {
        lanes.take([player.0, u64::from(*slot), 0, 0]);
    }
    for some in commands.chunks(32) {
        let bits = some.iter().fold(1, |bits, accepted| bits << 1 | u64::from(*accepted));
        lanes.take([bits, 0, 0, 0]);
    }
    lanes.finish()
}

/// The sum of many small values, such as one field of all entities.
pub struct ValueSum(u64);

impl Default for ValueSum {
    fn default() -> Self {
        Self(START[0])
    }
}

impl ValueSum {
    /// Takes one more value.
    #[inline]
    pub fn take(&mut self, value: &[u8]) {
        for some in value.chunks(8) {
            let word = some.iter().rev().fold(1_u64, |word, byte| word << 8 | u64::from(*byte));
            self.0 = step(self.0, word);
        }
    }

    /// The sum of all that were taken.
    pub fn finish(self) -> u32 {
        mix(self.0) as u32
    }
}

/// The sum of a part of a state.
pub fn of_part(bytes: &[u8]) -> u32 {
    let mut lanes = Lanes::new();
    lanes.take([bytes.len() as u64, 0, 0, 0]);
    let word =
        |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        lanes.take([
            word(&block[..8]),
            word(&block[8..16]),
            word(&block[16..24]),
            word(&block[24..]),
        ]);
    }
    let mut rest = [0; 4];
    for (lane, bytes) in rest.iter_mut().zip(blocks.remainder().chunks(8)) {
        *lane = word(bytes);
    }
    lanes.take(rest);
    lanes.finish() as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::net::{NetEntity, Restricted};
    use crate::{PlayerId, Tick};

    fn view() -> NetView {
        let entity = |slot| NetEntity { slot, generation: 1, components: 3 };
        NetView {
            tick: Tick(9),
            entities: (0..3).map(entity).collect(),
            values: (0..15).collect(),
            avatars: vec![(PlayerId(7), 1)],
            restricted: None,
        }
    }

    #[test]
    fn who_may_see_what_does_not_change_the_digest() {
        let all = view();
        let restricted =
            Restricted { entries: all.entities[1..].to_vec(), ..Restricted::default() };
        let hidden = NetView {
            entities: all.entities[..1].to_vec(),
            restricted: Some(Box::new(restricted)),
            ..all.clone()
        };
        assert_eq!(of_shown(&hidden, &[true]), of_shown(&all, &[true]));
    }

    #[test]
    fn a_difference_in_any_single_value_gives_another_digest() {
        let mut all = BTreeSet::from([of_shown(&view(), &[true, false])]);
        let mut other = |change: &dyn Fn(&mut NetView)| {
            let mut changed = view();
            change(&mut changed);
            assert!(all.insert(of_shown(&changed, &[true, false])), "{changed:?}");
        };
        for index in 0..15 {
            for bit in 0..32 {
                other(&|view| view.values[index] ^= 1 << bit);
            }
        }
        for index in 0..3 {
            other(&|view| view.entities[index].slot ^= 64);
            other(&|view| view.entities[index].generation ^= 1);
            other(&|view| view.entities[index].components ^= 1);
        }
        other(&|view| view.values.push(0));
        other(&|view| view.avatars[0].1 = 2);
        other(&|view| view.avatars[0].0 = PlayerId(8));
        other(&|view| view.avatars.clear());
        other(&|view| view.tick = Tick(10));
        other(&|view| view.entities.truncate(view.entities.len() - 1));
        for commands in [&[][..], &[true], &[false], &[false, true], &[true, false, false]] {
            assert!(all.insert(of_shown(&view(), commands)), "{commands:?}");
        }
    }

    #[test]
    fn sums_of_parts_tell_bytes_and_lengths_apart() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut all = BTreeSet::new();
        for end in 0..=100 {
            assert!(all.insert(of_part(&bytes[..end])), "{end} bytes");
        }
        for index in 0..100 {
            let mut changed = bytes.clone();
            changed[index] ^= 0x80;
            assert!(all.insert(of_part(&changed)), "byte {index}");
        }
    }

    #[test]
    fn what_journals_have_stays_as_it_is() {
        assert_eq!(of_shown(&view(), &[true, false]), SHOWN);
        assert_eq!(of_part(b"what journals have stays as it is"), PART);
    }

    /// Computed by another implementation.
    const SHOWN: u64 = 0x23ac_8a9b_2ad9_87e3;
    /// The same.
    const PART: u32 = 0xfd52_e2e2;
}
