//! The edge of a node.

pub mod port;
