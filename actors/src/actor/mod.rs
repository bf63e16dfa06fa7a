//! The match actor: a thin shell around [`crate::core`].
//!
//! The wheel sends it `Tick`, the journal `Durable`, the checkpointer `Checkpoint`. Players'
//! traffic does not come through its mailbox: it waits in the match's
//! [`Ingress`](crate::core::Ingress), which is bounded. No handler awaits anything.

mod ticking;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rekindle_door::TickFrame;
use rekindle_schema::record::{Effect, Step};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{MatchId, StateHash, Tick};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cell::{MatchCell, MatchPhase};
use crate::checkpointer::{Taken, Ticket};
use crate::core::MatchCore;
use crate::host::Inner;
use crate::journal::Durable;
use crate::poison::Repair;
use crate::shard::Wake;

/// Messages of a match.
pub(crate) enum MatchMsg {
    /// The wheel: it is time.
    Tick(Wake),
    /// The journal: so much is durable.
    Durable(Durable),
    /// The last session that was waited for is back.
    Present,
    /// The checkpointer: it is this match's turn.
    Checkpoint(Ticket),
    /// A panicked tick was made without what triggered it, or cannot be.
    Repaired(Box<Repair>),
    /// Make no more ticks and hand over a last checkpoint.
    Drain(oneshot::Sender<Option<Taken>>),
    /// Where the world stands, with its hash.
    Inspect(oneshot::Sender<(Tick, StateHash)>),
}

impl ractor::Message for MatchMsg {}

/// How a match starts.
pub(crate) enum Start {
    /// New, or restarted in place: it ticks at once.
    Running,
    /// Recovered: it waits for its sessions.
    Recovered,
    /// Its history says that it is over: only what it promised is left to do.
    Over(String),
}

/// Arguments of a match actor.
pub(crate) struct MatchArgs {
    pub(crate) host: Arc<Inner>,
    pub(crate) cell: Arc<MatchCell>,
    pub(crate) core: MatchCore,
    pub(crate) start: Start,
}

/// A tick that is executed and not yet published or confirmed.
struct Pending {
    tick: Tick,
    made: Instant,
    frame: Option<TickFrame>,
    effects: Vec<Effect>,
    arrived: Vec<Instant>,
}

/// What the actor is doing.
enum Mode {
    Waiting { until: Instant },
    Running,
    Poisoned { step: Box<Step>, arrived: Vec<Instant>, since: Instant },
    Ending { reason: String, last: Option<Box<Taken>> },
    Stopped,
}

/// State of a match actor.
pub(crate) struct MatchState {
    host: Arc<Inner>,
    cell: Arc<MatchCell>,
    core: MatchCore,
    mode: Mode,
    generation: u64,
    deadline: Instant,
    pending: VecDeque<Pending>,
    /// Set after a long pause: nothing is published before this tick is durable, whatever the
    /// output mode.
    unverified: Option<Tick>,
    me: ActorRef<MatchMsg>,
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
        let MatchArgs { host, cell, core, start } = args;
        let now = Instant::now();
        let deadline = first_deadline(host.started, now, cell.period, cell.match_id);
        *cell.probe.lock() = core.sim().probe();
        *cell.actor.lock() = Some(me.clone());
        cell.chain.lock().break_off();
        let mut state = MatchState {
            host,
            cell,
            core,
            mode: Mode::Running,
            generation: 0,
            deadline,
            pending: VecDeque::new(),
            unverified: None,
            me,
        };
        match start {
            Start::Running => state.set_mode(Mode::Running),
            Start::Recovered => {
                state.set_mode(Mode::Waiting { until: now + state.host.config.resume_grace })
            }
            Start::Over(reason) => {
                state.end(reason);
                state.settle_end();
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
            MatchMsg::Present => state.on_present(),
            MatchMsg::Checkpoint(ticket) => state.on_checkpoint(ticket),
            MatchMsg::Repaired(repair) => state.on_repaired(*repair),
            MatchMsg::Drain(reply) => state.on_drain(reply),
            MatchMsg::Inspect(reply) => {
                drop(reply.send((state.core.tick(), state.core.sim().state_hash())))
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
    fn set_mode(&mut self, mode: Mode) {
        self.cell.set_phase(match &mode {
            Mode::Waiting { .. } => MatchPhase::Waiting,
            Mode::Running => MatchPhase::Running,
            Mode::Poisoned { .. } => MatchPhase::Repairing,
            Mode::Ending { .. } => MatchPhase::Ending,
            Mode::Stopped => MatchPhase::Drained,
        });
        self.mode = mode;
    }

    /// Asks the wheel for the next wake-up; any earlier request is void.
    fn wake_at(&mut self, deadline: Instant) {
        self.generation += 1;
        self.deadline = deadline;
        let wake = Wake { deadline, generation: self.generation };
        self.host.shards[self.cell.shard].wheel.schedule(wake, self.me.clone());
    }

    /// A checkpoint of where the world stands: a copy of its bytes, or what changed since the last
    /// one, and the record that it covers.
    fn take_checkpoint(&self, longest_chain: u32) -> Taken {
        let started = Instant::now();
        let seq = self.cell.outbox.lock().cut();
        let captured = self.cell.chain.lock().capture(self.core.sim(), longest_chain);
        self.host.meters.checkpoint_encode(captured.kind()).record(started.elapsed());
        let log_floor = self.cell.durable().batch;
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
            self.host.store_checkpoint(ticket, taken);
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
            // The world is not in a state to be kept: whoever comes next replays it.
            Mode::Poisoned { .. } | Mode::Ending { .. } => None,
        };
        if !matches!(self.mode, Mode::Ending { .. }) {
            self.set_mode(Mode::Stopped);
        }
        let _ = reply.send(taken);
    }

    /// The match is over: takes its last checkpoint, a full one, for all others go. It is finished
    /// when its last tick is durable.
    fn end(&mut self, reason: String) {
        let last = Some(Box::new(self.take_checkpoint(0)));
        self.cell.close_doors(RefuseCode::Ended, &reason);
        self.set_mode(Mode::Ending { reason, last });
    }

    /// If the last tick of an ending match is durable, delivers what is left and closes its row.
    fn settle_end(&mut self) {
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
    fn park(&mut self, report: String) {
        self.set_mode(Mode::Stopped);
        self.pending.clear();
        self.host.park(&self.cell, report);
        self.me.stop(None);
    }
}
