//! The bus over links between processes, on `ractor_cluster`.
//!
//! The library carries requests, matches replies and drops what waits when a link breaks. What it
//! does not do is done here: it has no failure detector (each link is pinged, and a silent one
//! closed), no bound on what waits ([`super::budget`]), and no way to close a session
//! ([`super::tap`]). Links are made by membership ([`crate::membership`]), never by the library:
//! it is told of streams on which both sides have greeted each other ([`super::greeting`]).
//!
//! One node has one agent (`agent`); nothing else in the process can be sent to from
//! outside. The library's registries are global to the process, so a process has one bus.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, SpawnErr};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{IncomingEncryptionMode, NodeServer, NodeServerMessage};
use rekindle_schema::Incarnation;
use rekindle_schema::codec;
use rekindle_schema::hello::{Hello, HelloAnswer};
use rekindle_schema::peer::{
    MAX_PEER_MESSAGE, PeerCall, PeerReply, PeerRequest, REPLY_TAG, REQUEST_TAG,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::agent::{self, Agent, Ask};
use super::budget::Budget;
use super::figures::{Counted, Figures};
use super::greeting::{self, NoLink};
use super::table::{Line, Link, LinkTable, Reports};
use super::tap::{Pulse, Tapped, Wire};
use super::tls::{Shown, Tls};
use super::{PeerBus, PeerError, PeerService};

/// A greeting that takes longer has failed.
const GREETING_PATIENCE: Duration = Duration::from_secs(3);
/// A link that is of no use after this is closed.
const READY_PATIENCE: Duration = Duration::from_secs(3);
/// How often the other end of a link is asked whether it lives.
const PING_EVERY: Duration = Duration::from_millis(250);
/// A link on which nothing is heard for so long is closed.
const SILENCE: Duration = Duration::from_secs(3);
/// Streams that are greeted at once; more wait.
const MAX_GREETED: usize = 32;
/// How long a link to the same node, which is there still, may take to go.
const REPLACE_PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait for whether a node is there still.
const KNOCK_PATIENCE: Duration = Duration::from_millis(300);

const _: () = assert!(SILENCE.as_millis() > 4 * PING_EVERY.as_millis(), "a lost ping is no death");

/// What a bus is made of.
pub struct BusParts {
    /// Who this node is; `to` is ignored.
    pub me: Hello,
    /// Where others reach it.
    pub listener: TcpListener,
    /// Secures links; without it they are plain.
    pub tls: Option<Tls>,
}

/// A node's links to other nodes. Clones are the same bus.
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    me: Hello,
    tls: Option<Tls>,
    began: Instant,
    serials: AtomicU64,
    table: Arc<LinkTable>,
    /// Nodes with which there can be no link, because of their build.
    distant: Mutex<BTreeMap<Incarnation, String>>,
    service: Arc<OnceLock<Arc<dyn PeerService>>>,
    figures: Arc<Figures>,
    server: ActorRef<NodeServerMessage>,
    agent: ActorRef<Ask>,
    accepting: OnceLock<JoinHandle<()>>,
}

