//! Fencing on a real CQL server: what is acknowledged is in the view of whoever takes over,
//! whatever races.
//!
//! The mutants at the end show that these races notice what they are there for.

mod support;

use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::history::{self, LoadOptions};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{
    Backend, Raced, Scribe, Taker, fence_and_seal, match_lease, races, read_all, register,
};
use rekindle_store_cql::Mutant;
use support::{Space, bare, unique};

const A: MatchId = MatchId(0x0a);
/// Rounds that are under way at once in one cluster.
const AT_ONCE: usize = 4;

/// Races in one cluster whose owners have this mutant of the store.
async fn rounds(space: &Space, count: u64, order: Taker, mutant: Mutant) -> Raced {
    let owner = space.with(|options| options.mutant = mutant).await;
    races(&owner, &space.open().await, count, AT_ONCE, order, StoreError::is_transient).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_races_lose_nothing_that_was_acknowledged() {
    let Some(space) = Space::fresh().await else { return };
    // In spaces of their own, as clusters have: a thousand nodes of one cluster would keep listing
    // one another's logs.
    let clusters = (0..10).map(|_| async {
        let mut space = space.clone();
        space.options.space = unique("cluster");
        rounds(&space, 100, Taker::FenceThenTail, Mutant::None).await
    });
    let outcomes = futures::future::join_all(clusters).await;
    let (lost, all) =
        outcomes.iter().fold((0, 0), |sum, raced| (sum.0 + raced.lost, sum.1 + raced.acknowledged));
    println!("{all} acknowledged batches in 1,000 rounds");
    assert!(all > 500, "{all} batches are no race");
    assert_eq!(lost, 0, "of {all} acknowledged batches the takers did not see {lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_race_notices_a_writer_that_does_not_verify() {
    let Some(space) = Space::fresh().await else { return };
    let Raced { lost, .. } = rounds(&space, 24, Taker::FenceThenTail, Mutant::NoVerify).await;
    assert!(lost > 0, "without the verifying read nothing was lost: the race is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_race_notices_a_writer_that_acknowledges_before_it_verifies() {
    let Some(space) = Space::fresh().await else { return };
    let Raced { lost, .. } =
        rounds(&space, 24, Taker::FenceThenTail, Mutant::AcknowledgeFirst).await;
    assert!(
        lost > 0,
        "with the verifying read before the write nothing was lost: the race is none"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_race_notices_a_taker_that_reads_the_tail_before_it_fences() {
    let Some(space) = Space::fresh().await else { return };
    let Raced { lost, .. } = rounds(&space, 24, Taker::TailThenFence, Mutant::None).await;
    assert!(lost > 0, "with the tail before the fence nothing was lost: the race is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_race_notices_a_taker_that_does_not_fence() {
    let Some(space) = Space::fresh().await else { return };
    let Raced { lost, .. } = rounds(&space, 24, Taker::NoFence, Mutant::None).await;
    assert!(lost > 0, "without a fence nothing was lost: the race is none");
}

/// What a batch's rows hold is changed behind the store's back.
async fn damage(space: &Space, log: Incarnation, number: u64) {
    let session = bare(&space.keyspace.address).await;
    let (name, key) = (
        &space.keyspace.name,
        format!("space = '{}' AND log = {} AND bucket = 0", space.options.space, log.0),
    );
    let rows = session
        .query_unpaged(
            format!("SELECT bytes FROM {name}.log_batch WHERE {key} AND number = {number}"),
            (),
        )
        .await
        .unwrap();
    let (mut bytes,): (Vec<u8>,) = rows.into_rows_result().unwrap().first_row().unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x10;
    let write = format!(
        "UPDATE {name}.log_batch SET bytes = ? WHERE {key} AND number = {number} AND part = 0"
    );
    session.query_unpaged(write, (bytes,)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_are_noticed_and_not_noticed_by_a_reader_that_does_not_check() {
    let Some(space) = Space::fresh().await else { return };
    let (store, node) = (space.open().await, Incarnation(5));
    register(&store, node).await;
    let written = Scribe::new(node).append(&store, 6, &[A]).await;
    damage(&space, node, 3).await;
    let careless = space.with(|options| options.mutant = Mutant::NoChecksums).await;
    assert_ne!(
        read_all(&careless, node, 1, 1 << 20).await,
        written,
        "the mutant hands out what is not what was written"
    );
    assert_eq!(store.journal.read(node, BatchNo(1), 1 << 20).await.unwrap(), written[..2]);
    let damaged = store.journal.read(node, BatchNo(3), 1 << 20).await.unwrap_err();
    assert!(
        matches!(&damaged, StoreError::Corrupt { place, .. } if place.contains("batch 3")),
        "{damaged}"
    );
    assert_eq!(
        read_all(&store, node, 4, 1 << 20).await,
        written[3..],
        "what is behind it can be read"
    );
    // At the end it is a write that was cut off.
    damage(&space, node, 6).await;
    let tail = store.journal.tail(node).await.unwrap();
    assert_eq!(tail.last, BatchNo(5));
    assert!(tail.torn.is_some_and(|torn| torn.contains("batch 6")));
    assert_eq!(read_all(&store, node, 4, 1 << 20).await, written[3..5]);
}

/// Eight nodes take over the same dead one at once: one seal, one owner of each match.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_takers_one_gets_each_match() {
    const MATCHES: u64 = 6;
    let Some(space) = Space::fresh().await else { return };
    let (first, dead) = (space.open().await, Incarnation(1));
    register(&first, dead).await;
    let matches: Vec<MatchId> = (1..=MATCHES).map(MatchId).collect();
    for &match_id in &matches {
        first.leases.create(match_lease(match_id, &[(dead, 1)])).await.unwrap();
    }
    Scribe::new(dead).append(&first, 5, &matches).await;
    let takers = takers_of(&space, 8).await;
    let outcomes = takers.iter().zip(10..).map(|(store, me)| {
        let matches = matches.clone();
        async move {
            let me = Incarnation(me);
            register(store, me).await;
            let seal = fence_and_seal(store, dead).await;
            let mut won = Vec::new();
            for match_id in matches {
                let mut row = store.leases.get(match_id).await.unwrap().unwrap();
                if row.incarnation != dead {
                    continue;
                }
                (row.version, row.epoch, row.incarnation) = (row.version + 1, row.epoch.next(), me);
                if store.leases.compare_and_set(row).await.unwrap().is_ok() {
                    won.push(match_id);
                }
            }
            (seal, me, won)
        }
    });
    let outcomes = futures::future::join_all(outcomes).await;
    assert!(outcomes.iter().all(|(seal, ..)| *seal == BatchNo(5)));
    let mut won: Vec<MatchId> = outcomes.iter().flat_map(|(.., won)| won.clone()).collect();
    won.sort_unstable();
    assert_eq!(won, matches, "each match has one winner");
    for (_, me, won) in &outcomes {
        for match_id in won {
            assert_eq!(first.leases.get(*match_id).await.unwrap().unwrap().incarnation, *me);
        }
    }
}

async fn takers_of(space: &Space, count: usize) -> Vec<Store> {
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(space.open().await);
    }
    stores
}

/// A zombie's rows turn up after the seal, whole and with the right numbers; and rows of a batch of
/// which a part is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zombie_rows_behind_the_seal_do_not_count() {
    let Some(space) = Space::fresh().await else { return };
    let (store, node) = (space.open().await, Incarnation(9));
    register(&store, node).await;
    let mut scribe = Scribe::new(node);
    scribe.append(&store, 4, &[A]).await;
    store.leases.fence(node).await.unwrap();
    let session = bare(&space.keyspace.address).await;
    let insert = format!(
        "INSERT INTO {}.log_batch (space, log, bucket, number, part, parts, bytes) VALUES (?, {}, \
         0, ?, ?, ?, ?)",
        space.keyspace.name, node.0
    );
    let write = async |number: i64, part: i32, parts: i32, bytes: &[u8]| {
        session
            .query_unpaged(
                insert.clone(),
                (space.options.space.as_str(), number, part, parts, bytes),
            )
            .await
            .unwrap();
    };
    // A batch of which only the first part arrived is a torn tail.
    let cut = scribe.clone().small(&[A]);
    write(5, 0, 2, &cut.bytes[..100]).await;
    let tail = store.journal.tail(node).await.unwrap();
    assert_eq!(tail.last, BatchNo(4));
    assert!(tail.torn.as_ref().is_some_and(|torn| torn.contains("1 of 2 parts")), "{tail:?}");
    store.journal.settle(node, BatchNo(4)).await.unwrap();
    assert_eq!(store.leases.seal(node, BatchNo(4)).await.unwrap(), BatchNo(4));
    // Now the rest arrives, and more.
    write(5, 1, 2, &cut.bytes[100..]).await;
    scribe.small(&[A]);
    write(6, 0, 1, &scribe.small(&[A]).bytes).await;
    assert_eq!(store.journal.tail(node).await.unwrap().last, BatchNo(6), "they are there");
    let history =
        history::load(&space.open().await, &match_lease(A, &[(node, 1)]), &LoadOptions::default())
            .await
            .unwrap();
    assert_eq!(history.last_seq().0, 4);
    assert_eq!(store.leases.seal(node, BatchNo(6)).await.unwrap(), BatchNo(4));
    store.journal.trim(node, BatchNo(5)).await.unwrap();
    assert!(
        store.journal.logs().await.unwrap().is_empty(),
        "the log goes with what lies behind its seal"
    );
    // And a zombie that announces a bucket afterwards makes no log, in whichever partition.
    for shard in 0..16 {
        let announce = format!(
            "UPDATE {}.log SET last_bucket = 3 WHERE space = ? AND shard = {shard} AND log = {}",
            space.keyspace.name, node.0
        );
        session.query_unpaged(announce, (space.options.space.as_str(),)).await.unwrap();
    }
    assert!(store.journal.logs().await.unwrap().is_empty());
    assert!(store.journal.read(node, BatchNo(1), 100).await.unwrap().is_empty());
}

/// Two clusters in one keyspace do not see one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spaces_do_not_see_one_another() {
    let Some(space) = Space::fresh().await else { return };
    let (mine, theirs) =
        (space.open().await, space.with(|options| options.space = unique("other")).await);
    let node = Incarnation(3);
    register(&mine, node).await;
    Scribe::new(node).append(&mine, 2, &[A]).await;
    mine.leases.create(match_lease(A, &[(node, 1)])).await.unwrap();
    assert!(
        theirs.leases.nodes().await.unwrap().is_empty()
            && theirs.leases.matches().await.unwrap().is_empty()
    );
    assert!(theirs.journal.logs().await.unwrap().is_empty());
    assert_eq!(theirs.journal.tail(node).await.unwrap().last, BatchNo(0));
    register(&theirs, node).await;
    assert_eq!(mine.leases.nodes().await.unwrap().len(), 1);
}
