//! How a world lies in memory: which slots are taken, one column per component type, and the stamps
//! that say when something was changed.
//!
//! Called by [`crate::ecs`], which gives it to systems, and by [`crate::persist`], which writes and
//! reads it. Knows values ([`crate::value`]) and nothing of games, systems or ticks' order.

pub(crate) mod change;
pub(crate) mod column;
pub(crate) mod entities;
pub(crate) mod layout;
pub(crate) mod queue;
pub(crate) mod resource;
pub(crate) mod sorted;
pub(crate) mod stamp;
