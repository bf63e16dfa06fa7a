//! The match actor: a thin shell around [`crate::core`].
//!
//! The wheel sends it `Tick`, the journal `Durable`, the checkpointer `Checkpoint`. Players'
//! traffic does not come through its mailbox: it waits in the match's
//! [`Ingress`](crate::core::Ingress), which is bounded. No handler awaits anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rekindle_door::TickFrame;
use rekindle_schema::peer::Cut;
use rekindle_schema::record::{Effect, Step};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{MatchId, Tick};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::checkpoint::ticket::{Taken, Ticket};
use crate::core::MatchCore;
use crate::core::life::{self, MatchStage};
use crate::messages::{MatchMsg, Wake};
use crate::play::cell::MatchCell;
use crate::play::profiler::Profiler;
use crate::play::supervision::MatchPhase;
use crate::services::Services;

/// How a match starts.
pub(crate) enum Start {
    /// New, or restarted in place: it ticks at once.
    Running,
    /// Recovered: it waits for its sessions.
    Recovered,
    /// Its standby goes on with it: it waits for its sessions for one tick at most. Players who are
    /// connected already come within milliseconds, and their inputs are in its first tick.
    Promoted,
    /// Its history says that it is over: only what it promised is left to do.
    Over(String),
}

/// Arguments of a match actor.
pub(crate) struct MatchArgs {
    pub(crate) host: Arc<Services>,
    pub(crate) cell: Arc<MatchCell>,
    pub(crate) core: MatchCore,
    pub(crate) start: Start,
    /// How many periods lay between its ticks, by its journal.
    pub(crate) slowdown: u8,
}

/// A tick that is executed and not yet published or confirmed.
pub(super) struct Pending {
    pub(super) tick: Tick,
    pub(super) made: Instant,
    pub(super) frame: Option<TickFrame>,
    pub(super) effects: Vec<Effect>,
    pub(super) arrived: Vec<Instant>,
}

/// What the actor is doing.
pub(super) enum Mode {
    Waiting {
        until: Instant,
    },
    Running,
    Poisoned {
        step: Box<Step>,
        arrived: Vec<Instant>,
        since: Instant,
    },
    /// Stopped behind its last tick, which is to become durable; then `reply` is told.
    Moving {
        cut: Cut,
        reply: Option<oneshot::Sender<Result<Cut, String>>>,
    },
    Ending {
        reason: String,
        last: Option<Box<Taken>>,
    },
    Stopped,
}

impl Mode {
    fn stage(&self) -> MatchStage {
        match self {
            Self::Waiting { .. } => MatchStage::Waiting,
            Self::Running => MatchStage::Running,
            Self::Poisoned { .. } => MatchStage::Poisoned,
            Self::Moving { .. } => MatchStage::Moving,
            Self::Ending { .. } => MatchStage::Ending,
            Self::Stopped => MatchStage::Stopped,
        }
    }
}

/// State of a match actor.
pub(crate) struct MatchState {
    pub(super) host: Arc<Services>,
    pub(super) cell: Arc<MatchCell>,
    pub(super) core: MatchCore,
    pub(super) profiler: Profiler,
    pub(super) mode: Mode,
    pub(super) generation: u64,
    pub(super) deadline: Instant,
    /// Time from tick to tick: the match's period, or several while it is slowed.
    pub(super) interval: Duration,
    pub(super) pending: VecDeque<Pending>,
    /// Set after a long pause: nothing is published before this tick is durable, whatever the
    /// output mode.
    pub(super) unverified: Option<Tick>,
    /// When the log last said of a validation that it does not hold.
    pub(super) warned: BTreeMap<String, Tick>,
    /// Who wants the match to stop behind the tick that comes next, to hand it over.
    pub(super) leaving: Option<oneshot::Sender<Result<Cut, String>>>,
    pub(super) me: ActorRef<MatchMsg>,
}

/// The match actor.
pub(crate) struct MatchActor;

