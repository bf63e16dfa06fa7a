//! In which order systems run, and when.
//!
//! The order is total and depends on declarations alone: stage, then `after` / `before`, then
//! priority (higher first), then name. Systems of one stage that touch the same thing, one of them
//! changing it, must be put in order by `after`, `before` or priority: left to their names they are
//! an error.

use std::any::type_name;

use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::{FunctionSystem, System, SystemFunction};
use crate::ecs::world::World;
use crate::storage::stamp::{POSITIONS, Run, Stamp, stamp};
use crate::value::component::{Component, Event};

/// Parts of a tick. What systems ask for through `Commands` is done at the end of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before anything else.
    First,
    /// Inputs become intentions.
    PreUpdate,
    /// The game.
    Update,
    /// What follows from it: deaths, scores, phases.
    PostUpdate,
    /// After everything else.
    Last,
}

/// Names a system in `after` and `before`: the function itself, or its name as text.
pub trait SystemName<Marker> {
    /// The name.
    fn system_name(&self) -> String;
}

impl SystemName<()> for &str {
    fn system_name(&self) -> String {
        (*self).to_owned()
    }
}

impl<F: SystemFunction<M>, M> SystemName<(M,)> for F {
    fn system_name(&self) -> String {
        name_of::<F>()
    }
}

/// The last part of a function's path, without its type parameters.
fn name_of<F>() -> String {
    last_segment(type_name::<F>()).to_owned()
}

/// `<crate::Game as Trait>::build::{{closure}}` gives `{{closure}}`, `crate::ecs::system<crate::Type>`
/// gives `system`.
fn last_segment(path: &str) -> &str {
    let (mut depth, mut start, mut end) = (0, 0, path.len());
    for (index, c) in path.char_indices() {
        match c {
            '<' => {
                if depth == 0 && index > start {
                    end = index;
                }
                depth += 1;
            }
            '>' => depth -= 1,
            ':' if depth == 0 => (start, end) = (index + 1, path.len()),
            _ => {}
        }
    }
    &path[start..end]
}

type Init = Box<dyn FnOnce(&Registry, &mut Access) -> Box<dyn System>>;
type Watch = fn(&Registry, &mut Access) -> Trigger;

/// Systems with what was declared about them.
pub struct Systems {
    list: Vec<Declared>,
}

struct Declared {
    name: String,
    init: Init,
    after: Vec<String>,
    before: Vec<String>,
    priority: i32,
    every: u64,
    triggers: Vec<Watch>,
}

/// What makes a system run besides the passing of ticks.
#[derive(Debug, Clone, Copy)]
pub enum Trigger {
    Event(usize),
    Added(usize),
    Changed(usize),
    Removed(usize),
}

/// A system, a tuple of systems, or systems with declarations: `movement.after(input)`,
/// `(aim, fire).chain()`, `regenerate.every(30)`.
pub trait IntoSystems<Marker>: Sized {
    /// The systems.
    fn into_systems(self) -> Systems;

    /// They run after that system of the same stage.
    fn after<N>(self, other: impl SystemName<N>) -> Systems {
        let other = other.system_name();
        self.into_systems().each(|system| system.after.push(other.clone()))
    }

    /// They run before that system of the same stage.
    fn before<N>(self, other: impl SystemName<N>) -> Systems {
        let other = other.system_name();
        self.into_systems().each(|system| system.before.push(other.clone()))
    }

    /// Higher runs first among systems that `after` and `before` leave open; 0 unless set.
    fn priority(self, priority: i32) -> Systems {
        self.into_systems().each(|system| system.priority = priority)
    }

    /// They run in every `ticks`th tick only: those whose number it divides.
    fn every(self, ticks: u64) -> Systems {
        self.into_systems().each(|system| system.every = ticks)
    }

    /// They run only if an event of this type was sent since they last ran. Several triggers: any
    /// of them suffices.
    fn on_event<E: Event>(self) -> Systems {
        self.trigger(|registry, access| {
            let index = registry.event::<E>(access);
            access.events.insert(index);
            Trigger::Event(index)
        })
    }

