//! Reads everything that a store on servers holds, through the ports: what the audit of its files
//! is for a local one.
//!
//! The store checks the checksum of whatever it returns; whether batches and records follow each
//! other, and whether sealed logs reach their seals, is checked here.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::batch::BatchView;
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::{BatchNo, Epoch, MatchId};
use rekindle_store::{LogInfo, Store, StoreError, witness};

use super::report::Report;

/// How many bytes of a log are in memory at once.
const CHUNK: usize = 4 << 20;
/// How many batches in a row that cannot be read are stepped over in search of one that can.
const MAX_HOLES: u32 = 1_000;

/// Reads all logs and the whole archive. What is wrong goes into the report; an error means that
/// the store does not answer.
pub(super) async fn everything(store: &Store, report: &mut Report) -> Result<(), StoreError> {
    let nodes: BTreeMap<_, _> =
        store.leases.nodes().await?.into_iter().map(|node| (node.incarnation, node)).collect();
    let logs = store.journal.logs().await?;
    let leases: Vec<NodeLease> = nodes.values().cloned().collect();
    for problem in witness::strangers(store, &leases, &logs).await? {
        report.fault(problem);
    }
    // A log of which nothing is left is not walked through.
    for node in nodes.values().filter(|node| {
        node.state == NodeState::Live && !logs.iter().any(|info| info.log == node.incarnation)
    }) {
        if let Some(short) = witness::short(node, &witness::tail_of(store, node).await?) {
            report.fault(short.to_string());
        }
    }
    let mut seen = BTreeSet::new();
    for info in logs {
        let node = nodes.get(&info.log);
        Walk::new(info, node).run(store, report, &mut seen).await?;
    }
    for problem in witness::rowless(store, seen).await? {
        report.fault(problem);
    }
    for match_id in store.archive.matches().await? {
        let (metas, damaged) = store.archive.list(match_id).await?;
        for error in &damaged {
            report.fault(error.to_string());
        }
        for meta in &metas {
            match store.archive.get(meta).await {
                Ok(bytes) => {
                    report.chunks += 1;
                    report.bytes += bytes.len() as u64;
                }
                // It went while the rest was read.
                Err(StoreError::NotFound(_)) => {}
                Err(error @ StoreError::Corrupt { .. }) => report.fault(error.to_string()),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// One log, batch by batch.
struct Walk<'a> {
    info: LogInfo,
    node: Option<&'a NodeLease>,
    next: BatchNo,
    prev_crc: Option<u32>,
    /// The last record of each match: its seq and checksum.
    chains: BTreeMap<(MatchId, Epoch), (u64, u32)>,
    holes: u32,
}

impl<'a> Walk<'a> {
    fn new(info: LogInfo, node: Option<&'a NodeLease>) -> Self {
        let next = info.first;
        Self { info, node, next, prev_crc: None, chains: BTreeMap::new(), holes: 0 }
    }

    async fn run(
        mut self,
        store: &Store,
        report: &mut Report,
        seen: &mut BTreeSet<MatchId>,
    ) -> Result<(), StoreError> {
        let log = self.info.log;
        report.segments += 1;
        let tail = match self.node {
            Some(node) => witness::tail_of(store, node).await?,
            None => store.journal.tail(log).await?,
        };
        let short = self.node.and_then(|node| witness::short(node, &tail));
        if let Some(torn) = tail.torn {
            report.note(format!(
                "log {log}: possibly a torn tail, the last batch cut off as it was written: {torn}"
            ));
        }
        while self.next <= tail.last && self.holes < MAX_HOLES {
            match store.journal.read(log, self.next, CHUNK).await {
                Ok(batches) if batches.is_empty() => break,
                Ok(batches) => batches
                    .iter()
                    .for_each(|batch| self.batch(&batch.bytes, batch.number, report, seen)),
                Err(error @ StoreError::Corrupt { .. }) => self.hole(error.to_string(), report),
                // Trimmed while it was read: what is behind goes on to count.
                Err(error @ StoreError::NotFound(_)) => {
                    let first = store
                        .journal
                        .logs()
                        .await?
                        .into_iter()
                        .find(|info| info.log == log)
                        .map(|info| info.first);
                    match first {
                        Some(first) if first > self.next => {
                            self.chains.clear();
                            (self.next, self.prev_crc) = (first, None);
                        }
                        Some(_) => self.hole(error.to_string(), report),
                        None => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(short) = short {
            report.fault(short.to_string());
        } else if let Some(seal) = self.node.and_then(|node| node.seal)
            && self.next <= seal
        {
            report.fault(format!(
                "log {log} is sealed at batch {seal}, but nothing can be read from batch {} on",
                self.next
            ));
        }
        Ok(())
    }

    /// Batches behind the seal do not count.
    fn counts(&self) -> bool {
        self.node.and_then(|node| node.seal).is_none_or(|seal| self.next <= seal)
    }

    fn say(&self, words: String, report: &mut Report) {
        if self.counts() {
            report.fault(words);
        } else {
            report.note(words);
        }
    }

    fn hole(&mut self, problem: String, report: &mut Report) {
        self.say(format!("log {}, batch {}: {problem}", self.info.log, self.next), report);
        self.holes += 1;
        // What comes next follows something that could not be read: that is one fault, not many.
        self.chains.clear();
        (self.next, self.prev_crc) = (self.next.next(), None);
    }

    fn batch(
        &mut self,
        bytes: &bytes::Bytes,
        number: BatchNo,
        report: &mut Report,
        seen: &mut BTreeSet<MatchId>,
    ) {
        let log = self.info.log;
        let view = match BatchView::parse(bytes) {
            Ok(view) => view,
            Err(error) => return self.hole(error.to_string(), report),
        };
        if number != self.next || (view.incarnation(), view.number()) != (log, number) {
            self.say(
                format!("log {log}: batch {number} stands where batch {} should", self.next),
                report,
            );
        } else if self.prev_crc.is_some_and(|crc| crc != view.prev_crc()) {
            self.say(
                format!("log {log}: batch {number} does not follow the one before it"),
                report,
            );
        }
        let reached =
            self.node.and_then(|node| node.reached).filter(|reached| reached.batch == number);
        if let Some(reached) = reached.filter(|reached| ![0, view.crc()].contains(&reached.crc)) {
            let (found, wrote) = (view.crc(), reached.crc);
            self.say(
                format!(
                    "log {log}: batch {number} has checksum {found:08x}, its node wrote \
                one with {wrote:08x}"
                ),
                report,
            );
        }
        seen.extend(view.directory().iter().map(|line| line.match_id));
        for frame in view.all_frames() {
            let header = &frame.header;
            let before =
                self.chains.insert((header.match_id, header.epoch), (header.seq.0, frame.crc));
            if before.is_some_and(|(seq, crc)| (seq + 1, crc) != (header.seq.0, header.prev_crc)) {
                self.say(
                    format!(
                        "log {log}, batch {number}: record {} of match {} does not follow the one \
                         before it",
                        header.seq, header.match_id
                    ),
                    report,
                );
            }
        }
        report.batches += 1;
        report.records += view.all_frames().len() as u64;
        report.bytes += bytes.len() as u64;
        self.holes = 0;
        (self.next, self.prev_crc) = (number.next(), Some(view.crc()));
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::Incarnation;
    use rekindle_schema::lease::{Reached, StoredCheckpoint};
    use rekindle_store_conformance::{Scribe, checkpoint, match_lease, register};
    use rekindle_store_memory::MemoryStore;

    use super::*;

    const NODE: Incarnation = Incarnation(1);
    const A: MatchId = MatchId(1);

    async fn look(memory: &MemoryStore) -> Report {
        let mut report = Report::default();
        everything(&memory.store(), &mut report).await.unwrap();
        report
    }

    #[tokio::test]
    async fn what_is_wrong_in_a_log_is_found() {
        let memory = MemoryStore::new();
        register(&memory.store(), NODE).await;
        let mut scribe = Scribe::new(NODE);
        scribe.append(&memory.store(), 10, &[A]).await;
        let report = look(&memory).await;
        assert!(report.is_clean() && (report.batches, report.records) == (10, 10), "{report:?}");

        scribe.break_chain(A);
        scribe.append(&memory.store(), 2, &[A]).await;
        let report = look(&memory).await;
        assert!(report.faults.len() == 1 && report.faults[0].contains("record 11"), "{report:?}");

        // Behind a seal nothing counts; a seal that is not reached does.
        memory.store().leases.fence(NODE).await.unwrap();
        memory.store().leases.seal(NODE, BatchNo(10)).await.unwrap();
        let report = look(&memory).await;
        assert!(report.is_clean() && report.notes.len() == 1, "{report:?}");

        memory.flip_bit(NODE, BatchNo(4), 777);
        let report = look(&memory).await;
        assert!(
            report.faults.len() == 1
                && report.faults[0].contains("batch 4")
                && report.batches == 11,
            "{report:?}"
        );
    }

    #[tokio::test]
    async fn a_sealed_log_must_reach_its_seal() {
        let memory = MemoryStore::new();
        register(&memory.store(), NODE).await;
        Scribe::new(NODE).append(&memory.store(), 3, &[A]).await;
        memory.store().leases.fence(NODE).await.unwrap();
        memory.store().leases.seal(NODE, BatchNo(5)).await.unwrap();
        let report = look(&memory).await;
        assert!(
            report.faults.len() == 1
                && report.faults[0].contains("ends with batch 3, but it had come to batch 5"),
            "{report:?}"
        );
    }

    #[tokio::test]
    async fn what_servers_lost_is_told() {
        let memory = MemoryStore::new();
        let store = memory.store();
        register(&store, NODE).await;
        store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
        let written = Scribe::new(NODE).append(&store, 6, &[A]).await;
        let (meta, state) = checkpoint(A, 1, NODE, 3, 3, 40);
        let stored = StoredCheckpoint { match_id: A, name: meta.as_base() };
        store.checkpoints.put(meta, state).await.unwrap();
        let reached = Reached {
            batch: BatchNo(6),
            crc: written[5].crc(),
            at_ms: 1,
            checkpoint: Some(stored),
        };
        store.leases.renew(NODE, 5, Some(reached)).await.unwrap();
        assert!(look(&memory).await.is_clean());

        memory.lose_row(A);
        let report = look(&memory).await;
        assert!(
            report.faults.len() == 1 && report.faults[0].contains("RK-STORE-113"),
            "{report:?}"
        );
        store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();

        memory.lose_batches_behind(NODE, BatchNo(4));
        let report = look(&memory).await;
        assert!(
            report.faults.len() == 1 && report.faults[0].contains("RK-STORE-110"),
            "{report:?}"
        );
        memory.lose_batches_behind(NODE, BatchNo(0));
        let report = look(&memory).await;
        assert!(report.faults.len() == 1 && report.faults[0].contains("is gone"), "{report:?}");

        memory.lose_checkpoints(A);
        let lease = store.leases.node(NODE).await.unwrap().unwrap();
        let problem = witness::missing_checkpoint(&store, &lease).await.unwrap();
        assert!(problem.is_some_and(|problem| problem.contains("record 3")));
    }
}
