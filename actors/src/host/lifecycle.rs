//! Matches come, come back, end, and are put to rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use ractor::Actor;
use rekindle_schema::lease::{MatchLease, MatchSpec, MatchState};
use rekindle_schema::record::Grounds;
use rekindle_schema::{MatchId, Seq, Tick};
use rekindle_sim::GameType;
use rekindle_store::history::History;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::Host;
use crate::checkpoint::ticket::{Progress, Taken};
use crate::checkpoint::writer;
use crate::config::{HostConfig, OnStall, OtherBuild, Output};
use crate::core::{Durable, Ingress, IngressLimits, Ledger, MatchCore, PublishOrder};
use crate::error::{HostError, RecoveryError};
use crate::handle::MatchHandle;
use crate::messages::MatchMsg;
use crate::play::actor::{MatchActor, MatchArgs, Start};
use crate::play::admission::Admissions;
use crate::play::books::Books;
use crate::play::cell::{CellParts, MatchCell};
use crate::play::subscribers::Subscribers;
use crate::play::supervision::{MatchPhase, Supervision};
use crate::recovery::upgrade::{self, BuildChange, GoOn};
use crate::recovery::{self, Replayed, replay};
use crate::services::Services;

/// Future ticks for which inputs are taken, in seconds of match time.
const INPUT_WINDOW: Duration = Duration::from_secs(1);
/// Inputs that wait per session.
const INPUTS: usize = 64;
/// Commands that wait per session.
const COMMANDS: usize = 64;
/// Commands of a session that one step takes.
const COMMANDS_PER_STEP: usize = 16;
/// Checkpoints that a drain writes at the same time.
const DRAIN_WRITES: usize = 8;
/// How often it is looked whether wanted checkpoints are stored.
const CHECK_AGAIN: Duration = Duration::from_millis(50);
/// How long a drain waits for matches that are just ending.
const DRAIN_ENDING: Duration = Duration::from_secs(5);

/// Where a world that is about to run comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was just set up: it ticks at once.
    Created,
    /// It was replayed: it waits for its sessions.
    Recovered,
    /// It was followed, and its sessions are on their way: it ticks at once.
    Moved,
    /// It was followed, and its owner died: it waits for its sessions for a tick at most.
    Promoted,
}

impl Origin {
    /// How a match that is not over begins.
    fn start(self) -> Start {
        match self {
            Self::Recovered => Start::Recovered,
            Self::Promoted => Start::Promoted,
            Self::Created | Self::Moved => Start::Running,
        }
    }
}

/// Whether a match under `config` may ever show what is not durable.
fn publish_order(config: &HostConfig) -> PublishOrder {
    match (config.output, config.on_stall) {
        (Output::Durable, OnStall::Pause) => PublishOrder::AfterDurable,
        (Output::Immediate, _) | (_, OnStall::Degrade) => PublishOrder::MayRunAhead,
    }
}

/// How a recovery went.
#[derive(Debug, Clone)]
pub struct RecoveryReport {
    /// The match.
    pub match_id: MatchId,
    /// The tick it goes on from.
    pub tick: Tick,
    /// Ticks that were replayed; 0 if the match was followed.
    pub replayed: u64,
    /// Restore, replay and start, in milliseconds.
    pub took_ms: u64,
    /// No hash differed. (If one does without other builds being accepted, the recovery fails.)
    pub hash_ok: bool,
    /// Hashes of the state that are equal.
    pub beats_checked: u64,
    /// Set if another build had computed the ticks before.
    pub build_change: Option<BuildChange>,
    /// Set if players were shown what is not in the world: the newest tick that still holds.
    /// Clients that were shown later ones are told so when they come back.
    pub holds_until: Option<Tick>,
    /// What went wrong without doing harm.
    pub notes: Vec<String>,
}

/// How a drain went.
#[derive(Debug, Clone, Default)]
pub struct DrainReport {
    /// Matches that were asked to stop.
    pub matches: usize,
    /// Matches whose last checkpoint is stored: nothing of them needs replay.
    pub checkpointed: usize,
    /// Matches that must be replayed, and why.
    pub left: Vec<(MatchId, String)>,
    /// In milliseconds.
    pub took_ms: u64,
}