    /// They run only if some entity got this component since they last ran.
    fn on_add<T: Component>(self) -> Systems {
        self.trigger(|registry, access| Trigger::Added(registry.component::<T>(access)))
    }

    /// They run only if this component was added or changed somewhere since they last ran.
    fn on_change<T: Component>(self) -> Systems {
        self.trigger(|registry, access| Trigger::Changed(registry.component::<T>(access)))
    }

    /// They run only if some entity lost this component since they last ran.
    fn on_remove<T: Component>(self) -> Systems {
        self.trigger(|registry, access| {
            let index = registry.component::<T>(access);
            access.removals.insert(index);
            Trigger::Removed(index)
        })
    }

    /// Another name than the function's; closures need one.
    fn named(self, name: &str) -> Systems {
        self.into_systems().each(|system| name.clone_into(&mut system.name))
    }

    /// Each runs after the one before it.
    fn chain(self) -> Systems {
        let mut systems = self.into_systems();
        for index in 1..systems.list.len() {
            let before = systems.list[index - 1].name.clone();
            systems.list[index].after.push(before);
        }
        systems
    }

    #[doc(hidden)]
    fn trigger(self, trigger: fn(&Registry, &mut Access) -> Trigger) -> Systems {
        self.into_systems().each(|system| system.triggers.push(trigger))
    }
}

impl Systems {
    fn each(mut self, change: impl Fn(&mut Declared)) -> Self {
        self.list.iter_mut().for_each(change);
        self
    }
}

impl IntoSystems<()> for Systems {
    fn into_systems(self) -> Systems {
        self
    }
}

impl<F: SystemFunction<M>, M: 'static> IntoSystems<(M,)> for F {
    fn into_systems(self) -> Systems {
        let init: Init = Box::new(move |registry, access| {
            FunctionSystem::<F, F::State>::boxed::<M>(self, registry, access)
        });
        let name = name_of::<F>();
        Systems {
            list: vec![Declared {
                name,
                init,
                after: Vec::new(),
                before: Vec::new(),
                priority: 0,
                every: 1,
                triggers: Vec::new(),
            }],
        }
    }
}

macro_rules! system_tuples {
    ($($name:ident $marker:ident),+) => {
        #[expect(non_snake_case, reason = "the elements are named like their types")]
        impl<$($name, $marker),+> IntoSystems<((), $($marker),+)> for ($($name,)+)
        where
            $($name: IntoSystems<$marker>),+
        {
            fn into_systems(self) -> Systems {
                let ($($name,)+) = self;
                let mut list = Vec::new();
                $(list.extend($name.into_systems().list);)+
                Systems { list }
            }
        }
    };
}

system_tuples!(A MA);
system_tuples!(A MA, B MB);
system_tuples!(A MA, B MB, C MC);
system_tuples!(A MA, B MB, C MC, D MD);
system_tuples!(A MA, B MB, C MC, D MD, E ME);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG, H MH);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG, H MH, I MI);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG, H MH, I MI, J MJ);

/// A system in its place.
struct Placed {
    name: String,
    stage: Stage,
    system: Box<dyn System>,
    access: Access,
    after: Vec<String>,
    before: Vec<String>,
    priority: i32,
    every: u64,
    triggers: Vec<Trigger>,
    stream: u64,
    /// Its place in the stamps of a tick.
    position: u32,
}

/// The systems of a game in the order in which they run.
pub(crate) struct Schedule {
    systems: Vec<Placed>,
}

/// Systems as they were declared, stage by stage.
#[derive(Default)]
pub(crate) struct Declarations {
    list: Vec<(Stage, Declared)>,
}

impl Declarations {
    pub(crate) fn add(&mut self, stage: Stage, systems: Systems) {
        self.list.extend(systems.list.into_iter().map(|system| (stage, system)));
    }

