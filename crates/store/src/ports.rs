//! The ports: what the rest of the node asks of a store. Every backend runs the one conformance
//! suite in `rekindle-store-conformance`.
//!
//! No method has a default: whoever writes a backend decides about each. All errors say whether a
//! retry can help.

use bytes::Bytes;
use futures::future::BoxFuture;
use rekindle_schema::archive::{ChunkMeta, Pin};
use rekindle_schema::audit::AuditEntry;
use rekindle_schema::batch::Batch;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::job::{Job, JobStatus, Unique};
use rekindle_schema::lease::{MatchLease, NodeLease, Reached};
use rekindle_schema::record::Effect;
use rekindle_schema::{BatchNo, Epoch, Incarnation, JobId, MatchId, Seq};

use crate::identity::{Fresh, Holder, StoreIdentity};

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// This incarnation was fenced: another node owns its matches. Terminal for the process.
    #[error(
        "RK-STORE-001: incarnation {0} is fenced: another node took its matches; this process must \
         end"
    )]
    Fenced(Incarnation),
    /// A batch with this number exists with other bytes: two writers share a log.
    #[error(
        "RK-STORE-002: batch {number} of log {log} exists with other content: two writers share \
         one log"
    )]
    Conflict {
        /// In which log.
        log: Incarnation,
        /// Which batch.
        number: BatchNo,
    },
    /// A batch would leave a hole in the log.
    #[error("RK-STORE-003: batch {got} of log {log} does not follow batch {last}")]
    Gap {
        /// In which log.
        log: Incarnation,
        /// The last batch that is there.
        last: BatchNo,
        /// The batch that was to be appended.
        got: BatchNo,
    },
    /// The device failed. What was written of a log is unknown then, and a failed write or fsync is
    /// never tried again: that is terminal. Whoever only read may try again.
    #[error("RK-STORE-004: {what} {path}: {cause}; {}", advice(what))]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// Stored bytes are not what was written.
    #[error(
        "RK-STORE-005: {place}: {problem}; run `rekindle verify` and restore the file from a backup"
    )]
    Corrupt {
        /// File and offset, or table and key.
        place: String,
        /// Which check failed.
        problem: String,
    },
    /// The store cannot be reached or did not answer in time: whether the request took effect is
    /// unknown.
    #[error("RK-STORE-006: {0}; the request will be repeated")]
    Unavailable(String),
    /// Larger than the store takes.
    #[error("RK-STORE-007: {what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// More is waiting than the store's queue takes.
    #[error("RK-STORE-008: the store is overloaded: {0}")]
    Overloaded(String),
    /// Not there.
    #[error("RK-STORE-009: {0} does not exist")]
    NotFound(String),
    /// The request contradicts what is stored; it was not carried out.
    #[error("RK-STORE-010: {place}: {problem}")]
    Refused {
        /// What it was about.
        place: String,
        /// Why not.
        problem: String,
    },
    /// What is written arrives in files that nobody will find again. Terminal for the process.
    #[error(
        "RK-STORE-100: {place}: {problem}; nothing that is written now would be found again, so \
         this process ends: put the files back, or start on another store"
    )]
    Misplaced {
        /// Which file.
        place: String,
        /// What became of it.
        problem: String,
    },
}

/// What a failed operation on a file means for whoever asked for it.
fn advice(what: &str) -> &'static str {
    match what {
        "write" | "sync" | "cut" | "change" => {
            "what of it reached the device is unknown, so the process must end and recover"
        }
        "read" | "open" | "list" | "read the size of" => {
            "nothing was changed: mend the path, its permissions or the device, and try again"
        }
        _ => "mend the path, its permissions or the device, and try again",
    }
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overloaded(_))
    }

    /// Whether it tells of the end of a file that is no whole entry and has nothing behind it: what
    /// a process that died has begun to write, or one that lives is writing now.
    pub fn is_torn_tail(&self) -> bool {
        matches!(self, Self::Corrupt { problem, .. } if problem.starts_with(TORN_TAIL))
    }
}

/// How the problem of an entry begins that was probably cut off as it was written.
pub const TORN_TAIL: &str = "possibly a torn tail, the last entry cut off as it was written";

/// What a store's methods return.
pub type StoreResult<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The end of a log as a reader finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The last whole batch; `BatchNo(0)` for an empty log.
    pub last: BatchNo,
    /// The last batch that was certainly there: `last`, or one behind it of which only traces are
    /// left, which is `damage`.
    pub proven: BatchNo,
    /// What stands behind it and is no whole batch: a write that was cut off. In words, with file
    /// and offset.
    pub torn: Option<String>,
    /// What stands before it and is no whole batch: corruption. In words, with file and offset. It
    /// does not keep a log from being sealed: whoever reads the log learns which matches it
    /// concerns.
    pub damage: Option<String>,
}

