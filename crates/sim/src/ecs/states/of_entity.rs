//! State machines of entities: each entity that has one stands in a component, [`State`].
//!
//! At a fixed point a machine looks at the entities whose `State` was written since the one before:
//! those that are new begin their time, those that were asked to go somewhere go. Before the
//! systems of a tick it looks at all of them, for those whose time is over.

use std::any::{Any, type_name};
use std::sync::Arc;

use crate::ecs::registry::{Access, Registry};
use crate::ecs::states::machine::{AnyMachine, Graph, Way};
use crate::ecs::states::{EntityRefused, State, States, TransitionError};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::change::Mut;
use crate::storage::column::{Column, PAGE, bits};
use crate::storage::stamp::{Run, StampOf};
use crate::value::entity::Entity;

/// A state machine that entities have, as a game declares it: see
/// [`GameBuilder::entity_states`](crate::GameBuilder::entity_states). Guards, timeouts and hooks
/// are told whose machine it is.
pub struct EntityMachine<S> {
    pub(crate) graph: Graph<S>,
}

impl<S: States> EntityMachine<S> {
    pub(crate) fn new() -> Self {
        Self { graph: Graph::new() }
    }

    fn edge(&mut self, from: S, to: S, way: Way) -> &mut Self {
        self.graph.edge(from, to, way);
        self
    }

    /// An entity can go from one state to the other.
    pub fn allow(&mut self, from: S, to: S) -> &mut Self {
        self.edge(from, to, Way::Free)
    }

    /// An entity can go from one state to the other if `guard` holds; `words` say what the guard
    /// asks for, in errors and charts.
    pub fn allow_if(
        &mut self,
        from: S,
        to: S,
        words: &str,
        guard: impl Fn(&World, Entity) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        self.edge(from, to, Way::Guarded(words.to_owned(), Box::new(guard)))
    }

    /// An entity goes from one state to the other by itself, so many ticks (at least 1) after it
    /// entered it; `ticks` is asked when it does. It can be asked for as well.
    pub fn timeout(
        &mut self,
        from: S,
        to: S,
        ticks: impl Fn(&World, Entity) -> u64 + Send + Sync + 'static,
    ) -> &mut Self {
        self.edge(from, to, Way::Timeout(Box::new(ticks)))
    }

    /// Runs when an entity enters the state; not for the one with which it was spawned.
    pub fn on_enter(
        &mut self,
        state: S,
        hook: impl Fn(&mut World, Entity) + Send + Sync + 'static,
    ) -> &mut Self {
        self.graph.on_enter(state, Box::new(hook));
        self
    }

    /// Runs when an entity leaves the state; not when it is despawned or loses its machine.
    pub fn on_exit(
        &mut self,
        state: S,
        hook: impl Fn(&mut World, Entity) + Send + Sync + 'static,
    ) -> &mut Self {
        self.graph.on_exit(state, Box::new(hook));
        self
    }

    /// The entities that are new or were asked to go, ascending by slot, of those whose state was
    /// written since the fixed point before.
    fn waiting(world: &World, waiting: &mut Vec<Entity>) {
        let Some(column) = column::<S>(world) else { return };
        // What was written by hand after that fixed point has its stamp.
        let since = world.moved.saturating_sub(1);
        let values = column.values.borrow();
        for (page, _) in column.pages() {
            if column.still_since(page, since) {
                continue;
            }
            let Some(states) = column.places.range(page).and_then(|range| values.get(range)) else {
                continue;
            };
            for bit in bits(column.newer(page, since, StampOf::Change)) {
                if states[bit].fresh || states[bit].asked.is_some() {
                    waiting.push(world.entities().in_slot(page * PAGE + bit));
                }
            }
        }
    }

    /// The entities whose time in their state is over, ascending by slot.
    fn late(world: &World, late: &mut Vec<Entity>) {
        let Some(column) = column::<S>(world) else { return };
        let (tick, values) = (world.tick().0, column.values.borrow());
        for (page, present) in column.pages() {
            let Some(states) = column.places.range(page).and_then(|range| values.get(range)) else {
                continue;
            };
            for bit in bits(present) {
                if states[bit].until <= tick && states[bit].asked.is_none() {
                    late.push(world.entities().in_slot(page * PAGE + bit));
                }
            }
        }
    }

    /// Begins the time of an entity that is new, and lets it go where it was asked to.
    fn carry_out_one(&self, world: &mut World, entity: Entity) {
        // An entity before it may have ended it.
        let Some(State { now: from, fresh, .. }) = world.get::<State<S>>(entity) else { return };
        let tick = world.tick();
        if fresh {
            let until = self.graph.until(world, entity, from);
            if let Some(mut state) = world.get_mut::<State<S>>(entity) {
                (state.since, state.until, state.fresh) = (tick, until, false);
            }
        }
        let asked = world.get_mut::<State<S>>(entity).and_then(|mut state| state.asked.take());
        let Some(to) = asked else { return };
        if let Some(words) = self.graph.forbids(world, entity, from, to) {
            world.send(EntityRefused {
                entity,
                machine: S::ID.to_owned(),
                from: format!("{from:?}"),
                to: format!("{to:?}"),
                guard: words.to_owned(),
            });
            return;
        }
        self.graph.leave(world, entity, from);
        // The hook may have ended it, or started its machine over.
        if world.read(entity, |state: &State<S>| state.fresh) != Some(false) {
            return;
        }
        let until = self.graph.until(world, entity, to);
        if let Some(mut state) = world.get_mut::<State<S>>(entity) {
            (state.now, state.since, state.until) = (to, tick, until);
        }
        self.graph.enter(world, entity, to);
    }
}

