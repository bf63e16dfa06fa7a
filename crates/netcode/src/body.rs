//! The bit-packed part of a snapshot: which of the known entities went, were replaced or changed,
//! and which are new.
//!
//! Both ends hold the same list of known entities (the baseline), ascending by slot; the body
//! refers to it by index. Called by the sender and the receiver, knows nothing of ticks, budgets or
//! interest. `docs/PROTOCOL.md` has the layout.

mod decode;
mod encode;
mod item;
mod models;

pub(crate) use self::decode::{Sink, decode};
pub(crate) use self::encode::{encode, set_bits};
pub use self::item::MAX_ENTITIES;
pub(crate) use self::item::{Change, Item};
pub(crate) use self::models::Models;
