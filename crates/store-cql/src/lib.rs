//! A store on `ScyllaDB`, Apache Cassandra, or whatever else speaks CQL and has lightweight
//! transactions.
//!
//! Tables are in `schema/cql`. [`migrate`] makes them; [`CqlStore::connect`] opens a store and
//! refuses tables of another version.
//!
//! # Why these consistency levels
//!
//! *Batches and checkpoints* are plain writes at `LOCAL_QUORUM`, answered when a majority of the
//! replicas in the local datacentre has them in its commit log, and are read at `LOCAL_QUORUM`: two
//! majorities share a replica, so a read that begins after a write was answered sees it. How much a
//! replica's commit log is worth is the server's setting: with `commitlog_sync: periodic` it
//! answers before it has synced, and a batch is lost if a majority loses power within the same
//! seconds. Opening such a store logs RK-STORE-040.
//!
//! *Lease rows* are changed by lightweight transactions alone, at `LOCAL_SERIAL`, renewals
//! included. A plain write orders itself by the clock of some server, a transaction by its ballot;
//! mixed on one cell, a renewal could undo a fence. A transaction is answered once it is committed
//! at `LOCAL_QUORUM`.
//!
//! *Write, verify, acknowledge.* After a batch's write was answered, the writer reads the state of
//! its own lease, at plain `LOCAL_QUORUM`, and acknowledges only if it is live. That a plain read
//! is enough:
//!
//! 1. Let a taker's fence be answered at time F. It is committed on a majority, so every
//!    `LOCAL_QUORUM` read that *begins* after F sees it. A verifying read that says *live*
//!    therefore began before F.
//! 2. The verifying read begins after the write was answered. So the write was answered before F.
//! 3. The taker reads the tail after F, at `LOCAL_QUORUM`. So it sees the batch. Everything that is
//!    acknowledged is in the taker's view.
//!
//! Step 1 needs a fence that is *answered*. A fence may also be decided and not yet committed on a
//! majority: its taker died half-way, or the answer timed out. A plain read may see such a fence on
//! one replica while the writer, reading others, does not. So whoever did not fence itself learns
//! of a fence by a serial read (`Leases::node`) or by fencing again: both finish a transaction that
//! they find half-way, and answer when a majority has it. [`Leases::nodes`]
//! and [`Leases::matches`] are plain reads of few partitions. What they show was decided, and it is
//! acted upon by a compare-and-set on the row's version or by fencing, which do not believe them; a
//! *seal* that is seen was decided after its fence was answered. A row that they miss is one
//! whose change has not been answered to anybody, which is the same as being asked a moment
//! earlier.
//!
//! [`Leases::nodes`]: rekindle_store::Leases::nodes
//! [`Leases::matches`]: rekindle_store::Leases::matches
//!
//! *The last batch.* A batch that only one replica has may be seen by one reader of the tail and
//! not by another. The taker writes the last whole batch again at `LOCAL_QUORUM`
//! (`Journal::settle`) before it seals; whatever turns up later lies behind the seal and is not
//! read. Earlier batches were answered: the writer sends a batch only after the one before it was.
//!
//! *Unknown outcomes.* A transaction that timed out may have been applied, may be applied later, or
//! never. A read alone does not settle that, because the request may still be queued. So it is read
//! back at `LOCAL_SERIAL`; if it was not applied, it is tried again with the same condition until
//! one of them has an answer, and a row that then holds exactly what was to be written was written
//! by this one. What is still unknown after that is `Unavailable`, and the same request may be made
//! again.
//!
//! # Several datacentres
//!
//! Everything is `LOCAL_*`: a lease and a log live in the datacentre of their node's region, where
//! they survive the loss of a minority of replicas; other datacentres get a copy later. Nodes of
//! another region that act on that copy (an operator's promotion) may miss what had not yet
//! arrived.

mod archive;
mod audit;
mod checkpoints;
mod driver;
mod effects;
mod guards;
mod identity;
mod jobs;
mod journal;
mod leases;
mod meters;
mod migrate;
mod options;
mod reader;
mod registry;
mod statements;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rekindle_schema::Incarnation;
use rekindle_store::migration::SchemaState;
use rekindle_store::{Store, StoreError, StoreResult};
use tokio::sync::Semaphore;

