//! The registry port: a table whose rows are changed on the version that they have.

use rekindle_schema::registry::RegistryEntry;
use rekindle_store::registry::{check, is_name, range};
use rekindle_store::{Registry, StoreError, StoreResult};
use tokio_postgres::Row;

use super::convert::{bound, column, count, decoded};
use super::{Inner, PostgresStore};

const TABLE: &str = "registry";

fn entry(row: &Row) -> Result<RegistryEntry, StoreError> {
    decoded(TABLE, RegistryEntry::decode(column(row, 0, TABLE)?))
}

impl Inner {
    async fn registry_row(&self, name: &str) -> Result<Option<RegistryEntry>, StoreError> {
        // Postgres refuses texts that no entry is named by.
        if !is_name(name) {
            return Ok(None);
        }
        let sql = "SELECT entry FROM registry WHERE name = $1";
        let rows = self.facts("reading a registry entry", sql, &[&name]).await?;
        rows.first().map(entry).transpose()
    }
}

impl Registry for PostgresStore {
    fn get<'a>(&'a self, name: &'a str) -> StoreResult<'a, Option<RegistryEntry>> {
        Box::pin(self.0.registry_row(name))
    }

    fn put(&self, entry: RegistryEntry) -> StoreResult<'_, Result<(), Option<RegistryEntry>>> {
        Box::pin(async move {
            check(&entry)?;
            let sql = if entry.version == 1 {
                "INSERT INTO registry (name, version, entry) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING RETURNING true"
            } else {
                "UPDATE registry SET version = $2::bigint, entry = $3 \
                 WHERE name = $1 AND version = $2::bigint - 1 RETURNING true"
            };
            let (version, bytes) = (count("version", entry.version)?, entry.encode());
            let doing = "writing a registry entry";
            if !self.0.facts(doing, sql, &[&entry.name, &version, &bytes]).await?.is_empty() {
                return Ok(Ok(()));
            }
            // The second read sees what the first statement ran into: it was committed by then.
            let standing = self.0.registry_row(&entry.name).await?;
            Ok(if standing.as_ref() == Some(&entry) { Ok(()) } else { Err(standing) })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StoreResult<'a, Vec<RegistryEntry>> {
        Box::pin(async move {
            let Some((from, to)) = range(prefix) else { return Ok(Vec::new()) };
            let sql = "SELECT entry FROM registry WHERE name >= $1 AND name < $2 ORDER BY name";
            let rows = self.0.facts("listing registry entries", sql, &[&from, &to]).await?;
            rows.iter().map(entry).collect()
        })
    }

    fn remove<'a>(&'a self, name: &'a str, version: u64) -> StoreResult<'a, bool> {
        Box::pin(async move {
            if !is_name(name) {
                return Ok(true);
            }
            let sql = "DELETE FROM registry WHERE name = $1 AND version = $2 RETURNING true";
            let doing = "removing a registry entry";
            let removed = self.0.facts(doing, sql, &[&name, &bound(version)]).await?;
            Ok(!removed.is_empty() || self.0.registry_row(name).await?.is_none())
        })
    }
}
