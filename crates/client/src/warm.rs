//! A connection that is made before it is needed: to the node that follows the match, and goes on
//! with it when its owner dies. It holds no session. Begun by [`crate::driver`] when the owner
//! names that node; it says when the match runs there.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use rekindle_schema::wire::{ClientMessage, Hello, PROTOCOL_4, ServerMessage, encode_client};
use rekindle_transport::{Connection, WriteError};
use tokio::time::sleep;

use crate::dial::Dialer;
use crate::driver::Stream;

/// A standby that cannot be reached, or that does not let clients wait, is asked again after so
/// long: nothing hangs on it yet.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// A connection to the match's standby, or on its way to it.
pub(crate) struct Warm {
    addr: SocketAddr,
    waiting: Pin<Box<dyn Future<Output = Warmed> + Send>>,
}

/// The match runs at the node of this connection now.
pub(crate) struct Warmed {
    pub(crate) connection: Connection,
    /// Open; the next message on it is the first that lets the client in.
    pub(crate) stream: Stream,
}

impl Warm {
    /// Connects to the standby at `addr`, and waits there. `hello` shows who waits for what.
    pub(crate) fn begin(mut dialer: Dialer, addr: SocketAddr, hello: Hello) -> Self {
        dialer.only(addr);
        let waiting = Box::pin(async move {
            loop {
                let connection = dialer.dial().await;
                match wait(&connection, &hello).await {
                    Ok(Some(stream)) => return Warmed { connection, stream },
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(code = "RK-CLIENT-031", %addr, %error, "no connection to \
                            the match's standby; trying again");
                    }
                }
                drop(connection);
                sleep(TRY_AGAIN).await;
            }
        });
        Self { addr, waiting }
    }

    /// Where the standby is.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Waits over this connection until the match runs there; `None` if the node does not let wait.
async fn wait(connection: &Connection, hello: &Hello) -> Result<Option<Stream>, WriteError> {
    if connection.protocol() < PROTOCOL_4 {
        return Ok(None);
    }
    let Ok((mut reader, mut writer)) = connection.open_stream().await else { return Ok(None) };
    writer.write(encode_client(&ClientMessage::Wait(hello.clone()))).await?;
    loop {
        match reader.next().await {
            Ok(Some(ServerMessage::Here { .. })) => return Ok(Some(Stream::new(reader, writer))),
            Ok(Some(ServerMessage::Refused { .. }) | None) | Err(_) => return Ok(None),
            Ok(Some(_)) => {}
        }
    }
}

/// The connection over which the match goes on; never without one that waits.
pub(crate) async fn goes_on(warm: &mut Option<Warm>) -> Warmed {
    match warm {
        Some(waits) => {
            let warmed = waits.waiting.as_mut().await;
            *warm = None;
            warmed
        }
        None => pending().await,
    }
}
