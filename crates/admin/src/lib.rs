//! The admin interface of a node: HTTP on a loopback port, health and metrics for machines, JSON
//! for the commands.
//!
//! * [`api`]: the JSON types that both sides speak.
//! * [`control`]: what a node must be able to do for its operators; the `rekindle` crate implements
//!   it. Nothing else here knows what a match or a job is.
//! * [`profile`]: what the ticks of a match take, likewise.
//! * [`server`]: the paths, and who may ask. Its connections have bounds and deadlines
//!   (`listener.rs`).
//! * [`client`]: what the commands use to ask a running node.
//!
//! This crate imports `rekindle-schema` alone of the workspace: it knows no store, no match and no
//! node, so a console can be joined to it without them.

pub mod api;
pub mod client;
pub mod cluster;
pub mod control;
pub mod events;
mod listener;
pub mod profile;
pub mod server;
pub mod stats;
pub mod values;
pub mod who;
