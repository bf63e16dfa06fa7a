//! The stream of a client that is in: its reliable commands, in order.

use std::time::Duration;

use bytes::Bytes;
use rekindle_door::Admission;
use rekindle_schema::wire::{ClientMessage, PROTOCOL_6, RefuseCode, Role};
use rekindle_transport::MessageReader;
use tokio::time::{Instant, sleep};

use super::end::End;
use crate::desk::Questions;
use crate::edge::Edge;
use crate::limits::Bucket;
use crate::meters::Meters;
use crate::room::Room;
use crate::seat::Seat;

/// How often a command is offered to a match whose queue is full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How often at most.
const OFFERS: u32 = 100;
/// Whoever leaves out a number first gets the results of what was taken, for so long.
const RESULTS_PATIENCE: Duration = Duration::from_secs(1);

/// Hands commands over, in order, as fast as the client may send them.
pub(super) async fn read_commands(
    edge: &Edge,
    (seat, questions): (&Seat, &Questions),
    room: &Room,
    reader: &mut MessageReader<ClientMessage>,
) -> End {
    let mut pace = Bucket::new(edge.config.limits.commands, Instant::now());
    // The newest command that the match took over this connection.
    let mut taken = 0;
    loop {
        match reader.next().await {
            Ok(Some(ClientMessage::Bye)) => return End::Bye,
            Ok(Some(
                ClientMessage::Hello(_)
                | ClientMessage::Enter(_)
                | ClientMessage::Arrive(_)
                | ClientMessage::Wait(_)
                | ClientMessage::Seek(_),
            )) => {
                return malformed("second_hello", "RK-GATE-045: a second hello");
            }
            Err(error) => return malformed("stream", error.to_string()),
            Ok(Some(ClientMessage::Command { .. } | ClientMessage::Documents(_)))
                if seat.role == Role::Spectator =>
            {
                let words = "RK-GATE-046: spectators give no commands, and ask no documents";
                return malformed("spectator_command", words);
            }
            Ok(Some(ClientMessage::Documents(_))) if seat.listening.version < PROTOCOL_6 => {
                let words = "RK-GATE-171: documents are asked under version 6 of the protocol";
                return malformed("documents", words);
            }
            Ok(Some(ClientMessage::Documents(asked))) => {
                sleep(pace.reserve(Instant::now())).await;
                questions.put(seat, asked);
            }
            Ok(Some(ClientMessage::Command { seq, payload })) => {
                // Not reading on is the answer to haste: the stream's window does the rest.
                sleep(pace.reserve(Instant::now())).await;
                edge.meters.commands.increment(1);
                if seat.use_first() {
                    edge.crowd.used(seat);
                }
                match hand_over(seat, room, seq, payload).await {
                    Ok(()) => taken = seq,
                    Err(end) => {
                        results(seat, taken).await;
                        return end;
                    }
                }
            }
            // The client says no more on the stream; its datagrams go on.
            Ok(None) => {
                seat.connection.closed().await;
                return End::Lost;
            }
        }
    }
}

/// Waits until the client has been told what became of the commands that the match took, so that a
/// later one that is refused does not cost it their results.
async fn results(seat: &Seat, taken: u64) {
    let until = Instant::now() + RESULTS_PATIENCE;
    while !seat.has_answered(taken) && Instant::now() < until && !seat.connection.is_closed() {
        sleep(OFFER_AGAIN).await;
    }
}

fn malformed(reason: &'static str, words: impl Into<String>) -> End {
    Meters::malformed(reason);
    End::refused(RefuseCode::Malformed, words)
}

/// Offers a command to the match until it takes it. An error ends the connection.
async fn hand_over(seat: &Seat, room: &Room, seq: u64, payload: Bytes) -> Result<(), End> {
    let mut offers = 0;
    loop {
        match room.door().command(seat.session, seq, payload.clone()) {
            Admission::Queued | Admission::Stale => return Ok(()),
            Admission::Full if offers < OFFERS => {
                offers += 1;
                sleep(OFFER_AGAIN).await;
            }
            Admission::Full => {
                let words =
                    "RK-GATE-047: the match takes no commands now: connect again and repeat them";
                return Err(End::refused(RefuseCode::Overloaded, words));
            }
            Admission::Malformed => {
                let words = format!("RK-GATE-048: the game does not understand command {seq}");
                return Err(malformed("command", words));
            }
            // A match that was thrown back expects earlier numbers: the next welcome says which.
            Admission::OutOfWindow => {
                Meters::malformed("command_order");
                let words = format!(
                    "RK-GATE-049: command {seq} is out of sequence: connect again and go on with \
                     the number you are told"
                );
                return Err(End::refused(RefuseCode::Overloaded, words));
            }
            Admission::NoSession => {
                let words = "RK-GATE-034: the session is over";
                return Err(End::refused(RefuseCode::Removed, words));
            }
        }
    }
}
