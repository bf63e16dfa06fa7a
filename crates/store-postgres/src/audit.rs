//! What operators did: rows that are only ever added.

use rekindle_schema::audit::AuditEntry;
use rekindle_store::{AuditLog, AuditQuery, StoreError, StoreResult};
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::convert::{bound, column, count, decoded, id};
use super::pools::Lane;

const TABLE: &str = "audit";
/// How often an entry that comes and goes is looked for.
const TRIES: usize = 4;

/// Postgres's text holds every character but this one; the encoded entry holds it too.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl AuditLog for PostgresStore {
    fn append(&self, entry: AuditEntry) -> StoreResult<'_, ()> {
        Box::pin(async move {
            rekindle_store::audit::check(&entry)?;
            let (time_ms, action, stage) = entry.key();
            let (time_ms, action, stage) =
                (count("time", time_ms)?, id(action.0), i16::from(stage));
            let (who, what, target, bytes) =
                (text(&entry.who), text(&entry.action), text(&entry.target), entry.encode());
            let insert = "INSERT INTO audit (time_ms, action_id, stage, who, action, target, \
                          entry) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                          ON CONFLICT DO NOTHING RETURNING true";
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&time_ms, &action, &stage, &who, &what, &target, &bytes];
            for _ in 0..TRIES {
                if !self
                    .0
                    .pools
                    .rows(Lane::Facts, "adding an audit entry", insert, &parameters)
                    .await?
                    .is_empty()
                {
                    return Ok(());
                }
                let same = "SELECT entry = $4 FROM audit WHERE time_ms = $1 AND action_id = $2 AND \
                    stage = $3";
                let rows = self
                    .0
                    .pools
                    .rows(
                        Lane::Facts,
                        "comparing an audit entry",
                        same,
                        &[&time_ms, &action, &stage, &bytes],
                    )
                    .await?;
                if let Some(row) = rows.first() {
                    return if column(row, 0, TABLE)? {
                        Ok(())
                    } else {
                        Err(rekindle_store::audit::differs(&entry))
                    };
                }
            }
            Err(StoreError::Unavailable("an audit entry comes and goes".to_owned()))
        })
    }

    fn list(&self, query: AuditQuery) -> StoreResult<'_, Vec<AuditEntry>> {
        Box::pin(async move {
            // Ids from 2^63 on are the highest, though SQL takes them for negative.
            let sql = "SELECT entry FROM audit WHERE time_ms >= $1 AND time_ms < $2 \
                       ORDER BY time_ms DESC, (action_id >= 0), action_id DESC, stage DESC \
                       LIMIT $3";
            let parameters: [&(dyn ToSql + Sync); 3] =
                [&bound(query.since_ms), &bound(query.until_ms), &bound(query.limit as u64)];
            let rows =
                self.0.pools.rows(Lane::Facts, "listing audit entries", sql, &parameters).await?;
            rows.iter()
                .map(|row| decoded(TABLE, AuditEntry::decode(column(row, 0, TABLE)?)))
                .collect()
        })
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(async move {
            let sql = "DELETE FROM audit WHERE (time_ms, action_id, stage) IN (SELECT time_ms, \
                       action_id, stage FROM audit WHERE time_ms < $1 \
                       ORDER BY time_ms, (action_id < 0), action_id, stage LIMIT $2) \
                       RETURNING true";
            let rows = self
                .0
                .pools
                .rows(
                    Lane::Facts,
                    "pruning audit entries",
                    sql,
                    &[&bound(before_ms), &bound(limit as u64)],
                )
                .await?;
            Ok(rows.len())
        })
    }
}
