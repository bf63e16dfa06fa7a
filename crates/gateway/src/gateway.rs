//! The edge itself: its endpoint, its door, and who is in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{AsyncUdpSocket, Endpoint, Runtime, TokioRuntime, VarInt};
use rekindle_schema::wire::{RefuseCode, Role};
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::audience::Room;
use crate::config::GatewayConfig;
use crate::keys::Keys;
use crate::limits::{Bucket, Door, Knock, Verdict, subscriber};
use crate::meters::Meters;
use crate::places::{Grant, Place, Places};
use crate::port::{Location, MatchLink, Matches, Wanted};
use crate::seat::{Refusal, Seat};
use crate::socket::GatheringSocket;
use crate::unproven::Unproven;
use crate::{Rate, connection, quic};

/// How long a shutdown waits for clients to hear of it.
const GOODBYE: Duration = Duration::from_secs(1);
/// How many clients may have the directory asked at once.
const QUESTIONS_AT_ONCE: usize = 8;
/// How long a client waits for its turn and for the directory's answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// Most matches of which it is remembered that they are over.
const MAX_OVER: usize = 1024;
/// How often it is logged that a client saw what the match does not have: what it says is up to the
/// client.
const REWOUND_LINES: Rate = Rate::new(2.0, 32.0);

/// Why there is no edge.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The port cannot be had.
    #[error(
        "RK-GATE-021: UDP {addr} cannot be bound: {source}; is another node running, or is the \
         port taken? Choose another with --listen"
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
    pub(crate) unproven: Arc<Unproven>,
    /// Paces the lines about clients that saw what the match does not have.
    pub(crate) rewound_lines: Mutex<Bucket>,
    /// Turns to ask the directory.
    questions: Semaphore,
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
    places: Places,
    /// Players whose hello is being answered, of those whose ticket names no match.
    opening: BTreeSet<PlayerId>,
    /// Matches that are over, and why: for those that come back too late.
    over: BTreeMap<MatchId, String>,
}

impl Shared {
    /// Gives a client a place among those that are in, or says why it gets none.
    pub(crate) fn place(
        self: &Arc<Self>,
        number: u64,
        place: Place,
    ) -> Result<PlaceGuard, Refusal> {
        let mut inside = self.inside.lock();
        match inside.places.decide(place, &self.config.limits) {
            Grant::Free => {}
            Grant::Instead(spectator) => {
                Meters::no_place("shed");
                inside.places.free(spectator);
                if let Some(seat) = inside.seats.get(&spectator) {
                    seat.dismiss(Refusal::new(
                        RefuseCode::RateLimited,
                        "RK-GATE-121: players need your place: watch again in a while",
                    ));
                }
            }
            Grant::None(why, bound) => {
                Meters::no_place(why);
                let (who, what) = match why {
                    "player" => ("clients with tickets of this player", "close one of them"),
                    "address" => ("clients from this address", "close one of them"),
                    "spectators" => ("spectators", "watch again in a while"),
                    _ => ("clients", "try again in a while, or at another node"),
                };
                let words =
                    format!("RK-GATE-122: {bound} {who} are in, and more may not be: {what}");
                return Err(Refusal::new(RefuseCode::RateLimited, words));
            }
        }
        inside.places.take(number, place);
        Ok(PlaceGuard { shared: Arc::clone(self), number })
    }

    /// Notes that a hello of this player is being answered; `None` if another one is.
    pub(crate) fn opening(self: &Arc<Self>, player: PlayerId) -> Option<OpeningGuard> {
        self.inside
            .lock()
            .opening
            .insert(player)
            .then(|| OpeningGuard { shared: Arc::clone(self), player })
    }

    /// Where the wanted match is. Of one that is not here (any more) the directory is asked what
    /// became of it.
    pub(crate) async fn locate(&self, wanted: Wanted<'_>) -> Location {
        let location = self.matches.locate(wanted);
        let (Some(match_id), Location::Refused(RefuseCode::NoMatch, _)) =
            (wanted.match_id, &location)
        else {
            return location;
        };
        if let Some(reason) = self.inside.lock().over.get(&match_id).cloned() {
            return Location::Refused(RefuseCode::Ended, reason);
        }
        match self.ask(self.matches.fate(match_id)).await.flatten() {
            Some((code, words)) => {
                if code == RefuseCode::Ended {
                    let mut inside = self.inside.lock();
                    if inside.over.len() >= MAX_OVER {
                        inside.over.pop_first();
                    }
                    inside.over.insert(match_id, words.clone());
                }
                Location::Refused(code, words)
            }
            None => location,
        }
    }

    /// Whether the directory confirms that this node owns the match: a client has heard of a later
    /// owner, or of a store that has been put back since.
    pub(crate) async fn owns(&self, match_id: MatchId, epoch: Epoch) -> bool {
        self.ask(self.matches.owns(match_id, epoch)).await.unwrap_or(false)
    }

