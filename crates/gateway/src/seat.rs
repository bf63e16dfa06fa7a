//! One client that was let in, as the other tasks of the edge see it.
//!
//! Made by [`crate::connection`], which alone reads the client's packets and writes to its stream.
//! The task that publishes a match ([`crate::audience`]) queues messages here and sends snapshots
//! on the connection; a dismissal may come from anywhere.

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_schema::wire::{RefuseCode, Role};
use rekindle_schema::{PlayerId, SessionId, Tick};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Why a client has to go: for programs, and in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RefuseCode,
    pub(crate) message: String,
    /// Where to ask instead.
    pub(crate) elsewhere: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: RefuseCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), elsewhere: None }
    }

    /// The match is at `addr` (`host:port`) now.
    pub(crate) fn moved(addr: String) -> Self {
        let message = format!("RK-GATE-033: the match is served at {addr}");
        Self { code: RefuseCode::Unavailable, message, elsewhere: Some(addr) }
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

/// A client that was let in.
pub(crate) struct Seat {
    /// Counts the connections of this edge: tells apart two connections of one session.
    pub(crate) number: u64,
    pub(crate) player: PlayerId,
    /// 0 for a spectator.
    pub(crate) session: SessionId,
    pub(crate) role: Role,
    pub(crate) connection: quinn::Connection,
    feedback: Mutex<Option<Feedback>>,
    queue: mpsc::Sender<Bytes>,
    /// Free bytes in the connection's datagram queue when nothing waits there.
    send_buffer: usize,
    dismissal: Mutex<Option<Refusal>>,
    dismissed: Notify,
}

impl Seat {
    pub(crate) fn new(
        number: u64,
        player: PlayerId,
        session: SessionId,
        role: Role,
        connection: quinn::Connection,
        queue: mpsc::Sender<Bytes>,
    ) -> Self {
        let send_buffer = connection.datagram_send_buffer_space();
        Self {
            number,
            player,
            session,
            role,
            connection,
            feedback: Mutex::new(None),
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
    pub(crate) fn dismiss(&self, refusal: Refusal) {
        self.dismissal.lock().get_or_insert(refusal);
        self.dismissed.notify_one();
    }

    /// Resolves when somebody has dismissed the client.
    pub(crate) async fn dismissed(&self) -> Refusal {
        loop {
            if let Some(refusal) = self.dismissal.lock().clone() {
                return refusal;
            }
            self.dismissed.notified().await;
        }
    }

    /// Whether a datagram that was sent earlier has not left yet.
    pub(crate) fn has_datagram_waiting(&self) -> bool {
        self.connection.datagram_send_buffer_space() < self.send_buffer
    }

    pub(crate) fn set_feedback(&self, feedback: Feedback) {
        *self.feedback.lock() = Some(feedback);
    }

    pub(crate) fn feedback(&self) -> Option<Feedback> {
        *self.feedback.lock()
    }
}
