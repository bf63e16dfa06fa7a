//! What the web listener asks its node.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// A node, as its web listener sees it.
pub trait Site: Send + Sync + 'static {
    /// The node's name.
    fn name(&self) -> &str;

    /// The names of the games that it plays.
    fn games(&self) -> Vec<String>;

    /// SHA-256 of the certificate that browsers are shown now, and of the next one; empty if it is
    /// one that they trust anyway. `None`: the node has no WebTransport.
    fn browser_certificates(&self) -> Option<Vec<[u8; 32]>>;

    /// Finds a match for a guest and signs a ticket. Called only if guests are welcome.
    fn guest(&self, wanted: GuestWanted) -> BoxFuture<'_, Result<Guest, GuestRefused>>;

    /// Pictures of a match of this node as JSON, each newer than the one before, as the game
    /// sketches what spectators see. The stream ends with the match, or when it goes elsewhere, and
    /// at once if the game sketches nothing. `None`: no match of this name runs here. Called only
    /// if guests are welcome.
    fn sketches(&self, match_id: &str) -> Option<BoxStream<'static, String>>;
}

/// The body of `POST /play/ticket`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestWanted {
    /// What the player is to be called.
    pub name: String,
    /// The match, as hexadecimal digits; any open one if absent.
    #[serde(default, rename = "match")]
    pub match_id: Option<String>,
    /// The game; any if absent.
    #[serde(default)]
    pub game: Option<String>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// The ticket, for the hello.
    pub ticket: String,
    /// The match that it is for.
    #[serde(rename = "match")]
    pub match_id: String,
}

/// Why a guest gets no ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestRefused {
    /// What was asked for cannot be.
    Invalid(String),
    /// There is no such match, or none with a free seat.
    NoMatch(String),
    /// The node cannot say now.
    Unavailable(String),
}
