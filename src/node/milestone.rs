//! What a node tells whoever runs it, for the terminal. Told by [`super::lifecycle`] and
//! `watch`.

use std::sync::Arc;

use rekindle_actors::RecoveryReport;
use rekindle_schema::MatchId;

use super::card::NodeCard;
use super::serving::Serving;

/// What a node tells whoever runs it.
pub enum Milestone<'a> {
    /// A match goes on.
    Resumed(MatchId, &'a RecoveryReport),
    /// A match could not be continued.
    NotResumed(MatchId, &'a str),
    /// Players are let in.
    Ready(&'a NodeCard, &'a Arc<Serving>),
    /// A clean stop has begun.
    Draining,
    /// All matches are put away: how many, and in how many milliseconds.
    Drained(usize, u64),
}
