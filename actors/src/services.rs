//! What the parts of a host work with: the store, the clock, the configuration, the journal's and
//! the checkpoints' ports, the list of matches, and how to run work beside the matches.
//!
//! Made by [`Host::start`](crate::Host::start). It knows no actor's code: those that match actors,
//! scheduler, writer and watchdog are made of know it, and the host knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::ActorCell;
use rekindle_schema::lease::MatchState;
use rekindle_schema::{BuildId, Incarnation, MatchId};
use rekindle_sim::Simulation;
use rekindle_store::{Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::checkpoint::ticket::CheckpointPort;
use crate::config::{Games, HostConfig, WallClock};
use crate::journal::port::JournalPort;
use crate::meters::Meters;
use crate::play::cell::MatchCell;
use crate::play::profiler::PartMeters;
use crate::shard::wheel::Shard;

/// The actors that a host always has.
pub(crate) struct Actors {
    pub(crate) root: ActorCell,
    pub(crate) journal: ActorCell,
    pub(crate) scheduler: ActorCell,
    /// The supervisors of the shards, by shard.
    pub(crate) shards: Vec<ActorCell>,
}

/// What all parts of a host work with. One per host, shared by all its actors.
pub(crate) struct Services {
    pub(crate) store: Store,
    pub(crate) incarnation: Incarnation,
    pub(crate) build: BuildId,
    pub(crate) games: Games,
    pub(crate) clock: WallClock,
    pub(crate) seed: u64,
    pub(crate) config: HostConfig,
    pub(crate) journal: Arc<JournalPort>,
    pub(crate) meters: Arc<Meters>,
    /// What the parts of steps take, by game.
    pub(crate) part_meters: Mutex<BTreeMap<String, Arc<PartMeters>>>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) matches: Mutex<BTreeMap<MatchId, Arc<MatchCell>>>,
    /// Matches that somebody is about to run: see [`Host::enter`](crate::Host::enter).
    pub(crate) entering: Mutex<BTreeSet<MatchId>>,
    pub(crate) checkpoints: Arc<CheckpointPort>,
    /// Some effect was acknowledged by its sink.
    pub(crate) effect_delivered: Notify,
    /// A match came or went.
    pub(crate) changed: Notify,
    /// How many matches have begun to run here so far.
    pub(crate) arrivals: watch::Sender<u64>,
    /// Shards are given to matches in turn: the number of those given so far.
    pub(crate) next_shard: AtomicUsize,
    /// Phases of ticks are counted from here.
    pub(crate) started: Instant,
    /// It takes no new matches: it drains or was aborted.
    pub(crate) stopping: AtomicBool,
    /// Where what holds up no match runs.
    pub(crate) runtime: Handle,
    /// Set once: everything stops at once.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) actors: OnceLock<Actors>,
}

impl Services {
    /// Shards are threads; without them everything runs on one runtime, and nothing may block it.
    pub(crate) fn threaded(&self) -> bool {
        self.shards.iter().any(Shard::is_thread)
    }

    /// The metrics of what the steps of a game are made of; `sim` is a world of that game.
    pub(crate) fn part_meters(&self, game: &str, sim: &dyn Simulation) -> Arc<PartMeters> {
        let mut all = self.part_meters.lock();
        if let Some(known) = all.get(game) {
            return Arc::clone(known);
        }
        let meters = Arc::new(PartMeters::new(game, sim.step_parts()));
        all.insert(game.to_owned(), Arc::clone(&meters));
        meters
    }

    pub(crate) fn is_aborted(&self) -> bool {
        *self.stop.borrow()
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

    /// Lets go of a match: it is served no more, and its row stays as it is.
    pub(crate) fn remove(&self, match_id: MatchId) {
        let removed = self.matches.lock().remove(&match_id);
        if let Some(cell) = removed {
            cell.subscribers.close();
            if let Some(actor) = cell.supervision.take_actor() {
                actor.stop(None);
            }
            cell.books.wake();
        }
        self.changed.notify_waiters();
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
