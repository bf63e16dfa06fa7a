//! One client that was let in, as the other tasks of the edge see it.
//!
//! Made by [`crate::connection`], which alone reads the client's packets and writes to its stream.
//! The task of the match's room ([`crate::room`]) queues messages here and sends snapshots on the
//! connection; a dismissal may come from anywhere.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_door::Refusal;
use rekindle_schema::wire::{Heard, RefuseCode, Role};
use rekindle_schema::{MatchId, PlayerId, SessionId, Tick};
use rekindle_transport::Connection;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Why a client has to go, and where it may ask instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dismissal {
    /// What the client is told.
    pub(crate) refusal: Refusal,
    /// `host:port` of the node that has the match. The client is redirected there before it hears
    /// the refusal.
    pub(crate) elsewhere: Option<String>,
}

impl Dismissal {
    /// The match is at `addr` (`host:port`) now.
    pub(crate) fn moved(addr: String) -> Self {
        let words = format!("RK-GATE-033: the match is served at {addr}");
        Self { refusal: Refusal::new(RefuseCode::Unavailable, words), elsewhere: Some(addr) }
    }
}

impl From<Refusal> for Dismissal {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, elsewhere: None }
    }
}

/// What the client's newest packet said, for its next snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feedback {
    /// Newest snapshot that the client has, and which of the 32 before it.
    pub(crate) ack: (Tick, u32),
    /// The client's clock when it sent the packet.
    pub(crate) clock_ms: u32,
    /// When the packet was read.
    pub(crate) at: Instant,
}

/// What is known of a client's line from the packets that came.
#[derive(Debug, Default)]
struct Line {
    /// What the newest packet said.
    feedback: Option<Feedback>,
    /// How unevenly packets come, in milliseconds: the interarrival jitter of RFC 3550, section
    /// 6.4.1, by the client's clock and ours.
    jitter: f64,
}

impl Line {
    fn take(&mut self, feedback: Feedback) {
        if let Some(last) = self.feedback.replace(feedback) {
            let taken = feedback.at.saturating_duration_since(last.at).as_secs_f64() * 1e3;
            let sent = feedback.clock_ms.wrapping_sub(last.clock_ms).cast_signed();
            self.jitter += ((taken - f64::from(sent)).abs() - self.jitter) / 16.0;
        }
    }
}

/// A client's line, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientLine {
    /// Which player it is.
    pub player: PlayerId,
    /// It only watches.
    pub spectator: bool,
    /// `quic`, `webtransport` or `websocket`.
    pub carrier: &'static str,
    /// The version of the protocol that it speaks.
    pub version: u16,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// How unevenly its packets come.
    pub jitter: Duration,
    /// The part of the packets to it that are held to be lost, 0 to 1.
    pub lost: f64,
    /// Bytes a second that its snapshots are held to, as its link carries no more.
    pub pace: Option<u32>,
    /// The newest tick of which it has said that it has the snapshot.
    pub has: Option<Tick>,
}

/// What a client understands, and how far it was told events when it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listening {
    /// The version of the protocol that it speaks.
    pub(crate) version: u16,
    /// Events from there on are to be told.
    pub(crate) heard: Heard,
}

/// A client that was let in.
pub(crate) struct Seat {
    /// Counts the connections of this edge: tells apart two connections of one session.
    pub(crate) number: u64,
    pub(crate) match_id: MatchId,
    pub(crate) player: PlayerId,
    /// 0 for a spectator.
    pub(crate) session: SessionId,
    pub(crate) role: Role,
    pub(crate) listening: Listening,
    pub(crate) connection: Connection,
    /// The client has sent something since its welcome.
    used: AtomicBool,
    /// The number of the newest command whose result was queued for the client.
    answered: AtomicU64,
    line: Mutex<Line>,
    /// See [`ClientLine::pace`]; 0 for none.
    pace: AtomicU32,
    queue: mpsc::Sender<Bytes>,
    /// Free bytes in the connection's datagram queue when nothing waits there.
    send_buffer: usize,
    dismissal: Mutex<Option<Dismissal>>,
    dismissed: Notify,
}

