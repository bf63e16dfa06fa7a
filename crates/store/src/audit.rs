//! What all backends check of an audit entry before they add it.

use rekindle_schema::audit::{AuditEntry, MAX_TEXT, Stage};

use crate::StoreError;

/// What every backend checks of an audit entry before it writes it.
pub fn check(entry: &AuditEntry) -> Result<(), StoreError> {
    let error = if let Stage::Failed { error } = &entry.stage { error } else { "" };
    let longest = [&entry.who, &entry.action, &entry.target, &entry.detail, error]
        .map(str::len)
        .into_iter()
        .max()
        .unwrap_or(0);
    if longest > MAX_TEXT {
        return Err(StoreError::TooLarge {
            what: "a text of an audit entry",
            size: longest,
            limit: MAX_TEXT,
        });
    }
    if i64::try_from(entry.time_ms).is_err() {
        return Err(StoreError::Refused {
            place: format!("audit entry {}", entry.action_id),
            problem: "its time is out of range".to_owned(),
        });
    }
    Ok(())
}

/// Another entry stands under the same key.
pub fn differs(entry: &AuditEntry) -> StoreError {
    StoreError::Refused {
        place: format!("audit entry {}", entry.action_id),
        problem: "it exists already, with other content".to_owned(),
    }
}
