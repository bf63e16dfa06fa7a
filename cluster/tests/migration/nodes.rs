//! Two nodes that give matches to each other, with the real tasks and a memory store; what runs
//! matches is a model with one journal that both see. Time is virtual.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_cluster::bus::{PeerBus, PeerError, PeerService};
use rekindle_cluster::migration::give::{Giving, give};
use rekindle_cluster::migration::hands::{Followed, Hands, Telling};
use rekindle_cluster::migration::source::{Move, Outcome, Patience};
use rekindle_cluster::migration::take::Taking;
use rekindle_cluster::migration::target::Stand;
use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState};
use rekindle_schema::peer::{Cut, PeerReply, PeerRequest};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};
use rekindle_store::{Store, StoreError};
use rekindle_store_memory::{Fate, MemoryStore, Op};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

const MATCH: MatchId = MatchId(7);
const ONE: Incarnation = Incarnation(1);
const TWO: Incarnation = Incarnation(2);
/// Of the match.
const TICK: Duration = Duration::from_millis(33);

/// The journal of one match, and who writes it.
#[derive(Default)]
struct Journal {
    /// The last record; each is one tick.
    last: u64,
    writer: Option<(Incarnation, Epoch)>,
    /// When the last record was written, and the longest time between two.
    at: Option<Instant>,
    pause: Duration,
}

type Shared = Arc<Mutex<Journal>>;

/// What runs matches, for one node.
struct Model {
    me: Incarnation,
    journal: Shared,
    still: Mutex<Option<Epoch>>,
    full: Mutex<Option<String>>,
    /// Computes otherwise than the owner.
    differs: Mutex<bool>,
    recovered: AtomicU64,
    /// The last tick of the source, once a match came from one.
    arrived: Mutex<Option<Tick>>,
}

impl Model {
    fn runs(&self, epoch: Epoch) {
        let mut journal = self.journal.lock();
        assert_eq!(journal.writer, None, "two nodes run it");
        journal.writer = Some((self.me, epoch));
    }
}

fn hash(seq: u64) -> StateHash {
    StateHash([u8::try_from(seq % 251).unwrap_or(0); 32])
}

fn done<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    std::future::ready(value).boxed()
}

impl Hands for Model {
    fn tick(&self, _: MatchId) -> Option<Tick> {
        let journal = self.journal.lock();
        let mine = journal.writer.is_some_and(|(writer, _)| writer == self.me);
        (mine || self.still.lock().is_some()).then_some(Tick(journal.last))
    }

    fn next_batch(&self) -> BatchNo {
        BatchNo(1)
    }

    fn stop(&self, _: MatchId) -> BoxFuture<'_, Result<Cut, String>> {
        let mut journal = self.journal.lock();
        let Some((writer, epoch)) = journal.writer.take() else {
            return done(Err("nobody runs it".to_owned()));
        };
        assert_eq!(writer, self.me);
        *self.still.lock() = Some(epoch);
        let seq = journal.last;
        done(Ok(Cut { epoch, tick: Tick(seq), seq: Seq(seq), hash: hash(seq) }))
    }

    fn keep(&self, _: MatchId) -> BoxFuture<'_, Result<(), String>> {
        let epoch = self.still.lock().take().expect("it stands still");
        self.runs(epoch);
        done(Ok(()))
    }

    fn keep_as(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>> {
        assert!(self.still.lock().take().is_some_and(|before| before < row.epoch));
        self.runs(row.epoch);
        done(Ok(()))
    }

    fn let_go(&self, _: MatchId) -> BoxFuture<'_, ()> {
        assert!(self.still.lock().take().is_some(), "it stands still");
        done(())
    }

    fn enter(&self, _: MatchId) -> Option<Box<dyn Send>> {
        Some(Box::new(()))
    }

    fn admits(&self, _: &MatchLease) -> Result<(), String> {
        self.full.lock().clone().map_or(Ok(()), Err)
    }

    fn follow(&self, _: MatchLease, tell: Telling) -> Box<dyn Followed> {
        let journal = Arc::clone(&self.journal);
        let differs = *self.differs.lock();
        let stood = Arc::new(AtomicU64::new(0));
        let (me, telling) = (self.me, Arc::clone(&stood));
        let task = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(5)).await;
                let seq = journal.lock().last;
                telling.store(seq, Ordering::Relaxed);
                let hash = if differs { hash(seq + 1) } else { hash(seq) };
                tell(Ok(Stand { tick: Tick(seq), seq: Seq(seq), hash, next_batch: BatchNo(1) }));
            }
        });
        let journal = Arc::clone(&self.journal);
        Box::new(Follower { me, journal, stood, task: task.abort_handle() })
    }

    fn arrived(&self, _: MatchId, (last, _): (Tick, Instant)) {
        *self.arrived.lock() = Some(last);
    }

    fn recover(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>> {
        self.recovered.fetch_add(1, Ordering::Relaxed);
        self.runs(row.epoch);
        done(Ok(()))
    }
}

