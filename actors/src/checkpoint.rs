//! Checkpoints: when one is taken, whether it is full or a delta, and how it is written.
//!
//! [`scheduler`] is the actor that decides whose turn it is, [`chain`] decides between full and
//! delta, [`writer`] stores what was taken. [`ticket`] holds what they hand each other.

pub(crate) mod chain;
pub(crate) mod scheduler;
pub(crate) mod ticket;
pub(crate) mod writer;
