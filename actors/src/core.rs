//! The pure part of a match: no clock, no channel, no store.
//!
//! [`Ingress`] decides what is admitted and what the next step contains. [`MatchCore`] makes the
//! step. [`Outbox`] packs what was made into records. [`Hashes`] remembers the newest hashes.
//! The shell around them is `crate::play`.

mod hashes;
mod ingress;
mod match_core;
mod outbox;

pub use hashes::Hashes;
pub use ingress::{Admission, Drawn, Ingress, IngressLimits, OpenOutcome, Opened, RawInput};
pub use match_core::{Advanced, MatchCore};
pub use outbox::{MAX_TICK_BYTES, Outbox, Record, TickRecord};
