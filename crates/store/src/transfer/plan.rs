//! What is to be copied, and whether it can be: pure.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::lease::{MatchLease, NodeLease, NodeState};
use rekindle_schema::{BatchNo, Incarnation, MatchId};

use super::TransferError;
use crate::{LogInfo, StoreError};

/// How many conflicts are told of: more of the same tell nobody more.
const TOLD: usize = 10;

/// What a store says of itself.
pub(super) struct Survey {
    rows: BTreeMap<MatchId, MatchLease>,
    nodes: BTreeMap<Incarnation, NodeLease>,
    logs: BTreeMap<Incarnation, LogInfo>,
}

impl Survey {
    pub(super) fn new(rows: Vec<MatchLease>, nodes: Vec<NodeLease>, logs: Vec<LogInfo>) -> Self {
        Self {
            rows: rows.into_iter().map(|row| (row.match_id, row)).collect(),
            nodes: nodes.into_iter().map(|node| (node.incarnation, node)).collect(),
            logs: logs.into_iter().map(|info| (info.log, info)).collect(),
        }
    }
}

/// How a lease is left in the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As its node left it: stopped.
    Stopped,
    /// Fenced and sealed where it was sealed.
    Sealed(BatchNo),
    /// Fenced and sealed where the copy ends.
    AtEnd,
}

/// One log that is to be copied.
#[derive(Debug, Clone)]
pub(super) struct PlannedLog {
    /// The lease of its writer, in the source.
    pub(super) lease: NodeLease,
    /// The first batch that the source still has; `None`: no batches.
    pub(super) first: Option<BatchNo>,
    /// Bytes in the source, for progress.
    pub(super) bytes: u64,
    /// How to leave it.
    pub(super) ending: Ending,
    /// The lease in the target as it was found.
    pub(super) found: Option<NodeLease>,
    /// A row in the target rests on it: it must not be touched.
    pub(super) in_use: bool,
}

/// What is to be copied.
pub(super) struct Plan {
    /// The rows, ascending by id.
    pub(super) rows: Vec<MatchLease>,
    /// Those that the target has already, the same.
    pub(super) present: BTreeSet<MatchId>,
    /// The logs that the rows rest on.
    pub(super) logs: BTreeMap<Incarnation, PlannedLog>,
}

impl Plan {
    /// Compares the stores. Everything that stands in the way is told at once.
    pub(super) fn make(
        source: Survey,
        target: Survey,
        only: Option<&BTreeSet<MatchId>>,
    ) -> Result<Self, TransferError> {
        if let Some(missing) = only.into_iter().flatten().find(|id| !source.rows.contains_key(id)) {
            return Err(TransferError::Unknown(*missing));
        }
        let wanted = |id: &MatchId| only.is_none_or(|only| only.contains(id));
        let rows: Vec<MatchLease> =
            source.rows.into_values().filter(|row| wanted(&row.match_id)).collect();
        let mut conflicts: Vec<String> = Vec::new();
        let mut present = BTreeSet::new();
        for row in &rows {
            match target.rows.get(&row.match_id) {
                None => {}
                Some(found) if found == row => {
                    present.insert(row.match_id);
                }
                Some(found) => conflicts.push(differs(row, found)),
            }
        }
        let used: BTreeSet<Incarnation> = target.rows.values().flat_map(needed).collect();
        let mut logs = BTreeMap::new();
        for log in rows.iter().flat_map(needed).collect::<BTreeSet<_>>() {
            let info = source.logs.get(&log);
            let Some(lease) = source.nodes.get(&log) else {
                // Nothing is left of a stretch that no checkpoint needs any more.
                if info.is_some() {
                    return Err(StoreError::NotFound(format!(
                        "the lease of node incarnation {log}, whose log is there"
                    ))
                    .into());
                }
                continue;
            };
            let found = target.nodes.get(&log).cloned();
            conflicts.extend(found.iter().flat_map(|found| in_the_way(lease, found)));
            logs.insert(log, plan_log(lease, info, found, used.contains(&log)));
        }
        if conflicts.is_empty() {
            return Ok(Self { rows, present, logs });
        }
        let more = conflicts.len().saturating_sub(TOLD);
        conflicts.truncate(TOLD);
        if more > 0 {
            conflicts.push(format!("and {more} more"));
        }
        Err(TransferError::Conflict(conflicts))
    }
}

/// The incarnations that a match rests on.
fn needed(row: &MatchLease) -> impl Iterator<Item = Incarnation> {
    row.lineage.iter().map(|line| line.incarnation).chain([row.incarnation])
}

fn differs(row: &MatchLease, found: &MatchLease) -> String {
    let at = |row: &MatchLease| format!("epoch {}, version {} of its row", row.epoch, row.version);
    let how =
        if found.version > row.version { "it has gone on there" } else { "it is another there" };
    format!("match {}: {how} ({}; here {})", row.match_id, at(found), at(row))
}

/// Why the log of `lease` cannot be written in the target, where its lease is `found`.
fn in_the_way(lease: &NodeLease, found: &NodeLease) -> Vec<String> {
    let log = lease.incarnation;
    let mut conflicts = Vec::new();
    if (&found.name, &found.region) != (&lease.name, &lease.region) {
        conflicts.push(format!(
            "incarnation {log} is node {} there, and node {} here",
            found.name, lease.name
        ));
    }
    if found.state == NodeState::Live && found.pid != 0 {
        conflicts.push(format!(
            "incarnation {log} is not known to be dead there: start and stop a node on it first"
        ));
    }
    conflicts
}

/// How the log of `lease` is copied. `found` is its lease in the target, `in_use` says that a row
/// there rests on it.
fn plan_log(
    lease: &NodeLease,
    info: Option<&LogInfo>,
    found: Option<NodeLease>,
    in_use: bool,
) -> PlannedLog {
    let ending = match (lease.state, lease.seal) {
        (_, Some(seal)) => Ending::Sealed(seal),
        (NodeState::Stopped, None) => Ending::Stopped,
        (NodeState::Live | NodeState::Fenced, None) => Ending::AtEnd,
    };
    PlannedLog {
        first: info.map(|info| info.first),
        bytes: info.map_or(0, |info| info.bytes),
        ending,
        found,
        in_use,
        lease: lease.clone(),
    }
}
