//! Puts the declared systems in one total order, or says everything that is wrong with them.

use crate::ecs::registry::{self, Access, Registry, did_you_mean};
use crate::ecs::schedule::beside;
use crate::ecs::schedule::declare::{Declared, Stage, Systems};
use crate::ecs::schedule::{Placed, Schedule};
use crate::storage::stamp::POSITIONS;

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
        // State of systems is stored under their names, ascending.
        let mut list: Vec<_> = self.list.into_iter().enumerate().collect();
        list.sort_by_cached_key(|(_, (_, declared))| registry::local_id(&declared.name, 0));
        let mut placed = Vec::with_capacity(list.len());
        for (index, (stage, declared)) in list {
            let (system, problems) = place(stage, declared, registry);
            placed.push((index, system, problems));
        }
        placed.sort_by_key(|(index, ..)| *index);
        let mut systems = Vec::with_capacity(placed.len());
        for (_, system, problems) in placed {
            errors.extend(problems);
            systems.push(system);
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
            assert_total(&systems);
            let batches = beside::batches(&systems, |system| system.side_by_side);
            let possible = beside::batches(&systems, |_| true);
            Ok(Schedule { systems, batches, possible })
        } else {
            Err(errors)
        }
    }
}

/// Resolves what a system touches; and what is wrong with it.
fn place(stage: Stage, declared: Declared, registry: &mut Registry) -> (Placed, Vec<String>) {
    let Declared {
        name,
        init,
        after,
        before,
        priority,
        every,
        triggers,
        conditions,
        budget,
        side_by_side,
    } = declared;
    let mut access = Access::of_system(registry);
    let system = init(registry, &mut access);
    let triggers = triggers.iter().map(|trigger| trigger(registry, &mut access)).collect();
    let conditions = conditions
        .into_iter()
        .map(|make| {
            let mut looks = access.of_condition();
            let check = make(registry, &mut looks);
            access.take_condition(looks);
            check
        })
        .collect();
    registry.add_locals(&name, std::mem::take(&mut access.locals));
    let mut errors: Vec<_> =
        access.errors.iter().map(|error| format!("system `{name}`: {error}")).collect();
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
    let placed = Placed {
        name,
        stage,
        system,
        access,
        after,
        before,
        priority,
        every,
        triggers,
        conditions,
        budget,
        side_by_side,
        stream,
        position: 0,
    };
    (placed, errors)
}

/// Checks what the stamps of a tick stand on: systems go through the stages in order, and each has
/// a place of its own, behind that of the system before it.
///
/// # Panics
/// If they do not.
fn assert_total(systems: &[Placed]) {
    for pair in systems.windows(2) {
        let [before, system] = pair else { continue };
        let gap = 1 + u32::from(before.stage != system.stage);
        assert!(
            before.stage <= system.stage && before.position + gap == system.position,
            "systems `{}` and `{}` are not in one order",
            before.name,
            system.name
        );
    }
    // The end of the last stage has a place as well.
    assert!(systems.last().is_none_or(|last| last.position + 1 < POSITIONS));
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
                    no system of this game{}",
                    system.name,
                    did_you_mean(other, systems.iter().map(|known| known.name.as_str()))
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
                    "systems `{}` and `{}` of stage {:?} both touch `{what}` and one of them \
                     changes it, but nothing says which runs first: use `after`, `before`, \
                     `chain` or `priority`",
                    earlier.name, system.name, system.stage
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rekindle_schema::Tick;

    use super::*;
    use crate::ecs::schedule::declare::IntoSystems as _;
    use crate::ecs::watch::Watched;
    use crate::ecs::world::World;

    fn nothing() {}

    fn two() -> Schedule {
        let mut declarations = Declarations::default();
        declarations.add(Stage::Update, nothing.named("two"));
        declarations.add(Stage::First, nothing.named("one"));
        declarations.build(&mut Registry::default()).unwrap()
    }

    fn world() -> World {
        let mut world = World::new(Arc::default(), Arc::default(), 2, 1, 30);
        world.begin(Tick(1));
        world
    }

    #[test]
    fn systems_run_by_stage() {
        let schedule = two();
        assert_eq!(schedule.names().collect::<Vec<_>>(), ["one", "two"]);
        schedule.run(&mut world(), |_| {}, &|_| {}, &mut Watched::new(None, 2));
    }

    #[test]
    #[should_panic(expected = "systems `one` and `two` are not in one order")]
    fn two_systems_with_one_place_are_noticed() {
        let mut schedule = two();
        schedule.systems[1].position = schedule.systems[0].position;
        assert_total(&schedule.systems);
    }

    #[test]
    #[should_panic(expected = "system `one` last ran at stamp 4294967295, which is not before")]
    fn a_system_that_ran_tomorrow_is_noticed() {
        let mut world = world();
        world.last_runs[0] = u32::MAX;
        two().run(&mut world, |_| {}, &|_| {}, &mut Watched::new(None, 2));
    }
}
