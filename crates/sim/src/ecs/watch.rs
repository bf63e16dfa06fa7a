//! How a step is watched from outside: which of its parts is being made. The simulation itself
//! knows no time. Who measures has a clock, and is told when a part begins; a step that nobody
//! watches does not ask who watches.

use std::time::Duration;

use crate::ecs::schedule::Schedule;
use crate::ecs::schedule::declare::Stage;

/// What a step is made of, in the order of [`Simulation::step_parts`](crate::Simulation): first the
/// systems in the order in which they run, then what is done around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPart {
    /// A system by its name, or in words what is done.
    pub name: String,
    /// The stage that it belongs to; empty for what is done before and after all stages.
    pub stage: String,
    /// It is a system of the game.
    pub system: bool,
    /// The longest that a run of the system should take, if the game says so: see
    /// [`IntoSystems::budget`](crate::IntoSystems::budget).
    pub budget: Option<Duration>,
}

/// Is told what a step is doing, as it happens. Called on the thread that makes the step.
pub trait StepWatch {
    /// The part with this index begins, and with it the one before it ends. A part can begin more
    /// than once in a step.
    fn begins(&mut self, part: usize);
    /// The part that began last is a system that does not run in this tick: what it took was the
    /// question whether it does.
    fn skipped(&mut self);
}

/// The stages, as the ends of theirs are numbered.
const STAGES: [Stage; 5] =
    [Stage::First, Stage::PreUpdate, Stage::Update, Stage::PostUpdate, Stage::Last];

/// All parts of a step of a game with these systems.
pub(crate) fn parts(schedule: &Schedule) -> Vec<StepPart> {
    let around = |name: &str, stage: String| StepPart {
        name: name.to_owned(),
        stage,
        system: false,
        budget: None,
    };
    let mut parts: Vec<StepPart> = schedule.parts().collect();
    parts.push(around("joins, commands, inputs", String::new()));
    let end = "commands, hooks, indexes";
    parts.extend(STAGES.iter().map(|stage| around(end, format!("{stage:?}"))));
    parts.push(around("canonical values, validations", String::new()));
    parts
}

/// Where a step tells what it does: the part before the systems is numbered behind them, then come
/// the ends of the stages, then what follows.
pub(crate) struct Watched<'a> {
    watch: Option<&'a mut dyn StepWatch>,
    systems: usize,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(watch: Option<&'a mut dyn StepWatch>, systems: usize) -> Self {
        Self { watch, systems }
    }

    /// Whether somebody watches.
    pub(crate) fn watches(&self) -> bool {
        self.watch.is_some()
    }

    #[inline]
    fn tell(&mut self, part: usize) {
        if let Some(watch) = &mut self.watch {
            watch.begins(part);
        }
    }

    /// The step begins.
    pub(crate) fn start(&mut self) {
        self.tell(self.systems);
    }

    /// A system is asked whether it runs.
    #[inline]
    pub(crate) fn system(&mut self, index: usize) {
        self.tell(index);
    }

    /// It does not.
    #[inline]
    pub(crate) fn skipped(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.skipped();
        }
    }

    /// All systems of a stage have run.
    pub(crate) fn stage_ends(&mut self, stage: Stage) {
        self.tell(self.systems + 1 + stage as usize);
    }

    /// All stages are over.
    pub(crate) fn stages_over(&mut self) {
        self.tell(self.systems + 1 + STAGES.len());
    }
}
