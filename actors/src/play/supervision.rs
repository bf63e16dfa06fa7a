//! The actor of a match as others see it: whether it lives, what it does, which step it is making.
//!
//! Writers: the match's actor (phase, probe, the step being made, late ticks, slowdown), the host's
//! supervisors (the actor is gone, restarts, parked). Readers: handles, checkpoints, the watchdog,
//! whoever looks for overload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
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
    /// It stands still and is about to go on at another node.
    Moving,
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

/// Whether a match is between two owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moving {
    No,
    /// It was handed off, and it is not settled who goes on with it: no actor is started again.
    Yes,
    /// The same, and its actor has failed since.
    Failed,
}

/// What becomes of a match that is not handed over any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It was not handed off.
    Untouched,
    /// Its actor goes on. If that fails, it is started again as ever.
    GoesOn,
    /// Its actor failed while nobody was to start another one: now somebody has to.
    Failed,
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
    /// Ticks that started more than half of the time between two ticks late.
    late: AtomicU64,
    /// How many periods lie between two ticks.
    slowdown: AtomicU8,
    /// Locked before the phase where both are.
    moving: Mutex<Moving>,
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
            slowdown: AtomicU8::new(1),
            moving: Mutex::new(Moving::No),
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

    /// It is handed off from now on. False if it was before.
    pub(crate) fn begin_moving(&self) -> bool {
        let mut moving = self.moving.lock();
        let begins = *moving == Moving::No;
        if begins {
            *moving = Moving::Yes;
        }
        begins
    }

    /// It is not handed off any more. Of several callers one hears that its actor has failed.
    pub(crate) fn end_moving(&self) -> Kept {
        match std::mem::replace(&mut *self.moving.lock(), Moving::No) {
            Moving::No => Kept::Untouched,
            Moving::Yes => Kept::GoesOn,
            Moving::Failed => Kept::Failed,
        }
    }

    /// Its actor has failed. Whether that is left to whoever hands it off, who then hears of it
    /// from [`Self::end_moving`].
    pub(crate) fn fail_moving(&self) -> bool {
        let mut moving = self.moving.lock();
        if *moving == Moving::No {
            return false;
        }
        *moving = Moving::Failed;
        self.set_phase(MatchPhase::Moving);
        true
    }

    /// It was handed off, and it is not settled who goes on with it.
    pub(crate) fn is_moving(&self) -> bool {
        *self.moving.lock() != Moving::No
    }

    /// A tick started late.
    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// So many periods lie between two ticks from now on.
    pub(crate) fn set_slowdown(&self, periods: u8) {
        self.slowdown.store(periods, Ordering::Relaxed);
    }

    /// How many periods lie between two ticks; 1 at the match's own rate.
    pub(crate) fn slowdown(&self) -> u8 {
        self.slowdown.load(Ordering::Relaxed)
    }

    /// Ticks that started late.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervision() -> Supervision {
        Supervision::new(Arc::default())
    }

    #[test]
    fn an_actor_that_fails_while_its_match_is_handed_over_is_left_to_one_caller() {
        let known = supervision();
        assert!(!known.fail_moving(), "nobody hands it over: it is started again at once");
        assert!(known.begin_moving() && !known.begin_moving(), "one caller hands it over");
        assert!(known.fail_moving());
        assert_eq!((known.phase(), known.is_moving()), (MatchPhase::Moving, true));
        assert_eq!(known.end_moving(), Kept::Failed);
        assert_eq!(known.end_moving(), Kept::Untouched, "nobody else starts it again");
    }

    #[test]
    fn an_actor_that_fails_after_its_match_was_kept_is_started_again_as_ever() {
        let known = supervision();
        assert!(known.begin_moving());
        assert_eq!(known.end_moving(), Kept::GoesOn);
        assert!(!known.fail_moving() && !known.is_moving());
        assert!(known.begin_moving(), "it can be handed over again");
    }
}
