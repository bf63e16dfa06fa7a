//! From what is stored to a running world, and around a tick that panics.
//!
//! `replay`, [`proof`] and [`poison`] are pure and synchronous; `repair` reads the store and calls
//! them. [`proof`] says whether this build computes what another one recorded; `upgrade` says how a
//! match goes on with it. [`follow`] is a replay that goes on while the match's owner does;
//! [`diverge`] finds out what differs if it comes to another world.

pub mod diverge;
pub mod follow;
pub mod poison;
pub mod proof;
pub(crate) mod repair;
mod replay;
pub(crate) mod upgrade;

pub(crate) use replay::fits_at_once;
pub use replay::{Replay, Replayed, Replaying, fits, replay};
