//! What a match shares with the rest of the node: its doors, its outbox, its subscribers, its
//! figures.
//!
//! The world itself belongs to the match's actor alone. Everything here is small, locked for
//! moments, and never across an await.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::ActorRef;
use rekindle_door::{Opened, Refusal, TickFrame};
use rekindle_schema::lease::{MatchLease, MatchSpec};
use rekindle_schema::net::NetSchema;
use rekindle_schema::record::{Effect, EffectId, Step};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId, Seq, SessionId, Tick};
use rekindle_sim::simulation::Probe;
use rekindle_sim::{GameType, SessionState};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::actor::MatchMsg;
use crate::core::{Chain, Hashes, Ingress, Outbox};
use crate::journal::Durable;

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

/// Someone waits for a session to be durable.
pub(crate) type OpenReply = oneshot::Sender<Result<Opened, Refusal>>;

/// Admission, and who waits for it.
pub(crate) struct Doors {
    pub(crate) ingress: Ingress,
    pub(crate) waiters: BTreeMap<SessionId, Vec<OpenReply>>,
    pub(crate) drawn_ids: u64,
}

/// The step that is being made, for a watchdog.
#[derive(Debug, Clone)]
pub(crate) struct Making {
    pub(crate) tick: Tick,
    pub(crate) players: Vec<PlayerId>,
}

/// What replaying a match would cost.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Smoothed seconds per step.
    pub(crate) tick_seconds: f64,
    /// Newest checkpoint under this ownership.
    pub(crate) newest: Option<Stored>,
    /// What the full checkpoint of the chain before the newest one's covers, whoever took it.
    pub(crate) second: Option<Seq>,
    /// One is being taken.
    pub(crate) requested: bool,
    /// An operator wants one that covers this tick, whether or not it is due. Taken back by the
    /// first stored checkpoint that does.
    pub(crate) wanted: Option<Tick>,
    /// The last one could not be stored: none is asked for before this.
    pub(crate) not_before: Option<Instant>,
}

/// A stored checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) seq: Seq,
    pub(crate) tick: Tick,
    pub(crate) at: Instant,
    pub(crate) bytes: usize,
    /// What the full checkpoint of its chain covers.
    pub(crate) root: Seq,
}

/// The shared part of a match.
pub(crate) struct MatchCell {
    pub(crate) match_id: MatchId,
    pub(crate) epoch: Epoch,
    pub(crate) spec: MatchSpec,
    pub(crate) game: Arc<dyn GameType>,
    pub(crate) schema: Arc<NetSchema>,
    pub(crate) period: Duration,
    pub(crate) shard: usize,
    pub(crate) seed: u64,
    pub(crate) subscriber_frames: usize,
    pub(crate) doors: Mutex<Doors>,
    pub(crate) outbox: Mutex<Outbox>,
    pub(crate) dirty: AtomicBool,
    pub(crate) last_crc: AtomicU32,
    pub(crate) subscribers: Mutex<Vec<mpsc::Sender<Arc<TickFrame>>>>,
    pub(crate) phase: Mutex<MatchPhase>,
    /// The last tick executed and handed to the outbox.
    pub(crate) tick: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) durable: watch::Sender<Durable>,
    pub(crate) actor: Mutex<Option<ActorRef<MatchMsg>>>,
    pub(crate) making: Mutex<Option<Making>>,
    pub(crate) probe: Mutex<Arc<Probe>>,
    /// Of the newest beats, those of the replay included.
    pub(crate) hashes: Mutex<Hashes>,
    /// Set if the recovery computed ticks again with another result: the newest tick that still
    /// holds.
    pub(crate) holds_until: Option<Tick>,
    pub(crate) cost: Mutex<Cost>,
    pub(crate) chain: Mutex<Chain>,
    /// Effects whose tick is durable and which no sink has acknowledged.
    pub(crate) effects: Mutex<BTreeMap<EffectId, Effect>>,
    pub(crate) delivering: AtomicBool,
    pub(crate) stop: Mutex<Option<String>>,
    pub(crate) restarts: Mutex<Vec<Instant>>,
}

/// What a new cell is made from.
pub(crate) struct CellParts<'a> {
    pub(crate) lease: &'a MatchLease,
    pub(crate) game: Arc<dyn GameType>,
    pub(crate) shard: usize,
    pub(crate) seed: u64,
    pub(crate) subscriber_frames: usize,
    pub(crate) ingress: Ingress,
    pub(crate) next_seq: Seq,
    pub(crate) durable: Durable,
    pub(crate) probe: Arc<Probe>,
    /// What the full checkpoint that it was recovered from covers.
    pub(crate) covered: Option<Seq>,
    pub(crate) hashes: Hashes,
    pub(crate) holds_until: Option<Tick>,
}

