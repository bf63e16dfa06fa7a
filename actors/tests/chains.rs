//! Checkpoints that are deltas: what is kept, and what a recovery makes of chains that are whole,
//! cut short, or damaged.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rekindle_actors::{HostConfig, MatchHandle};
use rekindle_door::MatchDoor as _;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::record::Step;
use rekindle_schema::{Incarnation, MatchId, StateHash, Tick};
use rekindle_sim::GameType;
use rekindle_store::chains::{self, Chain, Restorer};
use rekindle_store::history::{self, LoadOptions};
use rekindle_store::{Store, StoreError};
use rekindle_store_memory::{Fate, MemoryStore, Op};
use support::*;

const MATCH: MatchId = MatchId(7);

fn chained(longest: u32) -> HostConfig {
    HostConfig { checkpoint_every: Duration::from_secs(1), checkpoint_chain: longest, ..config() }
}

async fn list(store: &Store) -> Vec<CheckpointMeta> {
    let (list, damaged) = store.checkpoints.list(MATCH).await.expect("list");
    assert!(damaged.is_empty(), "{damaged:?}");
    list
}

/// Plays until the newest checkpoint satisfies `wanted`.
async fn play_until(
    store: &Store,
    link: &MatchHandle,
    wanted: impl Fn(&[CheckpointMeta]) -> bool,
) -> Vec<CheckpointMeta> {
    let session = enter(link, 1).await;
    for seq in 1..20_000 {
        link.input(input(session, seq, Tick(0), add(seq as u8)));
        let now = link.inspect().await.expect("it lives").0;
        link.wait_durable(now.next()).await.expect("it lives");
        let list = list(store).await;
        if wanted(&list) {
            return list;
        }
    }
    panic!("no such checkpoints after {} ticks", link.durable().tick);
}

/// The hash of the world at `tick`, from the journal alone.
async fn hash_at(store: &Store, wanted: Tick) -> StateHash {
    let (lease, flushes) = journal(store, MATCH.0).await;
    let mut sim = Tally::new().create(&lease.spec.config, lease.spec.seed).expect("create");
    for tick in (1..=wanted.0).map(Tick) {
        let step = flushes.iter().flat_map(|flush| &flush.steps).find(|step| step.tick == tick);
        sim.step(step.unwrap_or(&Step { tick, ..Step::default() })).expect("step");
    }
    sim.state_hash()
}

fn deltas_on_newest(list: &[CheckpointMeta]) -> usize {
    chains::restore_points(list).0.map_or(0, |newest| newest.links().len() - 1)
}

fn roots(list: &[CheckpointMeta]) -> usize {
    list.iter().filter(|meta| meta.base.is_none()).count()
}

