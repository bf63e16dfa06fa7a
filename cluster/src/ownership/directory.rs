//! Changes of rows in the match directory.

use rekindle_schema::MatchId;
use rekindle_schema::lease::MatchLease;
use rekindle_store::{Leases, StoreError};

/// What became of an [`update`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    /// The row stands as returned.
    Done(MatchLease),
    /// `change` declined: the row stands as it was.
    Declined(MatchLease),
}

/// Reads the row of a match, lets `change` alter it (or decline with `false`), and writes it back
/// by compare-and-set, again from a fresh read whenever another writer was faster. `change` must
/// not touch `version`.
///
/// `NotFound` if there is no such match.
pub async fn update(
    leases: &dyn Leases,
    match_id: MatchId,
    mut change: impl FnMut(&mut MatchLease) -> bool,
) -> Result<Updated, StoreError> {
    let missing = || StoreError::NotFound(format!("match {match_id}"));
    let mut row = leases.get(match_id).await?.ok_or_else(missing)?;
    loop {
        let mut wanted = row.clone();
        if !change(&mut wanted) {
            return Ok(Updated::Declined(row));
        }
        wanted.version = row.version + 1;
        match leases.compare_and_set(wanted.clone()).await? {
            Ok(()) => return Ok(Updated::Done(wanted)),
            Err(standing) => row = standing.ok_or_else(missing)?,
        }
    }
}
