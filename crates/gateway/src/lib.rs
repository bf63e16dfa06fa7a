//! The edge of a node.

pub mod keys;
pub mod port;
pub mod ticket;
