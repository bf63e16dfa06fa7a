//! The admin interface of a node: HTTP on a loopback port, health and metrics for machines, JSON
//! for the commands.
//!
//! [`api`] has the types, [`server`] the listener, [`client`] what commands use. What a request
//! does is up to [`crate::node::Serving`].

pub mod api;
pub mod client;
mod listener;
pub mod server;
mod who;