/// Which logs there are, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    /// Whose log.
    pub log: Incarnation,
    /// The first batch that is still there.
    pub first: BatchNo,
    /// Bytes on the device.
    pub bytes: u64,
}

/// Logs of incarnations: one writer each, batches without gaps.
pub trait Journal: Send + Sync + 'static {
    /// The log is a copy of one whose beginning was trimmed: its first batch has the number `first`
    /// instead of 1. For appends through this handle, until that batch is there. Harmless to
    /// repeat; `Refused` if the log holds batches and begins with another one.
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()>;
    /// Appends the next batch to its incarnation's log. Resolves once it is durable **and** the
    /// incarnation was verified to be live after the write: only then may anything in it be
    /// acknowledged. Appending a batch again with the same bytes is harmless.
    ///
    /// `Fenced`, `Conflict`, `Gap`, `TooLarge`; `Io` (terminal); `Unavailable` (repeat the same
    /// batch).
    fn append(&self, batch: Batch) -> StoreResult<'_, ()>;
    /// Whole batches from `from` on, in order: at least one if there is one, then as many as fit in
    /// `max_bytes`. Every checksum is checked. Empty at the end of the log; a torn tail is the end
    /// of the log.
    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>>;
    /// Where a log ends: with its last whole batch, also if there is a bad one before it, which is
    /// reported.
    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail>;
    /// Step 3 of a takeover: makes the last whole batch of a fenced log durable for certain
    /// (written again, synced), trims a torn tail.
    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()>;
    /// Whole batches before `before` are no longer needed. Frees what it can; never touches
    /// `before` or later ones.
    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()>;
    /// All logs.
    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>>;
}

/// Checkpoints of matches.
pub trait Checkpoints: Send + Sync + 'static {
    /// Stores a checkpoint; it is visible to `list` only when it is durable as a whole.
    fn put(&self, meta: CheckpointMeta, state: Bytes) -> StoreResult<'_, ()>;
    /// Manifests of a match's checkpoints, newest (highest seq, then epoch) first. Damaged ones,
    /// and those that the device does not give (`Io`), are left out of the first list and described
    /// in the second.
    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<CheckpointMeta>, Vec<StoreError>)>;
    /// The state of a checkpoint, length and checksum checked.
    fn get(&self, meta: &CheckpointMeta) -> StoreResult<'_, Bytes>;
    /// Removes a match's checkpoints that cover less than `before`.
    fn trim(&self, match_id: MatchId, before: Seq) -> StoreResult<'_, ()>;
}

/// What a fence found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease stands.
    Live,
    /// It is fenced: stop.
    Fenced,
}

/// The small transactional facts: who is alive, who owns what.
pub trait Leases: Send + Sync + 'static {
    /// Enters a new incarnation as live. `Conflict`-free: an incarnation is registered once.
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()>;
    /// Moves the deadline of a live lease, and writes down how far its log has come; `None` leaves
    /// what was said before.
    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal>;
    /// Sets a live lease to `Stopped`, after a clean stop.
    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal>;
    /// Fences an incarnation; a local store also kills the process if it is the one that registered
    /// (pid and start time compared) and has this very store open. Idempotent.
    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()>;
    /// Seals a fenced log: sets the last batch that counts if there is no seal yet, and returns the
    /// seal that stands.
    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo>;
    /// An operator accepts at `at_ms` that the log of a fenced node ends with batch `last`,
    /// although it was known to have come further: the seal and what was
    /// [reached](NodeLease::reached) are lowered to that. Harmless to repeat. `Refused` if the
    /// lease is not fenced, `NotFound`.
    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()>;
    /// All node leases.
    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>>;
    /// One node lease.
    fn node(&self, node: Incarnation) -> StoreResult<'_, Option<NodeLease>>;
    /// Removes the row of a dead incarnation whose log is gone.
    fn forget(&self, node: Incarnation) -> StoreResult<'_, ()>;
    /// Enters a new match, version 1.
    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()>;
    /// Replaces a row if its version is `lease.version - 1`; `Ok(Err(row))` has the row that stands
    /// instead.
    fn compare_and_set(&self, lease: MatchLease)
    -> StoreResult<'_, Result<(), Option<MatchLease>>>;
    /// The row of one match.
    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>>;
    /// The rows of all matches, ascending by id.
    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>>;
    /// Removes the row of a match that has ended if it still has this version, and says whether the
    /// row is gone (also if it was before). `Refused` if the match has not ended.
    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool>;
}

