//! Which store this is. A dump that was restored has other tables, a server that went back to a
//! point in time goes on in another timeline, another cluster has another identifier. Files of a
//! server that were put back without a recovery target are not noticed.

use rekindle_schema::Epoch;
use rekindle_schema::lease::NodeLease;
use rekindle_store::identity::{
    Fresh, Holder, StoreId, StoreIdentity, announce, first, highest, next,
};
use rekindle_store::{Identity, Leases, StoreError, StoreResult};
use tokio_postgres::types::ToSql;

use super::convert::{bound, column, corrupt};
use super::pools::Lane;
use super::{Inner, PostgresStore};

const TABLE: &str = "store_identity";
/// Everybody may call these functions, unless an administrator or a provider has forbidden it.
const PLACE: &str = "SELECT format('system %s timeline %s database %s table %s', (SELECT \
                     system_identifier FROM pg_control_system()), \
                     left(pg_walfile_name(pg_current_wal_lsn()), 8), (SELECT oid FROM pg_database \
                     WHERE datname = current_database()), 'node_lease'::regclass::oid)";
/// What is left where they may not be called.
const PLAIN_PLACE: &str = "SELECT format('database %s table %s', (SELECT oid FROM pg_database \
    WHERE datname = current_database()), 'node_lease'::regclass::oid)";

impl Inner {
    async fn place(&self) -> Result<String, StoreError> {
        let ask = |sql| self.pools.rows(Lane::Facts, "asking which server this is", sql, &[]);
        let rows = match ask(PLACE).await {
            Err(error) if !error.is_transient() => ask(PLAIN_PLACE).await?,
            answer => answer?,
        };
        let row = rows
            .first()
            .ok_or_else(|| corrupt("pg_control_system".to_owned(), "it gave no row"))?;
        column(row, 0, "pg_control_system")
    }

    async fn found(&self) -> Result<Option<StoreIdentity>, StoreError> {
        let sql = "SELECT id, floor, made, because, place FROM store_identity";
        let rows =
            self.pools.rows(Lane::Facts, "reading the identity of the store", sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id: &str = column(row, 0, TABLE)?;
        Ok(Some(StoreIdentity {
            id: StoreId::parse(id).ok_or_else(|| {
                corrupt(format!("table {TABLE}"), format!("`{id}` is no name of a store"))
            })?,
            floor: Epoch(column::<i64>(row, 1, TABLE)?.cast_unsigned()),
            made_ms: column::<i64>(row, 2, TABLE)?.cast_unsigned(),
            because: column(row, 3, TABLE)?,
            place: column(row, 4, TABLE)?,
        }))
    }

    /// Puts `new` where `old` stands, unless somebody was faster, and returns what stands then.
    async fn replace_identity(
        &self,
        old: Option<&StoreIdentity>,
        new: StoreIdentity,
    ) -> Result<StoreIdentity, StoreError> {
        let (id, floor, made) = (new.id.to_string(), bound(new.floor.0), bound(new.made_ms));
        let before = old.map(|old| old.id.to_string());
        let sql = if before.is_some() {
            "UPDATE store_identity SET id = $1, floor = $2, made = $3, because = $4, place = $5 \
             WHERE id = $6"
        } else {
            "INSERT INTO store_identity (id, floor, made, because, place) SELECT $1, $2, $3, $4, \
             $5 WHERE $6::text IS NULL ON CONFLICT DO NOTHING"
        };
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&id, &floor, &made, &new.because, &new.place, &before];
        self.pools.rows(Lane::Facts, "writing the identity of the store", sql, &parameters).await?;
        let standing = self.found().await?.ok_or_else(|| {
            corrupt(format!("table {TABLE}"), "the row that was written is not there")
        })?;
        if standing.id == new.id {
            announce(&self.options.to_string(), old, &new);
        }
        Ok(standing)
    }
}

impl Identity for PostgresStore {
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>> {
        Box::pin(self.0.found())
    }

    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity> {
        Box::pin(async move {
            let (found, here) = (self.0.found().await?, self.0.place().await?);
            let new = match &found {
                Some(found) if found.place == here => return Ok(found.clone()),
                Some(old) => {
                    let why = format!(
                        "the tables were restored, or are served by another server: they were of \
                         {}, and are of {here}",
                        old.place
                    );
                    next(Some(old), fresh, here, &why, highest(&self.matches().await?))
                }
                None => first(fresh, here, highest(&self.matches().await?)),
            };
            self.0.replace_identity(found.as_ref(), new).await
        })
    }

    fn renew(&self, fresh: Fresh, because: &str, above: Epoch) -> StoreResult<'_, StoreIdentity> {
        let because = because.to_owned();
        Box::pin(async move {
            let (found, here) = (self.0.found().await?, self.0.place().await?);
            let highest = highest(&self.matches().await?).max(Some(above));
            let new = next(found.as_ref(), fresh, here, &because, highest);
            let (id, standing) = (new.id, self.0.replace_identity(found.as_ref(), new).await?);
            let others = || {
                StoreError::Unavailable(
                    "another process gave the store a new identity at the same time".to_owned(),
                )
            };
            if standing.id == id { Ok(standing) } else { Err(others()) }
        })
    }

    fn holder(&self, _lease: &NodeLease) -> StoreResult<'_, Holder> {
        // Connections do not tell of which process they are.
        Box::pin(async { Ok(Holder::Unknown) })
    }
}
