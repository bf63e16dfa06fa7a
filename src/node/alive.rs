//! Whether nodes run on a store, for commands that need it to stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_cluster::ownership::suspicion::{Observer, PATIENCE_MS, Process};
use rekindle_schema::Incarnation;
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_store::identity::Holder;
use rekindle_store::{Store, StoreError};
use tokio::time::Instant;

use super::card;

/// Live leases whose node runs, or may run where nobody can look: leases of other hosts and of
/// stores on servers are watched until they move, for a few seconds. A lease that names no process
/// is that of a copy, and runs nowhere; so does one whose process has another store open.
pub async fn running(store: &Store) -> Result<Vec<NodeLease>, StoreError> {
    let mut observer = Observer::default();
    let begun = Instant::now();
    let mut first: BTreeMap<Incarnation, u64> = BTreeMap::new();
    loop {
        let mut nodes = store.leases.nodes().await?;
        nodes.retain(|node| node.state == NodeState::Live && node.pid != 0);
        let now = begun.elapsed().as_millis() as u64;
        let (mut here, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for node in &nodes {
            let moved =
                *first.entry(node.incarnation).or_insert(node.deadline_ms) != node.deadline_ms;
            match process(store, node).await? {
                Holder::Gone | Holder::Stranger => gone.insert(node.incarnation),
                Holder::Unknown if !moved => false,
                Holder::Holds | Holder::Unknown => here.insert(node.incarnation),
            };
        }
        let process = |node: &NodeLease| {
            if gone.contains(&node.incarnation) { Process::Gone } else { Process::Unknown }
        };
        let dead = observer.look(now, &nodes, process);
        nodes.retain(|node| !dead.contains(&node.incarnation));
        if !here.is_empty() {
            nodes.retain(|node| here.contains(&node.incarnation));
            return Ok(nodes);
        }
        if nodes.is_empty() || now > PATIENCE_MS + 1_000 {
            return Ok(nodes);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Whether the process of a lease is known to be gone: of one of another host nothing is known. A
/// lease that names no process is that of a copy.
pub fn is_gone(node: &NodeLease) -> bool {
    node.pid == 0 || is_here(node) && card::process_start(node.pid) != Some(node.pid_start)
}

/// Whether a lease names a process of this host.
pub fn is_here(node: &NodeLease) -> bool {
    node.host.is_empty() || node.host == card::this_host()
}

/// What is known of the process of a lease: of one of another host, nothing.
async fn process(store: &Store, node: &NodeLease) -> Result<Holder, StoreError> {
    if !is_here(node) {
        return Ok(Holder::Unknown);
    }
    if is_gone(node) {
        return Ok(Holder::Gone);
    }
    store.identity.holder(node).await
}

#[cfg(test)]
mod tests {
    use rekindle_schema::lease::DEFAULT_REGION;
    use rekindle_store_memory::MemoryStore;

    use super::*;

    fn lease(incarnation: u64, pid: u32, host: String) -> NodeLease {
        NodeLease {
            incarnation: Incarnation(incarnation),
            name: "n".to_owned(),
            state: NodeState::Live,
            pid,
            pid_start: card::process_start(pid).unwrap_or(1),
            deadline_ms: 1,
            seal: None,
            host,
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        }
    }

    #[tokio::test]
    async fn what_runs_is_told_from_what_ran() {
        let store = MemoryStore::new().store();
        // A copy, and a process that is gone.
        store.leases.register(lease(1, 0, String::new())).await.unwrap();
        store.leases.register(lease(2, u32::MAX, card::this_host())).await.unwrap();
        assert!(running(&store).await.unwrap().is_empty());
        store.leases.register(lease(3, std::process::id(), card::this_host())).await.unwrap();
        let found = running(&store).await.unwrap();
        assert_eq!(found.iter().map(|node| node.incarnation.0).collect::<Vec<_>>(), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_of_another_host_runs_if_it_renews_its_lease() {
        let store = MemoryStore::new().store();
        store.leases.register(lease(1, 7, "elsewhere".to_owned())).await.unwrap();
        store.leases.register(lease(2, 7, "elsewhere".to_owned())).await.unwrap();
        let renewed = tokio::spawn({
            let store = store.clone();
            async move {
                for deadline in 2.. {
                    let _ = store.leases.renew(Incarnation(2), deadline, None).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        });
        let found = running(&store).await.unwrap();
        renewed.abort();
        assert_eq!(found.iter().map(|node| node.incarnation.0).collect::<Vec<_>>(), [2]);
    }
}
