//! Which other nodes there are, which of them this node has a link to, and which look dead.
//!
//! * [`core`]: decides it. Pure: events and the time in, effects out.
//! * [`gossip`]: what the nodes tell each other of themselves, and whom they hear (`chitchat`).
//! * [`driver`]: hears gossip and links for the core, and carries out what it wants.
//!
//! All of it is a hint. Who looks dead here decides only *when* this node tries to take over what
//! that one ran; whether it may, the store decides ([`crate::ownership`]). Nodes are known from the
//! store's registry and from gossip; a node is one run, so an incarnation never comes back.

pub mod core;
pub mod driver;
pub mod gossip;

use rekindle_schema::Incarnation;

/// Where a node can be found, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// This run of it.
    pub incarnation: Incarnation,
    /// Its configured name.
    pub name: String,
    /// Where it runs.
    pub region: String,
    /// Where other nodes reach it: `host:port`, TCP for links and UDP for gossip.
    pub address: String,
}

/// How much a node has to do, as it says itself. A hint for whoever places matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Matches that run on it.
    pub matches: u32,
    /// Players in them.
    pub players: u32,
    /// It is being emptied, and takes no further matches.
    pub draining: bool,
    /// The store has answered it just now.
    pub reaches_store: bool,
}

/// How a node looks from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// It was told of, and nothing was heard of it yet.
    Told,
    /// It is heard, or there is a link to it.
    Alive,
    /// It looks dead.
    Dead,
}

/// What is known of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who it is.
    pub peer: Peer,
    /// How it looks.
    pub looks: Looks,
    /// Whether there is a link to it.
    pub linked: bool,
    /// How much it has to do, if it has said so.
    pub load: Option<Load>,
}
