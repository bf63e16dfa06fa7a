//! What the parts of ticks take: a stopwatch for one tick, samples of many, and the figures that
//! come of them.
//!
//! The match's actor has a stopwatch run in some ticks, for metrics, and in all while somebody
//! profiles the match (`play::profiler`). Nothing that a world computes depends on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rekindle_sim::{StepPart, StepWatch};

/// Most ticks that one profile keeps; later ones are left out.
const MAX_TICKS: usize = 20_000;

/// What a tick costs besides the parts that a world tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Around {
    /// Whether systems run that did not: triggers and conditions.
    Conditions,
    /// What a step does before it tells of its first part; all of it if the game tells nothing.
    Step,
    /// Hash of the state, in ticks with a beat.
    Hash,
    /// The networked part of the world, copied out for subscribers.
    Extract,
    /// What the journal and the subscribers get is put together.
    Record,
    /// The record goes to the outbox of the journal, the frame to those who wait.
    Hand,
}

impl Around {
    const ALL: [Self; 6] =
        [Self::Conditions, Self::Step, Self::Hash, Self::Extract, Self::Record, Self::Hand];

    fn words(self) -> &'static str {
        match self {
            Self::Conditions => "systems that did not run",
            Self::Step => "entering the step",
            Self::Hash => "state hash",
            Self::Extract => "snapshot view",
            Self::Record => "record and frame",
            Self::Hand => "journal outbox",
        }
    }
}

/// The parts of a game's tick: those of its step, then [`Around`].
fn all_parts(parts: &[StepPart]) -> impl Iterator<Item = StepPart> + '_ {
    let around = |around: Around| StepPart {
        name: around.words().to_owned(),
        stage: OUTSIDE.to_owned(),
        system: false,
        budget: None,
    };
    parts.iter().cloned().chain(Around::ALL.into_iter().map(around))
}

/// The stage of what is done outside of all stages, but within the step.
const AROUND: &str = "around systems";
/// The stage of what is done outside of the step.
const OUTSIDE: &str = "outside the step";

/// Measures the parts of one tick after the other.
#[derive(Debug)]
pub struct Stopwatch {
    clock: fn() -> Instant,
    since: Instant,
    current: usize,
    /// By part, in nanoseconds.
    spans: Vec<u32>,
}

impl Stopwatch {
    /// For worlds that tell of so many parts, by this clock.
    pub fn new(parts: usize, clock: fn() -> Instant) -> Self {
        Self { clock, since: clock(), current: 0, spans: vec![0; parts + Around::ALL.len()] }
    }

    fn around(&self, what: Around) -> usize {
        self.spans.len() - Around::ALL.len() + what as usize
    }

    /// A tick begins.
    pub fn start(&mut self) {
        self.spans.fill(0);
        self.current = self.around(Around::Step);
        self.since = (self.clock)();
    }

    /// What was measured ends, and this begins.
    pub fn lap(&mut self, what: Around) {
        self.begins(self.around(what));
    }

    /// The tick is over. What each of its parts took, in nanoseconds; 0 for one that did not begin.
    pub fn stop(&mut self) -> &[u32] {
        self.begins(self.around(Around::Step));
        &self.spans
    }
}

impl StepWatch for Stopwatch {
    fn begins(&mut self, part: usize) {
        let now = (self.clock)();
        let took = now.saturating_duration_since(self.since).as_nanos();
        if let Some(span) = self.spans.get_mut(self.current) {
            // A part that began took something, however coarse the clock is.
            *span = span.saturating_add(u32::try_from(took).unwrap_or(u32::MAX).max(1));
        }
        (self.since, self.current) = (now, part);
    }

    fn skipped(&mut self) {
        self.current = self.around(Around::Conditions);
    }
}

/// The spans of many ticks.
#[derive(Debug, Default)]
pub struct Samples {
    /// What the step is made of.
    parts: Arc<[StepPart]>,
    /// Tick by tick, the spans of a stopwatch.
    spans: Vec<u32>,
}

impl Samples {
    /// Adds a tick. `parts` are those of the step.
    pub fn push(&mut self, parts: &Arc<[StepPart]>, spans: &[u32]) {
        if self.spans.is_empty() {
            self.parts = Arc::clone(parts);
        }
        let fits = spans.len() == self.width() && self.spans.len() / self.width() < MAX_TICKS;
        if fits {
            self.spans.extend_from_slice(spans);
        }
    }

    fn width(&self) -> usize {
        self.parts.len() + Around::ALL.len()
    }

    /// What comes of the samples.
    pub fn profile(&self) -> Profile {
        let ticks: Vec<&[u32]> = self.spans.chunks_exact(self.width()).collect();
        let whole = |tick: &&[u32]| tick.iter().map(|span| u64::from(*span)).sum::<u64>();
        let tick = Figures::of(ticks.iter().map(whole).collect());
        let parts: Vec<StepPart> = all_parts(&self.parts).collect();
        let mut stages = vec![AROUND.to_owned()];
        for part in &parts {
            if !part.stage.is_empty() && !stages.contains(&part.stage) {
                stages.push(part.stage.clone());
            }
        }
        let stages = stages.into_iter().map(|name| stage(name, &parts, &ticks, tick.total_ns));
        Profile { tick, stages: stages.filter(|stage| !stage.parts.is_empty()).collect() }
    }
}

