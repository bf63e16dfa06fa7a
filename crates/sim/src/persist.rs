//! A match as bytes, and a match from bytes.
//!
//! Called by [`crate::game::matches`]. Writes and reads the world ([`crate::ecs::world`]) and its
//! storage.

pub(crate) mod changes;
pub(crate) mod checkpoint;
pub(crate) mod delta;
pub(crate) mod describe;
pub(crate) mod migrate;
pub(crate) mod parts;
pub(crate) mod spell;
