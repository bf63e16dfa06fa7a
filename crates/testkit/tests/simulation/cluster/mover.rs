//! Moves matches of one process to others, as operators want it: with the product's source and
//! target, their tasks and the host; what they do is written down for the judges on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle::node::migrate::hands::HostHands;
use rekindle_actors::{Host, MatchPhase};
use rekindle_cluster::migration::give::{Giving, give};
use rekindle_cluster::migration::hands::{Followed, Hands, Telling};
use rekindle_cluster::migration::source::{self, Outcome, Patience};
use rekindle_cluster::migration::take::Taking;
use rekindle_schema::lease::{DEFAULT_REGION, MatchLease};
use rekindle_schema::peer::Cut;
use rekindle_schema::{BatchNo, Incarnation, MatchId, Tick};
use rekindle_store::Store;
use rekindle_store::identity::Fresh;
use rekindle_testkit::oracle::Rule;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::faults::{Fault, NODES, Step};
use super::link::Mutant;
use super::peers::Peers;
use super::world::World;
use crate::node::{MATCHES, mark_healthy};

/// How long each side waits.
const PATIENCE: Patience = Patience { follow_ms: 1_500, ready_ms: 400, close_ticks: 3 };
/// Most matches that move at once, each way.
const AT_ONCE: usize = 2;
/// A migration in calm times keeps a match no longer than this, in milliseconds: some ten messages
/// and requests, each of which waits for the next step of the world.
const PAUSE_MS: u64 = 250;

/// What an operator wants of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// It gives this match to that node.
    Move { match_id: MatchId, to: usize },
    /// It gives all away, and takes none before that time.
    Drain { until: Duration },
}

/// A migration whose source knows that it went well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub match_id: MatchId,
    pub cut: Cut,
    pub target: Incarnation,
    /// How long the match stood still, in milliseconds; `None` if something went wrong meanwhile.
    pub calm_pause_ms: Option<u64>,
}

/// Gives and takes matches for one process.
pub(crate) struct Mover {
    world: World,
    node: usize,
    me: Incarnation,
    host: Host,
    store: Store,
    hands: Arc<Watched>,
    giving: Giving,
    under_way: Mutex<BTreeSet<MatchId>>,
}

impl Mover {
    /// Of the process `me` of `node`; what it takes is taken by what is returned beside it.
    pub(crate) fn new(
        world: &World,
        node: usize,
        me: Incarnation,
        host: &Host,
        store: &Store,
    ) -> (Arc<Self>, Arc<Taking>) {
        let inner =
            HostHands::new(host.clone(), store.clone(), DEFAULT_REGION.to_owned(), MATCHES.len());
        let runs = Runs { world: world.clone(), host: host.clone(), store: store.clone(), me };
        let hands = Arc::new(Watched { inner, runs, world: world.clone(), me });
        let carried = hands.clone() as Arc<dyn Hands>;
        let taking = Taking::new(me, store.clone(), carried.clone(), AT_ONCE);
        let peers = Arc::new(Peers { world: world.clone(), node, me });
        let mover = Self {
            world: world.clone(),
            node,
            me,
            host: host.clone(),
            store: store.clone(),
            hands,
            giving: Giving { peers, store: store.clone(), hands: carried },
            under_way: Mutex::default(),
        };
        (Arc::new(mover), Arc::new(taking))
    }