/// The parts of one stage.
fn stage(name: String, parts: &[StepPart], ticks: &[&[u32]], total_ns: u64) -> StageProfile {
    let is_of = |part: &StepPart| part.stage == name || (part.stage.is_empty() && name == AROUND);
    let of: Vec<usize> = (0..parts.len()).filter(|index| is_of(&parts[*index])).collect();
    let sums = ticks.iter().map(|tick| of.iter().map(|part| u64::from(tick[*part])).sum());
    let figures = Figures::of(sums.filter(|sum: &u64| *sum > 0).collect());
    let share = |figures: &Figures| figures.total_ns as f64 / total_ns.max(1) as f64;
    let parts = of.iter().map(|&index| {
        let spans = ticks.iter().map(|tick| u64::from(tick[index])).filter(|span| *span > 0);
        let spans: Vec<u64> = spans.collect();
        let StepPart { name, system, budget, .. } = parts[index].clone();
        let over = budget.map_or(0, |budget| {
            spans.iter().filter(|span| u128::from(**span) > budget.as_nanos()).count()
        });
        let figures = Figures::of(spans);
        PartProfile { name, system, budget, over, share: share(&figures), figures }
    });
    let parts = parts.filter(|part| part.figures.count > 0).collect();
    StageProfile { name, share: share(&figures), figures, parts }
}

/// What many runs of the same took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many there were.
    pub count: usize,
    /// All of them together, in nanoseconds.
    pub total_ns: u64,
    /// Half of them took at most so many nanoseconds.
    pub p50_ns: u64,
    /// Of a hundred, 99 took at most so many nanoseconds.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Figures {
    fn of(mut spans: Vec<u64>) -> Self {
        spans.sort_unstable();
        let at = |percent: usize| {
            let rank = (spans.len() * percent).div_ceil(100);
            spans.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self {
            count: spans.len(),
            total_ns: spans.iter().sum(),
            p50_ns: at(50),
            p99_ns: at(99),
            max_ns: at(100),
        }
    }
}

/// What the ticks of a match took, and what of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Whole ticks; their count is how many were measured.
    pub tick: Figures,
    /// In the order in which a tick makes them, those that nothing took part in left out.
    pub stages: Vec<StageProfile>,
}

/// What a stage took, in the ticks in which anything of it ran.
#[derive(Debug, Clone, PartialEq)]
pub struct StageProfile {
    /// The stage's name, or what is around the stages.
    pub name: String,
    /// Its part of the time of all ticks, 0 to 1.
    pub share: f64,
    /// By tick.
    pub figures: Figures,
    /// What it is made of, in order.
    pub parts: Vec<PartProfile>,
}

/// What a system took, or something that is done around systems, in the ticks in which it ran.
#[derive(Debug, Clone, PartialEq)]
pub struct PartProfile {
    /// Its name.
    pub name: String,
    /// It is a system of the game.
    pub system: bool,
    /// The longest that a run of the system should take, if the game says so.
    pub budget: Option<Duration>,
    /// How many runs took longer.
    pub over: usize,
    /// Its part of the time of all ticks, 0 to 1.
    pub share: f64,
    /// By tick.
    pub figures: Figures,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn part(name: &str, stage: &str, budget: Option<u64>) -> StepPart {
        StepPart {
            name: name.to_owned(),
            stage: stage.to_owned(),
            system: true,
            budget: budget.map(Duration::from_nanos),
        }
    }

    #[test]
    fn figures_are_ranks_of_what_was_measured() {
        let figures = Figures::of((1..=200).rev().collect());
        assert_eq!((figures.p50_ns, figures.p99_ns, figures.max_ns), (100, 198, 200));
        assert_eq!((figures.count, figures.total_ns), (200, 20_100));
        assert_eq!(Figures::of(Vec::new()), Figures::default());
    }

    #[test]
    fn shares_are_of_all_ticks_and_what_never_ran_is_left_out() {
        let parts: Arc<[StepPart]> = [
            part("move", "Update", Some(250)),
            part("count", "Update", None),
            part("never", "Last", None),
            part("inputs", "", None),
        ]
        .into();
        let mut samples = Samples::default();
        // Beside the step's parts: conditions, step, hash, extract, record, hand.
        samples.push(&parts, &[200, 0, 0, 100, 0, 50, 0, 0, 0, 50]);
        samples.push(&parts, &[300, 200, 0, 50, 0, 50, 0, 0, 0, 0]);
        samples.push(&parts, &[1]);
        let profile = samples.profile();
        assert_eq!((profile.tick.count, profile.tick.total_ns), (2, 1_000));
        let stages: Vec<_> =
            profile.stages.iter().map(|stage| (&*stage.name, stage.share)).collect();
        assert_eq!(stages, [(AROUND, 0.15), ("Update", 0.7), (OUTSIDE, 0.15)]);
        let update = &profile.stages[1];
        assert_eq!((update.figures.p50_ns, update.figures.p99_ns), (200, 500));
        let parts: Vec<_> = update
            .parts
            .iter()
            .map(|part| (&*part.name, part.figures.count, part.over, part.share))
            .collect();
        assert_eq!(parts, [("move", 2, 1, 0.5), ("count", 1, 0, 0.2)]);
    }

    thread_local! {
        static NOW: Cell<Instant> = Cell::new(Instant::now());
    }

    fn pass(nanoseconds: u64) {
        NOW.set(NOW.get() + Duration::from_nanos(nanoseconds));
    }

    #[test]
    fn a_stopwatch_gives_each_part_its_time_and_those_that_did_not_run_none() {
        let mut watch = Stopwatch::new(2, || NOW.get());
        for _ in 0..2 {
            watch.start();
            pass(5);
            watch.begins(0);
            pass(700);
            watch.begins(1);
            pass(20);
            watch.skipped();
            watch.begins(0);
            pass(100);
            watch.lap(Around::Record);
            pass(9);
            // What the step is made of, then: conditions, step, hash, extract, record, hand.
            assert_eq!(watch.stop(), [800, 0, 20, 5, 0, 0, 9, 0]);
            pass(1_000);
        }
    }
}
