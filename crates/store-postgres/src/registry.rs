//! The registry port: a table.

use rekindle_schema::registry::RegistryEntry;
use rekindle_store::{Registry, StoreError, StoreResult};

use super::PostgresStore;

fn missing<T>() -> Result<T, StoreError> {
    Err(StoreError::Refused { place: "registry".to_owned(), problem: "no table yet".to_owned() })
}

impl Registry for PostgresStore {
    fn get<'a>(&'a self, _: &'a str) -> StoreResult<'a, Option<RegistryEntry>> {
        Box::pin(async { missing() })
    }
    fn put(&self, _: RegistryEntry) -> StoreResult<'_, Result<(), Option<RegistryEntry>>> {
        Box::pin(async { missing() })
    }
    fn list<'a>(&'a self, _: &'a str) -> StoreResult<'a, Vec<RegistryEntry>> {
        Box::pin(async { missing() })
    }
    fn remove<'a>(&'a self, _: &'a str, _: u64) -> StoreResult<'a, bool> {
        Box::pin(async { missing() })
    }
}
