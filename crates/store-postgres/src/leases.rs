//! The lease port: each request is one statement that decides and changes at once.

use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::backend;
use rekindle_store::{Leases, Renewal, StoreError, StoreResult};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::convert::{bound, column, corrupt, count, decoded, id};
use super::pools::Lane;
use super::{Inner, PostgresStore};

const NODES: &str = "node_lease";
const MATCHES: &str = "match_lease";

fn node_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Live => "live",
        NodeState::Stopped => "stopped",
        NodeState::Fenced => "fenced",
    }
}

fn match_word(state: &MatchState) -> &'static str {
    match state {
        MatchState::Running => "running",
        MatchState::Parked { .. } => "parked",
        MatchState::Ended { .. } => "ended",
    }
}

/// Columns (lease, state, deadline, seal): the encoded lease as it was registered, overruled by
/// what changed since.
fn node_lease(row: &Row) -> Result<NodeLease, StoreError> {
    let mut lease = decoded(NODES, NodeLease::decode(column(row, 0, NODES)?))?;
    lease.state = match column(row, 1, NODES)? {
        "live" => NodeState::Live,
        "stopped" => NodeState::Stopped,
        "fenced" => NodeState::Fenced,
        other => {
            return Err(corrupt(
                format!("table {NODES}"),
                format!("the state of node incarnation {} is `{other}`", lease.incarnation),
            ));
        }
    };
    lease.deadline_ms = column::<i64>(row, 2, NODES)?.cast_unsigned();
    lease.seal = column::<Option<i64>>(row, 3, NODES)?.map(|seal| BatchNo(seal.cast_unsigned()));
    Ok(lease)
}

fn match_lease(row: &Row) -> Result<MatchLease, StoreError> {
    decoded(MATCHES, MatchLease::decode(column(row, 0, MATCHES)?))
}

fn unknown(node: Incarnation) -> StoreError {
    StoreError::NotFound(format!("the lease of node incarnation {node}"))
}

impl Inner {
    pub(super) async fn facts(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        self.pools.rows(Lane::Facts, doing, sql, parameters).await
    }

    pub(super) async fn node_row(
        &self,
        node: Incarnation,
    ) -> Result<Option<NodeLease>, StoreError> {
        let sql = "SELECT lease, state, deadline_ms, seal FROM node_lease WHERE incarnation = $1";
        let rows = self.facts("reading a node's lease", sql, &[&id(node.0)]).await?;
        rows.first().map(node_lease).transpose()
    }

    async fn match_row(&self, match_id: MatchId) -> Result<Option<MatchLease>, StoreError> {
        let rows = self
            .facts(
                "reading a match's row",
                "SELECT lease FROM match_lease WHERE match_id = $1",
                &[&id(match_id.0)],
            )
            .await?;
        rows.first().map(match_lease).transpose()
    }

