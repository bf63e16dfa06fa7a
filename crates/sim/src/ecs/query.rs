//! Queries: what a system sees of the entities.
//!
//! `Query<(&mut Position, &Velocity), Without<Frozen>>` goes over the entities that have a position
//! and a velocity and are not frozen, ascending by slot. A query in which a component is optional
//! (`Option<&T>`) takes entities with and without it. `Entity` gives the name.

pub(crate) mod filter;

use std::cell::{Cell, Ref, RefMut};
use std::ops::{Deref, DerefMut};
use std::slice;

use crate::ecs::query::filter::QueryFilter;
use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::column::{Column, PAGE, Pages, Stamps};
use crate::storage::entities::{Entities, Entity};
use crate::storage::stamp::{Run, Stamp};
use crate::value::component::Component;

/// A component that can be changed: the first `&mut` access marks it as changed by this system in
/// this tick.
pub struct Mut<'a, T> {
    value: &'a mut T,
    changed: &'a Cell<Stamp>,
    stamp: Stamp,
}

impl<'a, T> Mut<'a, T> {
    pub(crate) fn new(value: &'a mut T, changed: &'a Cell<Stamp>, stamp: Stamp) -> Self {
        Self { value, changed, stamp }
    }

    /// The value, marked as changed.
    pub fn into_inner(self) -> &'a mut T {
        self.changed.set(self.stamp);
        self.value
    }

    /// Sets the value, and marks it as changed only if it differs.
    pub fn set_if_neq(&mut self, value: T)
    where
        T: PartialEq,
    {
        if *self.value != value {
            **self = value;
        }
    }
}

impl<T> Deref for Mut<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Mut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.changed.set(self.stamp);
        self.value
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Mut<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}

/// What a query can fetch: `&T`, `&mut T`, `Option<&T>`, `Option<&mut T>`, [`Entity`], and tuples
/// of those.
///
/// A *guard* holds the borrow of the columns, a *cursor* goes over them page by page.
pub trait QueryData {
    /// Which columns.
    type State: Send + Sync + 'static;
    /// The borrowed columns.
    type Guard<'w>;
    /// Goes over the pages and may change values.
    type Cursor<'g>;
    /// Goes over the pages.
    type ReadCursor<'g>;
    /// What `iter_mut` yields.
    type Item<'g>;
    /// What `iter` yields.
    type ReadItem<'g>;

    /// Resolves and declares the columns.
    fn init(registry: &Registry, access: &mut Access) -> Self::State;
    /// Borrows the columns.
    fn guard<'w>(state: &Self::State, world: &'w World) -> Option<Self::Guard<'w>>;
    /// Which slots of a page qualify.
    fn mask(guard: &Self::Guard<'_>, page: usize) -> u64;
    /// Starts at the first page.
    fn cursor<'g>(guard: &'g mut Self::Guard<'_>, stamp: Stamp) -> Self::Cursor<'g>;
    /// The qualifying slots of a page; pages are asked for in ascending order.
    fn seek(cursor: &mut Self::Cursor<'_>, page: usize) -> u64;
    /// The item of a slot of that page; slots are asked for in ascending order.
    fn item<'g>(cursor: &mut Self::Cursor<'g>, bit: usize) -> Option<Self::Item<'g>>;
    /// As [`QueryData::cursor`].
    fn read_cursor<'g>(guard: &'g Self::Guard<'_>) -> Self::ReadCursor<'g>;
    /// As [`QueryData::seek`].
    fn read_seek(cursor: &mut Self::ReadCursor<'_>, page: usize) -> u64;
    /// As [`QueryData::item`].
    fn read_item<'g>(cursor: &Self::ReadCursor<'g>, bit: usize) -> Option<Self::ReadItem<'g>>;
    /// The item of any slot.
    fn get<'g>(guard: &'g Self::Guard<'_>, slot: usize) -> Option<Self::ReadItem<'g>>;
    /// The item of any slot.
    fn get_mut<'g>(
        guard: &'g mut Self::Guard<'_>,
        slot: usize,
        stamp: Stamp,
    ) -> Option<Self::Item<'g>>;
}

/// The borrow of a column that is read.
pub struct ReadGuard<'w, T> {
    column: &'w Column<T>,
    values: Ref<'w, Pages<T>>,
}

/// Goes over a column that is read.
pub struct ReadCursor<'g, T> {
    present: &'g [u64],
    pages: &'g [Option<Box<[T]>>],
    page: Option<&'g [T]>,
    mask: u64,
}

