//! Datagrams of a client that is in: inputs for the match, and what the client has received.
//!
//! Called by the loop of the port as they arrive: no task is woken for one. [`super::serve`] says
//! where they go.

use std::sync::Arc;

use bytes::Bytes;
use rekindle_door::{Admission, RawInput, Refusal};
use rekindle_netcode::{InputPacket, PacketError};
use rekindle_schema::wire::{RefuseCode, Role};
use tokio::time::Instant;

use crate::edge::Edge;
use crate::limits::Bucket;
use crate::meters::Meters;
use crate::room::Room;
use crate::seat::{Feedback, Seat};

/// What is kept of a client's datagrams from one to the next.
pub(super) struct Datagrams {
    edge: Arc<Edge>,
    seat: Arc<Seat>,
    room: Arc<Room>,
    count: Bucket,
    volume: Bucket,
    malformed: u32,
    /// The number of the newest input that need not come again.
    handed_over: u64,
}

impl Datagrams {
    pub(super) fn new(edge: &Arc<Edge>, seat: &Arc<Seat>, room: &Arc<Room>) -> Self {
        let (limits, now) = (&edge.config.limits, Instant::now());
        Self {
            count: Bucket::new(limits.datagrams, now),
            volume: Bucket::new(limits.datagram_bytes, now),
            malformed: 0,
            handed_over: 0,
            edge: Arc::clone(edge),
            seat: Arc::clone(seat),
            room: Arc::clone(room),
        }
    }

    /// Takes the next one. A client that breaks the protocol too often is dismissed.
    pub(super) fn take(&mut self, datagram: &Bytes) {
        let now = Instant::now();
        let meters = &self.edge.meters;
        meters.datagrams_in.increment(1);
        meters.bytes_in.increment(datagram.len() as u64);
        if !self.count.take(1.0, now) || !self.volume.take(datagram.len() as f64, now) {
            meters.rate_limited.increment(1);
            return;
        }
        let Some(reason) = self.hand_over(datagram, now) else { return };
        Meters::malformed(reason);
        self.malformed += 1;
        if self.malformed > self.edge.config.limits.max_malformed {
            let words = format!(
                "RK-GATE-044: {} malformed packets, the last one: {reason}",
                self.malformed
            );
            self.seat.dismiss(Refusal::new(RefuseCode::Malformed, words));
        }
    }

    /// Hands over what a datagram says. Returns what is wrong with it.
    fn hand_over(&mut self, datagram: &Bytes, now: Instant) -> Option<&'static str> {
        let Self { edge, seat, room, handed_over, .. } = self;
        let decoded =
            InputPacket::decode_news(datagram, edge.config.limits.max_input, *handed_over);
        let (packet, repeated) = match decoded {
            Ok(decoded) => decoded,
            // It would repeat the input for ever, and none of its inputs would ever be applied.
            Err(error @ PacketError::Number(_)) => {
                Meters::malformed("input_number");
                let words = format!("RK-GATE-163: {error}");
                seat.dismiss(Refusal::new(RefuseCode::Malformed, words));
                return None;
            }
            Err(_) => return Some("input_packet"),
        };
        if repeated > 0 {
            edge.meters.inputs_repeated.increment(repeated);
        }
        seat.set_feedback(Feedback {
            ack: (packet.ack_tick, packet.ack_bits),
            clock_ms: packet.clock_ms,
            at: now,
        });
        if seat.use_first() && seat.role == Role::Player {
            edge.crowd.used(seat);
        }
        if packet.inputs.is_empty() && repeated == 0 {
            return None;
        }
        if seat.role != Role::Player {
            return Some("spectator_input");
        }
        let (last, wrong) = hand_over(edge, seat, room, packet, *handed_over);
        *handed_over = last;
        wrong
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
