//! Who owns a match, and how it changes hands.
//!
//! * [`suspicion`]: which other nodes look dead.
//! * [`takeover`]: after a death. Fence, read the tail, settle it, seal, then claim match by match.
//! * [`directory`]: changes of directory rows, always by compare-and-set on a row that was just
//!   read.
//! * [`lease`]: a running node's own lease, renewed until it is fenced.

pub mod directory;
pub mod lease;
pub mod suspicion;
pub mod takeover;
