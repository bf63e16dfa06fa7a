//! Moving a match from one live node to another: what either side does next.
//!
//! ```text
//! source                                target
//!   Follow ────────────────────────────▶  restores, replays, follows the log
//!   Followed ◀─────────────────────────▶  how far it is; the source keeps ticking
//!   stops the match at a cut, all durable
//!   Stopped(cut) ──────────────────────▶  follows up to the cut, compares the hash
//!   Ready(first batch) ◀────────────────
//!   compare-and-set: epoch + 1, target    <- the one commit point
//!   lets the match go; Yours ──────────▶  reads the row, runs what it names
//! ```
//!
//! [`source::Source`] and [`target::Target`] are pure: time and what happened go in, effects come
//! out. [`give`] and [`take`] carry the effects out over a [`PeerBus`](crate::bus::PeerBus), a
//! store and [`hands::Hands`], which is whoever runs matches.
//!
//! Safety rests on the directory row alone. Nobody but the source writes the row of a match that it
//! owns, and nobody runs a match whose row does not name it. So messages may be lost, doubled or
//! late, and either side may die anywhere: before the commit the source (or whoever takes over from
//! it) has the match, after it the target (or whoever takes over from that).

pub mod give;
pub mod hands;
pub mod source;
pub mod take;
pub mod target;
