//! Components that are defined while a match runs: by data, such as the configuration of the match,
//! in place of a Rust type.
//!
//! * [`define`]: definitions: what is said of a component, checks, rows of bytes and their fields.
//! * [`world`]: definitions and rows in a [`World`](crate::World): what `setup`, `command` and
//!   hooks do.
//! * [`systems`]: what systems do: [`Custom`](crate::Custom), [`CustomMut`](crate::CustomMut),
//!   commands.
//!
//! A row is the canonical bytes of its fields in order, in a column like all others
//! ([`crate::storage::column`]): so checkpoints, deltas, hashes and stamps of changes are the same.
//! Definitions stand in the state, in front of the entities ([`crate::persist::checkpoint`]): a
//! match brings them along to whatever node or build goes on with it. A world without them pays
//! nothing.

pub(crate) mod define;
pub(crate) mod systems;
pub(crate) mod world;