struct Follower {
    me: Incarnation,
    journal: Shared,
    stood: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed for Follower {
    fn run(self: Box<Self>, row: MatchLease) -> BoxFuture<'static, Result<(), String>> {
        let mut journal = self.journal.lock();
        assert_eq!(journal.writer, None, "two nodes run it");
        let first = row.lineage.last().map(|last| last.first_seq.0);
        assert_eq!(first, Some(self.stood.load(Ordering::Relaxed) + 1));
        assert_eq!(first, Some(journal.last + 1), "nothing is lost or written twice");
        journal.writer = Some((self.me, row.epoch));
        done(Ok(()))
    }
}

/// What becomes of the request with this number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loses {
    Nothing,
    Request(u64),
    Reply(u64),
}

/// Calls each node directly, and loses one request or reply.
struct Direct {
    me: Incarnation,
    nodes: Mutex<BTreeMap<Incarnation, Arc<dyn PeerService>>>,
    loses: Loses,
    asked: AtomicU64,
}

impl PeerBus for Direct {
    fn call(
        &self,
        to: Incarnation,
        request: PeerRequest,
        patience: Duration,
    ) -> BoxFuture<'_, Result<PeerReply, PeerError>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let node = self.nodes.lock().get(&to).cloned();
        async move {
            let node = node.ok_or(PeerError::NoLink(to))?;
            let answer = async {
                sleep(Duration::from_millis(1)).await;
                if self.loses == Loses::Request(number) {
                    return std::future::pending().await;
                }
                let reply = node.handle(self.me, request).await;
                if self.loses == Loses::Reply(number) {
                    return std::future::pending().await;
                }
                reply
            };
            tokio::time::timeout(patience, answer).await.map_err(|_| PeerError::Unknown(to))
        }
        .boxed()
    }

    fn linked(&self) -> Vec<Incarnation> {
        self.nodes.lock().keys().copied().collect()
    }
}

struct Node {
    model: Arc<Model>,
    giving: Giving,
    bus: Arc<Direct>,
}

struct Nodes {
    journal: Shared,
    store: Store,
    one: Node,
    two: Node,
}

impl Nodes {
    /// Two nodes; the first runs the match. `plan` says what becomes of requests to the store of
    /// the first.
    async fn start(loses: Loses, plan: impl Fn(Op) -> Fate + Send + Sync + 'static) -> Self {
        let memory = MemoryStore::new();
        let faulty = memory.with_faults(Arc::new(plan)).store();
        let store = memory.store();
        store.leases.create(row()).await.unwrap();
        let journal = Shared::default();
        journal.lock().last = 3;
        let (one, two) = (
            node(ONE, &journal, faulty, loses),
            node(TWO, &journal, store.clone(), Loses::Nothing),
        );
        for (bus, node) in [(&one.bus, &two), (&two.bus, &one)] {
            let hands = Arc::clone(&node.model) as Arc<dyn Hands>;
            let service = Taking::new(node.model.me, node.giving.store.clone(), hands, 1);
            bus.nodes.lock().insert(node.model.me, Arc::new(service));
        }
        one.model.runs(Epoch(1));
        tokio::spawn(ticks(Arc::clone(&journal)));
        Self { journal, store, one, two }
    }

