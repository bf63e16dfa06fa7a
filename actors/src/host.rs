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

mod entering;
mod lifecycle;
mod moving;
mod restart;
mod supervisor;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use ractor::Actor;
use rekindle_schema::lease::Reached;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{BatchNo, Epoch, MatchId, PlayerId, Seq, Tick};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::checkpoint::scheduler::Checkpointer;
use crate::checkpoint::ticket::CheckpointPort;
use crate::config::{Games, HostParts};
use crate::error::HostError;
use crate::handle::MatchHandle;
use crate::journal::Halt;
use crate::journal::actor::Journal;
use crate::journal::pack::Packer;
use crate::journal::port::JournalPort;
use crate::meters::Meters;
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;
use crate::recovery::upgrade::BuildChange;
use crate::services::{Actors, Services};
use crate::shard::wheel::Shard;
use crate::shard::{overload, watchdog};
use supervisor::{Role, Supervisor};

pub use entering::Entering;
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
    /// Ticks that started more than half of the time between two ticks late.
    pub late_ticks: u64,
    /// How many periods lie between two ticks; 1 at its own rate, more while it is slowed.
    pub slowdown: u8,
    /// The newest checkpoint under this ownership: record, tick, bytes.
    pub checkpoint: Option<(Seq, Tick, usize)>,
    /// Set if it went on here with another build than before.
    pub build_change: Option<BuildChange>,
}

/// The handle of a node's matches. Cheap to clone; when the last clone is dropped, everything stops
/// as in a crash: [`Host::drain`] first.
#[derive(Clone)]
pub struct Host {
    guard: Arc<Guard>,
}

struct Guard(Arc<Services>);

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
        let services = Arc::new(Services {
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
            part_meters: Mutex::default(),
            shards,
            matches: Mutex::default(),
            entering: Mutex::default(),
            effect_delivered: Notify::new(),
            changed: Notify::new(),
            arrivals: watch::Sender::new(0),
            next_shard: AtomicUsize::new(0),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            runtime,
            stop,
            actors: OnceLock::new(),
        });
        let guard = Arc::new(Guard(Arc::clone(&services)));
        services.start_actors().await?;
        overload::start(&services);
        if !services.config.watchdog.is_zero() && services.threaded() {
            watchdog::start(&services)
                .map_err(|error| HostError::Spawn { what: "watchdog", cause: error.to_string() })?;
        }
        Ok(Self { guard })
    }

    fn services(&self) -> &Arc<Services> {
        &self.guard.0
    }

    /// A running match of this node.
    pub fn find(&self, match_id: MatchId) -> Option<MatchHandle> {
        self.services().matches.lock().get(&match_id).cloned().map(MatchHandle::new)
    }

    /// All matches of this node, parked ones included, ascending by id.
    pub fn list(&self) -> Vec<MatchStatus> {
        self.services().matches.lock().values().map(|cell| status(cell)).collect()
    }

    /// How far the node's log has come, and which checkpoint it stored last: each renewal of its
    /// lease writes that down, apart from the log. `None` before the first batch.
    pub fn reached(&self) -> Option<Reached> {
        let journal = &self.services().journal;
        let (batch, crc) = journal.reached()?;
        Some(Reached {
            batch,
            crc,
            at_ms: (self.services().clock)(),
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
        let matches = self.services().matches.lock();
        matches.values().find(|cell| plays(cell)).map(|cell| cell.match_id)
    }

    /// The batch that will be written next: a lower bound for the lineage of a match that is about
    /// to be created or taken over.
    pub fn next_batch(&self) -> BatchNo {
        self.services().journal.next_batch()
    }

    /// Changes whenever a match has begun to run here: a number that only grows.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.services().arrivals.subscribe()
    }

    /// The games that this host serves.
    pub fn games(&self) -> &Games {
        &self.services().games
    }

    /// Resolves when nothing can be acknowledged any more: the incarnation is fenced, or its log's
    /// end is unknown. The process must end.
    pub async fn fenced(&self) -> Halt {
        let mut halted = self.services().journal.halted();
        match halted.wait_for(Option::is_some).await {
            Ok(halt) => halt.clone().unwrap_or_else(|| Halt::Actor("host", "halted".to_owned())),
            Err(_) => Halt::Actor("host", "gone".to_owned()),
        }
    }

    /// Stops everything at once, as a crash would: nothing is flushed, nobody is told.
    pub fn abort(&self) {
        self.services().abort();
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
        slowdown: cell.supervision.slowdown(),
        checkpoint: cell.checkpoints.newest().map(|stored| (stored.seq, stored.tick, stored.bytes)),
        build_change: cell.build_change,
    }
}

impl Services {
    /// Starts the actors that every node has.
    ///
    /// Boxed, as [`Services::spawn_match`] is: the body of an `async fn` is compiled in the crate
    /// that awaits it, with the optimization of that crate, and with it all of these actors.
    fn start_actors(self: &Arc<Self>) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            let fail = |what: &'static str| {
                move |error: ractor::SpawnErr| HostError::Spawn { what, cause: error.to_string() }
            };
            let supervisor = |role| Supervisor { host: Arc::downgrade(self), role };
            let (root, _) = Actor::spawn(None, supervisor(Role::Root), ())
                .await
                .map_err(fail("root supervisor"))?;
            let packer = Packer {
                port: Arc::clone(&self.journal),
                incarnation: self.incarnation,
                build: self.build,
                clock: Arc::clone(&self.clock),
                batch_bytes: self.config.batch_bytes,
                meters: Arc::clone(&self.meters),
            };
            let journal =
                Journal { store: self.store.clone(), packer, linger: self.config.commit_linger };
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
                shards.push(spawned.map_err(fail("shard supervisor"))?.0.get_cell());
            }
            let _ = self.actors.set(Actors {
                root: root.get_cell(),
                journal: journal.get_cell(),
                scheduler: checkpointer.get_cell(),
                shards,
            });
            Ok(())
        })
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
        if let Some(Actors { root, journal, scheduler, shards }) = self.actors.get() {
            for shard in shards {
                shard.kill();
            }
            scheduler.kill();
            journal.kill();
            root.kill();
        }
    }
}
