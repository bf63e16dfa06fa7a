//! A node's part among the other nodes of its store: it listens for them, finds them, and hears who
//! of them lives. Put together by [`super::lifecycle`]; the watch over dead nodes asks it for
//! hints ([`Cluster::look`], [`Cluster::hints`]), migration asks other nodes through
//! [`Cluster::peers`] and answers them with what it gives to [`Cluster::serve`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use rekindle_actors::Host;
use rekindle_cluster::bus::ractor::{Bus, BusParts};
use rekindle_cluster::bus::tls::{Tls, TlsError};
use rekindle_cluster::bus::{Alone, PeerBus, PeerService};
use rekindle_cluster::membership::driver::{MemberHints, Members};
use rekindle_cluster::membership::gossip::{Gossip, GossipParts};
use rekindle_cluster::membership::{Load, Looks, Peer, Seen};
use rekindle_cluster::ownership::round::{Hints, NoHints};
use rekindle_schema::Incarnation;
use rekindle_schema::hello::Hello;
use rekindle_schema::member::Member;
use rekindle_schema::peer::{PEER_VERSION, PEER_VERSION_MIN};
use rekindle_store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::{card, members};
use crate::clock;
use crate::config::{self, Config};

/// How often this node tells how much it has to do, and publishes what the bus counts.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a node looks dead that somebody waits for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node whose view of the others is so old does not reach the store.
const REACHED: Duration = Duration::from_millis(2_500);
/// How many free ports are tried that must be free for TCP and UDP.
const PORTS_TRIED: usize = 16;

/// Why a node has no part among others.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The address for other nodes cannot be had.
    #[error(
        "RK-NODE-175: cluster.listen = {listen}: {problem}; choose another address, or leave it \
         empty for a node that has nothing to do with others"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        problem: String,
    },
    /// The certificate is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The identity of the store is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A node's part among the others.
pub struct Cluster(Option<Joined>);

struct Joined {
    /// Where other nodes reach this one.
    address: SocketAddr,
    bus: Bus,
    members: Arc<Members>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// The certificates that are configured, read; `None` if none are.
pub fn tls(cluster: &config::cluster::Cluster) -> Result<Option<Tls>, TlsError> {
    let Some(files) = &cluster.tls else { return Ok(None) };
    Tls::load(&files.ca, &files.cert, &files.key).map(Some)
}

impl Cluster {
    /// Listens for other nodes and begins to look for them, unless `cluster.listen` is empty.
    pub async fn join(
        config: &Config,
        store: &Store,
        me: Incarnation,
    ) -> Result<Self, ClusterError> {
        let Some(listen) = config.cluster.listen else { return Ok(Self(None)) };
        let tls = tls(&config.cluster)?;
        let identity = store.identity.ascertain(clock::fresh()).await?.id.0;
        let (listener, gossip, address) = listening(config, listen, me, identity).await?;
        let speaks = (PEER_VERSION_MIN, PEER_VERSION);
        let name = config.node_name.clone();
        let hello = Hello { speaks, store: identity, from: me, name: name.clone(), to: None };
        let bus = Bus::start(BusParts { me: hello, listener, tls })
            .await
            .map_err(|error| ClusterError::Listen { listen, problem: error.to_string() })?;
        tracing::info!(code = "RK-NODE-177", %address, tls = config.cluster.tls.is_some(),
            "listens for other nodes");
        let (members, driving) = Members::start(me, bus.clone(), gossip);
        let probing = tokio::spawn(Arc::clone(&members).probe(config.cluster.join.clone()));
        Ok(Self(Some(Joined {
            address,
            bus,
            members,
            tasks: Mutex::new(vec![driving.abort_handle(), probing.abort_handle()]),
        })))
    }

    /// Reads who else there is, tells how much there is to do here, and publishes metrics, from now
    /// on.
    pub fn keep(self: &Arc<Self>, host: Host, known: Arc<members::Members>) {
        let Some(joined) = &self.0 else { return };
        let cluster = Arc::clone(self);
        let keeping = tokio::spawn(async move {
            let Some(joined) = &cluster.0 else { return };
            joined.keep(&host, &known).await;
        });
        joined.tasks.lock().push(keeping.abort_handle());
    }

    /// Asks other nodes.
    pub fn peers(&self) -> Arc<dyn PeerBus> {
        match &self.0 {
            Some(joined) => Arc::new(joined.bus.clone()),
            None => Arc::new(Alone),
        }
    }

    /// Answers other nodes with this from now on; before, only pings are answered. Called once.
    pub fn serve(&self, service: Arc<dyn PeerService>) {
        if let Some(joined) = &self.0 {
            joined.bus.serve(service);
        }
    }