impl Actor for MatchActor {
    type Msg = MatchMsg;
    type State = MatchState;
    type Arguments = MatchArgs;

    async fn pre_start(
        &self,
        me: ActorRef<MatchMsg>,
        args: MatchArgs,
    ) -> Result<MatchState, ActorProcessingErr> {
        let MatchArgs { host, cell, core, start, slowdown } = args;
        let now = Instant::now();
        let deadline = first_deadline(host.started, now, cell.period, cell.match_id);
        cell.supervision.set_probe(core.sim().probe());
        cell.supervision.started(me.clone());
        cell.checkpoints.break_off();
        let meters = host.part_meters(&cell.spec.game, core.sim());
        let profiler = Profiler::new(cell.match_id, meters);
        let interval = cell.period;
        let mut state = MatchState {
            host,
            cell,
            core,
            profiler,
            mode: Mode::Running,
            generation: 0,
            deadline,
            interval,
            pending: VecDeque::new(),
            unverified: None,
            warned: BTreeMap::new(),
            leaving: None,
            me,
        };
        state.go_on_slowed(slowdown);
        match start {
            Start::Running => state.enter(Mode::Running),
            Start::Recovered => {
                state.enter(Mode::Waiting { until: now + state.host.config.resume_grace });
            }
            Start::Promoted => {
                state.deadline = now + state.cell.period;
                state.enter(Mode::Waiting { until: state.deadline });
            }
            Start::Over(reason) => {
                state.end(reason);
                state.finish_if_durable();
            }
        }
        if matches!(state.mode, Mode::Running | Mode::Waiting { .. }) {
            state.wake_at(state.deadline);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<MatchMsg>,
        message: MatchMsg,
        state: &mut MatchState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MatchMsg::Tick(wake) => state.on_tick(wake),
            MatchMsg::Durable(durable) => state.on_durable(durable),
            // A rebuild would wait for a durable tick that does not come.
            MatchMsg::Faulty(fault) => {
                state.park(format!("the journal contradicts itself: {fault}"));
            }
            MatchMsg::Present => state.on_present(),
            MatchMsg::Checkpoint(ticket) => state.on_checkpoint(ticket),
            MatchMsg::Repaired(repair) => state.on_repaired(*repair),
            MatchMsg::Drain(reply) => state.on_drain(reply),
            MatchMsg::HandOff(reply) => state.on_hand_off(reply),
            MatchMsg::Keep => state.on_keep(),
            MatchMsg::Slow(periods) => state.on_slow(periods),
            MatchMsg::Profile(samples) => state.profiler.listen(samples),
            // A world whose step panicked half-way is no state of the match.
            MatchMsg::Inspect(_) | MatchMsg::Read(_)
                if matches!(state.mode, Mode::Poisoned { .. }) => {}
            MatchMsg::Read(read) => read(state.core.sim()),
            MatchMsg::Inspect(reply) => {
                let _ = reply.send((state.core.tick(), state.core.sim().state_hash()));
            }
        }
        Ok(())
    }
}

/// The next time that is a whole number of periods and the match's own phase after `origin`. Phases
/// are spread over the tick by the golden ratio, so that matches keep apart however they were
/// started.
fn first_deadline(origin: Instant, now: Instant, period: Duration, match_id: MatchId) -> Instant {
    let spread = match_id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let phase = period.mul_f64(spread as f64 / 4_294_967_296.0);
    let elapsed = now.saturating_duration_since(origin);
    let periods = elapsed.as_nanos().div_ceil(period.as_nanos().max(1));
    origin + period * periods as u32 + phase
}

impl MatchState {
    /// It does something else from now on.
    ///
    /// # Panics
    ///
    /// If what it does now does not lead there: see [`life::MATCH`].
    pub(super) fn set_mode(&mut self, mode: Mode) {
        life::MATCH.assert(self.mode.stage(), mode.stage());
        self.enter(mode);
    }

