//! What a game is made of: its components, resources, events and constants, each with a place that
//! does not depend on the order of registration, and what each system touches of them.

use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, BTreeSet};

use crate::storage::column::{AnyColumn, Column};
use crate::storage::queue::{AnyQueue, Queue};
use crate::storage::resource::{AnyResource, ResourceCell};
use crate::value::component::{Component, Event, NetFieldDef, Resource, Stored};
use crate::value::shape::{Datum, Shape};

/// A stored type.
pub(crate) struct StoredType<S: ?Sized> {
    pub(crate) id: &'static str,
    pub(crate) version: u16,
    pub(crate) shape: Shape,
    /// Bytes of an encoded value, if all have as many.
    pub(crate) size: Option<usize>,
    pub(crate) migrate: fn(u16, &mut Datum) -> Result<(), String>,
    pub(crate) storage: fn() -> Box<S>,
    pub(crate) type_name: &'static str,
    /// Networked fields, of a component.
    pub(crate) net: &'static [NetFieldDef],
    type_id: TypeId,
}

impl<S: ?Sized> StoredType<S> {
    fn new<T: Stored>(storage: fn() -> Box<S>) -> Self {
        let shape = T::shape();
        Self {
            id: T::ID,
            version: T::VERSION,
            size: shape.size(),
            shape,
            migrate: T::migrate,
            storage,
            type_name: type_name::<T>(),
            net: &[],
            type_id: TypeId::of::<T>(),
        }
    }
}

/// `StoredTypes` ascending by id, found by type.
pub(crate) struct StoredTypes<S: ?Sized> {
    pub(crate) list: Vec<StoredType<S>>,
    index: BTreeMap<TypeId, usize>,
}

impl<S: ?Sized> Default for StoredTypes<S> {
    fn default() -> Self {
        Self { list: Vec::new(), index: BTreeMap::new() }
    }
}

impl<S: ?Sized> StoredTypes<S> {
    fn add(&mut self, stored: StoredType<S>, errors: &mut Vec<String>) {
        match self.list.binary_search_by_key(&stored.id, |stored| stored.id) {
            Ok(place) if self.list[place].type_id == stored.type_id => {}
            Ok(place) => errors.push(format!(
                "`{}` and `{}` have the same id `{}`",
                self.list[place].type_name, stored.type_name, stored.id
            )),
            Err(place) => self.list.insert(place, stored),
        }
        self.index =
            self.list.iter().enumerate().map(|(index, stored)| (stored.type_id, index)).collect();
    }

    pub(crate) fn of<T: 'static>(&self) -> Option<usize> {
        self.index.get(&TypeId::of::<T>()).copied()
    }
}

/// All types that the world of a game can hold.
#[derive(Default)]
pub struct Registry {
    pub(crate) components: StoredTypes<dyn AnyColumn>,
    pub(crate) resources: StoredTypes<dyn AnyResource>,
    pub(crate) events: StoredTypes<dyn AnyQueue>,
    /// Networked components: (component, number of fields).
    pub(crate) networked: Vec<(usize, usize)>,
    pub(crate) constants: Vec<TypeId>,
    /// Components whose removals are recorded.
    pub(crate) watched: BTreeSet<usize>,
    /// For how many ticks events of a kind are kept, if more than 1.
    pub(crate) retention: BTreeMap<usize, u64>,
    /// The same for removals of a component.
    pub(crate) removal_retention: BTreeMap<usize, u64>,
    pub(crate) errors: Vec<String>,
}

impl Registry {
    pub(crate) fn add_component<T: Component>(&mut self) {
        let stored = StoredType {
            net: T::NET,
            ..StoredType::<dyn AnyColumn>::new::<T>(|| Box::new(Column::<T>::new()))
        };
        self.components.add(stored, &mut self.errors);
    }

    pub(crate) fn add_resource<T: Resource>(&mut self) {
        self.resources
            .add(StoredType::new::<T>(|| Box::new(ResourceCell::<T>::new())), &mut self.errors);
    }

    pub(crate) fn add_event<T: Event>(&mut self) {
        self.events.add(StoredType::new::<T>(|| Box::new(Queue::<T>::new())), &mut self.errors);
    }

    pub(crate) fn component<T: Component>(&self, access: &mut Access) -> usize {
        found(self.components.of::<T>(), "component", type_name::<T>(), access)
    }

    pub(crate) fn resource<T: Resource>(&self, access: &mut Access) -> usize {
        found(self.resources.of::<T>(), "resource", type_name::<T>(), access)
    }

    pub(crate) fn event<T: Event>(&self, access: &mut Access) -> usize {
        found(self.events.of::<T>(), "event", type_name::<T>(), access)
    }

    pub(crate) fn constant<T: 'static>(&self, access: &mut Access) -> usize {
        let index = self.constants.iter().position(|id| *id == TypeId::of::<T>());
        found(index, "constant", type_name::<T>(), access)
    }
}

fn found(index: Option<usize>, what: &str, name: &str, access: &mut Access) -> usize {
    index.unwrap_or_else(|| {
        access.errors.push(format!(
            "{what} `{name}` is not registered: add `game.{what}::<…>()` in `Game::build`"
        ));
        usize::MAX
    })
}

/// Something that systems can conflict about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Touched {
    Component(usize),
    Resource(usize),
    Event(usize),
}

/// What a system reads, changes, and appends to.
#[derive(Debug, Default)]
pub struct Access {
    pub(crate) reads: BTreeMap<Touched, &'static str>,
    pub(crate) writes: BTreeMap<Touched, &'static str>,
    /// Appending to the same queue is no conflict: queues are in system order.
    pub(crate) appends: BTreeMap<Touched, &'static str>,
    /// Events that the system reads.
    pub(crate) events: BTreeSet<usize>,
    /// Components whose removals the system reads.
    pub(crate) removals: BTreeSet<usize>,
    pub(crate) errors: Vec<String>,
}

impl Access {
    pub(crate) fn reads(&mut self, index: usize, id: &'static str) {
        self.read(Touched::Component(index), id);
    }

    pub(crate) fn writes(&mut self, index: usize, id: &'static str) {
        self.write(Touched::Component(index), id);
    }

    pub(crate) fn read(&mut self, what: Touched, id: &'static str) {
        if self.writes.contains_key(&what) || self.appends.contains_key(&what) {
            self.twice(id);
        }
        self.reads.insert(what, id);
    }

    pub(crate) fn write(&mut self, what: Touched, id: &'static str) {
        if self.reads.contains_key(&what) || self.writes.contains_key(&what) {
            self.twice(id);
        }
        self.writes.insert(what, id);
    }

    pub(crate) fn append(&mut self, what: Touched, id: &'static str) {
        if self.reads.contains_key(&what) {
            self.twice(id);
        }
        self.appends.insert(what, id);
    }

    fn twice(&mut self, id: &str) {
        self.errors.push(format!(
            "two parameters ask for `{id}` and one of them changes it: use \
            one query and `get`, or two systems"
        ));
    }

    /// The first thing that two systems conflict about.
    pub(crate) fn conflict(&self, other: &Self) -> Option<&'static str> {
        let one_way = |a: &Self, b: &Self| {
            let changed = a.writes.iter().chain(&a.appends);
            changed
                .filter(|(what, _)| b.reads.contains_key(what) || b.writes.contains_key(what))
                .map(|(_, id)| *id)
                .next()
        };
        one_way(self, other).or_else(|| one_way(other, self))
    }
}
