//! How a client is sent away: told why on the stream, then by the close code.

use std::time::Duration;

use rekindle_door::Refusal;
use rekindle_schema::wire::{ServerMessage, encode_server};
use rekindle_transport::{Connection, MessageWriter, WriteError};
use tokio::time::timeout;

use crate::meters::Meters;
use crate::seat::Dismissal;

/// How long a goodbye may take to reach the client.
pub(super) const GOODBYE: Duration = Duration::from_millis(500);

/// Closes at once. The client learns the code and the beginning of the words.
pub(super) fn close(connection: &Connection, refusal: &Refusal) {
    connection.close(refusal.code.close_code(), refusal.words.as_bytes());
}

/// Says why on the stream, waits a moment for it to arrive, closes.
pub(super) async fn say_goodbye(
    connection: &Connection,
    writer: &mut MessageWriter,
    Dismissal { refusal, elsewhere }: Dismissal,
) {
    Meters::refused(refusal.code);
    tracing::debug!(
        code = "RK-GATE-042", peer = %connection.remote_address(), why = ?refusal.code,
        words = %refusal.words,
        "client let go"
    );
    let message = encode_server(&refusal.clone().into());
    let said = async {
        if let Some(addr) = elsewhere {
            writer.write(encode_server(&ServerMessage::Redirect { addr })).await?;
        }
        writer.write(message).await?;
        writer.finish().await;
        Ok::<_, WriteError>(())
    };
    let _ = timeout(GOODBYE, said).await;
    close(connection, &refusal);
}
