//! How QUIC and TLS are set up on a node, the bounds among their parameters.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use rekindle_schema::wire;

use super::certificates::Certificates;
use super::connection_ids::{IdKey, KeyedIds};
use crate::error::SetupError;
use crate::origin::Origins;
use crate::webtransport;

/// First guess of a round trip: decides how soon a lost first packet is sent again (three times
/// this).
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// A little more than a tick at 30 Hz. Clients tell a dead server from a quiet one by its
/// acknowledgements, so it must not be much more.
const ACK_DELAY: Duration = Duration::from_millis(40);

/// What a node's endpoint is made from.
#[derive(Clone)]
pub struct ServerSetup {
    /// What clients are shown.
    pub certificates: Arc<Certificates>,
    /// Which pages may connect.
    pub origins: Arc<Origins>,
    /// Makes the tokens of stateless resets. A node that is started anew must have the same one.
    pub reset_key: hmac::Key,
    /// Seals the tokens of QUIC Retry.
    pub retry_key: hkdf::Prk,
    /// Proves that a connection id was given out by this node, in this process or an earlier one.
    pub connection_id_key: u64,
    /// Decides QUIC's random choices and connection ids, for simulations only; without it the
    /// system's randomness does.
    pub seed: Option<[u8; 32]>,
    /// A connection that hears nothing for so long is gone.
    pub idle_timeout: Duration,
    /// Connections that may wait to be taken.
    pub max_incoming: usize,
    /// Bytes of datagrams that may wait to be sent on one connection.
    pub datagram_send_buffer: usize,
}

/// What QUIC is given for the endpoint of loop `number` and for each of its connections.
pub(crate) fn configs(
    setup: ServerSetup,
    number: u8,
) -> Result<(EndpointConfig, ServerConfig), SetupError> {
    let transport = transport(setup.idle_timeout, setup.datagram_send_buffer);
    let mut endpoint = EndpointConfig::new(Arc::new(setup.reset_key));
    let mut start = [0; 8];
    match setup.seed {
        Some(seed) => start.copy_from_slice(&seed[..8]),
        None => {
            getrandom::fill(&mut start).map_err(|error| SetupError::Random(error.to_string()))?;
        }
    }
    endpoint.rng_seed(setup.seed);
    let (key, start) = (IdKey(setup.connection_id_key), u64::from_le_bytes(start));
    endpoint.cid_generator(move || Box::new(KeyedIds::new(key, number, start)));
    // QUIC would leave one millisecond between two, and packets come in batches: of each batch one
    // client would learn that its server is gone. [`KeyedIds`] bounds them instead.
    endpoint.min_reset_interval(Duration::ZERO);

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| SetupError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(setup.certificates);
    let spoken = wire::ALPNS.into_iter().chain([webtransport::ALPN]);
    tls.alpn_protocols = spoken.map(<[u8]>::to_vec).collect();
    // Clients reconnect after the node died: what was resumable in the old process means nothing to
    // the new one.
    tls.send_tls13_tickets = 0;
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| SetupError::Tls(error.to_string()))?;
    let mut server = ServerConfig::new(Arc::new(crypto), Arc::new(setup.retry_key));
    server
        .transport_config(Arc::new(transport))
        .max_incoming(setup.max_incoming)
        .incoming_buffer_size(8 << 10)
        .incoming_buffer_size_total(4 << 20);
    Ok((endpoint, server))
}

fn transport(idle_timeout: Duration, datagram_send_buffer: usize) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(idle_timeout).ok();
    let (bidi, uni) = webtransport::STREAMS;
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(bidi))
        .max_concurrent_uni_streams(VarInt::from_u32(uni))
        .stream_receive_window(VarInt::from_u32(64 << 10))
        .receive_window(VarInt::from_u32(64 << 10))
        .send_window(256 << 10)
        .datagram_receive_buffer_size(Some(32 << 10))
        .datagram_send_buffer_size(datagram_send_buffer)
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use bytes::BytesMut;
    use quinn::ConnectionIdGenerator as _;
    use quinn_proto::{DatagramEvent, Endpoint};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;

    const KEY: u64 = 7;

    fn setup() -> ServerSetup {
        let made = rcgen::generate_simple_self_signed(["rekindle".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        ServerSetup {
            certificates: Certificates::new(made.cert.der().clone(), key.into()).unwrap(),
            origins: Arc::default(),
            reset_key: hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]),
            retry_key: hkdf::Salt::new(hkdf::HKDF_SHA256, b"retry").extract(&[1; 32]),
            connection_id_key: KEY,
            seed: Some([3; 32]),
            idle_timeout: Duration::from_secs(10),
            max_incoming: 16,
            datagram_send_buffer: 4 << 10,
        }
    }

    #[test]
    fn all_clients_of_an_earlier_process_are_told_at_once_and_a_flood_is_not_answered_for_ever() {
        let (config, server) = configs(setup(), 0).unwrap();
        let mut endpoint = Endpoint::new(Arc::new(config), Some(Arc::new(server)), false, None);
        // What the process before gave out.
        let mut before = KeyedIds::new(IdKey(KEY), 0, 99);
        let (now, mut buffer) = (Instant::now(), Vec::new());
        let mut told = |client: u16| {
            let from = SocketAddr::from(([10, 0, 0, 1], client));
            let mut packet = vec![0x40];
            packet.extend_from_slice(&before.generate_cid());
            packet.resize(60, 0xaa);
            buffer.clear();
            let answer =
                endpoint.handle(now, from, None, None, BytesMut::from(&packet[..]), &mut buffer);
            match answer {
                Some(DatagramEvent::Response(answer)) => {
                    assert!(answer.destination == from && answer.size < packet.len());
                    true
                }
                _ => false,
            }
        };
        assert!((1..=24).all(&mut told), "each of 24 in the same instant");
        let flood = (1..=20_000).filter(|client| told(*client)).count();
        assert!((500..2_000).contains(&flood), "{flood} answers to 20,000 packets");
    }
}
