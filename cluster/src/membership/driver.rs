//! Runs the core of membership in a node: hears gossip and links for it, and carries out what it
//! wants. Started by the node (`src/node/cluster.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::Incarnation;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::core::{Effect, Event, Membership, TICK_MS};
use super::gossip::Gossip;
use super::{Load, Peer, Seen};
use crate::bus::greeting::NoLink;
use crate::bus::ractor::Bus;
use crate::ownership::round::Hints;

/// How often the addresses that an operator gave are asked who is there, while nobody is known.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A node's membership, at work.
pub struct Members {
    me: Incarnation,
    core: Mutex<Membership>,
    bus: Bus,
    gossip: Gossip,
    loads: Mutex<BTreeMap<Incarnation, Load>>,
    /// Why there is no link to a node, as it was last said.
    no_links: Mutex<BTreeMap<Incarnation, String>>,
    began: Instant,
    look: Notify,
    suspicions: AtomicU64,
}

impl Members {
    /// Begins to hear and to link. It ends with [`Members::stop`], or when the handle is aborted.
    pub fn start(me: Incarnation, bus: Bus, gossip: Gossip) -> (Arc<Self>, JoinHandle<()>) {
        let members = Arc::new(Self {
            me,
            core: Mutex::new(Membership::new(me)),
            bus,
            gossip,
            loads: Mutex::default(),
            no_links: Mutex::default(),
            began: Instant::now(),
            look: Notify::new(),
            suspicions: AtomicU64::new(0),
        });
        let driving = tokio::spawn(Arc::clone(&members).drive());
        (members, driving)
    }

    /// These nodes are told of by the registry.
    pub fn told(self: &Arc<Self>, peers: Vec<Peer>) {
        self.apply(Event::Told(peers));
    }

