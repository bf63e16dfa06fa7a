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
/// not touch `match_id` and `version`, nor lower the epoch.
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
        assert_eq!(wanted.version, row.version, "a change of match {match_id} sets the version");
        assert!(wanted.epoch >= row.epoch, "a change of match {match_id} lowers its epoch");
        assert_eq!(wanted.match_id, match_id, "a change renames match {match_id}");
        wanted.version = row.version + 1;
        match leases.compare_and_set(wanted.clone()).await? {
            Ok(()) => return Ok(Updated::Done(wanted)),
            Err(standing) => row = standing.ok_or_else(missing)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_schema::lease::{DEFAULT_REGION, MatchSpec, MatchState};
    use rekindle_schema::{Epoch, Incarnation};
    use rekindle_store_memory::MemoryStore;

    use super::*;

    async fn change(change: impl FnMut(&mut MatchLease) -> bool) -> Updated {
        let store = MemoryStore::new().store();
        let spec = MatchSpec {
            game: "test".into(),
            config: Bytes::new(),
            seed: 1,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        };
        let row = MatchLease {
            match_id: MatchId(1),
            version: 1,
            epoch: Epoch(3),
            incarnation: Incarnation(1),
            state: MatchState::Running,
            attempts: 0,
            lineage: Vec::new(),
            spec,
            region: DEFAULT_REGION.into(),
        };
        store.leases.create(row).await.unwrap();
        update(&*store.leases, MatchId(1), change).await.unwrap()
    }

    #[tokio::test]
    async fn a_change_raises_the_version_by_one() {
        let done = change(|row| {
            row.attempts += 1;
            true
        });
        assert!(matches!(done.await, Updated::Done(row) if (row.version, row.attempts) == (2, 1)));
        assert!(matches!(change(|_| false).await, Updated::Declined(row) if row.version == 1));
    }

    #[tokio::test]
    #[should_panic = "sets the version"]
    async fn a_change_that_sets_the_version_is_refused() {
        change(|row| {
            row.version += 1;
            true
        })
        .await;
    }

    #[tokio::test]
    #[should_panic = "lowers its epoch"]
    async fn a_change_that_lowers_the_epoch_is_refused() {
        change(|row| {
            row.epoch = Epoch(2);
            true
        })
        .await;
    }
}
