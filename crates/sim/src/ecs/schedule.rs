//! In which order systems run, and when.
//!
//! The order is total and depends on declarations alone: stage, then `after` / `before`, then
//! priority (higher first), then name. Systems of one stage that touch the same thing, one of them
//! changing it, must be put in order by `after`, `before` or priority: left to their names they are
//! an error.

pub(crate) mod declare;
pub(crate) mod order;

use std::time::Duration;

use crate::ecs::registry::Access;
use crate::ecs::schedule::declare::{Stage, Trigger};
use crate::ecs::system::{Check, System};
use crate::ecs::watch::{StepPart, Watched};
use crate::ecs::world::World;
use crate::storage::stamp::{Run, Stamp, StampOf, stamp};

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
    conditions: Vec<Check>,
    /// The longest that a run should take. Nothing here looks at it: who measures does.
    budget: Option<Duration>,
    stream: u64,
    /// Its place in the stamps of a tick.
    position: u32,
}

/// The systems of a game in the order in which they run.
pub(crate) struct Schedule {
    systems: Vec<Placed>,
}

impl Schedule {
    /// Names in the order in which the systems run.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.systems.iter().map(|system| system.name.as_str())
    }

    /// The system whose changes have this place in the stamps of a tick.
    pub(crate) fn system_at(&self, position: u32) -> Option<&str> {
        let found = self.systems.iter().find(|system| system.position == position);
        found.map(|system| system.name.as_str())
    }

    /// The systems in the order in which they run, for those who measure them.
    pub(crate) fn parts(&self) -> impl Iterator<Item = StepPart> {
        self.systems.iter().map(|system| StepPart {
            name: system.name.clone(),
            stage: format!("{:?}", system.stage),
            system: true,
            budget: system.budget,
        })
    }

    /// The systems in the order in which they run, as a Mermaid flow chart: a box for each stage,
    /// arrows for `after`, `before` and `chain`.
    pub(crate) fn chart(&self) -> String {
        let mut lines = vec!["flowchart LR".to_owned()];
        let mut stage = None;
        for (index, system) in self.systems.iter().enumerate() {
            if stage != Some(system.stage) {
                if stage.is_some() {
                    lines.push("    end".to_owned());
                }
                lines.push(format!("    subgraph {:?}", system.stage));
                stage = Some(system.stage);
            }
            let every =
                if system.every > 1 { format!(" every {}", system.every) } else { String::new() };
            lines.push(format!("        s{index}[\"{}{every}\"]", system.name));
        }
        if stage.is_some() {
            lines.push("    end".to_owned());
        }
        for (later, system) in self.systems.iter().enumerate() {
            for (earlier, other) in self.systems[..later].iter().enumerate() {
                let ordered = system.stage == other.stage
                    && (system.after.contains(&other.name) || other.before.contains(&system.name));
                if ordered {
                    lines.push(format!("    s{earlier} --> s{later}"));
                }
            }
        }
        lines.join("\n") + "\n"
    }

    /// Runs all systems for the world's tick; `running` is told the index of each before it starts,
    /// and `hook_running` that of each hook. `watched` is told what takes time.
    pub(crate) fn run(
        &self,
        world: &mut World,
        running: impl Fn(usize),
        hook_running: &dyn Fn(usize),
        watched: &mut Watched<'_>,
    ) {
        let tick = world.tick;
        debug_assert_eq!(world.last_runs.len(), self.systems.len());
        for (index, placed) in self.systems.iter().enumerate() {
            if index > 0 && self.systems[index - 1].stage != placed.stage {
                watched.stage_ends(self.systems[index - 1].stage);
                self.end_stage(world, placed.position - 1, hook_running);
            }
            watched.system(index);
            let run = Run {
                stamp: stamp(tick, placed.position),
                last: world.last_runs[index],
                stream: placed.stream,
                tick,
            };
            if !placed.due(world, &run) {
                watched.skipped();
                continue;
            }
            debug_assert!(
                run.last < run.stamp,
                "system `{}` last ran at stamp {}, which is not before {}",
                placed.name,
                run.last,
                run.stamp
            );
            running(index);
            placed.system.run(world, &run);
            world.last_runs[index] = run.stamp;
        }
        let end = self.systems.last().map_or(1, |last| last.position + 1);
        watched.stage_ends(self.systems.last().map_or(Stage::Last, |last| last.stage));
        self.end_stage(world, end, hook_running);
    }

    /// Carries out what the stage asked for, and completes what it did.
    fn end_stage(&self, world: &mut World, position: u32, hook_running: &dyn Fn(usize)) {
        world.flush(stamp(world.tick, position));
        let system = |position| {
            let place = self.systems.binary_search_by_key(&position, |system| system.position);
            place.ok().map(|index| self.systems[index].name.as_str())
        };
        world.settle(system, hook_running);
    }
}

impl Placed {
    /// Whether it runs in this tick.
    fn due(&self, world: &World, run: &Run) -> bool {
        run.tick.0.is_multiple_of(self.every)
            && self.triggered(world, run.last)
            && self.conditions.iter().all(|holds| holds(world, run))
    }

    fn triggered(&self, world: &World, last: Stamp) -> bool {
        self.triggers.is_empty()
            || self.triggers.iter().any(|trigger| match *trigger {
                Trigger::Event(index) => world.events[index].any_newer(last),
                Trigger::Added(index) => world.columns[index].any_newer(last, StampOf::Addition),
                Trigger::Changed(index) => world.columns[index].any_newer(last, StampOf::Change),
                Trigger::Removed(index) => {
                    world.removed(index).last().is_some_and(|(stamp, _)| *stamp > last)
                }
            })
    }
}
