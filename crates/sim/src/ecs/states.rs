//! State machines: declared states and transitions of a match.
//!
//! A machine is a resource, [`State`], so where it stands is in checkpoints. Transitions are asked
//! for by systems ([`Transitions`]) and by whoever has the world whole ([`World::go`]), and carried
//! out at the next fixed point ([`crate::ecs::settle`]), before hooks: the guard is asked, then
//! `on_exit` of the old state runs, then the state changes, then `on_enter` of the new one runs.
//! What they ask for comes in the next round. Timeouts are looked at before the systems of a tick;
//! a transition that a command asked for in that tick goes first. Several machines take their turns
//! in the order in which the game declared them.

use std::any::{Any, TypeId, type_name};
use std::cell::{Cell, RefMut};
use std::fmt::Debug;
use std::sync::Arc;

use rekindle_schema::Tick;

use crate::Event;
use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::resources::Res;
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::resource::ResourceCell;
use crate::storage::stamp::{Run, Stamp};
use crate::value::component::{Resource, Stored};
use crate::value::shape::{Field, Shape};
use crate::value::{DecodeError, Reader, Value, from_bytes};

/// An enum without fields that derives `Resource`: the states of a machine. The first variant is
/// the state in which a match begins.
pub trait States: Resource + Copy + PartialEq + Debug {}

impl<S: Resource + Copy + PartialEq + Debug> States for S {}

/// Where a state machine stands: a resource, under the id of `S`. Read it as `Res<State<S>>`.
#[derive(Debug, Clone, PartialEq)]
pub struct State<S> {
    now: S,
    since: Tick,
    /// The tick in which the state times out; the greatest number if it does not.
    until: u64,
    /// What was asked for; nothing between ticks, so it is not encoded.
    asked: Option<S>,
}

impl<S: States> State<S> {
    /// The state.
    pub fn now(&self) -> S {
        self.now
    }

    /// Whether this is the state.
    pub fn is(&self, state: S) -> bool {
        self.now == state
    }

    /// The tick in which it was entered.
    pub fn since(&self) -> Tick {
        self.since
    }

    /// The tick in which it times out, if it does.
    pub fn until(&self) -> Option<Tick> {
        (self.until != u64::MAX).then_some(Tick(self.until))
    }
}

impl<S: States> Value for State<S> {
    const MIN_SIZE: usize = S::MIN_SIZE + 16;
    fn initial() -> Self {
        Self { now: S::initial(), since: Tick(0), until: u64::MAX, asked: None }
    }
    fn shape() -> Shape {
        Shape::Struct(vec![
            Field::new::<S>("now", &S::initial()),
            Field::new::<Tick>("since", &Tick(0)),
            Field::new::<u64>("until", &u64::MAX),
        ])
    }
    fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.asked.is_none(), "a transition waits between ticks");
        self.now.encode(out);
        self.since.encode(out);
        self.until.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (now, since) = (S::decode(input)?, Tick::decode(input)?);
        Ok(Self { now, since, until: u64::decode(input)?, asked: None })
    }
}

impl<S: States> Stored for State<S> {
    const ID: &'static str = S::ID;
    const VERSION: u16 = S::VERSION;
}

impl<S: States> Resource for State<S> {}

/// Why a transition does not take place. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The machine declares no such transition.
    #[error(
        "RK-SIM-007: `{machine}` cannot go from `{from}` to `{to}`; from `{from}` it goes {ways}"
    )]
    Undeclared {
        /// The machine's id.
        machine: &'static str,
        /// The state it is in.
        from: String,
        /// The state that was asked for.
        to: String,
        /// Where it can go.
        ways: String,
    },
    /// The guard says no.
    #[error("RK-SIM-008: `{machine}` does not go from `{from}` to `{to}`: {guard}")]
    Refused {
        /// The machine's id.
        machine: &'static str,
        /// The state it is in.
        from: String,
        /// The state that was asked for.
        to: String,
        /// The words of the guard.
        guard: String,
    },
    /// Another transition was asked for before and is not carried out yet.
    #[error("RK-SIM-009: `{machine}` is on its way from `{from}` to `{to}` already")]
    Underway {
        /// The machine's id.
        machine: &'static str,
        /// The state it is in.
        from: String,
        /// The state that it goes to.
        to: String,
    },
}

/// A transition that a system asked for did not take place: its guard said no. Every game with a
/// guarded transition has this event.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "refused")]
pub struct Refused {
    /// The machine's id.
    pub machine: String,
    /// The state it stays in.
    pub from: String,
    /// The state that was asked for.
    pub to: String,
    /// The words of the guard.
    pub guard: String,
}

type Guard = Arc<dyn Fn(&World) -> bool + Send + Sync>;
type Ticks = Arc<dyn Fn(&World) -> u64 + Send + Sync>;
type Call = Arc<dyn Fn(&mut World) + Send + Sync>;

enum Way {
    Free,
    Guarded(String, Guard),
    Timeout(Ticks),
}

struct Edge<S> {
    from: S,
    to: S,
    way: Way,
}