impl Bus {
    /// Starts to answer other nodes. One for each process.
    ///
    /// Boxed: the body of an `async fn` is compiled in the crate that awaits it, and with it all of
    /// these actors.
    pub fn start(parts: BusParts) -> BoxFuture<'static, Result<Self, SpawnErr>> {
        Box::pin(async move {
            let BusParts { me, listener, tls } = parts;
            let id = me.from.to_string();
            let table = Arc::new(LinkTable::new());
            let (service, figures) = (Arc::default(), Arc::<Figures>::default());
            let agent =
                Agent { me: me.from, service: Arc::clone(&service), figures: Arc::clone(&figures) };
            let (agent, _) = Actor::spawn(None, agent, ()).await?;
            ractor::pg::join(agent::group(me.from), vec![agent.get_cell()]);
            // The cookie keeps stores apart a second time; it keeps out nobody else.
            let server = NodeServer::new(
                0,
                format!("rekindle {:032x}", me.store),
                id.clone(),
                id,
                Some(IncomingEncryptionMode::Tls(closed_door::acceptor())),
                Some(NodeConnectionMode::Isolated),
            )
            .with_listen_addr(Ipv4Addr::LOCALHOST.into())
            .with_max_inbound_frame_size(2 * MAX_PEER_MESSAGE as u64);
            let (server, _) = Actor::spawn(None, server, ()).await?;
            let reports = Box::new(Reports(Arc::clone(&table)));
            // It was just started, so it takes messages.
            let _ = server.cast(NodeServerMessage::SubscribeToEvents {
                id: "links".to_owned(),
                subscription: reports,
            });
            let shared = Arc::new(Shared {
                me,
                tls,
                began: Instant::now(),
                serials: AtomicU64::new(1),
                table,
                distant: Mutex::default(),
                service,
                figures,
                server,
                agent,
                accepting: OnceLock::new(),
            });
            let accepting = tokio::spawn(accept(Arc::clone(&shared), listener));
            // Set once, here.
            let _ = shared.accepting.set(accepting);
            Ok(Self(shared))
        })
    }

    /// Answers other nodes with this from now on; before, only pings are. Called once.
    pub fn serve(&self, service: Arc<dyn PeerService>) {
        assert!(self.0.service.set(service).is_ok(), "a node answers with one service");
    }

    /// Makes a link to the node at `address`. With `to` unknown it only asks who is there.
    pub async fn dial(&self, to: Option<Incarnation>, address: &str) -> Result<Hello, NoLink> {
        let shared = &self.0;
        let dialled = timeout(GREETING_PATIENCE, shared.greet(to, address)).await;
        let (wire, theirs, version) =
            dialled.unwrap_or_else(|_| Err(NoLink::Unreachable("no answer in time".to_owned())))?;
        if to.is_some() {
            shared.hand_over(wire, &theirs, version, false).await;
        }
        Ok(theirs)
    }

    /// Whether it is certain that `node` does not listen at `address` any more: its host says that
    /// nobody does, or another run of a node answers there.
    pub async fn is_gone(&self, node: Incarnation, address: &str) -> bool {
        match timeout(KNOCK_PATIENCE, self.0.greet(None, address)).await {
            Ok(Ok((_, there, _))) => there.from != node,
            Ok(Err(problem)) => problem == NoLink::NobodyListens,
            // One that hangs does not answer either.
            Err(_) => false,
        }
    }

    /// Ends the link to a node: what waits for it gets [`PeerError::Unknown`].
    pub fn close(&self, to: Incarnation) {
        self.0.table.close(to);
    }

    /// The links that are up, each with the name of the other node and for how many milliseconds
    /// nothing has been heard of it.
    pub fn links(&self) -> BTreeMap<Incarnation, (String, u64)> {
        let now = self.0.began.elapsed().as_millis() as u64;
        let quiet = |(name, heard_ms): (String, u64)| (name, now.saturating_sub(heard_ms));
        self.0.table.up().into_iter().map(|(to, link)| (to, quiet(link))).collect()
    }

    /// Resolves when a link begins or ends. One waits at a time.
    pub async fn changed(&self) {
        self.0.table.changed.notified().await;
    }

    /// What it has counted.
    pub fn counted(&self) -> Counted {
        self.0.figures.counted()
    }

    /// Ends all links and takes no new ones.
    pub fn stop(&self) {
        if let Some(accepting) = self.0.accepting.get() {
            accepting.abort();
        }
        self.0.table.close_all();
        self.0.agent.stop(None);
        self.0.server.stop(None);
    }
}

impl PeerBus for Bus {
    fn call(
        &self,
        to: Incarnation,
        request: PeerRequest,
        patience: Duration,
    ) -> BoxFuture<'_, Result<PeerReply, PeerError>> {
        Box::pin(async move {
            self.0.figures.called();
            let Some(line) = self.0.table.line(to) else {
                self.0.figures.no_link();
                return Err(match self.0.distant.lock().get(&to) {
                    Some(problem) => PeerError::Version { node: to, problem: problem.clone() },
                    None => PeerError::NoLink(to),
                });
            };
            self.0.ask(to, line, request, patience).await
        })
    }

    fn linked(&self) -> Vec<Incarnation> {
        self.0.table.up().into_keys().collect()
    }
}