    async fn give(&self, from: Incarnation) -> Outcome {
        let (node, target) = if from == ONE { (&self.one, TWO) } else { (&self.two, ONE) };
        let order = Move { match_id: MATCH, me: from, target, floor: Epoch(1) };
        give(&node.giving, order, Patience::default()).await
    }

    /// Waits until somebody runs it, and returns who. Whoever does is named by the row.
    async fn runner(&self) -> Incarnation {
        let begun = Instant::now();
        loop {
            if let Some((node, epoch)) = self.journal.lock().writer {
                let row = self.store.leases.get(MATCH).now_or_never().unwrap().unwrap().unwrap();
                assert_eq!((row.incarnation, row.epoch), (node, epoch), "the row names it");
                return node;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "nobody runs it");
            sleep(TICK).await;
        }
    }
}

fn node(me: Incarnation, journal: &Shared, store: Store, loses: Loses) -> Node {
    let model = Arc::new(Model {
        me,
        journal: Arc::clone(journal),
        still: Mutex::new(None),
        full: Mutex::new(None),
        differs: Mutex::new(false),
        recovered: AtomicU64::new(0),
        arrived: Mutex::new(None),
    });
    let nodes = Mutex::default();
    let bus = Arc::new(Direct { me, nodes, loses, asked: AtomicU64::new(0) });
    let peers = Arc::clone(&bus) as Arc<dyn PeerBus>;
    let giving = Giving { peers, store, hands: Arc::clone(&model) as Arc<dyn Hands> };
    Node { model, giving, bus }
}

async fn ticks(journal: Shared) {
    loop {
        sleep(TICK).await;
        let mut journal = journal.lock();
        if journal.writer.is_some() {
            journal.last += 1;
            let pause = journal.at.map_or(Duration::ZERO, |at| at.elapsed());
            journal.pause = journal.pause.max(pause);
            journal.at = Some(Instant::now());
        }
    }
}

fn row() -> MatchLease {
    let spec = MatchSpec {
        game: "test".into(),
        config: Bytes::new(),
        seed: 1,
        tick_rate: 30,
        house_bots: 0,
        created_ms: 0,
    };
    let (epoch, first_seq) = (Epoch(1), Seq(1));
    MatchLease {
        match_id: MATCH,
        version: 1,
        epoch,
        incarnation: ONE,
        state: MatchState::Running,
        attempts: 0,
        lineage: vec![Lineage { epoch, incarnation: ONE, first_batch: BatchNo(1), first_seq }],
        spec,
        region: DEFAULT_REGION.into(),
    }
}

fn well(_: Op) -> Fate {
    Fate::default()
}

