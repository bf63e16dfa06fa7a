//! What a match publishes after each tick, to whoever serves its sessions. No stored and no wire
//! format: it never leaves the process.

use std::sync::Arc;

use rekindle_schema::net::NetView;
use rekindle_schema::record::{Beat, Event, LeaveReason};
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, Tick};

/// One input of a session was part of the step that made this frame's tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The session that sent the input.
    pub session: SessionId,
    /// The client's number of the input.
    pub seq: u64,
}

/// What became of a reliable command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandDone {
    /// The session that sent the command.
    pub session: SessionId,
    /// The client's number of the command: 1, 2, 3 within the session.
    pub seq: u64,
    /// The game accepted it.
    pub accepted: bool,
}

/// A session ended in this tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnded {
    /// The session.
    pub session: SessionId,
    /// Why it ended.
    pub reason: LeaveReason,
}

/// Events of a match that were published and are remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recalled {
    /// All events of ticks from this one on that were published are here. Of earlier ones nothing
    /// is known.
    pub from: Tick,
    /// In the order in which they happened.
    pub events: Vec<Event>,
}

/// A tick of a match, as seen from outside. Under output commit it is published once the tick is
/// durable.
#[derive(Debug, Clone)]
pub struct TickFrame {
    /// The match.
    pub match_id: MatchId,
    /// The ownership under which the tick was made: clients drop frames of lower epochs.
    pub epoch: Epoch,
    /// The tick. It rises from frame to frame within an epoch.
    pub tick: Tick,
    /// The newest durable tick when the frame was published, written by the publisher; `>= tick`
    /// under output commit.
    pub durable: Tick,
    /// The networked world after the tick.
    pub view: Arc<NetView>,
    /// Inputs that this tick's step contained.
    pub applied: Vec<Applied>,
    /// Commands that this tick's step contained.
    pub commands: Vec<CommandDone>,
    /// Players whose sessions entered in this tick.
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
    /// Checks that this frame may be told after one of `tick` in `epoch`.
    ///
    /// # Panics
    ///
    /// If its epoch is lower, or its tick does not rise within the epoch. Whoever goes on would
    /// show clients a world that they have passed.
    pub fn assert_follows(&self, epoch: Epoch, tick: Tick) {
        assert!(
            self.epoch > epoch || self.epoch == epoch && self.tick > tick,
            "a frame of tick {} in epoch {} behind one of tick {tick} in epoch {epoch}",
            self.tick,
            self.epoch,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(epoch: u64, tick: u64) -> TickFrame {
        TickFrame::empty(MatchId(1), Epoch(epoch), Tick(tick))
    }

    #[test]
    fn ticks_rise_within_an_epoch_and_may_go_back_with_a_new_one() {
        frame(3, 11).assert_follows(Epoch(3), Tick(10));
        frame(3, 90).assert_follows(Epoch(3), Tick(10));
        frame(4, 5).assert_follows(Epoch(3), Tick(10));
    }

    #[test]
    #[should_panic(expected = "a frame of tick 10 in epoch 3 behind one of tick 10 in epoch 3")]
    fn the_same_tick_twice_is_refused() {
        frame(3, 10).assert_follows(Epoch(3), Tick(10));
    }

    #[test]
    #[should_panic(expected = "a frame of tick 11 in epoch 2 behind one of tick 10 in epoch 3")]
    fn a_lower_epoch_is_refused() {
        frame(2, 11).assert_follows(Epoch(3), Tick(10));
    }
}
