//! A writer against takers over the memory store, with delays that a seed decides, on tokio's
//! paused clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_cluster::ownership::takeover::{
    self, Anything, ClaimOptions, Claimed, Fit, Fitness, TakeoverError,
};
use rekindle_cluster::retention::{self, Policy};
use rekindle_schema::batch::{BatchBuilder, FrameHeader};
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState, Reached,
};
use rekindle_schema::record::Flush;
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, Tick};
use rekindle_store::history::{self, History, LoadOptions};
use rekindle_store::{Store, StoreError};
use rekindle_store_memory::{Fate, MemoryStore, Op};

const WRITER: Incarnation = Incarnation(0xA);
const TAKERS: [Incarnation; 2] = [Incarnation(0xB), Incarnation(0xC)];
const MATCHES: [MatchId; 3] = [MatchId(1), MatchId(2), MatchId(3)];

/// `SplitMix64`: enough to draw delays from.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

fn delays(memory: &MemoryStore, seed: u64) -> Store {
    let draw = Mutex::new(Draw(seed));
    let plan = move |_| {
        let mut draw = draw.lock();
        let mut millis = || Duration::from_millis(draw.below(12));
        Fate { before: millis(), sync: millis(), after: millis(), ..Fate::default() }
    };
    memory.with_faults(Arc::new(plan)).store()
}

fn node(incarnation: Incarnation) -> NodeLease {
    NodeLease {
        incarnation,
        name: "test".into(),
        state: NodeState::Live,
        pid: 0,
        pid_start: 0,
        deadline_ms: 0,
        seal: None,
        host: String::new(),
        region: DEFAULT_REGION.into(),
        reached: None,
        loss_accepted_ms: None,
    }
}

fn row(match_id: MatchId) -> MatchLease {
    let spec = MatchSpec {
        game: "test".into(),
        config: Bytes::new(),
        seed: 1,
        tick_rate: 30,
        house_bots: 0,
        created_ms: 0,
    };
    MatchLease {
        match_id,
        version: 1,
        epoch: Epoch(1),
        incarnation: WRITER,
        state: MatchState::Running,
        attempts: 0,
        lineage: vec![Lineage {
            epoch: Epoch(1),
            incarnation: WRITER,
            first_batch: BatchNo(1),
            first_seq: Seq(1),
        }],
        spec,
        region: DEFAULT_REGION.into(),
    }
}

async fn prepare(memory: &MemoryStore) {
    let store = memory.store();
    for incarnation in [WRITER, TAKERS[0], TAKERS[1]] {
        store.leases.register(node(incarnation)).await.unwrap();
    }
    for match_id in MATCHES {
        store.leases.create(row(match_id)).await.unwrap();
    }
}

/// Appends one record of each match per batch until it is fenced, and returns the last seq that was
/// acknowledged.
async fn write_until_fenced(store: Store, epoch: Epoch) -> Seq {
    let mut crcs = [0; MATCHES.len()];
    let mut batch_crc = 0;
    for seq in 1.. {
        let mut builder = BatchBuilder::new(WRITER, BatchNo(seq), batch_crc, 1 << 20);
        for (match_id, crc) in MATCHES.iter().zip(&mut crcs) {
            let flush = Flush { first: Tick(seq), last: Tick(seq), ..Flush::default() };
            let header = FrameHeader {
                match_id: *match_id,
                epoch,
                seq: Seq(seq),
                first_tick: Tick(seq),
                last_tick: Tick(seq),
                build: BuildId(1),
                time_ms: 0,
                prev_crc: *crc,
            };
            *crc = builder.push(&header, &flush.encode()).unwrap();
        }
        let batch = builder.finish();
        batch_crc = rekindle_schema::batch::BatchView::parse(&batch.bytes).unwrap().crc();
        match store.journal.append(batch).await {
            Ok(()) => {}
            Err(StoreError::Fenced(_)) => return Seq(seq - 1),
            Err(error) => panic!("unexpected: {error}"),
        }
    }
    unreachable!()
}