    /// Resolves what the systems touch and puts them in order; or all that is wrong with them.
    pub(crate) fn build(self, registry: &mut Registry) -> Result<Schedule, Vec<String>> {
        let mut errors = std::mem::take(&mut registry.errors);
        let mut systems = Vec::with_capacity(self.list.len());
        for (stage, declared) in self.list {
            let Declared { name, init, after, before, priority, every, triggers } = declared;
            let mut access = Access::default();
            let system = init(registry, &mut access);
            let triggers = triggers.iter().map(|trigger| trigger(registry, &mut access)).collect();
            errors.extend(access.errors.iter().map(|error| format!("system `{name}`: {error}")));
            if every == 0 {
                errors.push(format!("system `{name}` runs every 0 ticks: give at least 1"));
            }
            if name.is_empty() || name.contains('{') {
                errors.push(format!(
                    "a closure in stage {stage:?} has no name of its own: add `.named(\"…\")`"
                ));
            }
            let hash = *blake3::hash(name.as_bytes()).as_bytes();
            let stream = u64::from_le_bytes(std::array::from_fn(|byte| hash[byte]));
            systems.push(Placed {
                name,
                stage,
                system,
                access,
                after,
                before,
                priority,
                every,
                triggers,
                stream,
                position: 0,
            });
        }
        check_names(&systems, &mut errors);
        let systems = if errors.is_empty() { order(systems, &mut errors) } else { systems };
        if errors.is_empty() {
            for system in &systems {
                for &event in &system.access.events {
                    let kept = registry.retention.entry(event).or_insert(1);
                    *kept = system.every.max(*kept);
                }
                for &component in &system.access.removals {
                    registry.watched.insert(component);
                    let kept = registry.removal_retention.entry(component).or_insert(1);
                    *kept = system.every.max(*kept);
                }
            }
            Ok(Schedule { systems })
        } else {
            Err(errors)
        }
    }
}

fn check_names(systems: &[Placed], errors: &mut Vec<String>) {
    for (index, system) in systems.iter().enumerate() {
        if systems[..index].iter().any(|other| other.name == system.name) {
            errors.push(format!(
                "two systems are named `{}`: give one another name with `.named(\"…\")`",
                system.name
            ));
        }
        for other in system.after.iter().chain(&system.before) {
            match systems.iter().find(|known| known.name == *other) {
                Some(known) if known.stage == system.stage => {}
                Some(known) => errors.push(format!(
                    "system `{}` in stage {:?} is put in order with `{other}`, which is in stage \
                     {:?}: stages have their order already",
                    system.name, system.stage, known.stage
                )),
                None => errors.push(format!(
                    "system `{}` is put in order with `{other}`, which is \
                    no system of this game",
                    system.name
                )),
            }
        }
    }
    if systems.len() + 8 > POSITIONS as usize {
        errors.push(format!("{} systems are too many: at most {}", systems.len(), POSITIONS - 8));
    }
}

fn order(mut systems: Vec<Placed>, errors: &mut Vec<String>) -> Vec<Placed> {
    let must_wait = |later: &Placed, earlier: &Placed| {
        later.after.contains(&earlier.name) || earlier.before.contains(&later.name)
    };
    systems.sort_by(|a, b| {
        (a.stage, -i64::from(a.priority), &a.name).cmp(&(b.stage, -i64::from(b.priority), &b.name))
    });
    let mut ordered: Vec<Placed> = Vec::with_capacity(systems.len());
    while !systems.is_empty() {
        let stage = systems[0].stage;
        let free = systems.iter().position(|system| {
            system.stage == stage
                && !systems.iter().any(|other| other.stage == stage && must_wait(system, other))
        });
        let Some(free) = free else {
            let names: Vec<_> = cycle(&systems, must_wait);
            errors.push(format!(
                "systems wait for each other in stage {stage:?}: {}",
                names.join(" after ")
            ));
            return ordered;
        };
        ordered.push(systems.remove(free));
    }
    check_conflicts(&ordered, must_wait, errors);
    let mut position = 0;
    for index in 0..ordered.len() {
        // A place for the end of the stage before stands between two stages.
        position +=
            if index > 0 && ordered[index - 1].stage != ordered[index].stage { 2 } else { 1 };
        ordered[index].position = position;
    }
    ordered
}

