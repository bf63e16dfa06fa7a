//! WebTransport: the carrier of browsers, on the same UDP port as native clients and told from them
//! by ALPN (`h3`). A node's side only.
//!
//! It is HTTP/3 with one request: the client asks for a session (`CONNECT` at [`crate::WEB_PATH`]),
//! opens one bidirectional stream in it, and sends datagrams. The stream and the datagrams carry
//! what they carry for native clients, each behind a prefix that names the session. The loop of the
//! port drives all of it: no task, timer or channel of its own.
//!
//! | module | answers |
//! |---|---|
//! | `session` | what a client's streams say, and what is answered: HTTP/3 on quinn-proto, no I/O |
//! | `skim` | how frames and capsules are cut from a stream; what means nothing is passed over |
//! | `handle` | what a user of the connection holds |

mod handle;
mod session;
mod skim;

use quinn::crypto::rustls::HandshakeData;
use quinn_proto::Connection;

pub(crate) use handle::Carried;
pub(crate) use session::Session;

/// ALPN of HTTP/3.
pub(crate) const ALPN: &[u8] = b"h3";
/// Streams that a client may have open: of HTTP/3 it needs three in one direction, of the session
/// and its request two in both. Each connection of the port has these limits: which carrier it is
/// becomes known later.
pub(crate) const STREAMS: (u32, u32) = (4, 8);

/// Whether a connection whose handshake is complete is a browser's.
pub(crate) fn is_spoken(quic: &Connection) -> bool {
    let data = quic.crypto_session().handshake_data();
    let settled = data.and_then(|data| data.downcast::<HandshakeData>().ok()?.protocol);
    settled.is_some_and(|protocol| protocol == ALPN)
}
