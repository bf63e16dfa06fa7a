//! The cases of the registry notice a backend that does not look at versions.

use std::sync::Arc;

use rekindle_schema::registry::RegistryEntry;
use rekindle_store::{Registry, Store, StoreResult};
use rekindle_store_conformance::{self as suite, Backend};
use rekindle_store_memory::MemoryStore;

/// A mutant: whatever stands, it is replaced or removed.
struct Careless(Arc<dyn Registry>);

impl Registry for Careless {
    fn get<'a>(&'a self, name: &'a str) -> StoreResult<'a, Option<RegistryEntry>> {
        self.0.get(name)
    }

    fn put(&self, entry: RegistryEntry) -> StoreResult<'_, Result<(), Option<RegistryEntry>>> {
        Box::pin(async move {
            rekindle_store::registry::check(&entry)?;
            if let Some(standing) = self.0.get(&entry.name).await? {
                self.0.remove(&standing.name, standing.version).await?;
            }
            self.0.put(RegistryEntry { version: 1, ..entry }).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StoreResult<'a, Vec<RegistryEntry>> {
        self.0.list(prefix)
    }

    fn remove<'a>(&'a self, name: &'a str, _: u64) -> StoreResult<'a, bool> {
        Box::pin(async move {
            let version = self.0.get(name).await?.map_or(0, |standing| standing.version);
            self.0.remove(name, version).await
        })
    }
}

struct Mutant(MemoryStore);

impl Backend for Mutant {
    async fn open(&self) -> Store {
        let store = self.0.store();
        Store { registry: Arc::new(Careless(Arc::clone(&store.registry))), ..store }
    }
}

#[tokio::test]
async fn a_backend_that_skips_the_check_of_versions_is_found() {
    let mutant = || Mutant(MemoryStore::new());
    suite::registry_entries_come_back(&mutant()).await;
    let found = [
        tokio::spawn(async move {
            suite::a_registry_entry_changes_by_its_next_version_alone(&mutant()).await;
        }),
        tokio::spawn(async move {
            suite::a_registry_entry_is_removed_by_its_version(&mutant()).await;
        }),
        tokio::spawn(async move {
            suite::of_many_writers_one_changes_a_registry_entry(&mutant()).await;
        }),
    ];
    for case in found {
        assert!(case.await.is_err_and(|error| error.is_panic()), "the mutant went unnoticed");
    }
}
