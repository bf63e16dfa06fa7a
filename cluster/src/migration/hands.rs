//! What a migration needs of whoever runs matches: to stop one at a cut, to go on with it or let it
//! go, and to follow one of another node until it may run here.
//!
//! Implemented by the node over its host of matches, and by a plain model in tests.

use std::sync::Arc;

use futures::future::BoxFuture;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::peer::Cut;
use rekindle_schema::{BatchNo, MatchId, Tick};
use tokio::time::Instant;

use super::target::Stand;

/// What a follower tells as it goes: where it stands after each batch, or once why it cannot go on.
/// Must not block.
pub type Telling = Arc<dyn Fn(Result<Stand, String>) + Send + Sync>;

/// Runs matches. Errors are words for people.
pub trait Hands: Send + Sync + 'static {
    /// The last tick that a match of this node made; `None` if it does not run here.
    fn tick(&self, match_id: MatchId) -> Option<Tick>;
    /// The batch that this node writes next.
    fn next_batch(&self) -> BatchNo;
    /// Stops a match between two ticks, and resolves when all of it is durable and published. An
    /// error: it goes on.
    fn stop(&self, match_id: MatchId) -> BoxFuture<'_, Result<Cut, String>>;
    /// A stopped match goes on here in its epoch.
    fn keep(&self, match_id: MatchId) -> BoxFuture<'_, Result<(), String>>;
    /// A stopped match goes on here under this row.
    fn keep_as(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>>;
    /// A stopped match is another node's.
    fn let_go(&self, match_id: MatchId) -> BoxFuture<'_, ()>;
    /// To be called before the row of a match is read that may then run here: until what is
    /// returned is dropped, nobody else on this node begins to run it. `None`: it runs here, or
    /// somebody else is about to run it.
    fn enter(&self, match_id: MatchId) -> Option<Box<dyn Send>>;
    /// Why this node does not take this match, if it does not: it is drained, does not know the
    /// game, is full.
    fn admits(&self, row: &MatchLease) -> Result<(), String>;
    /// Restores the match of this row from the store and follows its log. Returns at once; dropping
    /// what it returns ends it.
    fn follow(&self, row: MatchLease, tell: Telling) -> Box<dyn Followed>;
    /// A match that came here runs here since just now. `last` is the last tick of its source, and
    /// when the source said so: behind it the match stood still. Returns at once.
    fn arrived(&self, match_id: MatchId, last: (Tick, Instant));
    /// Runs a match under this row as after a crash: from its checkpoint and its logs.
    fn recover(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>>;
}

/// A match that is followed here. Dropping it ends that.
pub trait Followed: Send {
    /// Runs it under this row, which names this node and begins right behind where it stands.
    fn run(self: Box<Self>, row: MatchLease) -> BoxFuture<'static, Result<(), String>>;
}
