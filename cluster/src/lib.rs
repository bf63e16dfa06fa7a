//! Who owns a match, where it should run, and how much of it is kept.
//!
//! * [`ownership`]: which nodes look dead, and how their matches change hands.
//! * [`bus`]: how nodes ask each other.
//! * [`membership`]: which other nodes there are, and which look dead.
//! * [`migration`]: moving a match between live nodes.
//! * [`placement`]: which node should run what.
//! * [`region`]: where matches are at home, and moving them.
//! * [`standby`]: which matches of other nodes this one follows, and goes on with.
//! * [`retention`]: how much of matches is kept and for how long; archiving and trimming.
//!
//! The store decides every question here; clocks and failure detectors only hint. This crate does
//! not restore or run matches (`rekindle-actors` does) and knows no backend.

pub mod bus;
pub mod membership;
pub mod migration;
pub mod ownership;
pub mod placement;
pub mod region;
pub mod retention;
pub mod standby;
