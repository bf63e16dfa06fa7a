//! Documents, as players ask for them: what the edge hands on, and what the node answers.

use futures::future::BoxFuture;
use rekindle_schema::PlayerId;

use crate::finder::MatchFinder;

/// The answer to a player's question or order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskAnswer {
    /// Whether it was done.
    pub done: bool,
    /// The answer as JSON; of what was not done, an object with `code` and `message`.
    pub json: String,
}

/// Takes what players ask of documents. The node implements it; the edge calls it for clients that
/// are in to play, one question of a connection after the other.
pub trait DocumentDesk: Send + Sync + 'static {
    /// Asks the documents of a kind, wherever they are, for a player who has shown a ticket. `json`
    /// is as the client sent it. It takes seconds while their node is being replaced; what was
    /// handed on is not taken back if the caller gives up.
    fn ask<'a>(
        &'a self,
        player: PlayerId,
        kind: &'a str,
        json: &'a str,
    ) -> BoxFuture<'a, DeskAnswer>;
}

/// All that the edge asks its node for.
pub trait NodeSide: MatchFinder + DocumentDesk {}

impl<T: MatchFinder + DocumentDesk> NodeSide for T {}