    /// Runs a change whose only row has (changed, state or null).
    async fn change(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(bool, Option<String>), StoreError> {
        let rows = self.facts(doing, sql, parameters).await?;
        let row = rows.first().ok_or_else(|| {
            corrupt(format!("table {NODES}"), "a statement that gives one row gave none")
        })?;
        Ok((column(row, 0, NODES)?, column(row, 1, NODES)?))
    }
}

impl Leases for PostgresStore {
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let sql = "INSERT INTO node_lease (incarnation, state, deadline_ms, seal, region, \
                       lease) VALUES ($1, $2, $3, $4, $5, $6) \
                       ON CONFLICT DO NOTHING RETURNING true";
            let seal = lease.seal.map(|seal| count("batch", seal.0)).transpose()?;
            let (state, deadline, bytes) =
                (node_word(lease.state), bound(lease.deadline_ms), lease.encode());
            let parameters: [&(dyn ToSql + Sync); 6] =
                [&id(lease.incarnation.0), &state, &deadline, &seal, &lease.region, &bytes];
            if !self.0.facts("registering a node", sql, &parameters).await?.is_empty() {
                return Ok(());
            }
            // The second read sees what the first statement ran into: it was committed by then.
            match self.0.node_row(lease.incarnation).await? {
                Some(found) if found == lease => Ok(()),
                _ => Err(backend::registered_twice(lease.incarnation)),
            }
        })
    }

    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            // The encoded lease is written by whoever renews it alone, as long as it is live: what
            // is read here nobody else changes.
            let standing = match reached {
                Some(_) => self.0.node_row(node).await?,
                None => None,
            };
            let bytes = standing.map(|lease| NodeLease { reached, ..lease }.encode());
            let sql = "WITH changed AS (UPDATE node_lease \
                       SET deadline_ms = $2, lease = coalesce($3, lease) \
                       WHERE incarnation = $1 AND state = 'live' RETURNING 1) \
                       SELECT EXISTS (SELECT FROM changed), (SELECT state FROM node_lease \
                       WHERE incarnation = $1)";
            match self
                .0
                .change("renewing a node's lease", sql, &[&id(node.0), &bound(deadline_ms), &bytes])
                .await?
            {
                (true, _) => Ok(Renewal::Live),
                (false, Some(_)) => Ok(Renewal::Fenced),
                (false, None) => Err(unknown(node)),
            }
        })
    }

    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            let sql = "WITH changed AS (UPDATE node_lease SET state = 'stopped' \
                       WHERE incarnation = $1 AND state IN ('live', 'stopped') RETURNING 1) \
                       SELECT EXISTS (SELECT FROM changed), (SELECT state FROM node_lease \
                       WHERE incarnation = $1)";
            match self.0.change("stopping a node's lease", sql, &[&id(node.0)]).await? {
                (true, _) => Ok(Renewal::Live),
                (false, Some(_)) => Ok(Renewal::Fenced),
                (false, None) => Err(unknown(node)),
            }
        })
    }

    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(async move {
            // The answer comes after the commit: whoever reads the log now sees everything that was
            // acknowledged. A lease that is fenced already is locked and written all the same, so
            // that this holds for every caller and not only for the first.
            let sql =
                "UPDATE node_lease SET state = 'fenced' WHERE incarnation = $1 RETURNING true";
            let rows = self.0.facts("fencing a node", sql, &[&id(node.0)]).await?;
            if rows.is_empty() { Err(unknown(node)) } else { Ok(()) }
        })
    }

    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo> {
        Box::pin(async move {
            let sql = "UPDATE node_lease SET seal = coalesce(seal, $2) WHERE incarnation = $1 AND \
                state = 'fenced' RETURNING seal";
            let rows = self
                .0
                .facts("sealing a log", sql, &[&id(node.0), &count("batch", last.0)?])
                .await?;
            if let Some(row) = rows.first() {
                return super::convert::batch_no(row, 0, NODES);
            }
            Err(self
                .0
                .node_row(node)
                .await?
                .map_or_else(|| unknown(node), |_| backend::sealed_unfenced(node)))
        })
    }

    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let lease = self.0.node_row(node).await?.ok_or_else(|| unknown(node))?;
            let bytes = backend::loss_accepted(lease, last, at_ms)?.encode();
            let sql = "UPDATE node_lease SET seal = $2, lease = $3 WHERE incarnation = $1 AND \
                state = 'fenced' RETURNING true";
            let rows = self
                .0
                .facts("accepting a loss", sql, &[&id(node.0), &count("batch", last.0)?, &bytes])
                .await?;
            if rows.is_empty() { Err(unknown(node)) } else { Ok(()) }
        })
    }

    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>> {
        Box::pin(async move {
            let rows = self
                .0
                .facts(
                    "listing nodes",
                    "SELECT lease, state, deadline_ms, seal FROM node_lease",
                    &[],
                )
                .await?;
            let mut found = rows.iter().map(node_lease).collect::<Result<Vec<_>, _>>()?;
            found.sort_by_key(|lease| lease.incarnation);
            Ok(found)
        })
    }

    fn node(&self, node: Incarnation) -> StoreResult<'_, Option<NodeLease>> {
        Box::pin(self.0.node_row(node))
    }

    fn forget(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let sql = "WITH changed AS (DELETE FROM node_lease WHERE incarnation = $1 \
                       AND state <> 'live' RETURNING 1) \
                       SELECT EXISTS (SELECT FROM changed), (SELECT state FROM node_lease \
                       WHERE incarnation = $1)";
            match self.0.change("removing a node's lease", sql, &[&id(node.0)]).await? {
                (false, Some(state)) if state == "live" => Err(backend::forgot_live(node)),
                _ => Ok(()),
            }
        })
    }

    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()> {
        Box::pin(async move {
            backend::check_row(&lease)?;
            let sql = "INSERT INTO match_lease (match_id, version, epoch, incarnation, state, \
                       region, lease) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                       ON CONFLICT DO NOTHING RETURNING true";
            let (version, epoch) =
                (count("version", lease.version)?, count("epoch", lease.epoch.0)?);
            let (state, bytes) = (match_word(&lease.state), lease.encode());
            let parameters: [&(dyn ToSql + Sync); 7] = [
                &id(lease.match_id.0),
                &version,
                &epoch,
                &id(lease.incarnation.0),
                &state,
                &lease.region,
                &bytes,
            ];
            if !self.0.facts("entering a match", sql, &parameters).await?.is_empty() {
                return Ok(());
            }
            match self.0.match_row(lease.match_id).await? {
                Some(found) if found == lease => Ok(()),
                _ => Err(backend::created_twice(lease.match_id)),
            }
        })
    }

    fn compare_and_set(
        &self,
        lease: MatchLease,
    ) -> StoreResult<'_, Result<(), Option<MatchLease>>> {
        Box::pin(async move {
            let sql = "UPDATE match_lease SET version = $2::bigint, epoch = $3, incarnation = $4, \
                       state = $5, region = $6, lease = $7 \
                       WHERE match_id = $1 AND version = $2::bigint - 1 AND epoch <= $3 \
                       RETURNING true";
            backend::check_row(&lease)?;
            let (version, epoch) =
                (count("version", lease.version)?, count("epoch", lease.epoch.0)?);
            let (state, bytes) = (match_word(&lease.state), lease.encode());
            let parameters: [&(dyn ToSql + Sync); 7] = [
                &id(lease.match_id.0),
                &version,
                &epoch,
                &id(lease.incarnation.0),
                &state,
                &lease.region,
                &bytes,
            ];
            if lease.version > 0
                && !self.0.facts("changing a match's row", sql, &parameters).await?.is_empty()
            {
                return Ok(Ok(()));
            }
            let stands = self.0.match_row(lease.match_id).await?;
            if let Some(before) = &stands
                && before.version.checked_add(1) == Some(lease.version)
            {
                backend::check_successor(before, &lease)?;
            }
            Ok(Err(stands))
        })
    }

    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>> {
        Box::pin(self.0.match_row(match_id))
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>> {
        Box::pin(async move {
            let rows =
                self.0.facts("listing matches", "SELECT lease FROM match_lease", &[]).await?;
            let mut found = rows.iter().map(match_lease).collect::<Result<Vec<_>, _>>()?;
            found.sort_by_key(|lease| lease.match_id);
            Ok(found)
        })
    }

    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let sql = "WITH changed AS (DELETE FROM match_lease WHERE match_id = $1 \
                       AND version = $2 AND state = 'ended' RETURNING 1) \
                       SELECT EXISTS (SELECT FROM changed), (SELECT state FROM match_lease \
                       WHERE match_id = $1)";
            match self
                .0
                .change("removing a match's row", sql, &[&id(match_id.0), &bound(version)])
                .await?
            {
                (true, _) | (false, None) => Ok(true),
                (false, Some(state)) if state == "ended" => Ok(false),
                (false, Some(_)) => Err(backend::removed_unended(match_id)),
            }
        })
    }
}
