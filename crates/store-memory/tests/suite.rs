//! The store in memory runs the conformance suite, and its faults do what they say.

use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Backend, Scribe, match_lease, read_all, register};
use rekindle_store_memory::{Fate, MemoryStore, Op};

struct Memory(MemoryStore);

impl Backend for Memory {
    async fn open(&self) -> Store {
        self.0.store()
    }
}

rekindle_store_conformance::conformance_suite!(Memory(MemoryStore::new()));

const NODE: Incarnation = Incarnation(1);
const A: MatchId = MatchId(1);

#[tokio::test(start_paused = true)]
async fn a_power_cut_takes_what_was_not_synced() {
    let memory = MemoryStore::new();
    let slow = memory.with_faults(Arc::new(|op| match op {
        Op::Append(_, BatchNo(3)) => Fate { sync: Duration::from_mins(1), ..Fate::default() },
        _ => Fate::default(),
    }));
    let store = slow.store();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let written = scribe.append(&store, 2, &[A]).await;
    let third = scribe.small(&[A]);
    let append = tokio::spawn({
        let (store, third) = (store.clone(), third.clone());
        async move { store.journal.append(third).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(read_all(&store, NODE, 1, 1000).await.len(), 3, "written, and seen by readers");
    memory.power_cut();
    assert!(
        append.await.unwrap().is_err(),
        "acknowledged although the power failed before it was synced"
    );
    assert_eq!(read_all(&memory.store(), NODE, 1, 1000).await, written);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_settled_by_asking_again() {
    let memory = MemoryStore::new();
    let flaky = memory.with_faults(Arc::new(|op| Fate {
        lose_answer: matches!(op, Op::Append(..)),
        ..Fate::default()
    }));
    register(&memory.store(), NODE).await;
    let batch = Scribe::new(NODE).small(&[A]);
    let lost = flaky.store().journal.append(batch.clone()).await.unwrap_err();
    assert!(lost.is_transient());
    memory.store().journal.append(batch).await.unwrap();
    assert_eq!(memory.store().journal.tail(NODE).await.unwrap().last, BatchNo(1));
}

#[tokio::test(start_paused = true)]
async fn a_disk_error_is_the_last_word() {
    let memory = MemoryStore::new();
    let error =
        StoreError::Io { what: "sync", path: "memory".to_owned(), cause: "injected".to_owned() };
    let broken = memory.with_faults(Arc::new(move |op| Fate {
        fail: matches!(op, Op::Append(_, BatchNo(2))).then(|| error.clone()),
        ..Fate::default()
    }));
    register(&memory.store(), NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&broken.store(), 1, &[A]).await;
    let batch = scribe.small(&[A]);
    assert!(matches!(
        broken.store().journal.append(batch.clone()).await,
        Err(StoreError::Io { .. })
    ));
    assert!(
        matches!(memory.store().journal.append(batch).await, Err(StoreError::Io { .. })),
        "a failed writer was used again"
    );
}

#[tokio::test]
async fn an_epoch_that_goes_down_is_refused() {
    let store = MemoryStore::new().store();
    let row = match_lease(A, &[(NODE, 1), (Incarnation(9), 4)]);
    store.leases.create(row.clone()).await.unwrap();
    let mut lower = match_lease(A, &[(NODE, 1)]);
    lower.version = row.version + 1;
    assert!(matches!(store.leases.compare_and_set(lower).await, Err(StoreError::Refused { .. })));
    assert_eq!(store.leases.get(A).await.unwrap(), Some(row));
}
