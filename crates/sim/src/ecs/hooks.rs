//! Lifecycle hooks: functions of the game that are told when entities get, change and lose a
//! component.
//!
//! Hooks run at fixed points ([`World::settle`]): after `setup`; before the systems of a tick, for
//! what joins, leaves and commands did; and at the end of each stage. Between ticks nothing waits,
//! so nothing of it is in a checkpoint. The order is part of a game's determinism:
//!
//! 1. What was added, removed and despawned, in the order in which it happened. An entity that ends
//!    tells of its components ascending by id, of each first `on_remove`, then `on_despawn`.
//! 2. What was changed and is not new: ascending by component id, then by slot.
//! 3. What hooks themselves added and removed, as 1, again and again, for at most [`ROUNDS`]
//!    rounds. What they change is told to systems (`Changed`) and to no hook.
//!
//! A component that is added and removed between two fixed points is told to nobody, so that each
//! removal was an addition before. Several hooks of one component run in the order in which the
//! game declared them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ecs::registry::{Access, Registry};
use crate::ecs::world::World;
use crate::storage::column::bits;
use crate::storage::stamp::{Stamp, StampOf};
use crate::value::component::Component;
use crate::value::entity::Entity;

/// How often hooks can set off hooks at one fixed point. A game that needs more goes in a circle.
pub(crate) const ROUNDS: u32 = 16;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The entity got the component.
    Add,
    /// The component was written.
    Change,
    /// The entity lost the component, by `remove` or by a despawn.
    Remove,
    /// The entity ended.
    Despawn,
}

/// What is called: the value is given to those that are told of a loss.
type Call = Arc<dyn Fn(&mut World, Entity, Option<&dyn Any>) + Send + Sync>;

/// A hook as a game declared it: the component has no place yet.
pub(crate) struct DeclaredHook {
    moment: Moment,
    find: fn(&Registry, &mut Access) -> usize,
    id: &'static str,
    call: Call,
}

impl DeclaredHook {
    /// A hook that finds what it is told of in the world.
    pub(crate) fn of<T: Component>(
        moment: Moment,
        hook: impl Fn(&mut World, Entity) + Send + Sync + 'static,
    ) -> Self {
        Self::new::<T>(moment, Arc::new(move |world, entity, _| hook(world, entity)))
    }

    /// A hook that gets the value that is lost.
    pub(crate) fn of_loss<T: Component>(
        moment: Moment,
        hook: impl Fn(&mut World, Entity, &T) + Send + Sync + 'static,
    ) -> Self {
        let call: Call = Arc::new(move |world, entity, value| {
            if let Some(value) = value.and_then(<dyn Any>::downcast_ref) {
                hook(world, entity, value);
            }
        });
        Self::new::<T>(moment, call)
    }

    fn new<T: Component>(moment: Moment, call: Call) -> Self {
        Self { moment, find: Registry::component::<T>, id: T::ID, call }
    }
}

/// The hooks of a game.
#[derive(Default)]
pub(crate) struct Hooks {
    /// In the order in which they were declared.
    list: Vec<Call>,
    names: Vec<String>,
    /// The places in `list` of the hooks of a component and moment.
    of: BTreeMap<(usize, Moment), Vec<usize>>,
}

impl Hooks {
    /// Gives the declared hooks their components; or says of which there is none.
    pub(crate) fn resolve(declared: Vec<DeclaredHook>, registry: &Registry) -> (Self, Vec<String>) {
        let (mut hooks, mut errors) = (Self::default(), Vec::new());
        for DeclaredHook { moment, find, id, call } in declared {
            let name = format!("on_{moment:?}({id})").to_lowercase();
            let mut access = Access::default();
            let index = find(registry, &mut access);
            errors.extend(access.errors.iter().map(|error| format!("hook `{name}`: {error}")));
            hooks.of.entry((index, moment)).or_default().push(hooks.list.len());
            hooks.list.push(call);
            hooks.names.push(name);
        }
        (hooks, errors)
    }

    /// Their names, in the order of their declaration: probes tell which one runs.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn any(&self, index: usize, moment: Moment) -> bool {
        self.of.contains_key(&(index, moment))
    }

    fn at(&self, index: usize, moment: Moment) -> &[usize] {
        self.of.get(&(index, moment)).map_or(&[], Vec::as_slice)
    }

    /// Components with hooks of this moment, ascending.
    fn components(&self, moment: Moment) -> impl Iterator<Item = usize> {
        self.of.keys().filter(move |(_, of)| *of == moment).map(|(index, _)| *index)
    }
}

/// What hooks have to be told.
#[derive(Default)]
pub(crate) struct Lifecycle {
    records: Vec<Record>,
    /// Emptied records and changes of earlier fixed points, kept for their memory.
    spare_records: Vec<Record>,
    spare_changes: Vec<(usize, Entity)>,
    /// What was added and not told yet: of each component by slot, by which record it will be; 0 of
    /// others.
    fresh: BTreeMap<usize, Vec<u64>>,
    /// How many additions were ever noted by this process.
    additions: u64,
    /// An entity is ending: what it loses now, it loses by that.
    pub(crate) ending: bool,
    /// Changes that are not later than this were told.
    pub(crate) since: Stamp,
}

enum Record {
    Added { index: usize, entity: Entity, number: u64 },
    Lost { index: usize, entity: Entity, value: Box<dyn Any + Send>, despawned: bool },
}

