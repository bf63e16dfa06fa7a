//! What a match's actor is told, and by whom.

use std::sync::Weak;

use parking_lot::Mutex;
use rekindle_schema::peer::Cut;
use rekindle_schema::{StateHash, Tick};
use rekindle_sim::Simulation;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::checkpoint::ticket::{Taken, Ticket};
use crate::core::profile::Samples;
use crate::core::{Durable, LedgerFault};
use crate::recovery::poison::Outcome;

/// What is done with a world between two of its ticks. It holds up the match's shard.
pub(crate) type Reader = Box<dyn FnOnce(&dyn Simulation) + Send>;

/// Messages of a match.
pub(crate) enum MatchMsg {
    /// The wheel: it is time.
    Tick(Wake),
    /// The journal: so much is durable.
    Durable(Durable),
    /// The journal: it has confirmed what cannot be. The actor panics, so that the match is rebuilt
    /// from the store.
    Faulty(LedgerFault),
    /// The last session that was waited for is back.
    Present,
    /// The checkpoint scheduler: it is this match's turn.
    Checkpoint(Ticket),
    /// A panicked tick was made without what triggered it, or cannot be.
    Repaired(Box<Outcome>),
    /// Make no more ticks and hand over a last checkpoint.
    Drain(oneshot::Sender<Option<Taken>>),
    /// Stop behind the last executed tick and say where, once all of it is durable.
    HandOff(oneshot::Sender<Result<Cut, String>>),
    /// Go on after a hand-off.
    Keep,
    /// Somebody reads the world as it stands.
    Read(Reader),
    /// Where the world stands, with its hash.
    Inspect(oneshot::Sender<(Tick, StateHash)>),
    /// The node has too much to do, or no longer has: so many periods lie between two ticks from
    /// now on.
    Slow(u8),
    /// Note what the parts of ticks take from now on, as long as somebody holds the samples.
    Profile(Weak<Mutex<Samples>>),
}

impl ractor::Message for MatchMsg {}

/// Which tick a wake-up is for. A match ignores wake-ups that it has superseded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake {
    /// When the tick was to start.
    pub(crate) deadline: Instant,
    /// The match's number of the request: it counts up with each.
    pub(crate) generation: u64,
}