/// Lets everything pass but the `nth` request about the match's row from the first node.
fn nth_row(nth: u64, fate: Fate) -> impl Fn(Op) -> Fate + Send + Sync {
    let seen = AtomicU64::new(0);
    move |op| match op {
        Op::MatchLease if seen.fetch_add(1, Ordering::Relaxed) == nth => fate.clone(),
        _ => Fate::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_match_moves_fifty_times_back_and_forth_and_hardly_pauses() {
    let nodes = Nodes::start(Loses::Nothing, well).await;
    for round in 0..50 {
        let from = if round % 2 == 0 { ONE } else { TWO };
        let outcome = nodes.give(from).await;
        let Outcome::Moved { told: true, cut, .. } = outcome else { panic!("{outcome:?}") };
        let taker = if from == ONE { &nodes.two } else { &nodes.one };
        assert_eq!(*taker.model.arrived.lock(), Some(cut.tick), "the pause is measured from there");
        assert_ne!(nodes.runner().await, from);
    }
    let row = nodes.store.leases.get(MATCH).await.unwrap().unwrap();
    assert_eq!((row.epoch, row.lineage.len(), row.incarnation), (Epoch(51), 51, ONE));
    let recovered =
        [&nodes.one, &nodes.two].map(|node| node.model.recovered.load(Ordering::Relaxed));
    assert_eq!(recovered, [0, 0], "its follower runs it");
    let pause = nodes.journal.lock().pause;
    assert!(pause <= 2 * TICK + Duration::from_millis(5), "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_one_message_is_lost_one_node_runs_it_and_it_can_move_again() {
    for number in 0..8 {
        for loses in [Loses::Request(number), Loses::Reply(number)] {
            let nodes = Nodes::start(loses, well).await;
            nodes.give(ONE).await;
            if nodes.runner().await == ONE {
                let again = nodes.give(ONE).await;
                assert!(matches!(again, Outcome::Moved { .. }), "message {number}: {again:?}");
            }
            assert_eq!(nodes.runner().await, TWO, "message {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_done_and_not_answered_has_moved_the_match() {
    let fate = Fate { lose_answer: true, ..Fate::default() };
    let nodes = Nodes::start(Loses::Nothing, nth_row(1, fate)).await;
    let outcome = nodes.give(ONE).await;
    assert!(matches!(outcome, Outcome::Moved { .. }), "{outcome:?}");
    assert_eq!(nodes.runner().await, TWO);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_not_done_is_settled_by_another_and_the_match_goes_on() {
    let fail = Some(StoreError::Unavailable("down".to_owned()));
    let nodes = Nodes::start(Loses::Nothing, nth_row(1, Fate { fail, ..Fate::default() })).await;
    let outcome = nodes.give(ONE).await;
    assert!(matches!(outcome, Outcome::Kept(_)), "{outcome:?}");
    assert_eq!(nodes.runner().await, ONE);
    let row = nodes.store.leases.get(MATCH).await.unwrap().unwrap();
    assert_eq!(row.epoch, Epoch(2), "a late write of the commit can not be applied any more");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_any_step_leaves_one_owner() {
    for nth in 0..4 {
        for lose_answer in [false, true] {
            let fail = (!lose_answer).then(|| StoreError::Unavailable("down".to_owned()));
            let fate = Fate { fail, lose_answer, ..Fate::default() };
            let nodes = Nodes::start(Loses::Nothing, nth_row(nth, fate)).await;
            nodes.give(ONE).await;
            nodes.runner().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_take_it_says_why_and_the_match_never_stops() {
    let nodes = Nodes::start(Loses::Nothing, well).await;
    *nodes.two.model.full.lock() = Some("it is drained".to_owned());
    assert_eq!(nodes.give(ONE).await, Outcome::Kept("it is drained".to_owned()));
    assert_eq!(nodes.runner().await, ONE);
    assert!(nodes.journal.lock().pause <= TICK);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_computes_otherwise_does_not_get_it() {
    let nodes = Nodes::start(Loses::Nothing, well).await;
    *nodes.two.model.differs.lock() = true;
    let outcome = nodes.give(ONE).await;
    assert!(
        matches!(&outcome, Outcome::Kept(why) if why.contains("RK-CLUSTER-121")),
        "{outcome:?}"
    );
    assert_eq!(nodes.runner().await, ONE);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_link_is_given_up_and_the_match_never_stops() {
    let nodes = Nodes::start(Loses::Nothing, well).await;
    nodes.one.bus.nodes.lock().clear();
    let outcome = nodes.give(ONE).await;
    assert!(matches!(&outcome, Outcome::Kept(why) if why.contains("RK-PEER-001")), "{outcome:?}");
    assert_eq!(nodes.runner().await, ONE);
}
