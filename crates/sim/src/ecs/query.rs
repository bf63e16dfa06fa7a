//! Queries: what a system sees of the entities.
//!
//! `Query<(&mut Position, &Velocity), Without<Frozen>>` goes over the entities that have a position
//! and a velocity and are not frozen, ascending by slot. A query in which a component is optional
//! (`Option<&T>`) takes entities with and without it. `Entity` gives the name.

pub(crate) mod aggregate;
pub(crate) mod cursor;
pub(crate) mod data;
pub(crate) mod filter;
pub(crate) mod parallel;

use crate::ecs::query::data::QueryData;
use crate::ecs::query::filter::QueryFilter;
use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::SystemParam;
use crate::ecs::workers::Workers;
use crate::ecs::world::World;
use crate::storage::column::PAGE;
use crate::storage::entities::Entities;
use crate::storage::stamp::{Run, Stamp};
use crate::value::entity::Entity;

/// The entities that have what `D` fetches and pass `F`.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Duel, Position};
/// use rekindle_sim::{Entity, Harness, Without};
///
/// let mut duel = Harness::<Duel>::with_config(7, r#"{"coins": 4}"#);
/// let world = duel.world_mut();
/// world.spawn(Position { x: 9.0, y: 9.0 });
///
/// // All coins, to change.
/// world.query::<(&mut Position, &Coin), (), _>(|mut coins| {
///     for (mut position, coin) in &mut coins {
///         position.y = f32::from(coin.worth);
///     }
/// });
/// // What has a place and is no coin, to read.
/// let others = world.query::<(Entity, &Position), Without<Coin>, _>(|things| {
///     things.iter().map(|(entity, position)| (entity.slot(), position.y)).collect::<Vec<_>>()
/// });
/// assert_eq!(others, [(4, 9.0)]);
/// ```
pub struct Query<'w, D: QueryData, F: QueryFilter = ()> {
    entities: &'w Entities,
    /// The taken slots that its loops go over, 64 per word: all, but for [`blame`].
    ///
    /// [`blame`]: crate::game::blame
    seen: &'w [u64],
    data: D::Guard<'w>,
    filter: F::Guard<'w>,
    run: Run,
    /// Threads that help with it, if the match has some.
    workers: Option<&'w dyn Workers>,
}

impl<'w, D: QueryData, F: QueryFilter> Query<'w, D, F> {
    pub(crate) fn new(state: &(D::State, F::State), world: &'w World, run: &Run) -> Option<Self> {
        Some(Self {
            entities: world.entities(),
            seen: world.seen_by(run),
            data: D::guard(&state.0, world)?,
            filter: F::guard(&state.1, world)?,
            run: *run,
            workers: world.workers.as_deref(),
        })
    }

    /// All items, ascending by slot, to read.
    pub fn iter(&self) -> QueryIter<'_, 'w, D, F> {
        let cursor = D::read_cursor(&self.data);
        let run = D::read_run(&cursor, 0..0);
        let (words, filter, Run { stamp, last, .. }) = (self.seen, &self.filter, self.run);
        let slots = ReadSlots { words, filter, cursor, stamp, last, next_page: 0, mask: 0 };
        QueryIter { slots, run }
    }

    /// All items, ascending by slot, to change.
    pub fn iter_mut(&mut self) -> QueryIterMut<'_, 'w, D, F> {
        let mut cursor = D::cursor(&mut self.data);
        let run = D::run(&mut cursor, 0..0);
        let (words, filter, Run { stamp, last, .. }) = (self.seen, &self.filter, self.run);
        let slots = Slots { words, filter, cursor, stamp, last, next_page: 0, mask: 0 };
        QueryIterMut { slots, run }
    }