async fn take(store: Store, me: Incarnation) -> Vec<Claimed> {
    takeover::secure(&store, me, WRITER).await.unwrap();
    let rows = takeover::orphans(&store, &BTreeSet::from([WRITER])).await.unwrap();
    takeover::claim(
        &store,
        rows,
        ClaimOptions { me, first_batch: BatchNo(1), floor: Epoch(0) },
        &Anything,
    )
    .await
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_fenced_writer_acknowledged_is_in_the_history_of_the_one_winner() {
    for seed in 0..300 {
        let memory = MemoryStore::new();
        prepare(&memory).await;
        let mut draw = Draw(seed ^ 0xDEAD);
        let writer = tokio::spawn(write_until_fenced(delays(&memory, seed), Epoch(1)));
        let takers = TAKERS.map(|me| {
            let (store, wait) = (delays(&memory, seed + 1_000 * me.0), draw.below(200));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                take(store, me).await
            })
        });
        let mut owners = std::collections::BTreeMap::new();
        for taker in takers {
            for claimed in taker.await.unwrap() {
                match claimed {
                    Claimed::Ours(claim) => assert!(
                        owners.insert(claim.lease.match_id, claim).is_none(),
                        "seed {seed}: two owners"
                    ),
                    Claimed::Lost(_) => {}
                    Claimed::Waits(row) => panic!("seed {seed}: match {} waits", row.match_id),
                    Claimed::Parked(id, report) => {
                        panic!("seed {seed}: match {id} parked: {report}")
                    }
                }
            }
        }
        let acknowledged = writer.await.unwrap();
        assert_eq!(owners.len(), MATCHES.len(), "seed {seed}: every match has an owner");
        for (id, claim) in owners {
            let last = claim.history.last_seq();
            assert!(
                last >= acknowledged,
                "seed {seed}: match {id} lost records {last} to {acknowledged}"
            );
            assert_eq!(claim.lease.epoch, Epoch(2));
            assert_eq!(claim.lease.lineage[1].first_seq, last.next(), "seed {seed}");
        }
    }
}

/// A copy continues where nobody has been, and counts on from there.
#[tokio::test(start_paused = true)]
async fn no_match_is_continued_below_the_floor_of_its_store() {
    let memory = MemoryStore::new();
    prepare(&memory).await;
    let store = memory.store();
    let mut dead = BTreeSet::from([WRITER]);
    for (me, expected) in [(TAKERS[0], 5_000), (TAKERS[1], 5_001)] {
        for &incarnation in &dead {
            takeover::secure(&store, me, incarnation).await.unwrap();
        }
        let rows = takeover::orphans(&store, &dead).await.unwrap();
        let options = ClaimOptions { me, first_batch: BatchNo(1), floor: Epoch(5_000) };
        for claimed in takeover::claim(&store, rows, options, &Anything).await.unwrap() {
            let Claimed::Ours(claim) = claimed else { panic!("nobody else takes") };
            assert_eq!(
                (claim.lease.epoch, claim.lease.lineage.last().unwrap().epoch),
                (Epoch(expected), Epoch(expected))
            );
        }
        dead.insert(me);
    }
}