impl<'g, T> ReadCursor<'g, T> {
    fn new(guard: &'g ReadGuard<'_, T>) -> Self {
        Self::over(guard.column, &guard.values)
    }

    fn over(column: &'g Column<T>, pages: &'g Pages<T>) -> Self {
        Self { present: &column.present, pages, page: None, mask: 0 }
    }

    #[inline]
    fn seek(&mut self, page: usize) -> u64 {
        self.mask = self.present.get(page).copied().unwrap_or(0);
        self.page = self.pages.get(page).and_then(Option::as_deref);
        self.mask
    }

    #[inline]
    fn item(&self, bit: usize) -> Option<&'g T> {
        self.page?.get(bit)
    }

    #[inline]
    fn item_if_present(&self, bit: usize) -> Option<&'g T> {
        if self.mask >> bit & 1 == 1 { self.item(bit) } else { None }
    }
}

/// The borrow of a column that is changed.
pub struct WriteGuard<'w, T> {
    column: &'w Column<T>,
    values: RefMut<'w, Pages<T>>,
}

/// Goes over a column that is changed.
pub struct WriteCursor<'g, T> {
    present: &'g [u64],
    stamps: &'g [Option<Box<Stamps>>],
    pages: slice::IterMut<'g, Option<Box<[T]>>>,
    next_page: usize,
    values: slice::IterMut<'g, T>,
    next_bit: usize,
    changed: Option<&'g [Cell<Stamp>; PAGE]>,
    mask: u64,
    stamp: Stamp,
}

impl<'g, T> WriteCursor<'g, T> {
    fn new(guard: &'g mut WriteGuard<'_, T>, stamp: Stamp) -> Self {
        let (pages, values) = (guard.values.iter_mut(), [].iter_mut());
        let Column { present, stamps, .. } = guard.column;
        Self {
            present,
            stamps,
            pages,
            next_page: 0,
            values,
            next_bit: 0,
            changed: None,
            mask: 0,
            stamp,
        }
    }

    #[inline]
    fn seek(&mut self, page: usize) -> u64 {
        self.mask = self.present.get(page).copied().unwrap_or(0);
        if self.mask != 0 {
            let values = self.pages.nth(page - self.next_page).and_then(Option::as_deref_mut);
            self.next_page = page + 1;
            self.values = values.unwrap_or_default().iter_mut();
            self.next_bit = 0;
            self.changed =
                self.stamps.get(page).and_then(Option::as_deref).map(|stamps| &stamps.changed);
        }
        self.mask
    }

    #[inline]
    fn item(&mut self, bit: usize) -> Option<Mut<'g, T>> {
        let value = self.values.nth(bit - self.next_bit)?;
        self.next_bit = bit + 1;
        Some(Mut::new(value, &self.changed?[bit], self.stamp))
    }

    #[inline]
    fn item_if_present(&mut self, bit: usize) -> Option<Mut<'g, T>> {
        if self.mask >> bit & 1 == 1 { self.item(bit) } else { None }
    }
}

fn write_get<'g, T: Component>(
    guard: &'g mut WriteGuard<'_, T>,
    slot: usize,
    stamp: Stamp,
) -> Option<Mut<'g, T>> {
    if !guard.column.has(slot) {
        return None;
    }
    let value = guard.values.get_mut(slot / PAGE)?.as_mut()?.get_mut(slot % PAGE)?;
    let changed = &guard.column.stamps.get(slot / PAGE)?.as_ref()?.changed[slot % PAGE];
    Some(Mut::new(value, changed, stamp))
}

fn read_get<'g, T>(column: &Column<T>, values: &'g Pages<T>, slot: usize) -> Option<&'g T> {
    if column.has(slot) { values.get(slot / PAGE)?.as_ref()?.get(slot % PAGE) } else { None }
}

pub(crate) fn present<T>(column: &Column<T>, page: usize) -> u64 {
    column.present.get(page).copied().unwrap_or(0)
}

