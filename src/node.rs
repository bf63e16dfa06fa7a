//! A node at work.
//!
//! * [`lifecycle`]: its whole life from start to clean stop; it says [`milestone`]s on the way and
//!   ends with a [`NodeError`]. [`boot`] takes the data directory and a lease.
//! * [`recover`] brings back what other nodes left, as the caretaker of `rekindle-cluster` decides;
//!   [`trial`] says which of it may kill, [`standing`] why a match does not run.
//! * [`Serving`] is what runs then. Operators ask it through `src/control.rs` ([`listing`],
//!   [`mod@matches`], [`jobs`], [`tickets`]), the edge through [`links`]. [`operator`] writes down
//!   what it is told to do.
//! * [`cluster`] is its part among other nodes.
//! * [`migrate`] moves matches between this node and others, `rebalance` those that are too many
//!   here; [`wishes`] is what operators want of nodes, and carries it out on this one.
//! * [`standby`] follows matches of others, to go on with them when their node dies; [`successors`]
//!   tells clients where theirs goes on.
//! * `cutoff` sends players to other nodes when this one alone cannot reach the store.
//! * [`chores`] are what it does for itself; [`calendar`] says what is old.
//! * [`documents`] brings orders and questions to collections of documents, wherever they run.
//! * [`bots`] plays house bots, [`card`] lets commands find the node.
//!
//! Nothing here knows the command line, exit codes or HTTP.

pub mod alive;
pub mod boot;
pub mod bots;
pub mod browsers;
pub mod build;
pub mod calendar;
pub mod card;
pub mod chores;
pub mod cluster;
mod cutoff;
pub mod descriptors;
pub mod documents;
mod edge;
pub mod error;
pub mod from_store;
pub mod jobs;
pub mod keyring;
pub mod lifecycle;
pub mod links;
pub mod listing;
pub(crate) mod lobbies;
mod lobby;
pub mod matches;
pub mod members;
pub mod migrate;
pub mod milestone;
mod naming;
pub mod operator;
mod placing;
pub mod rebalance;
pub mod recover;
pub mod scrub;
pub mod serving;
mod settings;
pub mod signals;
pub mod sinks;
mod sketches;
pub mod standby;
pub mod standing;
pub mod successors;
pub mod tickets;
pub mod trial;
mod watch;
mod web;
pub mod webhook;
pub mod whereabouts;
pub mod wishes;

pub use error::{ControlError, NodeError};
pub use serving::Serving;

/// Log code: the node serves players.
pub const READY: &str = "RK-NODE-001";
/// Log code: a match is about to be replayed.
pub const RECOVERING: &str = "RK-NODE-009";
/// Log code: a match goes on.
pub const RESUMED: &str = "RK-NODE-010";
/// Log code: a match could not be continued.
pub const PARKED: &str = "RK-NODE-011";
