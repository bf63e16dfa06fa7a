//! One client that was let in, as the other tasks of the edge see it.
//!
//! Made by [`crate::connection`], which alone reads the client's packets and writes to its stream.
//! The task of the match's room ([`crate::room`]) queues messages here and sends snapshots on the
//! connection; a dismissal may come from anywhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_door::Refusal;
use rekindle_schema::wire::{Heard, RefuseCode, Role};
use rekindle_schema::{PlayerId, SessionId, Tick};
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
    feedback: Mutex<Option<Feedback>>,
    queue: mpsc::Sender<Bytes>,
    /// Free bytes in the connection's datagram queue when nothing waits there.
    send_buffer: usize,
    dismissal: Mutex<Option<Dismissal>>,
    dismissed: Notify,
}

impl Seat {
    pub(crate) fn new(
        number: u64,
        player: PlayerId,
        session: SessionId,
        (role, listening): (Role, Listening),
        connection: Connection,
        queue: mpsc::Sender<Bytes>,
    ) -> Self {
        let send_buffer = connection.datagram_send_buffer_space();
        Self {
            number,
            player,
            session,
            role,
            listening,
            connection,
            used: AtomicBool::new(false),
            answered: AtomicU64::new(0),
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
        *self.feedback.lock() = Some(feedback);
    }

    pub(crate) fn feedback(&self) -> Option<Feedback> {
        *self.feedback.lock()
    }
}
