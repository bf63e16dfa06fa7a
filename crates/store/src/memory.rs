//! The store of the simulation: everything in memory, shared by all clones, with faults decided by
//! the caller.
//!
//! It tells apart what was *written* from what is *synced*, so that [`MemoryStore::power_cut`] can
//! drop the former. It starts no thread and knows no clock but tokio's, so that a seed decides
//! everything that it does.

mod archive;
mod jobs;
mod leases;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_schema::audit::AuditEntry;
use rekindle_schema::batch::{Batch, BatchView};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::job::Job;
use rekindle_schema::lease::{MatchLease, NodeLease, NodeState};
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::{ActionId, BatchNo, Incarnation, JobId, MatchId, Seq};

use crate::identity::StoreIdentity;
use crate::port::{Checkpoints, Journal, LogInfo, StoreError, StoreResult, Tail};
use crate::{MAX_CHECKPOINT, Store};

/// What is being asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A batch of this log is to be appended.
    Append(Incarnation, BatchNo),
    /// A log is read.
    Read(Incarnation),
    /// A log's end is looked for.
    Tail(Incarnation),
    /// A log's end is made durable.
    Settle(Incarnation),
    /// A log is trimmed, or all logs are listed.
    Maintain,
    /// A checkpoint of this match and size is written.
    PutCheckpoint(MatchId, usize),
    /// Checkpoints of this match are read, listed or trimmed.
    ReadCheckpoint(MatchId),
    /// The lease of a node is changed or read.
    NodeLease(Incarnation),
    /// The row of a match is changed or read, or all rows are listed.
    MatchLease,
    /// An effect is delivered or listed.
    Effect,
    /// A chunk of this match is put into the archive.
    PutChunk(MatchId),
    /// Chunks of this match are read, listed or removed.
    ReadChunk(MatchId),
    /// Pins, or all matches in the archive.
    Pins,
    /// Jobs are changed or read.
    Jobs,
    /// The audit log is changed or read.
    Audit,
    /// The identity is changed or read.
    Identity,
}

/// What becomes of one request.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// How long it takes until it takes effect.
    pub before: Duration,
    /// Set: it takes no effect and gets this error. An `Io` error of an append or put is the last
    /// word for that log.
    pub fail: Option<StoreError>,
    /// How long from there until it is durable; a power cut in between undoes it.
    pub sync: Duration,
    /// How long from there until the answer.
    pub after: Duration,
    /// It takes effect, but the answer is lost: the caller gets `Unavailable`.
    pub lose_answer: bool,
}

/// Decides what becomes of each request, in the order in which they are made.
pub type FaultPlan = Arc<dyn Fn(Op) -> Fate + Send + Sync>;

#[derive(Default)]
struct MemoryLog {
    first: u64,
    batches: VecDeque<Batch>,
    /// How many batches, counted from the log's beginning, are synced.
    synced: u64,
    failed: Option<StoreError>,
}

impl MemoryLog {
    fn last(&self) -> u64 {
        self.first + self.batches.len() as u64 - 1
    }
}

struct StoredCheckpoint {
    meta: CheckpointMeta,
    state: Bytes,
}

#[derive(Default)]
struct Shared {
    logs: BTreeMap<Incarnation, MemoryLog>,
    checkpoints: BTreeMap<MatchId, Vec<StoredCheckpoint>>,
    nodes: BTreeMap<Incarnation, NodeLease>,
    matches: BTreeMap<MatchId, MatchLease>,
    effects: BTreeMap<(MatchId, EffectId), Effect>,
    chunks: BTreeMap<(MatchId, Seq, ChunkKind), (ChunkMeta, Bytes)>,
    pins: BTreeMap<MatchId, Pin>,
    jobs: BTreeMap<JobId, Job>,
    audit: BTreeMap<(u64, ActionId, u8), AuditEntry>,
    identity: Option<StoreIdentity>,
    /// Counts power cuts: what was under way during one never becomes durable.
    cuts: u64,
}

