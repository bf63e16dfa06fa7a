//! The checkpoint actor: keeps the cost of recovering the whole node within its budget.
//!
//! Ten times a second, and whenever a checkpoint has been written, it estimates what replaying each
//! match would cost (its measured seconds per tick times the ticks since its checkpoint) and asks
//! the costliest for a checkpoint while the sum is over half the budget. Matches without a
//! checkpoint under their present owner come first, those whose checkpoint is old come when nothing
//! else is due. The match hands over a copy of its bytes, or what changed since the last
//! checkpoint, between two ticks; hashes, checksums, the wait for durability and the writing happen
//! elsewhere.
//!
//! Whether a checkpoint is full or a delta is decided by [`Chain`](crate::checkpoint::chain::Chain). Kept are
//! the newest chain and the one before it, whole: they share no byte, so no damage to one keeps the
//! match from being restored from the other (`rekindle_store::chains`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::StoredCheckpoint;
use rekindle_schema::{BatchNo, Seq, StateHash, Tick};
use rekindle_store::StoreError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use crate::checkpoint::chain::{Captured, Prepared};
use crate::host::Inner;
use crate::play::actor::MatchMsg;
use crate::play::cell::{MatchCell, MatchPhase, Stored};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What replaying one tick costs besides the step itself (decoding, comparing), in seconds.
const TICK_OVERHEAD: f64 = 3e-6;
/// What restoring one match costs, in seconds.
const RESTORE_COST: f64 = 1e-4;
/// Checkpoints are taken from this share of the budget on.
const START_AT: f64 = 0.5;
/// How long a match whose checkpoint could not be stored is passed over.
const POSTPONED: Duration = Duration::from_secs(5);
/// A place for writing checkpoints rests for so many times as long as it wrote.
const REST: u32 = 3;
/// Attempts at writing one checkpoint; a later one takes its place.
const ATTEMPTS: u32 = 5;

/// A checkpoint, taken and not yet stored.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The last record whose effect is in it.
    pub(crate) seq: Seq,
    /// Where it stands.
    pub(crate) tick: Tick,
    /// No later record lies in an earlier batch.
    pub(crate) batch: BatchNo,
    /// The hash of the world, if the match computed it for the journal.
    pub(crate) beat: Option<StateHash>,
    /// Its bytes, or what changed.
    pub(crate) captured: Captured,
}

/// The right to write one checkpoint. Dropping it, wherever that happens, makes room for the next.
pub(crate) struct Ticket {
    pub(crate) cell: Arc<MatchCell>,
    /// Set when the checkpoint is stored: the next is asked for at once. Else the timer asks, so
    /// that a failing store is not hammered.
    stored: bool,
    host: Arc<Inner>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Ticket {
    /// It could not be stored: others come first for a while.
    pub(crate) fn postpone(&self) {
        self.cell.cost.lock().not_before = Some(Instant::now() + POSTPONED);
    }

    /// The checkpoint is stored.
    pub(crate) fn finish(mut self) {
        self.stored = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cell.cost.lock().requested = false;
        self.permit.take();
        if self.stored {
            self.host.look();
        }
    }
}

/// Messages of the checkpoint actor.
pub(crate) enum CheckpointMsg {
    /// The timer.
    Timer,
    /// A place has become free. At most one of these is in the mailbox.
    Look,
}

impl ractor::Message for CheckpointMsg {}

/// The checkpoint actor.
pub(crate) struct Checkpointer {
    pub(crate) host: Arc<Inner>,
}

/// Set while a [`CheckpointMsg::Look`] is in the mailbox.
#[derive(Default)]
pub(crate) struct LookPending(AtomicBool);

impl LookPending {
    pub(crate) fn ask(&self, actor: &ActorRef<CheckpointMsg>) {
        if !self.0.swap(true, Ordering::AcqRel) {
            let _ = actor.cast(CheckpointMsg::Look);
        }
    }
}

impl Actor for Checkpointer {
    type Msg = CheckpointMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        me: ActorRef<CheckpointMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        me.send_after(LOOK_EVERY, || CheckpointMsg::Timer);
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<CheckpointMsg>,
        message: CheckpointMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CheckpointMsg::Timer => {
                me.send_after(LOOK_EVERY, || CheckpointMsg::Timer);
                self.survey();
            }
            CheckpointMsg::Look => self.host.look_pending.0.store(false, Ordering::Release),
        }
        self.request();
        Ok(())
    }
}

