//! Durable storage of matches: the ports through which everybody else uses a store, and what does
//! not depend on the backend.
//!
//! * [`Journal`], [`Checkpoints`], [`Leases`], [`EffectSink`], [`Archive`], [`Jobs`], [`AuditLog`],
//!   [`Identity`], [`Registry`]: the ports, one trait each. A [`Store`] is one of each.
//! * [`history`]: a match's checkpoint and records, put together from the logs that its lineage
//!   names and the archive.
//! * [`chains`]: full checkpoints and the deltas on them: which can be restored, which must be
//!   kept.
//! * [`archive`]: what is in a chunk of the archive.
//! * [`transfer`]: copies from one store into another.
//! * [`identity`]: which store this is, and in which epochs its matches may be continued.
//! * [`witness`]: how far a log is known to have come, held against where it ends.
//! * [`backend`]: for backends: what all of them check before they write and after they read.
//!   [`jobs`], [`audit`] and [`registry`] are the rules of ports, [`migration`] the versions of
//!   tables.
//! * [`members`]: what nodes say of themselves, in the registry; [`wishes`]: what operators want of
//!   them.
//! * [`process`]: which process a lease names.
//!
//! # How a store is used
//!
//! ```
//! use rekindle_schema::{BatchNo, Incarnation, MatchId};
//! use rekindle_store::StoreError;
//! use rekindle_store_conformance::{Scribe, register};
//! use rekindle_store_memory::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), StoreError> {
//! let store = MemoryStore::new().store();
//! let node = Incarnation(1);
//! // A node registers a lease. Only while that is live it may acknowledge what it writes.
//! register(&store, node).await;
//! // The journal actor packs records into batches; here the scribe of the tests does.
//! let mut scribe = Scribe::new(node);
//! let batch = scribe.batch(&[(MatchId(7), b"a record")]);
//! store.journal.append(batch.clone()).await?;
//! // It is durable now.
//! assert_eq!(store.journal.read(node, BatchNo(1), 1 << 20).await?, [batch]);
//! // Another node fences it: what it writes from then on is not acknowledged.
//! store.leases.fence(node).await?;
//! let late = scribe.batch(&[(MatchId(7), b"too late")]);
//! assert!(matches!(store.journal.append(late).await, Err(StoreError::Fenced(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # Where the rest is
//!
//! A backend is a crate of its own: `rekindle-store-local`, `rekindle-store-memory`,
//! `rekindle-store-postgres`, `rekindle-store-cql`. `rekindle-store-open` opens the one that an
//! address names; `rekindle-store-conformance` has the tests that each of them passes. No database
//! driver is among this crate's dependencies.
//!
//! This crate is not responsible for what a record means, for who may write (that is
//! `rekindle-cluster`), or for when to flush (that is `rekindle-actors`).

pub mod archive;
pub mod audit;
pub mod backend;
pub mod chains;
mod errors;
pub mod history;
pub mod identity;
pub mod jobs;
pub mod members;
pub mod migration;
mod ports;
pub mod process;
pub mod registry;
pub mod standbys;
pub mod transfer;
pub mod wishes;
pub mod witness;

use std::sync::Arc;

pub use errors::{StoreError, TORN_TAIL};
pub use ports::{
    Archive, AuditLog, AuditQuery, Checkpoints, Claim, EffectSink, Hold, Identity, JobFilter, Jobs,
    Journal, Leases, LogInfo, NewJob, Outcome, QueueCounts, Registry, Renewal, StoreResult, Tail,
};

/// The largest state of a checkpoint, in bytes.
pub const MAX_CHECKPOINT: usize = 256 << 20;
/// The largest chunk of the archive as it is stored, in bytes.
pub const MAX_CHUNK: usize = 32 << 20;

const _: () = assert!(
    archive::CHUNK_TARGET + rekindle_schema::batch::MAX_BATCH < MAX_CHUNK,
    "a chunk that was filled with the largest record must still be storable"
);
const _: () = assert!(MAX_CHUNK <= MAX_CHECKPOINT, "backends size their reads by a checkpoint");

/// A store, as one node holds it.
#[derive(Clone)]
pub struct Store {
    /// Logs.
    pub journal: Arc<dyn Journal>,
    /// Checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Leases and the match directory.
    pub leases: Arc<dyn Leases>,
    /// Results of matches and other effects.
    pub effects: Arc<dyn EffectSink>,
    /// What is kept beyond what recovery needs.
    pub archive: Arc<dyn Archive>,
    /// Work that is remembered until it was done.
    pub jobs: Arc<dyn Jobs>,
    /// What operators did.
    pub audit: Arc<dyn AuditLog>,
    /// Which store this is.
    pub identity: Arc<dyn Identity>,
    /// What belongs to the cluster and to no match: members, keys, assignments.
    pub registry: Arc<dyn Registry>,
}
