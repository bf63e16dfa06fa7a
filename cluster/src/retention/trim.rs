//! Which batches nobody needs any more.
//!
//! A log is kept from the oldest restore point that is kept of every match with records in it (see
//! [`rekindle_store::chains`]; the second one at least), whoever owns the match now, and from where
//! the archive has got to, if the match's history is kept there. Trimming by the matches that one
//! owns oneself would cut the history of those that moved away.

use std::collections::BTreeMap;

use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{Lineage, MatchLease, MatchState};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::history::{Position, in_lineage};
use rekindle_store::{LogInfo, chains};

use super::archive::Need;

/// One log may lose its batches before `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The node that wrote the log.
    pub log: Incarnation,
    /// The first batch that must stay.
    pub before: BatchNo,
}

/// What a stretch must keep for a reader that begins behind `position`; nothing if all of it lies
/// before.
fn needed(stretch: &Lineage, position: Option<Position>) -> Option<BatchNo> {
    match position {
        Some(position) if stretch.epoch < position.epoch => None,
        Some(position)
            if stretch.epoch == position.epoch && stretch.incarnation == position.log =>
        {
            Some(position.batch.max(stretch.first_batch))
        }
        _ => Some(stretch.first_batch),
    }
}

/// The first batch of each log that some match still needs; a log that is not named is needed by
/// nobody.
///
/// `checkpoints` has each match's verified checkpoints, newest first, of which `kept` are kept;
/// those of matches that have ended are not asked for. Such a match needs its last checkpoint only.
/// `archive` says what the archive needs of the matches that are kept there.
pub fn floors(
    matches: &[MatchLease],
    checkpoints: &BTreeMap<MatchId, Vec<CheckpointMeta>>,
    kept: usize,
    archive: &BTreeMap<MatchId, Need>,
) -> BTreeMap<Incarnation, BatchNo> {
    let mut floors = BTreeMap::new();
    for lease in matches {
        let mut readers: Vec<Option<Position>> = Vec::new();
        if !matches!(lease.state, MatchState::Ended { .. }) {
            let usable = checkpoints
                .get(&lease.match_id)
                .into_iter()
                .flatten()
                .filter(|meta| in_lineage(lease, meta));
            let usable: Vec<CheckpointMeta> = usable.cloned().collect();
            readers
                .push(chains::oldest_kept(&usable, kept).map(|chain| Position::from(chain.tip())));
        }
        match archive.get(&lease.match_id) {
            Some(Need::Behind(position)) => readers.push(Some(*position)),
            Some(Need::Everything) => readers.push(None),
            Some(Need::Nothing) | None => {}
        }
        for stretch in &lease.lineage {
            for needed in readers.iter().filter_map(|reader| needed(stretch, *reader)) {
                floors
                    .entry(stretch.incarnation)
                    .and_modify(|floor: &mut BatchNo| *floor = needed.min(*floor))
                    .or_insert(needed);
            }
        }
    }
    floors
}

/// What may be cut from `logs`. A log that nobody needs is cut whole if it is sealed (`seals` has
/// its last batch); a live log that nobody needs is left alone, because a match may be created in
/// it at any moment.
pub fn plan(
    logs: &[LogInfo],
    floors: &BTreeMap<Incarnation, BatchNo>,
    seals: &BTreeMap<Incarnation, BatchNo>,
) -> Vec<Cut> {
    let cut = |info: &LogInfo| {
        let before = match (floors.get(&info.log), seals.get(&info.log)) {
            (Some(floor), _) => *floor,
            (None, Some(seal)) => seal.next(),
            (None, None) => return None,
        };
        (before > info.first).then_some(Cut { log: info.log, before })
    };
    logs.iter().filter_map(cut).collect()
}
