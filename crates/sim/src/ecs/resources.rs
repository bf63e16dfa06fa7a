//! How systems read and change resources. They are stored by [`crate::storage::resource`].

use std::cell::{Cell, Ref, RefMut};
use std::ops::{Deref, DerefMut};

use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::stamp::{Run, Stamp};
use crate::value::component::Resource;

/// A resource to read.
pub struct Res<'w, T> {
    value: Ref<'w, T>,
    changed: bool,
}

impl<T> Res<'_, T> {
    /// Whether it was changed since this system last ran.
    pub fn is_changed(&self) -> bool {
        self.changed
    }
}

impl<T> Deref for Res<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Resource> SystemParam for Res<'_, T> {
    type State = usize;
    type Item<'w> = Res<'w, T>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        let index = registry.resource::<T>(access);
        access.read(Touched::Resource(index), T::ID);
        index
    }
    fn get<'w>(state: &'w usize, world: &'w World, run: &Run) -> Option<Res<'w, T>> {
        let cell = world.cell::<T>(*state)?;
        Some(Res { value: cell.value.try_borrow().ok()?, changed: cell.changed.get() > run.last })
    }
}

/// A resource to change: the first `&mut` access marks it as changed.
///
/// ```
/// use rekindle_sim::doc_game::{Duel, Score};
/// use rekindle_sim::{Harness, IntoSystems as _, ResMut};
///
/// fn double(mut score: ResMut<Score>) {
///     score.total *= 2;
/// }
/// let system = double.priority(1);
///
/// let mut duel = Harness::<Duel>::new(7);
/// duel.world_mut().insert_resource(Score { total: 21 });
/// assert_eq!(duel.world().resource::<Score>().total, 21);
/// ```
pub struct ResMut<'w, T> {
    value: RefMut<'w, T>,
    changed: &'w Cell<Stamp>,
    run: Run,
}

impl<T> ResMut<'_, T> {
    /// Whether it was changed since this system last ran.
    pub fn is_changed(&self) -> bool {
        self.changed.get() > self.run.last
    }
}

impl<T> Deref for ResMut<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for ResMut<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed.set(self.run.stamp);
        &mut self.value
    }
}

impl<T: Resource> SystemParam for ResMut<'_, T> {
    type State = usize;
    type Item<'w> = ResMut<'w, T>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        let index = registry.resource::<T>(access);
        access.write(Touched::Resource(index), T::ID);
        index
    }
    fn get<'w>(state: &'w usize, world: &'w World, run: &Run) -> Option<ResMut<'w, T>> {
        let cell = world.cell::<T>(*state)?;
        Some(ResMut { value: cell.value.try_borrow_mut().ok()?, changed: &cell.changed, run: *run })
    }
}
