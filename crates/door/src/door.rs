//! The door of one match: how sessions are opened, what goes in, what comes out.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use rekindle_schema::net::NetSchema;
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use tokio::sync::mpsc;

use crate::frame::{Recalled, TickFrame};
use crate::refusal::Refusal;

/// What a match is and where it stands. The edge makes a [`rekindle_schema::wire::Welcome`] of it.
#[derive(Debug, Clone)]
pub struct MatchInfo {
    /// The match.
    pub match_id: MatchId,
    /// Name of its game type.
    pub game: String,
    /// Its present ownership. Each frame of the match carries it.
    pub epoch: Epoch,
    /// The newest published tick.
    pub tick: Tick,
    /// Ticks per second.
    pub tick_rate: u16,
    /// The networked components that its snapshots are made of.
    pub schema: Arc<NetSchema>,
    /// The game's encoding of its configuration.
    pub config: Bytes,
}

/// A session that was opened or resumed. It is durable: it outlives the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// It existed before.
    pub resumed: bool,
    /// The least number that the next input may have. 1 in a new session.
    pub next_input: u64,
    /// The number that the next command must have. 1 in a new session.
    pub next_command: u64,
}

/// An input as it arrived from a client, unchecked.
#[derive(Debug, Clone)]
pub struct RawInput {
    /// The session that it arrived on.
    pub session: SessionId,
    /// The client's number for it; it only grows within a session.
    pub seq: u64,
    /// The tick that it is meant for; applied at the first tick that is not earlier.
    pub target: Tick,
    /// The tick that the player was looking at. The match clamps it to the ticks it has made.
    pub view: Tick,
    /// The game's encoding, not yet checked.
    pub payload: Bytes,
}

/// What became of an input or a command that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It waits for its tick.
    Queued,
    /// It is older than one that was already taken, or was taken before.
    Stale,
    /// It is too far in the future, or out of sequence.
    OutOfWindow,
    /// The game does not understand it.
    Malformed,
    /// There is no such session (any more).
    NoSession,
    /// The match's queue is full.
    Full,
}

/// The door of one match of this node.
///
/// All methods but [`MatchDoor::open`] return at once: what arrives is admitted or refused, and
/// waits in the match's bounded queues for its tick.
pub trait MatchDoor: Send + Sync + 'static {
    /// What the match is and where it stands.
    fn info(&self) -> MatchInfo;
    /// The session that `player` has in the match, or is about to have.
    fn session_of(&self, player: PlayerId) -> Option<SessionId>;
    /// The hash of the match after `tick`, if that is one of the newest hashes that are remembered.
    fn hash_at(&self, tick: Tick) -> Option<StateHash>;
    /// Set if its recovery computed ticks again with another result than clients had been shown:
    /// the newest tick that still holds.
    fn holds_until(&self) -> Option<Tick>;
    /// The newest tick of the ownership `epoch` that the later ones took over, as far as is
    /// remembered: what its clients were shown behind that was made anew. `None` if no later one is
    /// remembered.
    fn holds_of(&self, epoch: Epoch) -> Option<Tick>;
    /// The events of the newest published ticks that are remembered, of ticks from `from` on.
    fn events_from(&self, from: Tick) -> Recalled;
    /// Opens a session for `player`, or resumes the one that the player has. Resolves once the
    /// session is durable.
    ///
    /// A player has one session in a match: `resume` names it if the caller knows it, and is
    /// refused if it belongs to somebody else or is over. `name` is what the player is called.
    fn open(
        &self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
    ) -> BoxFuture<'_, Result<Opened, Refusal>>;
    /// Hands over an input.
    fn input(&self, input: RawInput) -> Admission;
    /// Hands over a reliable command. `seq` counts 1, 2, 3 within a session.
    fn command(&self, session: SessionId, seq: u64, payload: Bytes) -> Admission;
    /// The player left for good: the session ends.
    fn close(&self, session: SessionId);
    /// The session's connection is gone: the session waits for the player to come back.
    fn away(&self, session: SessionId);
    /// The session's connection is back (also called after [`MatchDoor::open`] resumed it).
    fn back(&self, session: SessionId);
    /// All frames that are published from now on, in order: ticks rise within an epoch, and epochs
    /// never fall. The receiver is closed when the match ends or stops here, or when it lags by
    /// more than the channel holds.
    fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>>;
}
