//! A game and its matches: how a game is declared, how a tick of it is made, what the outside sees
//! of it.
//!
//! Called by the match actor and the node, through [`simulation`]; by games, which implement
//! [`builder::Game`]; by their tests, through [`harness`].

pub(crate) mod blame;
pub(crate) mod builder;
pub(crate) mod config;
#[doc(hidden)]
pub mod doc_game;
pub(crate) mod former;
pub(crate) mod harness;
pub(crate) mod inputs;
pub(crate) mod matches;
pub mod net;
pub(crate) mod payloads;
pub(crate) mod players;
pub(crate) mod properties;
pub(crate) mod shrink;
pub mod simulation;
pub mod sketch;
pub(crate) mod typed;
pub(crate) mod visibility;
