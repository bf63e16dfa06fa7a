//! In which order systems run, and when.
//!
//! The order is total and depends on declarations alone: stage, then `after` / `before`, then
//! priority (higher first), then name. Systems of one stage that touch the same thing, one of them
//! changing it, must be put in order by `after`, `before` or priority: left to their names they are
//! an error.

pub(crate) mod beside;
pub(crate) mod declare;
pub(crate) mod order;

use std::time::Duration;

use crate::ecs::registry::Access;
use crate::ecs::schedule::beside::Batch;
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
    /// It may run at the same time as its neighbours.
    side_by_side: bool,
    stream: u64,
    /// Its place in the stamps of a tick.
    position: u32,
}

/// The systems of a game in the order in which they run.
pub(crate) struct Schedule {
    systems: Vec<Placed>,
    /// Those that may run side by side because they say so, ascending.
    batches: Vec<Batch>,
    /// Those that could, if all said so.
    possible: Vec<Batch>,
}

impl Schedule {
    /// Names in the order in which the systems run.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.systems.iter().map(|system| system.name.as_str())
    }

    /// The place of a system in the stamps of a tick.
    pub(crate) fn position_of(&self, system: &str) -> Option<u32> {
        let found = self.systems.iter().find(|placed| placed.name == system);
        found.map(|placed| placed.position)
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
    /// in it one for those that run side by side, arrows for `after`, `before` and `chain`.
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
            let batch = self.batches.iter().find(|batch| (batch.from..batch.to()).contains(&index));
            if batch.is_some_and(|batch| batch.from == index) {
                lines.push(format!("        subgraph b{index}[side by side]"));
            }
            let every =
                if system.every > 1 { format!(" every {}", system.every) } else { String::new() };
            let inset = if batch.is_some() { "    " } else { "" };
            lines.push(format!("        {inset}s{index}[\"{}{every}\"]", system.name));
            if batch.is_some_and(|batch| batch.to() == index + 1) {
                lines.push("        end".to_owned());
            }
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
        running: impl Fn(usize) + Sync,
        hook_running: &dyn Fn(usize),
        watched: &mut Watched<'_>,
    ) {
        debug_assert_eq!(world.last_runs.len(), self.systems.len());
        let mut batches = self.batches_of(world, watched);
        // The place behind the systems that have run in batches.
        let mut behind = 0;
        for (index, placed) in self.systems.iter().enumerate() {
            if index > 0 && self.systems[index - 1].stage != placed.stage {
                watched.stage_ends(self.systems[index - 1].stage);
                self.end_stage(world, placed.position - 1, hook_running);
            }
            if let [batch, later @ ..] = batches
                && batch.from == index
            {
                self.run_batch(world, batch, &running);
                (behind, batches) = (batch.to(), later);
            }
            if index < behind {
                continue;
            }
            watched.system(index);
            let run = placed.run_in(world, index);
            if !placed.due(world, &run) {
                watched.skipped();
                continue;
            }
            running(index);
            placed.system.run(world, &run);
            world.last_runs[index] = run.stamp;
        }
        let end = self.systems.last().map_or(1, |last| last.position + 1);
        watched.stage_ends(self.systems.last().map_or(Stage::Last, |last| last.stage));
        self.end_stage(world, end, hook_running);
    }

    /// What runs side by side in this step. None of those that are measured: there each system has
    /// its own time.
    fn batches_of(&self, world: &World, watched: &Watched<'_>) -> &[Batch] {
        match &world.workers {
            None => &[],
            Some(_) if watched.watches() => &[],
            Some(workers) if workers.all_side_by_side() => &self.possible,
            Some(_) => &self.batches,
        }
    }

    /// Runs the systems of a batch: side by side, if more than one of them is due.
    fn run_batch(&self, world: &mut World, batch: &Batch, running: &(dyn Fn(usize) + Sync)) {
        // Nothing that one of them does decides whether another one is due.
        let due: Vec<(usize, Run)> = (batch.from..batch.to())
            .map(|place| (place, self.systems[place].run_in(world, place)))
            .filter(|(place, run)| self.systems[*place].due(world, run))
            .collect();
        match world.workers.clone() {
            Some(workers) if due.len() > 1 => {
                beside::run(world, batch, &self.systems, &due, &*workers, running);
            }
            _ => {
                for (place, run) in &due {
                    running(*place);
                    self.systems[*place].system.run(world, run);
                }
            }
        }
        for (place, run) in due {
            world.last_runs[place] = run.stamp;
        }
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
    /// Its run in this tick, if it is due; `index` is its place among all systems.
    #[inline]
    fn run_in(&self, world: &World, index: usize) -> Run {
        Run {
            stamp: stamp(world.tick, self.position),
            last: world.last_runs[index],
            stream: self.stream,
            tick: world.tick,
        }
    }

    /// Whether it runs in this tick.
    #[inline]
    fn due(&self, world: &World, run: &Run) -> bool {
        let due = run.tick.0.is_multiple_of(self.every)
            && self.triggered(world, run.last)
            && self.conditions.iter().all(|holds| holds(world, run));
        debug_assert!(
            !due || run.last < run.stamp,
            "system `{}` last ran at stamp {}, which is not before {}",
            self.name,
            run.last,
            run.stamp
        );
        due
    }

    #[inline]
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
