//! How a node takes connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{AsyncUdpSocket, VarInt};
use tokio::time::{Instant, sleep, timeout};

use crate::connection::Connection;
use crate::driver::{self, Knock, Port};
use crate::error::SetupError;
use crate::quic::server::{self, ServerSetup};
use crate::socket::{GatheringSocket, PortSocket, bind};
use crate::unproven::{AddressGuard, Unproven};
use crate::webtransport::Carried;

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

/// The UDP port on which a node takes connections. Clones share it. When the last one is dropped,
/// no more connections are taken; those that there are go on.
#[derive(Debug, Clone)]
pub struct ServerEndpoint {
    owner: Arc<Owner>,
    local_addr: SocketAddr,
    unproven: Arc<Unproven>,
}

/// Somebody uses the port as long as this.
struct Owner(Arc<Port>);

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Port")
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl ServerEndpoint {
    /// Listens at `addr`, whose port may be 0. Must be called inside a tokio runtime, which runs
    /// the port's loop.
    pub fn bind(
        addr: SocketAddr,
        socket: SocketSetup,
        setup: ServerSetup,
    ) -> Result<Self, SetupError> {
        let io = bind(addr, socket.buffer).map_err(SetupError::Bind)?;
        let unproven = Arc::new(Unproven::default());
        let socket = GatheringSocket::new(io, socket.gather, Arc::clone(&unproven))
            .map_err(SetupError::Endpoint)?;
        Self::begin(setup, PortSocket::System(socket), unproven)
    }

    /// Listens on a socket that the caller made: a simulation's. Time and tasks are those of the
    /// tokio runtime that it is called in. Such a socket does not bound what is sent to unproven
    /// addresses.
    pub fn on_socket(
        socket: Arc<dyn AsyncUdpSocket>,
        setup: ServerSetup,
    ) -> Result<Self, SetupError> {
        Self::begin(setup, PortSocket::Virtual(socket), Arc::default())
    }

    fn begin(
        setup: ServerSetup,
        socket: PortSocket,
        unproven: Arc<Unproven>,
    ) -> Result<Self, SetupError> {
        let origins = Arc::clone(&setup.origins);
        let configs = server::configs(setup)?;
        let local_addr = socket.local_addr().map_err(SetupError::Endpoint)?;
        let owner = Arc::new(Owner(driver::start(socket, configs, origins)));
        Ok(Self { owner, local_addr, unproven })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next connection that wants in; `None` when no more can come: it was closed, or the port
    /// is lost.
    pub async fn accept(&self) -> Option<Incoming> {
        let knock = self.owner.0.accept().await?;
        Some(Incoming { knock, unproven: Arc::clone(&self.unproven) })
    }

    /// Ends all connections at once; `code` and `words` are told to the clients. Takes no more.
    pub fn close(&self, code: u32, words: &[u8]) {
        self.owner.0.close(Instant::now().into_std(), VarInt::from_u32(code), words);
    }

    /// Resolves when all connections have ended and their peers have heard of it.
    pub async fn wait_idle(&self) {
        self.owner.0.wait_idle().await;
    }
}

/// A connection that wants in. Its fate is decided by one of the methods that consume it; dropping
/// it refuses it.
pub struct Incoming {
    knock: Knock,
    unproven: Arc<Unproven>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Incoming").field(&self.knock.remote_address()).finish()
    }
}

impl Incoming {
    /// Where it says it comes from.
    pub fn source(&self) -> IpAddr {
        self.knock.remote_address().ip()
    }

    /// It has proved that it receives what is sent to its address.
    pub fn is_validated(&self) -> bool {
        self.knock.is_validated()
    }

    /// Takes it. From now on its address has an allowance.
    pub fn accept(self) -> Handshake {
        let (addr, proven) = (self.knock.remote_address(), self.is_validated());
        let address = self.unproven.enter(addr, proven);
        Handshake { knock: self.knock, address }
    }

    /// Has it prove its address first (QUIC Retry). Nothing happens if it has.
    pub fn retry(self) {
        self.knock.retry();
    }

    /// Says no.
    pub fn refuse(self) {
        drop(self.knock);
    }

    /// Says nothing: it may not even be where it claims to be.
    pub fn ignore(self) {
        self.knock.ignore();
    }
}

/// A handshake with a client that was taken.
pub struct Handshake {
    knock: Knock,
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
    /// Completes the handshake within `patience`, with a browser that of its session too. The guard
    /// must live as long as the connection is served: it says that the address is proved.
    pub async fn complete(
        mut self,
        patience: Duration,
    ) -> Result<(Connection, AddressGuard), HandshakeError> {
        let Some(quic) = self.knock.accept(Instant::now().into_std()) else {
            return Err(HandshakeError::Unusable);
        };
        let Ok(Ok(session)) = timeout(patience, quic.connected()).await else {
            return Err(HandshakeError::Incomplete(Aftermath(self.address)));
        };
        self.address.prove();
        let connection = match session {
            Some(request) => Connection::carried(Carried::new(quic, request)),
            None => Connection::driven(quic),
        };
        Ok((connection, self.address))
    }
}
