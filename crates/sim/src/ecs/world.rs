//! The world: entities, their components, resources and pending events. Everything a system can
//! read is here and in the checkpoint.

use std::any::{Any, TypeId, type_name};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rekindle_schema::Tick;

use crate::custom::define::Defined;
use crate::ecs::bundle::Bundle;
use crate::ecs::commands::CommandQueue;
use crate::ecs::hooks::Lifecycle;
use crate::ecs::index::Follower;
use crate::ecs::limit::QueryLimit;
use crate::ecs::output::Outbox;
use crate::ecs::params::RulesVersion;
use crate::ecs::registry::{Registry, in_place};
use crate::ecs::rng::Rng;
use crate::ecs::workers::Workers;
use crate::storage::change::Mut;
use crate::storage::column::{AnyColumn, Column, bits};
use crate::storage::entities::Entities;
use crate::storage::queue::{AnyQueue, Queue};
use crate::storage::resource::{AnyResource, ResourceCell};
use crate::storage::sorted::{EntitySet, Sorted};
use crate::storage::stamp::{self, Run, Stamp, StampOf, age, stamp};
use crate::value::Value;
use crate::value::component::{Component, Event, Resource};
use crate::value::entity::Entity;

/// Values computed from the configuration of a match; they are no state.
pub(crate) type Constants = BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// Of one relation: the entities that name a living entity, ascending by slot.
pub(crate) type Sources = Sorted<Entity, EntitySet>;

/// The world of a match.
///
/// Systems see it through their parameters. `Game::setup`, `join`, `leave` and `command` get it
/// whole and change it at once.
///
/// ```
/// use rekindle_sim::Harness;
/// use rekindle_sim::doc_game::{Coin, Duel, Position};
///
/// let mut duel = Harness::<Duel>::with_config(7, r#"{"coins": 0}"#);
/// let world = duel.world_mut();
/// let coin = world.spawn((Position { x: 1.0, y: 0.0 }, Coin { worth: 3 }));
/// assert_eq!(world.get::<Coin>(coin), Some(Coin { worth: 3 }));
/// if let Some(mut position) = world.get_mut::<Position>(coin) {
///     position.x += 1.0;
/// }
/// assert_eq!(world.get::<Position>(coin).map(|position| position.x), Some(2.0));
/// assert!(world.despawn(coin));
/// assert!(world.is_empty());
/// ```
pub struct World {
    pub(crate) registry: Arc<Registry>,
    pub(crate) constants: Arc<Constants>,
    pub(crate) tick: Tick,
    pub(crate) tick_rate: u16,
    pub(crate) seed: u64,
    pub(crate) entities: Entities,
    /// Of the components of the game, then of those that data defines.
    pub(crate) columns: Vec<Box<dyn AnyColumn>>,
    /// Components that [data defines](crate::custom), in the order in which the match did.
    pub(crate) custom: Vec<Arc<Defined>>,
    pub(crate) removed: Vec<Vec<(Stamp, Entity)>>,
    pub(crate) resources: Vec<Box<dyn AnyResource>>,
    pub(crate) events: Vec<Box<dyn AnyQueue>>,
    /// Of each relation: who names whom. It follows from the components.
    pub(crate) sources: BTreeMap<usize, Sources>,
    /// Sets of sources that nobody needs, kept for their memory.
    pub(crate) spare_sources: Vec<EntitySet>,
    /// Entities that got a relation to an entity that was gone; empty between changes.
    pub(crate) orphans: Vec<Entity>,
    /// Entities that end, with those that end by it; empty between changes.
    pub(crate) ended: Vec<Entity>,
    /// Entities whose machines move; empty between fixed points.
    pub(crate) moving: Vec<Entity>,
    /// What [hooks](crate::ecs::hooks) have to be told; nothing between ticks.
    pub(crate) lifecycle: Lifecycle,
    /// Indexes and grids: they follow from the components.
    pub(crate) followers: Vec<Box<dyn Follower>>,
    /// What was written later than this is not in them yet.
    pub(crate) followed: Stamp,
    /// What was changed later than this is still to be [validated](World::validate).
    pub(crate) checked: Stamp,
    /// What was written at this stamp or later was not looked at yet by machines of entities.
    pub(crate) moved: Stamp,
    /// When each system last ran, in schedule order.
    pub(crate) last_runs: Vec<Stamp>,
    /// The decoded inputs of the tick that is being made.
    pub(crate) inputs: Box<dyn Any + Send>,
    pub(crate) commands: RefCell<CommandQueue>,
    pub(crate) outbox: RefCell<Outbox>,
    /// Threads that help with queries and systems; no state.
    pub(crate) workers: Option<Arc<dyn Workers>>,
    /// What one system is to see, while somebody finds out at which entity it panics; no state.
    pub(crate) query_limit: Option<Box<QueryLimit>>,
    /// The entity that a hook or a machine is called for.
    pub(crate) told_of: Entity,
    /// Worlds for systems that run [side by side](crate::ecs::schedule::beside), kept for their
    /// memory; no state.
    pub(crate) lanes: Vec<World>,
    /// What direct changes are marked with.
    pub(crate) now: Run,
}

