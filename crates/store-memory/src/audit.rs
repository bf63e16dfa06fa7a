//! The audit port: each request is one step under the lock, durable when it is answered.

use std::collections::btree_map::Entry;

use rekindle_schema::audit::AuditEntry;
use rekindle_store::{AuditLog, AuditQuery, StoreResult};

use super::{MemoryStore, Op};

impl AuditLog for MemoryStore {
    fn append(&self, entry: AuditEntry) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Audit, move |shared| {
            rekindle_store::audit::check(&entry)?;
            match shared.audit.entry(entry.key()) {
                Entry::Occupied(stands) if *stands.get() != entry => {
                    Err(rekindle_store::audit::differs(&entry))
                }
                Entry::Occupied(_) => Ok(()),
                Entry::Vacant(place) => {
                    place.insert(entry);
                    Ok(())
                }
            }
        }))
    }

    fn list(&self, query: AuditQuery) -> StoreResult<'_, Vec<AuditEntry>> {
        Box::pin(self.run(Op::Audit, move |shared| {
            let asked =
                |entry: &&AuditEntry| (query.since_ms..query.until_ms).contains(&entry.time_ms);
            Ok(shared.audit.values().rev().filter(asked).take(query.limit).cloned().collect())
        }))
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(self.run(Op::Audit, move |shared| {
            let old: Vec<_> = shared
                .audit
                .keys()
                .take_while(|(time_ms, ..)| *time_ms < before_ms)
                .take(limit)
                .copied()
                .collect();
            for key in &old {
                shared.audit.remove(key);
            }
            Ok(old.len())
        }))
    }
}