/// A state machine as a game declares it: see [`GameBuilder::states`](crate::GameBuilder::states).
pub struct Machine<S> {
    edges: Vec<Edge<S>>,
    enter: Vec<(S, Call)>,
    exit: Vec<(S, Call)>,
}

impl<S: States> Machine<S> {
    pub(crate) fn new() -> Self {
        Self { edges: Vec::new(), enter: Vec::new(), exit: Vec::new() }
    }

    fn edge(&mut self, from: S, to: S, way: Way) -> &mut Self {
        self.edges.push(Edge { from, to, way });
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
        self.edge(from, to, Way::Guarded(words.to_owned(), Arc::new(guard)))
    }

    /// It goes from one state to the other by itself, so many ticks (at least 1) after it was
    /// entered; `ticks` is asked when it is. It can be asked for as well.
    pub fn timeout(
        &mut self,
        from: S,
        to: S,
        ticks: impl Fn(&World) -> u64 + Send + Sync + 'static,
    ) -> &mut Self {
        self.edge(from, to, Way::Timeout(Arc::new(ticks)))
    }

    /// Runs when the state is entered; not for the one in which a match begins.
    pub fn on_enter(
        &mut self,
        state: S,
        hook: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> &mut Self {
        self.enter.push((state, Arc::new(hook)));
        self
    }

    /// Runs when the state is left.
    pub fn on_exit(
        &mut self,
        state: S,
        hook: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> &mut Self {
        self.exit.push((state, Arc::new(hook)));
        self
    }

    /// All states, in the order of the enum; `None` if some have fields.
    fn states() -> Option<Vec<S>> {
        let Shape::Enum(variants) = S::shape() else { return None };
        if variants.iter().any(|(_, fields)| !fields.is_empty()) {
            return None;
        }
        (0..variants.len()).map(|place| from_bytes(&[place as u8]).ok()).collect()
    }

    fn ways_from(&self, from: S) -> impl Iterator<Item = &Edge<S>> {
        self.edges.iter().filter(move |edge| edge.from == from)
    }

    /// Whether it may go there, without asking guards.
    fn declared(&self, state: &State<S>, to: S) -> Result<&Edge<S>, TransitionError> {
        let from = state.now;
        if let Some(to) = state.asked {
            let (from, to) = (format!("{from:?}"), format!("{to:?}"));
            return Err(TransitionError::Underway { machine: S::ID, from, to });
        }
        self.ways_from(from).find(|edge| edge.to == to).ok_or_else(|| {
            let ways: Vec<_> =
                self.ways_from(from).map(|edge| format!("to `{:?}`", edge.to)).collect();
            TransitionError::Undeclared {
                machine: S::ID,
                from: format!("{from:?}"),
                to: format!("{to:?}"),
                ways: if ways.is_empty() { "nowhere".to_owned() } else { ways.join(" or ") },
            }
        })
    }

    /// The tick in which a state that is entered now times out.
    fn until(&self, world: &World, state: S) -> u64 {
        let ticks = self.ways_from(state).find_map(|edge| match &edge.way {
            Way::Timeout(ticks) => Some(ticks(world)),
            Way::Free | Way::Guarded(..) => None,
        });
        ticks.map_or(u64::MAX, |ticks| world.tick().0.saturating_add(ticks.max(1)))
    }
}

/// A machine without the type of its states.
pub(crate) trait AnyMachine: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn states_id(&self) -> TypeId;
    fn id(&self) -> &'static str;
    fn is_guarded(&self) -> bool;
    /// What is wrong with its declaration.
    fn check(&self) -> Vec<String>;
    /// A match begins: the first state times out.
    fn start(&self, world: &mut World);
    /// Asks for the transition of a timeout that is over.
    fn time_out(&self, world: &mut World);
    /// Carries out what was asked for; whether anything was.
    fn carry_out(&self, world: &mut World) -> bool;
    /// The machine as lines of a Mermaid state diagram.
    fn chart(&self, lines: &mut Vec<String>);
}

impl<S: States> AnyMachine for Machine<S> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn states_id(&self) -> TypeId {
        TypeId::of::<S>()
    }

