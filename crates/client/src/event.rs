//! What a client tells its game.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rekindle_netcode::SnapshotHeader;
use rekindle_schema::net::NetView;
use rekindle_schema::wire::{RefuseCode, Welcome};
use rekindle_schema::{Epoch, StateHash, Tick};
use tokio::time::Instant;

/// What happened, in the order in which the client learnt of it.
#[derive(Debug, Clone)]
pub enum ClientEvent {
    /// The session begins.
    Welcome(Arc<Welcome>),
    /// The session goes on over a new connection.
    Resumed {
        /// What the server said.
        welcome: Arc<Welcome>,
        /// How long the old connection had been silent.
        outage: Duration,
    },
    /// The world, newer than the one before.
    Snapshot(Snapshot),
    /// The hash of the match at a tick.
    Beat {
        /// The tick after which it was taken.
        tick: Tick,
        /// The hash of the match's canonical bytes.
        hash: StateHash,
    },
    /// Something happened in the game.
    Event {
        /// The tick in which it happened.
        tick: Tick,
        /// Its place among the events of the tick, from 0.
        ordinal: u32,
        /// The game's name for it.
        kind: String,
        /// The game's encoding.
        payload: Bytes,
    },
    /// What became of a command.
    CommandDone {
        /// The number of the command, as [`crate::Client::command`] returned it.
        seq: u64,
        /// The tick whose step contained it; `None` if the server that knew has died.
        tick: Option<Tick>,
        /// Whether the game accepted it; `None` if the server that knew has died. It was applied
        /// once in any case.
        accepted: Option<bool>,
    },
    /// The answer to a question to documents, or none.
    DocumentsDone {
        /// The number of the question, as [`crate::Client::ask_documents`] returned it.
        id: u64,
        /// What came of it.
        answer: DocumentsAnswer,
    },
    /// What was seen of ticks behind `to` no longer holds. Under `output = "durable"` that happens
    /// only to a store that was put back to an earlier state, and to ticks that another build
    /// computed again with another result.
    Rewound {
        /// The present ownership; it may be lower than one seen before.
        epoch: Epoch,
        /// The newest tick that still holds.
        to: Tick,
    },
    /// The session goes on at another node. It follows [`ClientEvent::Resumed`].
    Moved {
        /// The node that had it before.
        from: SocketAddr,
        /// The node that has it now.
        to: SocketAddr,
        /// From the last that the old node said about the match to the welcome of the new one.
        gap: Duration,
    },
    /// Events of these ticks may have happened that this client was not told: it was away for
    /// longer than the match remembers events. Both ends are included.
    EventsMissed {
        /// The first tick of which an event may be missing.
        from: Tick,
        /// The last one.
        to: Tick,
    },
    /// The connection is gone or silent; the client is looking for a server.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// The match is over. [`ClientEvent::Closed`] follows.
    Ended {
        /// Why it is over, as the game says it.
        reason: String,
    },
    /// The last event: the client has stopped.
    Closed {
        /// What the server said, if it did.
        code: Option<RefuseCode>,
        /// Why, for people.
        message: String,
    },
}

/// What came of a question or an order to documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentsAnswer {
    /// It was done, durably: the answer as JSON.
    Done(String),
    /// It was not done: an object with `code` and `message` as JSON.
    Refused(String),
    /// The connection that took it is gone: whether calls were applied is unknown. Read the
    /// document, or call again with the version that it had.
    Unknown,
}

/// The world as one snapshot tells it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the server said when this client came: its schema says what is in the view.
    pub welcome: Arc<Welcome>,
    /// Tick, epoch, durable tick, applied inputs, own avatar.
    pub header: SnapshotHeader,
    /// The networked world; its list of avatars has at most the own one.
    pub view: Arc<NetView>,
    /// For each entity of the view, the tick at which it was told last.
    pub stamps: Arc<Vec<Tick>>,
    /// All entities are as of the snapshot's tick; otherwise some did not fit.
    pub complete: bool,
    /// When it was read from the connection.
    pub received: Instant,
}
