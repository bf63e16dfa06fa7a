//! Checkpoints: when one is taken, whether it is full or a delta, and how it is written.
//!
//! [`scheduler`] is the actor that decides whose turn it is, [`chain`] decides between full and
//! delta.

pub(crate) mod chain;
pub(crate) mod scheduler;
