//! Looking into stored matches without running them: `journal`, `replay`, `verify`, and the demo's
//! verdict.
//!
//! [`resim`] simulates a history again in this process, independently of the code that recovers
//! matches; [`verify`] checks a whole store by it and gives a [`report`]; [`preflight`] tries this
//! build on all matches by the code that recovers them; [`reading`] opens a store without changing
//! it; [`reach`] says how far back a journal goes; [`pick`] finds a match by a prefix of its id;
//! [`events`] reads what players were told, and [`tail`] what all logs have of it that is new;
//! [`stats`] makes the world of a match again, for its statistics and values; [`story`] is a match
//! from a store or from a bug report, and [`why`] finds the inputs that cause an event of it.
//! Nothing here writes.

pub mod cluster;
pub mod events;
pub mod pick;
pub mod preflight;
pub mod reach;
pub mod reading;
pub mod report;
pub mod resim;
pub mod stats;
pub mod story;
pub mod tail;
pub mod verify;
mod walk;
pub mod why;
