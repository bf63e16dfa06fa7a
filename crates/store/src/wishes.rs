//! What operators want of nodes, and how far those have come, in the registry. Wishes are written
//! for operators (`rekindle node drain` and its like); the node of that name carries them out.

use std::collections::BTreeMap;

use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::wish::{DRAINS, DrainProgress, NODE_WISHES, NodeWish};

use crate::{Store, StoreError, registry};

/// Enters what is wanted of a node, whatever was wanted before.
pub async fn wish(store: &Store, wish: &NodeWish) -> Result<(), StoreError> {
    registry::set(store, &NodeWish::entry(&wish.node), wish.encode().into()).await
}

/// Takes back what was wanted of a node. Returns what that was, as it stood before.
pub async fn take_back(store: &Store, node: &str) -> Result<Option<NodeWish>, StoreError> {
    let before = of(store, node).await?;
    registry::unset(store, &NodeWish::entry(node)).await?;
    Ok(before)
}

/// What is wanted of a node, if anything. An entry that this release cannot read is an error: a
/// node that took it for none would go on as if nobody had asked.
pub async fn of(store: &Store, node: &str) -> Result<Option<NodeWish>, StoreError> {
    let name = NodeWish::entry(node);
    let Some(entry) = store.registry.get(&name).await? else { return Ok(None) };
    let unreadable = |problem: String| StoreError::Refused { place: name.clone(), problem };
    let wish = NodeWish::decode(&entry.value).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(wish))
}

/// What is wanted of all nodes, by name. An entry that cannot be read is left out, and that is
/// logged.
pub async fn all(store: &Store) -> Result<BTreeMap<String, NodeWish>, StoreError> {
    let entries = store.registry.list(NODE_WISHES).await?.into_iter();
    let wishes = entries.filter_map(|entry| readable(&entry, NodeWish::decode(&entry.value)));
    Ok(wishes.map(|wish| (wish.node.clone(), wish)).collect())
}

/// Says how far a node has come. Called by that node alone.
pub async fn report(store: &Store, progress: &DrainProgress) -> Result<(), StoreError> {
    registry::set(store, &DrainProgress::entry(&progress.node), progress.encode().into()).await
}

/// How far nodes have come, by name. An entry that cannot be read is left out, and that is logged.
pub async fn progress(store: &Store) -> Result<BTreeMap<String, DrainProgress>, StoreError> {
    let entries = store.registry.list(DRAINS).await?.into_iter();
    let read = entries.filter_map(|entry| readable(&entry, DrainProgress::decode(&entry.value)));
    Ok(read.map(|progress| (progress.node.clone(), progress)).collect())
}

/// Forgets how far a node has come: nothing is wanted of it any more. Called by that node alone.
pub async fn forget(store: &Store, node: &str) -> Result<(), StoreError> {
    registry::unset(store, &DrainProgress::entry(node)).await
}

fn readable<T>(
    entry: &RegistryEntry,
    read: Result<T, rekindle_schema::codec::CodecError>,
) -> Option<T> {
    read.inspect_err(|error| {
        tracing::warn!(code = "RK-CLUSTER-150", entry = entry.name, %error, "what the registry has \
            about a node cannot be read; it is left out");
    })
    .ok()
}