    /// The items of these entities, in their order, to read: those that are gone or not of this
    /// query are left out. With an index: `query.iter_many(by_team.of(&3))`. To change them use
    /// [`Query::get_mut`].
    pub fn iter_many(
        &self,
        entities: impl IntoIterator<Item = Entity>,
    ) -> impl Iterator<Item = D::ReadItem<'_>> {
        entities.into_iter().filter_map(|entity| self.get(entity))
    }

    /// The item of one entity, to read; `None` if it is gone or not of this query.
    pub fn get(&self, entity: Entity) -> Option<D::ReadItem<'_>> {
        if self.contains(entity) { D::get(&self.data, entity.slot() as usize) } else { None }
    }

    /// The item of one entity, to change; `None` if it is gone or not of this query.
    pub fn get_mut(&mut self, entity: Entity) -> Option<D::Item<'_>> {
        if self.contains(entity) {
            D::get_mut(&mut self.data, entity.slot() as usize, self.run.stamp)
        } else {
            None
        }
    }

    /// Whether an entity is alive and of this query.
    pub fn contains(&self, entity: Entity) -> bool {
        let (page, bit) = (entity.slot() as usize / PAGE, entity.slot() as usize % PAGE);
        self.entities.contains(entity) && self.mask(page) >> bit & 1 == 1
    }

    /// The taken slots of a page whose entities are of this query.
    fn mask(&self, page: usize) -> u64 {
        let alive = self.entities.words().get(page).copied().unwrap_or(0);
        let mask = alive & D::mask(&self.data, page);
        if mask == 0 { 0 } else { mask & F::mask(&self.filter, page, self.run.last) }
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

macro_rules! iterators {
    ($(
        $(#[$doc:meta])*
        $iter:ident, $slots:ident, $cursor:ident, $item:ident, $seek:ident, $run:ident,
        $begin:ident, |$found:ident, $stamp:ident| $of_run:expr,
        |$cursor_of:ident, $at:ident| $single:expr;
    )*) => {$(
        $(#[$doc])*
        pub struct $iter<'g, 'w, D: QueryData, F: QueryFilter> {
            slots: $slots<'g, 'w, D, F>,
            /// Neighbours that come before all other slots.
            run: D::$run<'g>,
        }

        /// The slots that are still to come.
        struct $slots<'g, 'w, D: QueryData, F: QueryFilter> {
            /// Taken slots, 64 per word.
            words: &'g [u64],
            filter: &'g F::Guard<'w>,
            cursor: D::$cursor<'g>,
            /// What changes are marked with.
            stamp: Stamp,
            /// Changes with a greater stamp are new to the filter.
            last: Stamp,
            /// The page after the one that `mask` is of.
            next_page: usize,
            mask: u64,
        }

        impl<'g, D: QueryData, F: QueryFilter> $slots<'g, '_, D, F> {
            /// Goes to the next page; whether there is one.
            #[inline]
            fn turn(&mut self) -> bool {
                let page = self.next_page;
                let Some(&alive) = self.words.get(page) else { return false };
                self.next_page += 1;
                let mask = alive & D::$seek(&mut self.cursor, page);
                self.mask = match mask {
                    0 => 0,
                    mask => mask & F::mask(self.filter, page, self.last),
                };
                true
            }

            /// Goes to the next page that has some, unless this one still has; whether there is
            /// one.
            #[inline]
            fn find(&mut self) -> bool {
                while self.mask == 0 {
                    if !self.turn() {
                        return false;
                    }
                }
                true
            }

            /// Takes the next ones that are neighbours; there is at least one. A run goes on into
            /// later pages, unless what the filter says of those can still change.
            #[inline]
            fn run(&mut self) -> D::$run<'g> {
                let first = self.mask.trailing_zeros() as usize;
                let count = (self.mask >> first).trailing_ones() as usize;
                // Adding to the lowest bit carries through those that follow it: they are cleared.
                self.mask &= self.mask.wrapping_add(1 << first);
                let start = (self.next_page - 1) * PAGE + first;
                let mut slots = start..start + count;
                while F::FIXED && slots.end == self.next_page * PAGE && self.turn() {
                    let more = self.mask.trailing_ones();
                    slots.end += more as usize;
                    self.mask &= u64::MAX.checked_shl(more).unwrap_or(0);
                }
                D::$begin(&mut self.cursor, slots)
            }

            /// Takes the next one: its slot and its item.
            #[inline]
            fn single(&mut self) -> Option<(usize, D::$item<'g>)> {
                let bit = self.mask.trailing_zeros() as usize;
                self.mask &= self.mask - 1;
                let slot = (self.next_page - 1) * PAGE + bit;
                let ($cursor_of, $at, $stamp) = (&mut self.cursor, slot, self.stamp);
                Some((slot, $single?))
            }
        }

        impl<'g, D: QueryData, F: QueryFilter> Iterator for $iter<'g, '_, D, F> {
            type Item = D::$item<'g>;
            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                let $stamp = self.slots.stamp;
                loop {
                    // Items come out of this one place, so that a loop over a run is a loop of its
                    // own for the compiler.
                    if let Some($found) = self.run.next() {
                        return Some($of_run);
                    }
                    if !self.slots.find() {
                        return None;
                    }
                    if !D::RUNS {
                        return self.slots.single().map(|(_, item)| item);
                    }
                    self.run = self.slots.run();
                }
            }

            /// What `for_each`, `sum` and the like do: the loop over a run has no other conditions
            /// in it, so the compiler may work on several values at once.
            #[inline]
            fn fold<B, G: FnMut(B, Self::Item) -> B>(self, first: B, mut body: G) -> B {
                let Self { mut slots, run } = self;
                let $stamp = slots.stamp;
                let mut all = run.fold(first, |all, $found| body(all, $of_run));
                while slots.find() {
                    if D::RUNS {
                        all = slots.run().fold(all, |all, $found| body(all, $of_run));
                    } else {
                        let Some((_, item)) = slots.single() else { return all };
                        all = body(all, item);
                    }
                }
                all
            }
        }
    )*};
}

