//! The registry port: lightweight transactions on the rows of one partition.

use rekindle_schema::registry::RegistryEntry;
use rekindle_store::registry::{check, is_name, range};
use rekindle_store::{Registry, StoreError, StoreResult};
use scylla::errors::DeserializationError;
use scylla::response::query_result::QueryRowsResult;

use super::{CqlStore, id, migrate};

impl CqlStore {
    /// The entries in rows of their values.
    fn registry_entries(
        &self,
        what: &str,
        rows: &QueryRowsResult,
    ) -> Result<Vec<RegistryEntry>, StoreError> {
        let rows = rows.rows::<(&[u8],)>().map_err(|error| self.driver.unreadable(what, &error))?;
        let decode = |row: Result<(&[u8],), DeserializationError>| {
            let (value,) = row.map_err(|error| self.driver.unreadable(what, &error))?;
            RegistryEntry::decode(value)
                .map_err(|error| migrate::undecodable(&self.driver, "registry", &error))
        };
        rows.map(decode).collect()
    }

    async fn registry_row(&self, name: &str) -> Result<Option<RegistryEntry>, StoreError> {
        if !is_name(name) {
            return Ok(None);
        }
        let what = "read a registry entry";
        let key = (self.space(), name);
        let rows = self.driver.rows(what, &self.statements.registry_row, &key).await?;
        Ok(self.registry_entries(what, &rows)?.pop())
    }

    /// What `put` answers.
    async fn registry_put(
        &self,
        entry: RegistryEntry,
    ) -> Result<Result<(), Option<RegistryEntry>>, StoreError> {
        check(&entry)?;
        let what = "write a registry entry";
        let (name, value, version) = (entry.name.as_str(), entry.encode(), id(entry.version));
        let answer = if entry.version == 1 {
            let values = (self.space(), name, version, value.as_slice());
            self.settled(what, &self.statements.registry_enter, &values).await?
        } else {
            let values = (version, value.as_slice(), self.space(), name, id(entry.version - 1));
            self.settled(what, &self.statements.registry_set, &values).await?
        };
        if answer.applied {
            return Ok(Ok(()));
        }
        let standing = self.registry_row(name).await?;
        if standing.as_ref() == Some(&entry) {
            return Ok(Ok(()));
        }
        // An attempt whose answer was lost may have been applied, and followed or removed since.
        let passed = standing.as_ref().is_none_or(|standing| standing.version > entry.version);
        if answer.doubt && passed {
            let problem = format!("whether entry `{name}` was written is unknown");
            return Err(StoreError::Unavailable(problem));
        }
        Ok(Err(standing))
    }
}

impl Registry for CqlStore {
    fn get<'a>(&'a self, name: &'a str) -> StoreResult<'a, Option<RegistryEntry>> {
        Box::pin(self.registry_row(name))
    }

    fn put(&self, entry: RegistryEntry) -> StoreResult<'_, Result<(), Option<RegistryEntry>>> {
        Box::pin(self.registry_put(entry))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StoreResult<'a, Vec<RegistryEntry>> {
        Box::pin(async move {
            let Some((from, to)) = range(prefix) else { return Ok(Vec::new()) };
            let what = "list registry entries";
            let key = (self.space(), from.as_str(), to.as_str());
            let each = |rows: &QueryRowsResult| self.registry_entries(what, rows);
            // The rows of a partition are in the order of their names.
            self.driver.all(what, &self.statements.registry_rows, &key, each).await
        })
    }

    fn remove<'a>(&'a self, name: &'a str, version: u64) -> StoreResult<'a, bool> {
        Box::pin(async move {
            if !is_name(name) {
                return Ok(true);
            }
            let what = "remove a registry entry";
            let values = (self.space(), name, id(version));
            let answer = self.settled(what, &self.statements.registry_remove, &values).await?;
            // Without a version there is no row: it was removed before.
            Ok(answer.applied || answer.number("version").is_none())
        })
    }
}
