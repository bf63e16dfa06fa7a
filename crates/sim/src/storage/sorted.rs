//! A map in order that allocates nothing once it is warm: where keys come and go in each tick, a
//! tree would allocate and free a node for each.
//!
//! Used by indexes and by relations ([`crate::ecs`]). Entries lie in chunks of at most [`FULL`]; a
//! chunk that runs empty is kept for the next one that is needed.

use std::ops::{Bound, RangeBounds};

use crate::value::entity::Entity;

/// Entries of a chunk at most: so many are moved at most when one comes or goes.
const FULL: usize = 64;

/// Values by key, ascending.
#[derive(Debug)]
pub(crate) struct Sorted<K, V> {
    /// None of them is empty.
    chunks: Vec<Vec<(K, V)>>,
    /// Empty chunks, kept for their memory.
    spare: Vec<Vec<(K, V)>>,
    len: usize,
}

/// A chunk, and a place in it.
type At = (usize, usize);

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self { chunks: Vec::new(), spare: Vec::new(), len: 0 }
    }
}

impl<K, V> Sorted<K, V> {
    /// For how many entries a chunk has room at first: few of them grow again and again.
    const FIRST: usize = if size_of::<(K, V)>() <= 16 { 16 } else { 4 };

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, ascending by key.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.chunks.iter().flatten().map(|(key, value)| (key, value))
    }

    /// Takes all entries out; their memory is kept.
    pub(crate) fn clear(&mut self) {
        for mut chunk in self.chunks.drain(..) {
            chunk.clear();
            self.spare.push(chunk);
        }
        self.len = 0;
    }
}

impl<K: Ord, V> Sorted<K, V> {
    /// Where a key is, or where it would come.
    fn find(&self, key: &K) -> Result<At, At> {
        let behind = self.chunks.partition_point(|chunk| match chunk.first() {
            Some((first, _)) => first <= key,
            None => true,
        });
        let Some(chunk) = behind.checked_sub(1) else { return Err((0, 0)) };
        match self.chunks[chunk].binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(place) => Ok((chunk, place)),
            Err(place) => Err((chunk, place)),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (chunk, place) = self.find(key).ok()?;
        Some(&self.chunks[chunk][place].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (chunk, place) = self.find(key).ok()?;
        Some(&mut self.chunks[chunk][place].1)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The value of a key, which it gets from `make` if it has none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let (chunk, place) = match self.find(&key) {
            Ok(at) => at,
            Err(at) => self.put(at, (key, make())),
        };
        &mut self.chunks[chunk][place].1
    }

    /// Puts an entry where [`Sorted::find`] says; where it is then.
    fn put(&mut self, (chunk, place): At, entry: (K, V)) -> At {
        self.len += 1;
        let mut at = (chunk, place);
        let full = self.chunks.get(chunk).is_none_or(|chunk| chunk.len() >= FULL);
        if full {
            let mut new = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(Self::FIRST));
            // What comes behind everything, as new entities do, leaves full chunks behind.
            let keep =
                if chunk + 1 >= self.chunks.len() && place == FULL { FULL } else { FULL / 2 };
            match self.chunks.get_mut(chunk) {
                None => self.chunks.insert(chunk, new),
                Some(old) => {
                    new.extend(old.drain(keep..));
                    self.chunks.insert(chunk + 1, new);
                    if place > keep || keep == FULL {
                        at = (chunk + 1, place - keep);
                    }
                }
            }
        }
        self.chunks[at.0].insert(at.1, entry);
        at
    }

