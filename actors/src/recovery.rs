//! From what is stored to a running world, and around a tick that panics.
//!
//! `replay` and [`poison`] are pure and synchronous; `repair` reads the store and calls both.
//! [`follow`] is a replay that goes on while the match's owner does; [`diverge`] finds out what
//! differs if it comes to another world.

pub mod diverge;
pub mod follow;
pub mod poison;
pub(crate) mod repair;
mod replay;

pub(crate) use replay::fits_at_once;
pub use replay::{Replay, Replayed, Replaying, fits, replay};
