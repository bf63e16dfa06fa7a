//! The edge itself: its endpoint, its door, and who is in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{AsyncUdpSocket, Endpoint, Runtime, TokioRuntime, VarInt};
use rekindle_schema::wire::{RefuseCode, Role};
use rekindle_schema::{MatchId, SessionId};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::audience::Room;
use crate::config::GatewayConfig;
use crate::keys::Keys;
use crate::limits::{Door, Knock, Verdict, subscriber};
use crate::meters::Meters;
use crate::port::{MatchLink, Matches};
use crate::seat::{Refusal, Seat};
use crate::socket::GatheringSocket;
use crate::{connection, quic};

/// How long a shutdown waits for clients to hear of it.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why there is no edge.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The port cannot be had.
    #[error(
        "RK-GATE-021: UDP {addr} cannot be bound: {source}; is another node running, or is the port taken? Choose another with --listen"
    )]
    Bind {
        /// Which address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS does not accept the keys.
    #[error("RK-GATE-022: TLS cannot be set up: {0}; move the key file away to get new keys")]
    Tls(String),
    /// The system has no randomness to give.
    #[error("RK-GATE-024: no random bytes: {0}")]
    Random(String),
    /// QUIC cannot use the socket.
    #[error("RK-GATE-023: QUIC cannot be set up: {0}")]
    Endpoint(io::Error),
}

/// What all tasks of an edge share.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) keys: Keys,
    pub(crate) matches: Arc<dyn Matches>,
    pub(crate) meters: Arc<Meters>,
    connections: AtomicUsize,
    pending: AtomicUsize,
    /// Of them, how many come from each source; those with none have no entry.
    pending_by_source: Mutex<BTreeMap<IpAddr, usize>>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// Set once the edge goes down: what clients are told.
    draining: Option<String>,
    /// All clients that were let in, by number of their connection.
    seats: BTreeMap<u64, Arc<Seat>>,
    /// Which connection carries a session.
    sessions: BTreeMap<SessionId, u64>,
    rooms: BTreeMap<MatchId, Arc<Room>>,
}

impl Shared {
    pub(crate) fn is_draining(&self) -> bool {
        self.inside.lock().draining.is_some()
    }

    /// Notes a client that was let in. An earlier connection of the same session is let go.
    pub(crate) fn seat(&self, seat: &Arc<Seat>) {
        let mut inside = self.inside.lock();
        if let Some(reason) = inside.draining.clone() {
            seat.dismiss(Refusal::new(RefuseCode::Draining, reason));
        }
        let earlier = match seat.role {
            Role::Player => inside.sessions.insert(seat.session, seat.number),
            Role::Spectator => None,
        };
        if let Some(earlier) = earlier.and_then(|number| inside.seats.get(&number)) {
            self.meters.superseded.increment(1);
            earlier.dismiss(Refusal::new(RefuseCode::Superseded, "RK-GATE-035: your session goes on over another connection"));
        }
        inside.seats.insert(seat.number, Arc::clone(seat));
        self.meters.sessions.set(inside.seats.len() as f64);
    }

    /// Forgets a client. True if no other connection carries its session.
    pub(crate) fn unseat(&self, seat: &Seat) -> bool {
        let mut inside = self.inside.lock();
        inside.seats.remove(&seat.number);
        self.meters.sessions.set(inside.seats.len() as f64);
        let last = inside.sessions.get(&seat.session) == Some(&seat.number);
        if last {
            inside.sessions.remove(&seat.session);
        }
        last
    }

    /// The room of a match, opened if need be.
    pub(crate) fn room(self: &Arc<Self>, match_id: MatchId, link: &Arc<dyn MatchLink>) -> Arc<Room> {
        let mut inside = self.inside.lock();
        match inside.rooms.get(&match_id) {
            Some(room) if !room.is_closed() => Arc::clone(room),
            _ => {
                let room = Room::open(self, match_id, Arc::clone(link));
                inside.rooms.insert(match_id, Arc::clone(&room));
                room
            }
        }
    }

    /// A room has closed.
    pub(crate) fn forget_room(&self, room: &Arc<Room>) {
        let mut inside = self.inside.lock();
        if inside.rooms.get(&room.match_id).is_some_and(|present| Arc::ptr_eq(present, room)) {
            inside.rooms.remove(&room.match_id);
        }
    }

    fn knock(&self, incoming: &quinn::Incoming) -> Knock {
        let source = incoming.remote_address().ip();
        Knock {
            source,
            validated: incoming.remote_address_validated(),
            open: self.connections.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            pending_from_source: self.pending_by_source.lock().get(&subscriber(source)).copied().unwrap_or(0),
        }
    }

    fn count(&self) {
        self.meters.connections.set(self.connections.load(Ordering::Relaxed) as f64);
        self.meters.pending.set(self.pending.load(Ordering::Relaxed) as f64);
    }
}

