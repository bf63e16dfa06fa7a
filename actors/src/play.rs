//! One running match: its actor, its parts that other threads reach, its ticks.
//!
//! [`cell`] is what the node knows of a match; [`actor`] owns the world and is the only one that
//! steps it; [`ticking`] is the life of a tick; [`effects`] delivers what the match promised to the
//! world outside. Called by the host, which starts and stops matches; the pure rules are in
//! [`crate::core`].

pub(crate) mod actor;
pub(crate) mod cell;
pub(crate) mod effects;
mod ticking;
