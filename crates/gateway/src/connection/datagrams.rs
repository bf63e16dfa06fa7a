//! Datagrams of a client that is in: inputs for the match, and what the client has received.
//!
//! A task of its own for each connection, started by [`super::serve`].

use std::sync::Arc;

use rekindle_door::{Admission, RawInput};
use rekindle_netcode::{InputPacket, PacketError};
use rekindle_schema::wire::{RefuseCode, Role};
use tokio::time::Instant;

use super::end::End;
use crate::edge::Edge;
use crate::limits::Bucket;
use crate::meters::Meters;
use crate::room::Room;
use crate::seat::{Feedback, Seat};

/// Hands inputs over until the connection ends or breaks the protocol too often.
pub(super) async fn read_datagrams(edge: Arc<Edge>, seat: Arc<Seat>, room: Arc<Room>) -> End {
    let (limits, meters) = (&edge.config.limits, &edge.meters);
    let now = Instant::now();
    let mut count = Bucket::new(limits.datagrams, now);
    let mut volume = Bucket::new(limits.datagram_bytes, now);
    let mut malformed = 0;
    let mut handed_over = 0;
    loop {
        let Ok(datagram) = seat.connection.read_datagram().await else { return End::Lost };
        tokio::task::coop::consume_budget().await;
        let now = Instant::now();
        meters.datagrams_in.increment(1);
        meters.bytes_in.increment(datagram.len() as u64);
        if !count.take(1.0, now) || !volume.take(datagram.len() as f64, now) {
            meters.rate_limited.increment(1);
            continue;
        }
        let wrong = match InputPacket::decode_news(&datagram, limits.max_input, handed_over) {
            Ok((packet, repeated)) => {
                if repeated > 0 {
                    meters.inputs_repeated.increment(repeated);
                }
                seat.set_feedback(Feedback {
                    ack: (packet.ack_tick, packet.ack_bits),
                    clock_ms: packet.clock_ms,
                    at: now,
                });
                if seat.use_first() && seat.role == Role::Player {
                    edge.crowd.used(&seat);
                }
                if packet.inputs.is_empty() && repeated == 0 {
                    None
                } else if seat.role == Role::Player {
                    let (last, outcome) = hand_over(&edge, &seat, &room, packet, handed_over);
                    handed_over = last;
                    outcome
                } else {
                    Some("spectator_input")
                }
            }
            // It would repeat the input for ever, and none of its inputs would ever be applied.
            Err(error @ PacketError::Number(_)) => {
                Meters::malformed("input_number");
                return End::refused(RefuseCode::Malformed, format!("RK-GATE-163: {error}"));
            }
            Err(_) => Some("input_packet"),
        };
        if let Some(reason) = wrong {
            Meters::malformed(reason);
            malformed += 1;
            if malformed > limits.max_malformed {
                let words =
                    format!("RK-GATE-044: {malformed} malformed packets, the last one: {reason}");
                return End::refused(RefuseCode::Malformed, words);
            }
        }
    }
}

/// Offers the inputs of a packet, all newer than `last`. Returns the number of the newest that
/// need not come again, and what was wrong with one of them.
fn hand_over(
    edge: &Edge,
    seat: &Seat,
    room: &Room,
    packet: InputPacket,
    mut last: u64,
) -> (u64, Option<&'static str>) {
    let meters = &edge.meters;
    let door = room.door();
    let mut wrong = None;
    for item in packet.inputs {
        let seq = item.seq;
        let input = RawInput {
            session: seat.session,
            seq,
            target: item.target,
            view: item.view,
            payload: item.payload,
        };
        match door.input(input) {
            Admission::Queued => meters.inputs_queued.increment(1),
            Admission::Stale => meters.inputs_stale.increment(1),
            Admission::NoSession => meters.inputs_no_session.increment(1),
            Admission::Malformed => wrong = Some("input"),
            // Its tick comes nearer, or the queue shorter: the next packet repeats it.
            Admission::OutOfWindow => {
                meters.inputs_window.increment(1);
                break;
            }
            Admission::Full => {
                meters.inputs_full.increment(1);
                break;
            }
        }
        last = seq;
    }
    (last, wrong)
}
