//! WebSocket: the carrier of browsers that have no WebTransport. A node's side only.
//!
//! Messages are binary; the first byte says what the rest is: [`STREAM`] a piece of the stream, cut
//! anywhere, [`DATAGRAM`] one datagram. TCP loses nothing and holds everything up, so datagrams to
//! the client do not queue: at most two wait, the oldest goes, and no more
//! than about a second of them is on its way unread, however large the buffers of the two systems
//! are.
//!
//! | module | answers |
//! |---|---|
//! | `line` | what waits in both directions, how it ends: a pure core under a lock |
//! | `pump` | the future that moves messages between the line and the socket |
//! | `handle` | what a user of the connection holds |

mod handle;
mod line;
mod pump;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::connection::Connection;

pub(crate) use handle::{ReadHalf, SinkGuard, Socket, WriteHalf};

/// The subprotocol: its number is the version of the client protocol.
pub const SUBPROTOCOL: &str = "rekindle.4";
/// First byte of a message that is a piece of the stream.
pub const STREAM: u8 = 0;
/// First byte of a message that is one datagram.
pub const DATAGRAM: u8 = 1;
/// Longest message of a client, in bytes.
pub const MAX_MESSAGE: usize = 32 << 10;
/// What is added to a refusal's number to make the code of a close frame.
pub const CLOSE_BASE: u16 = 4000;

/// Bytes that are read from the socket at once, kept for each connection.
const READ_BUFFER: usize = 4 << 10;

/// Makes a connection of a socket whose upgrade is done. It lives while the future is polled, which
/// resolves when the connection has ended and the client was told. A client that says nothing for
/// `idle`, not even an answer to a ping, is gone.
pub fn accept<S>(
    io: S,
    peer: SocketAddr,
    idle: Duration,
) -> (Connection, impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let socket = Socket::new(peer);
    let line = socket.line();
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let pump = async move {
        let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        pump::run(stream, line, idle).await;
    };
    (Connection::socket(socket), pump)
}
