//! Versions of the tables of remote stores. Opening a store never changes its tables;
//! `rekindle store migrate` does.

use crate::StoreError;

/// How the tables of a store compare with those that this release knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// There are none yet.
    Missing,
    /// An earlier release made them.
    Older {
        /// Their version.
        found: u32,
        /// The version that this release needs.
        known: u32,
    },
    /// They are as this release needs them.
    Current {
        /// Their version.
        version: u32,
    },
    /// A later release made them.
    Newer {
        /// Their version.
        found: u32,
        /// The version that this release needs.
        known: u32,
    },
}

impl SchemaState {
    /// Compares the version that was found, if any, with the one that this release needs.
    pub fn of(found: Option<u32>, known: u32) -> Self {
        match found {
            None => Self::Missing,
            Some(found) if found < known => Self::Older { found, known },
            Some(found) if found > known => Self::Newer { found, known },
            Some(version) => Self::Current { version },
        }
    }

    /// `Refused` unless the tables are as this release needs them; says what to do. `place` names
    /// the store, without secrets.
    pub fn require_current(self, place: &str) -> Result<(), StoreError> {
        let problem = match self {
            Self::Current { .. } => return Ok(()),
            Self::Missing => {
                "it has no tables of Rekindle yet; make them with `rekindle store migrate`"
                    .to_owned()
            }
            Self::Older { found, known } => {
                format!(
                    "its tables have version {found}, this release needs {known}; bring them up to \
                     date with `rekindle store migrate`"
                )
            }
            Self::Newer { found, known } => {
                format!(
                    "its tables have version {found}, this release knows {known}: a newer release \
                     made them; use that one"
                )
            }
        };
        Err(StoreError::Refused { place: place.to_owned(), problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_this_release_are_used() {
        assert!(SchemaState::of(Some(3), 3).require_current("db").is_ok());
        for (found, word) in
            [(None, "store migrate"), (Some(2), "store migrate"), (Some(4), "newer release")]
        {
            let error = SchemaState::of(found, 3).require_current("db").unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("db"), "{error}");
        }
    }
}
