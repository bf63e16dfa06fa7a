//! Leases and the match directory: lightweight transactions only.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::backend;
use rekindle_store::{Leases, Renewal, StoreError, StoreResult};
use scylla::response::query_result::QueryRowsResult;

use super::driver::{Answer, Prepared, Values};
use super::{CqlStore, LISTS, MATCH_SHARDS, NODE_SHARDS, id, migrate, shard};

/// Before a transaction whose outcome is unknown is tried again.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) const LIVE: i32 = 0;
const STOPPED: i32 = 1;
const FENCED: i32 = 2;

fn state_number(state: NodeState) -> i32 {
    match state {
        NodeState::Live => LIVE,
        NodeState::Stopped => STOPPED,
        NodeState::Fenced => FENCED,
    }
}

fn state_of(number: i32) -> Option<NodeState> {
    match number {
        LIVE => Some(NodeState::Live),
        STOPPED => Some(NodeState::Stopped),
        FENCED => Some(NodeState::Fenced),
        _ => None,
    }
}

type NodeColumns<'row> = (i32, i64, Option<i64>, &'row [u8]);

fn no_lease(node: Incarnation) -> StoreError {
    StoreError::NotFound(format!("the lease of node incarnation {node}"))
}

impl CqlStore {
    /// Executes a transaction whose repetition is harmless, until its answer is known or no time is
    /// left.
    pub(super) async fn settled(
        &self,
        what: &'static str,
        prepared: &Prepared,
        values: Values<'_>,
    ) -> Result<Answer, StoreError> {
        let begun = Instant::now();
        let mut doubt = false;
        loop {
            match self.driver.transaction(what, prepared, values).await {
                Err(error @ StoreError::Unavailable(_)) => {
                    self.driver.meters().unknown();
                    if begun.elapsed() + PAUSE > self.driver.timeout() {
                        return Err(error);
                    }
                    if !doubt {
                        tracing::warn!(code = "RK-STORE-042", %error, what, "whether a transaction \
                            was applied is unknown; it is repeated");
                    }
                    doubt = true;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(mut answer) => {
                    answer.doubt = doubt;
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn node_rows(&self, rows: &QueryRowsResult) -> Result<Vec<NodeLease>, StoreError> {
        let unreadable =
            |error: &dyn std::fmt::Display| self.driver.unreadable("read leases", error);
        let mut found = Vec::new();
        for row in rows.rows::<NodeColumns<'_>>().map_err(|error| unreadable(&error))? {
            let (state, deadline, seal, value) = row.map_err(|error| unreadable(&error))?;
            let lease = NodeLease::decode(value)
                .map_err(|error| migrate::undecodable(&self.driver, "node_lease", &error))?;
            let state = state_of(state)
                .ok_or_else(|| unreadable(&format!("{state} is no state of a node")))?;
            found.push(NodeLease {
                state,
                deadline_ms: deadline as u64,
                seal: seal.map(|seal| BatchNo(seal as u64)),
                ..lease
            });
        }
        Ok(found)
    }

    fn match_rows(&self, rows: &QueryRowsResult) -> Result<Vec<MatchLease>, StoreError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            self.driver.unreadable("read the match directory", error)
        };
        let rows = rows.rows::<(&[u8],)>().map_err(|error| unreadable(&error))?;
        let decode = |row: Result<(&[u8],), scylla::errors::DeserializationError>| {
            let (value,) = row.map_err(|error| unreadable(&error))?;
            MatchLease::decode(value)
                .map_err(|error| migrate::undecodable(&self.driver, "match_lease", &error))
        };
        rows.map(decode).collect()
    }

    async fn node_row(&self, node: Incarnation) -> Result<Option<NodeLease>, StoreError> {
        let key = (self.space(), shard(node.0, NODE_SHARDS), id(node.0));
        let rows = self.driver.rows("read a lease", &self.statements.node_row, &key).await?;
        Ok(self.node_rows(&rows)?.pop())
    }

    async fn match_row(&self, match_id: MatchId) -> Result<Option<MatchLease>, StoreError> {
        let key = (self.space(), shard(match_id.0, MATCH_SHARDS), id(match_id.0));
        let rows = self.driver.rows("read a match's row", &self.statements.match_row, &key).await?;
        Ok(self.match_rows(&rows)?.pop())
    }

    /// The state of a node's lease, as the verifying read sees it; `None`: it has none.
    pub(super) async fn is_live(&self, node: Incarnation) -> Result<bool, StoreError> {
        let key = (self.space(), shard(node.0, NODE_SHARDS), id(node.0));
        let what = "verify a lease";
        let rows = self.driver.rows(what, &self.statements.node_verify, &key).await?;
        let state: Option<(i32,)> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        Ok(state == Some((LIVE,)))
    }

    async fn turn(&self, match_id: MatchId) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[shard(match_id.0, MATCH_SHARDS) as usize].lock().await
    }

    async fn set(&self, lease: MatchLease) -> Result<Result<(), Option<MatchLease>>, StoreError> {
        let what = "change a match's row";
        backend::check_row(&lease)?;
        let _turn = self.turn(lease.match_id).await;
        let (key, value) =
            ((shard(lease.match_id.0, MATCH_SHARDS), id(lease.match_id.0)), lease.encode());
        let Some(before) = lease.version.checked_sub(1) else {
            return Ok(Err(self.match_row(lease.match_id).await?));
        };
        let begun = Instant::now();
        let mut doubt = false;
        loop {
            let values =
                (id(lease.version), value.as_slice(), self.space(), key.0, key.1, id(before));
            match self.driver.transaction(what, &self.statements.match_set, &values).await {
                Ok(answer) if answer.applied => return Ok(Ok(())),
                Ok(_) => {
                    let stands = self.match_row(lease.match_id).await?;
                    // An earlier attempt of ours may have been applied after all.
                    let ours = doubt && stands.as_ref() == Some(&lease);
                    return Ok(if ours { Ok(()) } else { Err(stands) });
                }
                Err(error @ StoreError::Unavailable(_)) => {
                    self.driver.meters().unknown();
                    tracing::warn!(code = "RK-STORE-042", %error, what, "whether a transaction was \
                        applied is unknown; it is read back");
                    doubt = true;
                    match self.match_row(lease.match_id).await {
                        Ok(stands) if stands.as_ref() == Some(&lease) => return Ok(Ok(())),
                        Ok(Some(stands)) if stands.version != before => {
                            return Ok(Err(Some(stands)));
                        }
                        _ if begun.elapsed() + PAUSE > self.driver.timeout() => return Err(error),
                        _ => tokio::time::sleep(PAUSE).await,
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Leases for CqlStore {
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let (node, value) = (lease.incarnation, lease.encode());
            let seal = lease.seal.map(|seal| id(seal.0));
            let values = (
                self.space(),
                shard(node.0, NODE_SHARDS),
                id(node.0),
                state_number(lease.state),
                id(lease.deadline_ms),
                seal,
                value.as_slice(),
            );
            let what = "register a node";
            let answer = self.settled(what, &self.statements.node_register, &values).await?;
            if answer.applied || self.node_row(node).await?.as_ref() == Some(&lease) {
                return Ok(());
            }
            Err(backend::registered_twice(node))
        })
    }

    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            let what = "renew a lease";
            let key = (shard(node.0, NODE_SHARDS), id(node.0));
            // The encoded lease is written by whoever renews it alone, as long as it is live: what
            // is read here nobody else changes.
            let standing = match reached {
                Some(_) => self.node_row(node).await?,
                None => None,
            };
            let answer = if let Some(lease) = standing {
                let value = NodeLease { reached, ..lease }.encode();
                let values = (id(deadline_ms), value.as_slice(), self.space(), key.0, key.1);
                self.settled(what, &self.statements.node_renew_reached, &values).await?
            } else {
                let values = (id(deadline_ms), self.space(), key.0, key.1);
                self.settled(what, &self.statements.node_renew, &values).await?
            };
            match answer.number("state") {
                _ if answer.applied => Ok(Renewal::Live),
                Some(_) => Ok(Renewal::Fenced),
                None => Err(no_lease(node)),
            }
        })
    }

    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            let values = (self.space(), shard(node.0, NODE_SHARDS), id(node.0));
            let what = "stop a lease";
            let answer = self.settled(what, &self.statements.node_stop, &values).await?;
            match answer.number("state") {
                _ if answer.applied => Ok(Renewal::Live),
                Some(state) if state == i64::from(STOPPED) => Ok(Renewal::Live),
                Some(_) => Ok(Renewal::Fenced),
                None => Err(no_lease(node)),
            }
        })
    }

    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let values = (self.space(), shard(node.0, NODE_SHARDS), id(node.0));
            let what = "fence a node";
            let answer = self.settled(what, &self.statements.node_fence, &values).await?;
            if answer.applied || answer.number("state").is_some() {
                Ok(())
            } else {
                Err(no_lease(node))
            }
        })
    }

    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo> {
        Box::pin(async move {
            let values = (id(last.0), self.space(), shard(node.0, NODE_SHARDS), id(node.0));
            let what = "seal a log";
            let answer = self.settled(what, &self.statements.node_seal, &values).await?;
            if answer.applied {
                return Ok(last);
            }
            let lease = self.node_row(node).await?.ok_or_else(|| no_lease(node))?;
            match lease.seal {
                _ if lease.state != NodeState::Fenced => Err(backend::sealed_unfenced(node)),
                Some(seal) => Ok(seal),
                None => Err(StoreError::Unavailable(format!(
                    "{}: the seal of log {node} was changing",
                    self.driver.place()
                ))),
            }
        })
    }

    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let lease = self.node_row(node).await?.ok_or_else(|| no_lease(node))?;
            let value = backend::loss_accepted(lease, last, at_ms)?.encode();
            let values = (
                id(last.0),
                value.as_slice(),
                self.space(),
                shard(node.0, NODE_SHARDS),
                id(node.0),
            );
            let what = "accept a loss";
            let answer = self.settled(what, &self.statements.node_accept, &values).await?;
            if answer.applied { Ok(()) } else { Err(no_lease(node)) }
        })
    }

    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>> {
        Box::pin(async move {
            let list = async |shard: u64| {
                let (what, key) = ("list nodes", (self.space(), shard as i32));
                self.driver
                    .all(what, &self.statements.node_rows, &key, |rows| self.node_rows(rows))
                    .await
            };
            // Boxed: behind a closure the future would not be `Send` for callers that spawn this.
            let lists: Vec<futures::future::BoxFuture<'_, _>> =
                (0..NODE_SHARDS).map(|shard| Box::pin(list(shard)) as _).collect();
            let mut all: Vec<NodeLease> =
                futures::stream::iter(lists).buffer_unordered(LISTS).try_concat().await?;
            all.sort_by_key(|lease| lease.incarnation);
            Ok(all)
        })
    }

    fn node(&self, node: Incarnation) -> StoreResult<'_, Option<NodeLease>> {
        Box::pin(self.node_row(node))
    }

    fn forget(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let values = (self.space(), shard(node.0, NODE_SHARDS), id(node.0));
            let what = "forget a node";
            let answer = self.settled(what, &self.statements.node_forget, &values).await?;
            let live = answer.number("state") == Some(i64::from(LIVE));
            if !answer.applied && live { Err(backend::forgot_live(node)) } else { Ok(()) }
        })
    }

    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()> {
        Box::pin(async move {
            backend::check_row(&lease)?;
            let (match_id, value) = (lease.match_id, lease.encode());
            let values = (
                self.space(),
                shard(match_id.0, MATCH_SHARDS),
                id(match_id.0),
                id(lease.version),
                value.as_slice(),
            );
            let what = "enter a match";
            let _turn = self.turn(match_id).await;
            let answer = self.settled(what, &self.statements.match_create, &values).await?;
            if answer.applied
                || answer.bytes("value") == Some(value.as_slice())
                || self.match_row(match_id).await?.as_ref() == Some(&lease)
            {
                return Ok(());
            }
            Err(backend::created_twice(match_id))
        })
    }

    fn compare_and_set(
        &self,
        lease: MatchLease,
    ) -> StoreResult<'_, Result<(), Option<MatchLease>>> {
        Box::pin(self.set(lease))
    }

    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>> {
        Box::pin(self.match_row(match_id))
    }

    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let Some(row) = self.match_row(match_id).await? else { return Ok(true) };
            if !matches!(row.state, MatchState::Ended { .. }) {
                return Err(backend::removed_unended(match_id));
            }
            if row.version != version {
                return Ok(false);
            }
            let values =
                (self.space(), shard(match_id.0, MATCH_SHARDS), id(match_id.0), id(version));
            let what = "remove a match's row";
            let _turn = self.turn(match_id).await;
            let answer = self.settled(what, &self.statements.match_remove, &values).await?;
            // Without a version there is no row: an attempt whose answer was lost removed it, or
            // somebody else did.
            Ok(answer.applied || answer.number("version").is_none())
        })
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>> {
        Box::pin(async move {
            let list = async |shard: u64| {
                let (what, key) = ("list matches", (self.space(), shard as i32));
                self.driver
                    .all(what, &self.statements.match_rows, &key, |rows| self.match_rows(rows))
                    .await
            };
            let lists: Vec<futures::future::BoxFuture<'_, _>> =
                (0..MATCH_SHARDS).map(|shard| Box::pin(list(shard)) as _).collect();
            let mut all: Vec<MatchLease> =
                futures::stream::iter(lists).buffer_unordered(LISTS).try_concat().await?;
            all.sort_by_key(|lease| lease.match_id);
            Ok(all)
        })
    }
}

// The conditions `state < 2` of a fence and `state > 0` of forgetting rest on these numbers.
const _: () = assert!(LIVE == 0 && LIVE < STOPPED && STOPPED < FENCED && FENCED == 2);
