//! What the scheduler, a match and the writer hand each other, and what replaying a match costs.
//!
//! Writers of [`Progress`]: the match's actor (seconds per tick, the chain), the scheduler (that
//! one is requested), the writer (what is stored), operators through the host (what they want).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::ActorRef;
use rekindle_schema::checkpoint::CheckpointBase;
use rekindle_schema::{BatchNo, Seq, StateHash, Tick};
use rekindle_sim::Simulation;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::chain::{Captured, Chain, Prepared};

/// How long a match whose checkpoint could not be stored is passed over.
const POSTPONED: Duration = Duration::from_secs(5);
/// What replaying one tick costs besides the step itself (decoding, comparing), in seconds.
const TICK_OVERHEAD: f64 = 3e-6;
/// What restoring one match costs, in seconds.
const RESTORE_COST: f64 = 1e-4;
/// Weight of the newest step in the smoothed cost of a tick.
const SMOOTHING: f64 = 0.1;

/// A checkpoint, taken and not yet stored.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The last record whose effect is in it.
    pub(crate) seq: Seq,
    /// The tick after which the world was copied.
    pub(crate) tick: Tick,
    /// No later record lies in an earlier batch.
    pub(crate) batch: BatchNo,
    /// The hash of the world, if the match computed it for the journal.
    pub(crate) beat: Option<StateHash>,
    /// Its bytes, or what changed.
    pub(crate) captured: Captured,
}

/// A stored checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    /// The last record that it covers.
    pub(crate) seq: Seq,
    /// The tick that it stands at.
    pub(crate) tick: Tick,
    /// When it was stored.
    pub(crate) at: Instant,
    /// What the store was given, in bytes.
    pub(crate) bytes: usize,
    /// What the full checkpoint of its chain covers.
    pub(crate) root: Seq,
}

/// What replaying a match would cost, and which checkpoints there are to begin with.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Smoothed seconds per step.
    tick_seconds: f64,
    /// Newest checkpoint under this ownership.
    newest: Option<Stored>,
    /// What the full checkpoint of the chain before the newest one's covers, whoever took it.
    second: Option<Seq>,
    /// One is being taken.
    requested: bool,
    /// An operator wants one that covers this tick, whether or not it is due. Taken back by the
    /// first stored checkpoint that does.
    wanted: Option<Tick>,
    /// The last one could not be stored: none is asked for before this.
    not_before: Option<Instant>,
}

impl Cost {
    /// Ticks that a recovery of a match that stands at `executed` would replay.
    fn ticks(&self, executed: Tick) -> u64 {
        executed.0.saturating_sub(self.newest.map_or(0, |stored| stored.tick.0))
    }

    /// Whether a checkpoint of a match that stands at `executed` is due.
    pub(super) fn due(&self, executed: Tick, now: Instant) -> Due {
        if self.requested || self.not_before.is_some_and(|at| now < at) {
            return Due::No;
        }
        let Some(newest) = self.newest else { return Due::Now };
        match self.ticks(executed) {
            0 => Due::No,
            _ if self.wanted.is_some() => Due::Now,
            _ => Due::ByCostOrAge(now.saturating_duration_since(newest.at)),
        }
    }

    /// What that recovery would cost, in seconds.
    pub(super) fn seconds(&self, executed: Tick) -> f64 {
        RESTORE_COST + self.ticks(executed) as f64 * (self.tick_seconds + TICK_OVERHEAD)
    }
}

/// Whether a match's next checkpoint is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Before all others: it has none under this ownership, or an operator wants one.
    Now,
    /// It is being taken, was postponed, or nothing has happened since the last.
    No,
    /// When recovery costs too much, or the newest one has become old: it has this age.
    ByCostOrAge(Duration),
}

/// The checkpoints of one match.
pub(crate) struct Progress {
    cost: Mutex<Cost>,
    chain: Mutex<Chain>,
}

impl Progress {
    /// For a match that was recovered from a chain whose full checkpoint covers `covered`.
    pub(crate) fn new(covered: Option<Seq>) -> Self {
        let cost = Cost { second: covered, ..Cost::default() };
        Self { cost: Mutex::new(cost), chain: Mutex::default() }
    }

    /// A step took so long.
    pub(crate) fn note_step(&self, took: Duration) {
        let mut cost = self.cost.lock();
        cost.tick_seconds += SMOOTHING * (took.as_secs_f64() - cost.tick_seconds);
    }

    /// What a step takes, smoothed, in seconds.
    pub(crate) fn tick_seconds(&self) -> f64 {
        self.cost.lock().tick_seconds
    }

