//! The edge itself: its port, and the loop that takes connections.
//!
//! The node calls [`Gateway::bind`] and, at its end, [`Gateway::shutdown`]. Each connection that
//! [`crate::limits`] lets through gets a task of its own ([`crate::connection`]).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rekindle_door::NodeSide;
use rekindle_schema::MatchId;
use rekindle_schema::wire::RefuseCode;
use rekindle_transport::quic::AsyncUdpSocket;
use rekindle_transport::{
    Certificates, Incoming, ServerEndpoint, ServerSetup, SetupError, SocketSetup,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::GatewayConfig;
use crate::connection;
use crate::edge::Edge;
use crate::keys::Keys;
use crate::limits::Verdict;
use crate::meters::Meters;
use crate::seat::ClientLine;
use crate::side_door::SideDoor;
use crate::stage::Stage;

/// How long a shutdown waits for clients to hear of it.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why there is no edge.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The port cannot be had.
    #[error(
        "RK-GATE-021: UDP {addr} cannot be bound: {source}; is another node running, or is the \
         port taken? Choose another with --listen"
    )]
    Bind {
        /// The address that was to be bound.
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

/// The edge of a node: one UDP port that clients speak QUIC with.
pub struct Gateway {
    edge: Arc<Edge>,
    endpoint: ServerEndpoint,
    /// Takes connections.
    accepting: JoinHandle<()>,
    /// True while connections are taken.
    open: watch::Receiver<bool>,
}

impl Gateway {
    /// Listens on `config.bind`. Must be called inside a tokio runtime, which then runs all tasks
    /// of the edge; install the recorder of metrics before.
    pub fn bind(
        config: GatewayConfig,
        node: Arc<dyn NodeSide>,
        keys: Keys,
    ) -> Result<Self, GatewayError> {
        let GatewayConfig { socket_buffer: buffer, gather, loops, .. } = config;
        let socket = SocketSetup { buffer, gather, loops };
        let failed = |error| not_set_up(error, config.bind);
        let setup = setup(&config, &keys);
        let endpoint = ServerEndpoint::bind(config.bind, socket, setup).map_err(failed)?;
        Ok(Self::begin(config, node, keys, endpoint))
    }

    /// Listens on a socket that the caller made: a simulation's. Time comes from tokio's clock.
    pub fn on_socket(
        config: GatewayConfig,
        node: Arc<dyn NodeSide>,
        keys: Keys,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> Result<Self, GatewayError> {
        let failed = |error| not_set_up(error, config.bind);
        let endpoint = ServerEndpoint::on_socket(socket, setup(&config, &keys)).map_err(failed)?;
        Ok(Self::begin(config, node, keys, endpoint))
    }

    fn begin(
        config: GatewayConfig,
        node: Arc<dyn NodeSide>,
        keys: Keys,
        endpoint: ServerEndpoint,
    ) -> Self {
        let edge = Edge::new(config, keys, node);
        let (opened, open) = watch::channel(true);
        let accepting = tokio::spawn(accept(Arc::clone(&edge), endpoint.clone(), opened));
        Self { edge, endpoint, accepting, open }
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
        self.endpoint.local_addr()
    }

    /// The keys that it uses, to issue tickets with.
    pub fn keys(&self) -> &Keys {
        &self.edge.keys
    }

    /// Where connections come in that the port does not make: those of a web listener.
    pub fn side_door(&self) -> SideDoor {
        SideDoor::new(Arc::clone(&self.edge))
    }

    /// What clients are shown. Browsers are served from when it has a certificate for them.
    pub fn certificates(&self) -> &Arc<Certificates> {
        self.edge.keys.certificates()
    }

    /// Clients that are in now, players and spectators.
    pub fn clients(&self) -> usize {
        self.edge.crowd.len()
    }

    /// The lines of all clients of a match, players and spectators.
    pub fn lines(&self, match_id: MatchId) -> Vec<ClientLine> {
        self.edge.crowd.lines(match_id)
    }

    /// Lets nobody in until [`Gateway::let_in`], and tells all clients to ask another node, for
    /// `reason`. For a node that lives and cannot serve them now. Harmless to repeat.
    pub fn send_away(&self, reason: &str) {
        self.edge.crowd.drain(reason);
    }

    /// Takes [`Gateway::send_away`] back. Not to be called once [`Gateway::shutdown`] is.
    pub fn let_in(&self) {
        self.edge.crowd.let_in();
    }

    /// Lets nobody in any more, tells all clients to ask another node, and closes after a second at
    /// most.
    pub async fn shutdown(&self, reason: &str) {
        self.edge.crowd.drain(reason);
        let _ = timeout(GOODBYE, self.endpoint.wait_idle()).await;
        self.endpoint.close(RefuseCode::Draining.close_code(), reason.as_bytes());
        let _ = timeout(GOODBYE / 4, self.endpoint.wait_idle()).await;
        self.accepting.abort();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.endpoint.close(RefuseCode::Draining.close_code(), b"the node is gone");
        self.accepting.abort();
    }
}

fn setup(config: &GatewayConfig, keys: &Keys) -> ServerSetup {
    ServerSetup {
        certificates: Arc::clone(keys.certificates()),
        origins: Arc::clone(&config.origins),
        reset_key: keys.reset_key(),
        retry_key: keys.retry_token_key(),
        connection_id_key: keys.connection_id_key(),
        seed: config.seed,
        idle_timeout: config.limits.idle_timeout,
        max_incoming: config.limits.max_pending,
        datagram_send_buffer: config.limits.datagram_send_buffer,
    }
}

fn not_set_up(error: SetupError, addr: SocketAddr) -> GatewayError {
    match error {
        SetupError::Bind(source) => GatewayError::Bind { addr, source },
        SetupError::Tls(problem) => GatewayError::Tls(problem),
        SetupError::Random(problem) => GatewayError::Random(problem),
        SetupError::Endpoint(problem) => GatewayError::Endpoint(problem),
    }
}

/// Decides on each connection that wants in. `opened` is dropped when no more can come.
async fn accept(edge: Arc<Edge>, endpoint: ServerEndpoint, opened: watch::Sender<bool>) {
    while let Some(incoming) = endpoint.accept().await {
        if edge.crowd.is_draining() {
            incoming.refuse();
            continue;
        }
        match edge.decide(incoming.source(), incoming.is_validated()) {
            Verdict::Accept => take(&edge, incoming),
            Verdict::Retry => {
                Meters::turned_away("retried", "address");
                // One that has proved its address is never asked again.
                incoming.retry();
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
    if !edge.crowd.is_draining() {
        tracing::error!(
            code = "RK-GATE-123",
            "QUIC has given up the game port: nobody gets in any more, and players fall silent"
        );
    }
    opened.send_replace(false);
}

/// Serves a connection in a task of its own.
fn take(edge: &Arc<Edge>, incoming: Incoming) {
    let number = edge.next_number();
    edge.meters.accepted.increment(1);
    let standing = edge.connections.begin(incoming.source(), Stage::Handshake);
    let handshake = incoming.accept();
    tokio::spawn(connection::serve(Arc::clone(edge), handshake, number, standing));
}
