//! How far a log is known to have come, held against where it ends.
//!
//! A log that was cut off as its last batch was written looks like one that lost its end in any
//! other way. What tells them apart stands elsewhere: in the lease of its node, which says at each
//! renewal which batch was durable and which checkpoint was stored last ([`NodeLease::reached`]),
//! in its seal, and in the checkpoints, each of which names a batch whose predecessor was there.
//! Takeovers, histories, `verify`, `doctor` and the start of a node ask here.
//!
//! What was acknowledged after the last renewal has no such witness, unless there are traces of
//! later batches ([`Tail::proven`]).

use std::fmt;
use std::time::Duration;

use rekindle_schema::lease::{MatchState, NodeLease, NodeState};
use rekindle_schema::{BatchNo, Incarnation, MatchId};

use crate::Store;
use crate::chains::Chain;
use crate::history::in_lineage;
use crate::{LogInfo, StoreError, Tail};

/// A log ends before a batch that it is known to have had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    /// The log that ends too early, named by its writer.
    pub log: Incarnation,
    /// The last whole batch; `BatchNo(0)`: nothing is left of it.
    pub ends: BatchNo,
    /// The last batch that is known to have been there.
    pub known: BatchNo,
    /// When the node said that it was there, in milliseconds since 1970, if it did.
    pub at_ms: Option<u64>,
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, ends, known, at_ms } = self;
        match ends.0 {
            0 => write!(f, "RK-STORE-110: log {log} is gone")?,
            _ => write!(f, "RK-STORE-110: log {log} ends with batch {ends}")?,
        }
        write!(f, ", but it had come to batch {known}")?;
        if let Some(at) = at_ms {
            write!(f, " at {}", utc(*at))?;
        }
        write!(
            f,
            ": what was acknowledged in between is missing; put the log back from a backup, or go \
             on without it: `rekindle store accept-loss {log}`"
        )
    }
}

/// Milliseconds since 1970 as date and time in UTC.
pub fn utc(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    // Days since the first of March of the year 0, in eras of 400 years: so the leap day is the
    // last of a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        in_day % 1_000
    )
}

/// What is missing of the log of `lease`, whose end was looked for after the lease was read.
///
/// A log that is gone as a whole may have been trimmed, if its node is not live: whether anything
/// needs it is up to the matches (their histories say).
pub fn short(lease: &NodeLease, tail: &Tail) -> Option<Short> {
    let known = lease.known_end().max(Some(tail.proven)).filter(|known| *known > tail.last)?;
    if tail.last == BatchNo(0) && tail.proven == BatchNo(0) && lease.state != NodeState::Live {
        return None;
    }
    Some(Short {
        log: lease.incarnation,
        ends: tail.last,
        known,
        at_ms: lease.reached.map(|reached| reached.at_ms),
    })
}

/// How often a log that seems too short is looked at again while its node lives.
const AGAIN: u32 = 4;

/// How long to wait before a log of a live node that seems too short is looked at for the `nth`
/// time: on a store with several regions its last batches may arrive here behind its lease. `None`:
/// often enough.
pub(crate) fn wait(nth: u32) -> Option<Duration> {
    (nth < AGAIN).then(|| Duration::from_millis(20 << nth))
}

/// Where a log ends, read after its lease was.
pub async fn tail_of(store: &Store, lease: &NodeLease) -> Result<Tail, StoreError> {
    let mut nth = 0;
    loop {
        let tail = store.journal.tail(lease.incarnation).await?;
        let pause =
            wait(nth).filter(|_| lease.state == NodeState::Live && short(lease, &tail).is_some());
        let Some(pause) = pause else { return Ok(tail) };
        tokio::time::sleep(pause).await;
        nth += 1;
    }
}