/// A store in memory. Clones share their contents; each may have its own faults.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    plan: FaultPlan,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store without faults and delays.
    pub fn new() -> Self {
        Self { shared: Arc::default(), plan: Arc::new(|_| Fate::default()) }
    }

    /// The same contents seen through other faults: a node's own path to the store.
    pub fn with_faults(&self, plan: FaultPlan) -> Self {
        Self { shared: Arc::clone(&self.shared), plan }
    }

    /// The ports.
    pub fn store(&self) -> Store {
        let this = Arc::new(self.clone());
        Store {
            journal: this.clone(),
            checkpoints: this.clone(),
            leases: this.clone(),
            effects: this.clone(),
            archive: this.clone(),
            jobs: this.clone(),
            audit: this.clone(),
            identity: this,
        }
    }

    /// All batches that were written but not synced are gone, and nothing that is under way becomes
    /// durable.
    pub fn power_cut(&self) {
        self.power_cut_keeping(|_, _| 0);
    }

    /// As [`Self::power_cut`], but `keep(log, n)` says how many of the `n` unsynced batches of each
    /// log reached the disk all the same.
    pub fn power_cut_keeping(&self, mut keep: impl FnMut(Incarnation, u64) -> u64) {
        let mut shared = self.shared.lock();
        shared.cuts += 1;
        for (&log, entry) in &mut shared.logs {
            let unsynced = entry.last().saturating_sub(entry.synced);
            let lost = unsynced - keep(log, unsynced).min(unsynced);
            entry.batches.truncate(entry.batches.len() - lost as usize);
            entry.synced = entry.last();
        }
    }

    /// Damages a stored batch, for tests of those who read: flips one bit.
    pub fn flip_bit(&self, log: Incarnation, number: BatchNo, bit: usize) {
        let mut shared = self.shared.lock();
        if let Some(entry) = shared.logs.get_mut(&log)
            && let Some(batch) = number
                .0
                .checked_sub(entry.first)
                .and_then(|index| entry.batches.get_mut(index as usize))
        {
            batch.bytes = flipped(&batch.bytes, bit);
        }
    }

    /// Damages the state of a match's newest checkpoint: flips one bit. False if there is none.
    pub fn flip_bit_in_checkpoint(&self, match_id: MatchId, bit: usize) -> bool {
        let mut shared = self.shared.lock();
        let newest = shared
            .checkpoints
            .get_mut(&match_id)
            .and_then(|all| all.iter_mut().max_by_key(|c| (c.meta.seq, c.meta.epoch)));
        newest.map(|checkpoint| checkpoint.state = flipped(&checkpoint.state, bit)).is_some()
    }

    /// Damages the chunk of a match that holds this record: flips one bit. False if there is none.
    pub fn flip_bit_in_chunk(&self, match_id: MatchId, seq: Seq, bit: usize) -> bool {
        let mut shared = self.shared.lock();
        let holds = |meta: &ChunkMeta| {
            meta.match_id == match_id
                && meta.kind == ChunkKind::Records
                && (meta.first_seq..=meta.last_seq).contains(&seq)
        };
        let found = shared.chunks.values_mut().find(|(meta, _)| holds(meta));
        found.map(|(_, bytes)| *bytes = flipped(bytes, bit)).is_some()
    }

    /// Damages what is stored of one checkpoint: flips one bit. False if it is not there.
    pub fn flip_bit_of(&self, meta: &CheckpointMeta, bit: usize) -> bool {
        let mut shared = self.shared.lock();
        let stored = shared
            .checkpoints
            .get_mut(&meta.match_id)
            .and_then(|all| all.iter_mut().find(|stored| stored.meta == *meta));
        stored.map(|stored| stored.state = flipped(&stored.state, bit)).is_some()
    }

    /// Loses the end of a log, as a device or an administrator would: all batches behind `last`;
    /// all of the log if there is none before.
    pub fn lose_batches_behind(&self, log: Incarnation, last: BatchNo) {
        let mut shared = self.shared.lock();
        if let Some(entry) = shared.logs.get_mut(&log) {
            entry.batches.retain(|batch| batch.number <= last);
            entry.synced = entry.synced.min(last.0);
            if entry.batches.is_empty() {
                shared.logs.remove(&log);
            }
        }
    }

    /// Loses the row of a match.
    pub fn lose_row(&self, match_id: MatchId) {
        self.shared.lock().matches.remove(&match_id);
    }

    /// Loses all checkpoints of a match.
    pub fn lose_checkpoints(&self, match_id: MatchId) {
        self.shared.lock().checkpoints.remove(&match_id);
    }

    /// Runs `work` as the plan says. `work` gets the state and whether its effect is durable at
    /// once.
    async fn run<T>(
        &self,
        op: Op,
        work: impl FnOnce(&mut Shared) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fate = (self.plan)(op);
        pause(fate.before).await;
        if let Some(error) = fate.fail {
            return Err(error);
        }
        let result = work(&mut self.shared.lock());
        pause(fate.sync + fate.after).await;
        if fate.lose_answer {
            return Err(StoreError::Unavailable(format!("the answer to {op:?} was lost")));
        }
        result
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn flipped(bytes: &Bytes, bit: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    bytes.into()
}

fn corrupt(log: Incarnation, number: u64, problem: impl ToString) -> StoreError {
    StoreError::Corrupt {
        place: format!("log {log}, batch {number}"),
        problem: problem.to_string(),
    }
}

fn power_failed() -> StoreError {
    StoreError::Io { what: "sync", path: "memory".to_owned(), cause: "the power failed".to_owned() }
}

/// Writes a batch into its log, unsynced.
fn write(shared: &mut Shared, batch: &Batch) -> Result<(), StoreError> {
    let envelope = crate::check_batch(batch)?;
    let log = shared
        .logs
        .entry(batch.incarnation)
        .or_insert_with(|| MemoryLog { first: 1, ..MemoryLog::default() });
    if let Some(error) = &log.failed {
        return Err(error.clone());
    }
    let conflict = StoreError::Conflict { log: batch.incarnation, number: batch.number };
    let last = log.last();
    if batch.number.0 <= last {
        let same = batch.number.0 < log.first
            || log.batches[(batch.number.0 - log.first) as usize].bytes == batch.bytes;
        return if same { Ok(()) } else { Err(conflict) };
    }
    if batch.number.0 != last + 1 {
        return Err(StoreError::Gap {
            log: batch.incarnation,
            last: BatchNo(last),
            got: batch.number,
        });
    }
    if log.batches.back().is_some_and(|before| before.crc() != envelope.prev_crc) {
        return Err(conflict);
    }
    log.batches.push_back(batch.clone());
    Ok(())
}

impl Journal for MemoryStore {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Maintain, move |shared| {
            let first = first.max(BatchNo(1));
            let entry = shared.logs.entry(log).or_default();
            if !entry.batches.is_empty() {
                let found = BatchNo(entry.first);
                return if found == first {
                    Ok(())
                } else {
                    Err(crate::begun_elsewhere(log, found, first))
                };
            }
            (entry.first, entry.synced) = (first.0, first.0 - 1);
            Ok(())
        }))
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let fate = (self.plan)(Op::Append(batch.incarnation, batch.number));
            pause(fate.before).await;
            let cuts = {
                let mut shared = self.shared.lock();
                if let Some(error) = fate.fail {
                    if matches!(error, StoreError::Io { .. }) {
                        let log = shared
                            .logs
                            .entry(batch.incarnation)
                            .or_insert_with(|| MemoryLog { first: 1, ..MemoryLog::default() });
                        log.failed = Some(error.clone());
                    }
                    return Err(error);
                }
                write(&mut shared, &batch)?;
                shared.cuts
            };
            pause(fate.sync).await;
            {
                let mut shared = self.shared.lock();
                if shared.cuts != cuts {
                    return Err(power_failed());
                }
                if let Some(log) = shared.logs.get_mut(&batch.incarnation) {
                    log.synced = log.synced.max(batch.number.0);
                }
                if shared
                    .nodes
                    .get(&batch.incarnation)
                    .is_none_or(|lease| lease.state != NodeState::Live)
                {
                    return Err(StoreError::Fenced(batch.incarnation));
                }
            }
            pause(fate.after).await;
            if fate.lose_answer {
                return Err(StoreError::Unavailable(format!(
                    "the answer to batch {} was lost",
                    batch.number
                )));
            }
            Ok(())
        })
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        Box::pin(self.run(Op::Read(log), move |shared| {
            let Some(entry) = shared.logs.get(&log) else { return Ok(Vec::new()) };
            let from = from.0.max(1);
            if from < entry.first {
                return Err(StoreError::NotFound(format!(
                    "batch {from} of log {log}: it was trimmed up to batch {},",
                    entry.first
                )));
            }
            let mut found: Vec<Batch> = Vec::new();
            let mut bytes = 0;
            for batch in entry.batches.iter().skip((from - entry.first) as usize) {
                bytes += batch.bytes.len();
                if bytes > max_bytes && !found.is_empty() {
                    break;
                }
                match BatchView::parse(&batch.bytes) {
                    Ok(_) => found.push(batch.clone()),
                    Err(_) if batch.number.0 == entry.last() => break,
                    Err(_) if !found.is_empty() => break,
                    Err(error) => return Err(corrupt(log, batch.number.0, error)),
                }
            }
            Ok(found)
        }))
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        Box::pin(self.run(Op::Tail(log), move |shared| {
            let Some(entry) = shared.logs.get(&log) else {
                return Ok(Tail { last: BatchNo(0), proven: BatchNo(0), torn: None, damage: None });
            };
            let mut tail =
                Tail { last: BatchNo(entry.last()), proven: BatchNo(0), torn: None, damage: None };
            let mut whole = false;
            for batch in entry.batches.iter().rev() {
                let Err(error) = BatchView::parse(&batch.bytes) else {
                    whole = true;
                    continue;
                };
                let report = Some(format!("log {log}, batch {}: {error}", batch.number));
                if whole {
                    tail.damage = report;
                } else {
                    (tail.last, tail.torn) = (BatchNo(batch.number.0 - 1), report);
                }
            }
            tail.proven = tail.last;
            Ok(tail)
        }))
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Settle(log), move |shared| {
            let Some(entry) = shared.logs.get_mut(&log) else {
                return if last.0 == 0 {
                    Ok(())
                } else {
                    Err(StoreError::NotFound(format!("log {log}")))
                };
            };
            if last.0 > entry.last() {
                return Err(StoreError::NotFound(format!("batch {last} of log {log}")));
            }
            while entry.last() > last.0
                && entry.batches.back().is_some_and(|batch| BatchView::parse(&batch.bytes).is_err())
            {
                entry.batches.pop_back();
            }
            entry.synced = entry.synced.max(last.0);
            Ok(())
        }))
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Maintain, move |shared| {
            let lease = shared.nodes.get(&log);
            let live = lease.is_some_and(|lease| lease.state == NodeState::Live);
            let seal = lease.and_then(|lease| lease.seal);
            let Some(entry) = shared.logs.get_mut(&log) else { return Ok(()) };
            let counted = seal.map_or(entry.last(), |seal| seal.0.min(entry.last()));
            if !live && before.0 > counted {
                shared.logs.remove(&log);
                return Ok(());
            }
            while entry.first < before.0 && entry.batches.len() > 1 {
                entry.batches.pop_front();
                entry.first += 1;
            }
            Ok(())
        }))
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        Box::pin(self.run(Op::Maintain, |shared| {
            let info = |(&log, entry): (&Incarnation, &MemoryLog)| LogInfo {
                log,
                first: BatchNo(entry.first),
                bytes: entry.batches.iter().map(|batch| batch.bytes.len() as u64).sum(),
            };
            Ok(shared.logs.iter().map(info).collect())
        }))
    }
}

