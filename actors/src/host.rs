//! The host: starts the actors of a node and answers for its matches.
//!
//! ```text
//! root ── journal
//!      ├─ checkpointer
//!      └─ shard 0..n ── matches
//! ```
//!
//! A match that fails is rebuilt from what is durable, a few times a minute at most; then it is
//! parked. Without the journal or the checkpointer nothing can go on: their failure halts the host,
//! as fencing does.

mod lifecycle;
mod supervisor;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorRef};
use rekindle_schema::lease::{MatchState, Reached};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, PlayerId, Seq, Tick};
use rekindle_store::{Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::checkpoint::scheduler::Checkpointer;
use crate::checkpoint::ticket::{CheckpointMsg, CheckpointPort, Taken, Ticket};
use crate::checkpoint::writer;
use crate::config::{Games, HostConfig, HostParts, WallClock};
use crate::error::HostError;
use crate::handle::MatchHandle;
use crate::journal::actor::{Halt, Journal, JournalMsg, JournalPort};
use crate::meters::Meters;
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;
use crate::shard::watchdog;
use crate::shard::wheel::Shard;
use supervisor::{Role, Supervisor, SupervisorMsg};

pub use lifecycle::{DrainReport, RecoveryReport};

/// What a match is and where it stands.
#[derive(Debug, Clone)]
pub struct MatchStatus {
    /// The match.
    pub match_id: MatchId,
    /// Its game type.
    pub game: String,
    /// Ticks per second.
    pub tick_rate: u16,
    /// How many house bots play in it.
    pub house_bots: u16,
    /// The ownership under which it runs here.
    pub epoch: Epoch,
    /// What it is doing.
    pub phase: MatchPhase,
    /// The last executed tick.
    pub tick: Tick,
    /// The last durable tick.
    pub durable: Tick,
    /// The last published tick.
    pub published: Tick,
    /// Sessions in it.
    pub sessions: usize,
    /// Most sessions it takes.
    pub max_players: usize,
    /// Ticks that started more than half a tick late.
    pub late_ticks: u64,
    /// The newest checkpoint under this ownership: record, tick, bytes.
    pub checkpoint: Option<(Seq, Tick, usize)>,
}

struct Actors {
    root: ActorRef<SupervisorMsg>,
    journal: ActorRef<JournalMsg>,
    checkpointer: ActorRef<CheckpointMsg>,
    shards: Vec<ActorRef<SupervisorMsg>>,
}

/// What all actors of a host share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) incarnation: Incarnation,
    pub(crate) build: BuildId,
    pub(crate) games: Games,
    pub(crate) clock: WallClock,
    pub(crate) seed: u64,
    pub(crate) config: HostConfig,
    pub(crate) journal: Arc<JournalPort>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) matches: Mutex<BTreeMap<MatchId, Arc<MatchCell>>>,
    pub(crate) checkpoints: Arc<CheckpointPort>,
    /// Some effect was acknowledged by its sink.
    pub(crate) effect_delivered: Notify,
    /// A match came or went.
    pub(crate) changed: Notify,
    next_shard: AtomicUsize,
    /// Phases of ticks are counted from here.
    pub(crate) started: Instant,
    stopping: AtomicBool,
    runtime: Handle,
    stop: watch::Sender<bool>,
    actors: OnceLock<Actors>,
}

/// The handle of a node's matches. Cheap to clone; when the last clone is dropped, everything stops
/// as in a crash: [`Host::drain`] first.
#[derive(Clone)]
pub struct Host {
    guard: Arc<Guard>,
}

