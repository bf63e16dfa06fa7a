//! Which batches nobody needs any more.
//!
//! A log is kept from the second restore point of every match with records in it, whoever owns the match now: the newest checkpoint that
//! shares no link with the newest of all, see [`rekindle_store::chains`]. Trimming by the matches that one owns oneself would cut the history of those that
//! moved away.

use std::collections::BTreeMap;

use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState, NodeState};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::history::in_lineage;
use rekindle_store::{LogInfo, Store, StoreError, chains};

/// One log may lose its batches before `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Whose log.
    pub log: Incarnation,
    /// The first batch that must stay.
    pub before: BatchNo,
}

/// The first batch of each log that some match still needs; a log that is not named is needed by nobody.
///
/// `checkpoints` has each match's verified checkpoints, newest first; those of matches that have ended are not asked for. Such a match needs its last
/// checkpoint only.
pub fn floors(matches: &[MatchLease], checkpoints: &BTreeMap<MatchId, Vec<CheckpointMeta>>) -> BTreeMap<Incarnation, BatchNo> {
    let mut floors = BTreeMap::new();
    for lease in matches.iter().filter(|lease| !matches!(lease.state, MatchState::Ended { .. })) {
        let usable = checkpoints.get(&lease.match_id).into_iter().flatten().filter(|meta| in_lineage(lease, meta));
        let usable: Vec<CheckpointMeta> = usable.cloned().collect();
        let fallback = chains::restore_points(&usable).1.map(|second| second.tip());
        for stretch in &lease.lineage {
            let needed = match fallback {
                Some(meta) if stretch.epoch < meta.epoch => continue,
                Some(meta) if stretch.epoch == meta.epoch && stretch.incarnation == meta.log => meta.batch.max(stretch.first_batch),
                _ => stretch.first_batch,
            };
            floors.entry(stretch.incarnation).and_modify(|floor: &mut BatchNo| *floor = needed.min(*floor)).or_insert(needed);
        }
    }
    floors
}

/// What may be cut from `logs`. A log that nobody needs is cut whole if it is sealed (`seals` has its last batch); a live log that nobody needs is
/// left alone, because a match may be created in it at any moment.
pub fn plan(logs: &[LogInfo], floors: &BTreeMap<Incarnation, BatchNo>, seals: &BTreeMap<Incarnation, BatchNo>) -> Vec<Cut> {
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

/// Reads what the stores say, and cuts. Leases of dead nodes whose logs are gone are forgotten. Returns what was cut.
pub async fn run(store: &Store) -> Result<Vec<Cut>, StoreError> {
    // The order matters: checkpoints before the rows that are judged by them. A match that appears after the rows were read writes behind every
    // checkpoint that was listed, so no cut reaches its records.
    let mut checkpoints = BTreeMap::new();
    // Those that have ended need none, and listing means reading them.
    for lease in store.leases.matches().await?.iter().filter(|lease| !matches!(lease.state, MatchState::Ended { .. })) {
        checkpoints.insert(lease.match_id, store.checkpoints.list(lease.match_id).await?.0);
    }
    let matches = store.leases.matches().await?;
    let nodes = store.leases.nodes().await?;
    let floors = floors(&matches, &checkpoints);
    let seals: BTreeMap<_, _> = nodes.iter().filter_map(|node| Some((node.incarnation, node.seal?))).collect();
    let logs = store.journal.logs().await?;
    let cuts = plan(&logs, &floors, &seals);
    for cut in &cuts {
        store.journal.trim(cut.log, cut.before).await?;
    }
    let remaining = store.journal.logs().await?;
    for node in nodes.iter().filter(|node| node.state != NodeState::Live && node.seal.is_some()) {
        let referenced = floors.contains_key(&node.incarnation) || matches.iter().any(|lease| lease.incarnation == node.incarnation);
        if !referenced && !remaining.iter().any(|info| info.log == node.incarnation) {
            store.leases.forget(node.incarnation).await?;
        }
    }
    Ok(cuts)
}
