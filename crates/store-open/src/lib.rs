//! Which store a node uses, and how it gets it: an address is parsed ([`address`]) and opened
//! ([`mod@open`]).
//!
//! This is the one crate that knows all backends. Each is a cargo feature (`local`, `memory`,
//! `postgres`, `cql`, all on by default); without one its driver is not built, and its addresses
//! are parsed and refused when they are opened.

pub mod address;
mod dialect;
pub mod open;
