//! Filters of queries: which entities pass, without fetching anything. A filter looks at presence
//! and stamps only, so it never conflicts with what a system changes.

use std::marker::PhantomData;

use crate::ecs::registry::{Access, Registry};
use crate::ecs::world::World;
use crate::storage::column::Column;
use crate::storage::stamp::{Stamp, StampOf};
use crate::value::component::Component;

/// What an entity must have or lack: [`With`], [`Without`], [`Added`], [`Changed`], tuples of
/// those, which ask for all, and [`Or`].
pub trait QueryFilter {
    /// Whether what it passes stays the same while systems run: it looks at no stamps of change.
    const FIXED: bool;
    /// Indices of the columns that it looks at; found once, when the game is built.
    type State: Send + Sync + 'static;
    /// What the filter looks at.
    type Guard<'w>;
    /// Resolves the columns.
    fn init(registry: &Registry, access: &mut Access) -> Self::State;
    /// Looks at the columns; it never keeps them from being changed.
    fn guard<'w>(state: &Self::State, world: &'w World) -> Option<Self::Guard<'w>>;
    /// Which slots of a page pass.
    fn mask(guard: &Self::Guard<'_>, page: usize, last: Stamp) -> u64;
}

/// Passes entities that have a `T`.
pub struct With<T>(PhantomData<T>);
/// Passes entities that have no `T`.
pub struct Without<T>(PhantomData<T>);
/// Passes entities that got their `T` since this system last ran.
pub struct Added<T>(PhantomData<T>);
/// Passes entities whose `T` was added or changed since this system last ran.
pub struct Changed<T>(PhantomData<T>);

/// Passes entities that one of the filters in a tuple passes.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Position, Runner};
/// use rekindle_sim::{Changed, IntoSystems as _, Or, Query, With};
///
/// fn look(things: Query<&Position, Or<(With<Coin>, (With<Runner>, Changed<Position>))>>) {
///     let count = things.iter().filter(|position| position.x > 0.0).count();
/// }
/// let system = look.every(3);
/// ```
pub struct Or<F>(PhantomData<F>);

macro_rules! filters {
    (
        $($filter:ident $looks:ident $fixed:literal
            |$column:ident, $page:ident, $last:ident| $mask:expr;)*
    ) => {$(
        impl<T: Component> QueryFilter for $filter<T> {
            const FIXED: bool = $fixed;
            type State = usize;
            type Guard<'w> = &'w Column<T>;
            fn init(registry: &Registry, access: &mut Access) -> usize {
                registry.$looks::<T>(access)
            }
            fn guard<'w>(state: &usize, world: &'w World) -> Option<&'w Column<T>> {
                world.column::<T>(*state)
            }
            #[inline]
            fn mask($column: &&Column<T>, $page: usize, $last: Stamp) -> u64 {
                let _ = $last;
                $mask
            }
        }
    )*};
}

filters! {
    With presence true |column, page, last| column.presence(page);
    Without presence true |column, page, last| !column.presence(page);
    Added component true |column, page, last| column.newer(page, last, StampOf::Addition);
    Changed component false |column, page, last| column.newer(page, last, StampOf::Change);
}

macro_rules! filter_tuples {
    ($($name:ident),*) => {
        #[expect(non_snake_case, reason = "the elements are named like their types")]
        impl<$($name: QueryFilter),*> QueryFilter for ($($name,)*) {
            const FIXED: bool = true $(&& $name::FIXED)*;
            type State = ($($name::State,)*);
            type Guard<'w> = ($($name::Guard<'w>,)*);
            fn init(registry: &Registry, access: &mut Access) -> Self::State {
                ($($name::init(registry, access),)*)
            }
            fn guard<'w>(state: &Self::State, world: &'w World) -> Option<Self::Guard<'w>> {
                let ($($name,)*) = state;
                Some(($($name::guard($name, world)?,)*))
            }
            #[inline]
            fn mask(guard: &Self::Guard<'_>, page: usize, last: Stamp) -> u64 {
                let ($($name,)*) = guard;
                u64::MAX $(& $name::mask($name, page, last))*
            }
        }
    };
}

macro_rules! or_tuples {
    ($($name:ident),*) => {
        #[expect(non_snake_case, reason = "the elements are named like their types")]
        impl<$($name: QueryFilter),*> QueryFilter for Or<($($name,)*)> {
            const FIXED: bool = true $(&& $name::FIXED)*;
            type State = ($($name::State,)*);
            type Guard<'w> = ($($name::Guard<'w>,)*);
            fn init(registry: &Registry, access: &mut Access) -> Self::State {
                ($($name::init(registry, access),)*)
            }
            fn guard<'w>(state: &Self::State, world: &'w World) -> Option<Self::Guard<'w>> {
                <($($name,)*) as QueryFilter>::guard(state, world)
            }
            #[inline]
            fn mask(guard: &Self::Guard<'_>, page: usize, last: Stamp) -> u64 {
                let ($($name,)*) = guard;
                0 $(| $name::mask($name, page, last))*
            }
        }
    };
}

or_tuples!(A, B);
or_tuples!(A, B, C);
or_tuples!(A, B, C, D);

filter_tuples!(A);
filter_tuples!(A, B);
filter_tuples!(A, B, C);
filter_tuples!(A, B, C, D);

impl QueryFilter for () {
    const FIXED: bool = true;
    type State = ();
    type Guard<'w> = ();
    fn init(_registry: &Registry, _access: &mut Access) {}
    fn guard(_state: &(), _world: &World) -> Option<()> {
        Some(())
    }
    #[inline]
    fn mask(_guard: &(), _page: usize, _last: Stamp) -> u64 {
        u64::MAX
    }
}