#[tokio::test(start_paused = true)]
async fn a_zombies_batches_behind_the_seal_are_not_in_the_history() {
    let memory = MemoryStore::new();
    prepare(&memory).await;
    let store = memory.store();
    let slow = delays(&memory, 7);
    let writer = tokio::spawn(write_until_fenced(slow, Epoch(1)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let claims = take(store.clone(), TAKERS[0]).await;
    let acknowledged = writer.await.unwrap();
    assert!(acknowledged > Seq(0));
    let sealed = store.leases.node(WRITER).await.unwrap().unwrap().seal.unwrap();
    for claimed in claims {
        let Claimed::Ours(claim) = claimed else { panic!("nobody else takes") };
        let again = history::load(&store, &claim.lease, &LoadOptions::default()).await.unwrap();
        assert_eq!(
            again.last_seq(),
            Seq(sealed.0),
            "what the zombie wrote late does not change the history"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_match_left_by_a_taker_that_died_is_found_again() {
    let memory = MemoryStore::new();
    prepare(&memory).await;
    let store = memory.store();
    takeover::secure(&store, TAKERS[0], WRITER).await.unwrap();
    let rows = takeover::orphans(&store, &BTreeSet::from([WRITER])).await.unwrap();
    let first = rows[..1].to_vec();
    let claimed = takeover::claim(
        &store,
        first,
        ClaimOptions { me: TAKERS[0], first_batch: BatchNo(1), floor: Epoch(0) },
        &Anything,
    )
    .await
    .unwrap();
    assert!(matches!(claimed[..], [Claimed::Ours(_)]));

    let me = TAKERS[1];
    let dead = BTreeSet::from([WRITER, TAKERS[0]]);
    for &incarnation in &dead {
        takeover::secure(&store, me, incarnation).await.unwrap();
    }
    let rows = takeover::orphans(&store, &dead).await.unwrap();
    assert_eq!(rows.len(), MATCHES.len());
    let claimed = takeover::claim(
        &store,
        rows,
        ClaimOptions { me, first_batch: BatchNo(1), floor: Epoch(0) },
        &Anything,
    )
    .await
    .unwrap();
    let mut epochs: Vec<_> = claimed
        .iter()
        .map(|claimed| match claimed {
            Claimed::Ours(claim) => claim.lease.epoch.0,
            _ => panic!("nobody else takes"),
        })
        .collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_takes_nothing() {
    let memory = MemoryStore::new();
    prepare(&memory).await;
    let store = memory.store();
    takeover::secure(&store, TAKERS[1], TAKERS[0]).await.unwrap();
    let refused = takeover::secure(&store, TAKERS[0], WRITER).await;
    assert!(matches!(refused, Err(TakeoverError::NotLive(me)) if me == TAKERS[0]));
    assert_eq!(
        store.leases.node(WRITER).await.unwrap().unwrap().state,
        NodeState::Live,
        "the writer is untouched"
    );
}

/// Says the same of every match.
struct Always(Fit);

impl Fitness for Always {
    fn of<'a>(&'a self, _: &'a MatchLease, _: &'a History) -> BoxFuture<'a, Fit> {
        std::future::ready(self.0.clone()).boxed()
    }
}

async fn secured(memory: &MemoryStore) -> (Store, Vec<MatchLease>) {
    prepare(memory).await;
    let store = memory.store();
    takeover::secure(&store, TAKERS[0], WRITER).await.unwrap();
    let rows = takeover::orphans(&store, &BTreeSet::from([WRITER])).await.unwrap();
    (store, rows)
}

const OPTIONS: ClaimOptions =
    ClaimOptions { me: TAKERS[0], first_batch: BatchNo(1), floor: Epoch(0) };

#[tokio::test(start_paused = true)]
async fn what_the_claimer_cannot_run_is_left_untouched_for_others() {
    let memory = MemoryStore::new();
    let (store, rows) = secured(&memory).await;
    let claims = takeover::claim(&store, rows.clone(), OPTIONS, &Always(Fit::Waits)).await.unwrap();
    assert!(
        claims.iter().all(|claimed| matches!(claimed, Claimed::Waits(_)))
            && claims.len() == MATCHES.len()
    );
    assert_eq!(store.leases.matches().await.unwrap(), rows, "not a byte of a row has changed");
    let claims = takeover::claim(&store, rows, OPTIONS, &Anything).await.unwrap();
    assert!(
        claims.iter().all(|claimed| matches!(claimed, Claimed::Ours(_))),
        "whoever can takes them"
    );
}

#[tokio::test(start_paused = true)]
async fn a_match_is_parked_by_what_its_claimer_saw_and_never_for_a_count_alone() {
    let memory = MemoryStore::new();
    let (store, _) = secured(&memory).await;
    for id in MATCHES {
        rekindle_cluster::ownership::directory::update(&*store.leases, id, |row| {
            row.attempts = 1_000;
            true
        })
        .await
        .unwrap();
    }
    let mut rows = takeover::orphans(&store, &BTreeSet::from([WRITER])).await.unwrap();
    let last = rows.pop().unwrap();
    let claims = takeover::claim(&store, rows, OPTIONS, &Anything).await.unwrap();
    assert!(claims.iter().all(|claimed| matches!(claimed, Claimed::Ours(_))));
    let id = last.match_id;
    let claims =
        takeover::claim(&store, vec![last], OPTIONS, &Always(Fit::Parks("it kills".to_owned(), 5)))
            .await
            .unwrap();
    assert!(
        matches!(&claims[..], [Claimed::Parked(parked, report)] if *parked == id && report == "it kills")
    );
    let row = store.leases.get(id).await.unwrap().unwrap();
    assert_eq!(
        (row.state.clone(), row.attempts),
        (MatchState::Parked { report: "it kills".to_owned() }, 5)
    );
    // Somebody who can run it claims it again, out of its parking place.
    let claims = takeover::claim(&store, vec![row], OPTIONS, &Anything).await.unwrap();
    assert!(
        matches!(&claims[..], [Claimed::Ours(claim)] if claim.lease.state == MatchState::Running)
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_parks_nobody_and_an_older_checkpoint_stands_in() {
    let io = || StoreError::Io {
        what: "open",
        path: "somewhere".into(),
        cause: "too many open files".into(),
    };
    let memory = MemoryStore::new();
    prepare(&memory).await;
    let store = memory.store();
    let writer = tokio::spawn(write_until_fenced(delays(&memory, 3), Epoch(1)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    takeover::secure(&store, TAKERS[0], WRITER).await.unwrap();
    assert!(writer.await.unwrap() > Seq(2));
    for seq in [1, 2] {
        let (meta, state) =
            rekindle_store_conformance::checkpoint(MATCHES[0], 1, WRITER, seq, 1, 100);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let rows = takeover::orphans(&store, &BTreeSet::from([WRITER])).await.unwrap();
    let options = OPTIONS;
    // The requests of this kind whose numbers are in `which` fail.
    let failing = |what: Op, which: std::ops::Range<u64>| {
        let count = Mutex::new(0);
        let plan = move |op: Op| {
            let mut count = count.lock();
            let fails = op == what && which.contains(&count);
            *count += u64::from(op == what);
            Fate { fail: fails.then(io), ..Fate::default() }
        };
        memory.with_faults(Arc::new(plan)).store()
    };
    // Of the requests for checkpoints the first is for their list, the next ones for the newest and
    // the one before it.
    let checkpoints = Op::ReadCheckpoint(MATCHES[0]);
    for store in [failing(Op::Read(WRITER), 0..1), failing(checkpoints, 1..3)] {
        let refused = takeover::claim(&store, rows.clone(), options, &Anything).await;
        assert!(matches!(refused, Err(TakeoverError::Store(StoreError::Io { .. }))));
    }
    let claims =
        takeover::claim(&failing(checkpoints, 1..2), rows, options, &Anything).await.unwrap();
    let Claimed::Ours(claim) = &claims[0] else { panic!("it can be had") };
    assert_eq!(claim.history.checkpoint.as_ref().unwrap().0.seq, Seq(1));
    assert!(claims.iter().all(|claimed| matches!(claimed, Claimed::Ours(_))));
}

#[tokio::test(start_paused = true)]
async fn a_dead_log_that_nobody_needs_goes_with_its_lease() {
    let memory = MemoryStore::new();
    prepare(&memory).await;
    let store = memory.store();
    let writer = tokio::spawn(write_until_fenced(delays(&memory, 3), Epoch(1)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let claims = take(store.clone(), TAKERS[0]).await;
    writer.await.unwrap();
    let policy = Policy::default();
    assert!(
        retention::run(&store, &policy, 0).await.unwrap().cuts.is_empty(),
        "without two checkpoints every record is needed"
    );
    for claimed in claims {
        let Claimed::Ours(claim) = claimed else { panic!("nobody else takes") };
        rekindle_cluster::ownership::directory::update(
            &*store.leases,
            claim.lease.match_id,
            |row| {
                row.state = MatchState::Ended { reason: "over".into() };
                true
            },
        )
        .await
        .unwrap();
    }
    let cuts = retention::run(&store, &policy, 0).await.unwrap().cuts;
    assert_eq!(cuts.iter().map(|cut| cut.log).collect::<Vec<_>>(), [WRITER]);
    assert!(
        store.leases.node(WRITER).await.unwrap().is_none(),
        "the lease is forgotten with the log"
    );
    assert!(store.leases.node(TAKERS[0]).await.unwrap().is_some());
}

/// A log that ends before what its node had said is sealed there, not where it ends; its matches
/// are parked and say what they may have lost; they go on when an operator accepts that, and not
/// before.
#[tokio::test]
async fn a_log_that_lost_its_end_parks_its_matches_until_the_loss_is_accepted() {
    let memory = MemoryStore::new();
    let store = memory.store();
    prepare(&memory).await;
    let log = WRITER;
    let mut scribe = rekindle_store_conformance::Scribe::new(log);
    let written = scribe.append(&store, 9, &MATCHES).await;
    let reached = Reached {
        batch: BatchNo(8),
        crc: written[7].crc(),
        at_ms: 1_700_000_000_500,
        checkpoint: None,
    };
    store.leases.renew(log, 9_000, Some(reached)).await.unwrap();
    memory.lose_batches_behind(log, BatchNo(5));

    let secured = takeover::secure(&store, TAKERS[0], log).await.unwrap();
    assert_eq!(secured.seal, BatchNo(8));
    let short = secured.short.unwrap();
    assert_eq!((short.ends, short.known), (BatchNo(5), BatchNo(8)));
    let options = ClaimOptions { me: TAKERS[0], first_batch: BatchNo(1), floor: Epoch(0) };
    let rows = takeover::orphans(&store, &BTreeSet::from([log])).await.unwrap();
    for claimed in takeover::claim(&store, rows, options, &Anything).await.unwrap() {
        let Claimed::Parked(_, report) = claimed else { panic!("it goes on in silence") };
        assert!(report.contains("ticks after 10") && report.contains("accept-loss"), "{report}");
    }
    assert!(takeover::orphans(&store, &BTreeSet::from([log])).await.unwrap().is_empty());

    let loss = takeover::loss(&store, log).await.unwrap().unwrap();
    assert_eq!((loss.short, loss.matches.len()), (short, MATCHES.len()));
    assert_eq!(
        store.leases.node(log).await.unwrap().unwrap().seal,
        Some(BatchNo(8)),
        "looking changes nothing"
    );
    takeover::accept_loss(&store, log, 77).await.unwrap().unwrap();
    assert!(takeover::loss(&store, log).await.unwrap().is_none());
    let rows = takeover::orphans(&store, &BTreeSet::from([log])).await.unwrap();
    assert_eq!(rows.len(), MATCHES.len());
    for claimed in takeover::claim(&store, rows, options, &Anything).await.unwrap() {
        let Claimed::Ours(claim) = claimed else { panic!("it does not go on") };
        assert_eq!((claim.history.last_seq(), claim.lease.lineage[1].first_seq), (Seq(5), Seq(6)));
    }
    // What was accepted is what there is: nobody is told again.
    let rows = store.leases.matches().await.unwrap();
    for history in history::load_many(&store, &rows, &LoadOptions::default()).await {
        assert_eq!(history.unwrap().last_seq(), Seq(5));
    }
}

/// The log of a node that had stopped may be trimmed as a whole before it is sealed: that is no
/// loss.
#[tokio::test]
async fn a_log_that_was_trimmed_is_not_missed() {
    let memory = MemoryStore::new();
    let store = memory.store();
    prepare(&memory).await;
    let written = rekindle_store_conformance::Scribe::new(WRITER).append(&store, 4, &MATCHES).await;
    let reached = Reached { batch: BatchNo(4), crc: written[3].crc(), at_ms: 1, checkpoint: None };
    store.leases.renew(WRITER, 9_000, Some(reached)).await.unwrap();
    store.leases.stop(WRITER).await.unwrap();
    store.journal.trim(WRITER, BatchNo(5)).await.unwrap();
    assert!(store.journal.logs().await.unwrap().is_empty());
    assert_eq!(rekindle_store::witness::look(&store).await.unwrap(), [""; 0]);
    assert_eq!(takeover::secure(&store, TAKERS[0], WRITER).await.unwrap().short, None);
    assert_eq!(rekindle_store::witness::look(&store).await.unwrap(), [""; 0]);
}
