//! The life of a tick: drawn, made, journaled, published.
//!
//! *Lateness* is how long after its deadline a tick starts; a tick is *late* when that is more than
//! half of the time between two ticks. A match that is behind runs its ticks back to back, at most
//! `catch_up` of them; what it is further behind is given up: its schedule moves, the delay is
//! counted, and no tick is ever skipped.

use std::sync::Arc;
use std::time::Duration;

use rekindle_door::{CommandDone, TickFrame};
use rekindle_schema::Tick;
use rekindle_schema::record::{Decision, LeaveReason, Step};
use rekindle_sim::{Broken, SimError};
use tokio::time::Instant;

use super::actor::{MatchState, Mode, Pending};
use crate::config::{OnStall, Output};
use crate::core::profile::Around;
use crate::core::{Advanced, Drawn, Durable, MAX_TICK_BYTES};
use crate::messages::Wake;
use crate::play::supervision::MatchPhase;
use crate::recovery::poison::{Contribution, Outcome};

/// Quarantined inputs in one session after which the session is removed.
const STRIKES: u32 = 3;
/// How long a validation that does not hold is not told again.
const QUIET: Duration = Duration::from_mins(1);

impl MatchState {
    pub(super) fn on_tick(&mut self, wake: Wake) {
        if wake.generation != self.generation || self.host.journal.is_halted() {
            return;
        }
        let now = Instant::now();
        match self.mode {
            Mode::Running => {}
            Mode::Waiting { until } => {
                if now < until && !self.cell.doors.lock().ingress.all_present() {
                    self.wake_at((wake.deadline + self.interval).min(until));
                    return;
                }
                tracing::info!(
                    code = "RK-HOST-020", match_id = %self.cell.match_id, tick = %self.core.tick(),
                    "match goes on"
                );
                self.set_mode(Mode::Running);
            }
            Mode::Poisoned { .. } | Mode::Moving { .. } | Mode::Ending { .. } | Mode::Stopped => {
                return;
            }
        }
        if self.stalled() {
            self.host.meters.paused_ticks.increment(1);
            self.cell.set_phase(MatchPhase::Stalled);
            if !self.leave() {
                self.wake_at(now + self.interval);
            }
            return;
        }
        self.cell.set_phase(MatchPhase::Running);
        let lateness = now.saturating_duration_since(wake.deadline);
        self.host.meters.tick_lateness.record(lateness);
        if lateness > self.interval / 2 {
            self.host.meters.late_ticks.increment(1);
            self.cell.supervision.count_late();
        }
        if lateness > self.host.config.stall_after {
            // The process may have been stopped, and its matches taken: nothing is shown before the
            // store has confirmed that they were not.
            self.unverified = Some(self.core.tick().next());
        }
        let drawn = self.cell.doors.lock().ingress.draw();
        self.make(drawn);
        if !self.leave() && matches!(self.mode, Mode::Running) {
            self.schedule_next(wake.deadline);
        }
    }

    /// Whether the match must not go on before the store has caught up.
    pub(super) fn stalled(&self) -> bool {
        if self.host.journal.overloaded() {
            return true;
        }
        self.host.config.on_stall == OnStall::Pause && self.behind()
    }

    /// The durable tick is further behind than it may be.
    fn behind(&self) -> bool {
        let allowed = (self.host.config.stall_after.as_secs_f64() / self.interval.as_secs_f64())
            .ceil() as u64;
        self.cell.books.at_risk() >= allowed.max(1)
    }

    fn schedule_next(&mut self, deadline: Instant) {
        let next = deadline + self.interval;
        let now = Instant::now();
        let given_up = now.checked_duration_since(next + self.interval * self.host.config.catch_up);
        match given_up {
            Some(delay) => {
                self.host.meters.tick_delay.increment(delay.as_micros() as u64);
                self.wake_at(next + delay);
            }
            None => self.wake_at(next),
        }
    }

