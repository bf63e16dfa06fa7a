//! Whoever fences an owner and then reads its log finds everything that the owner was told is safe:
//! in a thousand races each on the local store and the one in memory. Owners and takers that leave
//! a part of the protocol out are caught by the same tests. (On servers: `postgres_fence.rs`,
//! `cql_race.rs`.)

use std::sync::Arc;

use rekindle_schema::batch::Batch;
use rekindle_schema::lease::NodeState;
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::StoreResult;
use rekindle_store::{Journal, LogInfo, Store, StoreError, Tail};
use rekindle_store_conformance::{Scribe, Taker, races, register};
use rekindle_store_local::{LocalOptions, LocalStore};
use rekindle_store_memory::MemoryStore;
use tokio::sync::Semaphore;

const NODE: Incarnation = Incarnation(0xa1);
const A: MatchId = MatchId(0x0a);

/// How an owner cheats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cheat {
    /// It does not.
    Honest,
    /// It does not look at its lease at all.
    NoFence,
    /// It looks at its lease before it writes instead of after.
    VerifyFirst,
}

/// A journal whose appends wait for the test between the moment at which a lease could be read and
/// the write.
struct Held {
    store: Store,
    cheat: Cheat,
    /// Told when an append stands before its write.
    standing: Semaphore,
    /// Lets one go on.
    go: Semaphore,
}

impl Journal for Held {
    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let log = batch.incarnation;
            if self.cheat == Cheat::VerifyFirst {
                let lease = self.store.leases.node(log).await?;
                if lease.is_none_or(|lease| lease.state != NodeState::Live) {
                    return Err(StoreError::Fenced(log));
                }
            }
            self.standing.add_permits(1);
            self.go.acquire().await.expect("it is open").forget();
            match self.store.journal.append(batch).await {
                Err(StoreError::Fenced(_)) if self.cheat != Cheat::Honest => Ok(()),
                outcome => outcome,
            }
        })
    }
    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        self.store.journal.read(log, from, max_bytes)
    }
    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        self.store.journal.tail(log)
    }
    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        self.store.journal.settle(log, last)
    }
    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        self.store.journal.trim(log, before)
    }
    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        self.store.journal.logs()
    }
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        self.store.journal.begin(log, first)
    }
}

/// The third append of an owner is held up right before its write while a taker fences and reads
/// the tail. Whether it was acknowledged all the same, and the last batch that the taker saw.
async fn fenced_in_mid_append(store: &Store, cheat: Cheat) -> (bool, BatchNo) {
    register(store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(store, 2, &[A]).await;
    let held = Arc::new(Held {
        store: store.clone(),
        cheat,
        standing: Semaphore::new(0),
        go: Semaphore::new(0),
    });
    let append = tokio::spawn({
        let (held, third) = (Arc::clone(&held), scribe.small(&[A]));
        async move { held.append(third).await }
    });
    held.standing.acquire().await.unwrap().forget();
    store.leases.fence(NODE).await.unwrap();
    let tail = store.journal.tail(NODE).await.unwrap().last;
    held.go.add_permits(1);
    let acknowledged = match append.await.unwrap() {
        Ok(()) => true,
        Err(StoreError::Fenced(_)) => false,
        Err(other) => panic!("{other}"),
    };
    (acknowledged, tail)
}

macro_rules! races_on {
    ($name:ident, $lanes:expr, $fresh:expr) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nothing_acknowledged_is_lost_in_a_thousand_races() {
                let (_kept, owner, taker) = $fresh;
                assert_eq!(
                    races(&owner, &taker, 1_000, $lanes, Taker::FenceThenTail, |_| false)
                        .await
                        .lost,
                    0
                );
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_taker_that_reads_the_tail_before_the_fence_is_caught() {
                let (_kept, owner, taker) = $fresh;
                let raced = races(&owner, &taker, 10, 4, Taker::TailThenFence, |_| false).await;
                assert!(raced.lost > 0, "the mutant went unnoticed");
            }

            #[tokio::test]
            async fn an_append_that_is_overtaken_by_a_fence_is_not_acknowledged() {
                let (_kept, store, _) = $fresh;
                assert_eq!(fenced_in_mid_append(&store, Cheat::Honest).await, (false, BatchNo(2)));
            }

            #[tokio::test]
            async fn a_dropped_fence_is_caught() {
                let (_kept, store, _) = $fresh;
                assert_eq!(
                    fenced_in_mid_append(&store, Cheat::NoFence).await,
                    (true, BatchNo(2)),
                    "the mutant went unnoticed"
                );
            }

            #[tokio::test]
            async fn an_acknowledgement_decided_before_the_write_is_caught() {
                let (_kept, store, _) = $fresh;
                assert_eq!(
                    fenced_in_mid_append(&store, Cheat::VerifyFirst).await,
                    (true, BatchNo(2)),
                    "the mutant went unnoticed"
                );
            }
        }
    };
}

races_on!(memory, 8, {
    let memory = MemoryStore::new();
    ((), memory.store(), memory.store())
});

races_on!(local, 16, {
    let dir = tempfile::tempdir().unwrap();
    let open = || LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    let (owner, taker) = (open(), open());
    (dir, owner, taker)
});
