//! What the edge asks of the node behind it: where a match is, and a link to it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use rekindle_schema::frame::TickFrame;
use rekindle_schema::net::NetSchema;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use tokio::sync::mpsc;

/// What a client asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// This match.
    pub match_id: Option<MatchId>,
    /// Without a match: one of this game. With neither, any match.
    pub game: Option<&'a str>,
}

/// Finds matches.
pub trait Matches: Send + Sync + 'static {
    /// Where the match is that is wanted; if none is named, one that has room for a player.
    fn locate(&self, wanted: Wanted<'_>) -> Location;
    /// The match of this node in which `player` has a session.
    fn plays_in(&self, player: PlayerId) -> Option<MatchId>;
    /// What became of a match that [`Matches::locate`] does not find (any more), if the directory
    /// knows: the code and the words for the client. Asks the store; the caller bounds how many ask
    /// at once and for how long.
    fn fate(&self, match_id: MatchId) -> BoxFuture<'_, Option<(RefuseCode, String)>>;
    /// Whether the directory says that this node owns the match in `epoch`. Asks the store; false
    /// if it does not answer.
    fn owns(&self, match_id: MatchId, epoch: Epoch) -> BoxFuture<'_, bool>;
}

/// Where a match is.
pub enum Location {
    /// On this node.
    Here(Arc<dyn MatchLink>),
    /// On another node, at `host:port`.
    Elsewhere(String),
    /// Nowhere, or not now: the code and the words for the client.
    Refused(RefuseCode, String),
}

/// What a [`rekindle_schema::wire::Welcome`] says of a match.
#[derive(Debug, Clone)]
pub struct MatchInfo {
    /// Which.
    pub match_id: MatchId,
    /// Name of its game type.
    pub game: String,
    /// Its present ownership.
    pub epoch: Epoch,
    /// The newest published tick.
    pub tick: Tick,
    /// Ticks per second.
    pub tick_rate: u16,
    /// What its snapshots are made of.
    pub schema: Arc<NetSchema>,
    /// The game's encoding of its configuration.
    pub config: Bytes,
}

/// A session that was opened or resumed. It is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Which.
    pub session: SessionId,
    /// It existed before.
    pub resumed: bool,
    /// The number that the next input must have at least.
    pub next_input: u64,
    /// The number that the next command must have.
    pub next_command: u64,
}

/// An input as it arrived.
#[derive(Debug, Clone)]
pub struct RawInput {
    /// Whose.
    pub session: SessionId,
    /// The client's number.
    pub seq: u64,
    /// The tick that it is meant for; applied at the first tick that is not earlier.
    pub target: Tick,
    /// The tick that the player was looking at.
    pub view: Tick,
    /// The game's encoding, not yet checked.
    pub payload: Bytes,
}

/// What became of something that arrived.
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

/// A link to one match of this node. All methods but [`MatchLink::open`] return at once.
pub trait MatchLink: Send + Sync + 'static {
    /// What it is and where it stands.
    fn info(&self) -> MatchInfo;
    /// The session that `player` has in it.
    fn session_of(&self, player: PlayerId) -> Option<SessionId>;
    /// The hash of the match after `tick`, if that is one of the newest hashes that are remembered.
    fn hash_at(&self, tick: Tick) -> Option<StateHash>;
    /// Set if its recovery computed ticks again with another result than clients had been shown:
    /// the newest tick that still holds.
    fn holds_until(&self) -> Option<Tick>;
    /// Opens a session for `player`, or resumes `resume` if the match has that session. Resolves
    /// once the session is durable.
    fn open(
        &self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
    ) -> BoxFuture<'_, Result<Opened, (RefuseCode, String)>>;
    /// Hands over an input.
    fn input(&self, input: RawInput) -> Admission;
    /// Hands over a reliable command.
    fn command(&self, session: SessionId, seq: u64, payload: Bytes) -> Admission;
    /// The player left for good.
    fn close(&self, session: SessionId);
    /// The session's connection is gone: it waits for the player to come back.
    fn away(&self, session: SessionId);
    /// The session's connection is back (also called after [`MatchLink::open`] resumed it).
    fn back(&self, session: SessionId);
    /// All frames that are published from now on, in order. The receiver is closed when the match
    /// ends or stops here, or when it lags by more than the channel holds.
    fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>>;
}
