//! How a node takes connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{AsyncUdpSocket, Endpoint, Runtime, TokioRuntime, VarInt};
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::error::SetupError;
use crate::quic::server::{self, ServerSetup};
use crate::socket::{GatheringSocket, bind};
use crate::unproven::{AddressGuard, Unproven};

/// How long the allowance of an address that was not proved outlives its connection: until what
/// closes it was sent, or dropped.
const AFTERMATH: Duration = Duration::from_millis(200);

/// How a node's own UDP socket behaves.
#[derive(Debug, Clone, Copy)]
pub struct SocketSetup {
    /// Wanted size of each of the system's two buffers, in bytes.
    pub buffer: usize,
    /// How long packets gather in the socket after some were read, before the next ones are.
    pub gather: Duration,
}

/// The UDP port on which a node takes connections. Clones share it.
#[derive(Debug, Clone)]
pub struct ServerEndpoint {
    endpoint: Endpoint,
    local_addr: SocketAddr,
    unproven: Arc<Unproven>,
}

impl ServerEndpoint {
    /// Listens at `addr`, whose port may be 0. Must be called inside a tokio runtime.
    pub fn bind(
        addr: SocketAddr,
        socket: SocketSetup,
        setup: ServerSetup,
    ) -> Result<Self, SetupError> {
        let io = bind(addr, socket.buffer).map_err(SetupError::Bind)?;
        let unproven = Arc::new(Unproven::default());
        let socket = GatheringSocket::new(io, socket.gather, Arc::clone(&unproven))
            .map_err(SetupError::Endpoint)?;
        Self::begin(setup, (Arc::new(socket), unproven), Arc::new(TokioRuntime))
    }

    /// Listens on a socket that the caller made, with the caller's runtime under QUIC: a
    /// simulation's. Such a socket does not bound what is sent to unproven addresses.
    pub fn on_socket(
        socket: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
        setup: ServerSetup,
    ) -> Result<Self, SetupError> {
        Self::begin(setup, (socket, Arc::default()), runtime)
    }

    fn begin(
        setup: ServerSetup,
        (socket, unproven): (Arc<dyn AsyncUdpSocket>, Arc<Unproven>),
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, SetupError> {
        let (config, server) = server::configs(setup)?;
        let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
            .map_err(SetupError::Endpoint)?;
        let local_addr = endpoint.local_addr().map_err(SetupError::Endpoint)?;
        Ok(Self { endpoint, local_addr, unproven })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next connection that wants in; `None` when no more can come: it was closed, or the port
    /// is lost.
    pub async fn accept(&self) -> Option<Incoming> {
        let quic = self.endpoint.accept().await?;
        Some(Incoming { quic, unproven: Arc::clone(&self.unproven) })
    }

    /// Ends all connections at once; `code` and `words` are told to the clients. Takes no more.
    pub fn close(&self, code: u32, words: &[u8]) {
        self.endpoint.close(VarInt::from_u32(code), words);
    }

    /// Resolves when all connections have ended and their peers have heard of it.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A connection that wants in. Its fate is decided by one of the methods that consume it; dropping
/// it refuses it.
#[derive(Debug)]
pub struct Incoming {
    quic: quinn::Incoming,
    unproven: Arc<Unproven>,
}

impl Incoming {
    /// Where it says it comes from.
    pub fn source(&self) -> IpAddr {
        self.quic.remote_address().ip()
    }

    /// It has proved that it receives what is sent to its address.
    pub fn is_validated(&self) -> bool {
        self.quic.remote_address_validated()
    }

    /// Takes it. From now on its address has an allowance.
    pub fn accept(self) -> Handshake {
        let (addr, proven) = (self.quic.remote_address(), self.is_validated());
        let address = self.unproven.enter(addr, proven);
        Handshake { quic: self.quic, address }
    }

    /// Has it prove its address first (QUIC Retry). Nothing happens if it has.
    pub fn retry(self) {
        // It fails only for an address that is already proved.
        let _ = self.quic.retry();
    }

    /// Says no.
    pub fn refuse(self) {
        self.quic.refuse();
    }

    /// Says nothing: it may not even be where it claims to be.
    pub fn ignore(self) {
        self.quic.ignore();
    }
}

/// A handshake with a client that was taken.
pub struct Handshake {
    quic: quinn::Incoming,
    address: AddressGuard,
}

/// Why a handshake gave no connection.
pub enum HandshakeError {
    /// Its first packet is of no use. Nothing was sent.
    Unusable,
    /// It broke off or took too long.
    Incomplete(Aftermath),
}

/// What is still to be sent to the address of a handshake that broke off.
pub struct Aftermath(AddressGuard);

impl Aftermath {
    /// Waits until it was sent, or dropped; until then the bound on the address holds.
    pub async fn over(self) {
        if !self.0.is_proven() {
            sleep(AFTERMATH).await;
        }
    }
}

impl Handshake {
    /// Completes the handshake within `patience`. The guard must live as long as the connection is
    /// served: it says that the address is proved.
    pub async fn complete(
        mut self,
        patience: Duration,
    ) -> Result<(Connection, AddressGuard), HandshakeError> {
        let Ok(connecting) = self.quic.accept() else { return Err(HandshakeError::Unusable) };
        let Ok(Ok(connection)) = timeout(patience, connecting).await else {
            return Err(HandshakeError::Incomplete(Aftermath(self.address)));
        };
        self.address.prove();
        Ok((Connection::new(connection), self.address))
    }
}
