//! The store of the simulation: everything in memory, shared by all clones, with faults decided by
//! the caller.
//!
//! It tells apart what was *written* from what is *synced*, so that [`MemoryStore::power_cut`] can
//! drop the former. It starts no thread and knows no clock but tokio's, so that a seed decides
//! everything that it does.

mod archive;
mod audit;
mod checkpoints;
mod effects;
mod identity;
mod jobs;
mod journal;
mod leases;
mod registry;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_schema::audit::AuditEntry;
use rekindle_schema::batch::Batch;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::job::Job;
use rekindle_schema::lease::{MatchLease, NodeLease};
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::{ActionId, BatchNo, Incarnation, JobId, MatchId, Seq};
use rekindle_store::identity::StoreIdentity;
use rekindle_store::{Store, StoreError};

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
    /// The registry is changed or read.
    Registry,
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
    registry: BTreeMap<String, RegistryEntry>,
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
    #[must_use]
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
            identity: this.clone(),
            registry: this,
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

fn power_failed() -> StoreError {
    StoreError::Io { what: "sync", path: "memory".to_owned(), cause: "the power failed".to_owned() }
}
