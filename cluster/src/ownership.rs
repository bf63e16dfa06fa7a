//! Who owns a match, and how it changes hands.
//!
//! * [`suspicion`]: which other nodes look dead.
//! * [`caretaker`]: which of their matches this node claims, and why the others do not run. Pure.
//!   [`round`]: one look of it, with a store. [`standing`]: the table of what does not run;
//!   [`parked`]: what the report of a parked match says about its return.
//! * [`takeover`]: the rules after a death. Fence, read the tail, settle it, seal, then claim match
//!   by match.
//! * [`directory`]: changes of directory rows, always by compare-and-set on a row that was just
//!   read.
//! * [`lease`]: a running node's own lease, renewed until it is fenced.

pub mod caretaker;
pub mod directory;
pub mod lease;
pub mod parked;
pub mod round;
pub mod standing;
pub mod suspicion;
pub mod takeover;
