//! The journal of a node: one log, one batch at a time, for all matches.
//!
//! [`port`] is what matches and the host see, [`pack`] makes a batch, [`actor`] writes it.

pub(crate) mod actor;
pub(crate) mod pack;
pub(crate) mod port;

pub use port::Halt;
