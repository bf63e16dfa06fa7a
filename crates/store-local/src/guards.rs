//! The guards of this store, and which of them a test leaves out to show that the suite notices.
//!
//! Products are built without the cargo feature `mutants`: [`Guards`] has no content then, each of
//! its questions has a constant answer, and there is no [`Mutant`]. Only development dependencies
//! turn the feature on (`cargo xtask layers` checks that).

use super::LocalOptions;

/// What a test breaks on purpose.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// The checksums of entries are not checked when they are read.
    NoChecksums,
}

/// Which guards stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    #[cfg(feature = "mutants")]
    mutant: Mutant,
}

#[cfg(not(feature = "mutants"))]
impl Guards {
    pub(crate) const fn of(_: &LocalOptions) -> Self {
        Self {}
    }

    /// All guards, whatever the options say.
    pub(crate) const fn all() -> Self {
        Self {}
    }

    /// Whether the checksums of entries are checked when they are read.
    pub(crate) const fn checksums(_: Self) -> bool {
        true
    }
}

#[cfg(feature = "mutants")]
impl Guards {
    pub(crate) const fn of(options: &LocalOptions) -> Self {
        Self { mutant: options.mutant }
    }

    pub(crate) const fn all() -> Self {
        Self { mutant: Mutant::None }
    }

    pub(crate) fn checksums(this: Self) -> bool {
        this.mutant != Mutant::NoChecksums
    }
}