    fn make(&mut self, drawn: Drawn) {
        let Drawn { step, arrived } = drawn;
        self.cell.supervision.begin_making(&step);
        let started = Instant::now();
        for arrival in &arrived {
            self.host.meters.input_to_apply.record(started.saturating_duration_since(*arrival));
        }
        let tick = step.tick;
        self.core.measure(self.profiler.stopwatch(tick));
        let made = self.core.step(&step);
        self.cell.supervision.end_making();
        match made {
            Ok(output) => {
                self.note_broken(tick, &output.broken);
                let stop = self.cell.supervision.take_stop();
                let advanced =
                    self.core.finish(step, output, Vec::new(), stop, self.cell.subscribers.any());
                let took = started.elapsed();
                self.host.meters.tick_seconds.record(took);
                self.cell.checkpoints.note_step(took);
                self.core.lap(Around::Hand);
                self.executed(advanced, arrived);
                if let Some(stopwatch) = self.core.measured() {
                    self.profiler.note(tick, stopwatch);
                }
            }
            Err(error) => {
                self.core.measure(None);
                self.poisoned(step, arrived, &error);
            }
        }
    }

    /// Counts the validations that do not hold and says so, each at most once in [`QUIET`]: one
    /// that stays broken is checked again and again.
    fn note_broken(&mut self, tick: Tick, broken: &[Broken]) {
        let quiet = (QUIET.as_secs_f64() / self.cell.period.as_secs_f64()).ceil() as u64;
        for Broken { validation, problem } in broken {
            self.host.meters.broken.increment(1);
            let last = self.warned.get(validation);
            if last.is_some_and(|last| tick.0 < last.0.saturating_add(quiet)) {
                continue;
            }
            self.warned.insert(validation.clone(), tick);
            tracing::warn!(
                code = "RK-HOST-080", match_id = %self.cell.match_id, %tick, validation,
                "a validation of the game does not hold: {problem}"
            );
        }
    }

    /// A tick is made: to the outbox, and to subscribers now or when it is durable.
    fn executed(&mut self, advanced: Advanced, arrived: Vec<Instant>) {
        let Advanced { record, mut frame, effects, ended } = advanced;
        let tick = record.step.tick;
        let size = record.weight();
        if size > MAX_TICK_BYTES {
            // The journal would refuse its record and end the node, at every start anew.
            return self.park(format!(
                "RK-HOST-040: tick {tick} asks for about {size} bytes in the journal, over the \
                 limit of {MAX_TICK_BYTES} for one tick: \
                 the game emits too many events or effects at once"
            ));
        }
        self.host.meters.ticks.increment(1);
        if let Some(beat) = record.beat {
            self.cell.note_beat(beat);
        }
        let weight = self.cell.books.execute(record);
        self.host.journal.submit(&self.cell, weight);
        let eager = self.host.config.output == Output::Immediate
            || (self.host.config.on_stall == OnStall::Degrade && self.behind());
        let at_once = eager && self.unverified.is_none();
        if at_once {
            // What was held back goes first, so that frames stay in order.
            for index in 0..self.pending.len() {
                if let Some(frame) = self.pending[index].frame.take() {
                    self.publish(frame);
                }
            }
            if let Some(frame) = frame.take() {
                self.publish(frame);
            }
        }
        self.pending.push_back(Pending { tick, made: Instant::now(), frame, effects, arrived });
        if let Some(reason) = ended {
            self.end(reason);
        }
    }

    fn publish(&self, frame: TickFrame) {
        let dropped = self.cell.publish(frame);
        if dropped > 0 {
            self.host.meters.subscribers_dropped.increment(dropped as u64);
            tracing::warn!(
                code = "RK-HOST-021", match_id = %self.cell.match_id, dropped,
                "subscribers lagged behind and were dropped"
            );
        }
    }

    pub(super) fn on_durable(&mut self, durable: Durable) {
        let now = Instant::now();
        while self.pending.front().is_some_and(|pending| pending.tick <= durable.tick) {
            let Some(pending) = self.pending.pop_front() else { break };
            self.host.meters.tick_to_durable.record(now.saturating_duration_since(pending.made));
            for arrival in pending.arrived {
                self.host.meters.input_to_durable.record(now.saturating_duration_since(arrival));
            }
            if let Some(frame) = pending.frame {
                self.publish(frame);
            }
            if !pending.effects.is_empty() {
                self.host.deliver(&self.cell, pending.effects);
            }
        }
        if self.unverified.is_some_and(|tick| durable.tick >= tick) {
            self.unverified = None;
        }
        self.cell.books.publish(durable.tick);
        self.cell.doors.confirm_joins(durable.tick);
        self.tell_cut_if_durable();
        self.finish_if_durable();
    }