    /// It does this, whatever it did before.
    fn enter(&mut self, mode: Mode) {
        self.cell.set_phase(match &mode {
            Mode::Waiting { .. } => MatchPhase::Waiting,
            Mode::Running => MatchPhase::Running,
            Mode::Poisoned { .. } => MatchPhase::Repairing,
            Mode::Moving { .. } => MatchPhase::Moving,
            Mode::Ending { .. } => MatchPhase::Ending,
            Mode::Stopped => MatchPhase::Drained,
        });
        self.mode = mode;
    }

    /// Asks the wheel for the next wake-up; any earlier request is void.
    pub(super) fn wake_at(&mut self, deadline: Instant) {
        self.generation += 1;
        self.deadline = deadline;
        let wake = Wake { deadline, generation: self.generation };
        self.host.shards[self.cell.shard].wheel.schedule(wake, self.me.clone());
    }

    /// A checkpoint of where the world stands: a copy of its bytes, or what changed since the last
    /// one, and the record that it covers.
    pub(super) fn take_checkpoint(&mut self, longest_chain: u32) -> Taken {
        let started = Instant::now();
        let seq = self.cell.books.cut();
        let captured = self.cell.checkpoints.capture(self.core.sim(), longest_chain);
        self.host.meters.checkpoint_encode(captured.kind()).record(started.elapsed());
        let log_floor = self.cell.durable().batch;
        if self.slowdown() > 1 {
            // A recovery from this checkpoint reads what stands behind it, and nothing else.
            self.core.say_slowdown(self.slowdown());
        }
        Taken {
            seq,
            tick: self.core.tick(),
            batch: log_floor,
            beat: self.core.hash_now(),
            captured,
        }
    }

    fn on_checkpoint(&mut self, ticket: Ticket) {
        if matches!(self.mode, Mode::Running | Mode::Waiting { .. }) {
            let taken = self.take_checkpoint(self.host.config.checkpoint_chain);
            self.host.store_checkpoint(Arc::clone(&self.cell), ticket, taken);
        }
    }

    fn on_drain(&mut self, reply: oneshot::Sender<Option<Taken>>) {
        self.cell.close_doors(
            RefuseCode::Draining,
            "this node is going down: connect again, another one goes on",
        );
        let taken = match self.mode {
            Mode::Running | Mode::Waiting { .. } | Mode::Stopped => {
                Some(self.take_checkpoint(self.host.config.checkpoint_chain))
            }
            // The world is not in a state to be kept: whoever comes next replays it. Or it may be
            // another node's already: whoever moves it says what becomes of it.
            Mode::Poisoned { .. } | Mode::Moving { .. } | Mode::Ending { .. } => None,
        };
        if !matches!(self.mode, Mode::Ending { .. } | Mode::Moving { .. }) {
            self.set_mode(Mode::Stopped);
        }
        let _ = reply.send(taken);
    }

    /// The match is over: takes its last checkpoint, a full one, for all others go. It is finished
    /// when its last tick is durable.
    pub(super) fn end(&mut self, reason: String) {
        let last = Some(Box::new(self.take_checkpoint(0)));
        self.cell.close_doors(RefuseCode::Ended, &reason);
        self.set_mode(Mode::Ending { reason, last });
    }

    /// If the last tick of an ending match is durable, delivers what is left and closes its row.
    pub(super) fn finish_if_durable(&mut self) {
        let durable = self.cell.durable();
        let Mode::Ending { reason, last } = &mut self.mode else { return };
        if durable.tick < self.core.tick() {
            return;
        }
        if let Some(taken) = last.take() {
            self.host.finish_match(Arc::clone(&self.cell), *taken, reason.clone());
        }
    }

    /// Stops the match for good with a report.
    pub(super) fn park(&mut self, report: String) {
        self.set_mode(Mode::Stopped);
        self.pending.clear();
        self.host.park(&self.cell, report);
        self.me.stop(None);
    }
}