impl Host {
    /// Runs a new match. Its row is in the directory and names this incarnation.
    pub async fn create(&self, lease: MatchLease) -> Result<MatchHandle, HostError> {
        let services = self.services();
        let game = services.admit(&lease)?;
        let sim = game.create_at(&lease.spec.config, lease.spec.seed, lease.spec.tick_rate)?;
        let cell = services.launch(&lease, game, Replayed::fresh(sim), Origin::Created).await?;
        tracing::info!(
            code = "RK-HOST-012", match_id = %lease.match_id, game = %lease.spec.game,
            "match created"
        );
        Ok(MatchHandle::new(cell))
    }

    /// Restores, replays and runs a match that was taken over: its row already names this
    /// incarnation under a new epoch. Replay does not run on a shard.
    ///
    /// A history that leads nowhere ([`RecoveryError::parks`]) parks the match in its row.
    pub async fn recover(
        &self,
        lease: MatchLease,
        history: History,
        how: GoOn,
    ) -> Result<RecoveryReport, RecoveryError> {
        let services = self.services();
        match services.recover(&lease, history, how).await {
            Err(error) if error.parks() => {
                if matches!(error, RecoveryError::HashMismatch { .. }) {
                    services.meters.hash_mismatches.increment(1);
                }
                services.meters.parked.increment(1);
                tracing::error!(
                    code = "RK-HOST-027", match_id = %lease.match_id, %error,
                    "match parked instead of recovered"
                );
                let state = MatchState::Parked { report: error.to_string() };
                services.set_row(lease.match_id, state).await.map_err(HostError::from)?;
                Err(error)
            }
            done => done,
        }
    }

    /// Whether this build can go on with a match, and from which record if not from the last: see
    /// [`recovery::fits`]. The node asks before it claims a match. `other_build` is what an
    /// operator wants, if not what the configuration says.
    pub async fn fits(
        &self,
        lease: &MatchLease,
        history: &History,
        other_build: Option<OtherBuild>,
    ) -> Result<Option<Seq>, RecoveryError> {
        let services = self.services();
        let (build, accept) = (services.build, other_build.unwrap_or(services.config.other_build));
        if recovery::fits_at_once(history, build, accept) {
            return recovery::fits(&services.games, lease, history, build, accept);
        }
        let (games, lease, history) = (services.games.clone(), lease.clone(), history.clone());
        let work = move || recovery::fits(&games, &lease, &history, build, accept);
        let failed =
            |cause| RecoveryError::Host(HostError::Spawn { what: "a look at a match", cause });
        services.offload(work).await.map_err(failed)?
    }

    /// Lets go of a match that is parked here, so that it can be recovered again; whether there was
    /// one. Its row stays as it is.
    pub fn forget_parked(&self, match_id: MatchId) -> bool {
        let services = self.services();
        let parked = services
            .matches
            .lock()
            .get(&match_id)
            .is_some_and(|cell| matches!(cell.phase(), MatchPhase::Parked(_)));
        if parked {
            services.remove(match_id);
        }
        parked
    }

    /// Ends a match after its next tick, delivers its effects, and resolves when its row says
    /// `Ended`.
    pub async fn stop_match(
        &self,
        match_id: MatchId,
        reason: impl Into<String>,
    ) -> Result<(), HostError> {
        let services = self.services();
        let reason = reason.into();
        let cell =
            services.matches.lock().get(&match_id).cloned().ok_or(HostError::NotHere(match_id))?;
        if cell.supervision.is_moving() {
            return Err(HostError::OnTheMove(match_id));
        }
        cell.supervision.request_stop(reason.clone());
        let mut halted = services.journal.halted();
        loop {
            let changed = services.changed.notified();
            if !services.matches.lock().contains_key(&match_id) {
                if cell.supervision.is_moving() {
                    return Err(HostError::OnTheMove(match_id));
                }
                return Ok(());
            }
            // It may have been parked before, or be parked meanwhile.
            if let MatchPhase::Parked(_) = cell.phase() {
                services.set_row(match_id, MatchState::Ended { reason }).await?;
                services.remove(match_id);
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = halted.wait_for(Option::is_some) => {
                    return Err(HostError::Stopping("its journal has failed".to_owned()));
                }
                () = changed => {}
            }
        }
    }

