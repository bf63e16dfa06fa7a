//! Values of a world under names: calculations and aggregates, which anybody reads, and
//! validations, which say what must hold.
//!
//! Both are functions with parameters of systems that only look, so a game's values are no state:
//! what a world is does not depend on whether it declares some, or on who reads them. Declared in
//! `Game::build` ([`crate::game::builder`]), checked when the game is registered, read through
//! [`World::value`], by tests and by operators (`rekindle match values`). Validations are checked
//! at the end of their ticks by [`crate::game::matches`].

use std::any::{Any, type_name};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value as Json;

use crate::Event;
use crate::ecs::query::Query;
use crate::ecs::registry::{Access, Registry, did_you_mean};
use crate::ecs::stats::check_name;
use crate::ecs::system::Calculation;
use crate::ecs::world::World;
use crate::storage::stamp::{Run, stamp};
use crate::value::component::Component;

/// What becomes of a match in which a validation does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfBroken {
    /// It goes on. The node says so in its log (`RK-HOST-080`) and counts it
    /// (`rekindle_broken_validations_total`), and systems of a game that declares the event
    /// [`Broken`] read it in the next tick.
    Warn,
    /// The tick is not made: the match is parked at the tick before, with the problem as its
    /// report, and an operator decides. For worlds that must not go on: money that multiplies.
    Stop,
}

/// A validation of the game does not hold: sent to systems at the end of the tick, if the game
/// declares this event, and part of [`StepOutput`](crate::StepOutput).
///
/// ```
/// use rekindle_sim::doc_game::Score;
/// use rekindle_sim::{Broken, EventReader, GameBuilder, IfBroken, IntoSystems as _, Output, Res};
///
/// fn modest(score: Res<Score>) -> Result<(), String> {
///     if score.total < 1000 { Ok(()) } else { Err(format!("a score of {}", score.total)) }
/// }
///
/// fn complain(broken: EventReader<Broken>, mut output: Output) {
///     for broken in broken.read() {
///         output.announce("broken", broken);
///     }
/// }
///
/// # fn build<G: rekindle_sim::Game>(game: &mut GameBuilder<G>) {
/// // Each second at 30 ticks a second.
/// game.event::<Broken>().validation("modest_score", 30, IfBroken::Warn, modest);
/// # }
/// let system = complain.on_event::<Broken>();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Event)]
#[event(id = "broken")]
pub struct Broken {
    /// The name of the validation.
    pub validation: String,
    /// What it says is wrong.
    pub problem: String,
}

/// A function that looks at a world, ready to be called.
type Look<R> = Box<dyn Fn(&World) -> R + Send + Sync>;

/// A value under a name.
pub(crate) struct NamedValue {
    name: String,
    /// The type of the value, for who asks for another one.
    of: &'static str,
    typed: Look<Box<dyn Any>>,
    json: Look<Result<Json, String>>,
}

/// What must hold in a world, under a name.
pub(crate) struct Validation {
    name: String,
    every: u64,
    if_broken: IfBroken,
    holds: Look<Result<(), String>>,
}

/// A value or validation as it was declared: what it is once all types of the game are registered.
type Make<T> = Box<dyn FnOnce(&Registry, &mut Access) -> T>;

/// Values and validations in the order in which a game declares them.
#[derive(Default)]
pub(crate) struct DeclaredValues {
    values: Vec<(String, Make<NamedValue>)>,
    validations: Vec<(String, Make<Validation>)>,
}

/// Finds the parameters of a function; the function with them.
fn ready<C: Calculation<M>, M: 'static>(
    name: &str,
    calculation: C,
    registry: &Registry,
    access: &mut Access,
) -> impl Fn(&World) -> C::Out + Send + Sync + use<C, M> {
    let hash = *blake3::hash(name.as_bytes()).as_bytes();
    let stream = u64::from_le_bytes(std::array::from_fn(|byte| hash[byte]));
    let state = C::init(registry, access);
    move |world| {
        // What is new since the last tick ended is new to the function.
        let last = stamp(world.tick, 0).saturating_sub(1);
        let run = Run { stamp: world.now.stamp, last, stream, tick: world.tick };
        calculation.calculate(&state, world, &run)
    }
}

impl DeclaredValues {
    /// The names of the values.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn calculation<C, M>(&mut self, name: &str, calculation: C)
    where
        C: Calculation<M>,
        C::Out: Serialize,
        M: 'static,
    {
        let of_value = name.to_owned();
        let make = move |registry: &Registry, access: &mut Access| {
            let of = Arc::new(ready(&of_value, calculation, registry, access));
            let typed = Arc::clone(&of);
            NamedValue {
                name: of_value,
                of: type_name::<C::Out>(),
                typed: Box::new(move |world| Box::new(typed(world))),
                json: Box::new(move |world| {
                    serde_json::to_value(of(world)).map_err(|error| error.to_string())
                }),
            }
        };
        self.values.push((name.to_owned(), Box::new(make)));
    }

