//! A query whose items are worked on by several threads.
//!
//! The slots are cut into *lots*, runs of whole pages, which threads take one after the other. What
//! comes of it does not depend on how many threads there are, nor on which takes what:
//!
//! * Each item is given to the function once, and the function sees nothing else that changes: the
//!   compiler sees to that (`Fn + Sync`; queries, resources and commands of a system cannot be used
//!   in it, what they refer to can).
//! * Which slots qualify is decided before the first item.
//! * What the function returns is put in the order of the slots. Systems then use it to spawn, to
//!   send events, to ask for effects: on one thread, in that order.
//! * Of several panics the one at the lowest slot is told, as on one thread.
//!
//! The stamps of changes are not shared between threads: each page gets stamps of its own while it
//! is worked on, and what was marked in them is carried over when all is done.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::slice;
use std::sync::{Mutex, PoisonError};

use crate::ecs::limit::at_entity;
use crate::ecs::query::Query;
use crate::ecs::query::cursor::{ReadGuard, WriteGuard};
use crate::ecs::query::data::QueryData;
use crate::ecs::query::filter::QueryFilter;
use crate::ecs::workers::Workers;
use crate::storage::change::Mut;
use crate::storage::column::{Column, PAGE, bits, place};
use crate::storage::entities::Entities;
use crate::storage::stamp::Stamp;
use crate::value::component::Component;
use crate::value::entity::Entity;

/// Stamps of a page while it is worked on.
type PageStamps = [Cell<Stamp>; PAGE];

/// What a query fetches, cut into lots. Implemented for all [`QueryData`] of this crate.
pub trait ParallelData: QueryData {
    /// What threads leave behind for the thread that waits for them: of each page, which slots were
    /// changed.
    type Changes;
    /// The columns in a run of pages.
    type Lot<'g>: Send;
    /// Stamps of one page, in the hands of one thread.
    type Stamps: Default;
    /// One page in the hands of one thread.
    type Page<'p>;

    /// Room for the changes in so many pages.
    fn changes(pages: usize) -> Self::Changes;
    /// All pages as one lot.
    fn lot<'g>(
        guard: &'g mut Self::Guard<'_>,
        changes: &'g mut Self::Changes,
        pages: usize,
    ) -> Self::Lot<'g>;
    /// Two lots: the first `at` pages, and the others.
    fn split(lot: Self::Lot<'_>, at: usize) -> (Self::Lot<'_>, Self::Lot<'_>);
    /// Begins with a page of a lot.
    fn page<'p>(
        lot: &'p mut Self::Lot<'_>,
        page: usize,
        stamps: &'p Self::Stamps,
    ) -> Self::Page<'p>;
    /// The item of a slot of that page; slots are asked for in ascending order.
    fn next<'p>(page: &mut Self::Page<'p>, bit: usize, stamp: Stamp) -> Option<Self::Item<'p>>;
    /// Notes which slots of a page were changed.
    fn note(lot: &mut Self::Lot<'_>, page: usize, stamps: &Self::Stamps, stamp: Stamp);
    /// Marks what was changed.
    fn mark(guard: &mut Self::Guard<'_>, changes: Self::Changes, stamp: Stamp);
}

/// Pages of a column that is read.
pub struct ReadLot<'g, T> {
    present: &'g [u64],
    starts: &'g [u32],
    /// Of all pages of the column.
    values: &'g [T],
}

/// One page of it.
pub struct ReadPage<'p, T> {
    present: u64,
    values: &'p [T],
}

impl<'g, T> ReadLot<'g, T> {
    fn new(guard: &'g ReadGuard<'_, T>) -> Self {
        let Column { present, places, .. } = guard.column;
        Self { present, starts: places.starts(), values: &guard.values }
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (present, later_present) = self.present.split_at(at.min(self.present.len()));
        let (starts, later_starts) = self.starts.split_at(at.min(self.starts.len()));
        let values = self.values;
        (
            Self { present, starts, values },
            Self { present: later_present, starts: later_starts, values },
        )
    }

    fn page(&self, page: usize) -> ReadPage<'g, T> {
        let values = place(self.starts, page * PAGE).and_then(|start| self.values.get(start..));
        ReadPage {
            present: self.present.get(page).copied().unwrap_or(0),
            values: values.unwrap_or_default(),
        }
    }
}

impl<'p, T> ReadPage<'p, T> {
    #[inline]
    fn get(&self, bit: usize) -> Option<&'p T> {
        if self.present >> bit & 1 == 1 { self.values.get(bit) } else { None }
    }
}