macro_rules! component_data {
    (
        $data:ty, $guard:ident, $cursor:ident, $item:ty, $read:ty, $access:ident, $borrow:ident,
        mask($column:ident, $page:ident) $mask:expr, $next:ident, $wrap:expr
    ) => {
        impl<T: Component> QueryData for $data {
            type State = usize;
            type Guard<'w> = $guard<'w, T>;
            type Cursor<'g> = $cursor<'g, T>;
            type ReadCursor<'g> = ReadCursor<'g, T>;
            type Item<'g> = $item;
            type ReadItem<'g> = $read;

            fn init(registry: &Registry, access: &mut Access) -> usize {
                let index = registry.component::<T>(access);
                access.$access(index, T::ID);
                index
            }
            fn guard<'w>(state: &usize, world: &'w World) -> Option<$guard<'w, T>> {
                let column = world.column::<T>(*state)?;
                Some($guard { column, values: column.values.$borrow().ok()? })
            }
            #[inline]
            fn mask(guard: &$guard<'_, T>, $page: usize) -> u64 {
                let $column = guard.column;
                let _ = ($column, $page);
                $mask
            }
            #[inline]
            fn seek(cursor: &mut $cursor<'_, T>, $page: usize) -> u64 {
                let found = cursor.seek($page);
                $wrap(found)
            }
            #[inline]
            fn read_seek(cursor: &mut ReadCursor<'_, T>, page: usize) -> u64 {
                let found = cursor.seek(page);
                $wrap(found)
            }
            component_data!(@$next $guard $cursor);
        }
    };
    (@read $guard:ident $cursor:ident) => {
        fn cursor<'g>(guard: &'g mut $guard<'_, T>, _stamp: Stamp) -> $cursor<'g, T> {
            ReadCursor::new(guard)
        }
        #[inline]
        fn item<'g>(cursor: &mut $cursor<'g, T>, bit: usize) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            cursor.item(bit)
        }
        component_data!(@reads $guard item);
        fn get_mut<'g>(guard: &'g mut $guard<'_, T>, slot: usize, _stamp: Stamp) -> Option<Self::Item<'g>> {
            read_get(guard.column, &guard.values, slot)
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            read_get(guard.column, &guard.values, slot)
        }
    };
    (@write $guard:ident $cursor:ident) => {
        fn cursor<'g>(guard: &'g mut $guard<'_, T>, stamp: Stamp) -> $cursor<'g, T> {
            WriteCursor::new(guard, stamp)
        }
        #[inline]
        fn item<'g>(cursor: &mut $cursor<'g, T>, bit: usize) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            cursor.item(bit)
        }
        component_data!(@reads $guard item);
        fn get_mut<'g>(guard: &'g mut $guard<'_, T>, slot: usize, stamp: Stamp) -> Option<Self::Item<'g>> {
            write_get(guard, slot, stamp)
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            read_get(guard.column, &guard.values, slot)
        }
    };
    (@read_option $guard:ident $cursor:ident) => {
        fn cursor<'g>(guard: &'g mut $guard<'_, T>, _stamp: Stamp) -> $cursor<'g, T> {
            ReadCursor::new(guard)
        }
        #[inline]
        fn item<'g>(cursor: &mut $cursor<'g, T>, bit: usize) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            Some(cursor.item_if_present(bit))
        }
        component_data!(@reads_option $guard);
        fn get_mut<'g>(guard: &'g mut $guard<'_, T>, slot: usize, _stamp: Stamp) -> Option<Self::Item<'g>> {
            Some(read_get(guard.column, &guard.values, slot))
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            Some(read_get(guard.column, &guard.values, slot))
        }
    };
    (@write_option $guard:ident $cursor:ident) => {
        fn cursor<'g>(guard: &'g mut $guard<'_, T>, stamp: Stamp) -> $cursor<'g, T> {
            WriteCursor::new(guard, stamp)
        }
        #[inline]
        fn item<'g>(cursor: &mut $cursor<'g, T>, bit: usize) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            Some(cursor.item_if_present(bit))
        }
        component_data!(@reads_option $guard);
        fn get_mut<'g>(guard: &'g mut $guard<'_, T>, slot: usize, stamp: Stamp) -> Option<Self::Item<'g>> {
            Some(write_get(guard, slot, stamp))
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            Some(read_get(guard.column, &guard.values, slot))
        }
    };
    (@reads $guard:ident $item:ident) => {
        fn read_cursor<'g>(guard: &'g $guard<'_, T>) -> ReadCursor<'g, T> {
            ReadCursor::over(guard.column, &guard.values)
        }
        #[inline]
        fn read_item<'g>(cursor: &ReadCursor<'g, T>, bit: usize) -> Option<Self::ReadItem<'g>>
        where
            'g: 'g,
        {
            cursor.$item(bit)
        }
    };
    (@reads_option $guard:ident) => {
        fn read_cursor<'g>(guard: &'g $guard<'_, T>) -> ReadCursor<'g, T> {
            ReadCursor::over(guard.column, &guard.values)
        }
        #[inline]
        fn read_item<'g>(cursor: &ReadCursor<'g, T>, bit: usize) -> Option<Self::ReadItem<'g>>
        where
            'g: 'g,
        {
            Some(cursor.item_if_present(bit))
        }
    };
}

