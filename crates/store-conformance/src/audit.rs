//! The audit log: what was appended is there, in order, until it is pruned.

use std::collections::BTreeSet;

use rekindle_schema::ActionId;
use rekindle_schema::audit::{AuditEntry, MAX_TEXT, Stage};
use rekindle_store::Store;
use rekindle_store::{AuditQuery, StoreError};

use super::{Backend, NODE, open_many};

const NOW: u64 = 1_700_000_000_000;

fn entry(number: u64, stage: Stage) -> AuditEntry {
    AuditEntry {
        time_ms: NOW + number,
        action_id: ActionId::at(NOW + number, number),
        stage,
        node: NODE,
        who: "admin 127.0.0.1:50312".to_owned(),
        action: "match.create".to_owned(),
        target: format!("match {number}"),
        detail: "game=arena seed=7".to_owned(),
    }
}

async fn list(store: &Store, since_ms: u64, until_ms: u64, limit: usize) -> Vec<AuditEntry> {
    store
        .audit
        .list(AuditQuery { since_ms, until_ms, limit })
        .await
        .expect("the audit log can be read")
}

/// Entries come back as they were appended, newest first, from another process too.
pub async fn audit_entries_come_back(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    assert_eq!(list(&other, 0, u64::MAX, 9).await, []);
    let failed = Stage::Failed { error: "no such game".to_owned() };
    let day = 86_400_000;
    let same_time = AuditEntry { stage: Stage::Done, ..entry(1, Stage::Begun) };
    let written = [
        entry(0, Stage::Begun),
        entry(1, Stage::Begun),
        same_time,
        entry(2, failed),
        entry(3 * day, Stage::Begun),
        entry(40 * day, Stage::Done),
    ];
    // Clocks of nodes differ: entries need not arrive in the order of their times.
    for index in [3, 0, 5, 2, 1, 4] {
        store.audit.append(written[index].clone()).await.unwrap();
    }
    let newest_first: Vec<AuditEntry> = written.iter().rev().cloned().collect();
    assert_eq!(list(&other, 0, u64::MAX, 9).await, newest_first);
    assert_eq!(list(&other, 0, u64::MAX, 2).await, newest_first[..2]);
    assert_eq!(list(&other, 0, u64::MAX, 0).await, []);
    assert_eq!(list(&other, NOW + 1, NOW + 3, 9).await, newest_first[2..5]);
    assert_eq!(list(&other, NOW + 1, NOW + 2, 1).await, newest_first[3..4]);
    assert_eq!(list(&other, NOW + 3, NOW + 3, 9).await, []);
    assert_eq!(list(&other, NOW + 3, NOW, 9).await, [], "a range that is none");
}

/// An entry is never changed: the same again is harmless, another one under its key is refused.
pub async fn audit_entries_are_never_changed(backend: &impl Backend) {
    let store = backend.open().await;
    let first = entry(0, Stage::Done);
    store.audit.append(first.clone()).await.unwrap();
    store.audit.append(first.clone()).await.unwrap();
    for other in [
        AuditEntry { target: "match 9".to_owned(), ..first.clone() },
        entry(0, Stage::Failed { error: "no".to_owned() }),
    ] {
        let refused = store.audit.append(other).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    }
    let largest = AuditEntry { detail: "x".repeat(MAX_TEXT), ..entry(1, Stage::Begun) };
    store.audit.append(largest.clone()).await.unwrap();
    let larger = AuditEntry { detail: "x".repeat(MAX_TEXT + 1), ..entry(2, Stage::Begun) };
    assert!(matches!(store.audit.append(larger).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(list(&store, 0, u64::MAX, 9).await, [largest, first]);
}

/// Entries of many nodes at once are all there.
pub async fn audit_entries_of_many_nodes(backend: &impl Backend) {
    let stores = open_many(backend, 4).await;
    let appends = stores.iter().zip(0u64..).map(|(store, node)| async move {
        for number in 0..20 {
            store.audit.append(entry(number * 4 + node, Stage::Begun)).await.unwrap();
        }
    });
    futures::future::join_all(appends).await;
    let found = list(&stores[0], 0, u64::MAX, 100).await;
    let keys: BTreeSet<_> = found.iter().map(AuditEntry::key).collect();
    assert_eq!((found.len(), keys.len()), (80, 80));
    assert!(found.windows(2).all(|pair| pair[0].key() > pair[1].key()));
}

/// What is older than the retention goes, oldest first, and nothing else.
pub async fn old_audit_entries_are_pruned(backend: &impl Backend) {
    let store = backend.open().await;
    for number in 0..6 {
        store.audit.append(entry(number, Stage::Begun)).await.unwrap();
    }
    assert_eq!(store.audit.prune(NOW, 9).await.unwrap(), 0);
    assert_eq!(store.audit.prune(NOW + 4, 3).await.unwrap(), 3);
    let numbers = async || {
        list(&store, 0, u64::MAX, 9)
            .await
            .iter()
            .map(|entry| entry.time_ms - NOW)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, [5, 4, 3]);
    assert_eq!(store.audit.prune(NOW + 4, 3).await.unwrap(), 1);
    assert_eq!(numbers().await, [5, 4]);
}