struct Guard(Arc<Inner>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Host {
    /// Starts journal, checkpointer, shards and watchdog. The incarnation's lease must be
    /// registered and its log empty.
    pub async fn start(parts: HostParts) -> Result<Self, HostError> {
        let HostParts { store, incarnation, build, games, clock, seed, config } = parts;
        let tail = store.journal.tail(incarnation).await?;
        if tail.last != BatchNo(0) {
            return Err(HostError::LogInUse(incarnation, tail.last));
        }
        let stop = watch::Sender::new(false);
        let runtime = Handle::current();
        let shards = match config.shards {
            0 => vec![Shard::inline(runtime.clone(), stop.subscribe())],
            count => (0..count)
                .map(|index| Shard::thread(index, stop.subscribe()))
                .collect::<Result<_, _>>()?,
        };
        let inner = Arc::new(Inner {
            journal: Arc::new(JournalPort::new(config.backlog_bytes)),
            checkpoints: Arc::new(CheckpointPort::new(config.checkpoints_in_flight)),
            store,
            incarnation,
            build,
            games,
            clock,
            seed,
            config,
            meters: Arc::new(Meters::new()),
            shards,
            matches: Mutex::default(),
            effect_delivered: Notify::new(),
            changed: Notify::new(),
            next_shard: AtomicUsize::new(0),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            runtime,
            stop,
            actors: OnceLock::new(),
        });
        let guard = Arc::new(Guard(Arc::clone(&inner)));
        inner.start_actors().await?;
        if !inner.config.watchdog.is_zero() && inner.threaded() {
            watchdog::start(&inner)
                .map_err(|error| HostError::Spawn { what: "watchdog", cause: error.to_string() })?;
        }
        Ok(Self { guard })
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.guard.0
    }

    /// A running match of this node.
    pub fn find(&self, match_id: MatchId) -> Option<MatchHandle> {
        self.inner().matches.lock().get(&match_id).cloned().map(MatchHandle::new)
    }

    /// All matches of this node, parked ones included, ascending by id.
    pub fn list(&self) -> Vec<MatchStatus> {
        self.inner().matches.lock().values().map(|cell| status(cell)).collect()
    }

    /// How far the node's log has come, and which checkpoint it stored last: each renewal of its
    /// lease writes that down, apart from the log. `None` before the first batch.
    pub fn reached(&self) -> Option<Reached> {
        let journal = &self.inner().journal;
        let (batch, crc) = journal.reached()?;
        Some(Reached {
            batch,
            crc,
            at_ms: (self.inner().clock)(),
            checkpoint: journal.last_checkpoint(),
        })
    }

    /// The match of this host in which `player` has a session.
    pub fn plays_in(&self, player: PlayerId) -> Option<MatchId> {
        let plays = |cell: &MatchCell| {
            // One that is parked or over keeps its sessions and serves none.
            let serves = matches!(
                cell.phase(),
                MatchPhase::Running
                    | MatchPhase::Waiting
                    | MatchPhase::Stalled
                    | MatchPhase::Repairing
            );
            serves && cell.doors.lock().ingress.session_of(player).is_some()
        };
        let matches = self.inner().matches.lock();
        matches.values().find(|cell| plays(cell)).map(|cell| cell.match_id)
    }

    /// The batch that will be written next: a lower bound for the lineage of a match that is about
    /// to be created or taken over.
    pub fn next_batch(&self) -> BatchNo {
        self.inner().journal.next_batch()
    }

    /// The games that this host serves.
    pub fn games(&self) -> &Games {
        &self.inner().games
    }

    /// Resolves when nothing can be acknowledged any more: the incarnation is fenced, or its log's
    /// end is unknown. The process must end.
    pub async fn fenced(&self) -> Halt {
        let mut halted = self.inner().journal.halted();
        match halted.wait_for(Option::is_some).await {
            Ok(halt) => halt.clone().unwrap_or_else(|| Halt::Actor("host", "halted".to_owned())),
            Err(_) => Halt::Actor("host", "gone".to_owned()),
        }
    }

    /// Stops everything at once, as a crash would: nothing is flushed, nobody is told.
    pub fn abort(&self) {
        self.inner().abort();
    }
}

fn status(cell: &MatchCell) -> MatchStatus {
    let (sessions, max_players) = {
        let doors = cell.doors.lock();
        (doors.ingress.len(), doors.ingress.capacity())
    };
    let standing = cell.books.standing();
    MatchStatus {
        match_id: cell.match_id,
        game: cell.spec.game.clone(),
        tick_rate: cell.spec.tick_rate,
        house_bots: cell.spec.house_bots,
        epoch: cell.epoch,
        phase: cell.phase(),
        tick: standing.executed,
        durable: standing.durable.tick,
        published: standing.published,
        sessions,
        max_players,
        late_ticks: cell.supervision.late(),
        checkpoint: cell.checkpoints.newest().map(|stored| (stored.seq, stored.tick, stored.bytes)),
    }
}

impl Inner {
    async fn start_actors(self: &Arc<Self>) -> Result<(), HostError> {
        let fail = |what: &'static str| {
            move |error: ractor::SpawnErr| HostError::Spawn { what, cause: error.to_string() }
        };
        let supervisor = |role| Supervisor { host: Arc::downgrade(self), role };
        let (root, _) = Actor::spawn(None, supervisor(Role::Root), ())
            .await
            .map_err(fail("root supervisor"))?;
        let journal = Journal {
            store: self.store.clone(),
            port: Arc::clone(&self.journal),
            incarnation: self.incarnation,
            build: self.build,
            clock: Arc::clone(&self.clock),
            linger: self.config.commit_linger,
            batch_bytes: self.config.batch_bytes,
            meters: Arc::clone(&self.meters),
        };
        let (journal, _) = Actor::spawn_linked(None, journal, (), root.get_cell())
            .await
            .map_err(fail("journal"))?;
        self.journal.attach(journal.clone());
        let checkpointer = Checkpointer { host: Arc::clone(self) };
        let (checkpointer, _) = Actor::spawn_linked(None, checkpointer, (), root.get_cell())
            .await
            .map_err(fail("checkpointer"))?;
        self.checkpoints.attach(checkpointer.clone());
        let mut shards = Vec::with_capacity(self.shards.len());
        for (index, shard) in self.shards.iter().enumerate() {
            let spawning =
                Actor::spawn_linked(None, supervisor(Role::Shard(index)), (), root.get_cell());
            let spawned = shard.runtime.spawn(spawning).await;
            let spawned = spawned.map_err(|error| HostError::Spawn {
                what: "shard supervisor",
                cause: error.to_string(),
            })?;
            shards.push(spawned.map_err(fail("shard supervisor"))?.0);
        }
        let _ = self.actors.set(Actors { root, journal, checkpointer, shards });
        Ok(())
    }

    /// Shards are threads; without them everything runs on one runtime, and nothing may block it.
    pub(crate) fn threaded(&self) -> bool {
        self.shards.iter().any(Shard::is_thread)
    }

    pub(crate) fn is_aborted(&self) -> bool {
        *self.stop.borrow()
    }

    fn abort(&self) {
        self.stopping.store(true, Ordering::Release);
        if self.stop.send_replace(true) {
            return;
        }
        let cells = std::mem::take(&mut *self.matches.lock());
        for cell in cells.values() {
            cell.subscribers.close();
            cell.set_phase(MatchPhase::Drained);
            if let Some(actor) = cell.supervision.take_actor() {
                actor.kill();
            }
            cell.close_doors(RefuseCode::Unavailable, "the node stopped: connect again");
        }
        if let Some(Actors { root, journal, checkpointer, shards }) = self.actors.get() {
            for shard in shards {
                shard.kill();
            }
            checkpointer.kill();
            journal.kill();
            root.kill();
        }
    }

    /// Runs `future` on the host's runtime until it is done or the host stops.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.stop.subscribe();
        self.runtime.spawn(async move {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {}
                () = future => {}
            }
        });
    }

    /// Runs `work` where it holds up no match; inline in a simulation.
    pub(crate) async fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        if self.threaded() {
            self.runtime.spawn_blocking(work).await.map_err(|error| error.to_string())
        } else {
            Ok(work())
        }
    }

    /// Writes a checkpoint in the background.
    pub(crate) fn store_checkpoint(
        self: &Arc<Self>,
        cell: Arc<MatchCell>,
        ticket: Ticket,
        taken: Taken,
    ) {
        let host = Arc::clone(self);
        self.spawn(async move {
            match writer::store(&host, &cell, taken).await {
                Ok(took) => {
                    tokio::time::sleep(writer::rest(took)).await;
                    ticket.finish();
                }
                Err(error) if host.journal.is_halted() => tracing::debug!(%error, "checkpoint \
                    given up"),
                Err(error) => {
                    ticket.postpone();
                    tracing::error!(
                        code = "RK-HOST-033", match_id = %cell.match_id, %error,
                        "checkpoint was not stored"
                    );
                }
            }
        });
    }

    /// Sets the state in a match's row if the row is ours and running (or parked, by us).
    /// `Ok(false)` if it is not.
    pub(crate) async fn set_row(
        &self,
        match_id: MatchId,
        state: MatchState,
    ) -> Result<bool, StoreError> {
        let mut pause = Duration::from_millis(10);
        loop {
            match self.try_set_row(match_id, &state).await {
                Err(error) if error.is_transient() && !self.journal.is_halted() => {
                    tracing::warn!(code = "RK-HOST-034", %match_id, %error, "lease row will be \
                        written again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                done => return done,
            }
        }
    }

    async fn try_set_row(&self, match_id: MatchId, state: &MatchState) -> Result<bool, StoreError> {
        let Some(mut row) = self.store.leases.get(match_id).await? else { return Ok(false) };
        loop {
            if row.incarnation != self.incarnation || matches!(row.state, MatchState::Ended { .. })
            {
                return Ok(false);
            }
            if row.state == *state {
                return Ok(true);
            }
            row.version += 1;
            row.state = state.clone();
            match self.store.leases.compare_and_set(row).await? {
                Ok(()) => return Ok(true),
                Err(Some(standing)) => row = standing,
                Err(None) => return Ok(false),
            }
        }
    }
}