impl World {
    pub(crate) fn new(
        registry: Arc<Registry>,
        constants: Arc<Constants>,
        systems: usize,
        seed: u64,
        tick_rate: u16,
    ) -> Self {
        Self {
            columns: registry.components.list.iter().map(|stored| (stored.storage)()).collect(),
            custom: Vec::new(),
            removed: vec![Vec::new(); registry.components.list.len()],
            resources: registry.resources.list.iter().map(|stored| (stored.storage)()).collect(),
            events: registry.events.list.iter().map(|stored| (stored.storage)()).collect(),
            followers: registry.followers.iter().map(|follower| (follower.make)()).collect(),
            followed: 0,
            registry,
            constants,
            tick: Tick(0),
            tick_rate,
            seed,
            entities: Entities::default(),
            sources: BTreeMap::new(),
            spare_sources: Vec::new(),
            orphans: Vec::new(),
            ended: Vec::new(),
            moving: Vec::new(),
            lifecycle: Lifecycle::default(),
            checked: 0,
            moved: 0,
            last_runs: vec![0; systems],
            inputs: Box::new(()),
            commands: RefCell::default(),
            outbox: RefCell::default(),
            workers: None,
            query_limit: None,
            told_of: Entity::NONE,
            lanes: Vec::new(),
            now: Run { stamp: stamp(Tick(0), 0), last: 0, stream: 0, tick: Tick(0) },
        }
    }

    /// The tick that the world stands at, or that is being made.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Ticks per second.
    pub fn tick_rate(&self) -> u16 {
        self.tick_rate
    }

    /// The taken slots that loops of a system go over, 64 per word.
    #[inline]
    pub(crate) fn seen_by(&self, run: &Run) -> &[u64] {
        match &self.query_limit {
            None => self.entities.words(),
            Some(limit) => limit.words(run, &self.entities),
        }
    }

    /// The version of the rules that the match began with.
    pub fn rules(&self) -> RulesVersion {
        let known = self.constants.get(&TypeId::of::<RulesVersion>());
        known.and_then(|rules| rules.downcast_ref()).copied().unwrap_or(RulesVersion(1))
    }

    /// Random numbers for `setup`, `join`, `leave` and `command`: the same numbers for the same
    /// seed, tick and `purpose`.
    pub fn rng(&self, purpose: u64) -> Rng {
        Rng::stream(self.seed, self.tick, purpose)
    }

