//! State machines of a match: each stands in a resource, [`State`].

use std::any::{Any, type_name};
use std::cell::{Cell, RefMut};
use std::sync::Arc;

use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::states::machine::{AnyMachine, Graph, Way};
use crate::ecs::states::{Refused, State, States, TransitionError};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::resource::ResourceCell;
use crate::storage::stamp::{Run, Stamp};
use crate::value::entity::Entity;

/// A state machine as a game declares it: see [`GameBuilder::states`](crate::GameBuilder::states).
pub struct Machine<S> {
    pub(crate) graph: Graph<S>,
}

impl<S: States> Machine<S> {
    pub(crate) fn new() -> Self {
        Self { graph: Graph::new() }
    }

    fn edge(&mut self, from: S, to: S, way: Way) -> &mut Self {
        self.graph.edge(from, to, way);
        self
    }

    /// It can go from one state to the other.
    pub fn allow(&mut self, from: S, to: S) -> &mut Self {
        self.edge(from, to, Way::Free)
    }

    /// It can go from one state to the other if `guard` holds; `words` say what the guard asks for,
    /// in errors and charts.
    pub fn allow_if(
        &mut self,
        from: S,
        to: S,
        words: &str,
        guard: impl Fn(&World) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        self.edge(from, to, Way::Guarded(words.to_owned(), Box::new(move |world, _| guard(world))))
    }

    /// It goes from one state to the other by itself, so many ticks (at least 1) after it was
    /// entered; `ticks` is asked when it is. It can be asked for as well.
    pub fn timeout(
        &mut self,
        from: S,
        to: S,
        ticks: impl Fn(&World) -> u64 + Send + Sync + 'static,
    ) -> &mut Self {
        self.edge(from, to, Way::Timeout(Box::new(move |world, _| ticks(world))))
    }

    /// Runs when the state is entered; not for the one in which a match begins.
    pub fn on_enter(
        &mut self,
        state: S,
        hook: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> &mut Self {
        self.graph.on_enter(state, Box::new(move |world, _| hook(world)));
        self
    }

    /// Runs when the state is left.
    pub fn on_exit(
        &mut self,
        state: S,
        hook: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> &mut Self {
        self.graph.on_exit(state, Box::new(move |world, _| hook(world)));
        self
    }
}

impl<S: States> AnyMachine for Machine<S> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn id(&self) -> &'static str {
        S::ID
    }

    fn start(&self, world: &mut World) {
        let state = world.resource::<State<S>>().now;
        let until = self.graph.until(world, Entity::NONE, state);
        if until != u64::MAX {
            world.resource_mut::<State<S>>().until = until;
        }
    }

    fn time_out(&self, world: &mut World) {
        let to = {
            let state = world.resource::<State<S>>();
            if world.tick().0 < state.until || state.asked.is_some() {
                return;
            }
            self.graph.timed(state.now)
        };
        if let Some(to) = to {
            world.resource_mut::<State<S>>().asked = Some(to);
        }
    }

    fn carry_out(&self, world: &mut World) -> bool {
        let (from, to) = {
            let state = world.resource::<State<S>>();
            let Some(to) = state.asked else { return false };
            (state.now, to)
        };
        world.resource_mut::<State<S>>().asked = None;
        if let Some(words) = self.graph.forbids(world, Entity::NONE, from, to) {
            world.send(Refused {
                machine: S::ID.to_owned(),
                from: format!("{from:?}"),
                to: format!("{to:?}"),
                guard: words.to_owned(),
            });
            return true;
        }
        self.graph.leave(world, Entity::NONE, from);
        let (tick, until) = (world.tick(), self.graph.until(world, Entity::NONE, to));
        {
            let mut state = world.resource_mut::<State<S>>();
            (state.now, state.since, state.until) = (to, tick, until);
        }
        self.graph.enter(world, Entity::NONE, to);
        true
    }

    fn chart(&self, lines: &mut Vec<String>) {
        self.graph.chart(S::ID, lines);
    }
}

