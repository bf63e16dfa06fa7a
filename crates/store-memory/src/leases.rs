//! Leases, match directory and effects in memory: each request is one step under the lock, durable
//! when it is answered.

use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState, Reached};
use rekindle_schema::record::Effect;
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId};

use super::{MemoryStore, Op, Shared};
use rekindle_store::backend;
use rekindle_store::identity::{Fresh, Holder, StoreIdentity, first, next};
use rekindle_store::{EffectSink, Identity, Leases, Renewal, StoreError, StoreResult};

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

/// Memory is copied by nobody: its place is always the same.
const PLACE: &str = "memory";

fn highest(shared: &Shared) -> Option<Epoch> {
    shared.matches.values().map(|row| row.epoch).max()
}

impl Identity for MemoryStore {
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>> {
        Box::pin(self.run(Op::Identity, |shared| Ok(shared.identity.clone())))
    }

    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity> {
        Box::pin(self.run(Op::Identity, move |shared| {
            let highest = highest(shared);
            Ok(shared
                .identity
                .get_or_insert_with(|| first(fresh, PLACE.to_owned(), highest))
                .clone())
        }))
    }

    fn renew(&self, fresh: Fresh, because: &str, above: Epoch) -> StoreResult<'_, StoreIdentity> {
        let because = because.to_owned();
        Box::pin(self.run(Op::Identity, move |shared| {
            let highest = highest(shared).max(Some(above));
            let new = next(shared.identity.as_ref(), fresh, PLACE.to_owned(), &because, highest);
            shared.identity = Some(new.clone());
            Ok(new)
        }))
    }

    fn holder(&self, lease: &NodeLease) -> StoreResult<'_, Holder> {
        // Whoever has this memory is this process.
        let mine = lease.pid == std::process::id()
            && rekindle_store::process::start_time(lease.pid) == Some(lease.pid_start);
        Box::pin(async move { Ok(if mine { Holder::Holds } else { Holder::Unknown }) })
    }
}

impl EffectSink for MemoryStore {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(self.run(Op::Effect, move |shared| {
            let key = (match_id, effect.id);
            let new = !shared.effects.contains_key(&key);
            shared.effects.entry(key).or_insert(effect);
            Ok(new)
        }))
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        Box::pin(self.run(Op::Effect, |shared| {
            Ok(shared
                .effects
                .iter()
                .map(|(&(match_id, _), effect)| (match_id, effect.clone()))
                .collect())
        }))
    }
}
