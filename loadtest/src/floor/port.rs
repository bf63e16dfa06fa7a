//! The port of a bare server, on either stack.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use bytes::Bytes;
use quinn::{AckFrequencyConfig, Endpoint, ServerConfig, TransportConfig, VarInt};
use rekindle_transport::{
    AddressGuard, Certificates, DatagramDelivery, SERVER_NAME, ServerEndpoint, ServerSetup,
    SocketSetup,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;

use super::{FloorError, PATIENCE};

/// Bytes of the system's buffers of a node's socket, as by default.
const SOCKET_BUFFER: usize = 4 << 20;
/// How long packets gather in a node's socket, as by default.
const GATHER: Duration = Duration::from_millis(1);

/// What speaks QUIC on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// quinn, with a task for each connection.
    Quinn,
    /// What nodes have: all connections of a port in one loop.
    Node,
}

/// Where a bare server listens.
#[derive(Clone)]
pub(super) enum Port {
    Quinn(Endpoint),
    Node(ServerEndpoint),
}

/// A client of a bare server, whose datagrams are counted.
pub(super) enum Client {
    Quinn(quinn::Connection),
    Node {
        connection: rekindle_transport::Connection,
        /// Counts its datagrams.
        _delivery: DatagramDelivery,
        /// Says that its address is proved.
        _address: AddressGuard,
    },
}

fn tls(error: impl std::fmt::Display) -> FloorError {
    FloorError::Tls(error.to_string())
}

impl Port {
    /// Listens on loopback; the certificate (DER) is told. Must be called inside a tokio runtime.
    pub(super) fn bind(stack: Stack) -> Result<(Self, Vec<u8>), FloorError> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).map_err(tls)?;
        let certificate = made.cert.der().clone();
        let der = certificate.to_vec();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let port = match stack {
            Stack::Quinn => Self::Quinn(quinn(certificate, key)?),
            Stack::Node => Self::Node(node(certificate, key)?),
        };
        Ok((port, der))
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr, FloorError> {
        match self {
            Self::Quinn(endpoint) => Ok(endpoint.local_addr()?),
            Self::Node(endpoint) => Ok(endpoint.local_addr()),
        }
    }

    /// Takes all clients that come, counts their datagrams in `received`.
    pub(super) async fn take_all(self, received: Arc<AtomicU64>, came: mpsc::Sender<Client>) {
        match self {
            Self::Quinn(endpoint) => {
                while let Some(incoming) = endpoint.accept().await {
                    let (received, came) = (Arc::clone(&received), came.clone());
                    tokio::spawn(async move {
                        let Ok(connection) = incoming.await else { return };
                        // Nobody counts clients that come too late.
                        let _ = came.send(Client::Quinn(connection.clone())).await;
                        while connection.read_datagram().await.is_ok() {
                            received.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            }
            Self::Node(endpoint) => {
                while let Some(incoming) = endpoint.accept().await {
                    let (received, came) = (Arc::clone(&received), came.clone());
                    tokio::spawn(async move {
                        let complete = incoming.accept().complete(PATIENCE).await;
                        let Ok((connection, address)) = complete else { return };
                        let delivery = connection.deliver_datagrams(move |_| {
                            received.fetch_add(1, Ordering::Relaxed);
                        });
                        let client =
                            Client::Node { connection, _delivery: delivery, _address: address };
                        // As above.
                        let _ = came.send(client).await;
                    });
                }
            }
        }
    }

    /// Ends all connections.
    pub(super) fn close(&self) {
        match self {
            Self::Quinn(endpoint) => endpoint.close(VarInt::from_u32(0), b""),
            Self::Node(endpoint) => endpoint.close(0, b""),
        }
    }
}

impl Client {
    /// Sends it a datagram. False if that is not possible.
    pub(super) fn send(&self, datagram: Bytes) -> bool {
        match self {
            Self::Quinn(connection) => connection.send_datagram(datagram).is_ok(),
            Self::Node { connection, .. } => connection.send_datagram(datagram).is_ok(),
        }
    }
}

fn quinn(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<Endpoint, FloorError> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
    .map_err(tls)?;
    config.alpn_protocols = vec![rekindle_schema::wire::ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).map_err(tls)?;
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(4))
        .max_ack_delay(Some(Duration::from_millis(40)));
    let mut transport = TransportConfig::default();
    transport.ack_frequency_config(Some(acks));
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport));
    Ok(Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?)
}

fn node(
    certificate: CertificateDer<'static>,
    private_key: PrivateKeyDer<'static>,
) -> Result<ServerEndpoint, FloorError> {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(tls)?;
    let setup = ServerSetup {
        certificates: Certificates::new(certificate, private_key).map_err(tls)?,
        origins: Arc::default(),
        reset_key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        retry_key: hkdf::Salt::new(hkdf::HKDF_SHA256, b"floor").extract(&key),
        connection_id_key: 1,
        seed: None,
        idle_timeout: PATIENCE,
        max_incoming: 256,
        datagram_send_buffer: 4 << 10,
    };
    let socket = SocketSetup { buffer: SOCKET_BUFFER, gather: GATHER, loops: 1 };
    ServerEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), socket, setup).map_err(tls)
}