fn column<S: States>(world: &World) -> Option<&Column<State<S>>> {
    world.column(world.registry.components.of::<State<S>>()?)
}

impl<S: States> AnyMachine for EntityMachine<S> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn id(&self) -> &'static str {
        S::ID
    }

    /// Entities begin their time when they are spawned.
    fn start(&self, _world: &mut World) {}

    fn time_out(&self, world: &mut World) {
        let mut late = std::mem::take(&mut world.moving);
        Self::late(world, &mut late);
        for entity in late.drain(..) {
            if let Some(mut state) = world.get_mut::<State<S>>(entity) {
                state.asked = self.graph.timed(state.now);
            }
        }
        world.moving = late;
    }

    fn carry_out(&self, world: &mut World) -> bool {
        let mut waiting = std::mem::take(&mut world.moving);
        Self::waiting(world, &mut waiting);
        let any = !waiting.is_empty();
        for entity in waiting.drain(..) {
            world.told_of = entity;
            self.carry_out_one(world, entity);
        }
        world.moving = waiting;
        any
    }

    fn chart(&self, lines: &mut Vec<String>) {
        self.graph.chart(&format!("{} of entities", S::ID), lines);
    }
}

/// Lets a system ask for transitions of entities, whose states it has from a query. They are
/// carried out at the end of the stage.
///
/// ```
/// use rekindle_sim::{Component, Entity, EntityTransitions, IntoSystems as _, Query, State};
/// # use rekindle_sim::doc_game::Position;
///
/// #[derive(Debug, Clone, Copy, PartialEq, Component)]
/// #[component(id = "gait")]
/// enum Gait { Idle, Run, Tired }
///
/// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
/// game.entity_states::<Gait>(|gait| {
///     gait.allow(Gait::Idle, Gait::Run);
///     gait.timeout(Gait::Run, Gait::Tired, |world, _runner| 5 * u64::from(world.tick_rate()));
///     gait.timeout(Gait::Tired, Gait::Idle, |_, _| 60);
///     gait.on_enter(Gait::Tired, |world, runner| drop(world.despawn(runner)));
/// });
/// # }
/// type Runner<'w> = (Entity, &'w Position, &'w mut State<Gait>);
/// fn startle(gaits: EntityTransitions<Gait>, mut runners: Query<Runner>) {
///     for (entity, position, mut gait) in runners.iter_mut() {
///         if position.x < 1.0 && gait.is(Gait::Idle) {
///             gaits.go(entity, &mut gait, Gait::Run).expect("Idle leads to Run");
///         }
///     }
/// }
/// let system = startle.every(5);
/// ```
pub struct EntityTransitions<'w, S: States> {
    machine: &'w EntityMachine<S>,
}

impl<S: States> EntityTransitions<'_, S> {
    /// Asks for a transition of `entity`, whose state this is. A guard is asked at the end of the
    /// stage; if it says no, there is an event [`EntityRefused`].
    ///
    /// # Errors
    /// If the machine declares no such transition, or the entity is on its way already. They name
    /// the entity and both states; nothing has changed, also not for queries of what was changed.
    pub fn go(
        &self,
        entity: Entity,
        state: &mut Mut<'_, State<S>>,
        to: S,
    ) -> Result<(), TransitionError> {
        self.machine.graph.declared(Some(entity), state, to)?;
        state.asked = Some(to);
        Ok(())
    }
}

impl<S: States> SystemParam for EntityTransitions<'_, S> {
    type State = usize;
    type Item<'w> = EntityTransitions<'w, S>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        registry.machine::<EntityMachine<S>>().map_or_else(
            || {
                access.errors.push(undeclared::<S>());
                usize::MAX
            },
            |(place, _)| place,
        )
    }
    fn get<'w>(place: &'w usize, world: &'w World, _run: &Run) -> Option<EntityTransitions<'w, S>> {
        let machine = world.registry.machines.get(*place)?.as_any().downcast_ref()?;
        Some(EntityTransitions { machine })
    }
}

fn undeclared<S: States>() -> String {
    format!(
        "there is no state machine of entities with `{0}`: add `game.entity_states::<{0}>(…)` in \
         `Game::build`",
        type_name::<S>()
    )
}

impl World {
    /// Asks for a transition of an entity, which is carried out at the next fixed point. For
    /// `setup`, `join`, `leave`, `command` and hooks; systems have
    /// [`EntityTransitions`](crate::EntityTransitions).
    ///
    /// # Errors
    /// If the entity has no such machine, if the machine declares no such transition, is on its way
    /// already, or the guard says no.
    ///
    /// # Panics
    /// If the game declares no such machine.
    pub fn go_entity<S: States>(&mut self, entity: Entity, to: S) -> Result<(), TransitionError> {
        let registry = Arc::clone(&self.registry);
        let machine = registry.machine::<EntityMachine<S>>();
        let Some((_, machine)) = machine else { panic!("{}", undeclared::<S>()) };
        let Some(state) = self.get::<State<S>>(entity) else {
            return Err(TransitionError::Absent { machine: S::ID, entity });
        };
        machine.graph.allowed(self, Some(entity), &state, to)?;
        if let Some(mut state) = self.get_mut::<State<S>>(entity) {
            state.asked = Some(to);
        }
        Ok(())
    }
}
