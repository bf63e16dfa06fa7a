//! Claims that land between two reads of housekeeping, or after its last: no log that holds
//! acknowledged records goes, and no match is left without an owner.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_cluster::ownership::caretaker::{Caretaker, Claimant, Look};
use rekindle_cluster::ownership::round::{self, NoHints, Surroundings};
use rekindle_cluster::ownership::takeover::{self, Anything, ClaimOptions, Claimed};
use rekindle_cluster::retention::{self, Policy};
use rekindle_schema::lease::{DEFAULT_REGION, MatchLease, NodeLease, NodeState};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
use rekindle_store::history::{self, LoadOptions};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Scribe, fence_and_seal, match_lease, register};
use rekindle_store_memory::{Fate, MemoryStore, Op};

/// The first owner, long dead.
const FIRST: Incarnation = Incarnation(1);
/// Claims the match, and is fenced.
const NODE: Incarnation = Incarnation(2);
/// Looks after what nobody runs.
const SURVIVOR: Incarnation = Incarnation(3);
const MATCH: MatchId = MatchId(1);
/// Of the node, before.
const OTHER: MatchId = MatchId(2);

/// The row with which the node claims the match behind its first record.
fn claim(first_batch: u64) -> MatchLease {
    let options = ClaimOptions { me: NODE, first_batch: BatchNo(first_batch), floor: Epoch(1) };
    takeover::next_owner(match_lease(MATCH, &[(FIRST, 1)]), options, Seq(1))
}

/// One match whose owner is dead and sealed behind its only record, and a live node that has
/// written three batches of a match that is over.
async fn prepared(memory: &MemoryStore) -> (Store, Scribe) {
    let store = memory.store();
    register(&store, FIRST).await;
    store.leases.create(match_lease(MATCH, &[(FIRST, 1)])).await.unwrap();
    Scribe::new(FIRST).append(&store, 1, &[MATCH]).await;
    fence_and_seal(&store, FIRST).await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 3, &[OTHER]).await;
    register(&store, SURVIVOR).await;
    (store, scribe)
}

/// The store as housekeeping sees it: `meanwhile` happens between its first read of the leases and
/// its first read of the rows, whichever comes first.
fn interrupted(memory: &MemoryStore, meanwhile: impl FnOnce() + Send + 'static) -> Store {
    let state = Mutex::new((BTreeSet::new(), Some(meanwhile)));
    let plan = move |op| {
        let read = match op {
            Op::NodeLease(node) if node == Incarnation::default() => "leases",
            Op::MatchLease => "rows",
            _ => return Fate::default(),
        };
        let mut state = state.lock();
        state.0.insert(read);
        if state.0.len() == 2
            && let Some(meanwhile) = state.1.take()
        {
            meanwhile();
        }
        Fate::default()
    };
    memory.with_faults(Arc::new(plan)).store()
}

/// The memory store answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits")
}

/// A look of the survivor, who claims what it finds.
async fn look(store: &Store, caretaker: &mut Caretaker, now_ms: u64) -> Vec<Claimed> {
    let nobody = BTreeSet::new();
    let look = Look { now_ms, asked: &nobody };
    let found = round::look(caretaker, store, &Nothing, &NoHints, look).await.unwrap();
    let Some(found) = found else { return Vec::new() };
    let options = ClaimOptions { me: SURVIVOR, first_batch: BatchNo(1), floor: Epoch(1) };
    let claimed = takeover::claim(store, found.claims, options, &Anything).await.unwrap();
    caretaker.finished(found.dead);
    claimed
}

/// A node on which nothing runs and that knows of nobody's end.
struct Nothing;

impl Surroundings for Nothing {
    fn gone<'a>(
        &'a self,
        _: &'a [NodeLease],
    ) -> BoxFuture<'a, Result<BTreeSet<Incarnation>, StoreError>> {
        std::future::ready(Ok(BTreeSet::new())).boxed()
    }

    fn running(&self) -> BTreeSet<MatchId> {
        BTreeSet::new()
    }

    fn wall_ms(&self) -> u64 {
        0
    }
}

fn caretaker() -> Caretaker {
    Caretaker::new(Claimant { me: SURVIVOR, region: DEFAULT_REGION.to_owned(), deaths: None })
}

/// Looks until the match is the survivor's, and returns its row and the number of its last record.
async fn taken(store: &Store) -> (MatchLease, Seq) {
    let mut caretaker = caretaker();
    for second in 0..40 {
        match look(store, &mut caretaker, second * 1_000).await.into_iter().next() {
            Some(Claimed::Ours(claim)) => return (claim.lease, claim.history.last_seq()),
            Some(Claimed::Parked(id, report)) => panic!("match {id} is parked: {report}"),
            Some(Claimed::Lost(id)) => panic!("match {id} was lost to nobody"),
            Some(Claimed::Waits(row)) => panic!("match {} waits", row.match_id),
            None => {}
        }
    }
    panic!("nobody takes the match: {:?}", store.leases.get(MATCH).await.unwrap());
}

