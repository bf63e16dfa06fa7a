//! The allocator of entities: which slots are taken, by which generation.
//!
//! Called by the world, which spawns and ends entities; part of every checkpoint.

use std::cell::{Cell, RefCell};

use crate::value::entity::Entity;
use crate::value::{DecodeError, Reader, Value};

/// The allocator: it always takes the lowest free slot.
///
/// While systems run it does not change; a system that spawns reserves slots, which become entities
/// at the end of the stage.
#[derive(Debug, Default)]
pub struct Entities {
    /// Bit `i % 64` of word `i / 64`: slot `i` is taken.
    alive: Vec<u64>,
    /// Of each slot that was ever used: the generation of its entity, or of the next one if it is
    /// free.
    generations: Vec<u32>,
    count: u32,
    /// No slot before this word's is free.
    free_from: usize,
    reserved: RefCell<Vec<Entity>>,
    /// The next slot that a reservation looks at.
    cursor: Cell<usize>,
}

impl Entities {
    /// Taken slots, 64 per word. Words beyond the end are 0.
    #[inline]
    pub(crate) fn words(&self) -> &[u64] {
        &self.alive
    }

    /// Of each slot that was ever used: the generation of its entity, or of the next one.
    pub(crate) fn generations(&self) -> &[u32] {
        &self.generations
    }