/// Names of systems that wait for each other, the first again at the end.
fn cycle(systems: &[Placed], must_wait: impl Fn(&Placed, &Placed) -> bool) -> Vec<String> {
    let mut path = vec![0];
    loop {
        let current = path[path.len() - 1];
        let next = systems.iter().position(|other| {
            other.stage == systems[current].stage && must_wait(&systems[current], other)
        });
        let Some(next) = next else { break };
        let seen = path.iter().position(|index| *index == next);
        path.push(next);
        if let Some(start) = seen {
            return path[start..]
                .iter()
                .map(|index| format!("`{}`", systems[*index].name))
                .collect();
        }
    }
    path.iter().map(|index| format!("`{}`", systems[*index].name)).collect()
}

fn check_conflicts(
    ordered: &[Placed],
    must_wait: impl Fn(&Placed, &Placed) -> bool,
    errors: &mut Vec<String>,
) {
    for (later, system) in ordered.iter().enumerate() {
        // Which systems before this one it waits for, directly or through others.
        let mut waits = vec![false; ordered.len()];
        waits[later] = true;
        for index in (0..later).rev() {
            let found = (index + 1..=later)
                .any(|between| waits[between] && must_wait(&ordered[between], &ordered[index]));
            waits[index] = found;
        }
        for (index, earlier) in ordered[..later].iter().enumerate() {
            if earlier.stage != system.stage || earlier.priority != system.priority || waits[index]
            {
                continue;
            }
            if let Some(what) = earlier.access.conflict(&system.access) {
                errors.push(format!(
                    "systems `{}` and `{}` of stage {:?} both touch `{what}` and one of them changes it, but nothing says which runs first: \
                     use `after`, `before`, `chain` or `priority`",
                    earlier.name, system.name, system.stage
                ));
            }
        }
    }
}

impl Schedule {
    /// Names in the order in which the systems run.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.systems.iter().map(|system| system.name.as_str())
    }

    /// Runs all systems for the world's tick; `running` is told the index of each before it starts.
    pub(crate) fn run(&self, world: &mut World, running: impl Fn(usize)) {
        let tick = world.tick;
        for (index, placed) in self.systems.iter().enumerate() {
            if index > 0 && self.systems[index - 1].stage != placed.stage {
                world.flush(stamp(tick, placed.position - 1));
            }
            let run = Run {
                stamp: stamp(tick, placed.position),
                last: world.last_runs[index],
                stream: placed.stream,
                tick,
            };
            if !tick.0.is_multiple_of(placed.every) || !placed.triggered(world, run.last) {
                continue;
            }
            running(index);
            placed.system.run(world, &run);
            world.last_runs[index] = run.stamp;
        }
        world.flush(stamp(tick, self.systems.last().map_or(1, |last| last.position + 1)));
    }
}

impl Placed {
    fn triggered(&self, world: &World, last: Stamp) -> bool {
        self.triggers.is_empty()
            || self.triggers.iter().any(|trigger| match *trigger {
                Trigger::Event(index) => world.events[index].any_newer(last),
                Trigger::Added(index) => world.columns[index].any_newer(last, true),
                Trigger::Changed(index) => world.columns[index].any_newer(last, false),
                Trigger::Removed(index) => {
                    world.removed(index).last().is_some_and(|(stamp, _)| *stamp > last)
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_named_like_its_function() {
        let paths = [
            "arena::systems::movement",
            "movement",
            "a::generic<b::Type<c::D>>",
            "<a::B as c::D<E>>::build::{{closure}}",
        ];
        assert_eq!(paths.map(last_segment), ["movement", "movement", "generic", "{{closure}}"]);
    }
}
