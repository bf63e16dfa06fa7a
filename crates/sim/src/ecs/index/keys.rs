//! How an index finds the entities of a key: by hash or in order. Neither allocates once it is
//! warm: sets of entities whose key is gone are used again.

use std::hash::{Hash, Hasher};
use std::ops::RangeBounds;

use crate::storage::sorted::{EntitySet, Sorted};
use crate::value::entity::Entity;

/// Which entities each key names: [`Hashed`] or [`Ordered`].
pub trait KeyMap<K>: Default + Send + Sync + 'static {
    /// The key names this entity.
    fn add(&mut self, key: K, entity: Entity);
    /// The key names this entity no longer.
    fn remove(&mut self, key: &K, entity: Entity);
    /// The entities that the key names, ascending by slot.
    fn of(&self, key: &K) -> Option<&EntitySet>;
}

/// Looks keys up by their hash: equality alone. The hash is the same on every machine, and there is
/// no way to go over the keys, so nothing depends on its order.
pub struct Hashed<K> {
    /// As many as a power of two, at least a fourth of them free. A key lies at the place that the
    /// low bits of its hash name, or at the next one behind that which was free.
    places: Vec<Option<(K, EntitySet)>>,
    keys: usize,
    /// Sets of keys that are gone, kept for their memory.
    spare: Vec<EntitySet>,
}

/// Keeps keys in order: equality and ranges.
pub struct Ordered<K> {
    sets: Sorted<K, EntitySet>,
    /// Sets of keys that are gone, kept for their memory.
    spare: Vec<EntitySet>,
}

impl<K> Default for Hashed<K> {
    fn default() -> Self {
        Self { places: (0..8).map(|_| None).collect(), keys: 0, spare: Vec::new() }
    }
}

impl<K> Default for Ordered<K> {
    fn default() -> Self {
        Self { sets: Sorted::default(), spare: Vec::new() }
    }
}

impl<K: Hash + Eq> Hashed<K> {
    /// Where a key comes if nothing is in its way.
    fn home(&self, key: &K) -> usize {
        let mut hasher = Fnv::default();
        key.hash(&mut hasher);
        hasher.finish() as usize & (self.places.len() - 1)
    }

    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    /// Where a key is, or the free place where it would come.
    fn find(&self, key: &K) -> Result<usize, usize> {
        let mut place = self.home(key);
        while let Some((known, _)) = &self.places[place] {
            if known == key {
                return Ok(place);
            }
            place = self.next(place);
        }
        Err(place)
    }

    /// Twice as many places.
    fn grow(&mut self) {
        let count = self.places.len() * 2;
        let old = std::mem::replace(&mut self.places, (0..count).map(|_| None).collect());
        for (key, entities) in old.into_iter().flatten() {
            let place = self.find(&key).unwrap_or_else(|free| free);
            self.places[place] = Some((key, entities));
        }
    }

    /// Frees a place, and moves up those behind it that were kept from it.
    fn vacate(&mut self, mut free: usize) {
        if let Some((_, entities)) = self.places[free].take() {
            self.spare.push(entities);
            self.keys -= 1;
        }
        let (mask, mut place) = (self.places.len() - 1, free);
        loop {
            place = self.next(place);
            let Some((key, _)) = &self.places[place] else { return };
            // How far it lies behind its home, and behind the free place.
            let (home, gap) =
                (place.wrapping_sub(self.home(key)) & mask, place.wrapping_sub(free) & mask);
            if home >= gap {
                self.places.swap(free, place);
                free = place;
            }
        }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> KeyMap<K> for Hashed<K> {
    fn add(&mut self, key: K, entity: Entity) {
        if (self.keys + 1) * 4 > self.places.len() * 3 {
            self.grow();
        }
        let place = self.find(&key).unwrap_or_else(|free| free);
        if self.places[place].is_none() {
            self.places[place] = Some((key, self.spare.pop().unwrap_or_default()));
            self.keys += 1;
        }
        if let Some((_, entities)) = &mut self.places[place] {
            entities.insert(entity);
        }
    }

    fn remove(&mut self, key: &K, entity: Entity) {
        let Ok(place) = self.find(key) else { return };
        let Some((_, entities)) = &mut self.places[place] else { return };
        entities.remove(entity);
        if entities.is_empty() {
            self.vacate(place);
        }
    }

    fn of(&self, key: &K) -> Option<&EntitySet> {
        self.places[self.find(key).ok()?].as_ref().map(|(_, entities)| entities)
    }
}

impl<K: Ord> Ordered<K> {
    /// Keys in a range with the entities that they name, ascending.
    pub(super) fn range(
        &self,
        keys: impl RangeBounds<K>,
    ) -> impl DoubleEndedIterator<Item = (&K, &EntitySet)> {
        self.sets.range(keys)
    }
}

impl<K: Ord + Send + Sync + 'static> KeyMap<K> for Ordered<K> {
    fn add(&mut self, key: K, entity: Entity) {
        let Self { sets, spare } = self;
        sets.get_or_insert_with(key, || spare.pop().unwrap_or_default()).insert(entity);
    }

    fn remove(&mut self, key: &K, entity: Entity) {
        if let Some(entities) = self.sets.get_mut(key) {
            entities.remove(entity);
            if entities.is_empty() {
                self.spare.extend(self.sets.remove(key));
            }
        }
    }

    fn of(&self, key: &K) -> Option<&EntitySet> {
        self.sets.get(key)
    }
}

/// FNV-1a with 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_map_finds_what_a_tree_finds() {
        let (mut hashed, mut ordered) = (Hashed::<u32>::default(), Ordered::<u32>::default());
        let mut rng = crate::Rng::stream(1, rekindle_schema::Tick(0), 0);
        for _ in 0..5_000 {
            let (key, entity) = (rng.below(400), Entity::from_parts(rng.below(3), 0));
            if rng.one_in(3) {
                hashed.remove(&key, entity);
                ordered.remove(&key, entity);
            } else {
                hashed.add(key, entity);
                ordered.add(key, entity);
            }
        }
        assert_eq!(hashed.keys, ordered.sets.len());
        assert_eq!(hashed.places.iter().flatten().count(), hashed.keys);
        assert!(hashed.keys > 300 && hashed.places.len() <= 1024);
        assert!((0..400).all(|key| hashed.of(&key) == ordered.of(&key)));
    }
}
