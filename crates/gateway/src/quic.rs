//! How QUIC is set up: sockets, TLS, transport parameters, the bounds among them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    AckFrequencyConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::InvalidCid;
use rekindle_schema::wire;
use rustix::net::sockopt;

use crate::config::{GatewayConfig, Limits};
use crate::gateway::GatewayError;
use crate::keys::Keys;

/// First guess of a round trip: decides how soon a lost first packet is sent again (three times
/// this).
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// A little more than a tick at 30 Hz. Clients tell a dead server from a quiet one by its
/// acknowledgements, so it must not be much more.
const ACK_DELAY: Duration = Duration::from_millis(40);

/// Resets tell clients of an earlier process that it is gone. One a millisecond is enough for
/// thousands, and no amplifier.
const MIN_RESET_INTERVAL: Duration = Duration::from_millis(1);

/// A socket with large buffers: all clients of a node share it, and what does not fit is lost.
pub(crate) fn socket(bind: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(bind)?;
    // The forced variant goes beyond the system's limit, where the process may.
    if sockopt::set_socket_recv_buffer_size_force(&socket, buffer).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, buffer)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, buffer).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, buffer)?;
    }
    let granted = sockopt::socket_recv_buffer_size(&socket)?;
    if granted < buffer {
        tracing::info!(
            code = "RK-GATE-020",
            granted,
            wanted = buffer,
            "the system grants a smaller socket buffer: raise net.core.rmem_max and \
             net.core.wmem_max for many clients"
        );
    }
    Ok(socket)
}

pub(crate) fn endpoint_config(
    config: &GatewayConfig,
    keys: &Keys,
) -> Result<EndpointConfig, GatewayError> {
    let mut endpoint = EndpointConfig::new(Arc::new(keys.reset_key()));
    let key = keys.connection_id_key();
    let mut start = [0; 8];
    match config.seed {
        Some(seed) => start.copy_from_slice(&seed[..8]),
        None => {
            getrandom::fill(&mut start).map_err(|error| GatewayError::Random(error.to_string()))?
        }
    }
    endpoint.rng_seed(config.seed);
    endpoint.cid_generator(move || Box::new(KeyedIds { key, state: u64::from_le_bytes(start) }));
    endpoint.min_reset_interval(MIN_RESET_INTERVAL);
    Ok(endpoint)
}

pub(crate) fn server_config(limits: &Limits, keys: &Keys) -> Result<ServerConfig, GatewayError> {
    let (certificate, key) = keys.tls_identity();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(|error| GatewayError::Tls(error.to_string()))?;
    tls.alpn_protocols = vec![wire::ALPN_2.to_vec(), wire::ALPN.to_vec()];
    // Clients reconnect after the node died: what was resumable in the old process means nothing to
    // the new one.
    tls.send_tls13_tickets = 0;
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| GatewayError::Tls(error.to_string()))?;
    let mut server = ServerConfig::new(Arc::new(crypto), Arc::new(keys.retry_token_key()));
    server
        .transport_config(Arc::new(transport(limits)))
        .max_incoming(limits.max_pending)
        .incoming_buffer_size(8 << 10)
        .incoming_buffer_size_total(4 << 20);
    Ok(server)
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(limits.idle_timeout).ok();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(64 << 10))
        .receive_window(VarInt::from_u32(64 << 10))
        .send_window(256 << 10)
        .datagram_receive_buffer_size(Some(32 << 10))
        .datagram_send_buffer_size(limits.datagram_send_buffer)
        .max_idle_timeout(idle)
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(rare_acks()));
    transport
}

/// Acknowledgements travel with the packets of the next tick instead of in packets of their own.
fn rare_acks() -> AckFrequencyConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(4)).max_ack_delay(Some(ACK_DELAY));
    acks
}

/// Connection ids that a key recognises: the process after a restart sees which packets were for
/// the one before, tells those clients that it is gone, and stays silent to everything else.
struct KeyedIds {
    key: u64,
    state: u64,
}

/// Bytes of an id that are random; the other three prove that it is ours.
const NONCE: usize = 5;

impl KeyedIds {
    fn proof(&self, nonce: &[u8]) -> [u8; 3] {
        let mut word = [0; 8];
        word[..NONCE].copy_from_slice(nonce);
        let [a, b, c, ..] = mix(self.key ^ mix(u64::from_le_bytes(word))).to_le_bytes();
        [a, b, c]
    }
}

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl ConnectionIdGenerator for KeyedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut id = mix(self.state).to_le_bytes();
        let proof = self.proof(&id[..NONCE]);
        id[NONCE..].copy_from_slice(&proof);
        ConnectionId::new(&id)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let (nonce, proof) = cid.split_at_checked(NONCE).ok_or(InvalidCid)?;
        if self.proof(nonce) == proof { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
