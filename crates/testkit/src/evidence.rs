//! What a client learned, from what went over the wire and from nothing else.
//!
//! Clients of a simulation fill it; the [oracles](crate::oracle) hold it against the journal.

use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::net::NetView;
use rekindle_schema::record::Beat;
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, Tick};

/// A snapshot that arrived.
#[derive(Debug, Clone)]
pub struct SeenFrame {
    /// When, in virtual time.
    pub at: Duration,
    /// Under which ownership.
    pub epoch: Epoch,
    /// Which tick.
    pub tick: Tick,
    /// The newest durable tick, as the frame said.
    pub durable: Tick,
    /// The decoded world, if the snapshot had all of it.
    pub view: Option<NetView>,
}

/// An input that a frame named as applied in a durable tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenInput {
    /// When, in virtual time.
    pub at: Duration,
    /// The client's session.
    pub session: SessionId,
    /// The client's number.
    pub seq: u64,
    /// The tick that applied it.
    pub tick: Tick,
}

/// A command that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenCommand {
    /// The client's session.
    pub session: SessionId,
    /// The client's number.
    pub seq: u64,
    /// The tick that applied it and the game's word; `None` if the server that knew had died, and
    /// the client was only told that it was applied.
    pub answer: Option<(Tick, bool)>,
}

/// An event that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEvent {
    /// In which tick.
    pub tick: Tick,
    /// Which one within that tick.
    pub ordinal: u32,
    /// The game's name for it.
    pub kind: String,
    /// The game's encoding.
    pub payload: Bytes,
}

/// A welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenWelcome {
    /// When, in virtual time.
    pub at: Duration,
    /// The session.
    pub session: SessionId,
    /// An existing session went on.
    pub resumed: bool,
    /// The program was started anew: it remembers nothing of what was seen before.
    pub anew: bool,
}

/// The server has taken something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenRewind {
    /// When the client was told, in virtual time.
    pub at: Duration,
    /// The newest tick that still held.
    pub to: Tick,
}

/// All that one client learned of one match.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Who, for reports.
    pub name: String,
    /// The player.
    pub player: PlayerId,
    /// The match.
    pub match_id: MatchId,
    /// Each time it was let in.
    pub welcomes: Vec<SeenWelcome>,
    /// Snapshots, in order of arrival.
    pub frames: Vec<SeenFrame>,
    /// Inputs that became durable, in order of arrival.
    pub inputs: Vec<SeenInput>,
    /// Commands that were answered.
    pub commands: Vec<SeenCommand>,
    /// Hashes that the server declared.
    pub beats: Vec<Beat>,
    /// Events that the server declared.
    pub events: Vec<SeenEvent>,
    /// Each time the server took something back, in order.
    pub rewinds: Vec<SeenRewind>,
}
