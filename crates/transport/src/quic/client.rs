//! How QUIC and TLS are set up on a client: whom it trusts, when it asks again.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AckFrequencyConfig, TransportConfig, VarInt};
use rekindle_schema::wire;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use crate::error::SetupError;

/// The name that is asked for. Trust rests on the certificate, not on the name.
pub const SERVER_NAME: &str = "rekindle";

/// A quiet connection says something this often, so that a dead server is told from a quiet one.
const KEEP_ALIVE: Duration = Duration::from_millis(250);

/// First guess of a round trip. The first packet is repeated after three times this, then after
/// twice as long, and so on: a server that is just starting hears the next knock soon. On a longer
/// link it costs two needless packets.
const FIRST_GUESS: Duration = Duration::from_millis(33);

/// The server's acknowledgements travel with the snapshot of the next tick. They also tell that it
/// lives: the client SDK takes a server that acknowledges nothing for dead.
const ACK_DELAY: Duration = Duration::from_millis(40);

/// Which server is the right one. Part of what a client is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The one with this certificate (DER), as a node writes it to `cert.der`.
    Certificate(Vec<u8>),
    /// The one whose certificate has this SHA-256.
    Fingerprint([u8; 32]),
    /// Any of these: while a node's certificate is replaced, the present one and the next.
    AnyOf(Vec<Trust>),
    /// Whoever answers. Anybody on the path can read and change everything: for experiments on one
    /// machine only.
    InsecureAnyServer,
}

impl Trust {
    /// Whoever has one of these certificates (DER).
    pub fn certificates(certificates: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self::AnyOf(certificates.into_iter().map(Self::Certificate).collect())
    }

    /// Whether a server that shows this certificate is the right one.
    fn knows(&self, certificate: &[u8]) -> bool {
        match self {
            Self::Certificate(der) => der == certificate,
            Self::Fingerprint(fingerprint) => digest(&SHA256, certificate).as_ref() == fingerprint,
            Self::AnyOf(several) => several.iter().any(|trust| trust.knows(certificate)),
            Self::InsecureAnyServer => true,
        }
    }
}

/// How a client speaks QUIC with a node that `trust` describes, for tools that do so by hand.
pub fn config(trust: &Trust) -> Result<quinn::ClientConfig, SetupError> {
    config_of(trust, &wire::ALPNS)
}

/// The same with HTTP/3, on which WebTransport stands.
pub fn h3_config(trust: &Trust) -> Result<quinn::ClientConfig, SetupError> {
    let mut config = config_of(trust, &[b"h3"])?;
    // A server of HTTP/3 opens streams of its own: its settings, and two for QPACK.
    let mut transport = transport();
    transport.max_concurrent_uni_streams(VarInt::from_u32(3));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The same for what `alpn` names.
pub(crate) fn config_of(trust: &Trust, alpn: &[&[u8]]) -> Result<quinn::ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls_error = |error: &dyn std::fmt::Display| SetupError::Tls(error.to_string());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls_error(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { trust: trust.clone(), provider }))
        .with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| tls_error(&error))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(4)).max_ack_delay(Some(ACK_DELAY));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(256 << 10))
        .receive_window(VarInt::from_u32(256 << 10))
        .send_window(256 << 10)
        .datagram_receive_buffer_size(Some(64 << 10))
        .datagram_send_buffer_size(4 << 10)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(FIRST_GUESS)
        .ack_frequency_config(Some(acks));
    transport
}

/// Accepts the one certificate that the client knows.
#[derive(Debug)]
struct Pinned {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trust.knows(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // QUIC has no TLS 1.2.
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
