//! The stream of a connection, and how a connection ends, as the driver sees them.

use std::time::Duration;

use rekindle_schema::wire::{ClientMessage, RefuseCode, ServerMessage, encode_client};
use rekindle_transport::{Closed, ClosedBy, Connection, MessageReader, MessageWriter, WriteError};
use tokio::time::timeout;

use crate::warm::Warmed;

/// How long a leaving client waits for the server to close.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why a connection is no longer served.
pub(super) enum Gone {
    /// The server is silent, and this connection to a server (the same or another) has been made
    /// meanwhile.
    Replaced(Connection),
    /// The match's standby says that it goes on there, over this connection.
    GoesOn(Warmed),
    /// The server has forgotten the connection: it was started anew and answers.
    Restarted,
    /// The connection ended, or its server is silent.
    Lost(String),
    /// The server does not want this client.
    Refused(RefuseCode, String),
    /// The match is served elsewhere, where the next attempt goes.
    Redirected,
    /// The game ended the session.
    Left,
}

impl From<Closed> for Gone {
    fn from(closed: Closed) -> Self {
        match closed.by() {
            ClosedBy::Restart => Self::Restarted,
            ClosedBy::Peer { code, words } => match RefuseCode::from_close_code(code) {
                Some(code) => Self::Refused(code, words),
                None => Self::Lost("the server closed the connection".to_owned()),
            },
            ClosedBy::Other => Self::Lost(closed.to_string()),
        }
    }
}

impl From<WriteError> for Gone {
    fn from(error: WriteError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// The stream of a connection.
pub(crate) struct Stream {
    pub(super) reader: MessageReader<ServerMessage>,
    pub(super) writer: MessageWriter,
}

impl Stream {
    /// Around the two directions of a connection's one stream.
    pub(crate) fn new(reader: MessageReader<ServerMessage>, writer: MessageWriter) -> Self {
        Self { reader, writer }
    }

    /// The next message of the server.
    pub(super) async fn next(&mut self, connection: &Connection) -> Result<ServerMessage, Gone> {
        next(&mut self.reader, connection).await
    }

    /// Ends the session. The server answers by closing the connection.
    pub(super) async fn say_goodbye(&mut self, connection: &Connection) {
        let bye = async {
            self.writer.write(encode_client(&ClientMessage::Bye)).await?;
            connection.closed().await;
            Ok::<_, WriteError>(())
        };
        let _ = timeout(GOODBYE, bye).await;
    }
}

/// The next message that `reader` has. Giving up the future loses nothing.
pub(super) async fn next(
    reader: &mut MessageReader<ServerMessage>,
    connection: &Connection,
) -> Result<ServerMessage, Gone> {
    match reader.next().await {
        Ok(Some(message)) => Ok(message),
        // How the connection is closed says why.
        Ok(None) => Err(connection.closed().await.into()),
        Err(error) => {
            Err(Gone::Lost(format!("RK-CLIENT-018: the server broke the protocol: {error}")))
        }
    }
}
