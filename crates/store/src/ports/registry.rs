//! The registry port: small entries by name that all nodes of a store share.
//!
//! The node keeps in it what belongs to the cluster and to no match: which nodes there are and
//! where they are reached, the keys of the edge, who follows which match. What is checked of an
//! entry is in [`crate::registry`].

use rekindle_schema::registry::RegistryEntry;

use super::StoreResult;

/// Small entries by name. Every change is a compare-and-set on the entry's version.
pub trait Registry: Send + Sync + 'static {
    /// The entry of this name, as the store has it now.
    fn get<'a>(&'a self, name: &'a str) -> StoreResult<'a, Option<RegistryEntry>>;
    /// Enters `entry` if it is of version 1 and there is none of its name, or if the one that
    /// stands has the version before; durable when it resolves. `Ok(Err(standing))` has what stands
    /// instead. The same entry again is harmless. `Refused` or `TooLarge` if it is malformed.
    fn put(&self, entry: RegistryEntry) -> StoreResult<'_, Result<(), Option<RegistryEntry>>>;
    /// All entries whose names begin with `prefix`, ascending by name.
    fn list<'a>(&'a self, prefix: &'a str) -> StoreResult<'a, Vec<RegistryEntry>>;
    /// Removes an entry if it still has this version, and says whether it is gone (also if it was
    /// before).
    fn remove<'a>(&'a self, name: &'a str, version: u64) -> StoreResult<'a, bool>;
}
