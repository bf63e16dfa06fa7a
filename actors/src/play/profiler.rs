//! Which ticks of a match are measured, and where the figures go: into metrics, for one tick in
//! [`EVERY`], and to whoever profiles the match.
//!
//! Belongs to the match's actor. What is measured is told by the world ([`StepWatch`]) and timed by
//! a [`Stopwatch`]; see [`crate::core::profile`].
//!
//! [`StepWatch`]: rekindle_sim::StepWatch

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::Mutex;
use rekindle_schema::{MatchId, Tick};
use rekindle_sim::StepPart;

use crate::core::profile::{Samples, Stopwatch};

/// One tick in so many is measured for metrics. A measured tick costs about 50 ns a system more.
const EVERY: u64 = 64;
/// A system that takes longer than its budget is named in the log once in so long.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Metrics of the parts of a game's steps, shared by the game's matches.
pub(crate) struct PartMeters {
    game: String,
    parts: Arc<[StepPart]>,
    /// By part.
    seconds: Vec<Histogram>,
    /// By part.
    over: Vec<Over>,
}

/// Runs of a system that took longer than they should.
struct Over {
    count: Counter,
    told: Mutex<Option<Instant>>,
}

impl PartMeters {
    pub(crate) fn new(game: &str, parts: Arc<[StepPart]>) -> Self {
        let labels = |part: &StepPart| {
            let system = match part.stage.as_str() {
                stage if part.system || stage.is_empty() => part.name.clone(),
                stage => format!("{stage}: {}", part.name),
            };
            [("game", game.to_owned()), ("system", system)]
        };
        let seconds = parts.iter().map(|part| histogram!("rekindle_system_seconds", &labels(part)));
        let over = parts.iter().map(|part| Over {
            count: counter!("rekindle_system_over_budget_total", &labels(part)),
            told: Mutex::new(None),
        });
        Self { game: game.to_owned(), seconds: seconds.collect(), over: over.collect(), parts }
    }

    fn note(&self, match_id: MatchId, tick: Tick, spans: &[u32]) {
        for (index, part) in self.parts.iter().enumerate() {
            let took = Duration::from_nanos(spans[index].into());
            if took.is_zero() {
                continue;
            }
            self.seconds[index].record(took);
            if let Some(budget) = part.budget.filter(|budget| took > *budget) {
                self.over[index].count.increment(1);
                self.tell(index, match_id, tick, took, budget);
            }
        }
    }

    /// Names a system that took too long, unless that was done just now.
    fn tell(&self, part: usize, match_id: MatchId, tick: Tick, took: Duration, budget: Duration) {
        let mut told = self.over[part].told.lock();
        let now = Instant::now();
        if told.is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY) {
            return;
        }
        *told = Some(now);
        tracing::warn!(
            code = "RK-HOST-060", game = self.game, system = self.parts[part].name, %match_id,
            %tick, took_us = took.as_micros() as u64, budget_us = budget.as_micros() as u64,
            "a system took longer than its budget"
        );
    }
}

/// Decides for one match which ticks are measured.
pub(crate) struct Profiler {
    match_id: MatchId,
    meters: Arc<PartMeters>,
    /// Used again for each tick that is measured; there is none before the first.
    stopwatch: Option<Box<Stopwatch>>,
    /// Whoever profiles the match; those who let go of theirs are forgotten.
    audience: Vec<Weak<Mutex<Samples>>>,
}

impl Profiler {
    pub(crate) fn new(match_id: MatchId, meters: Arc<PartMeters>) -> Self {
        Self { match_id, meters, stopwatch: None, audience: Vec::new() }
    }

    /// Somebody wants to know what the ticks from now on take, as long as `samples` is held.
    pub(crate) fn listen(&mut self, samples: Weak<Mutex<Samples>>) {
        self.audience.push(samples);
    }

    /// Matches take turns: their ticks are not measured all at once.
    fn is_sampled(&self, tick: Tick) -> bool {
        tick.0.wrapping_add(self.match_id.0).is_multiple_of(EVERY)
    }

    /// A stopwatch that runs, if this tick is to be measured.
    pub(crate) fn stopwatch(&mut self, tick: Tick) -> Option<Box<Stopwatch>> {
        if self.audience.is_empty() && !self.is_sampled(tick) {
            return None;
        }
        let parts = self.meters.parts.len();
        let made = || Box::new(Stopwatch::new(parts, Instant::now));
        let mut stopwatch = self.stopwatch.take().unwrap_or_else(made);
        stopwatch.start();
        Some(stopwatch)
    }

    /// The tick is made.
    pub(crate) fn note(&mut self, tick: Tick, mut stopwatch: Box<Stopwatch>) {
        let spans = stopwatch.stop();
        if self.is_sampled(tick) {
            self.meters.note(self.match_id, tick, spans);
        }
        self.audience.retain(|samples| {
            let Some(samples) = samples.upgrade() else { return false };
            samples.lock().push(&self.meters.parts, spans);
            true
        });
        self.stopwatch = Some(stopwatch);
    }
}