    /// Does what operators want, for ever.
    pub(crate) async fn obey(self: Arc<Self>, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Move { match_id, to } => {
                    tokio::spawn(self.clone().hand_over(match_id, to));
                }
                Order::Drain { until } => drop(tokio::spawn(self.clone().drain(until))),
            }
        }
        std::future::pending::<()>().await;
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.world.log(&format!("node-{}", self.node), what);
    }

    async fn drain(self: Arc<Self>, until: Duration) {
        self.hands.inner.take_nothing(true);
        let all: Vec<MatchId> = MATCHES
            .into_iter()
            .filter(|id| {
                self.host.find(*id).is_some_and(|handle| handle.phase() == MatchPhase::Running)
            })
            .collect();
        let hop = |index: usize| (self.node + 1 + index % (NODES - 1)) % NODES;
        let tasks: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(index, id)| tokio::spawn(self.clone().hand_over(*id, hop(index))))
            .collect();
        let mut gone = 0;
        for task in tasks {
            gone += usize::from(task.await.unwrap_or(false));
        }
        if gone > 0 && gone == all.len() && self.runs_nothing() {
            self.world.mark(super::DRAINED);
        }
        self.say(format_args!("gave {gone} of {} matches away", all.len()));
        let left = until.saturating_sub(self.world.now());
        tokio::time::sleep(left).await;
        self.hands.inner.take_nothing(false);
    }

    fn runs_nothing(&self) -> bool {
        MATCHES.iter().all(|id| self.host.find(*id).is_none())
    }

    /// Whether the match is another node's afterwards.
    async fn hand_over(self: Arc<Self>, match_id: MatchId, to: usize) -> bool {
        let Some(target) = self.world.incarnation(to) else {
            self.say(format_args!("match {match_id} stays: node {to} is down"));
            return false;
        };
        if !self.under_way.lock().insert(match_id) {
            return false;
        }
        let begun = self.world.now();
        self.say(format_args!("gives match {match_id} to node {to}"));
        let outcome = self.give(match_id, target).await;
        self.under_way.lock().remove(&match_id);
        let moved = self.judge(match_id, target, begun, &outcome);
        self.world.gave(match_id, self.me, moved);
        self.say(format_args!("match {match_id}: {outcome:?}"));
        moved.is_some()
    }

    async fn give(&self, match_id: MatchId, target: Incarnation) -> Outcome {
        let fresh = Fresh { now_ms: self.world.clock_ms(self.node), chance: 1 };
        let floor = match self.store.identity.ascertain(fresh).await {
            Ok(identity) => identity.floor,
            Err(error) => return Outcome::Kept(error.to_string()),
        };
        self.world.gives(match_id, self.me, target);
        let order = source::Move { match_id, me: self.me, target, floor };
        give(&self.giving, order, PATIENCE).await
    }

    /// What a migration is marked as; one that nothing disturbed must go well.
    fn judge(
        &self,
        match_id: MatchId,
        target: Incarnation,
        begun: Duration,
        outcome: &Outcome,
    ) -> Option<Moved> {
        let calm = self.world.was_calm_since(begun);
        let Outcome::Moved { cut, stood_ms, told } = *outcome else {
            // One that is drained does not take it.
            let drained =
                self.world.at_work_since(begun).any(|fault| matches!(fault, Fault::Drain { .. }));
            if calm && !drained {
                self.world.blame(
                    Rule::Progress,
                    format!("match {match_id} was not moved in calm times: {outcome:?}"),
                );
            }
            return None;
        };
        if self.world.at_work_since(begun).any(Fault::is_between) {
            self.world.mark(super::MOVED_IN_TROUBLE);
        }
        if calm {
            self.world.mark(super::MOVED);
        }
        if calm && (!told || stood_ms > PAUSE_MS) {
            self.world.blame(
                Rule::Progress,
                format!(
                    "match {match_id} moved in calm times: it stood still for {stood_ms} ms, \
                    its target was told: {told}"
                ),
            );
        }
        Some(Moved { match_id, cut, target, calm_pause_ms: calm.then_some(stood_ms) })
    }
}

/// The hands of a node, with an eye on what they do.
struct Watched {
    inner: HostHands,
    runs: Runs,
    world: World,
    me: Incarnation,
}

/// What becomes of a match that begins to run on a node.
#[derive(Clone)]
struct Runs {
    world: World,
    host: Host,
    store: Store,
    me: Incarnation,
}

impl Runs {
    /// `followed`: by its follower, and not from the store.
    fn begins(&self, row: &MatchLease, followed: bool) {
        let Self { world, host, store, me } = self.clone();
        world.begins(row, followed);
        tokio::spawn(mark_healthy(host, store, me, row.match_id));
    }
}

impl Hands for Watched {
    fn tick(&self, match_id: MatchId) -> Option<Tick> {
        self.inner.tick(match_id)
    }

    fn next_batch(&self) -> BatchNo {
        self.inner.next_batch()
    }

    fn stop(&self, match_id: MatchId) -> BoxFuture<'_, Result<Cut, String>> {
        async move {
            let cut = self.inner.stop(match_id).await?;
            self.world.comes_to(Step::Stopped, match_id, self.me);
            Ok(cut)
        }
        .boxed()
    }

    fn keep(&self, match_id: MatchId) -> BoxFuture<'_, Result<(), String>> {
        self.inner.keep(match_id)
    }

    fn keep_as(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>> {
        self.world.mark(super::SETTLED);
        self.inner.keep_as(row)
    }

    fn let_go(&self, match_id: MatchId) -> BoxFuture<'_, ()> {
        self.inner.let_go(match_id)
    }

    fn enter(&self, match_id: MatchId) -> Option<Box<dyn Send>> {
        if self.world.mutant == Some(Mutant::RunTwice) {
            return Some(Box::new(()));
        }
        self.inner.enter(match_id)
    }

    fn admits(&self, row: &MatchLease) -> Result<(), String> {
        self.inner.admits(row)
    }

    fn follow(&self, row: MatchLease, tell: Telling) -> Box<dyn Followed> {
        Box::new(Follower { inner: self.inner.follow(row, tell), runs: self.runs.clone() })
    }

    fn arrived(&self, match_id: MatchId, last: (Tick, Instant)) {
        self.inner.arrived(match_id, last);
    }

    fn recover(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>> {
        async move {
            self.inner.recover(row.clone()).await?;
            self.runs.begins(&row, false);
            Ok(())
        }
        .boxed()
    }
}

struct Follower {
    inner: Box<dyn Followed>,
    runs: Runs,
}

impl Followed for Follower {
    fn run(self: Box<Self>, row: MatchLease) -> BoxFuture<'static, Result<(), String>> {
        async move {
            self.inner.run(row.clone()).await?;
            self.runs.begins(&row, true);
            Ok(())
        }
        .boxed()
    }
}
