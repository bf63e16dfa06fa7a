//! One running match: its actor, its parts that other threads reach, its ticks.
//!
//! [`cell`] is what the node knows of a match, put together from [`admission`], [`books`],
//! [`effects`], [`subscribers`], [`supervision`] and the match's checkpoints; [`actor`] owns the world and is the only one that
//! steps it; [`ticking`] is the life of a tick; [`effects`] delivers what the match promised to the
//! world outside. Called by the host, which starts and stops matches; the pure rules are in
//! [`crate::core`].

pub(crate) mod actor;
pub(crate) mod admission;
pub(crate) mod books;
pub(crate) mod cell;
pub(crate) mod effects;
pub(crate) mod subscribers;
pub(crate) mod supervision;
mod ticking;
