//! The journal port: logs of incarnations, one writer each, batches without gaps.
//!
//! Called by the journal actor (append), by takeovers (tail, settle, read), by histories (read) and
//! by trimming.

use rekindle_schema::batch::Batch;
use rekindle_schema::{BatchNo, Incarnation};

use super::StoreResult;

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

/// One log, as it lies on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    /// The log, named by its writer.
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