impl MatchCell {
    pub(crate) fn new(parts: CellParts<'_>) -> Self {
        let CellParts {
            lease,
            game,
            shard,
            seed,
            subscriber_frames,
            ingress,
            next_seq,
            durable,
            probe,
            covered,
            hashes,
            holds_until,
        } = parts;
        Self {
            match_id: lease.match_id,
            epoch: lease.epoch,
            spec: lease.spec.clone(),
            schema: Arc::new(game.net_schema().clone()),
            period: Duration::from_secs(1) / u32::from(lease.spec.tick_rate.max(1)),
            game,
            shard,
            seed,
            subscriber_frames,
            doors: Mutex::new(Doors { ingress, waiters: BTreeMap::new(), drawn_ids: 0 }),
            outbox: Mutex::new(Outbox::new(next_seq)),
            dirty: AtomicBool::new(false),
            last_crc: AtomicU32::new(0),
            subscribers: Mutex::default(),
            phase: Mutex::new(MatchPhase::Running),
            tick: AtomicU64::new(durable.tick.0),
            published: AtomicU64::new(durable.tick.0),
            late: AtomicU64::new(0),
            durable: watch::Sender::new(durable),
            actor: Mutex::new(None),
            making: Mutex::new(None),
            probe: Mutex::new(probe),
            hashes: Mutex::new(hashes),
            holds_until,
            cost: Mutex::new(Cost { second: covered, ..Cost::default() }),
            chain: Mutex::default(),
            effects: Mutex::default(),
            delivering: AtomicBool::new(false),
            stop: Mutex::default(),
            restarts: Mutex::default(),
        }
    }

    /// Sends a message to the match's actor. False if it has none (any more): a match that has
    /// stopped needs no messages.
    pub(crate) fn cast(&self, message: MatchMsg) -> bool {
        self.actor.lock().as_ref().is_some_and(|actor| actor.cast(message).is_ok())
    }

    pub(crate) fn tick(&self) -> Tick {
        Tick(self.tick.load(Ordering::Acquire))
    }

    pub(crate) fn published(&self) -> Tick {
        Tick(self.published.load(Ordering::Acquire))
    }

    pub(crate) fn durable(&self) -> Durable {
        *self.durable.borrow()
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

    /// Somebody listens.
    pub(crate) fn watched(&self) -> bool {
        !self.subscribers.lock().is_empty()
    }

    /// Hands a frame to all subscribers; one that lags by more than its channel holds is dropped.
    /// Returns how many were.
    ///
    /// # Panics
    ///
    /// If the frame is of another ownership, or its tick does not rise: the match is rebuilt.
    pub(crate) fn publish(&self, frame: TickFrame) -> usize {
        let last = frame.ended.is_some();
        let before = Tick(self.published.fetch_max(frame.tick.0, Ordering::AcqRel));
        assert_eq!(frame.epoch, self.epoch, "a frame of another ownership is published");
        frame.assert_follows(self.epoch, before);
        let frame = Arc::new(frame);
        let mut subscribers = self.subscribers.lock();
        let mut dropped = 0;
        subscribers.retain(|subscriber| {
            let sent = subscriber.try_send(Arc::clone(&frame));
            dropped += usize::from(matches!(sent, Err(TrySendError::Full(_))));
            sent.is_ok()
        });
        if last {
            subscribers.clear();
        }
        dropped
    }

    /// Nobody gets in any more; those who wait are told why.
    pub(crate) fn close_doors(&self, code: RefuseCode, words: &str) {
        let mut doors = self.doors.lock();
        let refusal = Refusal::new(code, words);
        doors.ingress.close_doors(refusal.clone());
        for reply in std::mem::take(&mut doors.waiters).into_values().flatten() {
            let _ = reply.send(Err(refusal.clone()));
        }
        drop(doors);
        // Whoever waits for a durable tick looks again whether there will be one.
        self.durable.send_modify(|_| {});
    }

    /// Joins up to `tick` are durable: tells those who wait.
    pub(crate) fn confirm_joins(&self, tick: Tick) {
        let mut doors = self.doors.lock();
        for opened in doors.ingress.durable(tick) {
            for reply in doors.waiters.remove(&opened.session).unwrap_or_default() {
                let _ = reply.send(Ok(opened));
            }
        }
    }

    /// The world was rebuilt: sessions whose join went down with the old one are told to try again.
    pub(crate) fn rebase(&self, tick: Tick, sessions: &[SessionState]) {
        let mut doors = self.doors.lock();
        let Doors { ingress, waiters, .. } = &mut *doors;
        ingress.rebase(tick, sessions);
        let lost: Vec<SessionId> =
            waiters.keys().copied().filter(|session| !ingress.contains(*session)).collect();
        for reply in lost.into_iter().filter_map(|session| waiters.remove(&session)).flatten() {
            let words = "the match had to be restarted: try again";
            let _ = reply.send(Err(Refusal::new(RefuseCode::Unavailable, words)));
        }
    }

    /// The join of `session` was left out of its step.
    pub(crate) fn refuse_join(&self, session: SessionId, words: &str) {
        let mut doors = self.doors.lock();
        doors.ingress.forget(session);
        for reply in doors.waiters.remove(&session).unwrap_or_default() {
            let _ = reply.send(Err(Refusal::new(RefuseCode::Unavailable, words)));
        }
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
}
