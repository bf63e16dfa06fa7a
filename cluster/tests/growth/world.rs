//! Nodes without matches that tick: each has the product's membership and caretaker, and claims.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::ChannelTransport;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_cluster::membership::Peer;
use rekindle_cluster::membership::core::{Effect, Event, Membership, TICK_MS};
use rekindle_cluster::membership::gossip::{Gossip, GossipParts};
use rekindle_cluster::ownership::caretaker::{Caretaker, Claimant, Look};
use rekindle_cluster::ownership::lease::RENEW_EVERY;
use rekindle_cluster::ownership::round::{self, Hints, Surroundings};
use rekindle_cluster::ownership::takeover::{self, Anything, ClaimOptions, Claimed, TakeoverError};
use rekindle_schema::lease::{DEFAULT_REGION, NodeLease};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{match_lease, register};
use rekindle_store_memory::{Fate, MemoryStore};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::End;

/// Matches of each node.
const MATCHES: u64 = 20;
/// A request to the store takes so long.
const STORE: Duration = Duration::from_millis(2);
/// A message between two nodes takes so long.
const NETWORK: Duration = Duration::from_millis(1);
/// Links are pinged so often, in milliseconds.
const PING_MS: u64 = 250;
/// More time than any takeover takes.
const LONG: Duration = Duration::from_secs(30);

/// What was seen of deaths.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long it took until the first survivor noticed.
    pub noticed: Vec<Duration>,
    /// How long it took until each match had an owner again.
    pub taken: Vec<Duration>,
    /// How often a node looked dead that was not.
    pub wrong: usize,
}

/// What all nodes share.
struct Shared {
    memory: MemoryStore,
    transport: ChannelTransport,
    /// Who has ended, how and when.
    ended: Mutex<BTreeMap<Incarnation, (End, Instant)>>,
    /// Pairs that are linked, the lower first.
    links: Mutex<BTreeSet<(Incarnation, Incarnation)>>,
    changed: watch::Sender<()>,
    /// Who looked dead to somebody, and when.
    suspected: Mutex<Vec<(Incarnation, Instant)>>,
    claimed: Mutex<BTreeMap<MatchId, Instant>>,
}

impl Shared {
    fn runs(&self, node: Incarnation) -> bool {
        !self.ended.lock().contains_key(&node)
    }

    fn is_dead(&self, node: Incarnation) -> bool {
        matches!(self.ended.lock().get(&node), Some((End::Dies, _)))
    }

    /// The links of a node, and for how long nothing was heard on each.
    fn links_of(&self, me: Incarnation) -> BTreeMap<Incarnation, u64> {
        let ended = self.ended.lock();
        let quiet_ms = |other: Incarnation| match ended.get(&other) {
            Some((_, since)) => since.elapsed().as_millis() as u64,
            None => other.0 * 31 % PING_MS,
        };
        let other = |(one, two): (Incarnation, Incarnation)| match me {
            me if me == one => Some(two),
            me if me == two => Some(one),
            _ => None,
        };
        let links = self.links.lock();
        links.iter().copied().filter_map(other).map(|other| (other, quiet_ms(other))).collect()
    }

    fn link(&self, one: Incarnation, two: Incarnation, up: bool) {
        let pair = (one.min(two), one.max(two));
        let mut links = self.links.lock();
        if up {
            links.insert(pair);
        } else {
            links.remove(&pair);
        }
        drop(links);
        self.changed.send_replace(());
    }
}

/// One node.
struct Node {
    me: Incarnation,
    shared: Arc<Shared>,
    store: Store,
    core: Mutex<Membership>,
    gossip: Gossip,
    began: Instant,
    look: Notify,
    running: Mutex<BTreeSet<MatchId>>,
}

/// All nodes, at work.
pub(crate) struct World {
    shared: Arc<Shared>,
    nodes: BTreeMap<Incarnation, (Arc<Node>, Vec<JoinHandle<()>>)>,
}

fn address(node: Incarnation) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + node.0 as u16))
}

fn peer(node: Incarnation) -> Peer {
    Peer {
        incarnation: node,
        name: format!("n{}", node.0),
        region: DEFAULT_REGION.to_owned(),
        address: address(node).to_string(),
    }
}