component_data!(&T, ReadGuard, ReadCursor, &'g T, &'g T, reads, try_borrow, mask(column, page) present(column, page), read, (|found| found));
component_data!(
    &mut T, WriteGuard, WriteCursor, Mut<'g, T>, &'g T, writes, try_borrow_mut,
    mask(column, page) present(column, page), write, (|found| found)
);
component_data!(
    Option<&T>, ReadGuard, ReadCursor, Option<&'g T>, Option<&'g T>, reads, try_borrow,
    mask(column, page) u64::MAX, read_option, (|_found| u64::MAX)
);
component_data!(
    Option<&mut T>, WriteGuard, WriteCursor, Option<Mut<'g, T>>, Option<&'g T>, writes, try_borrow_mut,
    mask(column, page) u64::MAX, write_option, (|_found| u64::MAX)
);

impl QueryData for Entity {
    type State = ();
    type Guard<'w> = &'w Entities;
    type Cursor<'g> = (&'g Entities, usize);
    type ReadCursor<'g> = (&'g Entities, usize);
    type Item<'g> = Entity;
    type ReadItem<'g> = Entity;

    fn init(_registry: &Registry, _access: &mut Access) {}
    fn guard<'w>(_state: &(), world: &'w World) -> Option<&'w Entities> {
        Some(world.entities())
    }
    fn mask(_guard: &&Entities, _page: usize) -> u64 {
        u64::MAX
    }
    fn cursor<'g>(guard: &'g mut &Entities, _stamp: Stamp) -> (&'g Entities, usize) {
        (guard, 0)
    }
    #[inline]
    fn seek(cursor: &mut (&Entities, usize), page: usize) -> u64 {
        cursor.1 = page;
        u64::MAX
    }
    #[inline]
    fn item<'g>(cursor: &mut (&'g Entities, usize), bit: usize) -> Option<Entity>
    where
        'g: 'g,
    {
        Some(cursor.0.in_slot(cursor.1 * PAGE + bit))
    }
    fn read_cursor<'g>(guard: &'g &Entities) -> (&'g Entities, usize) {
        (guard, 0)
    }
    #[inline]
    fn read_seek(cursor: &mut (&Entities, usize), page: usize) -> u64 {
        cursor.1 = page;
        u64::MAX
    }
    #[inline]
    fn read_item<'g>(cursor: &(&'g Entities, usize), bit: usize) -> Option<Entity>
    where
        'g: 'g,
    {
        Some(cursor.0.in_slot(cursor.1 * PAGE + bit))
    }
    fn get(guard: &&Entities, slot: usize) -> Option<Entity> {
        Some(guard.in_slot(slot))
    }
    fn get_mut(guard: &mut &Entities, slot: usize, _stamp: Stamp) -> Option<Entity> {
        Some(guard.in_slot(slot))
    }
}

macro_rules! data_tuples {
    ($($name:ident),+) => {
        #[expect(non_snake_case, reason = "the elements are named like their types")]
        impl<$($name: QueryData),+> QueryData for ($($name,)+) {
            type State = ($($name::State,)+);
            type Guard<'w> = ($($name::Guard<'w>,)+);
            type Cursor<'g> = ($($name::Cursor<'g>,)+);
            type ReadCursor<'g> = ($($name::ReadCursor<'g>,)+);
            type Item<'g> = ($($name::Item<'g>,)+);
            type ReadItem<'g> = ($($name::ReadItem<'g>,)+);

            fn init(registry: &Registry, access: &mut Access) -> Self::State {
                ($($name::init(registry, access),)+)
            }
            fn guard<'w>(state: &Self::State, world: &'w World) -> Option<Self::Guard<'w>> {
                let ($($name,)+) = state;
                Some(($($name::guard($name, world)?,)+))
            }
            fn mask(guard: &Self::Guard<'_>, page: usize) -> u64 {
                let ($($name,)+) = guard;
                u64::MAX $(& $name::mask($name, page))+
            }
            fn cursor<'g>(guard: &'g mut Self::Guard<'_>, stamp: Stamp) -> Self::Cursor<'g> {
                let ($($name,)+) = guard;
                ($($name::cursor($name, stamp),)+)
            }
            #[inline]
            fn seek(cursor: &mut Self::Cursor<'_>, page: usize) -> u64 {
                let ($($name,)+) = cursor;
                u64::MAX $(& $name::seek($name, page))+
            }
            #[inline]
            fn item<'g>(cursor: &mut Self::Cursor<'g>, bit: usize) -> Option<Self::Item<'g>> {
                let ($($name,)+) = cursor;
                Some(($($name::item($name, bit)?,)+))
            }
            fn read_cursor<'g>(guard: &'g Self::Guard<'_>) -> Self::ReadCursor<'g> {
                let ($($name,)+) = guard;
                ($($name::read_cursor($name),)+)
            }
            #[inline]
            fn read_seek(cursor: &mut Self::ReadCursor<'_>, page: usize) -> u64 {
                let ($($name,)+) = cursor;
                u64::MAX $(& $name::read_seek($name, page))+
            }
            #[inline]
            fn read_item<'g>(cursor: &Self::ReadCursor<'g>, bit: usize) -> Option<Self::ReadItem<'g>> {
                let ($($name,)+) = cursor;
                Some(($($name::read_item($name, bit)?,)+))
            }
            fn get<'g>(guard: &'g Self::Guard<'_>, slot: usize) -> Option<Self::ReadItem<'g>> {
                let ($($name,)+) = guard;
                Some(($($name::get($name, slot)?,)+))
            }
            fn get_mut<'g>(guard: &'g mut Self::Guard<'_>, slot: usize, stamp: Stamp) -> Option<Self::Item<'g>> {
                let ($($name,)+) = guard;
                Some(($($name::get_mut($name, slot, stamp)?,)+))
            }
        }
    };
}

