//! A connection between a client and a node, as both sides use it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, VarInt};
use rekindle_schema::wire::{
    ALPN_2, ALPN_3, ALPN_4, ALPN_5, ALPN_6, ClientMessage, PROTOCOL, PROTOCOL_2, PROTOCOL_3,
    PROTOCOL_4, PROTOCOL_5, PROTOCOL_6, ServerMessage,
};

use crate::driver::{self, Driven};
use crate::stream::{MessageReader, MessageWriter, ReadFrom, WriteTo};
use crate::websocket::{self, Socket};
use crate::webtransport::Carried;

/// Most bytes of the words that a closing connection tells its peer.
const MAX_CLOSING_WORDS: usize = 256;

/// A connection whose handshake is complete. Clones are the same connection. It closes when the
/// last clone is dropped, streams included.
#[derive(Debug, Clone)]
pub struct Connection {
    carrier: Carrier,
}

/// How the path to the peer does. Counts from 0 again when the peer's address changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathState {
    /// The smoothed round trip.
    pub rtt: Duration,
    /// Packets that were sent. 0 over WebSocket, where the system sends what is lost again.
    pub sent: u64,
    /// Those of them that are held to be lost.
    pub lost: u64,
}

impl PathState {
    /// The part of the packets that is held to be lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / self.sent.max(1) as f64
    }
}

/// What carries a connection.
#[derive(Debug, Clone)]
enum Carrier {
    /// A client's: quinn.
    Quinn(quinn::Connection),
    /// A node's: the loop of its port.
    Driven(Driven),
    /// A node's: a session of WebTransport in the loop of its port.
    Carried(Carried),
    /// A node's: a WebSocket.
    Socket(Socket),
}

/// The datagrams of a connection go to where [`Connection::deliver_datagrams`] said as long as
/// this.
#[must_use = "dropping it ends the delivery"]
pub struct DatagramDelivery {
    _sink: SinkGuard,
}

/// Of the carrier.
enum SinkGuard {
    Driven { _guard: driver::SinkGuard },
    Socket { _guard: websocket::SinkGuard },
}

/// How a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Closed(#[from] ConnectionError);

/// Who or what ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClosedBy {
    /// The peer's process has forgotten the connection: it was started anew and answers.
    Restart,
    /// The peer closed it.
    Peer {
        /// The application's close code.
        code: u64,
        /// What the peer said, for people.
        words: String,
    },
    /// Anything else: a time-out, this side itself, a transport error.
    Other,
}

impl Closed {
    /// Who or what ended the connection.
    pub fn by(&self) -> ClosedBy {
        match &self.0 {
            ConnectionError::Reset => ClosedBy::Restart,
            ConnectionError::ApplicationClosed(close) => ClosedBy::Peer {
                code: close.error_code.into_inner(),
                words: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            _ => ClosedBy::Other,
        }
    }
}

/// A datagram that was not queued: it is too long for the path, or the connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the datagram is too long for the path, or the connection has ended")]
pub struct NotSent;

impl Connection {
    pub(crate) fn quinn(quic: quinn::Connection) -> Self {
        Self { carrier: Carrier::Quinn(quic) }
    }

    pub(crate) fn driven(quic: Driven) -> Self {
        Self { carrier: Carrier::Driven(quic) }
    }

    pub(crate) fn carried(session: Carried) -> Self {
        Self { carrier: Carrier::Carried(session) }
    }

    pub(crate) fn socket(socket: Socket) -> Self {
        Self { carrier: Carrier::Socket(socket) }
    }

    /// The peer's address.
    pub fn remote_address(&self) -> SocketAddr {
        match &self.carrier {
            Carrier::Quinn(quic) => quic.remote_address(),
            Carrier::Driven(quic) => quic.remote_address(),
            Carrier::Carried(session) => session.quic().remote_address(),
            Carrier::Socket(socket) => socket.remote_address(),
        }
    }

