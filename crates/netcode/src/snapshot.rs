//! What both ends of the snapshot protocol share: errors and the overall contract.
//!
//! A snapshot of tick T is a delta of what the client knows as of an acknowledged tick, its
//! *baseline*. Both ends hold, for each snapshot that may still become a baseline, the list of
//! entities that the client knows after it; the sender holds no values but where in the shared
//! [`ViewHistory`](crate::ViewHistory) they stand.

use rekindle_schema::{Epoch, Tick};

use crate::layout::SchemaError;

/// Why a datagram gave no new view. None of these is fatal: the next snapshot may be fine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It ends too early.
    #[error("RK-NET-010: the snapshot ends in the middle of a value")]
    Truncated,
    /// Another kind or version of datagram.
    #[error("RK-NET-011: {0:#04x} is not the first byte of a snapshot of this version")]
    Kind(u8),
    /// A value that no encoder writes.
    #[error("RK-NET-012: malformed snapshot: {0}")]
    Malformed(&'static str),
    /// It was received before.
    #[error("RK-NET-013: the snapshot of tick {0} was received before")]
    Duplicate(Tick),
    /// It is a delta of something that is no longer, or never was, known here. Happens to snapshots
    /// that arrive very late.
    #[error(
        "RK-NET-014: the snapshot of tick {tick} builds on tick {baseline}, which is not known \
         (any more)"
    )]
    UnknownBaseline {
        /// The tick of the snapshot that was received.
        tick: Tick,
        /// What it builds on.
        baseline: Tick,
    },
    /// It is from an earlier ownership of the match.
    #[error("RK-NET-015: a snapshot of epoch {found}, the match is in epoch {current}")]
    StaleEpoch {
        /// The epoch that the snapshot carries.
        found: Epoch,
        /// The newest seen.
        current: Epoch,
    },
    /// It is older than all that could still build on it.
    #[error("RK-NET-016: the snapshot of tick {0} is too old to be of use")]
    TooOld(Tick),
    /// The schema that the receiver was made with cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// What one call of [`crate::SnapshotSender::encode`] did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct EncodeStats {
    /// Length of the datagram; 0 if none was made: the budget does not even hold the header, or the
    /// view is not newer than the last.
    pub bytes: usize,
    /// What it is a delta of; `None` for a full snapshot.
    pub baseline: Option<Tick>,
    /// Entities of the view that concern this client.
    pub visible: usize,
    /// Entities whose change, appearance or removal the snapshot carries.
    pub sent: usize,
    /// Entities that did not fit and wait.
    pub deferred: usize,
    /// The same had been encoded for another session, and was copied.
    pub shared: bool,
}