impl World {
    /// Nodes 1 to `count`, each with its matches. They begin one after the other.
    pub(crate) async fn start(count: u64) -> Self {
        let shared = Arc::new(Shared {
            memory: MemoryStore::new(),
            transport: ChannelTransport::default(),
            ended: Mutex::default(),
            links: Mutex::default(),
            changed: watch::Sender::new(()),
            suspected: Mutex::default(),
            claimed: Mutex::default(),
        });
        let mut nodes = BTreeMap::new();
        for number in 1..=count {
            let node = Arc::new(Node::start(&shared, Incarnation(number)).await);
            sleep(Duration::from_millis(number * 37 % 200)).await;
            let tasks = vec![
                tokio::spawn(Arc::clone(&node).drive()),
                tokio::spawn(Arc::clone(&node).renew()),
                tokio::spawn(Arc::clone(&node).look_after()),
            ];
            nodes.insert(node.me, (node, tasks));
        }
        // What the registry says.
        let all: Vec<Peer> = nodes.keys().copied().map(peer).collect();
        for (node, _) in nodes.values() {
            let others = all.iter().filter(|other| other.incarnation != node.me);
            node.apply(Event::Told(others.cloned().collect()));
        }
        Self { shared, nodes }
    }

    /// Time passes, and everybody comes to know everybody.
    pub(crate) async fn settle(&self, time: Duration) {
        sleep(time).await;
        let count = self.nodes.len();
        for (node, _) in self.nodes.values() {
            assert_eq!(self.shared.links_of(node.me).len(), count - 1, "all are linked");
        }
    }

    /// One node ends; returns when its matches have owners.
    pub(crate) async fn end(&mut self, number: u64, end: End) -> Seen {
        let victim = Incarnation(number);
        let (node, tasks) = self.nodes.remove(&victim).expect("it runs");
        tasks.iter().for_each(JoinHandle::abort);
        node.gossip.stop();
        let at = Instant::now();
        self.shared.ended.lock().insert(victim, (end, at));
        if end == End::Dies {
            sleep(NETWORK).await;
            for &other in self.nodes.keys() {
                self.shared.link(victim, other, false);
            }
        }
        loop {
            sleep(Duration::from_millis(10)).await;
            let taken: Vec<Duration> =
                self.shared.claimed.lock().values().map(|when| *when - at).collect();
            if taken.len() as u64 == MATCHES {
                let suspected = self.shared.suspected.lock();
                let (right, wrong): (Vec<_>, Vec<_>) =
                    suspected.iter().partition(|(whom, _)| *whom == victim);
                // Others may hear of it from the store, and need not find out themselves.
                let first = right.iter().map(|(_, when)| *when - at).min();
                return Seen { noticed: first.into_iter().collect(), taken, wrong: wrong.len() };
            }
            let taken = taken.len();
            assert!(at.elapsed() < LONG, "{taken} of {MATCHES} matches have owners");
        }
    }
}

impl Node {
    async fn start(shared: &Arc<Shared>, me: Incarnation) -> Self {
        let plan = |_| Fate { before: STORE / 2, after: STORE / 2, ..Fate::default() };
        let store = shared.memory.with_faults(Arc::new(plan)).store();
        register(&store, me).await;
        let mut running = BTreeSet::new();
        for number in 0..MATCHES {
            let match_id = MatchId(me.0 * 1_000 + number);
            let row = match_lease(match_id, &[(me, 1)]);
            store.leases.create(row).await.expect("a new match");
            running.insert(match_id);
        }
        let listen = address(me);
        let parts = GossipParts { me: peer(me), store: 7, listen, public: listen, seeds: vec![] };
        let gossip = Gossip::start_on(parts, &shared.transport).await.expect("gossip");
        Self {
            me,
            shared: Arc::clone(shared),
            store,
            core: Mutex::new(Membership::new(me)),
            gossip,
            began: Instant::now(),
            look: Notify::new(),
            running: Mutex::new(running),
        }
    }

