//! A connection between a client and a node, as both sides use it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, VarInt};
use rekindle_schema::wire::{
    ALPN_2, ALPN_3, ALPN_4, ClientMessage, PROTOCOL, PROTOCOL_2, PROTOCOL_3, PROTOCOL_4,
    ServerMessage,
};

use crate::stream::{MessageReader, MessageWriter};

/// Most bytes of the words that a closing connection tells its peer.
const MAX_CLOSING_WORDS: usize = 256;

/// A connection whose handshake is complete. Clones are the same connection. It closes when the
/// last clone is dropped, streams included.
#[derive(Debug, Clone)]
pub struct Connection {
    quic: quinn::Connection,
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
    pub(crate) fn new(quic: quinn::Connection) -> Self {
        Self { quic }
    }

    /// The peer's address.
    pub fn remote_address(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// The version of the client protocol that the handshake settled: [`PROTOCOL`], [`PROTOCOL_2`],
    /// [`PROTOCOL_3`] or [`PROTOCOL_4`].
    pub fn protocol(&self) -> u16 {
        let settled = self
            .quic
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok()?.protocol);
        match settled.as_deref() {
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
        let (send, recv) = self.quic.accept_bi().await?;
        Ok((MessageReader::of_client(recv, limit), MessageWriter::new(send)))
    }

    /// The client's side: opens the one stream of the connection.
    pub async fn open_stream(
        &self,
    ) -> Result<(MessageReader<ServerMessage>, MessageWriter), Closed> {
        let (send, recv) = self.quic.open_bi().await?;
        Ok((MessageReader::of_server(recv), MessageWriter::new(send)))
    }

    /// The next datagram of the peer. Giving up the future loses none.
    pub async fn read_datagram(&self) -> Result<Bytes, Closed> {
        Ok(self.quic.read_datagram().await?)
    }

    /// Queues a datagram. It may be lost on its way.
    pub fn send_datagram(&self, datagram: Bytes) -> Result<(), NotSent> {
        self.quic.send_datagram(datagram).map_err(|_| NotSent)
    }

    /// Longest datagram that the path takes now, in bytes; `None` if it takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.quic.max_datagram_size()
    }

    /// Free bytes in the queue of datagrams that have not left yet.
    pub fn datagram_send_buffer_space(&self) -> usize {
        self.quic.datagram_send_buffer_space()
    }

    /// UDP datagrams that came from the peer, of whatever content: a peer that is alive sends some.
    pub fn packets_received(&self) -> u64 {
        self.quic.stats().udp_rx.datagrams
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    /// Ends the connection at once. `code` and the first 256 bytes of `words` are told to the peer.
    pub fn close(&self, code: u32, words: &[u8]) {
        self.quic.close(VarInt::from_u32(code), &words[..words.len().min(MAX_CLOSING_WORDS)]);
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.quic.close_reason().is_some()
    }

    /// Resolves when the connection has ended.
    pub async fn closed(&self) -> Closed {
        self.quic.closed().await.into()
    }
}
