//! The registry port: a table of `node.db`.

use rekindle_schema::registry::RegistryEntry;
use rekindle_store::{Registry, StoreError, StoreResult};

use super::LocalStore;
use super::facts::{Key, Rows, Table, decoded};
use super::jobs::hash;

fn key(name: &str) -> Key {
    let [a, b] = hash(name);
    [a, b, 0]
}

fn entry(rows: &Rows<'_>, name: &str) -> Result<Option<RegistryEntry>, StoreError> {
    let found = rows.get(Table::Registry, key(name))?;
    found.map(|value| decoded(Table::Registry, RegistryEntry::decode(&value))).transpose()
}

impl Registry for LocalStore {
    fn get<'a>(&'a self, name: &'a str) -> StoreResult<'a, Option<RegistryEntry>> {
        let name = name.to_owned();
        Box::pin(self.facts.look(move |rows| entry(rows, &name)))
    }

    fn put(&self, wanted: RegistryEntry) -> StoreResult<'_, Result<(), Option<RegistryEntry>>> {
        Box::pin(self.facts.change(move |rows| {
            rekindle_store::registry::check(&wanted)?;
            let standing = entry(rows, &wanted.name)?;
            if !rekindle_store::registry::follows(&wanted, standing.as_ref()) {
                return Ok(Err(standing));
            }
            rows.put(Table::Registry, key(&wanted.name), Some(&wanted.encode()))?;
            Ok(Ok(()))
        }))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StoreResult<'a, Vec<RegistryEntry>> {
        let prefix = prefix.to_owned();
        Box::pin(self.facts.look(move |rows| {
            let mut found = Vec::new();
            for (_, value) in rows.all(Table::Registry)? {
                let entry = decoded(Table::Registry, RegistryEntry::decode(&value))?;
                if entry.name.starts_with(&prefix) {
                    found.push(entry);
                }
            }
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        }))
    }

    fn remove<'a>(&'a self, name: &'a str, version: u64) -> StoreResult<'a, bool> {
        let name = name.to_owned();
        Box::pin(self.facts.change(move |rows| {
            let Some(standing) = entry(rows, &name)? else { return Ok(true) };
            if standing.version == version {
                rows.put(Table::Registry, key(&name), None)?;
            }
            Ok(standing.version == version)
        }))
    }
}