/// Pages of a column that is changed.
pub struct WriteLot<'g, T> {
    present: &'g [u64],
    starts: &'g [u32],
    /// Of these pages.
    values: &'g mut [T],
    /// Where they begin in the column.
    first: usize,
    changes: &'g mut [u64],
}

/// One page of it.
pub struct WritePage<'p, T> {
    present: u64,
    values: slice::IterMut<'p, T>,
    next_bit: usize,
    stamps: &'p PageStamps,
}

/// The stamps of a page that is changed: no slot of it was yet.
pub struct Unmarked(PageStamps);

impl Default for Unmarked {
    fn default() -> Self {
        Self([const { Cell::new(0) }; PAGE])
    }
}

impl<'g, T: Component> WriteLot<'g, T> {
    fn new(guard: &'g mut WriteGuard<'_, T>, changes: &'g mut [u64]) -> Self {
        let Column { present, places, .. } = guard.column;
        let starts = places.starts();
        Self { present, starts, values: &mut guard.values, first: 0, changes }
    }

    fn split(self, at: usize) -> (Self, Self) {
        let first = self.first;
        let (present, later_present) = self.present.split_at(at.min(self.present.len()));
        let (starts, later_starts) = self.starts.split_at(at.min(self.starts.len()));
        // The values of the later pages begin where the first of them does that exists.
        let mut pages = 0..later_starts.len();
        let later_first = pages.find_map(|page| place(later_starts, page * PAGE));
        let middle = later_first.map_or(self.values.len(), |start| start - first);
        let (values, later_values) = self.values.split_at_mut(middle);
        let (changes, later_changes) = self.changes.split_at_mut(at);
        (
            Self { present, starts, values, first, changes },
            Self {
                present: later_present,
                starts: later_starts,
                values: later_values,
                first: first + middle,
                changes: later_changes,
            },
        )
    }

    fn page<'p>(&'p mut self, page: usize, stamps: &'p Unmarked) -> WritePage<'p, T> {
        let start = place(self.starts, page * PAGE).map(|start| start - self.first);
        let values = start.and_then(|start| self.values.get_mut(start..)).unwrap_or_default();
        WritePage {
            present: self.present.get(page).copied().unwrap_or(0),
            values: values.iter_mut(),
            next_bit: 0,
            stamps: &stamps.0,
        }
    }

    fn note(&mut self, page: usize, stamps: &Unmarked, stamp: Stamp) {
        let marked = |(bit, own): (usize, &Cell<Stamp>)| u64::from(own.get() == stamp) << bit;
        self.changes[page] = stamps.0.iter().enumerate().map(marked).fold(0, |all, one| all | one);
    }
}

impl<'p, T> WritePage<'p, T> {
    #[inline]
    fn get(&mut self, bit: usize, stamp: Stamp) -> Option<Mut<'p, T>> {
        if self.present >> bit & 1 == 0 {
            return None;
        }
        let value = self.values.nth(bit - self.next_bit)?;
        self.next_bit = bit + 1;
        Some(Mut::new(value, &self.stamps[bit], stamp))
    }
}

/// Marks slots of a column as changed.
fn mark_changed<T: Component>(guard: &WriteGuard<'_, T>, changes: &[u64], stamp: Stamp) {
    for (page, changed) in changes.iter().enumerate().filter(|(_, changed)| **changed != 0) {
        if let Some(stamps) = guard.column.changed_in(page) {
            bits(*changed).for_each(|bit| stamps[bit].set(stamp));
        }
    }
}

macro_rules! read_data {
    ($data:ty, |$found:ident| $wrap:expr) => {
        impl<T: Component> ParallelData for $data {
            type Changes = ();
            type Lot<'g> = ReadLot<'g, T>;
            type Stamps = ();
            type Page<'p> = ReadPage<'p, T>;

            fn changes(_pages: usize) {}
            fn lot<'g>(
                guard: &'g mut ReadGuard<'_, T>,
                (): &'g mut (),
                _pages: usize,
            ) -> ReadLot<'g, T> {
                ReadLot::new(guard)
            }
            fn split(lot: Self::Lot<'_>, at: usize) -> (Self::Lot<'_>, Self::Lot<'_>) {
                lot.split(at)
            }
            fn page<'p>(lot: &'p mut ReadLot<'_, T>, page: usize, (): &'p ()) -> ReadPage<'p, T> {
                lot.page(page)
            }
            #[inline]
            fn next<'p>(
                page: &mut Self::Page<'p>,
                bit: usize,
                _stamp: Stamp,
            ) -> Option<Self::Item<'p>> {
                let $found = page.get(bit);
                $wrap
            }
            fn note(_lot: &mut ReadLot<'_, T>, _page: usize, (): &(), _stamp: Stamp) {}
            fn mark(_guard: &mut ReadGuard<'_, T>, (): (), _stamp: Stamp) {}
        }
    };
}

