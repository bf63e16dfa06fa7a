//! Durable storage of matches: ports, their conformance suite, and backends.
//!
//! * [`port`]: what the node asks of a store.
//! * [`history`]: a match's checkpoint and records, put together from the logs that its lineage
//!   names and the archive.
//! * [`archive`]: what is in a chunk of the archive.
//! * [`jobs`] and [`audit`]: what a job's row goes through, and what is checked of an audit entry,
//!   in every backend.
//! * [`chains`]: full checkpoints and the deltas on them: which can be restored, which must be
//!   kept.
//! * [`memory`]: the backend of the simulation. [`local`]: the default backend, a directory.
//! * [`address`]: which store, as one line of configuration. [`transfer`]: copies from one store
//!   into another.
//! * [`identity`]: which store this is, and in which epochs its matches may be continued.
//! * [`postgres`]: a Postgres server.
//! * [`cql`]: a store on ScyllaDB or any other CQL server.
//! * [`witness`]: how far a log is known to have come, held against where it ends.
//! * [`migration`]: versions of the tables of remote stores.
//! * [`conformance`]: what every backend must do, as tests.
//!
//! This crate is not responsible for what a record means, for who may write (that is
//! `rekindle-cluster`), or for when to flush (that is `rekindle-actors`).

pub mod address;
pub mod archive;
pub mod audit;
pub mod chains;
pub mod conformance;
pub mod cql;
pub mod history;
pub mod identity;
pub mod jobs;
pub mod local;
pub mod memory;
pub mod migration;
pub mod port;
pub mod postgres;
pub mod transfer;
pub mod witness;

use std::sync::Arc;

use rekindle_schema::archive::ChunkMeta;
use rekindle_schema::batch::{BATCH_MAGIC, Batch, Envelope, MAX_BATCH};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{NodeLease, NodeState, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId};

pub use port::{
    Archive, Checkpoints, EffectSink, Identity, Journal, Leases, LogInfo, Renewal, StoreError,
    StoreResult, Tail,
};
pub use port::{AuditLog, AuditQuery, Claim, Hold, JobFilter, Jobs, NewJob, Outcome, QueueCounts};

/// The largest state of a checkpoint, in bytes.
pub const MAX_CHECKPOINT: usize = 256 << 20;
/// The largest chunk of the archive as it is stored, in bytes.
pub const MAX_CHUNK: usize = 32 << 20;

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
}

/// What every backend checks of a batch before it writes it: size, checksums, and that it is the
/// batch that it is said to be.
pub(crate) fn check_batch(batch: &Batch) -> Result<Envelope, StoreError> {
    if batch.bytes.len() > MAX_BATCH {
        return Err(StoreError::TooLarge {
            what: "a batch",
            size: batch.bytes.len(),
            limit: MAX_BATCH,
        });
    }
    let refuse = |problem: String| StoreError::Corrupt {
        place: format!(
            "batch {} for log {}, before it was written",
            batch.number, batch.incarnation
        ),
        problem,
    };
    let envelope = Envelope::parse(&batch.bytes, BATCH_MAGIC, "batch")
        .map_err(|error| refuse(error.to_string()))?;
    envelope.check(&batch.bytes, "batch").map_err(|error| refuse(error.to_string()))?;
    if (envelope.log, envelope.number) != (batch.incarnation, batch.number) || batch.number.0 == 0 {
        return Err(refuse(format!(
            "its bytes say batch {} of log {}",
            envelope.number, envelope.log
        )));
    }
    Ok(envelope)
}

/// Whether a checkpoint's state is what its manifest says.
pub(crate) fn check_state(meta: &CheckpointMeta, state: &[u8]) -> Result<(), StoreError> {
    let problem = if state.len() as u64 != meta.len {
        format!("its state has {} bytes, the manifest says {}", state.len(), meta.len)
    } else {
        let crc = crc32c::crc32c(state);
        if crc == meta.crc {
            return Ok(());
        }
        format!("the checksum of its state is {crc:08x}, the manifest says {:08x}", meta.crc)
    };
    Err(StoreError::Corrupt {
        place: format!("checkpoint of match {} at seq {}", meta.match_id, meta.seq),
        problem,
    })
}

/// Whether the stored bytes of a chunk are what its manifest says.
pub(crate) fn check_chunk(meta: &ChunkMeta, bytes: &[u8]) -> Result<(), StoreError> {
    let problem = if bytes.len() as u64 != meta.len {
        format!("it has {} bytes, its manifest says {}", bytes.len(), meta.len)
    } else {
        let crc = crc32c::crc32c(bytes);
        if crc == meta.crc {
            return Ok(());
        }
        format!("its checksum is {crc:08x}, its manifest says {:08x}", meta.crc)
    };
    Err(StoreError::Corrupt { place: archive::place(meta), problem })
}

/// What every backend checks of a chunk before it stores it.
pub(crate) fn check_new_chunk(meta: &ChunkMeta, bytes: &[u8]) -> Result<(), StoreError> {
    if bytes.len() > MAX_CHUNK {
        return Err(StoreError::TooLarge {
            what: "a chunk of the archive",
            size: bytes.len(),
            limit: MAX_CHUNK,
        });
    }
    check_chunk(meta, bytes)
}

pub(crate) fn no_chunk(meta: &ChunkMeta) -> StoreError {
    StoreError::NotFound(archive::place(meta))
}

pub(crate) fn removed_unended(match_id: MatchId) -> StoreError {
    misuse(format!("match {match_id}"), "it has not ended, so its row cannot be removed")
}

pub(crate) fn begun_elsewhere(log: Incarnation, first: BatchNo, wanted: BatchNo) -> StoreError {
    StoreError::Refused {
        place: format!("log {log}"),
        problem: format!("it begins with batch {first}, so it cannot begin with batch {wanted}"),
    }
}

fn misuse(place: String, problem: &str) -> StoreError {
    StoreError::Refused { place, problem: problem.to_owned() }
}

pub(crate) fn registered_twice(node: Incarnation) -> StoreError {
    misuse(format!("node incarnation {node}"), "it is registered already, with another lease")
}

pub(crate) fn sealed_unfenced(node: Incarnation) -> StoreError {
    misuse(format!("node incarnation {node}"), "only the log of a fenced incarnation can be sealed")
}

/// The lease once an operator has accepted that its log ends with batch `last`. `Refused` if it is
/// not fenced.
pub(crate) fn loss_accepted(
    lease: NodeLease,
    last: BatchNo,
    at_ms: u64,
) -> Result<NodeLease, StoreError> {
    if lease.state != NodeState::Fenced {
        let node = lease.incarnation;
        return Err(misuse(
            format!("node incarnation {node}"),
            "only the log of a fenced incarnation can be given up in part",
        ));
    }
    // The checksum of that batch is not known here; 0 is compared with nothing.
    let lowered = |reached: Reached| Reached {
        batch: reached.batch.min(last),
        crc: 0,
        checkpoint: None,
        ..reached
    };
    Ok(NodeLease {
        seal: Some(last),
        reached: lease.reached.map(lowered),
        loss_accepted_ms: Some(at_ms),
        ..lease
    })
}

pub(crate) fn forgot_live(node: Incarnation) -> StoreError {
    misuse(format!("node incarnation {node}"), "the lease of a live incarnation cannot be removed")
}

pub(crate) fn created_twice(match_id: MatchId) -> StoreError {
    misuse(format!("match {match_id}"), "it exists already, with another row")
}