/// What a store says of itself that does not fit together: logs that end too early, are gone, or
/// belong to nobody; checkpoints that are gone; matches whose row is gone. In words, each with what
/// to do.
///
/// Only ends are looked at: whoever reads everything finds the rest. Nodes may run meanwhile.
pub async fn look(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let nodes = store.leases.nodes().await?;
    for lease in &nodes {
        if lease.known_end().is_some_and(|known| known > BatchNo(0)) {
            let tail = tail_of(store, lease).await?;
            // A node may have been fenced, its log trimmed, since the leases were read.
            if short(lease, &tail).is_some()
                && let Some(lease) = store.leases.node(lease.incarnation).await?
            {
                found.extend(short(&lease, &tail).map(|short| short.to_string()));
            }
        }
        found.extend(missing_checkpoint(store, lease).await?);
    }
    found.extend(strangers(store, &nodes, &store.journal.logs().await?).await?);
    Ok(found)
}

/// Logs that nobody was registered for. `nodes` was read before `logs`.
pub async fn strangers(
    store: &Store,
    nodes: &[NodeLease],
    logs: &[LogInfo],
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for info in logs {
        if nodes.iter().any(|node| node.incarnation == info.log)
            || store.leases.node(info.log).await?.is_some()
        {
            continue;
        }
        // It may have been trimmed and its lease forgotten in between.
        if store.journal.logs().await?.iter().any(|now| now.log == info.log) {
            found.push(stranger(info.log));
        }
    }
    Ok(found)
}

/// A log without a lease.
pub fn stranger(log: Incarnation) -> String {
    format!(
        "RK-STORE-111: there is a log {log}, but no lease of the node that wrote it: leases and \
         directory are lost or older than the log; restore what belongs to \
         it from a backup, or move the log away to go on without it"
    )
}

/// What is said if the checkpoint that a lease names is not there, nor a newer one of the same
/// match.
pub async fn missing_checkpoint(
    store: &Store,
    lease: &NodeLease,
) -> Result<Option<String>, StoreError> {
    let Some(stored) = lease.reached.and_then(|reached| reached.checkpoint) else {
        return Ok(None);
    };
    let Some(row) = store.leases.get(stored.match_id).await? else { return Ok(None) };
    let is_there = async |row| {
        let (list, _) = store.checkpoints.list(stored.match_id).await?;
        // One that rests on another that is gone is of no use.
        let stands = |meta| in_lineage(row, meta) && Chain::of(meta, &list).is_some();
        Ok::<bool, StoreError>(list.iter().any(|meta| meta.seq >= stored.name.seq && stands(meta)))
    };
    // One of a zombie, or under an owner whose stretch nobody needs any more, does not count.
    let counts = row
        .lineage
        .iter()
        .any(|line| (line.epoch, line.incarnation) == (stored.name.epoch, lease.incarnation));
    if matches!(row.state, MatchState::Ended { .. }) || !counts || is_there(&row).await? {
        return Ok(None);
    }
    // The match may have been removed meanwhile.
    match store.leases.get(stored.match_id).await? {
        Some(row) if !is_there(&row).await? => Ok(Some(format!(
            "RK-STORE-112: match {}: node incarnation {} had stored a checkpoint at record {}, but \
             neither that nor a newer one is there; the match is \
             replayed from what is left; restore the checkpoints from a backup if it is not enough",
            stored.match_id, lease.incarnation, stored.name.seq
        ))),
        _ => Ok(None),
    }
}

/// The matches that a store has checkpoints of, but no row: of a match that is removed the
/// checkpoints go first. Only for stores that remove them at once. `seen` are the matches with
/// records in logs.
pub async fn rowless(
    store: &Store,
    seen: impl IntoIterator<Item = MatchId>,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for match_id in seen {
        if store.leases.get(match_id).await?.is_some() {
            continue;
        }
        let (list, _) = store.checkpoints.list(match_id).await?;
        // Read again: it may have been entered in between.
        if let Some(newest) = list.first()
            && store.leases.get(match_id).await?.is_none()
        {
            found.push(format!(
                "RK-STORE-113: there are records and checkpoints of match {match_id} up to tick \
                 {}, but the directory has no row of it: restore it from a backup",
                newest.tick
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(utc(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(utc(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
    }
}