read_data!(&T, |found| found);
read_data!(Option<&T>, |found| Some(found));

macro_rules! write_data {
    ($data:ty, |$found:ident| $wrap:expr) => {
        impl<T: Component> ParallelData for $data {
            type Changes = Vec<u64>;
            type Lot<'g> = WriteLot<'g, T>;
            type Stamps = Unmarked;
            type Page<'p> = WritePage<'p, T>;

            fn changes(pages: usize) -> Vec<u64> {
                vec![0; pages]
            }
            fn lot<'g>(
                guard: &'g mut WriteGuard<'_, T>,
                changes: &'g mut Vec<u64>,
                _pages: usize,
            ) -> WriteLot<'g, T> {
                WriteLot::new(guard, changes)
            }
            fn split(lot: Self::Lot<'_>, at: usize) -> (Self::Lot<'_>, Self::Lot<'_>) {
                lot.split(at)
            }
            fn page<'p>(
                lot: &'p mut WriteLot<'_, T>,
                page: usize,
                stamps: &'p Unmarked,
            ) -> WritePage<'p, T> {
                lot.page(page, stamps)
            }
            #[inline]
            fn next<'p>(
                page: &mut Self::Page<'p>,
                bit: usize,
                stamp: Stamp,
            ) -> Option<Self::Item<'p>> {
                let $found = page.get(bit, stamp);
                $wrap
            }
            fn note(lot: &mut WriteLot<'_, T>, page: usize, stamps: &Unmarked, stamp: Stamp) {
                lot.note(page, stamps, stamp);
            }
            fn mark(guard: &mut WriteGuard<'_, T>, changes: Vec<u64>, stamp: Stamp) {
                mark_changed(guard, &changes, stamp);
            }
        }
    };
}

write_data!(&mut T, |found| found);
write_data!(Option<&mut T>, |found| Some(found));

/// Names of the entities in a run of pages.
pub struct EntityLot<'g> {
    first_slot: usize,
    generations: &'g [u32],
}

impl ParallelData for Entity {
    type Changes = ();
    type Lot<'g> = EntityLot<'g>;
    type Stamps = ();
    type Page<'p> = EntityLot<'p>;

    fn changes(_pages: usize) {}
    fn lot<'g>(guard: &'g mut &Entities, (): &'g mut (), _pages: usize) -> EntityLot<'g> {
        EntityLot { first_slot: 0, generations: guard.generations() }
    }
    fn split(lot: Self::Lot<'_>, at: usize) -> (Self::Lot<'_>, Self::Lot<'_>) {
        let slots = at * PAGE;
        let (generations, later) = lot.generations.split_at(slots.min(lot.generations.len()));
        (
            EntityLot { first_slot: lot.first_slot, generations },
            EntityLot { first_slot: lot.first_slot + slots, generations: later },
        )
    }
    fn page<'p>(lot: &'p mut EntityLot<'_>, page: usize, (): &'p ()) -> EntityLot<'p> {
        EntityLot {
            first_slot: lot.first_slot + page * PAGE,
            generations: lot.generations.get(page * PAGE..).unwrap_or_default(),
        }
    }
    #[inline]
    fn next<'p>(page: &mut Self::Page<'p>, bit: usize, _stamp: Stamp) -> Option<Self::Item<'p>> {
        let generation = page.generations.get(bit).copied().unwrap_or(0);
        Some(Entity::from_parts((page.first_slot + bit) as u32, generation))
    }
    fn note(_lot: &mut EntityLot<'_>, _page: usize, (): &(), _stamp: Stamp) {}
    fn mark(_guard: &mut &Entities, (): (), _stamp: Stamp) {}
}

