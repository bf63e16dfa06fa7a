//! What the registry has about standbys: what operators want, and what nodes follow.

use std::collections::BTreeMap;

use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::standby::{FollowReport, REPORTS, StandbyWish, WISHES};
use rekindle_schema::{Incarnation, MatchId};

use crate::{Store, StoreError, registry};

/// Sets how many standbys an operator wants of a match; `None`: what its game has.
pub async fn wish(
    store: &Store,
    match_id: MatchId,
    wish: Option<StandbyWish>,
) -> Result<(), StoreError> {
    let name = StandbyWish::entry(match_id);
    match wish {
        Some(wish) => registry::set(store, &name, wish.encode().into()).await,
        None => registry::unset(store, &name).await,
    }
}

/// What operators want of matches. An entry that cannot be read is left out, and that is logged.
pub async fn wishes(store: &Store) -> Result<BTreeMap<MatchId, StandbyWish>, StoreError> {
    let read = |entry: RegistryEntry| {
        let match_id = StandbyWish::match_of(&entry.name);
        match (match_id, StandbyWish::decode(&entry.value)) {
            (Some(match_id), Ok(wish)) => Some((match_id, wish)),
            _ => unreadable(&entry),
        }
    };
    Ok(store.registry.list(WISHES).await?.into_iter().filter_map(read).collect())
}

/// Enters what a node follows. Called by that node alone.
pub async fn report(store: &Store, report: &FollowReport) -> Result<(), StoreError> {
    let name = FollowReport::entry(report.incarnation);
    registry::set(store, &name, report.encode().into()).await
}

/// What nodes follow, as they said last. The caller leaves out those that are not live. An entry
/// that cannot be read is left out, and that is logged.
pub async fn reports(store: &Store) -> Result<BTreeMap<Incarnation, FollowReport>, StoreError> {
    let read = |entry: RegistryEntry| match FollowReport::decode(&entry.value) {
        Ok(report) if entry.name == FollowReport::entry(report.incarnation) => {
            Some((report.incarnation, report))
        }
        _ => unreadable(&entry),
    };
    Ok(store.registry.list(REPORTS).await?.into_iter().filter_map(read).collect())
}

fn unreadable<T>(entry: &RegistryEntry) -> Option<T> {
    tracing::warn!(
        code = "RK-CLUSTER-149",
        entry = entry.name,
        "an entry of the registry about \
        standbys cannot be read; it is left out"
    );
    None
}
