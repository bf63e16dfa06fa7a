//! What queries fetch: [`QueryData`], for references to components, for optional ones, for
//! [`Entity`], and for tuples.

use std::cell::Cell;
use std::iter::{Empty, Zip, empty};
use std::ops::Range;
use std::slice;

use crate::ecs::query::cursor::{
    ReadCursor, ReadGuard, WriteCursor, WriteGuard, WriteRun, read_get, write_get,
};
use crate::ecs::registry::{Access, Registry};
use crate::ecs::world::World;
use crate::storage::change::Mut;
use crate::storage::entities::Entities;
use crate::storage::stamp::Stamp;
use crate::value::component::Component;
use crate::value::entity::Entity;

/// What a query can fetch: `&T`, `&mut T`, `Option<&T>`, `Option<&mut T>`, [`Entity`], and tuples
/// of those.
///
/// A *guard* holds the borrow of the columns, a *cursor* goes over them from front to back.
pub trait QueryData {
    /// Indices of the columns that it fetches; found once, when the game is built.
    type State: Send + Sync + 'static;
    /// The borrowed columns.
    type Guard<'w>;
    /// Goes over the slots and may change values.
    type Cursor<'g>;
    /// Goes over the slots.
    type ReadCursor<'g>;
    /// Neighbouring slots. As the iterators of the standard library: so a tuple of them
    /// has one end, and costs one comparison an item.
    type Run<'g>: Iterator;
    /// As `Run`, to read.
    type ReadRun<'g>: Iterator;
    /// What `iter_mut` yields.
    type Item<'g>;
    /// What `iter` yields.
    type ReadItem<'g>;

    /// Whether it has runs; otherwise each slot is asked for.
    const RUNS: bool;

    /// Resolves and declares the columns.
    fn init(registry: &Registry, access: &mut Access) -> Self::State;
    /// Borrows the columns.
    fn guard<'w>(state: &Self::State, world: &'w World) -> Option<Self::Guard<'w>>;
    /// Which slots of a page qualify.
    fn mask(guard: &Self::Guard<'_>, page: usize) -> u64;
    /// Starts at the first slot.
    fn cursor<'g>(guard: &'g mut Self::Guard<'_>) -> Self::Cursor<'g>;
    /// Goes to a page: which of its slots qualify. Pages are asked for one after the other.
    fn seek(cursor: &mut Self::Cursor<'_>, page: usize) -> u64;
    /// The item of a slot of that page that qualifies; slots are asked for in ascending order.
    fn item<'g>(cursor: &mut Self::Cursor<'g>, slot: usize, stamp: Stamp)
    -> Option<Self::Item<'g>>;
    /// Neighbouring slots which all qualify, of that page and those before it; slots are asked for
    /// in ascending order.
    fn run<'g>(cursor: &mut Self::Cursor<'g>, slots: Range<usize>) -> Self::Run<'g>;
    /// The item that a run gives.
    fn of_run(found: <Self::Run<'_> as Iterator>::Item, stamp: Stamp) -> Self::Item<'_>;
    /// As [`QueryData::cursor`].
    fn read_cursor<'g>(guard: &'g Self::Guard<'_>) -> Self::ReadCursor<'g>;
    /// As [`QueryData::seek`].
    fn read_seek(cursor: &mut Self::ReadCursor<'_>, page: usize) -> u64;
    /// As [`QueryData::item`].
    fn read_item<'g>(cursor: &Self::ReadCursor<'g>, slot: usize) -> Option<Self::ReadItem<'g>>;
    /// As [`QueryData::run`].
    fn read_run<'g>(cursor: &Self::ReadCursor<'g>, slots: Range<usize>) -> Self::ReadRun<'g>;
    /// As [`QueryData::of_run`].
    fn of_read_run(found: <Self::ReadRun<'_> as Iterator>::Item) -> Self::ReadItem<'_>;
    /// The item of any slot.
    fn get<'g>(guard: &'g Self::Guard<'_>, slot: usize) -> Option<Self::ReadItem<'g>>;
    /// The item of any slot.
    fn get_mut<'g>(
        guard: &'g mut Self::Guard<'_>,
        slot: usize,
        stamp: Stamp,
    ) -> Option<Self::Item<'g>>;
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
                access.$access::<T>(index);
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
        const RUNS: bool = true;
        type Run<'g> = slice::Iter<'g, T>;
        #[inline]
        fn run<'g>(cursor: &mut $cursor<'g, T>, slots: Range<usize>) -> Self::Run<'g>
