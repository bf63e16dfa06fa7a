//! Finding a match: what the edge asks the node for, and what the node answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use rekindle_schema::{Epoch, MatchId, PlayerId};
use tokio::sync::watch;

use crate::door::MatchDoor;
use crate::refusal::Refusal;

/// What a client asks for. Made by the edge from the client's first message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The match that the client, or its credential, names.
    pub match_id: Option<MatchId>,
    /// The name of a game type. It counts only if no match is named: then any match of this game is
    /// wanted. With neither, any match.
    pub game: Option<&'a str>,
    /// Names and values of properties: the match has all of them.
    pub properties: &'a [(String, String)],
    /// For a player: if no match has a free seat, one is to be made. Whether it is, the operator
    /// decides.
    pub create: bool,
}

impl Wanted<'_> {
    /// Whether a match is looked for by more than its id or game.
    pub fn is_lobby(&self) -> bool {
        self.create || !self.properties.is_empty()
    }
}

/// Where a match is.
pub enum Location {
    /// On this node.
    Here(Arc<dyn MatchDoor>),
    /// On another node, at `host:port`. The client is redirected there.
    Elsewhere(String),
    /// Nowhere, or not now.
    Refused(Refusal),
}

/// Finds matches. The node implements it; the edge calls it for each client that wants in.
pub trait MatchFinder: Send + Sync + 'static {
    /// Where the wanted match is on this node; if none is named, one that has room for a player.
    /// Answers at once, from what this node knows.
    fn locate(&self, wanted: Wanted<'_>) -> Location;
    /// The match of this node in which `player` has a session.
    fn plays_in(&self, player: PlayerId) -> Option<MatchId>;
    /// Where in the cluster the wanted match is, or what became of it: asked for what
    /// [`MatchFinder::locate`] does not find here. [`Location::Here`] is only a match that was made
    /// for the client. `hops`: how many nodes have sent this client on already, if it says so;
    /// without a match to look for, or properties, it is sent on only if it does, since each node
    /// knows only its own room. Asks the store and other nodes; the caller bounds how many ask at
    /// once and for how long. `None`: the directory does not answer.
    fn seek<'a>(&'a self, wanted: Wanted<'a>, hops: Option<u8>) -> BoxFuture<'a, Option<Location>>;
    /// Whether the directory of matches says that this node owns the match in `epoch`. Asks the
    /// store; false if it does not answer.
    fn owns(&self, match_id: MatchId, epoch: Epoch) -> BoxFuture<'_, bool>;
    /// Where players reach the nodes of the cluster that take them, as `host:port`. Clients are
    /// told when they come and whenever it changes.
    fn nodes(&self) -> watch::Receiver<Vec<String>>;
    /// Where players reach the standbys of matches, as `host:port`: nodes that go on with them if
    /// their owners die. Clients are told that of their match, when they come and whenever it
    /// changes.
    fn standbys(&self) -> watch::Receiver<Arc<BTreeMap<MatchId, String>>>;
    /// Changes whenever a match has begun to run on this node: those who wait for one look again.
    fn arrivals(&self) -> watch::Receiver<u64>;
}