macro_rules! parallel_tuples {
    ($($name:ident $later:ident $index:tt),+) => {
        #[expect(non_snake_case, reason = "the elements are named like their types")]
        impl<$($name: ParallelData),+> ParallelData for ($($name,)+) {
            type Changes = ($($name::Changes,)+);
            type Lot<'g> = ($($name::Lot<'g>,)+);
            type Stamps = ($($name::Stamps,)+);
            type Page<'p> = ($($name::Page<'p>,)+);

            fn changes(pages: usize) -> Self::Changes {
                ($($name::changes(pages),)+)
            }
            fn lot<'g>(
                guard: &'g mut Self::Guard<'_>,
                changes: &'g mut Self::Changes,
                pages: usize,
            ) -> Self::Lot<'g> {
                ($($name::lot(&mut guard.$index, &mut changes.$index, pages),)+)
            }
            fn split(lot: Self::Lot<'_>, at: usize) -> (Self::Lot<'_>, Self::Lot<'_>) {
                $(let ($name, $later) = $name::split(lot.$index, at);)+
                (($($name,)+), ($($later,)+))
            }
            fn page<'p>(
                lot: &'p mut Self::Lot<'_>,
                page: usize,
                stamps: &'p Self::Stamps,
            ) -> Self::Page<'p> {
                ($($name::page(&mut lot.$index, page, &stamps.$index),)+)
            }
            #[inline]
            fn next<'p>(
                page: &mut Self::Page<'p>,
                bit: usize,
                stamp: Stamp,
            ) -> Option<Self::Item<'p>> {
                Some(($($name::next(&mut page.$index, bit, stamp)?,)+))
            }
            fn note(lot: &mut Self::Lot<'_>, page: usize, stamps: &Self::Stamps, stamp: Stamp) {
                $($name::note(&mut lot.$index, page, &stamps.$index, stamp);)+
            }
            fn mark(guard: &mut Self::Guard<'_>, changes: Self::Changes, stamp: Stamp) {
                $($name::mark(&mut guard.$index, changes.$index, stamp);)+
            }
        }
    };
}

parallel_tuples!(A A2 0);
parallel_tuples!(A A2 0, B B2 1);
parallel_tuples!(A A2 0, B B2 1, C C2 2);
parallel_tuples!(A A2 0, B B2 1, C C2 2, D D2 3);
parallel_tuples!(A A2 0, B B2 1, C C2 2, D D2 3, E E2 4);
parallel_tuples!(A A2 0, B B2 1, C C2 2, D D2 3, E E2 4, F F2 5);
parallel_tuples!(A A2 0, B B2 1, C C2 2, D D2 3, E E2 4, F F2 5, G G2 6);
parallel_tuples!(A A2 0, B B2 1, C C2 2, D D2 3, E E2 4, F F2 5, G G2 6, H H2 7);

/// What is left to do, and what went wrong.
struct Remaining<'g, D: ParallelData> {
    lot: Option<D::Lot<'g>>,
    /// The first page of `lot`.
    first: usize,
    /// The panic at the lowest slot so far.
    panic: Option<(usize, Box<dyn Any + Send>)>,
}

impl<'g, D: ParallelData> Remaining<'g, D> {
    /// The next lot and its first page. None after a panic: the lots before it are taken already,
    /// so that the lowest slot that panics is found all the same.
    fn take(&mut self, grain: usize, pages: usize) -> Option<(usize, D::Lot<'g>)> {
        let first = self.first;
        if self.panic.is_some() || first >= pages {
            return None;
        }
        let (lot, later) = D::split(self.lot.take()?, grain.min(pages - first));
        (self.lot, self.first) = (Some(later), first + grain);
        Some((first, lot))
    }

    fn failed(&mut self, slot: usize, panic: Box<dyn Any + Send>) {
        if self.panic.as_ref().is_none_or(|(known, _)| slot < *known) {
            self.panic = Some((slot, panic));
        }
    }
}