impl Shared {
    async fn ask(
        &self,
        to: Incarnation,
        line: Line,
        request: PeerRequest,
        patience: Duration,
    ) -> Result<PeerReply, PeerError> {
        let Line { agent, budget, version } = line;
        let is_ping = request == PeerRequest::Ping;
        let call = PeerCall { version, from: self.me.from, to, request };
        let call = codec::encode(REQUEST_TAG, &call);
        assert!(call.len() <= MAX_PEER_MESSAGE, "bulk bytes go through the store");
        let Some(entry) = Entry::new(budget, call.len(), is_ping) else {
            self.figures.busy();
            return Err(PeerError::Busy(to));
        };
        let unknown = || {
            self.figures.unknown();
            PeerError::Unknown(to)
        };
        match agent.call(|reply| Ask { call, reply }, Some(patience)).await {
            Ok(CallResult::Success(reply)) => {
                entry.answered();
                codec::decode_message(REPLY_TAG, &reply).map_err(|_| unknown())
            }
            Ok(CallResult::Timeout | CallResult::SenderError) => Err(unknown()),
            // The session has just ended, and took nothing any more.
            Err(_) => Err(PeerError::NoLink(to)),
        }
    }

    /// Dials, and exchanges greetings.
    async fn greet(
        &self,
        to: Option<Incarnation>,
        address: &str,
    ) -> Result<(Box<dyn Wire>, Hello, u16), NoLink> {
        let ours = Hello { to, ..self.me.clone() };
        let greeted = greet(address, &ours, self.tls.as_ref()).await;
        if let (Some(to), Err(error @ NoLink::Version { .. })) = (to, &greeted) {
            self.distant.lock().insert(to, error.to_string());
        }
        greeted
    }

    /// Greets a node that has dialled, and takes its link in.
    async fn admit(&self, stream: TcpStream) -> Result<(), NoLink> {
        let (mut wire, shown) = secure(self.tls.as_ref(), stream, true).await?;
        let theirs = greeting::heard(&mut wire).await?;
        let judged = greeting::judge(&self.me, &theirs)
            .and_then(|version| shown.is_for(&theirs.name).map(|()| version));
        let version = match judged {
            Ok(version) => version,
            Err(error) => {
                let words = error.to_string();
                greeting::answer(&mut wire, &HelloAnswer::Refused { words }).await?;
                return Err(error);
            }
        };
        let ours = Hello { to: Some(theirs.from), ..self.me.clone() };
        greeting::answer(&mut wire, &HelloAnswer::Welcome(ours)).await?;
        if theirs.to.is_some() {
            self.hand_over(wire, &theirs, version, true).await;
        }
        Ok(())
    }

    /// Gives a greeted stream to the library, in place of one to the same node.
    async fn hand_over(&self, wire: Box<dyn Wire>, theirs: &Hello, version: u16, dialled_us: bool) {
        let (to, table) = (theirs.from, &self.table);
        if table.close(to) {
            let deadline = Instant::now() + REPLACE_PATIENCE;
            while table.has(to) && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let pulse = Pulse::new(self.began, Arc::clone(&table.changed));
        let (closer, closed) = oneshot::channel();
        let (agent, ready) = watch::channel(None);
        let (name, budget) = (theirs.name.clone(), Arc::default());
        let (pulse_of_link, closer) = (Arc::clone(&pulse), Some(closer));
        let link = Link { serial, name, version, pulse: pulse_of_link, closer, agent, budget };
        table.insert(to, link);
        let label = Link::label(to, serial);
        let stream = Box::new(Tapped::new(wire, Arc::clone(&pulse), closed, label));
        let opened = NodeServerMessage::ConnectionOpenedExternal { stream, is_server: dialled_us };
        if self.server.cast(opened).is_err() {
            table.remove(to, serial);
            return;
        }
        tokio::spawn(tend(
            Tended { table: Arc::clone(table), to, serial, pulse },
            ready,
            self.me.from,
            Arc::clone(&self.figures),
            self.began,
        ));
    }
}

/// A link that is looked after.
struct Tended {
    table: Arc<LinkTable>,
    to: Incarnation,
    serial: u64,
    pulse: Arc<Pulse>,
}

/// Looks after a link to its end: closes it if it never becomes of use, or falls silent.
async fn tend(
    link: Tended,
    mut ready: watch::Receiver<Option<ActorRef<Ask>>>,
    me: Incarnation,
    figures: Arc<Figures>,
    began: Instant,
) {
    let Tended { table, to, serial, pulse } = link;
    let is_ready =
        matches!(timeout(READY_PATIENCE, ready.wait_for(Option::is_some)).await, Ok(Ok(_)));
    if !is_ready {
        // Dropping the closer ends the stream, if the library has it at all.
        table.remove(to, serial);
        return;
    }
    while !pulse.is_over() {
        tokio::time::sleep(PING_EVERY).await;
        let Some(line) = table.line(to) else { break };
        let call = PeerCall { version: line.version, from: me, to, request: PeerRequest::Ping };
        let call = codec::encode(REQUEST_TAG, &call);
        let Some(entry) = Entry::new(line.budget, call.len(), true) else { break };
        let asked = Instant::now();
        let pong = line.agent.call(|reply| Ask { call, reply }, Some(SILENCE)).await;
        if matches!(pong, Ok(CallResult::Success(_))) {
            entry.answered();
            figures.trip(asked.elapsed());
        }
        let quiet_ms = (began.elapsed().as_millis() as u64).saturating_sub(pulse.heard_ms());
        if u128::from(quiet_ms) >= SILENCE.as_millis() {
            table.close(to);
            break;
        }
    }
}

/// An open request: closed when it is answered, given up when nobody waits any more.
struct Entry {
    budget: Arc<Mutex<Budget>>,
    number: u64,
}

impl Entry {
    fn new(budget: Arc<Mutex<Budget>>, bytes: usize, always: bool) -> Option<Self> {
        let number = {
            let mut budget = budget.lock();
            if always { budget.enter_always(bytes) } else { budget.enter(bytes)? }
        };
        Some(Self { budget, number })
    }

