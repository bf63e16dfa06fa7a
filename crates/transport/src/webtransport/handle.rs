//! What a user of a WebTransport connection holds. It is the connection of the port's loop, and the
//! prefix that each datagram has.

use bytes::{Buf as _, Bytes, BytesMut};
use quinn_proto::{ConnectionError, StreamId};
use web_transport_proto::VarInt;

use crate::driver::{DatagramSink, Driven, SinkGuard};

/// A connection with an open session.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    quic: Driven,
    /// What names the session in datagrams: a quarter of the number of its request's stream.
    session: u64,
    /// The same, as it is written.
    prefix: Bytes,
}

impl Carried {
    /// Of the session that was asked for on stream `request`.
    pub(crate) fn new(quic: Driven, request: StreamId) -> Self {
        let session = request.index();
        let mut prefix = BytesMut::new();
        // Streams have numbers below 2^62.
        VarInt::from_u64(session).unwrap_or_default().encode(&mut prefix);
        Self { quic, session, prefix: prefix.freeze() }
    }

    /// The connection without the session: for all that has nothing to do with datagrams.
    pub(crate) fn quic(&self) -> &Driven {
        &self.quic
    }

    /// The next datagram of the session.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        loop {
            if let Some(datagram) = inner(self.session, self.quic.read_datagram().await?) {
                return Ok(datagram);
            }
        }
    }

    /// Hands datagrams of the session to `sink` as they arrive.
    pub(crate) fn set_sink(&self, mut sink: DatagramSink) -> SinkGuard {
        let session = self.session;
        self.quic.set_sink(Box::new(move |datagram| {
            if let Some(datagram) = inner(session, datagram) {
                sink(datagram);
            }
        }))
    }

    /// Queues a datagram.
    pub(crate) fn send_datagram(&self, datagram: &[u8]) -> bool {
        let mut whole = BytesMut::with_capacity(self.prefix.len() + datagram.len());
        whole.extend_from_slice(&self.prefix);
        whole.extend_from_slice(datagram);
        self.quic.send_datagram(whole.freeze())
    }

    /// Longest datagram that the path takes now.
    pub(crate) fn max_datagram_size(&self) -> Option<usize> {
        self.quic.max_datagram_size()?.checked_sub(self.prefix.len())
    }
}

/// A datagram without its prefix, if it is one of this session.
fn inner(session: u64, mut datagram: Bytes) -> Option<Bytes> {
    let mut rest = &datagram[..];
    let named = VarInt::decode(&mut rest).ok()?.into_inner();
    let prefix = datagram.len() - rest.len();
    datagram.advance(prefix);
    (named == session).then_some(datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_other_sessions_and_without_a_prefix_are_dropped() {
        let of = |session, bytes: &'static [u8]| inner(session, Bytes::from_static(bytes));
        assert_eq!(of(0, b"\x00input").unwrap(), "input");
        assert_eq!(of(0, b"\x00").unwrap(), "");
        assert_eq!(of(0, b"\x40\x00input").unwrap(), "input", "the number in two bytes");
        assert_eq!(of(0, b"\x01input"), None);
        assert_eq!(of(0, b""), None);
        assert_eq!(of(70, b"\x40\x46input").unwrap(), "input");
        assert_eq!(of(70, b"\x40"), None);
    }
}