    /// Takes a key out; what it had.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (chunk, place) = self.find(key).ok()?;
        let (_, value) = self.chunks[chunk].remove(place);
        self.len -= 1;
        let left = self.chunks[chunk].len();
        let next = self.chunks.get(chunk + 1).map(Vec::len);
        if left == 0 {
            self.spare.push(self.chunks.remove(chunk));
        } else if next.is_some_and(|next| left + next <= FULL / 2) {
            let mut next = self.chunks.remove(chunk + 1);
            self.chunks[chunk].append(&mut next);
            self.spare.push(next);
        }
        Some(value)
    }

    /// The entries whose keys are in a range, ascending.
    ///
    /// # Panics
    /// If the range ends before it begins.
    pub(crate) fn range(
        &self,
        keys: impl RangeBounds<K>,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        let end = (self.chunks.len(), 0);
        let place = |key: &K, behind: bool| match self.find(key) {
            Ok((chunk, place)) => (chunk, place + usize::from(behind)),
            Err(at) => at,
        };
        let from = match keys.start_bound() {
            Bound::Included(key) => place(key, false),
            Bound::Excluded(key) => place(key, true),
            Bound::Unbounded => (0, 0),
        };
        let to = match keys.end_bound() {
            Bound::Included(key) => place(key, true),
            Bound::Excluded(key) => place(key, false),
            Bound::Unbounded => end,
        };
        assert!(from <= to, "a range of keys ends before it begins");
        let chunks = self.chunks.iter().enumerate().take(to.0 + 1).skip(from.0);
        let entries = chunks.flat_map(move |(number, chunk)| {
            let first = if number == from.0 { from.1 } else { 0 };
            let last = if number == to.0 { to.1 } else { chunk.len() };
            &chunk[first..last]
        });
        entries.map(|(key, value)| (key, value))
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Sorted<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

/// Entities, ascending by slot, each once: what an [`Index`](crate::Index) knows of a key.
#[derive(Debug, Default, PartialEq)]
pub struct EntitySet {
    entities: Sorted<Entity, ()>,
}

impl EntitySet {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, entity: Entity) -> bool {
        self.entities.contains(&entity)
    }

    /// All of them, ascending by slot.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Entity> {
        self.entities.iter().map(|(entity, ())| *entity)
    }

    /// Adds one.
    pub fn insert(&mut self, entity: Entity) {
        self.entities.get_or_insert_with(entity, || ());
    }

    /// Takes one out.
    pub fn remove(&mut self, entity: Entity) {
        self.entities.remove(&entity);
    }

    /// Takes all of them out; their memory is kept.
    pub fn clear(&mut self) {
        self.entities.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rekindle_schema::Tick;

    use super::*;
    use crate::Rng;

    #[test]
    fn it_is_what_a_tree_is() {
        let (mut sorted, mut tree) = (Sorted::default(), BTreeMap::new());
        let mut rng = Rng::stream(1, Tick(0), 0);
        for round in 0..20_000_u32 {
            // Grows, shrinks to nothing, and grows again.
            let growing = round / 2_500 % 2 == 0;
            let key = rng.below(2_000);
            if rng.below(4) == 0 || !growing {
                let from = tree.range(key..).next().map_or(key, |(key, _)| *key);
                assert_eq!(sorted.remove(&from), tree.remove(&from));
            } else {
                *sorted.get_or_insert_with(key, || 0) += round;
                *tree.entry(key).or_insert(0) += round;
            }
            assert_eq!(sorted.len(), tree.len());
            assert_eq!(sorted.get(&key), tree.get(&key));
            if round % 97 == 0 {
                assert!(sorted.iter().eq(tree.iter()));
                assert!(sorted.iter().rev().eq(tree.iter().rev()));
                let (a, b) = (rng.below(2_000), rng.below(2_000));
                let (a, b) = (a.min(b), a.max(b));
                assert!(sorted.range(a..b).eq(tree.range(a..b)), "{a}..{b}");
                assert!(sorted.range(a..=b).rev().eq(tree.range(a..=b).rev()), "{a}..={b}");
                assert!(sorted.range(b..).eq(tree.range(b..)));
                assert_eq!(sorted.contains(&a), tree.contains_key(&a));
                let behind = (Bound::Excluded(a), Bound::Unbounded);
                assert!(sorted.range(behind).eq(tree.range(behind)));
            }
        }
        sorted.clear();
        assert!(sorted.is_empty() && sorted.iter().next().is_none());
    }

    #[test]
    fn what_ascends_fills_chunks_and_what_goes_leaves_none_behind() {
        let mut set = EntitySet::default();
        for slot in 0..640 {
            set.insert(Entity::from_parts(slot, 0));
        }
        assert_eq!(set.entities.chunks.len(), 10);
        for slot in 0..639 {
            set.remove(Entity::from_parts(slot, 0));
        }
        assert_eq!((set.entities.chunks.len(), set.len()), (1, 1));
        assert!(set.contains(Entity::from_parts(639, 0)) && !set.is_empty());
    }
}
