//! The checkpoint port: whole states of matches, and deltas on them, each with its manifest.
//!
//! Called by the checkpointer (put, trim) and by histories (list, get).

use bytes::Bytes;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{MatchId, Seq};

use super::StoreResult;
use crate::StoreError;

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
