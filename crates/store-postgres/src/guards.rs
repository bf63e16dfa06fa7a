//! The guards of this store, and which of them a test leaves out to show that the suite notices.
//!
//! Products are built without the cargo feature `mutants`: [`Guards`] has no content then, each of
//! its questions has a constant answer, and there is no [`Mutant`]. Only development dependencies
//! turn the feature on (`cargo xtask layers` checks that).

use super::PostgresOptions;

/// What a test breaks on purpose.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// The lease is read without locking its row.
    FenceWithoutLock,
    /// A batch is acknowledged without a look at the lease.
    NoFence,
    /// The lease is read and the answer is yes before the batch is written.
    AcknowledgeFirst,
    /// Checksums of what is read are not looked at.
    NoChecksums,
}

/// Which guards stand: asked with the options of the store.
pub(crate) struct Guards;

/// Finds the owner's lease if it is live, and locks it until the batch is committed.
const LIVE_LEASE: &str =
    "SELECT FROM node_lease WHERE incarnation = $1 AND state = 'live' FOR SHARE";

#[cfg(not(feature = "mutants"))]
impl Guards {
    /// Whether the checksums of what is read are checked.
    pub(crate) const fn checksums(_: &PostgresOptions) -> bool {
        true
    }

    /// The query without which no batch is inserted. Parameter 1 is the owner's incarnation.
    pub(crate) const fn live_lease(_: &PostgresOptions) -> &'static str {
        LIVE_LEASE
    }
}

#[cfg(feature = "mutants")]
impl Guards {
    pub(crate) fn checksums(options: &PostgresOptions) -> bool {
        options.mutant != Mutant::NoChecksums
    }

    pub(crate) fn live_lease(options: &PostgresOptions) -> &'static str {
        match options.mutant {
            Mutant::NoFence | Mutant::AcknowledgeFirst => "SELECT $1::bigint",
            Mutant::FenceWithoutLock => {
                "SELECT FROM node_lease WHERE incarnation = $1 AND state = 'live'"
            }
            Mutant::None | Mutant::NoChecksums => LIVE_LEASE,
        }
    }
}
