//! Connections over each carrier that never say who they are.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use quinn::{ClientConfig, Connection, Endpoint};
use rekindle_client::{ClientError, Trust};
use rekindle_transport::quic::client::{config, h3_config};
use rekindle_transport::{SERVER_NAME, WEB_PATH};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use url::Url;
use web_transport_proto::{ConnectRequest, ConnectResponse, Frame, Settings, VarInt};

use super::{FloodError, local};

/// How long a connection waits to be let in, and then to be thrown out.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that claim to be a hello of four gigabytes.
const LONG_HELLO: [u8; 1024] = [0xff; 1024];
/// What no client sends before its hello.
const EARLY_DATAGRAM: [u8; 1000] = [0x20; 1000];
/// Datagrams of one connection.
const DATAGRAMS: usize = 32;
/// A message far above any limit, in bytes.
const LONG_MESSAGE: usize = 1 << 20;

/// What carries the connections of a flood.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC, as native clients speak it.
    #[default]
    Quic,
    /// WebTransport, on the same port.
    WebTransport,
    /// WebSocket, on the TCP port of the same number.
    WebSocket,
}

impl FromStr for Carrier {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "quic" => Ok(Self::Quic),
            "webtransport" => Ok(Self::WebTransport),
            "websocket" => Ok(Self::WebSocket),
            _ => Err(()),
        }
    }
}

/// How far a connection came.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Came {
    /// The server completed the handshake of QUIC or TCP.
    pub(super) connected: bool,
    /// It granted a session of WebTransport, or the upgrade to WebSocket.
    pub(super) granted: bool,
}

/// Opens the connections of a flood.
#[derive(Clone)]
pub(super) struct Opener {
    carrier: Carrier,
    target: SocketAddr,
    endpoint: Endpoint,
    quic: ClientConfig,
}

impl Opener {
    pub(super) fn new(carrier: Carrier, target: SocketAddr) -> Result<Self, FloodError> {
        let endpoint = Endpoint::client(local(target))?;
        let quic = match carrier {
            Carrier::Quic | Carrier::WebSocket => config(&Trust::InsecureAnyServer),
            Carrier::WebTransport => h3_config(&Trust::InsecureAnyServer),
        };
        Ok(Self { carrier, target, endpoint, quic: quic.map_err(ClientError::from)? })
    }

    /// Opens one, misbehaves in the way of this number, and waits to be thrown out.
    pub(super) async fn open(self, kind: u64) -> Came {
        match self.carrier {
            Carrier::WebSocket => self.open_socket(kind).await,
            Carrier::Quic | Carrier::WebTransport => self.open_quic(kind).await,
        }
    }

    async fn open_quic(self, kind: u64) -> Came {
        let mut came = Came::default();
        let connecting = self.endpoint.connect_with(self.quic, self.target, SERVER_NAME);
        let Ok(connecting) = connecting else { return came };
        let Ok(Ok(connection)) = timeout(PATIENCE * 2, connecting).await else { return came };
        came.connected = true;
        if self.carrier == Carrier::WebTransport {
            came.granted = misbehave_over_http3(&connection, kind).await.is_some();
        } else {
            misbehave(&connection, kind).await;
        }
        let _ = timeout(PATIENCE, connection.closed()).await;
        came
    }

    async fn open_socket(self, kind: u64) -> Came {
        let mut came = Came::default();
        let connecting = timeout(PATIENCE * 2, TcpStream::connect(self.target)).await;
        let Ok(Ok(stream)) = connecting else { return came };
        came.connected = true;
        let url = format!("ws://{}{WEB_PATH}", self.target);
        let Ok(mut request) = url.into_client_request() else { return came };
        let protocol = HeaderValue::from_static("rekindle.4");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let upgraded = timeout(PATIENCE, client_async(request, stream)).await;
        let Ok(Ok((mut socket, _))) = upgraded else { return came };
        came.granted = true;
        let message = |kind: u8, bytes: &[u8]| Message::Binary([&[kind], bytes].concat().into());
        let messages = match kind % 4 {
            0 => vec![],
            1 => vec![message(0, &LONG_HELLO)],
            2 => vec![message(1, &EARLY_DATAGRAM); DATAGRAMS],
            _ => vec![message(0, &vec![7; LONG_MESSAGE])],
        };
        let to_the_end = async {
            for message in messages {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            while let Some(Ok(_)) = socket.next().await {}
        };
        let _ = timeout(PATIENCE * 2, to_the_end).await;
        came
    }

    pub(super) fn close(&self) {
        self.endpoint.close(0u32.into(), b"");
    }
}

/// Silence, a hello that claims to be four gigabytes long, or datagrams before any hello.
async fn misbehave(connection: &Connection, kind: u64) {
    match kind % 3 {
        0 => {}
        1 => {
            if let Ok((mut send, _recv)) = connection.open_bi().await {
                let _ = send.write_all(&LONG_HELLO).await;
                let _ = timeout(PATIENCE, connection.closed()).await;
            }
        }
        _ => {
            for _ in 0..DATAGRAMS {
                let _ = connection.send_datagram(EARLY_DATAGRAM.to_vec().into());
            }
        }
    }
}

/// Silence, garbage where the settings belong, a session whose stream claims to be a long hello, or
/// one with datagrams before any hello. `None` if no session was granted.
async fn misbehave_over_http3(connection: &Connection, kind: u64) -> Option<()> {
    let mut control = connection.open_uni().await.ok()?;
    match kind % 4 {
        0 => return None,
        1 => {
            let _ = control.write_all(&LONG_HELLO).await;
            let _ = timeout(PATIENCE, connection.closed()).await;
            return None;
        }
        _ => {}
    }
    let (mut settings, mut first) = (Settings::default(), Vec::new());
    settings.enable_webtransport(1);
    settings.encode(&mut first);
    control.write_all(&first).await.ok()?;
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    let url = Url::parse(&format!("https://{}{WEB_PATH}", connection.remote_address())).ok()?;
    let mut request = Vec::new();
    ConnectRequest::new(url).encode(&mut request).ok()?;
    send.write_all(&request).await.ok()?;
    let answered = timeout(PATIENCE, ConnectResponse::read(&mut recv)).await;
    if !answered.ok()?.ok()?.status.is_success() {
        return None;
    }
    let stream = connection.open_bi().await;
    if kind % 4 == 2 {
        let (mut stream, _recv) = stream.ok()?;
        let mut bytes = Vec::new();
        Frame::WEBTRANSPORT.encode(&mut bytes);
        VarInt::from_u32(0).encode(&mut bytes);
        bytes.extend(LONG_HELLO);
        let _ = stream.write_all(&bytes).await;
        let _ = timeout(PATIENCE, connection.closed()).await;
    } else {
        for _ in 0..DATAGRAMS {
            let _ = connection.send_datagram([&[0], &EARLY_DATAGRAM[..]].concat().into());
        }
        let _ = timeout(PATIENCE, connection.closed()).await;
    }
    Some(())
}