    /// Has every match checkpointed as it stands now, one after the other as the places for it
    /// allow, and returns how many were. Resolves when the last is stored; a match that ended or
    /// was parked meanwhile does not count. Dropping it leaves the wishes standing.
    pub async fn checkpoint_all(&self) -> usize {
        let cells: Vec<Arc<MatchCell>> = self.services().matches.lock().values().cloned().collect();
        let mut open: Vec<(Arc<MatchCell>, Tick)> =
            cells.into_iter().map(|cell| (Arc::clone(&cell), cell.tick())).collect();
        for (cell, tick) in &open {
            cell.checkpoints.want(*tick);
        }
        let mut stored = 0;
        loop {
            self.services().checkpoints.ask();
            open.retain(|(cell, tick)| {
                let covered = cell.checkpoints.newest().is_some_and(|newest| newest.tick >= *tick);
                stored += usize::from(covered);
                let runs = matches!(
                    cell.phase(),
                    MatchPhase::Running
                        | MatchPhase::Waiting
                        | MatchPhase::Stalled
                        | MatchPhase::Repairing
                );
                !covered && runs && self.services().matches.lock().contains_key(&cell.match_id)
            });
            if open.is_empty() || self.services().journal.is_halted() {
                return stored;
            }
            sleep(CHECK_AGAIN).await;
        }
    }

    /// Stops all matches between two ticks and stores a last checkpoint of each. Nobody gets in
    /// meanwhile. Afterwards the host only waits to be dropped.
    pub async fn drain(&self) -> DrainReport {
        let services = self.services();
        let started = Instant::now();
        services.stopping.store(true, Ordering::Release);
        let cells: Vec<_> = services.matches.lock().values().cloned().collect();
        let mut report = DrainReport { matches: cells.len(), ..DrainReport::default() };
        // All stop before the first is written, so that no match runs on while others are put away.
        let mut stopped = Vec::with_capacity(cells.len());
        for cell in cells {
            let (reply, answer) = oneshot::channel();
            cell.cast(MatchMsg::Drain(reply));
            stopped.push((cell, answer));
        }
        let writes = futures::stream::iter(stopped).map(|(cell, answer)| async move {
            let done = services.put_away(&cell, answer).await;
            (cell, done)
        });
        let results: Vec<_> = writes.buffer_unordered(DRAIN_WRITES).collect().await;
        for (cell, result) in results {
            match result {
                Ok(()) => report.checkpointed += 1,
                Err(problem) => report.left.push((cell.match_id, problem)),
            }
            cell.subscribers.close();
        }
        report.left.sort();
        report.took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(
            code = "RK-HOST-013",
            matches = report.matches,
            left = report.left.len(),
            took_ms = report.took_ms,
            "drained"
        );
        report
    }
}

/// Says in the log, in one line, what the checkpoint of a match had and this build has not.
fn tell_dropped(match_id: MatchId, dropped: &[String]) {
    if !dropped.is_empty() {
        tracing::warn!(
            code = "RK-SIM-006", %match_id, count = dropped.len(), lost = dropped.join(", "),
            "this build has no place for values that a checkpoint holds: they are lost. A renamed \
             field keeps them by `#[value(alias = \"former\")]`"
        );
    }
}

/// Says in the log, in one line, which components entities of a match got when it was restored.
fn tell_filled(match_id: MatchId, filled: &[String]) {
    if !filled.is_empty() {
        tracing::info!(
            code = "RK-SIM-035", %match_id, components = filled.join(", "),
            "entities got components that this build requires and their checkpoint lacks"
        );
    }
}

