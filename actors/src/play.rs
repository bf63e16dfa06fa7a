//! One running match: its actor, its parts that other threads reach, its ticks.
//!
//! [`cell`] is what the node knows of a match, put together from [`admission`], [`books`],
//! [`effects`], [`subscribers`], [`supervision`] and the match's checkpoints. [`actor`] owns the
//! world and is the only one that steps it; [`ticking`] is the life of a tick, [`profiler`]
//! measures it, [`slowing`] changes its rate; [`delivery`] hands
//! effects to their sink; [`finish`] closes an ended match. The host starts and stops matches; the
//! pure rules are in [`crate::core`].

pub(crate) mod actor;
pub(crate) mod admission;
pub(crate) mod books;
pub(crate) mod cell;
mod delivery;
pub(crate) mod effects;
mod finish;
mod moving;
pub(crate) mod profiler;
mod slowing;
pub(crate) mod subscribers;
pub(crate) mod supervision;
mod ticking;
