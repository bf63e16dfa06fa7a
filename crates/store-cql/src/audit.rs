//! The audit log: a partition for each day, deleted whole when the day is over its retention.

use rekindle_schema::audit::AuditEntry;
use rekindle_store::{AuditLog, AuditQuery, StoreError, StoreResult};
use scylla::errors::DeserializationError;
use scylla::response::query_result::QueryRowsResult;

use super::{CqlStore, id, migrate, ordered};

/// Milliseconds in a day.
pub(super) const DAY: u64 = 86_400_000;

impl CqlStore {
    /// Days that may have entries, ascending.
    async fn audit_days(&self) -> Result<Vec<u64>, StoreError> {
        self.numbers_of("list days of the audit log", &self.statements.audit_days, &(self.space(),))
            .await
    }

    /// The entries of a day from `since_ms` to before `until_ms`, newest first.
    async fn audit_of(
        &self,
        day: u64,
        since_ms: u64,
        until_ms: u64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let what = "read the audit log";
        let key = (self.space(), ordered(day), ordered(since_ms), ordered(until_ms));
        let read = |rows: &QueryRowsResult| {
            let rows =
                rows.rows::<(&[u8],)>().map_err(|error| self.driver.unreadable(what, &error))?;
            let decode = |row: Result<(&[u8],), DeserializationError>| {
                let (value,) = row.map_err(|error| self.driver.unreadable(what, &error))?;
                AuditEntry::decode(value)
                    .map_err(|error| migrate::undecodable(&self.driver, "audit", &error))
            };
            rows.map(decode).collect::<Result<Vec<_>, _>>()
        };
        let mut entries = self.driver.all(what, &self.statements.audit_rows, &key, read).await?;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.key()));
        Ok(entries)
    }
}

impl AuditLog for CqlStore {
    fn append(&self, entry: AuditEntry) -> StoreResult<'_, ()> {
        Box::pin(async move {
            rekindle_store::audit::check(&entry)?;
            let (time, action, stage) = entry.key();
            let (day, value) = (ordered(time / DAY), entry.encode());
            self.driver
                .write(
                    "begin a day of the audit log",
                    &self.statements.audit_day_enter,
                    &(self.space(), day),
                )
                .await?;
            let values = (
                self.space(),
                day,
                ordered(time),
                id(action.0),
                i32::from(stage),
                value.as_slice(),
            );
            let what = "append to the audit log";
            let answer = self.settled(what, &self.statements.audit_append, &values).await?;
            let same = answer.applied || answer.bytes("value") == Some(value.as_slice());
            if same { Ok(()) } else { Err(rekindle_store::audit::differs(&entry)) }
        })
    }

    fn list(&self, query: AuditQuery) -> StoreResult<'_, Vec<AuditEntry>> {
        Box::pin(async move {
            let mut found = Vec::new();
            if query.since_ms >= query.until_ms {
                return Ok(found);
            }
            let days = query.since_ms / DAY..=(query.until_ms - 1) / DAY;
            for day in self.audit_days().await?.into_iter().rev().filter(|day| days.contains(day)) {
                if found.len() >= query.limit {
                    break;
                }
                found.append(&mut self.audit_of(day, query.since_ms, query.until_ms).await?);
            }
            found.truncate(query.limit);
            Ok(found)
        })
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(async move {
            let mut gone = 0;
            for day in self.audit_days().await? {
                if gone >= limit || day * DAY >= before_ms {
                    break;
                }
                let old = self.audit_of(day, 0, before_ms).await?;
                if (day + 1) * DAY <= before_ms && old.len() <= limit - gone {
                    // A plain delete of what transactions wrote: nothing is written into a day that
                    // is over its retention.
                    self.driver
                        .write(
                            "prune the audit log",
                            &self.statements.audit_drop,
                            &(self.space(), ordered(day)),
                        )
                        .await?;
                    self.driver
                        .write(
                            "prune the audit log",
                            &self.statements.audit_day_drop,
                            &(self.space(), ordered(day)),
                        )
                        .await?;
                    gone += old.len();
                    continue;
                }
                for entry in old.iter().rev().take(limit - gone) {
                    let (time, action, stage) = entry.key();
                    let values =
                        (self.space(), ordered(day), ordered(time), id(action.0), i32::from(stage));
                    let what = "prune the audit log";
                    self.settled(what, &self.statements.audit_remove, &values).await?;
                    gone += 1;
                }
            }
            Ok(gone)
        })
    }
}
