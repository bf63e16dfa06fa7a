//! What machines of a match and machines of entities have in common: transitions, guards, timeouts
//! and hooks ([`Graph`]), what is wrong with them, and their chart.

use std::any::{Any, type_name};

use crate::ecs::states::{State, States, TransitionError};
use crate::ecs::world::World;
use crate::value::entity::Entity;
use crate::value::from_bytes;
use crate::value::shape::Shape;

// Each is told whose machine it is: `Entity::NONE` if it is the match's.
type Guard = Box<dyn Fn(&World, Entity) -> bool + Send + Sync>;
type Ticks = Box<dyn Fn(&World, Entity) -> u64 + Send + Sync>;
type Call = Box<dyn Fn(&mut World, Entity) + Send + Sync>;

pub(super) enum Way {
    Free,
    Guarded(String, Guard),
    Timeout(Ticks),
}

pub(super) struct Edge<S> {
    pub(super) from: S,
    pub(super) to: S,
    pub(super) way: Way,
}

/// The transitions and hooks of a machine, whoever has it.
pub(crate) struct Graph<S> {
    edges: Vec<Edge<S>>,
    enter: Vec<(S, Call)>,
    exit: Vec<(S, Call)>,
}

impl<S: States> Graph<S> {
    pub(super) fn new() -> Self {
        Self { edges: Vec::new(), enter: Vec::new(), exit: Vec::new() }
    }

    pub(super) fn edge(&mut self, from: S, to: S, way: Way) {
        self.edges.push(Edge { from, to, way });
    }

    pub(super) fn on_enter(&mut self, state: S, hook: Call) {
        self.enter.push((state, hook));
    }

    pub(super) fn on_exit(&mut self, state: S, hook: Call) {
        self.exit.push((state, hook));
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

    /// Whether it may go there, without asking guards. `entity` is whose machine it is.
    pub(super) fn declared(
        &self,
        entity: Option<Entity>,
        state: &State<S>,
        to: S,
    ) -> Result<&Edge<S>, TransitionError> {
        let from = state.now;
        if let Some(to) = state.asked {
            let (from, to) = (format!("{from:?}"), format!("{to:?}"));
            return Err(TransitionError::Underway { machine: S::ID, entity, from, to });
        }
        self.ways_from(from).find(|edge| edge.to == to).ok_or_else(|| {
            let ways: Vec<_> =
                self.ways_from(from).map(|edge| format!("to `{:?}`", edge.to)).collect();
            TransitionError::Undeclared {
                machine: S::ID,
                entity,
                from: format!("{from:?}"),
                to: format!("{to:?}"),
                ways: if ways.is_empty() { "nowhere".to_owned() } else { ways.join(" or ") },
            }
        })
    }

    /// As [`Graph::declared`], and asks the guard.
    pub(super) fn allowed(
        &self,
        world: &World,
        entity: Option<Entity>,
        state: &State<S>,
        to: S,
    ) -> Result<(), TransitionError> {
        let edge = self.declared(entity, state, to)?;
        if let Way::Guarded(words, guard) = &edge.way
            && !guard(world, entity.unwrap_or_default())
        {
            return Err(TransitionError::Refused {
                machine: S::ID,
                entity,
                from: format!("{:?}", edge.from),
                to: format!("{to:?}"),
                guard: words.clone(),
            });
        }
        Ok(())
    }

    /// The words of the guard that forbids a declared transition, if one does.
    pub(super) fn forbids(&self, world: &World, entity: Entity, from: S, to: S) -> Option<&str> {
        let way = self.ways_from(from).find(|edge| edge.to == to).map(|edge| &edge.way);
        match way {
            Some(Way::Guarded(words, guard)) if !guard(world, entity) => Some(words),
            _ => None,
        }
    }

    /// Where a state goes when its time is over.
    pub(super) fn timed(&self, from: S) -> Option<S> {
        let timed = |edge: &&Edge<S>| matches!(edge.way, Way::Timeout(_));
        self.ways_from(from).find(timed).map(|edge| edge.to)
    }

    /// The tick in which a state that is entered now times out.
    pub(super) fn until(&self, world: &World, entity: Entity, state: S) -> u64 {
        let ticks = self.ways_from(state).find_map(|edge| match &edge.way {
            Way::Timeout(ticks) => Some(ticks(world, entity)),
            Way::Free | Way::Guarded(..) => None,
        });
        ticks.map_or(u64::MAX, |ticks| world.tick().0.saturating_add(ticks.max(1)))
    }

    /// Runs what is to be done when a state is left.
    pub(super) fn leave(&self, world: &mut World, entity: Entity, from: S) {
        for (_, hook) in self.exit.iter().filter(|(state, _)| *state == from) {
            hook(world, entity);
        }
    }

    /// Runs what is to be done when a state is entered.
    pub(super) fn enter(&self, world: &mut World, entity: Entity, to: S) {
        for (_, hook) in self.enter.iter().filter(|(state, _)| *state == to) {
            hook(world, entity);
        }
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.edges.iter().any(|edge| matches!(edge.way, Way::Guarded(..)))
    }

    /// What is wrong with the declaration. A machine of entities can begin in each state that it
    /// can leave, one of the match in the first.
    pub(crate) fn check(&self, of_entities: bool) -> Vec<String> {
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
        let begins = |state: &S| {
            *state == S::initial() || (of_entities && self.ways_from(*state).next().is_some())
        };
        let mut reached: Vec<S> = states.iter().copied().filter(begins).collect();
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

    /// The machine as lines of a Mermaid state diagram, with a title.
    pub(super) fn chart(&self, title: &str, lines: &mut Vec<String>) {
        let states = Self::states().unwrap_or_default();
        // Names of several machines must not be one.
        let name = |state: S| format!("{}_{state:?}", S::ID.replace(['.', '-'], "_"));
        lines.push(format!("    state \"{title}\" as {} {{", S::ID.replace(['.', '-'], "_")));
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

/// A machine without the type of its states.
pub(crate) trait AnyMachine: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn id(&self) -> &'static str;
    /// A match begins: its first state times out.
    fn start(&self, world: &mut World);
    /// Asks for the transition of a timeout that is over.
    fn time_out(&self, world: &mut World);
    /// Carries out what was asked for; whether anything was.
    fn carry_out(&self, world: &mut World) -> bool;
    /// The machine as lines of a Mermaid state diagram.
    fn chart(&self, lines: &mut Vec<String>);
}
