//! Storage of resources, and how systems get them.

use std::any::Any;
use std::cell::{Ref, RefCell, RefMut};
use std::ops::{Deref, DerefMut};

use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::stamp::{Run, Stamp, age};
use crate::value::component::Resource;
use crate::value::{DecodeError, Reader};

/// A resource and when it was changed.
pub(crate) struct Cell<T> {
    pub(crate) value: RefCell<T>,
    pub(crate) changed: std::cell::Cell<Stamp>,
}

impl<T: Resource> Cell<T> {
    pub(crate) fn new() -> Self {
        Self { value: RefCell::new(T::initial()), changed: std::cell::Cell::new(0) }
    }
}

/// A resource without its type.
pub(crate) trait AnyResource: Any + Send {
    fn as_any(&self) -> &dyn Any;
    fn settle(&mut self, since: Stamp);
    fn age(&mut self);
    fn encode_value(&self, out: &mut Vec<u8>);
    fn decode_value(&mut self, input: &mut Reader<'_>) -> Result<(), DecodeError>;
    fn changed(&self) -> Stamp;
    fn set_changed(&mut self, stamp: Stamp);
}

impl<T: Resource> AnyResource for Cell<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn settle(&mut self, since: Stamp) {
        if T::SETTLES && self.changed.get() > since {
            self.value.get_mut().settle();
        }
    }
    fn age(&mut self) {
        age(self.changed.get_mut());
    }
    fn encode_value(&self, out: &mut Vec<u8>) {
        self.value.borrow().encode(out);
    }
    fn decode_value(&mut self, input: &mut Reader<'_>) -> Result<(), DecodeError> {
        *self.value.get_mut() = T::decode(input)?;
        Ok(())
    }
    fn changed(&self) -> Stamp {
        self.changed.get()
    }
    fn set_changed(&mut self, stamp: Stamp) {
        self.changed.set(stamp);
    }
}

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
pub struct ResMut<'w, T> {
    value: RefMut<'w, T>,
    changed: &'w std::cell::Cell<Stamp>,
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
