//! What a match publishes after each tick, to whoever serves its sessions.

use std::sync::Arc;

use crate::ids::{Epoch, MatchId, PlayerId, SessionId, Tick};
use crate::net::NetView;
use crate::record::{Beat, Event, LeaveReason};

/// One input of a session was part of the step that made this frame's tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Whose.
    pub session: SessionId,
    /// The client's number.
    pub seq: u64,
}

/// What became of a reliable command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandDone {
    /// Whose.
    pub session: SessionId,
    /// The client's number.
    pub seq: u64,
    /// The game accepted it.
    pub accepted: bool,
}

/// A session ended in this tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnded {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub reason: LeaveReason,
}

/// A tick of a match, as seen from outside. Under output commit it is published once the tick is
/// durable.
#[derive(Debug, Clone)]
pub struct TickFrame {
    /// Which match.
    pub match_id: MatchId,
    /// Under which ownership: clients drop frames of lower epochs.
    pub epoch: Epoch,
    /// Which tick.
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

impl TickFrame {
    /// A frame in which nothing happened: an empty view, durable at once.
    pub fn empty(match_id: MatchId, epoch: Epoch, tick: Tick) -> Self {
        Self {
            match_id,
            epoch,
            tick,
            durable: tick,
            view: Arc::default(),
            applied: Vec::new(),
            commands: Vec::new(),
            joined: Vec::new(),
            left: Vec::new(),
            beat: None,
            events: Vec::new(),
            ended: None,
        }
    }
}
