//! Ownership: who runs a match, and how it changes hands.
//!
//! * [`takeover`]: after a death. Fence, read the tail, settle it, seal, then claim match by match.
//! * [`directory`]: changes of directory rows, always by compare-and-set on a row that was just
//!   read.
//! * [`retention`]: how much of matches is kept and for how long, as a policy says; what a node
//!   does about it now and then.
//! * [`archive`]: moves records into the archive before the log loses them.
//! * [`trim`]: which batches nobody needs any more, computed from what the stores say.
//! * [`lease`]: a running node's own lease, renewed until it is fenced.
//! * [`suspicion`]: which other nodes look dead. [`placement`]: which survivor goes first.
//! * [`region`]: where matches are at home, and moving them.
//!
//! The store decides every question here; clocks and failure detectors only hint. This crate does
//! not restore or run matches (`rekindle-actors` does) and knows no backend.

pub mod archive;
pub mod directory;
pub mod lease;
pub mod placement;
pub mod region;
pub mod retention;
pub mod suspicion;
pub mod takeover;
pub mod trim;