    /// As `membership::driver` does it.
    async fn drive(self: Arc<Self>) {
        let mut changed = self.shared.changed.subscribe();
        let tick = Duration::from_millis(TICK_MS);
        let mut next_tick = Instant::now();
        loop {
            let due = self.next_look().map_or(next_tick, |look| look.min(next_tick));
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = sleep_until(due) => {}
            }
            self.apply(Event::Links(self.shared.links_of(self.me)));
            if Instant::now() < next_tick {
                if self.next_look().is_some_and(|look| look <= Instant::now()) {
                    self.apply(Event::Tick);
                }
                continue;
            }
            next_tick = Instant::now() + tick;
            let heard = self.gossip.hear().await;
            self.apply(Event::Told(heard.told));
            self.apply(Event::Heard { live: heard.live, silent: heard.silent });
            self.apply(Event::Tick);
        }
    }

    fn next_look(&self) -> Option<Instant> {
        Some(self.began + Duration::from_millis(self.core.lock().next_look_ms()?))
    }

    fn apply(self: &Arc<Self>, event: Event) {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let effects = self.core.lock().handle(now_ms, event);
        for effect in effects {
            match effect {
                Effect::Dial(peer) => drop(tokio::spawn(Arc::clone(self).dial(peer.incarnation))),
                Effect::Close(node) => self.shared.link(self.me, node, false),
                Effect::Knock(peer) => drop(tokio::spawn(Arc::clone(self).knock(peer.incarnation))),
                Effect::Greet(peer) => self.gossip.greet(address(peer.incarnation)),
                Effect::Look => self.look.notify_one(),
                Effect::Suspect(peer, _) => {
                    self.shared.suspected.lock().push((peer.incarnation, Instant::now()));
                }
                Effect::Linked(_) | Effect::Unlinked(_) | Effect::Clear(_) => {}
            }
        }
    }

    async fn dial(self: Arc<Self>, node: Incarnation) {
        sleep(2 * NETWORK).await;
        if self.shared.is_dead(node) {
            self.apply(Event::NotThere(node));
        }
        if self.shared.runs(node) && self.shared.runs(self.me) {
            self.shared.link(self.me, node, true);
        }
        self.apply(Event::Dialled(node));
    }

    async fn knock(self: Arc<Self>, node: Incarnation) {
        sleep(2 * NETWORK).await;
        if self.shared.is_dead(node) {
            self.apply(Event::NotThere(node));
        }
    }

    async fn renew(self: Arc<Self>) {
        for deadline_ms in 1.. {
            sleep(RENEW_EVERY).await;
            self.store.leases.renew(self.me, deadline_ms, None).await.expect("its lease");
        }
    }

    /// As `rekindle::node::watch` does it.
    async fn look_after(self: Arc<Self>) {
        let (me, region) = (self.me, DEFAULT_REGION.to_owned());
        let mut caretaker = Caretaker::new(Claimant { me, region, deaths: None });
        loop {
            tokio::select! {
                biased;
                () = self.look.notified() => {}
                () = sleep(RENEW_EVERY) => {}
            }
            self.take_a_look(&mut caretaker).await.expect("the store answers");
        }
    }

    async fn take_a_look(self: &Arc<Self>, caretaker: &mut Caretaker) -> Result<(), TakeoverError> {
        let nobody = BTreeSet::new();
        let look = Look { now_ms: self.began.elapsed().as_millis() as u64, asked: &nobody };
        let hints = Suspicions(Arc::clone(self));
        let Some(found) = round::look(caretaker, &self.store, &**self, &hints, look).await? else {
            return Ok(());
        };
        let options = ClaimOptions { me: self.me, first_batch: BatchNo(1), floor: Epoch(1) };
        for claimed in takeover::claim(&self.store, found.claims, options, &Anything).await? {
            if let Claimed::Ours(claim) = claimed {
                let match_id = claim.lease.match_id;
                self.running.lock().insert(match_id);
                self.shared.claimed.lock().insert(match_id, Instant::now());
                caretaker.decided(match_id);
            }
        }
        caretaker.finished(found.dead);
        Ok(())
    }
}

impl Surroundings for Node {
    /// Nobody sees processes of other hosts.
    fn gone<'a>(
        &'a self,
        _: &'a [NodeLease],
    ) -> BoxFuture<'a, Result<BTreeSet<Incarnation>, StoreError>> {
        std::future::ready(Ok(BTreeSet::new())).boxed()
    }

    fn running(&self) -> BTreeSet<MatchId> {
        self.running.lock().clone()
    }

    fn wall_ms(&self) -> u64 {
        0
    }
}

struct Suspicions(Arc<Node>);

impl Hints for Suspicions {
    fn suspected(&self, live: BTreeSet<Incarnation>) -> BTreeSet<Incarnation> {
        self.0.apply(Event::Live(live));
        self.0.core.lock().suspected()
    }
}
