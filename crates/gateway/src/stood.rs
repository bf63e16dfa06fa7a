//! What a client that comes back has to be told of what it saw: whether the match goes on from
//! there. Pure.
//!
//! Called by `connection::lost` for a hello that says where the client stood. Whatever it claims
//! decides only what this client is told.

use rekindle_schema::wire::{MAX_STOOD_BEATS, Stood};
use rekindle_schema::{Epoch, StateHash, Tick};

/// What a client saw and the match does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The newest tick that still holds.
    pub(crate) to: Tick,
    /// Label of the metric.
    pub(crate) why: &'static str,
}

/// Compares what a client says with the match, which stands at `tick` in `epoch`; `hash_at` knows
/// the match's newest hashes.
pub(crate) fn lost(
    stood: &Stood,
    epoch: Epoch,
    tick: Tick,
    hash_at: impl Fn(Tick) -> Option<StateHash>,
) -> Option<Lost> {
    let (mut equal, mut differs) = (Tick(0), None);
    for beat in stood.beats.iter().take(MAX_STOOD_BEATS) {
        match hash_at(beat.tick) {
            Some(hash) if hash == beat.hash => equal = equal.max(beat.tick),
            Some(_) => {
                differs = Some(differs.map_or(beat.tick, |first: Tick| first.min(beat.tick)));
            }
            None => {}
        }
    }
    if let Some(first) = differs {
        // A hash that is equal behind one that differs proves nothing about what lies between.
        let to = if equal < first { equal } else { Tick(0) };
        return Some(Lost { to, why: "hash" });
    }
    if stood.tick > tick {
        return Some(Lost { to: tick, why: "behind" });
    }
    // Ownerships only grow: a lower one means that the store was put back, and has passed that tick
    // in another way since.
    (stood.epoch > epoch).then_some(Lost { to: equal, why: "epoch" })
}

#[cfg(test)]
mod tests {
    use rekindle_schema::record::Beat;

    use super::*;

    fn beat(tick: u64, of: u8) -> Beat {
        Beat { tick: Tick(tick), hash: StateHash([of; 32]) }
    }

    fn stood(epoch: u64, tick: u64, beats: &[Beat]) -> Stood {
        Stood { epoch: Epoch(epoch), tick: Tick(tick), beats: beats.to_vec() }
    }

    /// The match stands at tick 100 in epoch 3 and remembers the hashes 1, 2, 3 of the ticks 30,
    /// 60, 90.
    fn verdict(stood: &Stood) -> Option<(u64, &'static str)> {
        let known = |tick: Tick| {
            matches!(tick.0, 30 | 60 | 90).then(|| StateHash([(tick.0 / 30) as u8; 32]))
        };
        lost(stood, Epoch(3), Tick(100), known).map(|lost| (lost.to.0, lost.why))
    }

    #[test]
    fn a_match_that_goes_on_from_there_has_lost_nothing() {
        for (epoch, tick, beats) in [
            (3, 100, vec![beat(90, 3)]),
            (2, 95, vec![beat(90, 3), beat(60, 2)]),
            (1, 20, vec![]),
            (3, 0, vec![]),
        ] {
            assert_eq!(verdict(&stood(epoch, tick, &beats)), None, "epoch {epoch}, tick {tick}");
        }
        // Nobody remembers that hash any more.
        assert_eq!(verdict(&stood(3, 70, &[beat(10, 9)])), None);
    }

    #[test]
    fn a_match_that_is_behind_says_where_it_stands_whatever_the_epochs() {
        for epoch in [1, 3, 9] {
            assert_eq!(
                verdict(&stood(epoch, 140, &[beat(120, 7), beat(90, 3)])),
                Some((100, "behind")),
                "epoch {epoch}"
            );
        }
    }

    #[test]
    fn another_hash_says_the_last_one_that_is_equal() {
        assert_eq!(
            verdict(&stood(3, 99, &[beat(90, 9), beat(60, 2), beat(30, 1)])),
            Some((60, "hash"))
        );
        assert_eq!(
            verdict(&stood(3, 140, &[beat(120, 9), beat(90, 9), beat(60, 9), beat(30, 1)])),
            Some((30, "hash"))
        );
        assert_eq!(
            verdict(&stood(3, 99, &[beat(90, 9)])),
            Some((0, "hash")),
            "nothing is known to be equal"
        );
        assert_eq!(
            verdict(&stood(3, 99, &[beat(90, 3), beat(60, 9), beat(30, 1)])),
            Some((0, "hash")),
            "a claim that makes no sense"
        );
    }

    #[test]
    fn a_lower_epoch_alone_is_told_too() {
        assert_eq!(verdict(&stood(4, 95, &[beat(10, 7)])), Some((0, "epoch")));
        assert_eq!(verdict(&stood(4, 95, &[beat(60, 2)])), Some((60, "epoch")));
    }

    #[test]
    fn claims_without_end_are_looked_at_to_their_bound() {
        let beats: Vec<Beat> = (0..1000).map(|n| beat(1_000 + n, 0)).chain([beat(90, 9)]).collect();
        assert_eq!(verdict(&stood(3, 90, &beats)), None);
    }
}