/// Locks what no holder of the lock can leave half-done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: ParallelData, F: QueryFilter> Query<'_, D, F> {
    /// Calls `body` with each item, on several threads if the match has some
    /// ([`Workers`](crate::Workers)) and the query is big: worth it from about a thousand entities
    /// on, or less if `body` takes long. What comes of it is the same with any number of threads.
    /// If `body` panics, the error names the entity, that of the lowest slot.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Position, Rules, Velocity};
    /// use rekindle_sim::{Const, IntoSystems as _, Query, Time};
    ///
    /// type Moving<'w> = Query<'w, (&'static mut Position, &'static Velocity)>;
    ///
    /// fn movement(time: Time, rules: Const<Rules>, mut moving: Moving) {
    ///     let rules: &Rules = &rules; // what a parameter refers to can be read on all threads
    ///     moving.par_for_each(|(mut position, velocity)| {
    ///         if rules.goal > 0 {
    ///             position.x += velocity.x * time.delta;
    ///         }
    ///     });
    /// }
    /// let system = movement.every(1);
    /// ```
    ///
    /// A function that changes something outside of its item does not compile:
    ///
    /// ```compile_fail
    /// # use rekindle_sim::doc_game::{Coin, Score};
    /// # use rekindle_sim::{Query, ResMut};
    /// fn count(mut coins: Query<&Coin>, mut score: ResMut<Score>) {
    ///     coins.par_for_each(|coin| score.total += u64::from(coin.worth));
    /// }
    /// ```
    pub fn par_for_each(&mut self, body: impl Fn(D::Item<'_>) + Sync) {
        self.par_map(body);
    }

    /// As [`Query::par_for_each`]; what `body` returned, ascending by slot. With it a system
    /// decides on several threads, and then spawns, sends events or sums up on its own.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Position};
    /// use rekindle_sim::{Commands, Entity, IntoSystems as _, Query};
    ///
    /// fn tidy(mut commands: Commands, mut coins: Query<(Entity, &Position, &Coin)>) {
    ///     let far = coins.par_map(|(entity, at, _)| (at.x.abs() > 50.0).then_some(entity));
    ///     far.into_iter().flatten().for_each(|entity| commands.despawn(entity));
    /// }
    /// let system = tidy.every(30);
    /// ```
    pub fn par_map<R: Send>(&mut self, body: impl Fn(D::Item<'_>) -> R + Sync) -> Vec<R> {
        let pages = self.entities.words().len();
        let workers = self.workers.filter(|workers| pages > workers.grain());
        let mapped = match workers {
            Some(workers) => self.map_in_lots(workers, pages, &body),
            None => self.map_in_turn(&body),
        };
        mapped.unwrap_or_else(|(slot, panic)| {
            resume_unwind(Box::new(at_entity(&said(&*panic), self.entities.in_slot(slot))))
        })
    }

    /// On this thread. An error is the slot at which `body` panicked, with the panic.
    fn map_in_turn<R>(
        &mut self,
        body: &(impl Fn(D::Item<'_>) -> R + Sync),
    ) -> Result<Vec<R>, (usize, Box<dyn Any + Send>)> {
        let slot = Cell::new(0);
        // All of them, also while a limit is set: a panic names its entity by itself.
        let words = self.entities.words();
        let all = || {
            let (mut results, mut items) = (Vec::new(), self.iter_mut());
            items.slots.words = words;
            while let Some((at, item)) = items.next_with_slot() {
                slot.set(at);
                results.push(body(item));
            }
            results
        };
        catch_unwind(AssertUnwindSafe(all)).map_err(|panic| (slot.get(), panic))
    }

    /// On all threads that there are.
    fn map_in_lots<R: Send>(
        &mut self,
        workers: &dyn Workers,
        pages: usize,
        body: &(impl Fn(D::Item<'_>) -> R + Sync),
    ) -> Result<Vec<R>, (usize, Box<dyn Any + Send>)> {
        let (stamp, grain) = (self.run.stamp, workers.grain().max(1));
        let masks: Vec<u64> = (0..pages).map(|page| self.mask(page)).collect();
        let mut changes = D::changes(pages);
        let lot = Some(D::lot(&mut self.data, &mut changes, pages));
        let remaining = Mutex::new(Remaining::<D> { lot, first: 0, panic: None });
        let results = Mutex::new(Vec::with_capacity(pages.div_ceil(grain)));
        workers.everywhere(&|| {
            while let Some((first, lot)) = { lock(&remaining).take(grain, pages) } {
                let masks = &masks[first..pages.min(first + grain)];
                match map_lot::<D, R>(lot, first, masks, stamp, body) {
                    Ok(of_lot) => lock(&results).push((first, of_lot)),
                    Err((slot, panic)) => lock(&remaining).failed(slot, panic),
                }
            }
        });
        let panic = remaining.into_inner().unwrap_or_else(PoisonError::into_inner).panic;
        D::mark(&mut self.data, changes, stamp);
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_unstable_by_key(|(first, _)| *first);
        match panic {
            Some(panic) => Err(panic),
            None => Ok(results.into_iter().flat_map(|(_, of_lot)| of_lot).collect()),
        }
    }
}

/// Works on one lot, on one thread.
fn map_lot<D: ParallelData, R>(
    mut lot: D::Lot<'_>,
    first: usize,
    masks: &[u64],
    stamp: Stamp,
    body: &impl Fn(D::Item<'_>) -> R,
) -> Result<Vec<R>, (usize, Box<dyn Any + Send>)> {
    let slot = Cell::new(0);
    let all = || {
        let mut results = Vec::new();
        for (page, mask) in masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
            let stamps = D::Stamps::default();
            let mut items = D::page(&mut lot, page, &stamps);
            for bit in bits(*mask) {
                slot.set((first + page) * PAGE + bit);
                if let Some(item) = D::next(&mut items, bit, stamp) {
                    results.push(body(item));
                }
            }
            drop(items);
            D::note(&mut lot, page, &stamps, stamp);
        }
        results
    };
    catch_unwind(AssertUnwindSafe(all)).map_err(|panic| (slot.get(), panic))
}

/// The words of a panic.
pub(crate) fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
