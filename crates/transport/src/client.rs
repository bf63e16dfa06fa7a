//! How a client makes connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime};

use crate::connection::{Closed, Connection};
use crate::error::SetupError;
use crate::quic::client::{self, SERVER_NAME, Trust};

/// Whom a client trusts, prepared for its connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientSetup {
    quic: quinn::ClientConfig,
}

impl ClientSetup {
    /// To connect to the node that `trust` describes.
    pub fn new(trust: &Trust) -> Result<Self, SetupError> {
        Ok(Self { quic: client::config(trust)? })
    }
}

/// A UDP socket from which a client connects. Clones share the socket; so may many clients.
#[derive(Debug, Clone)]
pub struct ClientEndpoint {
    endpoint: Endpoint,
}

/// A connection cannot even be begun: the address is of no use, or the endpoint is closed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConnectError(#[from] quinn::ConnectError);

impl ClientEndpoint {
    /// A socket of its own at `local`, whose port may be 0. Must be called inside a tokio runtime.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        Ok(Self { endpoint: Endpoint::client(local)? })
    }

    /// On a socket that the caller made, with the caller's runtime under QUIC: a simulation's.
    /// `seed` decides QUIC's random choices.
    pub fn on_socket(
        socket: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
        seed: [u8; 32],
    ) -> io::Result<Self> {
        let mut config = EndpointConfig::default();
        config.rng_seed(Some(seed));
        let endpoint = Endpoint::new_with_abstract_socket(config, None, socket, runtime)?;
        Ok(Self { endpoint })
    }

    /// Begins a handshake with the node at `addr`.
    pub fn connect(
        &self,
        setup: &ClientSetup,
        addr: SocketAddr,
    ) -> Result<Connecting, ConnectError> {
        Ok(Connecting(self.endpoint.connect_with(setup.quic.clone(), addr, SERVER_NAME)?))
    }
}

/// A handshake on its way. Resolves to the connection; dropping it gives the handshake up.
pub struct Connecting(quinn::Connecting);

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connecting")
    }
}

impl Future for Connecting {
    type Output = Result<Connection, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let connected = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(connected.map(Connection::quinn).map_err(Closed::from))
    }
}