where
'g: 'g,
{
            cursor.run(slots)
        }
        #[inline]
        fn of_run<'g>(found: &'g T, _stamp: Stamp) -> Self::Item<'g>
        where
            'g: 'g,
        {
            found
        }
        fn cursor<'g>(guard: &'g mut $guard<'_, T>) -> $cursor<'g, T> {
            ReadCursor::new(guard)
        }
        #[inline]
        fn item<'g>(
            cursor: &mut $cursor<'g, T>,
            slot: usize,
            _stamp: Stamp,
        ) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            cursor.item(slot)
        }
        component_data!(@reads $guard item);
        fn get_mut<'g>(
            guard: &'g mut $guard<'_, T>,
            slot: usize,
            _stamp: Stamp,
        ) -> Option<Self::Item<'g>> {
            read_get(guard.column, &guard.values, slot)
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            read_get(guard.column, &guard.values, slot)
        }
    };
    (@write $guard:ident $cursor:ident) => {
        const RUNS: bool = true;
        type Run<'g> = WriteRun<'g, T>;
        #[inline]
        fn run<'g>(cursor: &mut $cursor<'g, T>, slots: Range<usize>) -> Self::Run<'g>
where
'g: 'g,
{
            cursor.run(slots)
        }
        #[inline]
        fn of_run<'g>((value, changed): (&'g mut T, &'g Cell<Stamp>), stamp: Stamp) -> Mut<'g, T>
        where
            'g: 'g,
        {
            Mut::new(value, changed, stamp)
        }
        fn cursor<'g>(guard: &'g mut $guard<'_, T>) -> $cursor<'g, T> {
            WriteCursor::new(guard)
        }
        #[inline]
        fn item<'g>(
            cursor: &mut $cursor<'g, T>,
            slot: usize,
            stamp: Stamp,
        ) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            cursor.item(slot, stamp)
        }
        component_data!(@reads $guard item);
        fn get_mut<'g>(
            guard: &'g mut $guard<'_, T>,
            slot: usize,
            stamp: Stamp,
        ) -> Option<Self::Item<'g>> {
            write_get(guard, slot, stamp)
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            read_get(guard.column, &guard.values, slot)
        }
    };
    (@read_option $guard:ident $cursor:ident) => {
        const RUNS: bool = false;
        type Run<'g> = Empty<Self::Item<'g>>;
        fn run<'g>(_: &mut $cursor<'g, T>, _: Range<usize>) -> Self::Run<'g>
where
'g: 'g,
{
            empty()
        }
        fn of_run<'g>(found: Self::Item<'g>, _stamp: Stamp) -> Self::Item<'g>
        where
            'g: 'g,
        {
            found
        }
        fn cursor<'g>(guard: &'g mut $guard<'_, T>) -> $cursor<'g, T> {
            ReadCursor::new(guard)
        }
        #[inline]
        fn item<'g>(
            cursor: &mut $cursor<'g, T>,
            slot: usize,
            _stamp: Stamp,
        ) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            Some(cursor.item_if_present(slot))
        }
        component_data!(@reads_option $guard);
        fn get_mut<'g>(
            guard: &'g mut $guard<'_, T>,
            slot: usize,
            _stamp: Stamp,
        ) -> Option<Self::Item<'g>> {
            Some(read_get(guard.column, &guard.values, slot))
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            Some(read_get(guard.column, &guard.values, slot))
        }
    };
    (@write_option $guard:ident $cursor:ident) => {
        const RUNS: bool = false;
        type Run<'g> = Empty<Self::Item<'g>>;
        fn run<'g>(_: &mut $cursor<'g, T>, _: Range<usize>) -> Self::Run<'g>
where
'g: 'g,
{
            empty()
        }
        fn of_run<'g>(found: Self::Item<'g>, _stamp: Stamp) -> Self::Item<'g>
        where
            'g: 'g,
        {
            found
        }
        fn cursor<'g>(guard: &'g mut $guard<'_, T>) -> $cursor<'g, T> {
            WriteCursor::new(guard)
        }
        #[inline]
        fn item<'g>(
            cursor: &mut $cursor<'g, T>,
            slot: usize,
            stamp: Stamp,
        ) -> Option<Self::Item<'g>>
        where
            'g: 'g,
        {
            Some(cursor.item_if_present(slot, stamp))
        }
        component_data!(@reads_option $guard);
        fn get_mut<'g>(
            guard: &'g mut $guard<'_, T>,
            slot: usize,
            stamp: Stamp,
        ) -> Option<Self::Item<'g>> {
            Some(write_get(guard, slot, stamp))
        }
        fn get<'g>(guard: &'g $guard<'_, T>, slot: usize) -> Option<Self::ReadItem<'g>> {
            Some(read_get(guard.column, &guard.values, slot))
        }
    };
    (@reads $guard:ident $item:ident) => {
        type ReadRun<'g> = slice::Iter<'g, T>;
        #[inline]
        fn read_run<'g>(cursor: &ReadCursor<'g, T>, slots: Range<usize>) -> slice::Iter<'g, T>
