//! The journal of a node: one log, one batch at a time, for all matches.

pub(crate) mod actor;

pub use actor::Halt;
