//! The pure part of a match: no clock, no channel, no store.
//!
//! [`Ingress`] decides what is admitted and what the next step contains. [`MatchCore`] makes the
//! step. [`Outbox`] packs what was made into records. [`Ledger`] knows
//! what is executed, durable and published. [`Hashes`] remembers the newest hashes,
//! [`EventLog`] the newest events, [`Turns`] where the newest ownerships began.
//! [`shedding`] decides which matches are slowed when there is too much to do.
//! [`life`] has the lives of matches and sessions as tables.
//! What parts of ticks take is counted in [`profile`], by the shell's clock.
//! The shell around them is `crate::play`.

mod events;
mod hashes;
mod ingress;
mod ledger;
pub mod life;
mod match_core;
mod outbox;
pub mod profile;
pub mod shedding;
mod turns;

pub use events::EventLog;
pub use hashes::Hashes;
pub use ingress::{Drawn, Ingress, IngressLimits, OpenOutcome};
pub use ledger::{Durable, Ledger, LedgerFault, PublishOrder, SeqGap, Standing};
pub use match_core::{Advanced, MatchCore};
pub use outbox::{MAX_TICK_BYTES, Outbox, Record, TickRecord};
pub use turns::Turns;