impl Lifecycle {
    /// By which record the addition of a component will be told; 0 if there is none to tell.
    fn fresh(&self, index: usize, entity: Entity) -> u64 {
        let of_component = self.fresh.get(&index);
        of_component.and_then(|of| of.get(entity.slot() as usize)).copied().unwrap_or(0)
    }

    fn set_fresh(&mut self, index: usize, entity: Entity, number: u64) {
        let (of_component, slot) = (self.fresh.entry(index).or_default(), entity.slot() as usize);
        if slot >= of_component.len() {
            of_component.resize(slot + 1, 0);
        }
        of_component[slot] = number;
    }

    /// As [`Lifecycle::fresh`], and there is none to tell from then on.
    fn take_fresh(&mut self, index: usize, entity: Entity) -> u64 {
        let of_component = self.fresh.get_mut(&index);
        let number = of_component.and_then(|of| of.get_mut(entity.slot() as usize));
        number.map_or(0, std::mem::take)
    }
}

impl World {
    /// Notes that an entity got a component that it had not.
    pub(crate) fn note_addition(&mut self, index: usize, entity: Entity) {
        let hooks = &self.registry.hooks;
        let told = [Moment::Add, Moment::Remove, Moment::Despawn];
        if told.iter().any(|moment| hooks.any(index, *moment)) {
            self.lifecycle.additions += 1;
            let number = self.lifecycle.additions;
            self.lifecycle.set_fresh(index, entity, number);
            self.lifecycle.records.push(Record::Added { index, entity, number });
        }
    }

    /// Takes a component away and keeps its value for hooks, if there are any; whether it was
    /// there.
    pub(crate) fn take_noted(&mut self, index: usize, entity: Entity) -> bool {
        let slot = entity.slot() as usize;
        let hooks = &self.registry.hooks;
        if !hooks.any(index, Moment::Remove) && !hooks.any(index, Moment::Despawn) {
            self.lifecycle.take_fresh(index, entity);
            return self.columns[index].remove(slot);
        }
        let Some(value) = self.columns[index].take_boxed(slot) else { return false };
        if self.lifecycle.take_fresh(index, entity) == 0 {
            let despawned = self.lifecycle.ending;
            self.lifecycle.records.push(Record::Lost { index, entity, value, despawned });
        } else {
            self.columns[index].give_back(value);
        }
        true
    }

    /// Tells what happened since the last fixed point, and what hooks did, to the end. `running` is
    /// told the place of each hook before it starts. Whether any hook ran.
    pub(crate) fn run_hooks(&mut self, running: &dyn Fn(usize)) -> bool {
        if self.registry.hooks.is_empty() {
            return false;
        }
        let registry = Arc::clone(&self.registry);
        let hooks = &registry.hooks;
        let mut changed = self.changed_since(hooks);
        self.lifecycle.since = self.now.stamp;
        let mut ran = self.tell_records(hooks, running);
        for (index, entity) in changed.drain(..) {
            for &hook in hooks.at(index, Moment::Change) {
                if self.entities.contains(entity)
                    && self.columns[index].holds(entity.slot() as usize)
                {
                    running(hook);
                    self.told_of = entity;
                    (hooks.list[hook])(self, entity, None);
                    ran = true;
                }
            }
        }
        self.lifecycle.spare_changes = changed;
        ran
    }

    fn tell_records(&mut self, hooks: &Hooks, running: &dyn Fn(usize)) -> bool {
        let mut ran = false;
        // Hooks add records to the other list meanwhile.
        let spare = std::mem::take(&mut self.lifecycle.spare_records);
        let mut records = std::mem::replace(&mut self.lifecycle.records, spare);
        for record in records.drain(..) {
            let (index, entity, value, moments): (_, _, _, &[Moment]) = match &record {
                Record::Added { index, entity, number } => {
                    // Lost meanwhile, and perhaps added again: then a later record tells it.
                    if self.lifecycle.fresh(*index, *entity) != *number {
                        continue;
                    }
                    self.lifecycle.take_fresh(*index, *entity);
                    (*index, *entity, None, &[Moment::Add])
                }
                Record::Lost { index, entity, value, despawned } => {
                    let moments: &[Moment] = if *despawned {
                        &[Moment::Remove, Moment::Despawn]
                    } else {
                        &[Moment::Remove]
                    };
                    (*index, *entity, Some(&**value as &dyn Any), moments)
                }
            };
            for &hook in moments.iter().flat_map(|moment| hooks.at(index, *moment)) {
                running(hook);
                self.told_of = entity;
                (hooks.list[hook])(self, entity, value);
                ran = true;
            }
            if let Record::Lost { index, value, .. } = record {
                self.columns[index].give_back(value);
            }
        }
        self.lifecycle.spare_records = records;
        ran
    }

    /// What was written since the last fixed point and was there before.
    fn changed_since(&mut self, hooks: &Hooks) -> Vec<(usize, Entity)> {
        let mut changed = std::mem::take(&mut self.lifecycle.spare_changes);
        let since = self.lifecycle.since;
        for index in hooks.components(Moment::Change) {
            let column = &self.columns[index];
            for page in 0..column.present().len() {
                let written = column.newer_in(page, since, StampOf::Change)
                    & !column.newer_in(page, since, StampOf::Addition);
                changed.extend(
                    bits(written).map(|bit| (index, self.entities.in_slot(page * 64 + bit))),
                );
            }
        }
        changed
    }
}