impl Services {
    /// Whether `lease` may run here.
    pub(super) fn admit(&self, lease: &MatchLease) -> Result<Arc<dyn GameType>, HostError> {
        if let Some(halt) = &*self.journal.halted().borrow() {
            return Err(HostError::Stopping(halt.to_string()));
        }
        if self.stopping.load(Ordering::Acquire) {
            return Err(HostError::Stopping("it is draining".to_owned()));
        }
        if lease.incarnation != self.incarnation {
            return Err(HostError::NotOwner(lease.match_id, lease.incarnation, self.incarnation));
        }
        if self.matches.lock().contains_key(&lease.match_id) {
            return Err(HostError::AlreadyHere(lease.match_id));
        }
        self.games.get(&lease.spec.game)
    }

    async fn recover(
        self: &Arc<Self>,
        lease: &MatchLease,
        history: History,
        how: GoOn,
    ) -> Result<RecoveryReport, RecoveryError> {
        let started = Instant::now();
        let game = self.admit(lease)?;
        let notes = history.notes.clone();
        let accept = how.other_build.unwrap_or(self.config.other_build);
        let (spec, build, kind) = (lease.spec.clone(), self.build, Arc::clone(&game));
        let work = move || replay(&*kind, &spec, &history, build, accept, &mut |_| {});
        let failed = |cause| RecoveryError::Host(HostError::Spawn { what: "replay", cause });
        let mut replayed = self.offload(work).await.map_err(failed)??;
        self.meters.recovery_replay.record(started.elapsed());
        let build_change = upgrade::note(&mut replayed, build, how);
        let proof = replayed.proof.as_ref();
        let hash_ok = proof.is_none_or(|proof| proof.difference.is_none());
        let beats_checked = replayed.beats_checked + proof.map_or(0, |proof| proof.hashes);
        if build_change.is_some_and(|change| change.grounds == Grounds::Accepted) {
            self.keep_accepted(lease, &mut replayed).await?;
        }
        let (tick, count, holds_until) = (replayed.tick, replayed.replayed, replayed.holds_until);
        if let Some(change) = &build_change {
            self.tell_change(lease, change);
        }
        self.launch(lease, game, replayed, Origin::Recovered).await?;
        self.meters.recovery_total.record(started.elapsed());
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::debug!(
            code = "RK-HOST-014", match_id = %lease.match_id, %tick, replayed = count, took_ms,
            beats_checked,
            "match resumed"
        );
        let match_id = lease.match_id;
        Ok(RecoveryReport {
            match_id,
            tick,
            replayed: count,
            took_ms,
            hash_ok,
            beats_checked,
            build_change,
            holds_until,
            notes,
        })
    }

    /// Puts a world into a cell and an actor around it.
    pub(super) async fn launch(
        self: &Arc<Self>,
        lease: &MatchLease,
        game: Arc<dyn GameType>,
        world: Replayed,
        origin: Origin,
    ) -> Result<Arc<MatchCell>, HostError> {
        let expected = lease.lineage.last().map_or(Seq(1), |stretch| stretch.first_seq);
        if expected != world.seq.next() {
            return Err(HostError::Lineage {
                match_id: lease.match_id,
                expected,
                found: world.seq,
            });
        }
        let limits = self.ingress_limits(&lease.spec, &*game);
        let sessions = world.sim.sessions();
        let mut ingress = Ingress::new(limits, world.tick, &sessions);
        // With less than a second of history nobody knows who was there.
        let second = u64::from(lease.spec.tick_rate.max(1));
        if world.replayed >= second {
            let lately = |active: &Tick| active.0 + second > world.tick.0;
            ingress.await_only(|session| world.active.get(&session).is_some_and(lately));
        }
        let mut turns = world.turns;
        turns.push(lease.epoch, Some(world.tick));
        let durable =
            Durable { seq: world.seq, tick: world.tick, batch: self.journal.next_batch() };
        let cell = Arc::new(MatchCell::new(CellParts {
            lease,
            game,
            shard: self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len(),
            seed: self.seed,
            doors: Admissions::new(ingress),
            books: Books::new(Ledger::new(lease.epoch, publish_order(&self.config), durable)),
            subscribers: Subscribers::new(self.config.subscriber_frames),
            checkpoints: Progress::new(world.root),
            supervision: Supervision::new(world.sim.probe()),
            hashes: world.hashes,
            events: world.events,
            turns,
            holds_until: world.holds_until,
            build_change: world.build_change,
        }));
        if self.matches.lock().insert(lease.match_id, Arc::clone(&cell)).is_some() {
            return Err(HostError::AlreadyHere(lease.match_id));
        }
        tell_dropped(lease.match_id, world.sim.dropped());
        tell_filled(lease.match_id, world.sim.filled());
        let open = world.sim.open_effects();
        if !open.is_empty() {
            self.deliver(&cell, open);
        }
        let start = world.ended.map_or_else(|| origin.start(), Start::Over);
        let core = MatchCore::new(lease.match_id, lease.epoch, self.config.beat_every, world.sim)
            .opening(world.opening)
            .with_workers(self.config.workers.clone());
        let (host, slowdown) = (Arc::clone(self), world.slowdown);
        let args = MatchArgs { host, cell: Arc::clone(&cell), core, start, slowdown };
        if let Err(error) = self.spawn_match(args).await {
            self.remove(lease.match_id);
            return Err(error);
        }
        self.changed.notify_waiters();
        self.arrivals.send_modify(|arrivals| *arrivals += 1);
        self.checkpoints.ask();
        Ok(cell)
    }