/// Lets a system ask for transitions of a machine; it reads the state as well. They are carried out
/// at the end of the stage.
///
/// ```
/// use rekindle_sim::{IntoSystems as _, Query, Resource, Transitions};
/// # use rekindle_sim::doc_game::Coin;
///
/// #[derive(Debug, Clone, Copy, PartialEq, Resource)]
/// #[resource(id = "phase")]
/// enum Phase { Hunt, Over }
///
/// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
/// game.states::<Phase>(|phase| {
///     phase.timeout(Phase::Hunt, Phase::Over, |world| 60 * u64::from(world.tick_rate()));
///     phase.on_enter(Phase::Over, |world| world.output().end_match("time is over"));
/// });
/// # }
/// fn conclude(mut phase: Transitions<Phase>, coins: Query<&Coin>) {
///     if coins.is_empty() && phase.now() == Phase::Hunt {
///         phase.go(Phase::Over).expect("Hunt leads to Over");
///     }
/// }
/// let system = conclude.every(30);
/// ```
pub struct Transitions<'w, S: States> {
    state: RefMut<'w, State<S>>,
    changed: &'w Cell<Stamp>,
    machine: &'w Machine<S>,
    run: Run,
}

impl<S: States> Transitions<'_, S> {
    /// Asks for a transition. A guard is asked at the end of the stage; if it says no, there is an
    /// event [`Refused`].
    ///
    /// # Errors
    /// If the machine declares no such transition, or is on its way already.
    pub fn go(&mut self, to: S) -> Result<(), TransitionError> {
        self.machine.graph.declared(None, &self.state, to)?;
        self.state.asked = Some(to);
        self.changed.set(self.run.stamp);
        Ok(())
    }
}

impl<S: States> std::ops::Deref for Transitions<'_, S> {
    type Target = State<S>;
    fn deref(&self) -> &State<S> {
        &self.state
    }
}

impl<S: States> SystemParam for Transitions<'_, S> {
    type State = (usize, usize);
    type Item<'w> = Transitions<'w, S>;
    fn init(registry: &Registry, access: &mut Access) -> (usize, usize) {
        let Some((machine, _)) = registry.machine::<Machine<S>>() else {
            access.errors.push(undeclared::<S>());
            return (usize::MAX, usize::MAX);
        };
        let resource = registry.resource::<State<S>>(access);
        access.write(Touched::Resource(resource), S::ID);
        (machine, resource)
    }
    fn get<'w>(
        (machine, resource): &'w (usize, usize),
        world: &'w World,
        run: &Run,
    ) -> Option<Transitions<'w, S>> {
        let cell: &ResourceCell<State<S>> = world.cell(*resource)?;
        let state = cell.value.try_borrow_mut().ok()?;
        let machine = world.registry.machines.get(*machine)?.as_any().downcast_ref()?;
        Some(Transitions { state, changed: &cell.changed, machine, run: *run })
    }
}

fn undeclared<S: States>() -> String {
    format!(
        "there is no state machine of `{0}`: add `game.states::<{0}>(…)` in `Game::build`",
        type_name::<S>()
    )
}

impl Registry {
    /// The machine of this type, and its place among all of them.
    pub(super) fn machine<M: Any>(&self) -> Option<(usize, &M)> {
        let mut machines = self.machines.iter().enumerate();
        machines.find_map(|(place, machine)| Some((place, machine.as_any().downcast_ref()?)))
    }
}

impl World {
    /// Asks for a transition of a machine, which is carried out at the next fixed point. For
    /// `setup`, `join`, `leave`, `command` and hooks; systems have [`Transitions`].
    ///
    /// # Errors
    /// If the machine declares no such transition, is on its way already, or the guard says no.
    ///
    /// # Panics
    /// If the game declares no such machine.
    pub fn go<S: States>(&mut self, to: S) -> Result<(), TransitionError> {
        let registry = Arc::clone(&self.registry);
        let machine = registry.machine::<Machine<S>>();
        let Some((_, machine)) = machine else { panic!("{}", undeclared::<S>()) };
        machine.graph.allowed(self, None, &self.resource::<State<S>>(), to)?;
        self.resource_mut::<State<S>>().asked = Some(to);
        Ok(())
    }

    /// Starts the machines of a new match.
    pub(crate) fn start_machines(&mut self) {
        for machine in &Arc::clone(&self.registry).machines {
            machine.start(self);
        }
    }

    /// Asks for the transitions of timeouts that are over.
    pub(crate) fn time_out(&mut self) {
        if !self.registry.machines.is_empty() {
            for machine in &Arc::clone(&self.registry).machines {
                machine.time_out(self);
            }
        }
    }

    /// Carries out what machines were asked for; whether anything was. `running` is told the place
    /// of each machine before.
    pub(crate) fn carry_out(&mut self, running: &dyn Fn(usize)) -> bool {
        let registry = Arc::clone(&self.registry);
        let hooks = registry.hooks.names().len();
        let mut moved = false;
        for (place, machine) in registry.machines.iter().enumerate() {
            running(hooks + place);
            self.told_of = Entity::NONE;
            moved |= machine.carry_out(self);
        }
        moved
    }
}