    pub(crate) fn validation<C, M>(&mut self, name: &str, every: u64, if_broken: IfBroken, holds: C)
    where
        C: Calculation<M, Out = Result<(), String>>,
        M: 'static,
    {
        let of_validation = name.to_owned();
        let make = move |registry: &Registry, access: &mut Access| {
            let holds = Box::new(ready(&of_validation, holds, registry, access));
            if every == 0 {
                access.errors.push("it is checked every 0 ticks: give at least 1".to_owned());
            }
            Validation { name: of_validation, every, if_broken, holds }
        };
        self.validations.push((name.to_owned(), Box::new(make)));
    }

    /// Resolves what the functions look at, once all types are registered; and all that is wrong.
    pub(crate) fn resolve(self, registry: &mut Registry) -> Vec<String> {
        let mut errors = Vec::new();
        let mut names = BTreeSet::new();
        for (what, name) in (self.values.iter().map(|(name, _)| ("value", name)))
            .chain(self.validations.iter().map(|(name, _)| ("validation", name)))
        {
            errors.extend(check_name(what, name).err());
            if !names.insert(name.clone()) {
                errors.push(format!(
                    "{what} `{name}`: another value or validation has this name: give it another \
                     one"
                ));
            }
        }
        registry.values = make_all("value", self.values, registry, &mut errors);
        registry.validations = make_all("validation", self.validations, registry, &mut errors);
        errors
    }
}

fn make_all<T>(
    what: &str,
    declared: Vec<(String, Make<T>)>,
    registry: &Registry,
    errors: &mut Vec<String>,
) -> Vec<T> {
    let mut made = Vec::with_capacity(declared.len());
    for (name, make) in declared {
        let mut access = Access::default();
        made.push(make(registry, &mut access));
        let mut problems = std::mem::take(&mut access.errors);
        let changed = access.changed();
        problems.extend(changed.map(|id| format!("it changes `{id}`, and may only look")));
        if !access.locals.is_empty() {
            problems.push("it has a `Local`, and may keep nothing".to_owned());
        }
        if access.inputs {
            problems.push("it reads `Inputs`, which are there within a tick alone".to_owned());
        }
        if !access.removals.is_empty() {
            let words = "it reads `RemovedComponents`, which are kept for systems alone";
            problems.push(words.to_owned());
        }
        errors.extend(problems.iter().map(|problem| format!("{what} `{name}`: {problem}")));
    }
    made
}

/// Aggregates over all components of a type, each under a name. Made with
/// [`GameBuilder::aggregates`](crate::GameBuilder::aggregates). Sums are made ascending by slot, so
/// they are the same everywhere.
pub struct Aggregates<'d, T: Component> {
    declared: &'d mut DeclaredValues,
    of: PhantomData<fn(T)>,
}

impl<'d, T: Component> Aggregates<'d, T> {
    pub(crate) fn new(declared: &'d mut DeclaredValues) -> Self {
        Self { declared, of: PhantomData }
    }

    /// How many are so: a `u64`.
    pub fn count(
        &mut self,
        name: &str,
        is: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        let count = move |all: Query<&T>| all.iter().filter(|item| is(item)).count() as u64;
        self.declared.calculation(name, count);
        self
    }

    /// The sum of a number of each: an `f64`; 0 if there is none.
    pub fn sum(&mut self, name: &str, of: impl Fn(&T) -> f64 + Send + Sync + 'static) -> &mut Self {
        let sum = move |all: Query<&T>| all.iter().fold(0.0, |sum, item| sum + of(item));
        self.declared.calculation(name, sum);
        self
    }

    /// The least of a number of each: an `Option<f64>`, none if there is none.
    pub fn min(&mut self, name: &str, of: impl Fn(&T) -> f64 + Send + Sync + 'static) -> &mut Self {
        let min = move |all: Query<&T>| all.iter().map(&of).reduce(f64::min);
        self.declared.calculation(name, min);
        self
    }

    /// The greatest of a number of each: an `Option<f64>`, none if there is none.
    pub fn max(&mut self, name: &str, of: impl Fn(&T) -> f64 + Send + Sync + 'static) -> &mut Self {
        let max = move |all: Query<&T>| all.iter().map(&of).reduce(f64::max);
        self.declared.calculation(name, max);
        self
    }

    /// How many each key has: a `BTreeMap<K, u64>`.
    pub fn count_by<K: Ord + Serialize + 'static>(
        &mut self,
        name: &str,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> &mut Self {
        let counts = move |all: Query<&T>| {
            all.iter().fold(BTreeMap::new(), |mut counts, item| {
                *counts.entry(key(item)).or_insert(0u64) += 1;
                counts
            })
        };
        self.declared.calculation(name, counts);
        self
    }

