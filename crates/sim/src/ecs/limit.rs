//! A world in which one system sees only some of the entities: how [`blame`] finds at which of them
//! the system panics.
//!
//! [`blame`]: crate::game::blame

use std::cell::OnceCell;

use crate::storage::column::PAGE;
use crate::storage::entities::Entities;
use crate::storage::stamp::{self, Run};
use crate::value::entity::Entity;

/// What the loops of one system see of the entities, for one step.
pub(crate) struct QueryLimit {
    /// The place of the system in the stamps of a tick.
    position: u32,
    /// They see the entities in slots before this one.
    slots: usize,
    /// Those that are alive, as [`Entities::words`].
    words: OnceCell<Vec<u64>>,
}

impl QueryLimit {
    pub(crate) fn new(position: u32, slots: usize) -> Self {
        Self { position, slots, words: OnceCell::new() }
    }

    /// The entities that loops of this run see, 64 per word.
    pub(crate) fn words<'w>(&'w self, run: &Run, entities: &'w Entities) -> &'w [u64] {
        if stamp::position(run.stamp) != self.position {
            return entities.words();
        }
        self.words.get_or_init(|| {
            let before = |page: usize| match self.slots.saturating_sub(page * PAGE) {
                slots @ 0..PAGE => !(u64::MAX << slots),
                _ => u64::MAX,
            };
            entities.words().iter().enumerate().map(|(page, alive)| alive & before(page)).collect()
        })
    }
}

/// The words of a panic, with the entity.
pub(crate) fn at_entity(message: &str, entity: Entity) -> String {
    format!("{message}, at entity {}v{}", entity.slot(), entity.generation())
}
