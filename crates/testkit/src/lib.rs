//! Virtual network and clock, faulty store, oracles and history checker.

pub mod quic;
pub mod seed;
pub mod trace;