/// Counts a connection that is not yet let in.
pub(crate) struct PendingGuard {
    shared: Arc<Shared>,
    source: IpAddr,
}

impl PendingGuard {
    fn new(shared: &Arc<Shared>, source: IpAddr) -> Self {
        let source = subscriber(source);
        shared.pending.fetch_add(1, Ordering::Relaxed);
        *shared.pending_by_source.lock().entry(source).or_insert(0) += 1;
        Self { shared: Arc::clone(shared), source }
    }
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut entry) = self.shared.pending_by_source.lock().entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        self.shared.count();
    }
}

struct ConnectionGuard(Arc<Shared>);

impl ConnectionGuard {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.count();
        Self(Arc::clone(shared))
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.count();
    }
}

/// The edge of a node: one UDP port that clients speak QUIC with.
pub struct Gateway {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    local_addr: SocketAddr,
    door: JoinHandle<()>,
}

impl Gateway {
    /// Listens on `config.bind`. Must be called inside a tokio runtime, which then runs all tasks of the edge; install the recorder
    /// of metrics before.
    pub fn bind(config: GatewayConfig, matches: Arc<dyn Matches>, keys: Keys) -> Result<Self, GatewayError> {
        let addr = config.bind;
        let socket = quic::socket(addr, config.socket_buffer).map_err(|source| GatewayError::Bind { addr, source })?;
        let socket = GatheringSocket::new(socket, config.gather).map_err(GatewayError::Endpoint)?;
        Self::on_socket(config, matches, keys, Arc::new(socket), Arc::new(TokioRuntime))
    }

    /// Listens on a socket that the caller made, with the caller's runtime under QUIC: a simulation's. Time comes from tokio's clock.
    pub fn on_socket(
        config: GatewayConfig,
        matches: Arc<dyn Matches>,
        keys: Keys,
        socket: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, GatewayError> {
        let server = quic::server_config(&config.limits, &keys)?;
        let endpoint_config = quic::endpoint_config(&config, &keys)?;
        let endpoint =
            Endpoint::new_with_abstract_socket(endpoint_config, Some(server), socket, runtime).map_err(GatewayError::Endpoint)?;
        let local_addr = endpoint.local_addr().map_err(GatewayError::Endpoint)?;
        let shared = Arc::new(Shared {
            config,
            keys,
            matches,
            meters: Arc::new(Meters::new()),
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            pending_by_source: Mutex::new(BTreeMap::new()),
            inside: Mutex::new(Inside::default()),
        });
        let door = tokio::spawn(keep_door(Arc::clone(&shared), endpoint.clone()));
        Ok(Self { shared, endpoint, local_addr, door })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The keys that it uses, to issue tickets with.
    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// Clients that are in now, players and spectators.
    pub fn clients(&self) -> usize {
        self.shared.inside.lock().seats.len()
    }

    /// Lets nobody in any more, tells all clients to ask another node, and closes after a second at most.
    pub async fn shutdown(&self, reason: &str) {
        let seats: Vec<Arc<Seat>> = {
            let mut inside = self.shared.inside.lock();
            inside.draining = Some(reason.to_owned());
            inside.seats.values().cloned().collect()
        };
        for seat in &seats {
            seat.dismiss(Refusal::new(RefuseCode::Draining, reason));
        }
        drop(seats);
        let _ = timeout(GOODBYE, self.endpoint.wait_idle()).await;
        self.endpoint.close(VarInt::from_u32(RefuseCode::Draining.close_code()), reason.as_bytes());
        let _ = timeout(GOODBYE / 4, self.endpoint.wait_idle()).await;
        self.door.abort();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(RefuseCode::Draining.close_code()), b"the node is gone");
        self.door.abort();
    }
}

/// Decides on each connection that wants in.
async fn keep_door(shared: Arc<Shared>, endpoint: Endpoint) {
    let mut door = Door::new(&shared.config.limits, Instant::now());
    let mut number = 0;
    while let Some(incoming) = endpoint.accept().await {
        if shared.is_draining() {
            incoming.refuse();
            continue;
        }
        match door.decide(shared.knock(&incoming), Instant::now()) {
            Verdict::Accept => {
                number += 1;
                shared.meters.accepted.increment(1);
                let pending = PendingGuard::new(&shared, incoming.remote_address().ip());
                let counted = ConnectionGuard::new(&shared);
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    connection::serve(shared, incoming, number, pending).await;
                    drop(counted);
                });
            }
            Verdict::Retry => {
                Meters::turned_away("retried", "address");
                // It fails only for an address that is already proved, and such a one is never asked again.
                let _ = incoming.retry();
            }
            Verdict::Refuse(reason) => {
                Meters::turned_away("refused", reason);
                incoming.refuse();
            }
            Verdict::Ignore(reason) => {
                Meters::turned_away("ignored", reason);
                incoming.ignore();
            }
        }
    }
}
