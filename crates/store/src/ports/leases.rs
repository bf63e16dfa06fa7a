//! The port of the rows that decide who runs what: leases of nodes, and the match directory.
//!
//! Called by the node that renews its lease, by takeovers, and by whoever lists matches.

use rekindle_schema::lease::{MatchLease, NodeLease, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId};

use super::StoreResult;

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
    /// Enters a new match, version 1. The same row again is harmless; `Refused` if another one is
    /// there, or if the row is malformed.
    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()>;
    /// Replaces a row if its version is `lease.version - 1`; `Ok(Err(row))` has the row that stands
    /// instead. `Refused` if the row is malformed
    /// ([`check_row`](crate::backend::check_row)) or, in stores that see it, would go back to an
    /// earlier epoch ([`check_successor`](crate::backend::check_successor)).
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