    /// Becomes what another one is, but for what is reserved there.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.alive.clone_from(&other.alive);
        self.generations.clone_from(&other.generations);
        (self.count, self.free_from) = (other.count, other.free_from);
    }

    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub(crate) fn contains(&self, entity: Entity) -> bool {
        let slot = entity.slot() as usize;
        self.generations.get(slot) == Some(&entity.generation())
            && self.alive[slot / 64] >> (slot % 64) & 1 == 1
    }

    /// The entity in a taken slot.
    #[inline]
    pub(crate) fn in_slot(&self, slot: usize) -> Entity {
        Entity::from_parts(slot as u32, self.generations.get(slot).copied().unwrap_or(0))
    }

    /// Sets a slot aside; [`Entities::flush`] makes it an entity.
    pub(crate) fn reserve(&self) -> Entity {
        let mut slot = self.cursor.get().max(self.free_from * 64);
        while let Some(word) = self.alive.get(slot / 64) {
            let free = !word & (u64::MAX << (slot % 64));
            if free != 0 {
                slot = slot / 64 * 64 + free.trailing_zeros() as usize;
                break;
            }
            slot = (slot / 64 + 1) * 64;
        }
        self.cursor.set(slot + 1);
        let entity = self.in_slot(slot);
        self.reserved.borrow_mut().push(entity);
        entity
    }

    /// Makes the reserved slots entities.
    pub(crate) fn flush(&mut self) {
        self.cursor.set(0);
        let mut reserved = std::mem::take(self.reserved.get_mut());
        for entity in reserved.drain(..) {
            self.occupy(entity.slot() as usize);
        }
        *self.reserved.get_mut() = reserved;
    }

    /// Marks a slot as taken.
    ///
    /// # Panics
    /// If it is taken already: two entities would have one name.
    fn occupy(&mut self, slot: usize) {
        if slot >= self.generations.len() {
            self.generations.resize(slot + 1, 0);
            self.alive.resize(slot / 64 + 1, 0);
        }
        let word = &mut self.alive[slot / 64];
        assert!(*word >> (slot % 64) & 1 == 0, "slot {slot} is given away twice");
        *word |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Takes the lowest free slot at once.
    pub(crate) fn spawn(&mut self) -> Entity {
        self.flush();
        let mut word = self.free_from;
        while self.alive.get(word) == Some(&u64::MAX) {
            word += 1;
        }
        self.free_from = word;
        let slot =
            word * 64 + self.alive.get(word).map_or(0, |word| (!word).trailing_zeros() as usize);
        debug_assert!(
            self.alive[..word.min(self.alive.len())].iter().all(|word| *word == u64::MAX),
            "slot {slot} is not the lowest that is free"
        );
        self.occupy(slot);
        self.in_slot(slot)
    }

    /// Frees the slot of `entity`. Its next entity has the next generation.
    ///
    /// # Panics
    /// If the entity is not alive, or if no generation is left for the slot: a stale name would
    /// find another entity.
    pub(crate) fn free(&mut self, entity: Entity) {
        assert!(self.contains(entity), "{entity:?} is freed, but it is not alive");
        let slot = entity.slot() as usize;
        self.alive[slot / 64] &= !(1 << (slot % 64));
        let next = self.generations[slot].checked_add(1);
        self.generations[slot] = next.expect("a slot has had all entities that it can name");
        self.free_from = self.free_from.min(slot / 64);
        self.count -= 1;
    }

    /// Slots ever used as `u32`, their generations, then the words of taken slots.
    ///
    /// # Panics
    /// If slots are reserved that are no entities yet: they would be lost.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.reserved.borrow().is_empty(), "reserved slots are in no checkpoint");
        debug_assert_eq!(self.alive.len(), self.generations.len().div_ceil(64));
        debug_assert_eq!(
            self.alive.iter().map(|word| word.count_ones()).sum::<u32>(),
            self.count,
            "the number of entities is not that of the slots taken"
        );
        (self.generations.len() as u32).encode(out);
        self.generations.iter().for_each(|generation| generation.encode(out));
        self.alive.iter().for_each(|word| word.encode(out));
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let slots = input.count(4)?;
        let generations = input
            .slice(slots * 4)?
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let mut alive = Vec::with_capacity(slots.div_ceil(64));
        let mut count = 0;
        for _ in 0..slots.div_ceil(64) {
            let word = u64::decode(input)?;
            count += word.count_ones();
            alive.push(word);
        }
        if slots % 64 != 0 && alive.last().is_some_and(|word| word >> (slots % 64) != 0) {
            return Err(DecodeError::Invalid("an entity lies beyond the last slot"));
        }
        Ok(Self { alive, generations, count, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Entities, [Entity; 3]) {
        let mut entities = Entities::default();
        let names = [entities.spawn(), entities.spawn(), entities.spawn()];
        (entities, names)
    }

    #[test]
    fn the_lowest_free_slot_is_taken_with_the_next_generation() {
        let (mut entities, [first, second, _]) = three();
        entities.free(second);
        entities.free(first);
        let reserved = entities.reserve();
        assert_eq!((reserved.slot(), reserved.generation()), (0, 1));
        entities.flush();
        assert_eq!((entities.spawn().slot(), entities.len()), (1, 3));
    }

    #[test]
    #[should_panic(expected = "slot 1 is given away twice")]
    fn a_slot_that_is_given_away_twice_is_noticed() {
        let (mut entities, [_, second, _]) = three();
        entities.reserved.get_mut().push(second);
        entities.flush();
    }

    #[test]
    #[should_panic(expected = "slot 64 is not the lowest that is free")]
    fn a_search_that_begins_too_late_is_noticed() {
        let (mut entities, _) = three();
        entities.free_from = 1;
        entities.spawn();
    }

    #[test]
    #[should_panic(expected = "Entity(0v0) is freed, but it is not alive")]
    fn an_entity_that_is_freed_twice_is_noticed() {
        let (mut entities, [first, ..]) = three();
        entities.free(first);
        entities.free(first);
    }

    #[test]
    #[should_panic(expected = "all entities that it can name")]
    fn a_generation_never_goes_back_to_zero() {
        let (mut entities, [first, ..]) = three();
        entities.generations[0] = u32::MAX;
        entities.free(Entity::from_parts(first.slot(), u32::MAX));
    }

    #[test]
    #[should_panic(expected = "reserved slots are in no checkpoint")]
    fn a_reserved_slot_is_not_forgotten_by_a_checkpoint() {
        let (entities, _) = three();
        entities.reserve();
        entities.encode(&mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "the number of entities is not that of the slots taken")]
    fn a_wrong_count_is_noticed() {
        let (mut entities, _) = three();
        entities.count = 2;
        entities.encode(&mut Vec::new());
    }
}