use self::driver::Driver;
use self::journal::LogWriter;
use self::statements::Statements;

#[cfg(feature = "mutants")]
pub use self::guards::Mutant;
pub use self::options::{CqlOptions, Replication};

/// The largest part of a batch, or chunk of a checkpoint, that is put into one row, in bytes.
const PART: usize = 256 << 10;
const _: () = assert!(
    PART < rekindle_schema::batch::MAX_BATCH && rekindle_store::MAX_CHUNK.is_multiple_of(PART)
);
/// How many parts of one batch or checkpoint are on the way at once.
const PARTS_AT_ONCE: usize = 8;
/// Over how many partitions the leases of nodes, and the rows of their logs, are spread.
const NODE_SHARDS: u64 = 16;
/// How many partitions are listed at once.
const LISTS: usize = 16;
/// Over how many partitions the match directory is spread: listing it takes so many reads, and
/// changes of rows in one of them wait for one another.
const MATCH_SHARDS: u64 = 64;

/// A store on a CQL server, open.
pub struct CqlStore {
    driver: Arc<Driver>,
    statements: Statements,
    options: CqlOptions,
    writers: Mutex<BTreeMap<Incarnation, Arc<LogWriter>>>,
    /// With which batch logs begin that hold none yet.
    begins: Mutex<BTreeMap<Incarnation, u64>>,
    puts: Semaphore,
    /// Transactions of this process on one partition go one after the other: the server would make
    /// them fight.
    turns: Vec<tokio::sync::Mutex<()>>,
}

impl CqlStore {
    /// Connects. `Refused` if the tables are not those of this release, or the server turns the
    /// user or the datacentre down; `Unavailable` if nobody answers.
    pub fn connect(options: CqlOptions) -> StoreResult<'static, Store> {
        Box::pin(async move {
            let driver = Arc::new(Driver::connect(&options).await?);
            migrate::state(&driver, &options).await?.require_current(driver.place())?;
            let statements = Statements::prepare(&driver, &options.keyspace).await?;
            migrate::warn_if_unsynced(&driver).await;
            tokio::spawn(meters::export(Arc::downgrade(&driver)));
            let this = Arc::new(Self {
                driver,
                statements,
                writers: Mutex::default(),
                begins: Mutex::default(),
                puts: Semaphore::new(options.append_queue),
                turns: (0..MATCH_SHARDS).map(|_| tokio::sync::Mutex::new(())).collect(),
                options,
            });
            Ok(Store {
                journal: this.clone(),
                checkpoints: this.clone(),
                leases: this.clone(),
                effects: this.clone(),
                archive: this.clone(),
                jobs: this.clone(),
                audit: this.clone(),
                identity: this.clone(),
                registry: this,
            })
        })
    }

    fn space(&self) -> &str {
        &self.options.space
    }
}

/// How the tables compare with those that this release needs.
pub async fn schema_state(options: &CqlOptions) -> Result<SchemaState, StoreError> {
    migrate::state(&Driver::connect(options).await?, options).await
}

/// Makes the keyspace and the tables, or brings them up to date; does nothing if they are.
/// `Refused` if a later release made them.
///
/// Every statement can be repeated: one that was interrupted is simply run again. Run it from one
/// place at a time, as any change of a CQL schema.
pub async fn migrate(options: &CqlOptions) -> Result<SchemaState, StoreError> {
    migrate::migrate(options).await
}

/// Drops the keyspace with everything in it: for a store that was made for one purpose and has
/// served it. Harmless to repeat.
pub async fn discard(options: &CqlOptions) -> Result<(), StoreError> {
    migrate::discard(options).await
}

/// An identifier as the tables hold it.
fn id(bits: u64) -> i64 {
    bits as i64
}

/// A counter as the tables hold it, where order matters: none gets so far.
fn ordered(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// In which of `shards` partitions a row is kept.
fn shard(bits: u64, shards: u64) -> i32 {
    // Identifiers may be counters or random; their high bits after a multiplication are neither.
    ((bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % shards) as i32
}
