//! State machines: declared states and transitions of a match, or of single entities.
//!
//! Where a machine stands is a [`State`], which is in checkpoints: a resource if the machine is of
//! the match ([`of_match`]), a component if each entity has its own ([`of_entity`]). Transitions
//! are asked for by systems ([`Transitions`], [`EntityTransitions`]) and by whoever has the world
//! whole ([`World::go`], [`World::go_entity`]), and carried out at the next fixed point
//! ([`crate::ecs::settle`]), before hooks: the guard is asked, then `on_exit` of the old state
//! runs, then the state changes, then `on_enter` of the new one runs. What they ask for comes in
//! the next round. Timeouts are looked at before the systems of a tick; a transition that a
//! command asked for in that tick goes first. Several machines take their turns in the order in
//! which the game declared them, and the entities of one machine ascending by slot.
//!
//! What both sorts have in common is in [`machine`].
//!
//! [`Transitions`]: of_match::Transitions
//! [`EntityTransitions`]: of_entity::EntityTransitions
//! [`World::go`]: crate::World::go
//! [`World::go_entity`]: crate::World::go_entity

pub(crate) mod machine;
pub(crate) mod of_entity;
pub(crate) mod of_match;

use std::fmt::{self, Debug, Display};

use rekindle_schema::Tick;

use crate::Event;
use crate::ecs::registry::Registry;
use crate::ecs::resources::Res;
use crate::value::component::{Component, NetFieldDef, Resource, Stored};
use crate::value::entity::Entity;
use crate::value::shape::{Field, Shape};
use crate::value::{DecodeError, Reader, Value};

/// An enum without fields: the states of a machine. It derives `Resource` if the machine is of the
/// match, `Component` if it is of entities. The first variant is the state in which a match begins.
pub trait States: Stored + Copy + PartialEq + Debug {}

impl<S: Stored + Copy + PartialEq + Debug> States for S {}

/// Where a state machine stands, under the id of `S`: a resource of the match, read as
/// `Res<State<S>>`; or a component of each entity that has such a machine, read as `&State<S>`.
#[derive(Debug, Clone, PartialEq)]
pub struct State<S> {
    now: S,
    since: Tick,
    /// The tick in which the state times out; the greatest number if it does not.
    until: u64,
    /// What was asked for; nothing between ticks, so it is not encoded.
    asked: Option<S>,
    /// Of an entity: its machine has not seen it yet. Never so between ticks, so not encoded.
    fresh: bool,
}

impl<S: States> State<S> {
    /// The machine of an entity, in this state: spawned or inserted with its other components. At
    /// the next fixed point its time begins; `on_enter` does not run. An entity that has a machine
    /// starts it over with a new one.
    pub fn new(state: S) -> Self {
        Self { now: state, since: Tick(0), until: u64::MAX, asked: None, fresh: true }
    }

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
        Self::new(S::initial())
    }
    fn shape() -> Shape {
        Shape::Struct(vec![
            // A resource of the game's own that becomes a machine called it so, mostly.
            Field::new::<S>("now", &S::initial()).formerly(&["phase", "state"]),
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
        Ok(Self { now, since, until: u64::decode(input)?, asked: None, fresh: false })
    }
}

impl<S: States> Stored for State<S> {
    const ID: &'static str = S::ID;
    const VERSION: u16 = S::VERSION;
}

impl<S: States> Resource for State<S> {}

/// It stays on the server: what clients are to know of it is written by `on_enter`.
impl<S: States> Component for State<S> {
    const NET: &'static [NetFieldDef] = &[];
    fn to_quanta(&self, _quanta: &mut [u32]) {}
    fn from_quanta(_quanta: &[u32]) -> Self {
        Self::initial()
    }
}

/// Whose machine it is, for messages.
struct Whose<'e>(&'static str, &'e Option<Entity>);

impl Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(entity) => write!(f, "`{}` of {entity:?}", self.0),
            None => write!(f, "`{}`", self.0),
        }
    }
}

/// Why a transition does not take place. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The machine declares no such transition.
    #[error(
        "RK-SIM-007: {} cannot go from `{from}` to `{to}`; from `{from}` it goes {ways}",
        Whose(machine, entity)
    )]
    Undeclared {
        /// The machine's id.
        machine: &'static str,
        /// Whose machine it is; none if it is the match's.
        entity: Option<Entity>,
        /// The state it is in.
        from: String,
        /// The state that was asked for.
        to: String,
        /// Where it can go.
        ways: String,
    },
    /// The guard says no.
    #[error("RK-SIM-008: {} does not go from `{from}` to `{to}`: {guard}", Whose(machine, entity))]
    Refused {
        /// The machine's id.
        machine: &'static str,
        /// Whose machine it is; none if it is the match's.
        entity: Option<Entity>,
        /// The state it is in.
        from: String,
        /// The state that was asked for.
        to: String,
        /// The words of the guard.
        guard: String,
    },
    /// Another transition was asked for before and is not carried out yet.
    #[error("RK-SIM-009: {} is on its way from `{from}` to `{to}` already", Whose(machine, entity))]
    Underway {
        /// The machine's id.
        machine: &'static str,
        /// Whose machine it is; none if it is the match's.
        entity: Option<Entity>,
        /// The state it is in.
        from: String,
        /// The state that it goes to.
        to: String,
    },
    /// The entity has no such machine, or is gone.
    #[error(
        "RK-SIM-014: {entity:?} has no `{machine}`, or is gone: spawn it with `State::new(…)`, or \
         look with `world.get` before"
    )]
    Absent {
        /// The machine's id.
        machine: &'static str,
        /// The entity that was to go.
        entity: Entity,
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

/// A transition of an entity, asked for by a system, did not take place: its guard said no. Every
/// game with a guarded transition of entities has this event.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "entity-refused")]
pub struct EntityRefused {
    /// Whose machine it is.
    pub entity: Entity,
    /// The machine's id.
    pub machine: String,
    /// The state it stays in.
    pub from: String,
    /// The state that was asked for.
    pub to: String,
    /// The words of the guard.
    pub guard: String,
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