    pub(super) fn on_present(&mut self) {
        if let Mode::Waiting { .. } = self.mode
            && self.cell.doors.lock().ingress.all_present()
        {
            self.wake_at(Instant::now());
        }
    }

    /// The world is lost. The match stands still until it is rebuilt from the store without what
    /// triggers the panic; if it is the game that stops it, until all that was made is durable.
    fn poisoned(&mut self, step: Step, arrived: Vec<Instant>, error: &SimError) {
        if let SimError::Broken { .. } = error {
            self.host.meters.broken.increment(1);
            self.host.stop_behind(Arc::clone(&self.cell), error.to_string());
            self.set_mode(Mode::Poisoned { step: Box::new(step), arrived, since: Instant::now() });
            return;
        }
        tracing::error!(
            code = "RK-HOST-022", match_id = %self.cell.match_id, tick = %step.tick, %error,
            "tick failed; looking for its cause"
        );
        self.host.repair(Arc::clone(&self.cell), step.clone());
        self.set_mode(Mode::Poisoned { step: Box::new(step), arrived, since: Instant::now() });
    }

    pub(super) fn on_repaired(&mut self, outcome: Outcome) {
        // The answer to a question that an actor before this one asked.
        let Mode::Poisoned { step, arrived, since } = &mut self.mode else { return };
        let (poisoned, arrived, since) = (std::mem::take(step), std::mem::take(arrived), *since);
        let fixed = match outcome {
            Outcome::Fixed(fixed) => fixed,
            Outcome::Hopeless(report) => {
                // The message that says so may still be on its way.
                let durable = self.cell.books.subscribe().borrow().durable();
                self.on_durable(durable);
                return self.park(report);
            }
        };
        let mut decisions = Vec::with_capacity(fixed.culprits.len());
        let mut refused = Vec::new();
        for culprit in fixed.culprits {
            self.host.meters.quarantined.increment(1);
            let reason = culprit.reason.clone();
            tracing::error!(
                code = "RK-HOST-023",
                match_id = %self.cell.match_id,
                player = %culprit.player,
                system = %culprit.system,
                tick = %poisoned.tick,
                what = culprit.what.as_str(),
                seq = culprit.seq,
                "quarantined: {reason}"
            );
            decisions.push(Decision::Quarantine {
                tick: poisoned.tick,
                player: culprit.player,
                seq: culprit.seq,
                reason,
            });
            if culprit.what == Contribution::Command {
                refused.push(CommandDone {
                    session: culprit.session,
                    seq: culprit.seq,
                    accepted: false,
                });
            }
            if let Some(session) = culprit.joining {
                self.cell.doors.refuse_join(
                    session,
                    "the game failed when this player entered; the operator was told",
                );
            } else {
                let mut doors = self.cell.doors.lock();
                if let Some((session, strikes)) = doors.ingress.strike(culprit.player)
                    && strikes >= STRIKES
                {
                    doors.ingress.close(session, LeaveReason::Removed);
                }
            }
        }
        self.core.replace(fixed.sim);
        self.cell.checkpoints.break_off();
        self.cell.supervision.set_probe(self.core.sim().probe());
        self.set_mode(Mode::Running);
        let stop = self.cell.supervision.take_stop();
        let mut advanced = self.core.finish(
            fixed.step,
            fixed.output,
            decisions,
            stop,
            self.cell.subscribers.any(),
        );
        if let Some(frame) = &mut advanced.frame {
            frame.commands.extend(refused);
        }
        self.executed(advanced, arrived);
        self.host.meters.tick_delay.increment(since.elapsed().as_micros() as u64);
        if matches!(self.mode, Mode::Running) {
            self.wake_at(Instant::now() + self.interval);
        }
    }
}
