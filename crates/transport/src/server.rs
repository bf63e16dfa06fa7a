//! How a node takes connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{join_all, select_all};
use quinn::{AsyncUdpSocket, VarInt};
use tokio::time::{Instant, sleep, timeout};

use crate::connection::Connection;
use crate::driver::{self, Knock, Port};
use crate::error::SetupError;
use crate::quic::server::{self, ServerSetup};
use crate::socket::{GatheringSocket, PortSocket, bind};
use crate::unproven::{AddressGuard, Unproven};
use crate::webtransport::Carried;

/// Most loops of a port: connection ids name them in one byte.
const MAX_LOOPS: usize = 256;
/// How long the allowance of an address that was not proved outlives its connection: until what
/// closes it was sent, or dropped.
const AFTERMATH: Duration = Duration::from_millis(200);

/// How a node's own UDP port behaves.
#[derive(Debug, Clone, Copy)]
pub struct SocketSetup {
    /// Wanted size of each of the system's two buffers, in bytes.
    pub buffer: usize,
    /// How long packets gather in the socket after some were read, before the next ones are.
    pub gather: Duration,
    /// How many loops share the clients of the port, each on a socket of its own. As many run at
    /// once as the runtime has threads. 0 counts as 1; at most 256.
    pub loops: usize,
}

/// The UDP port on which a node takes connections. Clones share it. When the last one is dropped,
/// no more connections are taken; those that there are go on.
#[derive(Debug, Clone)]
pub struct ServerEndpoint {
    /// One for each loop.
    owners: Arc<[Owner]>,
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
    /// the port's loops.
    pub fn bind(
        addr: SocketAddr,
        socket: SocketSetup,
        setup: ServerSetup,
    ) -> Result<Self, SetupError> {
        let loops = socket.loops.clamp(1, MAX_LOOPS);
        let unproven = Arc::new(Unproven::default());
        let sockets = bind(addr, socket.buffer, loops).map_err(SetupError::Bind)?;
        let sockets = sockets
            .into_iter()
            .map(|io| GatheringSocket::new(io, socket.gather, Arc::clone(&unproven)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(SetupError::Endpoint)?;
        Self::begin(setup, sockets.into_iter().map(PortSocket::System).collect(), unproven)
    }

    /// Listens on a socket that the caller made: a simulation's. Time and tasks are those of the
    /// tokio runtime that it is called in. Such a socket does not bound what is sent to unproven
    /// addresses.
    pub fn on_socket(
        socket: Arc<dyn AsyncUdpSocket>,
        setup: ServerSetup,
    ) -> Result<Self, SetupError> {
        Self::begin(setup, vec![PortSocket::Virtual(socket)], Arc::default())
    }

    fn begin(
        setup: ServerSetup,
        sockets: Vec<PortSocket>,
        unproven: Arc<Unproven>,
    ) -> Result<Self, SetupError> {
        let first = sockets.first().expect("a port has a socket");
        let local_addr = first.local_addr().map_err(SetupError::Endpoint)?;
        let mut made = Vec::new();
        for (number, socket) in (0..=u8::MAX).zip(sockets) {
            let configs = server::configs(setup.clone(), number)?;
            made.push(driver::make(socket, configs, Arc::clone(&setup.origins)));
        }
        if made.len() > 1 {
            let ports: Vec<_> = made.iter().map(|made| Arc::clone(&made.port)).collect();
            driver::introduce(&ports, setup.connection_id_key);
        }
        let owners = made.into_iter().map(|made| Owner(made.start())).collect();
        Ok(Self { owners, local_addr, unproven })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next connection that wants in; `None` when no more can come: it was closed, or the port
    /// is lost.
    pub async fn accept(&self) -> Option<Incoming> {
        let ports = self.owners.iter().map(|owner| owner.0.accept().boxed());
        let (knock, ..) = select_all(ports).await;
        Some(Incoming { knock: knock?, unproven: Arc::clone(&self.unproven) })
    }

    /// Ends all connections at once; `code` and `words` are told to the clients. Takes no more.
    pub fn close(&self, code: u32, words: &[u8]) {
        let now = Instant::now().into_std();
        for owner in &*self.owners {
            owner.0.close(now, VarInt::from_u32(code), words);
        }
    }

    /// Resolves when all connections have ended and their peers have heard of it.
    pub async fn wait_idle(&self) {
        join_all(self.owners.iter().map(|owner| owner.0.wait_idle())).await;
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