    /// What the directory answers; `None` if that takes too long.
    async fn ask<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let asking = async {
            let _turn = self.questions.acquire().await.ok()?;
            Some(answer.await)
        };
        timeout(ANSWER_PATIENCE, asking).await.ok().flatten()
    }

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
            earlier.dismiss(Refusal::new(
                RefuseCode::Superseded,
                "RK-GATE-035: your session goes on over another connection",
            ));
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
    pub(crate) fn room(
        self: &Arc<Self>,
        match_id: MatchId,
        link: &Arc<dyn MatchLink>,
    ) -> Arc<Room> {
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
            pending_from_source: self
                .pending_by_source
                .lock()
                .get(&subscriber(source))
                .copied()
                .unwrap_or(0),
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
        if let Entry::Occupied(mut entry) = self.shared.pending_by_source.lock().entry(self.source)
        {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        self.shared.count();
    }
}

/// A client has a place as long as this.
pub(crate) struct PlaceGuard {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        self.shared.inside.lock().places.free(self.number);
    }
}

/// A hello of a player is being answered as long as this.
pub(crate) struct OpeningGuard {
    shared: Arc<Shared>,
    player: PlayerId,
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        self.shared.inside.lock().opening.remove(&self.player);
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
    /// True while connections are taken.
    open: watch::Receiver<bool>,
}

impl Gateway {
    /// Listens on `config.bind`. Must be called inside a tokio runtime, which then runs all tasks
    /// of the edge; install the recorder of metrics before.
    pub fn bind(
        config: GatewayConfig,
        matches: Arc<dyn Matches>,
        keys: Keys,
    ) -> Result<Self, GatewayError> {
        let addr = config.bind;
        let socket = quic::socket(addr, config.socket_buffer)
            .map_err(|source| GatewayError::Bind { addr, source })?;
        let unproven = Arc::new(Unproven::default());
        let socket = GatheringSocket::new(socket, config.gather, Arc::clone(&unproven))
            .map_err(GatewayError::Endpoint)?;
        Self::begin(config, matches, keys, (Arc::new(socket), unproven), Arc::new(TokioRuntime))
    }

    /// Listens on a socket that the caller made, with the caller's runtime under QUIC: a
    /// simulation's. Time comes from tokio's clock.
    pub fn on_socket(
        config: GatewayConfig,
        matches: Arc<dyn Matches>,
        keys: Keys,
        socket: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, GatewayError> {
        Self::begin(config, matches, keys, (socket, Arc::default()), runtime)
    }

    fn begin(
        config: GatewayConfig,
        matches: Arc<dyn Matches>,
        keys: Keys,
        (socket, unproven): (Arc<dyn AsyncUdpSocket>, Arc<Unproven>),
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, GatewayError> {
        let server = quic::server_config(&config.limits, &keys)?;
        let endpoint_config = quic::endpoint_config(&config, &keys)?;
        let endpoint =
            Endpoint::new_with_abstract_socket(endpoint_config, Some(server), socket, runtime)
                .map_err(GatewayError::Endpoint)?;
        let local_addr = endpoint.local_addr().map_err(GatewayError::Endpoint)?;
        let shared = Arc::new(Shared {
            config,
            keys,
            matches,
            meters: Arc::new(Meters::new()),
            unproven,
            rewound_lines: Mutex::new(Bucket::new(REWOUND_LINES, Instant::now())),
            questions: Semaphore::new(QUESTIONS_AT_ONCE),
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            pending_by_source: Mutex::new(BTreeMap::new()),
            inside: Mutex::new(Inside::default()),
        });
        let (opened, open) = watch::channel(true);
        let door = tokio::spawn(keep_door(Arc::clone(&shared), endpoint.clone(), opened));
        Ok(Self { shared, endpoint, local_addr, door, open })
    }

    /// Whether it takes connections: false once [`Gateway::shutdown`] was called, or QUIC has given
    /// up the port.
    pub fn is_open(&self) -> bool {
        // The sender is gone with the task that takes connections, however that ended.
        *self.open.borrow() && self.open.has_changed().is_ok()
    }

    /// Resolves when no connection is taken any more: the port is lost, and nothing brings it back
    /// in this process.
    pub async fn lost(&self) {
        let mut open = self.open.clone();
        // An error says the same.
        let _ = open.wait_for(|open| !open).await;
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

    /// Lets nobody in any more, tells all clients to ask another node, and closes after a second at
    /// most.
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
        self.endpoint
            .close(VarInt::from_u32(RefuseCode::Draining.close_code()), b"the node is gone");
        self.door.abort();
    }
}

/// Decides on each connection that wants in. `opened` is dropped when no more can come.
async fn keep_door(shared: Arc<Shared>, endpoint: Endpoint, opened: watch::Sender<bool>) {
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
                let address = shared
                    .unproven
                    .enter(incoming.remote_address(), incoming.remote_address_validated());
                let counted = ConnectionGuard::new(&shared);
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    connection::serve(shared, incoming, number, (pending, address)).await;
                    drop(counted);
                });
            }
            Verdict::Retry => {
                Meters::turned_away("retried", "address");
                // It fails only for an address that is already proved, and such a one is never
                // asked again.
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
    if !shared.is_draining() {
        tracing::error!(
            code = "RK-GATE-123",
            "QUIC has given up the game port: nobody gets in any more, and players fall silent"
        );
    }
    opened.send_replace(false);
}
