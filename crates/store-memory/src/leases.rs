//! The lease port: each request is one step under the lock, durable when it is answered.

use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::backend;
use rekindle_store::{Leases, Renewal, StoreError, StoreResult};

use super::{MemoryStore, Op, Shared};

fn node_row(shared: &mut Shared, node: Incarnation) -> Result<&mut NodeLease, StoreError> {
    shared
        .nodes
        .get_mut(&node)
        .ok_or_else(|| StoreError::NotFound(format!("the lease of node incarnation {node}")))
}

/// Changes a lease that is live, and says whether it is.
fn if_live(lease: &mut NodeLease, change: impl FnOnce(&mut NodeLease)) -> Renewal {
    if lease.state == NodeState::Live {
        change(lease);
        Renewal::Live
    } else {
        Renewal::Fenced
    }
}

impl Leases for MemoryStore {
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::NodeLease(lease.incarnation), move |shared| {
            match shared.nodes.get(&lease.incarnation) {
                Some(found) if *found != lease => Err(backend::registered_twice(lease.incarnation)),
                _ => {
                    shared.nodes.insert(lease.incarnation, lease);
                    Ok(())
                }
            }
        }))
    }

    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal> {
        Box::pin(self.run(Op::NodeLease(node), move |shared| {
            Ok(if_live(node_row(shared, node)?, |lease| {
                lease.deadline_ms = deadline_ms;
                lease.reached = reached.or(lease.reached);
            }))
        }))
    }

    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal> {
        Box::pin(self.run(Op::NodeLease(node), move |shared| {
            let lease = node_row(shared, node)?;
            if lease.state == NodeState::Stopped {
                return Ok(Renewal::Live);
            }
            Ok(if_live(lease, |lease| lease.state = NodeState::Stopped))
        }))
    }

    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::NodeLease(node), move |shared| {
            node_row(shared, node)?.state = NodeState::Fenced;
            Ok(())
        }))
    }

    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo> {
        Box::pin(self.run(Op::NodeLease(node), move |shared| {
            let lease = node_row(shared, node)?;
            if lease.state != NodeState::Fenced {
                return Err(backend::sealed_unfenced(node));
            }
            Ok(*lease.seal.get_or_insert(last))
        }))
    }

    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::NodeLease(node), move |shared| {
            let lease = node_row(shared, node)?;
            *lease = backend::loss_accepted(lease.clone(), last, at_ms)?;
            Ok(())
        }))
    }

    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>> {
        Box::pin(self.run(Op::NodeLease(Incarnation::default()), |shared| {
            Ok(shared.nodes.values().cloned().collect())
        }))
    }

    fn node(&self, node: Incarnation) -> StoreResult<'_, Option<NodeLease>> {
        Box::pin(self.run(Op::NodeLease(node), move |shared| Ok(shared.nodes.get(&node).cloned())))
    }

    fn forget(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::NodeLease(node), move |shared| {
            if shared.nodes.get(&node).is_some_and(|lease| lease.state == NodeState::Live) {
                return Err(backend::forgot_live(node));
            }
            shared.nodes.remove(&node);
            Ok(())
        }))
    }

    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()> {
        Box::pin(self.run(
            Op::MatchLease,
            move |shared| match shared.matches.get(&lease.match_id) {
                Some(found) if *found != lease => Err(backend::created_twice(lease.match_id)),
                _ => {
                    backend::check_row(&lease)?;
                    shared.matches.insert(lease.match_id, lease);
                    Ok(())
                }
            },
        ))
    }

    fn compare_and_set(
        &self,
        lease: MatchLease,
    ) -> StoreResult<'_, Result<(), Option<MatchLease>>> {
        Box::pin(self.run(Op::MatchLease, move |shared| {
            let found = shared.matches.get(&lease.match_id);
            if found.is_none_or(|found| found.version.checked_add(1) != Some(lease.version)) {
                return Ok(Err(found.cloned()));
            }
            backend::check_row(&lease)?;
            if let Some(stands) = found {
                backend::check_successor(stands, &lease)?;
            }
            shared.matches.insert(lease.match_id, lease);
            Ok(Ok(()))
        }))
    }

    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>> {
        Box::pin(self.run(Op::MatchLease, move |shared| Ok(shared.matches.get(&match_id).cloned())))
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>> {
        Box::pin(self.run(Op::MatchLease, |shared| Ok(shared.matches.values().cloned().collect())))
    }

    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool> {
        Box::pin(self.run(Op::MatchLease, move |shared| {
            let Some(row) = shared.matches.get(&match_id) else { return Ok(true) };
            if !matches!(row.state, MatchState::Ended { .. }) {
                return Err(backend::removed_unended(match_id));
            }
            let same = row.version == version;
            if same {
                shared.matches.remove(&match_id);
            }
            Ok(same)
        }))
    }
}