impl Checkpointer {
    /// Asks matches for checkpoints while there is room and need.
    fn request(&self) {
        while !self.host.journal.is_halted() {
            let Ok(permit) = Arc::clone(&self.host.checkpoint_slots).try_acquire_owned() else {
                return;
            };
            let Some(cell) = self.next(Instant::now()) else { return };
            cell.cost.lock().requested = true;
            let ticket = Ticket {
                cell: Arc::clone(&cell),
                stored: false,
                host: Arc::clone(&self.host),
                permit: Some(permit),
            };
            if !cell.cast(MatchMsg::Checkpoint(ticket)) {
                // It is just starting or stopping: the timer asks again.
                return;
            }
        }
    }

    /// The match whose checkpoint is due, if one is.
    fn next(&self, now: Instant) -> Option<Arc<MatchCell>> {
        let config = &self.host.config;
        let mut total = 0.0;
        let mut costliest: Option<(f64, Arc<MatchCell>)> = None;
        let mut oldest: Option<(Duration, Arc<MatchCell>)> = None;
        for cell in self.host.matches.lock().values() {
            if !matches!(
                cell.phase(),
                MatchPhase::Running | MatchPhase::Waiting | MatchPhase::Stalled
            ) {
                continue;
            }
            let cost = cell.cost.lock();
            let ticks = cell.tick().0.saturating_sub(cost.newest.map_or(0, |stored| stored.tick.0));
            let seconds = RESTORE_COST + ticks as f64 * (cost.tick_seconds + TICK_OVERHEAD);
            total += seconds;
            if cost.requested || cost.not_before.is_some_and(|at| now < at) {
                continue;
            }
            let Some(newest) = cost.newest else { return Some(Arc::clone(cell)) };
            if ticks == 0 {
                continue;
            }
            if cost.wanted.is_some() {
                return Some(Arc::clone(cell));
            }
            if costliest.as_ref().is_none_or(|(most, _)| seconds > *most) {
                costliest = Some((seconds, Arc::clone(cell)));
            }
            let age = now.saturating_duration_since(newest.at);
            if age >= config.checkpoint_every && oldest.as_ref().is_none_or(|(most, _)| age > *most)
            {
                oldest = Some((age, Arc::clone(cell)));
            }
        }
        let over = total > START_AT * config.recovery_budget * config.cores as f64;
        if over { costliest.map(|(_, cell)| cell) } else { oldest.map(|(_, cell)| cell) }
    }

    /// Keeps the gauges that nobody else keeps.
    fn survey(&self) {
        let now = Instant::now();
        let (mut sessions, mut age, mut estimate) = (0, 0.0f64, 0.0);
        let matches = self.host.matches.lock();
        for cell in matches.values() {
            sessions += cell.doors.lock().ingress.len();
            let cost = cell.cost.lock();
            let ticks = cell.tick().0.saturating_sub(cost.newest.map_or(0, |stored| stored.tick.0));
            estimate += RESTORE_COST + ticks as f64 * (cost.tick_seconds + TICK_OVERHEAD);
            if let Some(stored) = cost.newest {
                age = age.max(now.saturating_duration_since(stored.at).as_secs_f64());
            }
        }
        self.host.meters.matches.set(matches.len() as f64);
        self.host.meters.sessions.set(sessions as f64);
        self.host.meters.backlog.set(self.host.journal.backlog() as f64);
        self.host.meters.checkpoint_age.set(age);
        self.host.meters.replay_estimate.set(estimate);
    }
}