impl Seat {
    pub(crate) fn new(
        number: u64,
        match_id: MatchId,
        (player, session): (PlayerId, SessionId),
        (role, listening): (Role, Listening),
        connection: Connection,
        queue: mpsc::Sender<Bytes>,
    ) -> Self {
        let send_buffer = connection.datagram_send_buffer_space();
        Self {
            number,
            match_id,
            player,
            session,
            role,
            listening,
            connection,
            used: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            pace: AtomicU32::new(0),
            line: Mutex::default(),
            queue,
            send_buffer,
            dismissal: Mutex::new(None),
            dismissed: Notify::new(),
        }
    }

    /// Queues an encoded message for the stream. A client for which too much waits is dismissed.
    pub(crate) fn tell(&self, message: Bytes) {
        if self.queue.try_send(message).is_err() {
            self.dismiss(Refusal::new(
                RefuseCode::Overloaded,
                "RK-GATE-030: you read more slowly than the match speaks, or your link is too \
                 slow: connect again",
            ));
        }
    }

    /// Tells the connection's task to say goodbye and close. The first reason counts.
    pub(crate) fn dismiss(&self, why: impl Into<Dismissal>) {
        self.dismissal.lock().get_or_insert(why.into());
        self.dismissed.notify_one();
    }

    /// Resolves when somebody has dismissed the client.
    pub(crate) async fn dismissed(&self) -> Dismissal {
        loop {
            if let Some(dismissal) = self.dismissal.lock().clone() {
                return dismissal;
            }
            self.dismissed.notified().await;
        }
    }

    /// The client has sent something since its welcome. True for the first time.
    pub(crate) fn use_first(&self) -> bool {
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    /// Whether the client has sent something since its welcome.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// The result of command `seq` is queued for the client.
    pub(crate) fn note_answered(&self, seq: u64) {
        self.answered.fetch_max(seq, Ordering::Relaxed);
    }

    /// Whether the results of all commands up to `seq` are queued for the client.
    pub(crate) fn has_answered(&self, seq: u64) -> bool {
        self.answered.load(Ordering::Relaxed) >= seq
    }

    /// Whether a datagram that was sent earlier has not left yet.
    pub(crate) fn has_datagram_waiting(&self) -> bool {
        self.connection.datagram_send_buffer_space() < self.send_buffer
    }

    pub(crate) fn set_feedback(&self, feedback: Feedback) {
        self.line.lock().take(feedback);
    }

    /// Notes what its snapshots are held to.
    pub(crate) fn set_pace(&self, pace: Option<u32>) {
        self.pace.store(pace.unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn feedback(&self) -> Option<Feedback> {
        self.line.lock().feedback
    }

    /// What is known of its line.
    pub(crate) fn line(&self) -> ClientLine {
        let Line { feedback, jitter } = *self.line.lock();
        let path = self.connection.path();
        ClientLine {
            player: self.player,
            spectator: self.role == Role::Spectator,
            carrier: self.connection.carrier(),
            version: self.listening.version,
            rtt: path.rtt,
            jitter: Duration::from_secs_f64(jitter / 1e3),
            lost: path.loss(),
            pace: NonZeroU32::new(self.pace.load(Ordering::Relaxed)).map(NonZeroU32::get),
            has: feedback.map(|last| last.ack.0).filter(|tick| tick.0 > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_what_packets_come_unevenly_by_whatever_the_clocks_say() {
        let begin = Instant::now();
        let packet = |sent: u32, came: u64| Feedback {
            ack: (Tick(1), 0),
            clock_ms: u32::MAX.wrapping_add(sent),
            at: begin + Duration::from_millis(came),
        };
        let mut even = Line::default();
        (0..100).for_each(|step| even.take(packet(33 * step, u64::from(33 * step) + 900)));
        assert!(even.jitter < 1e-9, "{}", even.jitter);
        // Every second one is held up by 8 ms.
        let mut uneven = Line::default();
        for step in 0..200 {
            uneven.take(packet(33 * step, u64::from(33 * step + step % 2 * 8)));
        }
        assert!((uneven.jitter - 8.0).abs() < 0.1, "{}", uneven.jitter);
    }
}
