//! Browsers made by hand: one that speaks WebTransport, one that speaks WebSocket. What they say is
//! the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{RecvStream, SendStream, VarInt};
use rekindle_schema::wire::{ClientMessage, ServerMessage, StreamDecoder, encode_client};
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use url::Url;
use web_transport_proto::http::{HeaderName, HeaderValue, StatusCode};
use web_transport_proto::{
    Capsule, ConnectRequest, ConnectResponse, Frame, Settings, StreamUni, VarInt as Number,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the server whose certificate has one of these hashes.
#[derive(Debug)]
struct Hashes(Vec<[u8; 32]>, Arc<CryptoProvider>);

impl ServerCertVerifier for Hashes {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.0.contains(&rekindle_gateway::keys::fingerprint(certificate)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.1.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // Browsers want P-256 of such a certificate.
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A connection that speaks HTTP/3, if the server shows a certificate with one of these hashes.
pub(crate) async fn dial_h3(
    addr: SocketAddr,
    hashes: &[[u8; 32]],
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Hashes(hashes.to_vec(), provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.connect_with(config, addr, "localhost").unwrap().await
}

/// A session's request as a page of `origin` makes it.
pub(crate) fn request(addr: SocketAddr, path: &str, origin: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let url = Url::parse(&format!("https://{addr}{path}")).unwrap();
    let mut request = ConnectRequest::new(url);
    if let Some(origin) = origin {
        let value = HeaderValue::from_str(origin).unwrap();
        request = request.with_header(HeaderName::from_static("origin"), value);
    }
    request.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn settings() -> Vec<u8> {
    let (mut settings, mut bytes) = (Settings::default(), Vec::new());
    settings.enable_webtransport(1);
    settings.encode(&mut bytes);
    bytes
}

/// Sends what a browser sends first, and asks for a session. Returns the answer and its stream.
pub(crate) async fn ask(
    quic: &quinn::Connection,
    request: &[u8],
) -> Option<(ConnectResponse, SendStream, RecvStream)> {
    let mut control = quic.open_uni().await.ok()?;
    control.write_all(&settings()).await.ok()?;
    // Kept for as long as the connection: it may not end.
    let kept = quic.clone();
    tokio::spawn(async move {
        kept.closed().await;
        drop(control);
    });
    for kind in [StreamUni::QPACK_ENCODER, StreamUni::QPACK_DECODER] {
        let mut bytes = Vec::new();
        kind.encode(&mut bytes);
        let mut stream = quic.open_uni().await.ok()?;
        stream.write_all(&bytes).await.ok()?;
        let kept = quic.clone();
        tokio::spawn(async move {
            kept.closed().await;
            drop(stream);
        });
    }
    let (mut send, mut recv) = quic.open_bi().await.ok()?;
    send.write_all(request).await.ok()?;
    let response = ConnectResponse::read(&mut recv).await;
    match response {
        Ok(response) => Some((response, send, recv)),
        Err(_) => None,
    }
}

/// What a page has.
pub(crate) enum Page {
    Transport(Box<Transport>),
    Socket(Box<Socket>),
}

pub(crate) struct Transport {
    pub(crate) quic: quinn::Connection,
    pub(crate) request: (SendStream, RecvStream),
    pub(crate) stream: (SendStream, RecvStream),
    decoder: StreamDecoder,
}

pub(crate) struct Socket {
    pub(crate) ws: WebSocketStream<TcpStream>,
    decoder: StreamDecoder,
    datagrams: Vec<Bytes>,
    closed: Option<(u64, String)>,
}

/// A WebSocket as a page of `origin` opens it.
pub(crate) async fn dial_ws(
    addr: SocketAddr,
    path: &str,
    (origin, protocol): (Option<&str>, &str),
) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
    let headers = request.headers_mut();
    if let Some(origin) = origin {
        headers.insert("origin", origin.parse().unwrap());
    }
    headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(addr).await.unwrap();
    Ok(client_async(request, stream).await?.0)
}

impl Page {
    pub(crate) async fn transport(addr: SocketAddr, hashes: &[[u8; 32]]) -> Self {
        let quic = dial_h3(addr, hashes).await.unwrap();
        let asked = ask(&quic, &request(addr, "/rekindle/4", Some("http://page.example"))).await;
        let (response, send, recv) = asked.expect("an answer");
        assert_eq!(response.status, StatusCode::OK);
        let (mut up, down) = quic.open_bi().await.unwrap();
        let mut prefix = Vec::new();
        Frame::WEBTRANSPORT.encode(&mut prefix);
        Number::from_u32(0).encode(&mut prefix);
        up.write_all(&prefix).await.unwrap();
        let decoder = StreamDecoder::of_server();
        Self::Transport(Box::new(Transport {
            quic,
            request: (send, recv),
            stream: (up, down),
            decoder,
        }))
    }

    pub(crate) async fn socket(addr: SocketAddr) -> Self {
        let origin = Some("http://page.example");
        let ws = dial_ws(addr, "/rekindle/4", (origin, "rekindle.4")).await.unwrap();
        Self::of_socket(ws)
    }

    pub(crate) fn of_socket(ws: WebSocketStream<TcpStream>) -> Self {
        let decoder = StreamDecoder::of_server();
        Self::Socket(Box::new(Socket { ws, decoder, datagrams: Vec::new(), closed: None }))
    }

    pub(crate) async fn say(&mut self, message: &ClientMessage) {
        self.say_bytes(&encode_client(message)).await;
    }

    /// Says bytes on the stream, in pieces.
    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(7) {
            match self {
                Self::Transport(page) => page.stream.0.write_all(piece).await.unwrap(),
                Self::Socket(page) => {
                    let message = [&[0][..], piece].concat();
                    page.ws.send(Message::Binary(message.into())).await.unwrap();
                }
            }
        }
    }

    /// The next message; `None` when the node has closed.
    pub(crate) async fn hear(&mut self) -> Option<ServerMessage> {
        let heard = async {
            loop {
                let decoder = match self {
                    Self::Transport(page) => &mut page.decoder,
                    Self::Socket(page) => &mut page.decoder,
                };
                if let Some(message) = decoder.next_message().unwrap() {
                    return Some(message);
                }
                match self {
                    Self::Transport(page) => {
                        let chunk = page.stream.1.read_chunk(4096, true).await.ok()??;
                        page.decoder.push(&chunk.bytes);
                    }
                    Self::Socket(page) => page.turn().await?,
                }
            }
        };
        timeout(PATIENCE, heard).await.expect("a message within 10 s")
    }

    /// The first message that `pick` takes.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(ServerMessage) -> Option<T>) -> T {
        loop {
            let message = self.hear().await.expect("a message before the end");
            if let Some(found) = pick(message) {
                return found;
            }
        }
    }

    pub(crate) async fn send_datagram(&mut self, datagram: &[u8]) {
        match self {
            Self::Transport(page) => {
                let datagram = [&[0][..], datagram].concat();
                page.quic.send_datagram(datagram.into()).unwrap();
            }
            Self::Socket(page) => {
                let message = [&[1][..], datagram].concat();
                page.ws.send(Message::Binary(message.into())).await.unwrap();
            }
        }
    }

    pub(crate) async fn datagram(&mut self) -> Bytes {
        let read = async {
            match self {
                Self::Transport(page) => {
                    let mut datagram = page.quic.read_datagram().await.unwrap();
                    assert_eq!(datagram.split_to(1)[..], [0], "it names the session");
                    datagram
                }
                Self::Socket(page) => loop {
                    if let Some(datagram) = page.datagrams.pop() {
                        return datagram;
                    }
                    page.turn().await.expect("a datagram before the end");
                },
            }
        };
        timeout(PATIENCE, read).await.expect("a datagram within 10 s")
    }

    /// How the node closes: the code as native clients see it, and words.
    pub(crate) async fn closed(mut self) -> (u64, String) {
        let closed = async {
            match &mut self {
                Self::Transport(page) => close_of(&mut page.request.1).await,
                Self::Socket(page) => {
                    while page.turn().await.is_some() {}
                    page.closed.take().expect("a close frame")
                }
            }
        };
        timeout(PATIENCE, closed).await.expect("it closes within 10 s")
    }
}

/// What the capsule says that closes a session.
pub(crate) async fn close_of(request: &mut RecvStream) -> (u64, String) {
    let bytes = request.read_to_end(64 << 10).await.unwrap();
    let mut rest = BytesMut::from(&bytes[..]);
    while !rest.is_empty() {
        let mut input = &rest[..];
        let (kind, data) = Frame::read(&mut input).unwrap();
        let mut data = {
            use bytes::Buf as _;
            let mut data = data;
            data.copy_to_bytes(data.remaining())
        };
        if kind == Frame::DATA
            && let Capsule::CloseWebTransportSession { code, reason } =
                Capsule::decode(&mut data).unwrap()
        {
            return (code.into(), reason);
        }
        rest = BytesMut::from(input);
    }
    panic!("the session ended without a word");
}

/// Ends a session as a page does.
pub(crate) fn close_capsule(code: u32, reason: &str) -> Vec<u8> {
    let (mut capsule, mut frame) = (Vec::new(), Vec::new());
    Capsule::CloseWebTransportSession { code, reason: reason.to_owned() }.encode(&mut capsule);
    Frame::DATA.encode(&mut frame);
    Number::from_u32(capsule.len() as u32).encode(&mut frame);
    frame.extend_from_slice(&capsule);
    frame
}

/// What a connection was closed with by the node, as QUIC says it.
pub(crate) async fn quic_code(quic: &quinn::Connection) -> VarInt {
    match timeout(PATIENCE, quic.closed()).await.expect("it closes within 10 s") {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code,
        other => panic!("{other:?}"),
    }
}

impl Socket {
    /// Takes one message; `None` after the close frame.
    async fn turn(&mut self) -> Option<()> {
        match self.ws.next().await? {
            Ok(Message::Binary(mut bytes)) => match bytes.split_to(1)[0] {
                0 => self.decoder.push(&bytes),
                1 => self.datagrams.insert(0, bytes),
                other => panic!("a message of kind {other}"),
            },
            Ok(Message::Close(frame)) => {
                let frame = frame.expect("a close frame says why");
                let code = match u16::from(frame.code) {
                    1000 => 0,
                    code => u64::from(code) - 4000 + 0x100,
                };
                self.closed = Some((code, frame.reason.to_string()));
            }
            Ok(_) => {}
            Err(_) => return None,
        }
        Some(())
    }
}