    /// What players may do at once in a match of this kind.
    fn ingress_limits(&self, spec: &MatchSpec, game: &dyn GameType) -> IngressLimits {
        let rate = f64::from(spec.tick_rate.max(1));
        IngressLimits {
            players: game.max_players(&spec.config),
            window: (INPUT_WINDOW.as_secs_f64() * rate).ceil() as u64,
            inputs: INPUTS,
            commands: COMMANDS,
            commands_per_step: COMMANDS_PER_STEP,
            away_ticks: (self.config.session_timeout.as_secs_f64() * rate).ceil() as u64,
        }
    }

    /// Starts the actor of a match on its shard. Boxed, so that it is compiled in this crate.
    pub(super) fn spawn_match(&self, args: MatchArgs) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            let fail = |cause: String| HostError::Spawn { what: "match actor", cause };
            let shard = args.cell.shard;
            let supervisor = self
                .actors
                .get()
                .and_then(|actors| actors.shards.get(shard))
                .ok_or_else(|| fail("no such shard".to_owned()))?;
            let spawning = Actor::spawn_linked(None, MatchActor, args, supervisor.clone());
            let spawned = self.shards[shard].runtime.spawn(spawning).await;
            spawned
                .map_err(|error| fail(error.to_string()))?
                .map(drop)
                .map_err(|error| fail(error.to_string()))
        })
    }

    /// Stores the last checkpoint of one match of a drain.
    async fn put_away(
        &self,
        cell: &Arc<MatchCell>,
        answer: oneshot::Receiver<Option<Taken>>,
    ) -> Result<(), String> {
        let Ok(taken) = answer.await else {
            return match cell.phase() {
                MatchPhase::Parked(_) => Ok(()),
                phase => Err(format!("it has no actor ({phase:?})")),
            };
        };
        match taken {
            Some(taken) => {
                writer::store(self, cell, taken).await.map_err(|error| error.to_string())?;
                // Behind this answer all durable frames are published.
                let (reply, answer) = oneshot::channel();
                cell.cast(MatchMsg::Inspect(reply));
                let _ = answer.await;
                Ok(())
            }
            None if cell.phase() == MatchPhase::Ending => self.await_end(cell.match_id).await,
            None if cell.phase() == MatchPhase::Moving => {
                Err("it was being handed to another node".to_owned())
            }
            None => Err("it was being repaired".to_owned()),
        }
    }

    async fn await_end(&self, match_id: MatchId) -> Result<(), String> {
        let gone = async {
            loop {
                let changed = self.changed.notified();
                if !self.matches.lock().contains_key(&match_id) {
                    return;
                }
                changed.await;
            }
        };
        timeout(DRAIN_ENDING, gone)
            .await
            .map_err(|_| "it was ending, and its effects were not delivered in time".to_owned())
    }
}