    /// Asks the addresses that an operator gave who is there, until somebody is known.
    pub async fn probe(self: Arc<Self>, addresses: Vec<String>) {
        let mut said = BTreeSet::new();
        while !addresses.is_empty() && self.core.lock().members().next().is_none() {
            for address in &addresses {
                match self.bus.dial(None, address).await {
                    Ok(hello) if hello.from == self.me => {}
                    Ok(hello) => self.told(vec![Peer {
                        incarnation: hello.from,
                        name: hello.name,
                        region: String::new(),
                        address: address.clone(),
                    }]),
                    Err(problem) => {
                        if said.insert((address, problem.to_string())) {
                            tracing::warn!(code = "RK-PEER-024", address, %problem, "no node to \
                                join there; trying again");
                        }
                    }
                }
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    /// Tells the others how much this node has to do.
    pub async fn say(&self, load: Load) {
        self.gossip.say(load).await;
    }

    /// All other nodes as they look from here.
    pub fn seen(&self) -> Vec<Seen> {
        let loads = self.loads.lock();
        let core = self.core.lock();
        core.members()
            .map(|(peer, looks, linked)| {
                let load = loads.get(&peer.incarnation).copied();
                Seen { peer: peer.clone(), looks, linked, load }
            })
            .collect()
    }

    /// Resolves when somebody may have died: the store is to be looked at. One waits at a time.
    pub async fn look(&self) {
        self.look.notified().await;
    }

    /// How often a node has begun to look dead.
    pub fn suspicions(&self) -> u64 {
        self.suspicions.load(Ordering::Relaxed)
    }

    /// Leaves: links are closed, gossip ends.
    pub fn stop(&self) {
        self.gossip.stop();
        self.bus.stop();
    }

    async fn drive(self: Arc<Self>) {
        let tick = Duration::from_millis(TICK_MS);
        let mut next_tick = Instant::now();
        loop {
            let due = self.next_look().map_or(next_tick, |look| look.min(next_tick));
            tokio::select! {
                biased;
                () = self.bus.changed() => {}
                () = tokio::time::sleep_until(due) => {}
            }
            let quiet = self.bus.links().into_iter().map(|(to, (_, quiet_ms))| (to, quiet_ms));
            self.apply(Event::Links(quiet.collect()));
            if Instant::now() < next_tick {
                if self.next_look().is_some_and(|look| look <= Instant::now()) {
                    self.apply(Event::Tick);
                }
                continue;
            }
            next_tick = Instant::now() + tick;
            let heard = self.gossip.hear().await;
            *self.loads.lock() = heard.loads;
            self.apply(Event::Told(heard.told));
            self.apply(Event::Heard { live: heard.live, silent: heard.silent });
            self.apply(Event::Tick);
        }
    }

    fn next_look(&self) -> Option<Instant> {
        let look_ms = self.core.lock().next_look_ms()?;
        Some(self.began + Duration::from_millis(look_ms))
    }

    /// Has the core take something in, and carries out what it wants.
    fn apply(self: &Arc<Self>, event: Event) {
        let effects = {
            let mut core = self.core.lock();
            // Inside the lock: the core's time never goes back.
            let now_ms = self.began.elapsed().as_millis() as u64;
            core.handle(now_ms, event)
        };
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Dial(peer) => drop(tokio::spawn(Arc::clone(self).dial(peer))),
            Effect::Close(node) => self.bus.close(node),
            Effect::Knock(peer) => drop(tokio::spawn(Arc::clone(self).knock(peer))),
            Effect::Greet(peer) => drop(tokio::spawn(Arc::clone(self).greet(peer))),
            Effect::Look => self.look.notify_one(),
            Effect::Linked(peer) => {
                self.no_links.lock().remove(&peer.incarnation);
                tracing::info!(code = "RK-PEER-020", node = %peer.incarnation, name = peer.name,
                    address = peer.address, "linked");
            }
            Effect::Unlinked(peer) => {
                tracing::warn!(code = "RK-PEER-021", node = %peer.incarnation, name = peer.name,
                    "the link has ended");
            }
            Effect::Suspect(peer, why) => {
                self.suspicions.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(code = "RK-PEER-022", node = %peer.incarnation, name = peer.name,
                    ?why, "the node looks dead");
            }
            Effect::Clear(peer) => {
                tracing::info!(code = "RK-PEER-023", node = %peer.incarnation, name = peer.name,
                    "the node looks alive again");
            }
        }
    }

    async fn dial(self: Arc<Self>, peer: Peer) {
        let node = peer.incarnation;
        let dialled = self.bus.dial(Some(node), &peer.address).await;
        if let Err(problem) = dialled {
            let is_gone = matches!(problem, NoLink::NobodyListens | NoLink::OtherNode { .. });
            if is_gone {
                self.apply(Event::NotThere(node));
            }
            // A run that has ended is nothing to look after. One that begins is live in a moment,
            // and then it is said.
            let is_news = !is_gone || self.core.lock().was_live(node);
            let problem = problem.to_string();
            let said = is_news.then(|| self.no_links.lock().insert(node, problem.clone()));
            if said.is_some_and(|before| before.as_ref() != Some(&problem)) {
                tracing::warn!(code = "RK-PEER-024", %node, name = peer.name,
                    address = peer.address, problem, "no link; trying again");
            }
        }
        self.apply(Event::Dialled(node));
    }

    async fn knock(self: Arc<Self>, peer: Peer) {
        if self.bus.is_gone(peer.incarnation, &peer.address).await {
            self.apply(Event::NotThere(peer.incarnation));
        }
    }

    async fn greet(self: Arc<Self>, peer: Peer) {
        let address: Option<SocketAddr> = match peer.address.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                tokio::net::lookup_host(&peer.address).await.ok().and_then(|mut all| all.next())
            }
        };
        if let Some(address) = address {
            self.gossip.greet(address);
        }
    }
}

/// What the looks at the store ask of membership.
pub struct MemberHints(pub Arc<Members>);

impl Hints for MemberHints {
    fn suspected(&self, live: BTreeSet<Incarnation>) -> BTreeSet<Incarnation> {
        self.0.no_links.lock().retain(|node, _| live.contains(node));
        self.0.apply(Event::Live(live));
        self.0.core.lock().suspected()
    }
}
