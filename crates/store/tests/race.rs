//! Whoever fences an owner and then reads its log finds everything that the owner was told is safe: in a thousand races each on the local store and the one in
//! memory. Owners and takers that leave a part of the protocol out are caught by the same tests. (On servers: `postgres_fence.rs`, `cql_race.rs`.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use rekindle_schema::batch::Batch;
use rekindle_schema::lease::NodeState;
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::conformance::{Scribe, read_all, register};
use rekindle_store::local::{LocalOptions, LocalStore};
use rekindle_store::memory::MemoryStore;
use rekindle_store::port::StoreResult;
use rekindle_store::{Journal, LogInfo, Store, StoreError, Tail};
use tokio::sync::{Semaphore, watch};

const NODE: Incarnation = Incarnation(0xa1);
const A: MatchId = MatchId(0x0a);

/// In which order a taker does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taker {
    FenceThenTail,
    TailThenFence,
}

/// One race: an owner appends as fast as it can and a taker takes its log away. Returns how many acknowledged batches the taker does not see.
async fn race(owner: &Store, taker: &Store, node: Incarnation, round: u64, order: Taker) -> u64 {
    register(owner, node).await;
    let (acknowledged, mut progress) = watch::channel(0_u64);
    let writer = async {
        let mut scribe = Scribe::new(node);
        let mut written: Vec<Batch> = Vec::new();
        loop {
            let batch = scribe.small(&[A]);
            match owner.journal.append(batch.clone()).await {
                Ok(()) => written.push(batch),
                Err(StoreError::Fenced(_)) => return written,
                Err(other) => panic!("round {round}: {other}"),
            }
            acknowledged.send_replace(written.len() as u64);
            // The store in memory never waits, so the taker would never come to its turn.
            tokio::task::yield_now().await;
        }
    };
    let taking = async {
        progress.wait_for(|&count| count >= round % 7).await.expect("the owner is there");
        let early = taker.journal.tail(node).await.unwrap().last;
        if order == Taker::TailThenFence {
            // The owner is told of one more batch before its time is over.
            progress.wait_for(|&count| count > early.0).await.expect("the owner is there");
        }
        taker.leases.fence(node).await.unwrap();
        let last = match order {
            Taker::FenceThenTail => taker.journal.tail(node).await.unwrap().last,
            Taker::TailThenFence => early,
        };
        taker.journal.settle(node, last).await.unwrap();
        assert_eq!(taker.leases.seal(node, last).await.unwrap(), last);
        last
    };
    let (written, seal) = futures::join!(writer, taking);
    let seen = read_all(taker, node, 1, 1 << 20).await;
    let counted = &seen[..seal.0 as usize];
    let shared = counted.len().min(written.len());
    assert_eq!(counted[..shared], written[..shared], "round {round}: other bytes than were acknowledged");
    taker.journal.trim(node, BatchNo(u64::MAX)).await.unwrap();
    taker.leases.forget(node).await.unwrap();
    written.len() as u64 - shared as u64
}

/// Races in `lanes` that run at the same time. Returns how many acknowledged batches were lost.
async fn races(owner: &Store, taker: &Store, rounds: u64, lanes: usize, order: Taker) -> u64 {
    let lost = AtomicU64::new(0);
    let run = |round| {
        let lost = &lost;
        async move {
            lost.fetch_add(race(owner, taker, Incarnation(0x1000 + round), round, order).await, Ordering::Relaxed);
        }
    };
    futures::stream::iter(1..=rounds).for_each_concurrent(lanes, run).await;
    lost.into_inner()
}

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

/// A journal whose appends wait for the test between the moment at which a lease could be read and the write.
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
    fn read(&self, log: Incarnation, from: BatchNo, max_bytes: usize) -> StoreResult<'_, Vec<Batch>> {
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

/// The third append of an owner is held up right before its write while a taker fences and reads the tail. Whether it was acknowledged all the same, and the last
/// batch that the taker saw.
async fn fenced_in_mid_append(store: &Store, cheat: Cheat) -> (bool, BatchNo) {
    register(store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(store, 2, &[A]).await;
    let held = Arc::new(Held { store: store.clone(), cheat, standing: Semaphore::new(0), go: Semaphore::new(0) });
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
                assert_eq!(races(&owner, &taker, 1_000, $lanes, Taker::FenceThenTail).await, 0);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_taker_that_reads_the_tail_before_the_fence_is_caught() {
                let (_kept, owner, taker) = $fresh;
                assert!(races(&owner, &taker, 10, 4, Taker::TailThenFence).await > 0, "the mutant went unnoticed");
            }

            #[tokio::test]
            async fn an_append_that_is_overtaken_by_a_fence_is_not_acknowledged() {
                let (_kept, store, _) = $fresh;
                assert_eq!(fenced_in_mid_append(&store, Cheat::Honest).await, (false, BatchNo(2)));
            }

            #[tokio::test]
            async fn a_dropped_fence_is_caught() {
                let (_kept, store, _) = $fresh;
                assert_eq!(fenced_in_mid_append(&store, Cheat::NoFence).await, (true, BatchNo(2)), "the mutant went unnoticed");
            }

            #[tokio::test]
            async fn an_acknowledgement_decided_before_the_write_is_caught() {
                let (_kept, store, _) = $fresh;
                assert_eq!(fenced_in_mid_append(&store, Cheat::VerifyFirst).await, (true, BatchNo(2)), "the mutant went unnoticed");
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