#[tokio::test]
async fn a_log_whose_node_claims_and_is_sealed_between_two_reads_of_housekeeping_is_kept() {
    let memory = MemoryStore::new();
    let (store, mut scribe) = prepared(&memory).await;
    let plain = store.clone();
    let meanwhile = move || {
        now(async {
            plain.leases.compare_and_set(claim(4)).await.unwrap().unwrap();
            scribe.own(MATCH, 2, 2);
            scribe.append(&plain, 1, &[MATCH]).await;
            fence_and_seal(&plain, NODE).await;
        });
    };
    let seen = interrupted(&memory, meanwhile);
    retention::run(&seen, &Policy::default(), 0).await.unwrap();

    let row = store.leases.get(MATCH).await.unwrap().unwrap();
    assert_eq!(row.incarnation, NODE, "the claim came in between");
    let history = history::load(&store, &row, &LoadOptions::default()).await.unwrap();
    assert_eq!(history.last_seq(), Seq(2), "what was acknowledged is there");
    // Whatever housekeeping does from now on, it is taken over with all that was acknowledged.
    retention::run(&store, &Policy::default(), 0).await.unwrap();
    let (row, last) = taken(&store).await;
    assert_eq!((row.incarnation, row.epoch, last), (SURVIVOR, Epoch(3), Seq(2)));
}

#[tokio::test]
async fn a_claim_that_lands_when_its_node_is_forgotten_leaves_no_orphan() {
    let memory = MemoryStore::new();
    let (store, _) = prepared(&memory).await;
    fence_and_seal(&store, NODE).await;
    let done = retention::run(&store, &Policy::default(), 0).await.unwrap();
    assert!(done.cuts.iter().any(|cut| cut.log == NODE), "nobody needs its log: {:?}", done.cuts);
    assert_eq!(store.leases.node(NODE).await.unwrap(), None, "it is forgotten");
    // Sent before it was fenced, in whatever batch it was then.
    store.leases.compare_and_set(claim(2)).await.unwrap().unwrap();

    let (row, last) = taken(&store).await;
    assert_eq!((row.incarnation, row.epoch, last), (SURVIVOR, Epoch(3), Seq(1)));
    let buried = store.leases.node(NODE).await.unwrap().unwrap();
    assert_eq!((buried.state, buried.seal), (NodeState::Fenced, Some(BatchNo(0))));
    let history = history::load(&store, &row, &LoadOptions::default()).await.unwrap();
    assert_eq!(history.last_seq(), Seq(1), "it is read past the stretch of the late claim");
}

#[tokio::test]
async fn a_claim_that_lands_while_its_log_is_removed_leaves_no_orphan() {
    let memory = MemoryStore::new();
    let (store, _) = prepared(&memory).await;
    fence_and_seal(&store, NODE).await;
    let plain = store.clone();
    let removed = memory.with_faults(Arc::new(move |op| {
        // The first request for this very lease is the one to forget it: the rows were read.
        if op == Op::NodeLease(NODE) {
            let _ = now(plain.leases.compare_and_set(claim(2)));
        }
        Fate::default()
    }));
    retention::run(&removed.store(), &Policy::default(), 0).await.unwrap();
    let row = store.leases.get(MATCH).await.unwrap().unwrap();
    assert_eq!(row.incarnation, NODE, "the claim came in between");
    let (row, last) = taken(&store).await;
    assert_eq!((row.incarnation, last), (SURVIVOR, Seq(1)));
}

#[tokio::test]
async fn a_node_that_has_just_registered_is_not_taken_for_a_forgotten_one() {
    let memory = MemoryStore::new();
    let (store, _) = prepared(&memory).await;
    fence_and_seal(&store, NODE).await;
    let newcomer = Incarnation(9);
    let plain = store.clone();
    let meanwhile = move || {
        now(async {
            register(&plain, newcomer).await;
            plain.leases.create(match_lease(OTHER, &[(newcomer, 1)])).await.unwrap();
        });
    };
    let seen = interrupted(&memory, meanwhile);
    let claimed = look(&seen, &mut caretaker(), 0).await;
    let ids: Vec<MatchId> = claimed
        .iter()
        .map(|claimed| match claimed {
            Claimed::Ours(claim) => claim.lease.match_id,
            _ => MatchId(0),
        })
        .collect();
    assert!(!ids.contains(&OTHER), "it runs");
    let lease = store.leases.node(newcomer).await.unwrap().unwrap();
    assert_eq!(lease.state, NodeState::Live);
}