/// Stores a checkpoint once the record that it covers is durable, and drops all but the newest two
/// chains, if that is its task. Returns how long the writing took.
pub(crate) async fn store(
    host: &Inner,
    cell: &MatchCell,
    taken: Taken,
) -> Result<Duration, StoreError> {
    let mut durable = cell.durable.subscribe();
    let mut halted = host.journal.halted();
    tokio::select! {
        biased;
        _ = halted.wait_for(Option::is_some) => return Err(StoreError::Fenced(host.incarnation)),
        reached = durable.wait_for(|durable| durable.seq >= taken.seq) => {
            reached.map_err(|_| StoreError::NotFound(format!("match {}", cell.match_id)))?;
        }
    }
    let Taken { seq, tick, batch, beat, captured } = taken;
    let kind = captured.kind();
    let (prepared, hash) = prepare(host, cell, seq, beat, captured)
        .await
        .inspect_err(|_| cell.chain.lock().break_off())?;
    let stored = prepared.stored.clone();
    let meta = CheckpointMeta {
        match_id: cell.match_id,
        epoch: cell.epoch,
        seq,
        tick,
        log: host.incarnation,
        batch,
        build: host.build,
        hash,
        time_ms: (host.clock)(),
        len: stored.len() as u64,
        crc: crc32c::crc32c(&stored),
        base: prepared.base,
    };
    let (name, bytes) = (meta.as_base(), stored.len());
    tracing::debug!(
        code = "RK-HOST-038", match_id = %cell.match_id, %seq, %tick, kind, bytes,
        "checkpoint is being written"
    );
    let started = Instant::now();
    put(host, meta, stored).await?;
    host.journal.stored_checkpoint(StoredCheckpoint { match_id: cell.match_id, name });
    let took = started.elapsed();
    host.meters.checkpoint_put.record(took);
    host.meters.checkpoint_bytes(kind).record(bytes as f64);
    let second = {
        let mut cost = cell.cost.lock();
        // A later one (the last of a drain, say) may have overtaken it.
        if cost.newest.is_some_and(|stored| stored.seq > seq) {
            return Ok(took);
        }
        let root = prepared.root.unwrap_or(seq);
        let new_chain = prepared.base.is_none();
        if new_chain {
            cost.second = cost.newest.map(|stored| stored.root).or(cost.second);
        }
        cost.newest = Some(Stored { seq, tick, at: Instant::now(), bytes, root });
        // Answered once: a wish that stood on would be answered again with every tick.
        cost.wanted = cost.wanted.filter(|&wanted| wanted > tick);
        cell.chain.lock().stored(name, prepared);
        cost.second.filter(|_| new_chain)
    };
    if host.config.trim_checkpoints
        && let Some(second) = second
        && let Err(error) = host.store.checkpoints.trim(cell.match_id, second).await
    {
        tracing::warn!(code = "RK-HOST-030", match_id = %cell.match_id, %error, "old checkpoints \
            are still there; the next one tries again");
    }
    Ok(took)
}

/// Puts the bytes together, where it holds up no match, and hashes the state. A state with another
/// hash than the match computed itself is not stored.
async fn prepare(
    host: &Inner,
    cell: &MatchCell,
    seq: Seq,
    beat: Option<StateHash>,
    captured: Captured,
) -> Result<(Prepared, StateHash), StoreError> {
    let game = Arc::clone(&cell.game);
    let work = move || {
        let prepared = captured.prepare().map_err(|error| error.to_string())?;
        let hash = game
            .checkpoint_hash(&prepared.state)
            .ok_or("its bytes are no checkpoint of the game")?;
        match beat {
            Some(beat) if beat != hash => {
                Err(format!("it has the hash {hash}, the match computed {beat} at the same tick"))
            }
            _ => Ok((prepared, hash)),
        }
    };
    let done = host.offload(work).await.and_then(|result| result);
    done.map_err(|problem| StoreError::Refused {
        place: format!("checkpoint of match {} at seq {seq}", cell.match_id),
        problem,
    })
}

/// How long to wait after a checkpoint whose writing took so long: the journal writes to the same
/// device, and players wait for the journal.
pub(crate) fn rest(took: Duration) -> Duration {
    (took * REST).min(Duration::from_secs(1))
}

async fn put(host: &Inner, meta: CheckpointMeta, state: Bytes) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(20);
    for attempt in 1..=ATTEMPTS {
        match host.store.checkpoints.put(meta.clone(), state.clone()).await {
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                tracing::warn!(
                    code = "RK-HOST-031", match_id = %meta.match_id, %error, attempt,
                    "checkpoint will be written again"
                );
                sleep(pause).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    Ok(())
}