    fn id(&self) -> &'static str {
        S::ID
    }

    fn is_guarded(&self) -> bool {
        self.edges.iter().any(|edge| matches!(edge.way, Way::Guarded(..)))
    }

    fn check(&self) -> Vec<String> {
        let name = format!("state machine `{}` (`{}`)", S::ID, type_name::<S>());
        let Some(states) = Self::states() else {
            return vec![format!("{name}: states are an enum without fields")];
        };
        let mut errors = Vec::new();
        for (place, edge) in self.edges.iter().enumerate() {
            let before = &self.edges[..place];
            let (from, to) = (edge.from, edge.to);
            if before.iter().any(|other| other.from == from && other.to == to) {
                errors.push(format!(
                    "{name}: the transition from `{from:?}` to `{to:?}` is declared twice: take \
                     one out"
                ));
            }
            let timed = |edge: &Edge<S>| matches!(edge.way, Way::Timeout(_));
            if timed(edge) && before.iter().any(|other| other.from == from && timed(other)) {
                errors.push(format!("{name}: `{from:?}` has two timeouts: take one out"));
            }
        }
        let mut reached = vec![S::initial()];
        let mut next = 0;
        while let Some(state) = reached.get(next).copied() {
            for edge in self.ways_from(state) {
                if !reached.contains(&edge.to) {
                    reached.push(edge.to);
                }
            }
            next += 1;
        }
        for state in states.iter().filter(|state| !reached.contains(state)) {
            errors.push(format!(
                "{name}: `{state:?}` is never reached: add `.allow(…, {state:?})`, or take it out \
                 of the enum"
            ));
        }
        errors
    }

    fn start(&self, world: &mut World) {
        let state = world.resource::<State<S>>().now;
        let until = self.until(world, state);
        if until != u64::MAX {
            world.resource_mut::<State<S>>().until = until;
        }
    }

    fn time_out(&self, world: &mut World) {
        let tick = world.tick().0;
        let to = {
            let state = world.resource::<State<S>>();
            if tick < state.until || state.asked.is_some() {
                return;
            }
            let timed = |edge: &&Edge<S>| matches!(edge.way, Way::Timeout(_));
            self.ways_from(state.now).find(timed).map(|edge| edge.to)
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
        let way = self.ways_from(from).find(|edge| edge.to == to).map(|edge| &edge.way);
        if let Some(Way::Guarded(words, guard)) = way
            && !guard(world)
        {
            world.send(Refused {
                machine: S::ID.to_owned(),
                from: format!("{from:?}"),
                to: format!("{to:?}"),
                guard: words.clone(),
            });
            return true;
        }
        for (_, hook) in self.exit.iter().filter(|(state, _)| *state == from) {
            hook(world);
        }
        let (tick, until) = (world.tick(), self.until(world, to));
        {
            let mut state = world.resource_mut::<State<S>>();
            (state.now, state.since, state.until) = (to, tick, until);
        }
        for (_, hook) in self.enter.iter().filter(|(state, _)| *state == to) {
            hook(world);
        }
        true
    }

    fn chart(&self, lines: &mut Vec<String>) {
        let states = Self::states().unwrap_or_default();
        // Names of several machines must not be one.
        let name = |state: S| format!("{}_{state:?}", S::ID.replace(['.', '-'], "_"));
        lines.push(format!("    state \"{}\" as {} {{", S::ID, S::ID.replace(['.', '-'], "_")));
        for state in &states {
            lines.push(format!("        state \"{state:?}\" as {}", name(*state)));
        }
        lines.push(format!("        [*] --> {}", name(S::initial())));
        for Edge { from, to, way } in &self.edges {
            let label = match way {
                Way::Free => String::new(),
                Way::Guarded(words, _) => format!(" : {words}"),
                Way::Timeout(_) => " : timeout".to_owned(),
            };
            lines.push(format!("        {} --> {}{label}", name(*from), name(*to)));
        }
        for state in states.iter().filter(|state| self.ways_from(**state).next().is_none()) {
            lines.push(format!("        {} --> [*]", name(*state)));
        }
        lines.push("    }".to_owned());
    }
}

/// All machines as a Mermaid state diagram.
pub(crate) fn chart(registry: &Registry) -> String {
    let mut lines = vec!["stateDiagram-v2".to_owned()];
    for machine in &registry.machines {
        machine.chart(&mut lines);
    }
    lines.join("\n") + "\n"
}

/// Holds while the machine of `S` is in this state: for
/// [`run_if`](crate::IntoSystems::run_if).
///
/// ```
/// use rekindle_sim::{IntoSystems as _, Resource, in_state};
///
/// #[derive(Debug, Clone, Copy, PartialEq, Resource)]
/// #[resource(id = "phase")]
/// enum Phase { Lobby, Live }
/// fn fight() {}
/// let system = fight.run_if(in_state(Phase::Live));
/// ```
pub fn in_state<S: States>(state: S) -> impl Fn(Res<State<S>>) -> bool + Clone + Send + Sync {
    move |now: Res<State<S>>| now.is(state)
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
        self.machine.declared(&self.state, to)?;
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
        let Some(machine) = registry.machine::<S>() else {
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
    fn machine<S: States>(&self) -> Option<usize> {
        self.machines.iter().position(|machine| machine.states_id() == TypeId::of::<S>())
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
        let Some(place) = self.registry.machine::<S>() else { panic!("{}", undeclared::<S>()) };
        let registry = Arc::clone(&self.registry);
        let machine = registry.machines[place].as_any().downcast_ref::<Machine<S>>();
        let Some(machine) = machine else { panic!("{}", undeclared::<S>()) };
        let edge = machine.declared(&self.resource::<State<S>>(), to)?;
        if let Way::Guarded(words, guard) = &edge.way
            && !guard(self)
        {
            return Err(TransitionError::Refused {
                machine: S::ID,
                from: format!("{:?}", edge.from),
                to: format!("{to:?}"),
                guard: words.clone(),
            });
        }
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
            moved |= machine.carry_out(self);
        }
        moved
    }
}
