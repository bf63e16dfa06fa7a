//! Chains of checkpoints: a full one, and deltas each of which names the one before it as its base.
//!
//! Recovery ([`crate::history`]), `verify`, the checkpointer's retention and log trimming ask here
//! which checkpoints can be restored, and what each of them rests on.
//!
//! **What must be kept.** A match keeps two *restore points*: its newest restorable checkpoint, and
//! the newest one whose chain has no link in common with the first one's. So whatever byte is
//! damaged, one of the two can still be restored; two deltas on the same full checkpoint would both
//! be lost with it. Its log is kept from the second of them on, its checkpoints from the full one
//! under the second.

use std::collections::BTreeSet;

use bytes::Bytes;
use rekindle_schema::Seq;
use rekindle_schema::checkpoint::{CheckpointBase, CheckpointMeta};
use rekindle_schema::delta;

use crate::{Checkpoints, StoreError};

/// A checkpoint and all that it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Newest first; the last one is full.
    links: Vec<&'a CheckpointMeta>,
}

impl<'a> Chain<'a> {
    /// That of `tip`, if each base of it is in `list`.
    pub fn of(tip: &'a CheckpointMeta, list: &'a [CheckpointMeta]) -> Option<Self> {
        let mut links = vec![tip];
        let mut newest = tip;
        while let Some(base) = newest.base {
            newest = find(base, newest, list)?;
            links.push(newest);
        }
        Some(Self { links })
    }

    /// The checkpoint that it leads to.
    pub fn tip(&self) -> &'a CheckpointMeta {
        self.links[0]
    }

    /// The full checkpoint that it begins with.
    pub fn root(&self) -> &'a CheckpointMeta {
        self.links[self.links.len() - 1]
    }

    /// Newest first; the last one is full.
    pub fn links(&self) -> &[&'a CheckpointMeta] {
        &self.links
    }

    fn apart_from(&self, other: &Self) -> bool {
        !self.links.iter().any(|link| other.links.contains(link))
    }
}

/// The base of `of` in a list. It covers less, so no made-up manifest leads in a circle. Of several
/// with the same name, which all stand for the same state, a full one is taken.
fn find<'a>(
    base: CheckpointBase,
    of: &CheckpointMeta,
    list: &'a [CheckpointMeta],
) -> Option<&'a CheckpointMeta> {
    let named = |meta: &&CheckpointMeta| {
        meta.as_base() == base && meta.match_id == of.match_id && meta.seq < of.seq
    };
    list.iter().filter(named).min_by_key(|meta| meta.base)
}

/// The two restore points among a match's checkpoints, newest first: see above.
pub fn restore_points(list: &[CheckpointMeta]) -> (Option<Chain<'_>>, Option<Chain<'_>>) {
    let mut chains = list.iter().filter_map(|meta| Chain::of(meta, list));
    let newest = chains.next();
    let second = newest.as_ref().and_then(|newest| chains.find(|chain| chain.apart_from(newest)));
    (newest, second)
}

/// The last of the `count` newest restore points (two at least), each of which shares no link with
/// those before it; `None` while there are not so many.
pub fn oldest_kept(list: &[CheckpointMeta], count: usize) -> Option<Chain<'_>> {
    let mut points: Vec<Chain<'_>> = Vec::new();
    for chain in list.iter().filter_map(|meta| Chain::of(meta, list)) {
        if points.iter().all(|point| chain.apart_from(point)) {
            points.push(chain);
            if points.len() == count.max(2) {
                return points.pop();
            }
        }
    }
    None
}

/// The first record that a match's checkpoints must go back to: what covers less may be trimmed.
/// `None` while there are not two restore points.
pub fn keep_from(list: &[CheckpointMeta]) -> Option<Seq> {
    restore_points(list).1.map(|second| second.root().seq)
}

/// The manifest of a restored state, as a full checkpoint would have it.
pub fn as_full(tip: &CheckpointMeta, state: &[u8]) -> CheckpointMeta {
    CheckpointMeta {
        base: None,
        len: state.len() as u64,
        crc: crc32c::crc32c(state),
        ..tip.clone()
    }
}

/// Puts checkpoints together, and remembers which could not be read.
pub struct Restorer<'a> {
    checkpoints: &'a dyn Checkpoints,
    list: &'a [CheckpointMeta],
    lost: BTreeSet<CheckpointBase>,
}

impl<'a> Restorer<'a> {
    /// For the checkpoints of one match that `list` names.
    pub fn new(checkpoints: &'a dyn Checkpoints, list: &'a [CheckpointMeta]) -> Self {
        Self { checkpoints, list, lost: BTreeSet::new() }
    }