impl Checkpoints for MemoryStore {
    fn put(&self, meta: CheckpointMeta, state: Bytes) -> StoreResult<'_, ()> {
        Box::pin(async move {
            if state.len() > MAX_CHECKPOINT {
                return Err(StoreError::TooLarge {
                    what: "a checkpoint",
                    size: state.len(),
                    limit: MAX_CHECKPOINT,
                });
            }
            crate::check_state(&meta, &state)?;
            let fate = (self.plan)(Op::PutCheckpoint(meta.match_id, state.len()));
            pause(fate.before).await;
            if let Some(error) = fate.fail {
                return Err(error);
            }
            let cuts = self.shared.lock().cuts;
            pause(fate.sync).await;
            {
                let mut shared = self.shared.lock();
                if shared.cuts != cuts {
                    return Err(power_failed());
                }
                let all = shared.checkpoints.entry(meta.match_id).or_default();
                all.retain(|stored| (stored.meta.seq, stored.meta.epoch) != (meta.seq, meta.epoch));
                all.push(StoredCheckpoint { meta, state });
            }
            pause(fate.after).await;
            if fate.lose_answer {
                return Err(StoreError::Unavailable(
                    "the answer to a checkpoint was lost".to_owned(),
                ));
            }
            Ok(())
        })
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<CheckpointMeta>, Vec<StoreError>)> {
        Box::pin(self.run(Op::ReadCheckpoint(match_id), move |shared| {
            let mut good = Vec::new();
            let mut bad = Vec::new();
            for stored in shared.checkpoints.get(&match_id).into_iter().flatten() {
                match crate::check_state(&stored.meta, &stored.state) {
                    Ok(()) => good.push(stored.meta.clone()),
                    Err(error) => bad.push(error),
                }
            }
            good.sort_by_key(|meta| std::cmp::Reverse((meta.seq, meta.epoch)));
            Ok((good, bad))
        }))
    }

    fn get(&self, meta: &CheckpointMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(self.run(Op::ReadCheckpoint(meta.match_id), move |shared| {
            let stored = shared
                .checkpoints
                .get(&meta.match_id)
                .and_then(|all| all.iter().find(|stored| stored.meta == meta));
            let stored = stored.ok_or_else(|| {
                StoreError::NotFound(format!(
                    "the checkpoint of match {} at seq {}",
                    meta.match_id, meta.seq
                ))
            })?;
            crate::check_state(&meta, &stored.state)?;
            Ok(stored.state.clone())
        }))
    }

    fn trim(&self, match_id: MatchId, before: Seq) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::ReadCheckpoint(match_id), move |shared| {
            if let Some(all) = shared.checkpoints.get_mut(&match_id) {
                all.retain(|stored| stored.meta.seq >= before);
            }
            Ok(())
        }))
    }
}
