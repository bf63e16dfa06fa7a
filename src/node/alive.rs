//! Whether nodes run on a store, for commands that need it to stand still.

use std::time::Duration;

use rekindle_cluster::suspicion::{Observer, PATIENCE_MS, Process};
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_store::{Store, StoreError};
use tokio::time::Instant;

use super::card;

/// Live leases whose node runs, or may run where nobody can look: leases of other hosts are watched for a few seconds. A lease that names no process is that
/// of a copy, and runs nowhere.
pub async fn running(store: &Store) -> Result<Vec<NodeLease>, StoreError> {
    let mut observer = Observer::default();
    let begun = Instant::now();
    loop {
        let mut nodes = store.leases.nodes().await?;
        nodes.retain(|node| node.state == NodeState::Live && node.pid != 0);
        let now = begun.elapsed().as_millis() as u64;
        let dead = observer.look(now, &nodes, |node| if runs_here(node) == Some(false) { Process::Gone } else { Process::Unknown });
        nodes.retain(|node| !dead.contains(&node.incarnation));
        let certain = nodes.iter().any(|node| runs_here(node) == Some(true));
        if nodes.is_empty() || certain || now > PATIENCE_MS + 1_000 {
            return Ok(nodes);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// `None`: it is a process of another host.
fn runs_here(node: &NodeLease) -> Option<bool> {
    let here = node.host.is_empty() || node.host == card::this_host();
    here.then(|| card::process_start(node.pid) == Some(node.pid_start))
}

#[cfg(test)]
mod tests {
    use rekindle_schema::Incarnation;
    use rekindle_schema::lease::DEFAULT_REGION;
    use rekindle_store::memory::MemoryStore;

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