where
'g: 'g,
{
            cursor.run(slots)
        }
        #[inline]
        fn of_read_run<'g>(found: &'g T) -> &'g T
        where
            'g: 'g,
        {
            found
        }
        fn read_cursor<'g>(guard: &'g $guard<'_, T>) -> ReadCursor<'g, T> {
            ReadCursor::over(guard.column, &guard.values)
        }
        #[inline]
        fn read_item<'g>(cursor: &ReadCursor<'g, T>, slot: usize) -> Option<Self::ReadItem<'g>>
        where
            'g: 'g,
        {
            cursor.$item(slot)
        }
    };
    (@reads_option $guard:ident) => {
        type ReadRun<'g> = Empty<Self::ReadItem<'g>>;
        fn read_run<'g>(_: &ReadCursor<'g, T>, _: Range<usize>) -> Self::ReadRun<'g>
where
'g: 'g,
{
            empty()
        }
        fn of_read_run<'g>(found: Self::ReadItem<'g>) -> Self::ReadItem<'g>
        where
            'g: 'g,
        {
            found
        }
        fn read_cursor<'g>(guard: &'g $guard<'_, T>) -> ReadCursor<'g, T> {
            ReadCursor::over(guard.column, &guard.values)
        }
        #[inline]
        fn read_item<'g>(cursor: &ReadCursor<'g, T>, slot: usize) -> Option<Self::ReadItem<'g>>
        where
            'g: 'g,
        {
            Some(cursor.item_if_present(slot))
        }
    };
}

component_data!(
    &T, ReadGuard, ReadCursor, &'g T, &'g T, reads, try_borrow,
    mask(column, page) column.presence(page), read, (|found| found)
);
component_data!(
    &mut T, WriteGuard, WriteCursor, Mut<'g, T>, &'g T, writes, try_borrow_mut,
    mask(column, page) column.presence(page), write, (|found| found)
);
component_data!(
    Option<&T>, ReadGuard, ReadCursor, Option<&'g T>, Option<&'g T>, reads, try_borrow,
    mask(column, page) u64::MAX, read_option, (|_found| u64::MAX)
);
component_data!(
    Option<&mut T>, WriteGuard, WriteCursor, Option<Mut<'g, T>>, Option<&'g T>, writes,
    try_borrow_mut, mask(column, page) u64::MAX, write_option, (|_found| u64::MAX)
);

impl QueryData for Entity {
    type State = ();
    type Guard<'w> = &'w Entities;
    type Cursor<'g> = &'g Entities;
    type ReadCursor<'g> = &'g Entities;
    type Run<'g> = Zip<Range<usize>, slice::Iter<'g, u32>>;
    type ReadRun<'g> = Self::Run<'g>;
    type Item<'g> = Entity;
    type ReadItem<'g> = Entity;

    const RUNS: bool = true;

    fn init(_registry: &Registry, _access: &mut Access) {}
    fn guard<'w>(_state: &(), world: &'w World) -> Option<&'w Entities> {
        Some(world.entities())
    }
    fn mask(_guard: &&Entities, _page: usize) -> u64 {
        u64::MAX
    }
    fn cursor<'g>(guard: &'g mut &Entities) -> &'g Entities {
        guard
    }
    #[inline]
    fn seek(_cursor: &mut &Entities, _page: usize) -> u64 {
        u64::MAX
    }
    #[inline]
    fn item<'g>(cursor: &mut &'g Entities, slot: usize, _stamp: Stamp) -> Option<Entity>
    where
        'g: 'g,
    {
        Some(cursor.in_slot(slot))
    }
    #[inline]
    fn run<'g>(cursor: &mut &'g Entities, slots: Range<usize>) -> Self::Run<'g>
    where
        'g: 'g,
    {
        Self::read_run(cursor, slots)
    }
    #[inline]
    fn of_run<'g>(found: (usize, &'g u32), _stamp: Stamp) -> Entity
    where
        'g: 'g,
    {
        Self::of_read_run(found)
    }
    fn read_cursor<'g>(guard: &'g &Entities) -> &'g Entities {
        guard
    }
    #[inline]
    fn read_seek(_cursor: &mut &Entities, _page: usize) -> u64 {
        u64::MAX
    }
    #[inline]
    fn read_item<'g>(cursor: &&'g Entities, slot: usize) -> Option<Entity>
    where
        'g: 'g,
    {
        Some(cursor.in_slot(slot))
    }
    #[inline]
    fn read_run<'g>(cursor: &&'g Entities, slots: Range<usize>) -> Self::Run<'g>
    where
        'g: 'g,
    {
        slots.clone().zip(cursor.generations().get(slots).unwrap_or_default())
    }
    #[inline]
    fn of_read_run<'g>((slot, generation): (usize, &'g u32)) -> Entity
    where
        'g: 'g,
    {
        Entity::from_parts(slot as u32, *generation)
    }
    fn get(guard: &&Entities, slot: usize) -> Option<Entity> {
        Some(guard.in_slot(slot))
    }
    fn get_mut(guard: &mut &Entities, slot: usize, _stamp: Stamp) -> Option<Entity> {
        Some(guard.in_slot(slot))
    }
}

