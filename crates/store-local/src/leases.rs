//! The lease port: rows of nodes and of matches, in `node.db`.

use std::time::Duration;

use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::backend;
use rekindle_store::{Leases, Renewal, StoreError, StoreResult};

use super::facts::{Rows, Table, decoded};
use super::watch::Watch;
use super::{LocalStore, blocking, fence};

/// Whoever waits longer than this to change a row is kept from it by a process that is stuck.
const HELD: Duration = Duration::from_millis(200);

/// The lease of one node.
pub(super) fn node(rows: &Rows<'_>, node: Incarnation) -> Result<Option<NodeLease>, StoreError> {
    let found = rows.get(Table::NodeLease, [node.0, 0, 0])?;
    found.map(|value| decoded(Table::NodeLease, NodeLease::decode(&value))).transpose()
}

pub(super) fn node_row(rows: &Rows<'_>, incarnation: Incarnation) -> Result<NodeLease, StoreError> {
    node(rows, incarnation)?
        .ok_or_else(|| StoreError::NotFound(format!("the lease of node incarnation {incarnation}")))
}

pub(super) fn put_node(rows: &Rows<'_>, lease: &NodeLease) -> Result<(), StoreError> {
    rows.put(Table::NodeLease, [lease.incarnation.0, 0, 0], Some(&lease.encode()))
}

pub(super) fn match_row(
    rows: &Rows<'_>,
    match_id: MatchId,
) -> Result<Option<MatchLease>, StoreError> {
    let found = rows.get(Table::MatchLease, [match_id.0, 0, 0])?;
    found.map(|value| decoded(Table::MatchLease, MatchLease::decode(&value))).transpose()
}

pub(super) fn put_match(rows: &Rows<'_>, lease: &MatchLease) -> Result<(), StoreError> {
    rows.put(Table::MatchLease, [lease.match_id.0, 0, 0], Some(&lease.encode()))
}

impl Leases for LocalStore {
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| match node(rows, lease.incarnation)? {
            Some(found) if found != lease => Err(backend::registered_twice(lease.incarnation)),
            Some(_) => Ok(()),
            None => put_node(rows, &lease),
        }))
    }

    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            self.watched(Watch::look_at_facts).await?;
            let renewal = self
                .facts
                .change(move |rows| {
                    let lease = node_row(rows, node)?;
                    if lease.state != NodeState::Live {
                        return Ok(Renewal::Fenced);
                    }
                    put_node(
                        rows,
                        &NodeLease { deadline_ms, reached: reached.or(lease.reached), ..lease },
                    )?;
                    Ok(Renewal::Live)
                })
                .await?;
            if renewal == Renewal::Live {
                // The log of a fenced node may go; that of a live one may not.
                self.watched(Watch::look).await?;
            }
            Ok(renewal)
        })
    }

    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            self.watched(Watch::look).await?;
            let stop = move |rows: &Rows<'_>| {
                let lease = node_row(rows, node)?;
                match lease.state {
                    NodeState::Fenced => Ok(Renewal::Fenced),
                    NodeState::Stopped => Ok(Renewal::Live),
                    NodeState::Live => {
                        put_node(rows, &NodeLease { state: NodeState::Stopped, ..lease })?;
                        Ok(Renewal::Live)
                    }
                }
            };
            self.facts.change(stop).await
        })
    }

    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let root = self.root.clone();
            // Killed within the change: a process that has said meanwhile that it stopped is not
            // live any more, and may end as it wants to.
            let change = self.facts.change(move |rows| {
                let lease = node_row(rows, node)?;
                match lease.state {
                    NodeState::Fenced => return Ok(()),
                    NodeState::Live => fence::kill(&root, &lease),
                    NodeState::Stopped => {}
                }
                put_node(rows, &NodeLease { state: NodeState::Fenced, ..lease })
            });
            tokio::pin!(change);
            if let Ok(done) = tokio::time::timeout(HELD, &mut change).await {
                return done;
            }
            // A process that was frozen in the middle of a transaction holds the lock that the
            // change needs: it is killed first.
            let lease = self.facts.look(move |rows| node_row(rows, node)).await?;
            if lease.state == NodeState::Live {
                let root = self.root.clone();
                blocking(move || {
                    fence::kill(&root, &lease);
                    Ok(())
                })
                .await?;
            }
            change.await
        })
    }

    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo> {
        Box::pin(self.facts.change(move |rows| {
            let lease = node_row(rows, node)?;
            match lease.seal {
                _ if lease.state != NodeState::Fenced => Err(backend::sealed_unfenced(node)),
                Some(seal) => Ok(seal),
                None => {
                    put_node(rows, &NodeLease { seal: Some(last), ..lease })?;
                    Ok(last)
                }
            }
        }))
    }

    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| {
            let lease = backend::loss_accepted(node_row(rows, node)?, last, at_ms)?;
            put_node(rows, &lease)
        }))
    }

    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>> {
        Box::pin(self.facts.look(|rows| {
            let found = rows.all(Table::NodeLease)?;
            found
                .iter()
                .map(|(_, value)| decoded(Table::NodeLease, NodeLease::decode(value)))
                .collect()
        }))
    }

    fn node(&self, incarnation: Incarnation) -> StoreResult<'_, Option<NodeLease>> {
        Box::pin(self.facts.look(move |rows| node(rows, incarnation)))
    }

    fn forget(&self, incarnation: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| match node(rows, incarnation)? {
            Some(lease) if lease.state == NodeState::Live => Err(backend::forgot_live(incarnation)),
            Some(_) => rows.put(Table::NodeLease, [incarnation.0, 0, 0], None),
            None => Ok(()),
        }))
    }

    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| match match_row(rows, lease.match_id)? {
            Some(found) if found != lease => Err(backend::created_twice(lease.match_id)),
            Some(_) => Ok(()),
            None => {
                backend::check_row(&lease)?;
                put_match(rows, &lease)
            }
        }))
    }

    fn compare_and_set(
        &self,
        lease: MatchLease,
    ) -> StoreResult<'_, Result<(), Option<MatchLease>>> {
        Box::pin(self.facts.change(move |rows| {
            let found = match_row(rows, lease.match_id)?;
            if found
                .as_ref()
                .is_none_or(|found| found.version.checked_add(1) != Some(lease.version))
            {
                return Ok(Err(found));
            }
            backend::check_row(&lease)?;
            if let Some(stands) = &found {
                backend::check_successor(stands, &lease)?;
            }
            put_match(rows, &lease).map(Ok)
        }))
    }

    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>> {
        Box::pin(self.facts.look(move |rows| match_row(rows, match_id)))
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>> {
        Box::pin(self.facts.look(|rows| {
            let found = rows.all(Table::MatchLease)?;
            found
                .iter()
                .map(|(_, value)| decoded(Table::MatchLease, MatchLease::decode(value)))
                .collect()
        }))
    }

    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool> {
        Box::pin(self.facts.change(move |rows| match match_row(rows, match_id)? {
            None => Ok(true),
            Some(row) if !matches!(row.state, MatchState::Ended { .. }) => {
                Err(backend::removed_unended(match_id))
            }
            Some(row) if row.version != version => Ok(false),
            Some(_) => rows.put(Table::MatchLease, [match_id.0, 0, 0], None).map(|()| true),
        }))
    }
}
