//! The actor of a match as others see it: whether it lives, what it does, which step it is making.
//!
//! Writers: the match's actor (phase, probe, the step being made, late ticks), the host's
//! supervisors (the actor is gone, restarts, parked). Readers: handles, checkpoints, the watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use rekindle_schema::record::Step;
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::simulation::Probe;
use tokio::time::Instant;

use crate::messages::MatchMsg;

/// What a match is doing, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatchPhase {
    /// Recovered; waits for its sessions.
    Waiting,
    /// It ticks.
    Running,
    /// It stands still until the store has caught up.
    Stalled,
    /// A tick panicked: the input that triggers it is being looked for.
    Repairing,
    /// Its last tick is made; what it promised is being delivered.
    Ending,
    /// It has stopped ticking because the node drains.
    Drained,
    /// It cannot go on: the report.
    Parked(String),
}

/// The step that is being made, for a watchdog.
#[derive(Debug, Clone)]
struct Making {
    tick: Tick,
    players: Vec<PlayerId>,
}

/// What is known of a match's actor.
pub(crate) struct Supervision {
    phase: Mutex<MatchPhase>,
    actor: Mutex<Option<ActorRef<MatchMsg>>>,
    making: Mutex<Option<Making>>,
    probe: Mutex<Arc<Probe>>,
    /// Why an operator ends the match; taken by the next tick.
    stop: Mutex<Option<String>>,
    /// When the actor was started again, as far back as the budget counts.
    restarts: Mutex<Vec<Instant>>,
    /// Ticks that started more than half a period late.
    late: AtomicU64,
}

impl Supervision {
    /// Of a match whose actor is about to be started around the world that `probe` looks into.
    pub(crate) fn new(probe: Arc<Probe>) -> Self {
        Self {
            phase: Mutex::new(MatchPhase::Running),
            actor: Mutex::new(None),
            making: Mutex::new(None),
            probe: Mutex::new(probe),
            stop: Mutex::default(),
            restarts: Mutex::default(),
            late: AtomicU64::new(0),
        }
    }

    /// Sends a message to the match's actor. False if it has none (any more): a match that has
    /// stopped needs no messages.
    pub(crate) fn cast(&self, message: MatchMsg) -> bool {
        self.actor.lock().as_ref().is_some_and(|actor| actor.cast(message).is_ok())
    }

    /// The actor has started.
    pub(crate) fn started(&self, actor: ActorRef<MatchMsg>) {
        *self.actor.lock() = Some(actor);
    }

    /// Forgets the actor, which stops or has stopped, and returns it.
    pub(crate) fn take_actor(&self) -> Option<ActorRef<MatchMsg>> {
        self.actor.lock().take()
    }

    /// Whether the match's present actor is `id`.
    pub(crate) fn is_actor(&self, id: ActorId) -> bool {
        self.actor.lock().as_ref().is_some_and(|actor| actor.get_id() == id)
    }

    pub(crate) fn phase(&self) -> MatchPhase {
        self.phase.lock().clone()
    }

    pub(crate) fn set_phase(&self, phase: MatchPhase) {
        *self.phase.lock() = phase;
    }

    /// It has an actor, or will have one again.
    pub(crate) fn is_alive(&self) -> bool {
        self.actor.lock().is_some() || self.phase() == MatchPhase::Repairing
    }

    /// Another world is stepped from now on.
    pub(crate) fn set_probe(&self, probe: Arc<Probe>) {
        *self.probe.lock() = probe;
    }

    /// What shows which system of which tick runs.
    pub(crate) fn probe(&self) -> Arc<Probe> {
        Arc::clone(&self.probe.lock())
    }

    /// Notes whose contributions are in the step that begins.
    pub(crate) fn begin_making(&self, step: &Step) {
        let mut players: Vec<PlayerId> = step
            .inputs
            .iter()
            .map(|input| input.player)
            .chain(step.commands.iter().map(|command| command.player))
            .chain(step.joins.iter().map(|join| join.player))
            .chain(step.leaves.iter().map(|leave| leave.player))
            .collect();
        players.sort_unstable();
        players.dedup();
        *self.making.lock() = Some(Making { tick: step.tick, players });
    }

    /// The step is made, or has failed.
    pub(crate) fn end_making(&self) {
        *self.making.lock() = None;
    }

    /// Whose contributions are in the step of `tick`, if that is being made now.
    pub(crate) fn players_in(&self, tick: Tick) -> Option<Vec<PlayerId>> {
        let making = self.making.lock();
        making.as_ref().filter(|making| making.tick == tick).map(|making| making.players.clone())
    }

    /// An operator ends the match with its next tick.
    pub(crate) fn request_stop(&self, reason: String) {
        *self.stop.lock() = Some(reason);
    }

    /// Why the tick that is being made is the last, if an operator wants that.
    pub(crate) fn take_stop(&self) -> Option<String> {
        self.stop.lock().take()
    }

    /// Counts a restart; returns how many there were within `window`, this one included.
    pub(crate) fn count_restart(&self, window: Duration) -> usize {
        let now = Instant::now();
        let mut restarts = self.restarts.lock();
        restarts.retain(|&at| now.saturating_duration_since(at) < window);
        restarts.push(now);
        restarts.len()
    }

    /// A tick started late.
    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// Ticks that started late.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}
