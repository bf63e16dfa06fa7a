//! The audit port: what operators did. What is checked of an entry is in [`crate::audit`].
//!
//! Called by the node before and after it carries out what an operator asked for.

use rekindle_schema::audit::AuditEntry;

use super::StoreResult;

/// Which entries are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditQuery {
    /// The earliest time of an entry, in milliseconds since 1970.
    pub since_ms: u64,
    /// Entries are earlier than this, in milliseconds since 1970.
    pub until_ms: u64,
    /// The most entries that are returned.
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
