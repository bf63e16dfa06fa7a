//! Races between an owner that appends as fast as it can and a taker that takes its log away.
//!
//! They are no cases of the suite: each backend's tests choose how many run, and run them on
//! mutants of the backend too.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use rekindle_schema::batch::Batch;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::history::{self, HistoryError, LoadOptions};
use rekindle_store::{Store, StoreError};
use tokio::sync::watch;

use super::{A, Scribe, match_lease, register};

/// In which order a taker does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// As it must be.
    FenceThenTail,
    /// A mutant: the owner goes on behind the tail until it is fenced.
    TailThenFence,
    /// A mutant: it settles such a tail as well, and fences only because nobody can seal a live
    /// log.
    NoFence,
}

/// What came of races.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raced {
    /// Batches of which owners were told that they are safe.
    pub acknowledged: u64,
    /// How many of these the takers did not see.
    pub lost: u64,
}

/// Runs `rounds` races, `lanes` of them at the same time, between two handles on the same data.
/// Each race has a node of its own, `0x1001` and up, and removes its log and lease in the end.
/// Needs a runtime of several threads.
///
/// Panics at any error but a fence; after those for which `again` holds, an owner appends the same
/// batch again, as the journal does.
pub async fn races(
    owner: &Store,
    taker: &Store,
    rounds: u64,
    lanes: usize,
    order: Taker,
    again: fn(&StoreError) -> bool,
) -> Raced {
    let races = futures::stream::iter(1..=rounds)
        .map(|round| race(owner, taker, round, order, again))
        .buffer_unordered(lanes);
    let add = |sum: Raced, one: Raced| Raced {
        acknowledged: sum.acknowledged + one.acknowledged,
        lost: sum.lost + one.lost,
    };
    let raced = races.fold(Raced::default(), async |sum, one| add(sum, one)).await;
    println!("{rounds} races, {order:?}: {raced:?}");
    raced
}

async fn race(
    owner: &Store,
    taker: &Store,
    round: u64,
    order: Taker,
    again: fn(&StoreError) -> bool,
) -> Raced {
    let node = Incarnation(0x1000 + round);
    register(owner, node).await;
    let (acknowledged, progress) = watch::channel(0);
    let writing = tokio::spawn(write(owner.clone(), node, acknowledged, again));
    let seal = take(taker, node, round, order, progress, again).await;
    let written = writing.await.unwrap();
    let mut seen = Vec::new();
    loop {
        let next = BatchNo(seen.len() as u64 + 1);
        let read = async || taker.journal.read(node, next, 1 << 20).await;
        match answered(read, again).await {
            chunk if chunk.is_empty() => break,
            chunk => seen.extend(chunk),
        }
    }
    let counted = &seen[..seal.0 as usize];
    let shared = counted.len().min(written.len());
    assert_eq!(
        counted[..shared],
        written[..shared],
        "round {round}: other bytes than were acknowledged"
    );
    // What nobody was told of may be there too: the last write of all.
    assert!(
        counted.len() <= written.len() + 1,
        "round {round}: {} batches count, {} were acknowledged",
        counted.len(),
        written.len()
    );
    let lease = match_lease(A, &[(node, 1)]);
    let load = async || history::load(taker, &lease, &LoadOptions::default()).await;
    let short_of_time =
        |error: &HistoryError| matches!(error, HistoryError::Store(error) if again(error));
    let history = answered(load, short_of_time).await;
    assert_eq!(history.last_seq().0, seal.0, "round {round}: a history ends at the seal");
    answered(async || taker.journal.trim(node, BatchNo(u64::MAX)).await, again).await;
    answered(async || taker.leases.forget(node).await, again).await;
    Raced { acknowledged: written.len() as u64, lost: (written.len() - shared) as u64 }
}

/// What the store answers in the end: a server that is short of time is asked again.
async fn answered<T, E: Debug>(
    ask: impl AsyncFn() -> Result<T, E>,
    again: impl Fn(&E) -> bool,
) -> T {
    loop {
        match ask().await {
            Err(error) if again(&error) => tokio::time::sleep(Duration::from_millis(5)).await,
            outcome => return outcome.expect("the store answers"),
        }
    }
}

/// Appends until it is refused, and says how many batches were acknowledged so far. Returns these.
async fn write(
    owner: Store,
    node: Incarnation,
    acknowledged: watch::Sender<u64>,
    again: fn(&StoreError) -> bool,
) -> Vec<Batch> {
    let mut scribe = Scribe::new(node);
    let mut written = Vec::new();
    loop {
        // The taker cannot have seen a batch that begins after it was through: one that is
        // acknowledged is lost, and no mutant need go on for ever.
        let late = acknowledged.is_closed();
        let batch = scribe.small(&[A]);
        let outcome = loop {
            match owner.journal.append(batch.clone()).await {
                Err(error) if again(&error) => tokio::time::sleep(Duration::from_millis(5)).await,
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(()) => written.push(batch),
            Err(StoreError::Fenced(_)) => return written,
            Err(other) => panic!("log {node}: {other}"),
        }
        if late {
            return written;
        }
        acknowledged.send_replace(written.len() as u64);
        // The store in memory never waits, so others would not come to their turn.
        tokio::task::yield_now().await;
    }
}

/// Takes the log away while it is written. Returns the seal.
async fn take(
    taker: &Store,
    node: Incarnation,
    round: u64,
    order: Taker,
    mut progress: watch::Receiver<u64>,
    again: fn(&StoreError) -> bool,
) -> BatchNo {
    let fence = async || taker.leases.fence(node).await;
    let settle = async |last| taker.journal.settle(node, last).await;
    // Each round in another moment: just after an acknowledgement, or anywhere.
    progress.wait_for(|&count| count >= round % 7).await.expect("the owner is there");
    if round.is_multiple_of(2) {
        tokio::time::sleep(Duration::from_micros(round * 37 % 3_000)).await;
    }
    if order == Taker::FenceThenTail {
        answered(fence, again).await;
    }
    let last = answered(async || taker.journal.tail(node).await, again).await.last;
    if order == Taker::NoFence {
        answered(async || settle(last).await, again).await;
    }
    if order != Taker::FenceThenTail {
        // The owner is told of one more batch before its time is over.
        progress.wait_for(|&count| count > last.0).await.expect("the owner is there");
        answered(fence, again).await;
    }
    answered(async || settle(last).await, again).await;
    let seal = answered(async || taker.leases.seal(node, last).await, again).await;
    assert_eq!(seal, last, "round {round}: nobody else seals");
    last
}
