//! The pure part of a match: no clock, no channel, no store.
//!
//! [`Ingress`] decides what is admitted and what the next step contains. [`MatchCore`] makes the
//! step. [`Outbox`] packs what was made into records. [`Hashes`] remembers the newest hashes.
//! [`Chain`] decides whether a checkpoint is full or a delta. The shell around them is
//! `crate::actor`.

mod chain;
mod hashes;
mod ingress;
mod match_core;
mod outbox;

pub use chain::{Baseline, Captured, Chain, Prepared};
pub use hashes::Hashes;
pub use ingress::{Drawn, Ingress, IngressLimits, OpenOutcome};
pub use match_core::{Advanced, MatchCore};
pub use outbox::{MAX_TICK_BYTES, Outbox, Record, TickRecord};