/// Which store this is, so that a copy of it is told from its original. See [`crate::identity`].
pub trait Identity: Send + Sync + 'static {
    /// The identity as it stands; `None` if no node has run on this store yet. Changes nothing.
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>>;
    /// The identity of the store in the place where it is now: made if there is none, replaced if
    /// the store is no longer where it was (it was copied or restored). Nodes call it when they
    /// start, before they register, and before they take matches over.
    ///
    /// A local store also forgets the processes of live leases then, unless they have this store
    /// open: they are those of its original.
    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity>;
    /// A new identity in any case, with a floor above `above` and above every epoch in the store.
    /// `because` says why. Nodes that run learn of it before they next take matches over.
    fn renew(&self, fresh: Fresh, because: &str, above: Epoch) -> StoreResult<'_, StoreIdentity>;
    /// What is known of the process that registered `lease`, if it is one of this host.
    fn holder(&self, lease: &NodeLease) -> StoreResult<'_, Holder>;
}

/// What is kept of matches beyond what recovery needs: chunks of records and states, each on its
/// own, and pins.
///
/// A chunk is named by its match, its kind and its first seq. Several nodes may archive the same
/// match at the same time: whatever is put first stands, and everybody goes on behind it, so chunks
/// of records never overlap.
pub trait Archive: Send + Sync + 'static {
    /// Stores a chunk and returns the manifest that stands once that is durable: the given one, or
    /// that of a whole chunk of the same name that was there before. A chunk of that name that is
    /// damaged is replaced. Length and checksum of `bytes` are checked before they are written.
    ///
    /// `TooLarge` above [`crate::MAX_CHUNK`], `Corrupt` if `bytes` are not what the manifest says,
    /// `Io`, `Unavailable`; all leave what was there.
    fn put(&self, meta: ChunkMeta, bytes: Bytes) -> StoreResult<'_, ChunkMeta>;
    /// Manifests of a match's chunks, ascending by (first seq, kind). Those that cannot be read
    /// (`Corrupt`, `Io`) are left out of the first list and described in the second. Content is not
    /// read.
    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<ChunkMeta>, Vec<StoreError>)>;
    /// The stored bytes of a chunk, length and checksum checked. `NotFound`, `Corrupt`.
    fn get(&self, meta: &ChunkMeta) -> StoreResult<'_, Bytes>;
    /// Removes one chunk; harmless if it is not there.
    fn remove(&self, meta: &ChunkMeta) -> StoreResult<'_, ()>;
    /// Matches that have chunks, ascending.
    fn matches(&self) -> StoreResult<'_, Vec<MatchId>>;
    /// Pins a stretch of a match; replaces an earlier pin of it.
    fn pin(&self, pin: Pin) -> StoreResult<'_, ()>;
    /// Removes the pin of a match, and says whether there was one.
    fn unpin(&self, match_id: MatchId) -> StoreResult<'_, bool>;
    /// All pins, ascending by match.
    fn pins(&self) -> StoreResult<'_, Vec<Pin>>;
}

/// Where effects go. A sink remembers ids: the same effect delivered again changes nothing.
pub trait EffectSink: Send + Sync + 'static {
    /// Delivers one effect of a match; resolves once it is durable. `Ok(true)` if it was new.
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool>;
    /// All that was delivered, ascending by (match, id).
    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>>;
}

/// A job to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Chosen by the caller, so that a request whose answer was lost can be repeated; see
    /// [`JobId::at`].
    pub id: JobId,
    /// Who works on it: 1 to 64 bytes of `a-z 0-9 - _ .`.
    pub queue: String,
    /// What is to be done: as `queue`.
    pub kind: String,
    /// The handler's own encoding of its arguments, at most 64 KiB.
    pub payload: Bytes,
    /// What it has for itself alone; a key has 1 to 200 bytes.
    pub unique: Option<Unique>,
    /// Nobody claims it before, in milliseconds since 1970.
    pub run_at_ms: u64,
    /// How often it may be claimed, at least once.
    pub max_attempts: u32,
    /// Now, in milliseconds since 1970.
    pub created_ms: u64,
}

/// What a node asks for when it has hands free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Jobs of this queue.
    pub queue: String,
    /// Who will work on them.
    pub by: Incarnation,
    /// Now, in milliseconds since 1970: jobs that are due by then, and running ones whose lease
    /// ended by then.
    pub now_ms: u64,
    /// Until when others leave them alone.
    pub until_ms: u64,
    /// At most so many.
    pub limit: usize,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The work is done.
    Done {
        /// What came of it, in words.
        note: String,
    },
    /// It failed and is to be tried again.
    Retry {
        /// Not before, in milliseconds since 1970.
        at_ms: u64,
        /// Why it failed, in words.
        error: String,
    },
    /// It failed for good.
    Dead {
        /// Why, in words.
        error: String,
    },
    /// It was not worked on, or given up half done: to be claimed anew, without costing an attempt
    /// (`max_attempts` grows by one).
    GiveBack {
        /// Not before, in milliseconds since 1970.
        at_ms: u64,
    },
}

