//! The step of a match: world in, record and frame out.

use std::sync::Arc;

use rekindle_door::{Applied, CommandDone, SessionEnded, TickFrame};
use rekindle_schema::digest;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{Beat, Decision, Effect, PartSums, Shown, Step};
use rekindle_schema::{Epoch, MatchId, StateHash, Tick};
use rekindle_sim::{SimError, Simulation, StepOutput, Workers};

use super::outbox::TickRecord;
use super::profile::{Around, Stopwatch};

/// Views that are kept for reuse; more are in flight only while a store is slow.
const SPARE_VIEWS: usize = 4;

/// What making a tick brought forth.
#[derive(Debug)]
pub struct Advanced {
    /// For the journal.
    pub record: TickRecord,
    /// For subscribers, if anybody listens or the match is over.
    pub frame: Option<TickFrame>,
    /// To be delivered once the tick is durable.
    pub effects: Vec<Effect>,
    /// The match is over.
    pub ended: Option<String>,
}

/// A world and what names it.
pub struct MatchCore {
    match_id: MatchId,
    epoch: Epoch,
    beat_every: u64,
    sim: Box<dyn Simulation>,
    beat: Option<Beat>,
    views: Vec<Arc<NetView>>,
    /// What the record of the next tick says besides.
    opening: Vec<Decision>,
    /// Lent to the world.
    workers: Option<Arc<dyn Workers>>,
    /// Measures the tick that is being made, if that is wanted.
    stopwatch: Option<Box<Stopwatch>>,
}

impl MatchCore {
    /// Around a world that was set up or restored.
    pub fn new(match_id: MatchId, epoch: Epoch, beat_every: u64, sim: Box<dyn Simulation>) -> Self {
        Self {
            match_id,
            epoch,
            beat_every: beat_every.max(1),
            sim,
            beat: None,
            views: Vec::new(),
            opening: Vec::new(),
            workers: None,
            stopwatch: None,
        }
    }

    /// The same, with decisions that made it go on: they stand in its next record.
    #[must_use]
    pub fn opening(self, opening: Vec<Decision>) -> Self {
        Self { opening, ..self }
    }

    /// From the next tick on, so many periods lie between two ticks: its record says so.
    pub fn say_slowdown(&mut self, periods: u8) {
        self.opening.retain(|said| !matches!(said, Decision::Slowdown { .. }));
        self.opening.push(Decision::Slowdown { tick: self.tick().next(), periods });
    }

    /// The same, with threads for the parallel queries of its world.
    #[must_use]
    pub fn with_workers(mut self, workers: Option<Arc<dyn Workers>>) -> Self {
        self.sim.set_workers(workers.clone());
        Self { workers, ..self }
    }

    /// The world.
    pub fn sim(&self) -> &dyn Simulation {
        &*self.sim
    }

    /// Where it stands.
    pub fn tick(&self) -> Tick {
        self.sim.tick()
    }

    /// The hash of the world as it stands, if this tick had a beat.
    pub fn hash_now(&self) -> Option<StateHash> {
        self.beat.filter(|beat| beat.tick == self.tick()).map(|beat| beat.hash)
    }

    /// Puts another world in the place of one that panicked.
    pub fn replace(&mut self, sim: Box<dyn Simulation>) {
        self.sim = sim;
        self.sim.set_workers(self.workers.clone());
        self.beat = None;
    }

    /// Has the tick that comes next measured, or not.
    pub fn measure(&mut self, stopwatch: Option<Box<Stopwatch>>) {
        self.stopwatch = stopwatch;
    }

    /// The stopwatch of the tick that was made, if it was measured.
    pub fn measured(&mut self) -> Option<Box<Stopwatch>> {
        self.stopwatch.take()
    }

    /// What the tick costs from here on is this.
    pub fn lap(&mut self, what: Around) {
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.lap(what);
        }
    }

    /// Makes the next tick. After an error the world is of no more use.
    pub fn step(&mut self, step: &Step) -> Result<StepOutput, SimError> {
        match &mut self.stopwatch {
            None => self.sim.step(step),
            Some(stopwatch) => self.sim.step_watched(step, &mut **stopwatch),
        }
    }

    /// Turns the output of a step that the world has made into what goes to the journal and to
    /// subscribers. `stop` ends the match after it; a frame is made if it is `wanted`, if there are
    /// events to remember, and of the last tick always.
    pub fn finish(
        &mut self,
        step: Step,
        output: StepOutput,
        decisions: Vec<Decision>,
        stop: Option<String>,
        wanted: bool,
    ) -> Advanced {
        let tick = step.tick;
        let mut parts = None;
        let beats = tick.0.is_multiple_of(self.beat_every);
        self.lap(if beats { Around::Hash } else { Around::Record });
        let beat = beats.then(|| {
            let (hash, sums) = self.sim.beat();
            parts = (!sums.is_empty()).then_some(PartSums { tick, sums });
            Beat { tick, hash }
        });
        self.beat = beat;
        let mut all = std::mem::take(&mut self.opening);
        all.extend(decisions);
        let mut decisions = all;
        let ended = output.ended.or(stop);
        if let Some(reason) = &ended {
            decisions.push(Decision::End { tick, reason: reason.clone() });
        }
        let wanted = wanted || ended.is_some() || !output.events.is_empty();
        if wanted {
            self.lap(Around::Extract);
        }
        let view = wanted.then(|| self.view());
        let shown = view
            .as_ref()
            .map(|view| Shown { tick, digest: digest::of_shown(view, &output.commands) });
        self.lap(Around::Record);
        let frame = view.map(|view| TickFrame {
            match_id: self.match_id,
            epoch: self.epoch,
            tick,
            durable: Tick(0),
            view,
            applied: step
                .inputs
                .iter()
                .map(|input| Applied { session: input.session, seq: input.seq })
                .collect(),
            commands: step
                .commands
                .iter()
                .zip(output.commands.iter().copied().chain(std::iter::repeat(false)))
                .map(|(command, accepted)| CommandDone {
                    session: command.session,
                    seq: command.seq,
                    accepted,
                })
                .collect(),
            joined: step.joins.iter().map(|join| (join.player, join.session)).collect(),
            left: step
                .leaves
                .iter()
                .map(|leave| SessionEnded { session: leave.session, reason: leave.reason })
                .collect(),
            beat,
            events: output.events.clone(),
            ended: ended.clone(),
        });
        let effects = output.effects.clone();
        let (events, asked) = (output.events, output.effects);
        let record = TickRecord { step, beat, parts, shown, events, effects: asked, decisions };
        Advanced { record, frame, effects, ended }
    }

    /// The networked world now, in buffers that nobody reads any more.
    fn view(&mut self) -> Arc<NetView> {
        let free = self.views.iter_mut().position(|view| Arc::get_mut(view).is_some());
        let mut view = free.map(|at| self.views.swap_remove(at)).unwrap_or_default();
        if let Some(inside) = Arc::get_mut(&mut view) {
            self.sim.extract(inside);
        }
        if self.views.len() < SPARE_VIEWS {
            self.views.push(Arc::clone(&view));
        }
        view
    }
}
