//! The registry port: each request is one step under the lock, durable when it is answered.

use rekindle_schema::registry::RegistryEntry;
use rekindle_store::{Registry, StoreResult};

use super::{MemoryStore, Op};

impl Registry for MemoryStore {
    fn get<'a>(&'a self, name: &'a str) -> StoreResult<'a, Option<RegistryEntry>> {
        Box::pin(self.run(Op::Registry, move |shared| Ok(shared.registry.get(name).cloned())))
    }

    fn put(&self, entry: RegistryEntry) -> StoreResult<'_, Result<(), Option<RegistryEntry>>> {
        Box::pin(self.run(Op::Registry, move |shared| {
            rekindle_store::registry::check(&entry)?;
            let standing = shared.registry.get(&entry.name);
            if !rekindle_store::registry::follows(&entry, standing) {
                return Ok(Err(standing.cloned()));
            }
            shared.registry.insert(entry.name.clone(), entry);
            Ok(Ok(()))
        }))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StoreResult<'a, Vec<RegistryEntry>> {
        Box::pin(self.run(Op::Registry, move |shared| {
            let named = shared.registry.range(prefix.to_owned()..);
            let begins = named.take_while(|(name, _)| name.starts_with(prefix));
            Ok(begins.map(|(_, entry)| entry.clone()).collect())
        }))
    }

    fn remove<'a>(&'a self, name: &'a str, version: u64) -> StoreResult<'a, bool> {
        Box::pin(self.run(Op::Registry, move |shared| {
            if shared.registry.get(name).is_some_and(|entry| entry.version == version) {
                shared.registry.remove(name);
            }
            Ok(!shared.registry.contains_key(name))
        }))
    }
}