    /// The sum of a number over those of each key: a `BTreeMap<K, f64>`.
    pub fn sum_by<K: Ord + Serialize + 'static>(
        &mut self,
        name: &str,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
        of: impl Fn(&T) -> f64 + Send + Sync + 'static,
    ) -> &mut Self {
        let sums = move |all: Query<&T>| {
            all.iter().fold(BTreeMap::new(), |mut sums, item| {
                *sums.entry(key(item)).or_insert(0.0) += of(item);
                sums
            })
        };
        self.declared.calculation(name, sums);
        self
    }
}

/// A value of a world as it stands, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueView {
    /// Its name.
    pub name: String,
    /// The value in JSON; or why there is none: its function panicked, or says what JSON cannot.
    pub value: Result<Json, String>,
}

/// A validation of a world as it stands, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationView {
    /// Its name.
    pub name: String,
    /// In which ticks it is checked: in those that are divided by this.
    pub every: u64,
    /// What becomes of the match if it does not hold in one of them.
    pub if_broken: IfBroken,
    /// What is wrong now; none if it holds.
    pub problem: Option<String>,
}

impl World {
    /// A calculation or aggregate of the world as it stands: for `setup`, `join`, `leave`,
    /// `command`, hooks, and systems with [`Commands::add`](crate::Commands::add). Indexes and
    /// grids, if it looks at some, are as at the last end of a stage.
    ///
    /// # Panics
    /// If the game does not declare it, or its function says something of another type.
    pub fn value<T: 'static>(&self, name: &str) -> T {
        let known = self.named(name);
        let value = (known.typed)(self).downcast().ok();
        *value.unwrap_or_else(|| {
            panic!("value `{name}` is a `{}`, not a `{}`", known.of, type_name::<T>())
        })
    }

    /// As [`World::value`], in JSON: as operators see it.
    ///
    /// # Panics
    /// If the game does not declare it, or its function says something that JSON cannot.
    pub fn value_json(&self, name: &str) -> Json {
        let value = (self.named(name).json)(self);
        value.unwrap_or_else(|problem| panic!("value `{name}` is no JSON: {problem}"))
    }

    fn named(&self, name: &str) -> &NamedValue {
        let values = &self.registry.values;
        values.iter().find(|known| known.name == name).unwrap_or_else(|| {
            let near = did_you_mean(name, values.iter().map(|known| known.name.as_str()));
            panic!(
                "value `{name}` is not declared{near}: add `game.calculation(\"{name}\", …)` or an \
                 aggregate in `Game::build`"
            )
        })
    }

    /// The validations that do not hold now, in the order in which they were declared.
    pub fn broken(&self) -> Vec<Broken> {
        let all = self.registry.validations.iter();
        all.filter_map(|validation| validation.broken(self)).collect()
    }

    /// Checks those validations that are due in this tick. `running` is told the place of each
    /// before it starts. The error is the first broken one that stops the match.
    pub(crate) fn check_validations(
        &mut self,
        running: impl Fn(usize),
    ) -> Result<Vec<Broken>, Broken> {
        let mut found = Vec::new();
        let registry = Arc::clone(&self.registry);
        for (place, validation) in registry.validations.iter().enumerate() {
            if !self.tick.0.is_multiple_of(validation.every) {
                continue;
            }
            running(place);
            match (validation.broken(self), validation.if_broken) {
                (None, _) => {}
                (Some(broken), IfBroken::Stop) => return Err(broken),
                (Some(broken), IfBroken::Warn) => found.push(broken),
            }
        }
        if registry.events.of::<Broken>().is_some() {
            for broken in &found {
                self.send(broken.clone());
            }
        }
        Ok(found)
    }

    /// All values, in the order in which they were declared. `guard` runs each function.
    pub(crate) fn values(
        &self,
        guard: impl Fn(&dyn Fn() -> Result<Json, String>) -> Result<Json, String>,
    ) -> Vec<ValueView> {
        let view = |known: &NamedValue| ValueView {
            name: known.name.clone(),
            value: guard(&|| (known.json)(self)),
        };
        self.registry.values.iter().map(view).collect()
    }

    /// All validations as they stand now, as [`World::values`].
    pub(crate) fn validations(
        &self,
        guard: impl Fn(&dyn Fn() -> Result<(), String>) -> Result<(), String>,
    ) -> Vec<ValidationView> {
        let view = |known: &Validation| ValidationView {
            name: known.name.clone(),
            every: known.every,
            if_broken: known.if_broken,
            problem: guard(&|| (known.holds)(self)).err(),
        };
        self.registry.validations.iter().map(view).collect()
    }
}

impl Validation {
    /// Its name, for probes.
    pub(crate) fn label(&self) -> String {
        format!("validation({})", self.name)
    }

    fn broken(&self, world: &World) -> Option<Broken> {
        let problem = (self.holds)(world).err()?;
        Some(Broken { validation: self.name.clone(), problem })
    }
}
