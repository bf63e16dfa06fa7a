//! What a match publishes after each tick, to whoever serves its sessions.

use std::sync::Arc;

use crate::ids::{Epoch, MatchId, PlayerId, SessionId, Tick};
use crate::net::NetView;
use crate::record::{Beat, Event, LeaveReason};

/// One input of a session was part of the step that made this frame's tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The session whose input it was.
    pub session: SessionId,
    /// The client's number.
    pub seq: u64,
}

/// What became of a reliable command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandDone {
    /// The session whose command it was.
    pub session: SessionId,
    /// The client's number.
    pub seq: u64,
    /// The game accepted it.
    pub accepted: bool,
}

/// A session ended in this tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnded {
    /// The session that ended.
    pub session: SessionId,
    /// Why it ended: said by the match.
    pub reason: LeaveReason,
}

/// A tick of a match, as seen from outside. Under output commit it is published once the tick is
/// durable.
#[derive(Debug, Clone)]
pub struct TickFrame {
    /// The match that published it.
    pub match_id: MatchId,
    /// Under which ownership: clients drop frames of lower epochs.
    pub epoch: Epoch,
    /// The tick after which the world was as `view` says.
    pub tick: Tick,
    /// The newest durable tick when the frame was published; `>= tick` under output commit.
    pub durable: Tick,
    /// The networked world after the tick.
    pub view: Arc<NetView>,
    /// Inputs that this tick's step contained.
    pub applied: Vec<Applied>,
    /// Commands that this tick's step contained.
    pub commands: Vec<CommandDone>,
    /// Sessions that entered in this tick.
    pub joined: Vec<(PlayerId, SessionId)>,
    /// Sessions that ended in this tick.
    pub left: Vec<SessionEnded>,
    /// The hash after this tick, on beats.
    pub beat: Option<Beat>,
    /// Facts that the game declared in this tick.
    pub events: Vec<Event>,
    /// Set on the last frame of a match: why it is over.
    pub ended: Option<String>,
}
