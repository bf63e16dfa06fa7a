//! What a game is made of: its components, resources, events and constants, each with a place that
//! does not depend on the order of registration, and what each system touches of them.

use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, BTreeSet};

use crate::ecs::hooks::Hooks;
use crate::ecs::index::FollowerType;
use crate::ecs::states::machine::AnyMachine;
use crate::ecs::stats::{Kept, Statistic, StatisticType, undeclared};
use crate::ecs::template::Templates;
use crate::ecs::values::{NamedValue, Validation};
use crate::storage::column::{AnyColumn, Column};
use crate::storage::queue::{AnyQueue, Queue};
use crate::storage::resource::{AnyResource, ResourceCell};
use crate::value::Value;
use crate::value::component::{Component, Event, NetFieldDef, OnDespawn, Resource, Stored};
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
    /// Ids of required components, of a component.
    pub(crate) requires: &'static [&'static str],
    /// Whether not all values are accepted, of a component.
    pub(crate) validates: bool,
    /// Of a component that is a relation.
    pub(crate) relation: Option<OnDespawn>,
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
            requires: &[],
            validates: false,
            relation: None,
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
    /// Of each component that requires others: those, and those that they require, ascending.
    pub(crate) required: BTreeMap<usize, Vec<usize>>,
    /// Components that do not accept all values, ascending by id.
    pub(crate) validated: Vec<usize>,
    /// Components that are relations, ascending by id.
    pub(crate) relations: BTreeMap<usize, OnDespawn>,
    /// What is told when entities get, change and lose components.
    pub(crate) hooks: Hooks,
    /// Indexes and grids, in the order in which they were declared.
    pub(crate) followers: Vec<FollowerType>,
    pub(crate) templates: Templates,
    /// State machines, in the order in which they were declared.
    pub(crate) machines: Vec<Box<dyn AnyMachine>>,
    /// Statistics, in the order in which they were declared.
    pub(crate) statistics: Vec<StatisticType>,
    /// Values under names, in the order in which they were declared.
    pub(crate) values: Vec<NamedValue>,
    /// What must hold, in the order in which it was declared.
    pub(crate) validations: Vec<Validation>,
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
            requires: T::REQUIRES,
            validates: T::VALIDATES,
            relation: T::RELATION,
            ..StoredType::<dyn AnyColumn>::new::<T>(|| Box::new(Column::<T>::new()))
        };
        self.components.add(stored, &mut self.errors);
    }

    /// Declares an index or grid. The same one may be declared again.
    pub(crate) fn add_follower(&mut self, follower: FollowerType) {
        match self.followers.iter().find(|known| known.type_id == follower.type_id) {
            None => self.followers.push(follower),
            Some(known) if known.name == follower.name => {}
            Some(known) => {
                let problem = format!("{} and {}: keep one of them", known.name, follower.name);
                self.errors.push(problem);
            }
        }
    }

    /// Gives indexes and grids their columns, once all components are registered.
    pub(crate) fn tie_followers(&mut self) {
        let mut followers = std::mem::take(&mut self.followers);
        for follower in &mut followers {
            let mut access = Access::default();
            follower.column = (follower.find)(self, &mut access);
            let errors = access.errors.iter();
            self.errors.extend(errors.map(|error| format!("{}: {error}", follower.name)));
        }
        self.followers = followers;
    }

    /// Resolves what components say about each other, once all are registered.
    pub(crate) fn tie_components(&mut self) {
        let list = &self.components.list;
        let ids = || list.iter().map(|stored| stored.id);
        for (index, stored) in list.iter().enumerate() {
            if stored.validates {
                self.validated.push(index);
            }
            if let Some(policy) = stored.relation {
                self.relations.insert(index, policy);
            }
            let mut required = BTreeSet::new();
            let mut waiting = vec![stored];
            while let Some(next) = waiting.pop() {
                for id in next.requires {
                    match list.binary_search_by_key(id, |stored| stored.id) {
                        Ok(other) if other != index && required.insert(other) => {
                            waiting.push(&list[other]);
                        }
                        Err(_) if next.id == stored.id => self.errors.push(format!(
                            "component `{}` (`{}`) requires `{id}`, which is not registered{}: \
                             add `game.component::<…>()` in `Game::build`",
                            stored.id,
                            stored.type_name,
                            did_you_mean(id, ids()),
                        )),
                        // Known already, or said of the one that requires it.
                        Ok(_) | Err(_) => {}
                    }
                }
            }
            if !required.is_empty() {
                self.required.insert(index, required.into_iter().collect());
            }
        }
    }

    pub(crate) fn add_resource<T: Resource>(&mut self) {
        self.resources
            .add(StoredType::new::<T>(|| Box::new(ResourceCell::<T>::new())), &mut self.errors);
    }

    pub(crate) fn add_event<T: Event>(&mut self) {
        self.events.add(StoredType::new::<T>(|| Box::new(Queue::<T>::new())), &mut self.errors);
    }

    /// Declares a statistic: a resource under a name that no other kind of resource can have.
    pub(crate) fn add_statistic<S: Statistic>(&mut self) {
        if self.statistics.iter().any(|known| known.type_id == TypeId::of::<S>()) {
            return;
        }
        self.errors.extend(StatisticType::check::<S>().err());
        self.add_event::<S::Of>();
        // Once per game and process, as the ids of systems' state.
        let id: &'static str = Box::leak(format!("{STATISTIC}{})", S::NAME).into_boxed_str());
        let shape = Kept::<S>::shape();
        let stored = StoredType {
            id,
            version: 1,
            size: shape.size(),
            shape,
            migrate: |_, _| Ok(()),
            storage: || Box::new(ResourceCell::<Kept<S>>::new()) as Box<dyn AnyResource>,
            type_name: type_name::<S>(),
            net: &[],
            requires: &[],
            validates: false,
            relation: None,
            type_id: TypeId::of::<Kept<S>>(),
        };
        self.resources.add(stored, &mut self.errors);
        self.statistics.push(StatisticType::of::<S>());
    }

    /// Gives statistics their resources and events, once all are registered.
    pub(crate) fn tie_statistics(&mut self) {
        let mut statistics = std::mem::take(&mut self.statistics);
        for statistic in &mut statistics {
            statistic.tie(self);
        }
        self.statistics = statistics;
    }

    /// Adds the state of a system, behind all resources. Systems come ascending by name.
    pub(crate) fn add_locals(&mut self, system: &str, locals: Vec<LocalType>) {
        for (place, local) in locals.into_iter().enumerate() {
            // Once per game and process: the ids of all that is stored live as long.
            let id: &'static str = Box::leak(local_id(system, place).into_boxed_str());
            self.resources.list.push(StoredType {
                id,
                version: 1,
                size: local.shape.size(),
                shape: local.shape,
                migrate: |_, _| Ok(()),
                storage: local.storage,
                type_name: local.type_name,
                net: &[],
                requires: &[],
                validates: false,
                relation: None,
                type_id: TypeId::of::<LocalType>(),
            });
        }
    }

    pub(crate) fn component<T: Component>(&self, access: &mut Access) -> usize {
        let index = found(self.components.of::<T>(), "component", type_name::<T>(), access);
        access.named.insert(Touched::Component(index));
        index
    }

    /// As `component`, for those that ask which entities have one, and not for its values.
    pub(crate) fn presence<T: Component>(&self, access: &mut Access) -> usize {
        let index = found(self.components.of::<T>(), "component", type_name::<T>(), access);
        access.named.insert(Touched::Presence(index));
        index
    }

    pub(crate) fn resource<T: Resource>(&self, access: &mut Access) -> usize {
        let index = found(self.resources.of::<T>(), "resource", type_name::<T>(), access);
        access.named.insert(Touched::Resource(index));
        index
    }

    pub(crate) fn statistic<S: Statistic>(&self, access: &mut Access) -> usize {
        let index = self.resources.of::<Kept<S>>().unwrap_or_else(|| {
            access.errors.push(undeclared::<S>());
            usize::MAX
        });
        access.named.insert(Touched::Resource(index));
        index
    }

    pub(crate) fn event<T: Event>(&self, access: &mut Access) -> usize {
        let index = found(self.events.of::<T>(), "event", type_name::<T>(), access);
        access.named.insert(Touched::Event(index));
        index
    }

    pub(crate) fn constant<T: 'static>(&self, access: &mut Access) -> usize {
        let index = self.constants.iter().position(|id| *id == TypeId::of::<T>());
        found(index, "constant", type_name::<T>(), access)
    }
}

