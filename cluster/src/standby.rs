//! Which matches of other nodes this node follows, so that it can go on with them at once when
//! their owner dies, or to check what their owner computes.
//!
//! * [`wishes`]: who wants standbys for what: the configuration by game, operators by match, and a
//!   share of all matches that is audited.
//! * [`core`]: decides it. Pure: what was read and what came of it in, effects out.
//!
//! Nodes do not agree on who follows what. Each one ranks the live nodes for each match in the
//! order in which a dead node's matches are claimed ([`crate::placement`]), and follows those for
//! which it comes first. Two nodes that see different members may both follow a match, or neither:
//! following changes nothing in the store, and the promotion of a standby is a claim as any other
//! ([`crate::ownership::takeover::promote`]).

pub mod core;
pub mod wishes;