    /// Copies the world, or gathers what changed. See [`Chain::capture`].
    pub(crate) fn capture(&self, sim: &dyn Simulation, longest_chain: u32) -> Captured {
        self.chain.lock().capture(sim, longest_chain)
    }

    /// The next checkpoint is full. See [`Chain::break_off`].
    pub(crate) fn break_off(&self) {
        self.chain.lock().break_off();
    }

    /// An operator wants a checkpoint that covers `tick`.
    pub(crate) fn want(&self, tick: Tick) {
        let mut cost = self.cost.lock();
        if cost.newest.is_none_or(|newest| newest.tick < tick) {
            cost.wanted = cost.wanted.max(Some(tick));
        }
    }

    /// The newest one under this ownership.
    pub(crate) fn newest(&self) -> Option<Stored> {
        self.cost.lock().newest
    }

    /// For the scheduler, which weighs several of its facts at once.
    pub(super) fn with_cost<T>(&self, read: impl FnOnce(&Cost) -> T) -> T {
        read(&self.cost.lock())
    }

    /// A checkpoint is requested; until its ticket is dropped no other is.
    pub(super) fn request(&self) {
        self.cost.lock().requested = true;
    }

    /// A checkpoint is stored. Returns what all older chains may be dropped behind, if that is this
    /// one's task: the first of a new chain does it, unless a later one has overtaken it.
    pub(super) fn stored(
        &self,
        name: CheckpointBase,
        tick: Tick,
        prepared: Prepared,
    ) -> Option<Seq> {
        let mut cost = self.cost.lock();
        let seq = name.seq;
        if cost.newest.is_some_and(|stored| stored.seq > seq) {
            return None;
        }
        let (bytes, root) = (prepared.stored.len(), prepared.root.unwrap_or(seq));
        let new_chain = prepared.base.is_none();
        if new_chain {
            cost.second = cost.newest.map(|stored| stored.root).or(cost.second);
        }
        cost.newest = Some(Stored { seq, tick, at: Instant::now(), bytes, root });
        // Answered once: a wish that stood on would be answered again with every tick.
        cost.wanted = cost.wanted.filter(|&wanted| wanted > tick);
        self.chain.lock().stored(name, prepared);
        cost.second.filter(|_| new_chain)
    }
}

/// The right to write one checkpoint. Dropping it, wherever that happens, makes room for the next.
pub(crate) struct Ticket {
    /// The match's part that is told how it went.
    progress: Arc<Progress>,
    /// Set when the checkpoint is stored: the next is asked for at once. Else the timer asks, so
    /// that a failing store is not hammered.
    stored: bool,
    port: Arc<CheckpointPort>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Ticket {
    /// It could not be stored: others come first for a while.
    pub(crate) fn postpone(&self) {
        self.progress.cost.lock().not_before = Some(Instant::now() + POSTPONED);
    }

    /// The checkpoint is stored.
    pub(crate) fn finish(mut self) {
        self.stored = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.progress.cost.lock().requested = false;
        self.permit.take();
        if self.stored {
            self.port.ask();
        }
    }
}

/// Messages of the checkpoint scheduler.
pub(crate) enum CheckpointMsg {
    /// The timer.
    Timer,
    /// A place has become free, or a match has come. At most one of these is in the mailbox.
    Ask,
}

impl ractor::Message for CheckpointMsg {}

/// What the node sees of the checkpoint scheduler.
pub(crate) struct CheckpointPort {
    /// Places for writing checkpoints.
    slots: Arc<Semaphore>,
    /// Set while a [`CheckpointMsg::Ask`] is in the mailbox.
    asked: AtomicBool,
    actor: std::sync::OnceLock<ActorRef<CheckpointMsg>>,
}

impl CheckpointPort {
    /// With `in_flight` places.
    pub(crate) fn new(in_flight: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(in_flight.max(1))),
            asked: AtomicBool::new(false),
            actor: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn attach(&self, actor: ActorRef<CheckpointMsg>) {
        let _ = self.actor.set(actor);
    }

    /// Asks the scheduler whether a checkpoint is due now.
    pub(crate) fn ask(&self) {
        if let Some(actor) = self.actor.get()
            && !self.asked.swap(true, Ordering::AcqRel)
        {
            let _ = actor.cast(CheckpointMsg::Ask);
        }
    }

    /// The scheduler has read the question.
    pub(super) fn heard(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// A place to write in, if one is free.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// A ticket for the match whose part `progress` is.
    pub(super) fn issue(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        progress: &Arc<Progress>,
    ) -> Ticket {
        progress.request();
        Ticket {
            progress: Arc::clone(progress),
            stored: false,
            port: Arc::clone(self),
            permit: Some(permit),
        }
    }
}