/// Runs of a tuple as pairs: of the first, and of the pairs of the others.
macro_rules! zipped {
    (type $run:ident<$life:lifetime>, $last:ident) => { $last::$run<$life> };
    (type $run:ident<$life:lifetime>, $first:ident $($name:ident)+) => {
        Zip<$first::$run<$life>, zipped!(type $run<$life>, $($name)+)>
    };
    (item $last:ident) => { $last };
    (item $first:ident $($name:ident)+) => { ($first, zipped!(item $($name)+)) };
    ($run:ident $slots:ident, $last:ident) => { $last::$run($last, $slots) };
    ($run:ident $slots:ident, $first:ident $($name:ident)+) => {
        $first::$run($first, $slots.clone()).zip(zipped!($run $slots, $($name)+))
    };
}

macro_rules! data_tuples {
    ($($name:ident),+) => {
        #[expect(non_snake_case, reason = "the elements are named like their types")]
        impl<$($name: QueryData),+> QueryData for ($($name,)+) {
            type State = ($($name::State,)+);
            type Guard<'w> = ($($name::Guard<'w>,)+);
            type Cursor<'g> = ($($name::Cursor<'g>,)+);
            type ReadCursor<'g> = ($($name::ReadCursor<'g>,)+);
            type Run<'g> = zipped!(type Run<'g>, $($name)+);
            type ReadRun<'g> = zipped!(type ReadRun<'g>, $($name)+);
            type Item<'g> = ($($name::Item<'g>,)+);
            type ReadItem<'g> = ($($name::ReadItem<'g>,)+);

            const RUNS: bool = true $(&& $name::RUNS)+;

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
            fn cursor<'g>(guard: &'g mut Self::Guard<'_>) -> Self::Cursor<'g> {
                let ($($name,)+) = guard;
                ($($name::cursor($name),)+)
            }
            #[inline]
            fn seek(cursor: &mut Self::Cursor<'_>, page: usize) -> u64 {
                let ($($name,)+) = cursor;
                u64::MAX $(& $name::seek($name, page))+
            }
            #[inline]
            fn item<'g>(
                cursor: &mut Self::Cursor<'g>,
                slot: usize,
                stamp: Stamp,
            ) -> Option<Self::Item<'g>> {
                let ($($name,)+) = cursor;
                Some(($($name::item($name, slot, stamp)?,)+))
            }
            #[inline]
            fn run<'g>(cursor: &mut Self::Cursor<'g>, slots: Range<usize>) -> Self::Run<'g> {
                let ($($name,)+) = cursor;
                zipped!(run slots, $($name)+)
            }
            #[inline]
            fn of_run(
                zipped!(item $($name)+): <Self::Run<'_> as Iterator>::Item,
                stamp: Stamp,
            ) -> Self::Item<'_> {
                ($($name::of_run($name, stamp),)+)
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
            fn read_item<'g>(
                cursor: &Self::ReadCursor<'g>,
                slot: usize,
            ) -> Option<Self::ReadItem<'g>> {
                let ($($name,)+) = cursor;
                Some(($($name::read_item($name, slot)?,)+))
            }
            #[inline]
            fn read_run<'g>(
                cursor: &Self::ReadCursor<'g>,
                slots: Range<usize>,
            ) -> Self::ReadRun<'g> {
                let ($($name,)+) = cursor;
                zipped!(read_run slots, $($name)+)
            }
            #[inline]
            fn of_read_run(
                zipped!(item $($name)+): <Self::ReadRun<'_> as Iterator>::Item,
            ) -> Self::ReadItem<'_> {
                ($($name::of_read_run($name),)+)
            }
            fn get<'g>(guard: &'g Self::Guard<'_>, slot: usize) -> Option<Self::ReadItem<'g>> {
                let ($($name,)+) = guard;
                Some(($($name::get($name, slot)?,)+))
            }
            fn get_mut<'g>(
                guard: &'g mut Self::Guard<'_>,
                slot: usize,
                stamp: Stamp,
            ) -> Option<Self::Item<'g>> {
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
