//! Jobs of a node: what is queued in the store is claimed, worked on under a deadline, tried again
//! or buried.
//!
//! [`core::JobsCore`] decides everything and does nothing: it gets events and the time, and returns
//! effects. The actor carries them out, each in a task of its own, and tells the core what came of
//! them. Nodes know nothing of each other: that a job has one holder and a slot of a cron entry one
//! job is up to the store's compare-and-set.
//!
//! What is promised: a job that was enqueued is worked on **at least once** until a handler says
//! that it is done, its attempts are used up, or an operator cancels it. A handler may be cut off
//! at any of its awaits (deadline, lost lease, the end of the process) and run again elsewhere, so
//! what it does must bear repetition.
//!
//! # Metrics
//!
//! | name | kind | meaning |
//! |---|---|---|
//! | `rekindle_jobs{queue,state}` | gauge | jobs that the store remembers, of all nodes |
//! | `rekindle_jobs_oldest_waiting_seconds{queue}` | gauge | for how long the oldest job that is due has waited |
//! | `rekindle_jobs_running{queue}` | gauge | on this node now |
//! | `rekindle_job_attempts_total{kind,outcome}` | counter | attempts of this node: `done`, `retried`, `dead`, `given_back`, `lost` |
//! | `rekindle_job_seconds{kind}` | histogram | one attempt, from start to end |

mod actor;
pub mod core;
pub mod cron;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rekindle_schema::Incarnation;
use rekindle_schema::job::Job;
use rekindle_store::Store;

pub use self::actor::{Drained, JobsHandle, start};
pub use self::core::{CronEntry, QueueConfig, RetryPolicy};
pub use self::cron::{Schedule, ScheduleError};

/// Milliseconds since 1970. Jobs are due by it.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The jobs actor could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("RK-HOST-008: cannot start the jobs actor: {cause}")]
pub struct StartError {
    /// What the actor system said.
    pub cause: String,
}

/// Why a handler did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkError {
    /// It may succeed later.
    Retry(String),
    /// It never will: the job becomes a dead letter at once.
    Fatal(String),
}

impl<E: std::error::Error> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self::Retry(error.to_string())
    }
}

/// What a handler returns: what came of it, in words.
pub type WorkResult = Result<String, WorkError>;

/// Does the work of one kind of job.
pub trait Handler: Send + Sync + 'static {
    /// Works on a job. Dropping the future gives it up.
    fn run(&self, job: Job) -> BoxFuture<'static, WorkResult>;
}

impl<F, Work> Handler for F
where
    F: Fn(Job) -> Work + Send + Sync + 'static,
    Work: Future<Output = WorkResult> + Send + 'static,
{
    fn run(&self, job: Job) -> BoxFuture<'static, WorkResult> {
        Box::pin(self(job))
    }
}

/// A kind of job that a node can do.
#[derive(Clone)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// In which queue its jobs wait.
    pub queue: String,
    /// How often one is tried before it is dead.
    pub attempts: u32,
    /// An attempt that takes longer has failed.
    pub deadline: Duration,
    /// Does it.
    pub handler: Arc<dyn Handler>,
}

impl Kind {
    /// A kind that is tried three times, for a minute each.
    pub fn new(name: &str, queue: &str, handler: impl Handler) -> Self {
        let (name, queue) = (name.to_owned(), queue.to_owned());
        Self {
            name,
            queue,
            attempts: 3,
            deadline: Duration::from_mins(1),
            handler: Arc::new(handler),
        }
    }

    /// With another number of attempts and another deadline.
    #[must_use]
    pub fn with(self, attempts: u32, deadline: Duration) -> Self {
        Self { attempts, deadline, ..self }
    }
}

/// How a node works on jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsConfig {
    /// For how long a claim stands without being extended. It is extended when a third of it has
    /// passed.
    pub lease: Duration,
    /// How often each queue is looked into while there are hands free.
    pub poll: Duration,
    /// How often the core is told the time; also how long after a failed request the next is made.
    pub step: Duration,
    /// How long a clean stop waits for handlers that are at work; what they have not done by then
    /// is given back.
    pub drain: Duration,
    /// The queues that this node serves.
    pub queues: Vec<QueueConfig>,
    /// What is enqueued by the clock.
    pub cron: Vec<CronEntry>,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            poll: Duration::from_secs(1),
            step: Duration::from_millis(250),
            drain: Duration::from_secs(5),
            queues: Vec::new(),
            cron: Vec::new(),
        }
    }
}

/// What jobs are run with.
pub struct JobsParts {
    /// Where jobs are remembered.
    pub store: Store,
    /// Who claims them.
    pub incarnation: Incarnation,
    /// Milliseconds since 1970.
    pub clock: WallClock,
    /// Decides about jitter, and about the ids of what the clock enqueues.
    pub seed: u64,
    /// What this node can do.
    pub kinds: Vec<Kind>,
    /// How.
    pub config: JobsConfig,
}