    /// The version of the client protocol that the handshake settled: [`PROTOCOL`], [`PROTOCOL_2`],
    /// [`PROTOCOL_3`], [`PROTOCOL_4`], [`PROTOCOL_5`] or [`PROTOCOL_6`]. A browser's is
    /// [`PROTOCOL_4`] at least: what it speaks its first message says.
    pub fn protocol(&self) -> u16 {
        let data = match &self.carrier {
            Carrier::Quinn(quic) => quic.handshake_data(),
            Carrier::Driven(quic) => quic.handshake_data(),
            // The path, or the subprotocol, names it.
            Carrier::Carried(_) | Carrier::Socket(_) => return PROTOCOL_4,
        };
        let settled = data.and_then(|data| data.downcast::<HandshakeData>().ok()?.protocol);
        match settled.as_deref() {
            Some(ALPN_6) => PROTOCOL_6,
            Some(ALPN_5) => PROTOCOL_5,
            Some(ALPN_4) => PROTOCOL_4,
            Some(ALPN_3) => PROTOCOL_3,
            Some(ALPN_2) => PROTOCOL_2,
            _ => PROTOCOL,
        }
    }

    /// The node's side: waits for the one stream that the client opens. `limit`: longest message
    /// that is read from it, in bytes.
    pub async fn accept_stream(
        &self,
        limit: usize,
    ) -> Result<(MessageReader<ClientMessage>, MessageWriter), Closed> {
        let (send, recv) = match &self.carrier {
            Carrier::Quinn(quic) => {
                let (send, recv) = quic.accept_bi().await?;
                (WriteTo::Quinn(send), ReadFrom::Quinn(recv))
            }
            Carrier::Driven(quic) => {
                let (send, recv) = quic.accept_stream().await?;
                (WriteTo::Driven(send), ReadFrom::Driven(recv))
            }
            Carrier::Carried(session) => {
                let (send, recv) = session.quic().accept_stream().await?;
                (WriteTo::Driven(send), ReadFrom::Driven(recv))
            }
            Carrier::Socket(socket) => {
                let (send, recv) = socket.accept_stream().await?;
                (WriteTo::Socket(send), ReadFrom::Socket(recv))
            }
        };
        Ok((MessageReader::of_client(recv, limit), MessageWriter::new(send)))
    }

    /// The client's side: opens the one stream of the connection.
    ///
    /// # Panics
    ///
    /// On a connection that a node took: it opens none.
    pub async fn open_stream(
        &self,
    ) -> Result<(MessageReader<ServerMessage>, MessageWriter), Closed> {
        let Carrier::Quinn(quic) = &self.carrier else { panic!("a node opens no stream") };
        let (send, recv) = quic.open_bi().await?;
        let reader = MessageReader::of_server(ReadFrom::Quinn(recv));
        Ok((reader, MessageWriter::new(WriteTo::Quinn(send))))
    }

    /// The next datagram of the peer. Giving up the future loses none.
    pub async fn read_datagram(&self) -> Result<Bytes, Closed> {
        Ok(match &self.carrier {
            Carrier::Quinn(quic) => quic.read_datagram().await?,
            Carrier::Driven(quic) => quic.read_datagram().await?,
            Carrier::Carried(session) => session.read_datagram().await?,
            Carrier::Socket(socket) => socket.read_datagram().await?,
        })
    }

    /// The node's side: hands the peer's datagrams to `take` as they arrive, without a task being
    /// woken for each, until what it returns is dropped. `take` is called by the loop of the port:
    /// it must return soon, and may not close the port.
    ///
    /// # Panics
    ///
    /// On a connection of a client, and if it delivers its datagrams already.
    pub fn deliver_datagrams(&self, take: impl FnMut(Bytes) + Send + 'static) -> DatagramDelivery {
        let take = Box::new(take);
        let sink = match &self.carrier {
            Carrier::Quinn(_) => panic!("a client reads its datagrams"),
            Carrier::Driven(quic) => SinkGuard::Driven { _guard: quic.set_sink(take) },
            Carrier::Carried(session) => SinkGuard::Driven { _guard: session.set_sink(take) },
            Carrier::Socket(socket) => SinkGuard::Socket { _guard: socket.set_sink(take) },
        };
        DatagramDelivery { _sink: sink }
    }

