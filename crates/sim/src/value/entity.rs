//! The name of an entity: a slot of a world, and which of its entities is meant.

use std::fmt;

use crate::value::shape::Shape;
use crate::value::{DecodeError, Reader, Value};

/// Names an entity of a world. A slot is used again after a despawn, with the next generation, so a
/// stale name finds nothing.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Duel};
/// use rekindle_sim::{Entity, Harness};
///
/// let mut duel = Harness::<Duel>::with_config(7, r#"{"coins": 0}"#);
/// let world = duel.world_mut();
/// let first = world.spawn(Coin { worth: 1 });
/// world.despawn(first);
/// let second = world.spawn(Coin { worth: 2 });
/// assert_eq!((first.slot(), first.generation()), (0, 0));
/// assert_eq!((second.slot(), second.generation()), (0, 1));
/// assert!(!world.contains(first) && world.contains(second));
/// assert!(!world.contains(Entity::NONE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    slot: u32,
    generation: u32,
}

impl Entity {
    /// Names nothing, for ever.
    pub const NONE: Self = Self { slot: u32::MAX, generation: 0 };

    pub(crate) const fn from_parts(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// Where its components lie; what snapshots call the entity.
    #[inline]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which of the entities that had this slot.
    #[inline]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl Default for Entity {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            f.write_str("Entity(none)")
        } else {
            write!(f, "Entity({}v{})", self.slot, self.generation)
        }
    }
}

impl Value for Entity {
    const MIN_SIZE: usize = 8;
    fn initial() -> Self {
        Self::NONE
    }
    fn shape() -> Shape {
        Shape::Entity
    }
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.slot().encode(out);
        self.generation().encode(out);
    }
    #[inline]
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_parts(u32::decode(input)?, u32::decode(input)?))
    }
}
