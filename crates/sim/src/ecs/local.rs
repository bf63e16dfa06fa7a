//! State of one system.

use std::cell::RefMut;
use std::ops::{Deref, DerefMut};

use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::resource::ResourceCell;
use crate::storage::stamp::Run;
use crate::value::Value;

/// State of this system alone, at first [`Value::initial`]. It is part of the world: it stands in
/// checkpoints under the system's name, and a match that goes on elsewhere goes on with it.
///
/// A system that is renamed, or gone, loses it: [`Simulation::dropped`](crate::Simulation::dropped)
/// names it as `~system#00`. What must outlive that is a [`Resource`](crate::Resource).
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Score};
/// use rekindle_sim::{IntoSystems as _, Local, Query, ResMut};
///
/// /// The most coins there ever were at once.
/// fn record(mut most: Local<u32>, coins: Query<&Coin>, mut score: ResMut<Score>) {
///     let now = coins.iter().count() as u32;
///     if now > *most {
///         *most = now;
///         score.total += 1;
///     }
/// }
/// let system = record.every(10);
/// ```
pub struct Local<'w, T> {
    cell: &'w ResourceCell<T>,
    value: RefMut<'w, T>,
    run: Run,
}

impl<T> Deref for Local<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Local<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.cell.changed.set(self.run.stamp);
        &mut self.value
    }
}

impl<T: Value> SystemParam for Local<'_, T> {
    type State = usize;
    type Item<'w> = Local<'w, T>;
    fn init(_registry: &Registry, access: &mut Access) -> usize {
        access.local::<T>()
    }
    fn get<'w>(state: &'w usize, world: &'w World, run: &Run) -> Option<Local<'w, T>> {
        let cell = world.cell::<T>(*state)?;
        Some(Local { cell, value: cell.value.try_borrow_mut().ok()?, run: *run })
    }
}
