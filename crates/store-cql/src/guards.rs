//! The guards of this store, and which of them a test leaves out to show that the suite notices.
//!
//! Products are built without the cargo feature `mutants`: [`Guards`] has no content then, each of
//! its questions has a constant answer, and there is no [`Mutant`]. Only development dependencies
//! turn the feature on (`cargo xtask layers` checks that).

use super::CqlOptions;

/// What a test breaks on purpose.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// The lease is not read after a write.
    NoVerify,
    /// The lease is read, and the batch acknowledged, without waiting for the write.
    AcknowledgeFirst,
    /// Checksums are not checked when reading.
    NoChecksums,
}

/// Which guards stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Mutant,
}

#[cfg(not(feature = "mutants"))]
impl Guards {
    pub(crate) const fn of(_: &CqlOptions) -> Self {
        Self {}
    }

    /// Whether the checksums of what is read are checked.
    pub(crate) const fn checksums(_: Self) -> bool {
        true
    }
}

#[cfg(feature = "mutants")]
impl Guards {
    pub(crate) const fn of(options: &CqlOptions) -> Self {
        Self { mutant: options.mutant }
    }

    pub(crate) fn checksums(this: Self) -> bool {
        this.mutant != Mutant::NoChecksums
    }
}
