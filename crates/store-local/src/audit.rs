//! The audit port: a table of `node.db`.

use std::ops::ControlFlow;

use rekindle_schema::audit::AuditEntry;
use rekindle_store::{AuditLog, AuditQuery, StoreResult};

use super::LocalStore;
use super::facts::{Key, Order, Table, decoded};
use super::jobs::time;

fn entry_key(entry: &AuditEntry) -> Key {
    let (time_ms, action, order) = entry.key();
    [time_ms, action.0, u64::from(order)]
}

impl AuditLog for LocalStore {
    fn append(&self, entry: AuditEntry) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| {
            rekindle_store::audit::check(&entry)?;
            let value = entry.encode();
            match rows.get(Table::Audit, entry_key(&entry))? {
                Some(stands) if stands != value => Err(rekindle_store::audit::differs(&entry)),
                Some(_) => Ok(()),
                None => rows.put(Table::Audit, entry_key(&entry), Some(&value)),
            }
        }))
    }

    fn list(&self, query: AuditQuery) -> StoreResult<'_, Vec<AuditEntry>> {
        Box::pin(self.facts.look(move |rows| {
            let mut found = Vec::new();
            if query.limit == 0 {
                return Ok(found);
            }
            rows.between(
                Table::Audit,
                (time(query.since_ms), time(query.until_ms)),
                Order::Descending,
                |_, value| {
                    found.push(decoded(Table::Audit, AuditEntry::decode(&value))?);
                    Ok(if found.len() < query.limit {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                },
            )?;
            Ok(found)
        }))
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(self.facts.change(move |rows| {
            let mut old = Vec::new();
            rows.between(Table::Audit, (0, time(before_ms)), Order::Ascending, |key, _| {
                old.push(key);
                Ok(if old.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            old.truncate(limit);
            for key in &old {
                rows.put(Table::Audit, *key, None)?;
            }
            Ok(old.len())
        }))
    }
}