    /// Queues a datagram. It may be lost on its way.
    pub fn send_datagram(&self, datagram: Bytes) -> Result<(), NotSent> {
        let queued = match &self.carrier {
            Carrier::Quinn(quic) => quic.send_datagram(datagram).is_ok(),
            Carrier::Driven(quic) => quic.send_datagram(datagram),
            Carrier::Carried(session) => session.send_datagram(&datagram),
            Carrier::Socket(socket) => socket.send_datagram(datagram),
        };
        if queued { Ok(()) } else { Err(NotSent) }
    }

    /// Longest datagram that the path takes now, in bytes; `None` if it takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        match &self.carrier {
            Carrier::Quinn(quic) => quic.max_datagram_size(),
            Carrier::Driven(quic) => quic.max_datagram_size(),
            Carrier::Carried(session) => session.max_datagram_size(),
            Carrier::Socket(socket) => socket.max_datagram_size(),
        }
    }

    /// Free bytes in the queue of datagrams that have not left yet. Without such a queue, as over
    /// WebSocket, always the same: a new datagram takes the place of the oldest.
    pub fn datagram_send_buffer_space(&self) -> usize {
        match &self.carrier {
            Carrier::Quinn(quic) => quic.datagram_send_buffer_space(),
            Carrier::Driven(quic) => quic.datagram_send_buffer_space(),
            Carrier::Carried(session) => session.quic().datagram_send_buffer_space(),
            Carrier::Socket(_) => usize::MAX,
        }
    }

    /// UDP datagrams that came from the peer, of whatever content: a peer that is alive sends some.
    pub fn packets_received(&self) -> u64 {
        match &self.carrier {
            Carrier::Quinn(quic) => quic.stats().udp_rx.datagrams,
            Carrier::Driven(quic) => quic.packets_received(),
            Carrier::Carried(session) => session.quic().packets_received(),
            Carrier::Socket(socket) => socket.packets_received(),
        }
    }

    /// How the path to the peer does.
    pub fn path(&self) -> PathState {
        match &self.carrier {
            Carrier::Quinn(quic) => {
                let path = quic.stats().path;
                PathState { rtt: path.rtt, sent: path.sent_packets, lost: path.lost_packets }
            }
            Carrier::Driven(quic) => quic.path(),
            Carrier::Carried(session) => session.quic().path(),
            Carrier::Socket(socket) => PathState { rtt: socket.rtt(), sent: 0, lost: 0 },
        }
    }

    /// What carries it, for people: `quic`, `webtransport` or `websocket`.
    pub fn carrier(&self) -> &'static str {
        match &self.carrier {
            Carrier::Quinn(_) | Carrier::Driven(_) => "quic",
            Carrier::Carried(_) => "webtransport",
            Carrier::Socket(_) => "websocket",
        }
    }

    /// Ends the connection at once. `code` and the first 256 bytes of `words` are told to the peer.
    pub fn close(&self, code: u32, words: &[u8]) {
        let words = &words[..words.len().min(MAX_CLOSING_WORDS)];
        match &self.carrier {
            Carrier::Quinn(quic) => quic.close(VarInt::from_u32(code), words),
            Carrier::Driven(quic) => quic.close(VarInt::from_u32(code), words),
            Carrier::Carried(session) => session.quic().close(VarInt::from_u32(code), words),
            Carrier::Socket(socket) => socket.close(code, words),
        }
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        let reason = match &self.carrier {
            Carrier::Quinn(quic) => quic.close_reason(),
            Carrier::Driven(quic) => quic.close_reason(),
            Carrier::Carried(session) => session.quic().close_reason(),
            Carrier::Socket(socket) => socket.close_reason(),
        };
        reason.is_some()
    }

    /// Resolves when the connection has ended.
    pub async fn closed(&self) -> Closed {
        match &self.carrier {
            Carrier::Quinn(quic) => quic.closed().await.into(),
            Carrier::Driven(quic) => quic.closed().await.into(),
            Carrier::Carried(session) => session.quic().closed().await.into(),
            Carrier::Socket(socket) => socket.closed().await.into(),
        }
    }
}