    /// A value computed from the configuration, registered with `constant`; the configuration
    /// itself is one.
    pub fn constant<T: Send + Sync + 'static>(&self) -> Arc<T> {
        let found = self
            .constants
            .get(&TypeId::of::<T>())
            .and_then(|value| Arc::clone(value).downcast().ok());
        found.unwrap_or_else(|| {
            panic!(
                "constant `{0}` is not registered: add `game.constant(|config| {0} …)` in \
                `Game::build`",
                type_name::<T>()
            )
        })
    }

    /// A new entity in the lowest free slot, with these components.
    pub fn spawn(&mut self, bundle: impl Bundle) -> Entity {
        let entity = self.entities.spawn();
        bundle.insert(self, entity);
        self.end_orphans();
        entity
    }

    /// Ends an entity and its components, and does what [relations](crate::OnDespawn) say about
    /// those that name it; whether it was alive.
    pub fn despawn(&mut self, entity: Entity) -> bool {
        let ended = self.end(entity);
        if ended && !self.sources.is_empty() {
            self.cascade(entity);
        }
        ended
    }

    /// Ends an entity and its components, and nothing else; whether it was alive.
    pub(crate) fn end(&mut self, entity: Entity) -> bool {
        if !self.entities.contains(entity) {
            return false;
        }
        self.lifecycle.ending = true;
        for index in 0..self.columns.len() {
            self.remove_index(entity, index);
        }
        self.lifecycle.ending = false;
        self.entities.free(entity);
        true
    }

    /// Gives an entity these components, replacing those it has; whether it was alive.
    pub fn insert(&mut self, entity: Entity, bundle: impl Bundle) -> bool {
        let alive = self.entities.contains(entity);
        if alive {
            bundle.insert(self, entity);
            self.end_orphans();
        }
        alive
    }

    pub(crate) fn insert_one<T: Component>(&mut self, entity: Entity, value: T) {
        let Some(index) = self.registry.components.of::<T>() else {
            panic!(
                "component `{0}` is not registered: add `game.component::<{0}>()` in `Game::build`",
                type_name::<T>()
            );
        };
        if T::RELATION.is_some() && !self.relate(entity, value.target().unwrap_or_default(), index)
        {
            self.remove_index(entity, index);
            return;
        }
        let now = self.now.stamp;
        let column = self.columns[index].as_any_mut().downcast_mut::<Column<T>>();
        let new = column.is_some_and(|column| column.insert(entity.slot() as usize, value, now));
        if new && !self.registry.hooks.is_empty() {
            self.note_addition(index, entity);
        }
        if !T::REQUIRES.is_empty() {
            self.insert_required(entity, index);
        }
    }

    /// Gives an entity what the component with this index requires and it has not.
    fn insert_required(&mut self, entity: Entity, index: usize) {
        let registry = Arc::clone(&self.registry);
        for &other in registry.required.get(&index).into_iter().flatten() {
            let slot = entity.slot() as usize;
            if self.columns[other].insert_initial(slot, self.now.stamp)
                && !registry.hooks.is_empty()
            {
                self.note_addition(other, entity);
            }
        }
    }

    /// Takes a component away; whether it was there.
    pub fn remove<T: Component>(&mut self, entity: Entity) -> bool {
        let index = self.registry.components.of::<T>();
        index
            .is_some_and(|index| self.entities.contains(entity) && self.remove_index(entity, index))
    }

    pub(crate) fn remove_index(&mut self, entity: Entity, index: usize) -> bool {
        if !self.sources.is_empty() {
            self.unrelate(entity, index);
        }
        let removed = if self.registry.hooks.is_empty() {
            self.columns[index].remove(entity.slot() as usize)
        } else {
            self.take_noted(index, entity)
        };
        if removed && self.registry.watched.contains(&index) {
            self.removed[index].push((self.now.stamp, entity));
        }
        removed
    }

    /// Whether an entity is alive.
    pub fn contains(&self, entity: Entity) -> bool {
        self.entities.contains(entity)
    }

    /// How many entities are alive.
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// Whether no entity is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of a component.
    pub fn get<T: Component>(&self, entity: Entity) -> Option<T> {
        self.read(entity, T::clone)
    }

    /// What `read` says of a component; none if the entity lacks it.
    pub(crate) fn read<T: Component, R>(
        &self,
        entity: Entity,
        read: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        let column = self.column::<T>(self.registry.components.of::<T>()?)?;
        if self.contains(entity) { column.with(entity.slot() as usize, read) } else { None }
    }

    /// All entities that have a `T`, ascending by slot, each with a copy of it: for tests, and for
    /// rules that look at a whole world. Systems have queries, which copy nothing.
    pub fn all<T: Component>(&self) -> impl Iterator<Item = (Entity, T)> + '_ {
        let pages = self.entities.words().iter().enumerate();
        let slots = pages.flat_map(|(page, word)| bits(*word).map(move |bit| page * 64 + bit));
        let entities = slots.map(|slot| self.entities.in_slot(slot));
        entities.filter_map(|entity| Some((entity, self.get::<T>(entity)?)))
    }

    /// A component to change.
    ///
    /// # Panics
    /// If it is a relation: those are inserted anew.
    pub fn get_mut<T: Component>(&mut self, entity: Entity) -> Option<Mut<'_, T>> {
        assert!(T::RELATION.is_none(), "{}", in_place(T::ID));
        if !self.entities.contains(entity) {
            return None;
        }
        let column = self.columns[self.registry.components.of::<T>()?]
            .as_any_mut()
            .downcast_mut::<Column<T>>()?;
        let (value, changed) = column.get_mut(entity.slot() as usize)?;
        Some(Mut::new(value, changed, self.now.stamp))
    }

    /// A resource.
    pub fn resource<T: Resource>(&self) -> std::cell::Ref<'_, T> {
        self.cell_of::<T>().value.borrow()
    }

    /// A resource to change.
    pub fn resource_mut<T: Resource>(&mut self) -> std::cell::RefMut<'_, T> {
        let now = self.now.stamp;
        let cell = self.cell_of::<T>();
        cell.changed.set(now);
        cell.value.borrow_mut()
    }

    /// Replaces a resource.
    pub fn insert_resource<T: Resource>(&mut self, value: T) {
        *self.resource_mut::<T>() = value;
    }

    fn cell_of<T: Resource>(&self) -> &ResourceCell<T> {
        let cell = self.registry.resources.of::<T>().and_then(|index| self.cell::<T>(index));
        cell.unwrap_or_else(|| {
            panic!(
                "resource `{0}` is not registered: add `game.resource::<{0}>()` in `Game::build`",
                type_name::<T>()
            )
        })
    }

    /// Sends an event to the systems.
    pub fn send<T: Event>(&mut self, event: T) {
        let index = self.registry.events.of::<T>();
        let Some(queue) = index.and_then(|index| self.queue::<T>(index)) else {
            panic!(
                "event `{0}` is not registered: add `game.event::<{0}>()` in `Game::build`",
                type_name::<T>()
            );
        };
        queue.send(self.now.stamp, event);
    }

    /// Tells players, asks for effects, ends the match: see [`crate::Output`].
    pub fn output(&mut self) -> crate::Output<'_> {
        crate::Output::new(&self.outbox, self.tick)
    }

    #[inline]
    pub(crate) fn entities(&self) -> &Entities {
        &self.entities
    }

    #[inline]
    pub(crate) fn column<T: Component>(&self, index: usize) -> Option<&Column<T>> {
        self.columns.get(index)?.as_any().downcast_ref()
    }

    pub(crate) fn removed(&self, index: usize) -> &[(Stamp, Entity)] {
        self.removed.get(index).map_or(&[], Vec::as_slice)
    }

    #[inline]
    pub(crate) fn cell<T: Value>(&self, index: usize) -> Option<&ResourceCell<T>> {
        self.resources.get(index)?.as_any().downcast_ref()
    }

    #[inline]
    pub(crate) fn queue<T: Event>(&self, index: usize) -> Option<&Queue<T>> {
        self.events.get(index)?.as_any().downcast_ref()
    }

    /// Applies what systems asked for through `Commands`, in order.
    ///
    /// They are marked with `now`, a place behind all systems of the stage: marked with the place
    /// of the system that asked, an addition would be old to a system that ran between it and the
    /// end of the stage.
    ///
    /// # Panics
    /// If `now` lies before the last change. In builds with debug assertions only.
    pub(crate) fn flush(&mut self, now: Stamp) {
        debug_assert!(now >= self.now.stamp, "stamps go back from {} to {now}", self.now.stamp);
        self.now.stamp = now;
        self.entities.flush();
        if self.commands.get_mut().is_empty() {
            return;
        }
        let mut commands = std::mem::take(self.commands.get_mut());
        commands.apply(self);
        // Commands cannot add commands, so the emptied queue is put back for its memory.
        *self.commands.get_mut() = commands;
    }

    /// Starts the next tick: moves stamps at the start of an era, and drops what every reader has
    /// seen.
    ///
    /// # Panics
    /// If `tick` is not the next one, or if something of the tick before is still to be done.
    pub(crate) fn begin(&mut self, tick: Tick) {
        assert_eq!(tick, self.tick.next(), "a world makes one tick after the other");
        assert!(
            self.commands.get_mut().is_empty(),
            "commands of tick {} were not carried out",
            self.tick
        );
        self.tick = tick;
        if stamp::starts_era(tick) {
            self.columns.iter_mut().for_each(|column| column.age());
            self.resources.iter_mut().for_each(|resource| resource.age());
            self.events.iter_mut().for_each(|queue| queue.age());
            self.removed.iter_mut().flatten().for_each(|(stamp, _)| age(stamp));
            self.last_runs.iter_mut().for_each(age);
            age(&mut self.checked);
            age(&mut self.moved);
            age(&mut self.lifecycle.since);
            age(&mut self.followed);
        }
        self.now = Run { stamp: stamp(tick, 0), last: 0, stream: 0, tick };
        let registry = Arc::clone(&self.registry);
        let before = |ticks: Option<&u64>| stamp::before(tick, *ticks.unwrap_or(&1));
        for (index, queue) in self.events.iter_mut().enumerate() {
            queue.trim(before(registry.retention.get(&index)));
        }
        for &index in &registry.watched {
            let removed = &mut self.removed[index];
            if !removed.is_empty() {
                let limit = before(registry.removal_retention.get(&index));
                let old = removed.partition_point(|(stamp, _)| *stamp < limit);
                removed.drain(..old);
            }
        }
    }

    /// Sets the tick of a world that was decoded, and what direct changes are marked with: as
    /// newer than everything in it.
    pub(crate) fn stand_at(&mut self, tick: Tick) {
        self.tick = tick;
        self.now = Run { stamp: stamp::last_of(tick), last: 0, stream: 0, tick };
        self.checked = self.now.stamp;
        self.moved = self.now.stamp;
        self.lifecycle.since = self.now.stamp;
        self.followed = self.now.stamp;
    }

    /// Whether everything in the world was changed by its tick at the latest, and what was removed
    /// lies in order. A decoded world is refused otherwise: its systems would never see what is
    /// newer than they are.
    pub(crate) fn stamps_are_past(&self) -> bool {
        let last = stamp::last_of(self.tick);
        let in_order = |removed: &Vec<(Stamp, Entity)>| {
            removed.is_sorted_by_key(|(stamp, _)| *stamp)
                && removed.last().is_none_or(|(stamp, _)| *stamp <= last)
        };
        !self.columns.iter().any(|column| {
            column.any_newer(last, StampOf::Addition) || column.any_newer(last, StampOf::Change)
        }) && self.removed.iter().all(in_order)
            && self.resources.iter().all(|resource| resource.changed() <= last)
            && !self.events.iter().any(|queue| queue.any_newer(last))
            && self.last_runs.iter().all(|run| *run <= last)
    }

    /// Appends what was removed of each component: a count, then stamp and entity of each.
    pub(crate) fn encode_removed(&self, out: &mut Vec<u8>) {
        for removed in &self.removed {
            (removed.len() as u32).encode(out);
            for (stamp, entity) in removed {
                stamp.encode(out);
                entity.encode(out);
            }
        }
    }

    /// Ends the tick: what was changed in it gets its canonical form.
    pub(crate) fn canonicalise(&mut self) {
        let since = stamp(self.tick, 0).saturating_sub(1);
        self.columns.iter_mut().for_each(|column| column.canonicalise(since));
        self.resources.iter_mut().for_each(|resource| resource.canonicalise(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World::new(Arc::default(), Arc::default(), 0, 1, 30)
    }

    #[test]
    #[should_panic(expected = "a world makes one tick after the other")]
    fn a_tick_that_is_left_out_is_noticed() {
        world().begin(Tick(2));
    }

    #[test]
    #[should_panic(expected = "commands of tick 1 were not carried out")]
    fn commands_that_outlive_their_tick_are_noticed() {
        let mut world = world();
        world.begin(Tick(1));
        world.commands.get_mut().push(|_| {});
        world.begin(Tick(2));
    }

    #[test]
    #[should_panic(expected = "stamps go back")]
    fn a_stage_that_ends_before_it_began_is_noticed() {
        let mut world = world();
        world.begin(Tick(1));
        world.flush(stamp(Tick(0), 3));
    }

    #[test]
    fn a_world_with_changes_of_tomorrow_is_told_from_others() {
        let mut world = world();
        world.stand_at(Tick(5));
        world.last_runs = vec![stamp(Tick(5), 1)];
        assert!(world.stamps_are_past());
        world.last_runs = vec![stamp(Tick(6), 1)];
        assert!(!world.stamps_are_past());
    }
}
