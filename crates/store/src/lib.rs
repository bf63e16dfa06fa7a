//! Durable storage of matches: ports, their conformance suite, and backends.
//!
//! * [`port`]: what the node asks of a store.
//! * [`chains`]: full checkpoints and the deltas on them: which can be restored, which must be kept.
//! * [`history`]: a match's checkpoint and records, put together from the logs that its lineage names.
//! * [`memory`]: the backend of the simulation. [`local`]: the default backend, a directory.
//! * [`migration`]: versions of the tables of remote stores.
//! * [`conformance`]: what every backend must do, as tests.
//!
//! This crate is not responsible for what a record means, for who may write (that is `rekindle-cluster`), or for when to flush
//! (that is `rekindle-actors`).

pub mod chains;
pub mod conformance;
pub mod history;
pub mod local;
pub mod memory;
pub mod migration;
pub mod port;

use std::sync::Arc;

use rekindle_schema::batch::{BATCH_MAGIC, Batch, Envelope, MAX_BATCH};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{Incarnation, MatchId};

pub use port::{Checkpoints, EffectSink, Journal, Leases, LogInfo, Renewal, StoreError, StoreResult, Tail};

/// The largest state of a checkpoint, in bytes.
pub const MAX_CHECKPOINT: usize = 256 << 20;

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
}

/// What every backend checks of a batch before it writes it: size, checksums, and that it is the batch that it is said to be.
pub(crate) fn check_batch(batch: &Batch) -> Result<Envelope, StoreError> {
    if batch.bytes.len() > MAX_BATCH {
        return Err(StoreError::TooLarge { what: "a batch", size: batch.bytes.len(), limit: MAX_BATCH });
    }
    let refuse = |problem: String| StoreError::Corrupt {
        place: format!("batch {} for log {}, before it was written", batch.number, batch.incarnation),
        problem,
    };
    let envelope = Envelope::parse(&batch.bytes, BATCH_MAGIC, "batch").map_err(|error| refuse(error.to_string()))?;
    envelope.check(&batch.bytes, "batch").map_err(|error| refuse(error.to_string()))?;
    if (envelope.log, envelope.number) != (batch.incarnation, batch.number) || batch.number.0 == 0 {
        return Err(refuse(format!("its bytes say batch {} of log {}", envelope.number, envelope.log)));
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
    Err(StoreError::Corrupt { place: format!("checkpoint of match {} at seq {}", meta.match_id, meta.seq), problem })
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

pub(crate) fn forgot_live(node: Incarnation) -> StoreError {
    misuse(format!("node incarnation {node}"), "the lease of a live incarnation cannot be removed")
}

pub(crate) fn created_twice(match_id: MatchId) -> StoreError {
    misuse(format!("match {match_id}"), "it exists already, with another row")
}