    /// Who looks dead, for looks at the store.
    pub fn hints(&self) -> Arc<dyn Hints> {
        match &self.0 {
            Some(joined) => Arc::new(MemberHints(Arc::clone(&joined.members))),
            None => Arc::new(NoHints),
        }
    }

    /// Resolves when the store is to be looked at because somebody may have died. One waits at a
    /// time.
    pub async fn look(&self) {
        match &self.0 {
            Some(joined) => joined.members.look().await,
            None => std::future::pending().await,
        }
    }

    /// All other nodes as they look from here.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.as_ref().map_or_else(Vec::new, |joined| joined.members.seen())
    }

    /// Whether another node looks dead from here.
    pub fn looks_dead(&self, node: Incarnation) -> bool {
        let dead = |seen: &Seen| seen.peer.incarnation == node && seen.looks == Looks::Dead;
        self.seen().iter().any(dead)
    }

    /// Resolves when another node looks dead from here; never if it does not.
    pub async fn until_dead(&self, node: Incarnation) {
        while !self.looks_dead(node) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Where other nodes reach this one, if they do.
    pub fn address(&self) -> Option<String> {
        self.0.as_ref().map(|joined| joined.address.to_string())
    }

    /// Leaves: links are closed.
    pub fn leave(&self) {
        let Some(joined) = &self.0 else { return };
        for task in joined.tasks.lock().drain(..) {
            task.abort();
        }
        joined.members.stop();
    }
}

/// Takes a port for links and for gossip.
async fn listening(
    config: &Config,
    listen: SocketAddr,
    me: Incarnation,
    store: u128,
) -> Result<(TcpListener, Gossip, SocketAddr), ClusterError> {
    let failed = |problem: String| ClusterError::Listen { listen, problem };
    let mut tried = 0;
    loop {
        tried += 1;
        let listener =
            TcpListener::bind(listen).await.map_err(|error| failed(error.to_string()))?;
        let bound = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let public = config.cluster.public.unwrap_or(bound);
        let me = Peer {
            incarnation: me,
            name: config.node_name.clone(),
            region: config.node_region.clone(),
            address: public.to_string(),
        };
        let seeds = config.cluster.join.clone();
        match Gossip::start(GossipParts { me, store, listen: bound, public, seeds }).await {
            Ok(gossip) => return Ok((listener, gossip, public)),
            // A port that is free for TCP may be taken for UDP.
            Err(_) if listen.port() == 0 && tried < PORTS_TRIED => {}
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}

impl Joined {
    async fn keep(&self, host: &Host, known: &members::Members) {
        let me = known.own().incarnation;
        loop {
            let told = known.all();
            let told = told.values().filter(|member| member.incarnation != me);
            self.members.told(told.filter_map(peer).collect());
            self.members.say(load(host, known)).await;
            self.publish();
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    fn publish(&self) {
        let seen = self.members.seen();
        let suspected = seen.iter().filter(|seen| seen.looks == Looks::Dead).count();
        gauge!("rekindle_peer_links").set(self.bus.links().len() as f64);
        gauge!("rekindle_peer_suspected").set(suspected as f64);
        let counted = self.bus.counted();
        gauge!("rekindle_peer_trip_microseconds").set(counted.trip_us as f64);
        counter!("rekindle_peer_calls_total").absolute(counted.calls);
        for (why, count) in
            [("unknown", counted.unknown), ("busy", counted.busy), ("no_link", counted.no_link)]
        {
            counter!("rekindle_peer_failures_total", "why" => why).absolute(count);
        }
        counter!("rekindle_peer_served_total").absolute(counted.served);
        counter!("rekindle_peer_suspicions_total").absolute(self.members.suspicions());
    }
}

fn load(host: &Host, known: &members::Members) -> Load {
    let matches = host.list();
    Load {
        matches: matches.len() as u32,
        players: matches.iter().map(|status| status.sessions as u32).sum(),
        draining: known.own().draining,
        reaches_store: known.were_read_within(REACHED),
    }
}

/// Where a member is reached, if that is no loopback address of another host.
fn peer(member: &Member) -> Option<Peer> {
    let address: Result<SocketAddr, _> = member.peers.parse();
    let far =
        address.is_ok_and(|address| address.ip().is_loopback()) && member.host != card::this_host();
    (!far && !member.peers.is_empty()).then(|| Peer {
        incarnation: member.incarnation,
        name: member.name.clone(),
        region: member.region.clone(),
        address: member.peers.clone(),
    })
}
