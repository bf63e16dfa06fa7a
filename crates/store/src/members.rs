//! Members in the registry: what each node says of itself. Written by the node alone; an entry of
//! an incarnation whose lease is not live counts for nothing.

use std::collections::BTreeMap;

use rekindle_schema::Incarnation;
use rekindle_schema::lease::NodeState;
use rekindle_schema::member::{MEMBERS, Member};
use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::standby::FollowReport;

use crate::{Store, StoreError, registry};

/// Enters or changes what a node says of itself. Called by that node, once it can be reached and
/// whenever something of it changes.
pub async fn announce(store: &Store, member: &Member) -> Result<(), StoreError> {
    registry::set(store, &Member::entry(member.incarnation), member.encode().into()).await
}

/// Removes what a node said of itself, and of what it follows. Called by the node at a clean stop,
/// and by whoever forgets the lease of its incarnation. Harmless to repeat.
pub async fn withdraw(store: &Store, incarnation: Incarnation) -> Result<(), StoreError> {
    registry::unset(store, &Member::entry(incarnation)).await?;
    registry::unset(store, &FollowReport::entry(incarnation)).await
}

/// The members whose leases are live. One that cannot be read is left out, and that is logged.
pub async fn live(store: &Store) -> Result<BTreeMap<Incarnation, Member>, StoreError> {
    // Entries first: a node registers its lease before it says where it is.
    let entries = store.registry.list(MEMBERS).await?;
    let nodes = store.leases.nodes().await?;
    let is_live = |incarnation: Incarnation| {
        nodes.iter().any(|node| node.incarnation == incarnation && node.state == NodeState::Live)
    };
    let read = |entry: RegistryEntry| match Member::decode(&entry.value) {
        Ok(member) if entry.name == Member::entry(member.incarnation) => Some(member),
        Ok(member) => {
            tracing::warn!(
                code = "RK-STORE-131", entry = entry.name, of = %member.incarnation,
                "an entry of the registry is of another member than its name says; it is left out"
            );
            None
        }
        Err(error) => {
            tracing::warn!(code = "RK-STORE-131", entry = entry.name, %error, "a member's entry in \
                the registry cannot be read; it is left out");
            None
        }
    };
    let members = entries.into_iter().filter_map(read);
    let members = members.filter(|member| is_live(member.incarnation));
    Ok(members.map(|member| (member.incarnation, member)).collect())
}
