//! The parameters of QUIC and TLS, and what a simulation puts under them.

pub(crate) mod certificates;
pub mod client;
pub(crate) mod connection_ids;
mod resets;
pub(crate) mod server;

pub use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