#[tokio::test(start_paused = true)]
async fn chains_are_as_long_as_they_may_be_and_the_newest_two_are_kept_whole() {
    let store = MemoryStore::new().store();
    let first = Node::start(&store, 1, chained(3)).await;
    let link = first.create(MATCH.0).await;
    let mut most = 0;
    for round in 1..=3 {
        let list = play_until(&store, &link, |list| {
            list[..].first().is_some_and(|meta| meta.tick.0 > round * 250)
        })
        .await;
        assert!(roots(&list) <= 2, "{list:?}");
        for meta in &list {
            let chain = Chain::of(meta, &list).expect("what a delta rests on is kept");
            assert!(chain.links().len() <= 4, "{list:?}");
            most = most.max(chain.links().len());
            let (_, state) =
                Restorer::new(&*store.checkpoints, &list).restore(meta).await.expect("restorable");
            let sim = Tally::new().restore(&state).expect("a state");
            assert_eq!((sim.tick(), sim.state_hash()), (meta.tick, meta.hash));
            assert_eq!(sim.state_hash(), hash_at(&store, meta.tick).await, "at {}", meta.tick);
        }
    }
    assert_eq!(most, 4);
    let sizes: Vec<u64> = list(&store).await.iter().map(|meta| meta.len).collect();
    assert!(sizes.iter().min() < sizes.iter().max().map(|most| most / 2).as_ref(), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_in_mid_chain_loses_nothing_and_its_heir_begins_a_chain() {
    let store = MemoryStore::new().store();
    let first = Node::start(&store, 1, chained(8)).await;
    let link = first.create(MATCH.0).await;
    let before = play_until(&store, &link, |list| deltas_on_newest(list) == 3).await;
    let durable = link.durable().tick;
    first.host.abort();
    drop(first);

    let second = Node::start(&store, 2, chained(8)).await;
    let report = second.take_over(Incarnation(1)).await.remove(0).expect("recovered");
    assert!(report.tick >= durable && report.hash_ok);
    assert!(report.replayed < 60, "{} ticks replayed", report.replayed);
    let link = second.host.find(MATCH).expect("it runs");
    let (tick, hash) = link.inspect().await.expect("it lives");
    assert_eq!(hash, hash_at(&store, tick).await);
    let after = play_until(&store, &link, |list| {
        list[0].log == Incarnation(2) && deltas_on_newest(list) == 2
    })
    .await;
    let newest = Chain::of(&after[0], &after).expect("whole");
    assert_eq!(
        (newest.root().log, newest.root().base),
        (Incarnation(2), None),
        "the first under an owner is full"
    );
    let (_, second_point) = chains::restore_points(&after);
    assert_eq!(
        second_point.expect("two restore points").tip(),
        &before[0],
        "the dead owner's chain is kept until there are two new ones"
    );
}

#[tokio::test(start_paused = true)]
async fn a_damaged_full_checkpoint_takes_its_deltas_with_it_and_the_chain_before_stands_in() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, chained(3)).await;
    let link = first.create(MATCH.0).await;
    let list =
        play_until(&store, &link, |list| roots(list) == 2 && deltas_on_newest(list) == 2).await;
    first.host.abort();
    drop(first);
    let (lease, _) = journal(&store, MATCH.0).await;
    let (newest, second) = chains::restore_points(&list);
    let (newest, second) = (newest.expect("one"), second.expect("two"));
    let good = history::load(&store, &lease, &LoadOptions::default()).await.expect("load");
    assert_eq!(good.checkpoint.as_ref().map(|(meta, _)| meta), Some(newest.tip()));
    for link in newest.links() {
        for bit in (0..link.len as usize * 8).step_by(97) {
            assert!(memory.flip_bit_of(link, bit));
            let history =
                history::load(&store, &lease, &LoadOptions::default()).await.expect("load");
            let (meta, state) = history.checkpoint.clone().expect("a checkpoint");
            let expected = link.base.map_or(second.tip().seq, |base| base.seq);
            assert_eq!(meta.seq, expected, "link at seq {}, bit {bit}", link.seq);
            assert!(!history.notes.is_empty(), "in silence");
            assert_eq!(Tally::new().restore(&state).expect("a state").state_hash(), meta.hash);
            assert_eq!(history.last_seq(), good.last_seq());
            assert!(memory.flip_bit_of(link, bit));
        }
    }
    assert!(memory.flip_bit_of(newest.root(), 1_001));
    let second = Node::start(&store, 2, chained(3)).await;
    let report = second.take_over(Incarnation(1)).await.remove(0).expect("recovered");
    assert!(report.hash_ok);
    let (tick, hash) = second.host.find(MATCH).expect("it runs").inspect().await.expect("it lives");
    assert_eq!(hash, hash_at(&store, tick).await);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_was_not_stored_is_nobodys_base() {
    // Every third put fails, every seventh takes effect and the answer is lost.
    let puts = Arc::new(AtomicU64::new(0));
    let plan = {
        let puts = Arc::clone(&puts);
        move |op| match op {
            Op::PutCheckpoint(..) => match puts.fetch_add(1, Ordering::Relaxed) {
                number if number % 3 == 2 => Fate {
                    fail: Some(StoreError::Refused {
                        place: "a checkpoint".to_owned(),
                        problem: "a test".to_owned(),
                    }),
                    ..Fate::default()
                },
                number => Fate { lose_answer: number % 7 == 6, ..Fate::default() },
            },
            _ => Fate::default(),
        }
    };
    let memory = MemoryStore::new();
    let faulty = memory.with_faults(Arc::new(plan)).store();
    let store = memory.store();
    let first = Node::start(&faulty, 1, chained(4)).await;
    let link = first.create(MATCH.0).await;
    let list =
        play_until(&store, &link, |list| list[..].first().is_some_and(|meta| meta.tick.0 > 2_000))
            .await;
    assert!(puts.load(Ordering::Relaxed) > 15);
    assert!(list.iter().any(|meta| meta.base.is_some()), "{list:?}");
    for meta in &list {
        let (_, state) =
            Restorer::new(&*store.checkpoints, &list).restore(meta).await.expect("restorable");
        assert_eq!(
            Tally::new().restore(&state).expect("a state").state_hash(),
            hash_at(&store, meta.tick).await
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_match_that_has_ended_is_one_full_checkpoint() {
    let store = MemoryStore::new().store();
    let node = Node::start(&store, 1, chained(8)).await;
    let link = node.create(MATCH.0).await;
    play_until(&store, &link, |list| deltas_on_newest(list) == 2).await;
    let changed = link.durable().tick;
    let session = enter(&link, 2).await;
    link.command(session, 1, finish());
    node.settled(MATCH.0).await;
    let left = list(&store).await;
    assert!(left.len() == 1 && left[0].base.is_none() && left[0].tick > changed, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_checkpoints_is_answered_once() {
    let memory = MemoryStore::new();
    let puts = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&puts);
    let plan = move |op: Op| {
        counted.fetch_add(u64::from(matches!(op, Op::PutCheckpoint(..))), Ordering::Relaxed);
        Fate::default()
    };
    let store = memory.with_faults(Arc::new(plan)).store();
    // Nothing but a wish makes a checkpoint due, after the first of each match.
    let config =
        HostConfig { checkpoint_every: Duration::from_hours(1), recovery_budget: 1e9, ..config() };
    let node = Node::start(&store, 1, config).await;
    for id in 1..=20 {
        node.create(id).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(puts.swap(0, Ordering::Relaxed), 20);
    for _ in 0..2 {
        assert_eq!(node.host.checkpoint_all().await, 20);
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(puts.swap(0, Ordering::Relaxed), 20, "one of each match, and no more");
    }
}