iterators! {
    /// See [`Query::iter`].
    QueryIter, ReadSlots, ReadCursor, ReadItem, read_seek, ReadRun, read_run,
    |found, _stamp| D::of_read_run(found), |cursor, slot| D::read_item(cursor, slot);
    /// See [`Query::iter_mut`].
    QueryIterMut, Slots, Cursor, Item, seek, Run, run,
    |found, stamp| D::of_run(found, stamp), |cursor, slot| D::item(cursor, slot, stamp);
}

impl<'g, D: QueryData, F: QueryFilter> QueryIterMut<'g, '_, D, F> {
    /// The next item, with the slot of its entity. Not to be mixed with `next`.
    fn next_with_slot(&mut self) -> Option<(usize, D::Item<'g>)> {
        if !self.slots.find() {
            return None;
        }
        self.slots.single()
    }
}

impl<'g, 'w, D: QueryData, F: QueryFilter> IntoIterator for &'g Query<'w, D, F> {
    type Item = D::ReadItem<'g>;
    type IntoIter = QueryIter<'g, 'w, D, F>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'g, 'w, D: QueryData, F: QueryFilter> IntoIterator for &'g mut Query<'w, D, F> {
    type Item = D::Item<'g>;
    type IntoIter = QueryIterMut<'g, 'w, D, F>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<D: QueryData + 'static, F: QueryFilter + 'static> SystemParam for Query<'_, D, F> {
    type State = (D::State, F::State);
    type Item<'w> = Query<'w, D, F>;
    fn init(registry: &Registry, access: &mut Access) -> Self::State {
        (D::init(registry, access), F::init(registry, access))
    }
    fn get<'w>(state: &'w Self::State, world: &'w World, run: &Run) -> Option<Query<'w, D, F>> {
        Query::new(state, world, run)
    }
}

impl World {
    /// Runs `body` with a query, as a system would see it:
    /// `world.query::<(Entity, &mut Health), With<Player>, _>(|mut query| …)`.
    ///
    /// # Panics
    /// If a component is not registered, or two parts of the query ask for the same one and one of
    /// them changes it.
    pub fn query<D: QueryData, F: QueryFilter, R>(
        &mut self,
        body: impl FnOnce(Query<'_, D, F>) -> R,
    ) -> R {
        let mut access = Access::default();
        let state = (D::init(&self.registry, &mut access), F::init(&self.registry, &mut access));
        match (access.errors.first(), Query::new(&state, self, &self.now)) {
            (None, Some(query)) => body(query),
            (problem, _) => panic!("{}", problem.map_or("a column is in use", String::as_str)),
        }
    }
}
