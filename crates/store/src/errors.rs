//! Why a store could not do what it was asked: one error for all ports and backends.
//!
//! Made by backends, and by what all backends share; handled by whoever called the port. An error
//! says whether the same request may succeed later ([`StoreError::is_transient`]).

use rekindle_schema::{BatchNo, Incarnation};

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// This incarnation was fenced: another node owns its matches. Terminal for the process.
    #[error(
        "RK-STORE-001: incarnation {0} is fenced: another node took its matches; this process must \
         end"
    )]
    Fenced(Incarnation),
    /// A batch with this number exists with other bytes: two writers share a log.
    #[error(
        "RK-STORE-002: batch {number} of log {log} exists with other content: two writers share \
         one log"
    )]
    Conflict {
        /// The log, named by its writer.
        log: Incarnation,
        /// The number of the batch that was to be appended.
        number: BatchNo,
    },
    /// A batch would leave a hole in the log.
    #[error("RK-STORE-003: batch {got} of log {log} does not follow batch {last}")]
    Gap {
        /// The log, named by its writer.
        log: Incarnation,
        /// The last batch that is there.
        last: BatchNo,
        /// The batch that was to be appended.
        got: BatchNo,
    },
    /// The device failed. What was written of a log is unknown then, and a failed write or fsync is
    /// never tried again: that is terminal. Whoever only read may try again.
    #[error("RK-STORE-004: {what} {path}: {cause}; {}", advice(what))]
    Io {
        /// What was being done, one word: `write`, `sync`, `open`, ...
        what: &'static str,
        /// The file or directory it was done to.
        path: String,
        /// The words of the operating system.
        cause: String,
    },
    /// Stored bytes are not what was written.
    #[error(
        "RK-STORE-005: {place}: {problem}; run `rekindle verify` and restore the file from a backup"
    )]
    Corrupt {
        /// File and offset, or table and key.
        place: String,
        /// The check that failed, and what it found.
        problem: String,
    },
    /// The store cannot be reached or did not answer in time: whether the request took effect is
    /// unknown.
    #[error("RK-STORE-006: {0}; the request will be repeated")]
    Unavailable(String),
    /// Larger than the store takes.
    #[error("RK-STORE-007: {what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What is too large, in words: `a batch`, `a checkpoint`, ...
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most bytes that the store takes.
        limit: usize,
    },
    /// More is waiting than the store's queue takes.
    #[error("RK-STORE-008: the store is overloaded: {0}")]
    Overloaded(String),
    /// Not there.
    #[error("RK-STORE-009: {0} does not exist")]
    NotFound(String),
    /// The request contradicts what is stored; it was not carried out.
    #[error("RK-STORE-010: {place}: {problem}")]
    Refused {
        /// The row, log or address that the request was about.
        place: String,
        /// The reason, in words.
        problem: String,
    },
    /// What is written arrives in files that nobody will find again. Terminal for the process.
    #[error(
        "RK-STORE-100: {place}: {problem}; nothing that is written now would be found again, so \
         this process ends: put the files back, or start on another store"
    )]
    Misplaced {
        /// The file that is not in its place any more.
        place: String,
        /// What became of it, in words: removed, replaced, covered.
        problem: String,
    },
}

/// What a failed operation on a file means for whoever asked for it.
fn advice(what: &str) -> &'static str {
    match what {
        "write" | "sync" | "cut" | "change" => {
            "what of it reached the device is unknown, so the process must end and recover"
        }
        "read" | "open" | "list" | "read the size of" => {
            "nothing was changed: mend the path, its permissions or the device, and try again"
        }
        _ => "mend the path, its permissions or the device, and try again",
    }
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overloaded(_))
    }

    /// Whether it tells of the end of a file that is no whole entry and has nothing behind it: what
    /// a process that died has begun to write, or one that lives is writing now.
    pub fn is_torn_tail(&self) -> bool {
        matches!(self, Self::Corrupt { problem, .. } if problem.starts_with(TORN_TAIL))
    }
}

/// How the problem of an entry begins that was probably cut off as it was written.
pub const TORN_TAIL: &str = "possibly a torn tail, the last entry cut off as it was written";