/// Why a relation is not changed in place.
pub(crate) fn in_place(id: &str) -> String {
    format!(
        "relation `{id}` is not changed in place, or its other direction would not know: insert \
         a new one"
    )
}

/// `, did you mean …?` with the known name that is nearest to `name`; empty if none is near.
pub fn did_you_mean<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let near = known.map(|known| (distance(name, known), known)).min();
    match near {
        Some((distance, known)) if distance > 0 && distance <= 1 + name.len() / 3 => {
            format!(", did you mean `{known}`?")
        }
        _ => String::new(),
    }
}

/// How many characters must be put in, left out or replaced to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (place, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[b.len()]
}

fn found(index: Option<usize>, what: &str, name: &str, access: &mut Access) -> usize {
    index.unwrap_or_else(|| {
        access.errors.push(format!(
            "{what} `{name}` is not registered: add `game.{what}::<…>()` in `Game::build`"
        ));
        usize::MAX
    })
}

/// State of one system, before it has its place.
#[derive(Debug)]
pub(crate) struct LocalType {
    shape: Shape,
    storage: fn() -> Box<dyn AnyResource>,
    type_name: &'static str,
}

/// What ids of systems' state begin with: a character that sorts behind all that other ids have.
pub(crate) const LOCAL: char = '~';