data_tuples!(A);
data_tuples!(A, B);
data_tuples!(A, B, C);
data_tuples!(A, B, C, D);
data_tuples!(A, B, C, D, E);
data_tuples!(A, B, C, D, E, F);
data_tuples!(A, B, C, D, E, F, G);
data_tuples!(A, B, C, D, E, F, G, H);

/// The entities that have what `D` fetches and pass `F`.
pub struct Query<'w, D: QueryData, F: QueryFilter = ()> {
    entities: &'w Entities,
    data: D::Guard<'w>,
    filter: F::Guard<'w>,
    run: Run,
}

impl<'w, D: QueryData, F: QueryFilter> Query<'w, D, F> {
    pub(crate) fn new(state: &(D::State, F::State), world: &'w World, run: &Run) -> Option<Self> {
        Some(Self {
            entities: world.entities(),
            data: D::guard(&state.0, world)?,
            filter: F::guard(&state.1, world)?,
            run: *run,
        })
    }

    /// All items, ascending by slot, to read.
    pub fn iter(&self) -> QueryIter<'_, 'w, D, F> {
        let cursor = D::read_cursor(&self.data);
        QueryIter {
            entities: self.entities.words(),
            filter: &self.filter,
            cursor,
            last: self.run.last,
            page: 0,
            mask: 0,
        }
    }

    /// All items, ascending by slot, to change.
    pub fn iter_mut(&mut self) -> QueryIterMut<'_, 'w, D, F> {
        let cursor = D::cursor(&mut self.data, self.run.stamp);
        QueryIterMut {
            entities: self.entities.words(),
            filter: &self.filter,
            cursor,
            last: self.run.last,
            page: 0,
            mask: 0,
        }
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
        self.entities.contains(entity)
            && (D::mask(&self.data, page) & F::mask(&self.filter, page, self.run.last)) >> bit & 1
                == 1
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

macro_rules! iterators {
    ($($(#[$doc:meta])* $iter:ident, $cursor:ident, $item:ident, $seek:ident, $next:ident;)*) => {$(
        $(#[$doc])*
        pub struct $iter<'g, 'w, D: QueryData, F: QueryFilter> {
            entities: &'g [u64],
            filter: &'g F::Guard<'w>,
            cursor: D::$cursor<'g>,
            last: Stamp,
            /// The page after the one that `mask` is of.
            page: usize,
            mask: u64,
        }

        impl<'g, D: QueryData, F: QueryFilter> Iterator for $iter<'g, '_, D, F> {
            type Item = D::$item<'g>;
            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                while self.mask == 0 {
                    let alive = *self.entities.get(self.page)?;
                    let page = self.page;
                    self.page += 1;
                    if alive != 0 {
                        let mask = alive & D::$seek(&mut self.cursor, page);
                        self.mask = if mask == 0 { 0 } else { mask & F::mask(self.filter, page, self.last) };
                    }
                }
                let bit = self.mask.trailing_zeros() as usize;
                self.mask &= self.mask - 1;
                D::$next(&mut self.cursor, bit)
            }
        }
    )*};
}

iterators! {
    /// See [`Query::iter`].
    QueryIter, ReadCursor, ReadItem, read_seek, read_item;
    /// See [`Query::iter_mut`].
    QueryIterMut, Cursor, Item, seek, item;
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