/// Whether a claim still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It does, and what was asked for was carried out.
    Kept,
    /// It does not: another attempt has begun, the job was cancelled, finished or pruned. Nothing
    /// was changed.
    Lost,
}

/// Which jobs are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Those of one queue.
    pub queue: Option<String>,
    /// Those of one kind.
    pub kind: Option<String>,
    /// Those in one state.
    pub status: Option<JobStatus>,
    /// At most so many.
    pub limit: usize,
}

/// How many jobs a queue has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Its name.
    pub queue: String,
    /// Waiting, due or not.
    pub ready: u64,
    /// Claimed, whether or not the lease has ended.
    pub running: u64,
    /// Done and not yet pruned.
    pub done: u64,
    /// Dead letters.
    pub dead: u64,
    /// Called off and not yet pruned.
    pub cancelled: u64,
    /// The least `run_at_ms` of those that wait.
    pub oldest_ready_ms: Option<u64>,
}

/// Work that is remembered until it was done: each job by one node at a time, at least once. Time
/// is always an argument; of two nodes' clocks the store compares what one wrote with what the
/// other says, so they should agree within a fraction of a lease.
///
/// Each change of a job is one of [`crate::jobs`] and replaces the row with `version` + 1 if nobody
/// else has meanwhile: a backend brings whatever compare-and-set it has (a row lock,
/// `IF version = ?`).
pub trait Jobs: Send + Sync + 'static {
    /// Remembers a job, and returns the id of the one that stands: its own, or that of the one that
    /// holds its unique key. The same job again is harmless. `Refused` if another one has this id,
    /// or if it is malformed.
    fn enqueue(&self, job: NewJob) -> StoreResult<'_, JobId>;
    /// Jobs that are due, each for this caller alone, with `attempt` one higher than before; those
    /// due longest first. `attempt` may exceed `max_attempts`, if holders died one after the other:
    /// the caller then buries the job instead of working on it.
    fn claim(&self, claim: Claim) -> StoreResult<'_, Vec<Job>>;
    /// Moves the end of a claim's lease, also of one that has ended if nobody has claimed the job
    /// since.
    fn extend(&self, id: JobId, attempt: u32, until_ms: u64) -> StoreResult<'_, Hold>;
    /// Says what came of an attempt, also after its lease if nobody has claimed the job since. The
    /// same again is harmless.
    fn finish(
        &self,
        id: JobId,
        attempt: u32,
        now_ms: u64,
        outcome: Outcome,
    ) -> StoreResult<'_, Hold>;
    /// One job.
    fn get(&self, id: JobId) -> StoreResult<'_, Option<Job>>;
    /// Jobs, newest (highest id) first.
    fn list(&self, filter: JobFilter) -> StoreResult<'_, Vec<Job>>;
    /// How many there are, by queue, ascending by name; queues without jobs are left out.
    fn counts(&self) -> StoreResult<'_, Vec<QueueCounts>>;
    /// Makes a job that is dead, cancelled or waiting ready at `now_ms`, with `attempts` further
    /// attempts. `NotFound`; `Refused` if it is running or done, or if another one holds its key.
    fn retry(&self, id: JobId, now_ms: u64, attempts: u32) -> StoreResult<'_, Job>;
    /// Calls an open job off; whoever works on it learns it when it next extends or finishes.
    /// Cancelling a cancelled one is harmless. `NotFound`; `Refused` if it is done or dead.
    fn cancel(&self, id: JobId, now_ms: u64) -> StoreResult<'_, Job>;
    /// Forgets jobs that were finished before `before_ms`, at most `limit` of them, and frees their
    /// keys. Returns how many went.
    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize>;
}

/// Which entries are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditQuery {
    /// Not earlier, in milliseconds since 1970.
    pub since_ms: u64,
    /// Earlier than this.
    pub until_ms: u64,
    /// At most so many.
    pub limit: usize,
}

/// What operators did. Entries are added and, after their retention, removed; never changed.
pub trait AuditLog: Send + Sync + 'static {
    /// Adds an entry; resolves once it is durable. The same entry again is harmless. `Refused` if
    /// another one has its key, `TooLarge`.
    fn append(&self, entry: AuditEntry) -> StoreResult<'_, ()>;
    /// Entries, newest (highest [key](AuditEntry::key)) first.
    fn list(&self, query: AuditQuery) -> StoreResult<'_, Vec<AuditEntry>>;
    /// Removes entries older than `before_ms`, at most `limit` of them, oldest first. Returns how
    /// many went.
    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize>;
}
