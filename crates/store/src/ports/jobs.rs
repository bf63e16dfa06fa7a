//! The job port: work that is remembered until it was done. The rules are in [`crate::jobs`].
//!
//! Called by the workers of queues and by operators.

use bytes::Bytes;
use rekindle_schema::job::{Job, JobStatus, Unique};
use rekindle_schema::{Incarnation, JobId};

use super::StoreResult;

/// A job to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Chosen by the caller, so that a request whose answer was lost can be repeated; see
    /// [`JobId::at`].
    pub id: JobId,
    /// The queue whose workers take it: 1 to 64 bytes of `a-z 0-9 - _ .`.
    pub queue: String,
    /// Names the handler that does the work; as `queue`.
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
    /// The queue from which jobs are wanted.
    pub queue: String,
    /// The node that will work on them.
    pub by: Incarnation,
    /// Now, in milliseconds since 1970: jobs that are due by then, and running ones whose lease
    /// ended by then.
    pub now_ms: u64,
    /// Until when others leave them alone.
    pub until_ms: u64,
    /// The most jobs that are returned.
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
    /// The most jobs that are returned.
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