/// What ids of statistics begin with; a name and `)` follow.
pub(crate) const STATISTIC: &str = "statistic(";

/// The id of the state of a system.
pub(crate) fn local_id(system: &str, place: usize) -> String {
    format!("{LOCAL}{system}#{place:02}")
}

/// Something that systems can conflict about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Touched {
    Component(usize),
    /// Which entities have a component: it does not change while systems run.
    Presence(usize),
    Resource(usize),
    Event(usize),
    /// Components that data defines, all of them.
    Custom,
    /// An index or a grid.
    Follower(usize),
    /// Who names whom by a relation, by its component.
    Related(usize),
    /// The entities that lost a component.
    Removed(usize),
    /// The inputs of the tick.
    Inputs,
    /// The names of new entities, and what waits for the end of the stage.
    Commands,
}

impl Touched {
    /// Whether several can look at it at the same time, each at a copy.
    pub(crate) fn can_be_copied(self) -> bool {
        matches!(self, Self::Component(_) | Self::Presence(_) | Self::Resource(_) | Self::Event(_))
    }
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
    /// Parameters by which it acts on more than what it touches, by their names: `Commands`.
    pub(crate) acts: BTreeSet<&'static str>,
    /// It reads the inputs of the tick.
    pub(crate) inputs: bool,
    /// All that its parameters, triggers and conditions name, also what filters look at: nothing
    /// else is there while it runs beside others.
    pub(crate) named: BTreeSet<Touched>,
    /// State that is the system's own.
    pub(crate) locals: Vec<LocalType>,
    /// The place of the first of them among the resources.
    first_local: usize,
}

impl Access {
    /// Nothing is touched yet; state of the system comes behind the resources that there are.
    pub(crate) fn of_system(registry: &Registry) -> Self {
        Self { first_local: registry.resources.list.len(), ..Self::default() }
    }

    /// For a condition of this system, which does not run while the system does.
    pub(crate) fn of_condition(&mut self) -> Self {
        Self {
            first_local: self.first_local,
            locals: std::mem::take(&mut self.locals),
            ..Self::default()
        }
    }

    /// What a condition looks at is looked at by its system.
    pub(crate) fn take_condition(&mut self, condition: Self) {
        for id in condition.changed() {
            self.errors.push(format!("a condition changes `{id}`: conditions only look"));
        }
        self.inputs |= condition.inputs;
        self.named.extend(condition.named);
        self.reads.extend(condition.reads);
        self.events.extend(condition.events);
        self.removals.extend(condition.removals);
        self.errors.extend(condition.errors);
        self.locals = condition.locals;
    }

    /// The ids of what it changes, and the parameters by which it can change anything.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &'static str> {
        let ids = self.writes.values().chain(self.appends.values());
        ids.chain(&self.acts).copied()
    }

    /// Adds state of the system's own; its place among the resources.
    pub(crate) fn local<T: Value>(&mut self) -> usize {
        self.locals.push(LocalType {
            shape: T::shape(),
            storage: || Box::new(ResourceCell::<T>::new()),
            type_name: type_name::<T>(),
        });
        let place = self.first_local + self.locals.len() - 1;
        self.named.insert(Touched::Resource(place));
        place
    }

    pub(crate) fn reads<T: Component>(&mut self, index: usize) {
        self.read(Touched::Component(index), T::ID);
    }

    pub(crate) fn writes<T: Component>(&mut self, index: usize) {
        if T::RELATION.is_some() {
            self.errors.push(in_place(T::ID));
        }
        self.write(Touched::Component(index), T::ID);
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