    /// The state of a checkpoint, with the full one that it rests on. Every link is checked: its
    /// length and checksum by the store, the hash of its base and that of what comes of it here.
    ///
    /// `NotFound` if a base is not in the list; `Corrupt` if a link is damaged, or does not fit its
    /// base; other errors are those of the store.
    pub async fn restore(
        &mut self,
        tip: &'a CheckpointMeta,
    ) -> Result<(&'a CheckpointMeta, Bytes), StoreError> {
        let place = |meta: &CheckpointMeta| {
            format!("checkpoint of match {} at seq {}", meta.match_id, meta.seq)
        };
        let chain = Chain::of(tip, self.list);
        let chain = chain.ok_or_else(|| {
            StoreError::NotFound(format!("what the {} is a delta to", place(tip)))
        })?;
        if let Some(lost) = chain.links[1..].iter().find(|link| self.lost.contains(&link.as_base()))
        {
            let problem =
                format!("it rests on the one at seq {}, which cannot be restored", lost.seq);
            return Err(StoreError::Corrupt { place: place(tip), problem });
        }
        let mut state = Bytes::new();
        for &link in chain.links.iter().rev() {
            let stored = match self.checkpoints.get(link).await {
                Ok(stored) => stored,
                Err(error) => {
                    self.lost.insert(link.as_base());
                    return Err(error);
                }
            };
            state = match link.base {
                None => stored,
                Some(base) => {
                    let applied = delta::apply(&state, &stored).map_err(|error| {
                        let problem = format!(
                            "it is a delta to the one at seq {} and cannot be applied: {error}",
                            base.seq
                        );
                        StoreError::Corrupt { place: place(link), problem }
                    });
                    applied.inspect_err(|_| _ = self.lost.insert(link.as_base()))?.into()
                }
            };
        }
        Ok((chain.root(), state))
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::{Epoch, Incarnation, MatchId};

    use super::*;
    use rekindle_store_conformance::checkpoint;

    /// (epoch, seq, base) of each; newest first.
    fn list(of: &[(u64, u64, Option<u64>)]) -> Vec<CheckpointMeta> {
        let meta = |&(epoch, seq, base): &(u64, u64, Option<u64>)| {
            let (meta, _) = checkpoint(MatchId(1), epoch, Incarnation(epoch), seq, seq, 10);
            CheckpointMeta {
                base: base.map(|seq| CheckpointBase { epoch: Epoch(epoch), seq: Seq(seq) }),
                ..meta
            }
        };
        of.iter().map(meta).collect()
    }

    /// Seqs of tip and root of both restore points.
    fn points(of: &[(u64, u64, Option<u64>)]) -> Vec<(u64, u64)> {
        let list = list(of);
        let (newest, second) = restore_points(&list);
        newest.iter().chain(&second).map(|chain| (chain.tip().seq.0, chain.root().seq.0)).collect()
    }

    #[test]
    fn full_checkpoints_are_restore_points_one_by_one() {
        assert_eq!(points(&[]), []);
        assert_eq!(points(&[(1, 5, None)]), [(5, 5)]);
        assert_eq!(points(&[(1, 9, None), (1, 7, None), (1, 5, None)]), [(9, 9), (7, 7)]);
        assert_eq!(keep_from(&list(&[(1, 9, None), (1, 7, None), (1, 5, None)])), Some(Seq(7)));
    }

    #[test]
    fn the_second_restore_point_shares_no_link_with_the_newest() {
        let chains = [
            (1, 9, Some(8)),
            (1, 8, None),
            (1, 7, Some(6)),
            (1, 6, Some(5)),
            (1, 5, None),
            (1, 2, None),
        ];
        assert_eq!(points(&chains), [(9, 8), (7, 5)]);
        assert_eq!(keep_from(&list(&chains)), Some(Seq(5)), "the base of what is kept is kept");
        assert_eq!(points(&chains[2..]), [(7, 5), (2, 2)]);
        // Two deltas on one full checkpoint fall with it.
        assert_eq!(points(&[(1, 9, Some(5)), (1, 7, Some(5)), (1, 5, None)]), [(9, 5)]);
        assert_eq!(keep_from(&list(&[(1, 9, Some(5)), (1, 7, Some(5)), (1, 5, None)])), None);
    }

    #[test]
    fn more_restore_points_can_be_kept() {
        let chains = list(&[
            (1, 9, Some(8)),
            (1, 8, None),
            (1, 7, Some(6)),
            (1, 6, Some(5)),
            (1, 5, None),
            (1, 2, None),
        ]);
        let kept = |count| {
            oldest_kept(&chains, count).map(|chain| (chain.tip().seq.0, chain.root().seq.0))
        };
        assert_eq!(
            [kept(0), kept(2), kept(3), kept(4)],
            [Some((7, 5)), Some((7, 5)), Some((2, 2)), None]
        );
    }

    #[test]
    fn a_delta_without_its_base_is_no_restore_point() {
        assert_eq!(
            points(&[(1, 9, Some(8)), (1, 7, None), (1, 6, Some(3)), (1, 5, None)]),
            [(7, 7), (5, 5)]
        );
        // A base of another owner, and one that does not cover less, is none.
        assert_eq!(points(&[(2, 9, Some(8)), (1, 8, None)]), [(8, 8)]);
        assert_eq!(points(&[(1, 9, Some(9)), (1, 9, None)]), [(9, 9)]);
        assert_eq!(points(&[(1, 9, Some(8)), (1, 8, Some(9))]), []);
    }
}