    fn answered(&self) {
        self.budget.lock().answered(self.number);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Nothing comes of it if it was answered.
        self.budget.lock().given_up(self.number);
    }
}

/// Accepts streams of other nodes. Greeting one never holds up the next.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_GREETED));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(code = "RK-PEER-017", %error, "a stream of another node could not \
                    be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let admitted = timeout(GREETING_PATIENCE, shared.admit(stream)).await;
            if let Ok(Err(problem)) = admitted {
                refused(address, &problem);
            }
            drop(place);
        });
    }
}

/// Says that a link was refused.
fn refused(address: SocketAddr, problem: &NoLink) {
    if matches!(problem, NoLink::NoNode(_)) {
        // Whoever looks whether anybody listens says nothing.
        tracing::debug!(code = "RK-PEER-016", %address, %problem, "no greeting");
    } else {
        tracing::warn!(code = "RK-PEER-016", %address, %problem, "a link of another node was \
            refused");
    }
}

/// Which node listens for others at an address. No link is made. `ours` says who asks; its `to` is
/// ignored.
pub async fn who_is_at(address: &str, ours: &Hello, tls: Option<&Tls>) -> Result<Hello, NoLink> {
    let ours = Hello { to: None, ..ours.clone() };
    let greeted = timeout(KNOCK_PATIENCE, greet(address, &ours, tls)).await;
    let greeted =
        greeted.unwrap_or_else(|_| Err(NoLink::Unreachable("no answer in time".to_owned())));
    greeted.map(|(_, theirs, _)| theirs)
}

/// Dials, and exchanges greetings. Returns what the other side said of itself, and the version.
async fn greet(
    address: &str,
    ours: &Hello,
    tls: Option<&Tls>,
) -> Result<(Box<dyn Wire>, Hello, u16), NoLink> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => NoLink::NobodyListens,
        _ => NoLink::Unreachable(error.to_string()),
    })?;
    let (mut wire, shown) = secure(tls, stream, false).await?;
    let (theirs, version) = greeting::dialled(&mut wire, ours).await?;
    shown.is_for(&theirs.name)?;
    Ok((wire, theirs, version))
}

/// Secures a stream if TLS is configured.
async fn secure(
    tls: Option<&Tls>,
    stream: TcpStream,
    dialled_us: bool,
) -> Result<(Box<dyn Wire>, Shown), NoLink> {
    stream.set_nodelay(true).map_err(|error| NoLink::Unreachable(error.to_string()))?;
    match tls {
        None => Ok((Box::new(stream), Shown::default())),
        Some(tls) if dialled_us => tls.accept(stream).await,
        Some(tls) => tls.connect(stream).await,
    }
}

/// The library insists on a listener of its own. It gets one on loopback that lets nobody in.
mod closed_door {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use tokio_rustls::TlsAcceptor;

    #[derive(Debug)]
    struct NoCertificate;

    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }

    pub(super) fn acceptor() -> TlsAcceptor {
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(NoCertificate));
        TlsAcceptor::from(Arc::new(config))
    }
}
