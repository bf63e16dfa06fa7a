//! The door of one running match: what the edge and the node's bots hold of it.
//!
//! All methods but [`MatchDoor::open`] return at once: what arrives is admitted or refused here,
//! under a short lock, and waits in the match's bounded queues for its tick.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_door::{
    Admission, MatchDoor, MatchInfo, Opened, RawInput, Recalled, Refusal, TickFrame,
};
use rekindle_schema::lease::MatchSpec;
use rekindle_schema::record::LeaveReason;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, PlayerId, SessionId, StateHash, Tick};
use rekindle_sim::Simulation;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::core::profile::{Profile, Samples};
use crate::core::{Durable, OpenOutcome};
use crate::messages::MatchMsg;
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;

/// The door of one match of this node, and what the node itself asks of the match. Cheap to clone.
#[derive(Clone)]
pub struct MatchHandle {
    cell: Arc<MatchCell>,
}

impl MatchHandle {
    pub(crate) fn new(cell: Arc<MatchCell>) -> Self {
        Self { cell }
    }

    /// How it was created.
    pub fn spec(&self) -> &MatchSpec {
        &self.cell.spec
    }

    /// What it is doing.
    pub fn phase(&self) -> MatchPhase {
        self.cell.phase()
    }

    /// How much of its journal is durable.
    pub fn durable(&self) -> Durable {
        self.cell.durable()
    }

    /// Resolves when `tick` is durable. `None` if the match stops before that.
    pub async fn wait_durable(&self, tick: Tick) -> Option<Durable> {
        let mut durable = self.cell.books.subscribe();
        loop {
            let now = durable.borrow_and_update().durable();
            if now.tick >= tick {
                return Some(now);
            }
            if !self.cell.is_alive() {
                return None;
            }
            durable.changed().await.ok()?;
        }
    }

    /// Sessions in it now, and most that it takes.
    pub fn occupancy(&self) -> (usize, usize) {
        let doors = self.cell.doors.lock();
        (doors.ingress.len(), doors.ingress.capacity())
    }

    /// The tick where the world stands, executed but perhaps not yet durable, and its hash. `None`
    /// if the match has stopped, or while the cause of a failed tick is looked for.
    pub async fn inspect(&self) -> Option<(Tick, StateHash)> {
        let (reply, answer) = oneshot::channel();
        self.cell.cast(MatchMsg::Inspect(reply));
        answer.await.ok()
    }

    /// What its ticks take, and what of them, measured for so long. A match that stands still makes
    /// no ticks: then none were measured. `None` if the match has stopped.
    pub async fn profile(&self, span: Duration) -> Option<Profile> {
        let samples = Arc::new(Mutex::new(Samples::default()));
        if !self.cell.cast(MatchMsg::Profile(Arc::downgrade(&samples))) {
            return None;
        }
        tokio::time::sleep(span).await;
        // Taken out, so that the match is not held up while they are counted.
        let taken = std::mem::take(&mut *samples.lock());
        drop(samples);
        Some(taken.profile())
    }

    /// What `read` says of the world as it stands, and at which tick, once that tick is durable.
    /// It runs on the match's shard, between two ticks: let it be short. `None` as of
    /// [`MatchHandle::inspect`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Simulation) -> T + Send + 'static,
    ) -> Option<(T, Tick)> {
        let (reply, answer) = oneshot::channel();
        self.cell.cast(MatchMsg::Read(Box::new(move |sim| {
            // An error means that nobody waits for it any more.
            let _ = reply.send((read(sim), sim.tick()));
        })));
        let (found, tick) = answer.await.ok()?;
        self.wait_durable(tick).await?;
        Some((found, tick))
    }

    /// See [`MatchDoor::open`].
    async fn open_session(
        &self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
    ) -> Result<Opened, Refusal> {
        let gone = || Refusal::new(RefuseCode::Unavailable, "the match stopped: try again");
        let mut durable = self.cell.books.subscribe();
        loop {
            durable.mark_unchanged();
            match self.ask(player, name.clone(), resume) {
                Asked::Answered(answer) => {
                    self.wake_if_complete();
                    return answer;
                }
                Asked::Waiting(session, answer) => {
                    let mut abandoned = AwayOnDrop { handle: self, session: Some(session) };
                    let answer = answer.await.unwrap_or_else(|_| Err(gone()));
                    abandoned.session = None;
                    return answer;
                }
                // The player's last session ends with the next tick.
                Asked::Later => durable.changed().await.map_err(|_| gone())?,
            }
        }
    }

    /// Asks the ingress once.
    fn ask(&self, player: PlayerId, name: String, resume: Option<SessionId>) -> Asked {
        let cell = &self.cell;
        let mut doors = cell.doors.lock();
        let doors = &mut *doors;
        let drawn = &mut doors.drawn_ids;
        let fresh = || {
            *drawn += 1;
            session_id([cell.seed, cell.match_id.0, cell.epoch.0, *drawn])
        };
        match doors.ingress.open(player, name, resume, fresh) {
            OpenOutcome::Ready(opened) => Asked::Answered(Ok(opened)),
            OpenOutcome::Refused(refusal) => Asked::Answered(Err(refusal)),
            OpenOutcome::Later => Asked::Later,
            OpenOutcome::Wait(session) => {
                let (reply, answer) = oneshot::channel();
                doors.waiters.entry(session).or_default().push(reply);
                Asked::Waiting(session, answer)
            }
        }
    }

    /// An operator removes the player.
    pub fn remove(&self, session: SessionId) {
        self.cell.doors.lock().ingress.close(session, LeaveReason::Removed);
    }

    /// A recovered match that waits for its sessions goes on when the last is back.
    fn wake_if_complete(&self) {
        if self.cell.phase() == MatchPhase::Waiting && self.cell.doors.lock().ingress.all_present()
        {
            self.cell.cast(MatchMsg::Present);
        }
    }
}

impl MatchDoor for MatchHandle {
    fn info(&self) -> MatchInfo {
        let cell = &self.cell;
        MatchInfo {
            match_id: cell.match_id,
            game: cell.spec.game.clone(),
            epoch: cell.epoch,
            tick: cell.published(),
            tick_rate: cell.spec.tick_rate,
            schema: Arc::clone(&cell.schema),
            config: cell.spec.config.clone(),
        }
    }

    fn session_of(&self, player: PlayerId) -> Option<SessionId> {
        self.cell.doors.lock().ingress.session_of(player)
    }

    fn hash_at(&self, tick: Tick) -> Option<StateHash> {
        self.cell.hash_at(tick)
    }

    fn events_from(&self, from: Tick) -> Recalled {
        self.cell.events_from(from)
    }

    fn holds_until(&self) -> Option<Tick> {
        self.cell.holds_until
    }

    fn holds_of(&self, epoch: Epoch) -> Option<Tick> {
        self.cell.turns.holds_of(epoch)
    }

    fn open(
        &self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
    ) -> BoxFuture<'_, Result<Opened, Refusal>> {
        Box::pin(self.open_session(player, name, resume))
    }

    fn input(&self, input: RawInput) -> Admission {
        if !self.cell.game.accepts_input(&input.payload) {
            return Admission::Malformed;
        }
        self.cell.doors.lock().ingress.input(input, Instant::now())
    }

    fn command(&self, session: SessionId, seq: u64, payload: Bytes) -> Admission {
        if !self.cell.game.accepts_command(&payload) {
            return Admission::Malformed;
        }
        self.cell.doors.lock().ingress.command(session, seq, payload)
    }

    fn close(&self, session: SessionId) {
        self.cell.doors.lock().ingress.close(session, LeaveReason::Left);
    }

    fn away(&self, session: SessionId) {
        self.cell.doors.lock().ingress.away(session);
    }

    fn back(&self, session: SessionId) {
        self.cell.doors.lock().ingress.back(session);
        self.wake_if_complete();
    }

    fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>> {
        self.cell.subscribers.add(|| self.cell.is_alive())
    }
}

/// What the ingress said to somebody who wants in.
enum Asked {
    /// At once.
    Answered(Result<Opened, Refusal>),
    /// The answer comes once the session's join is durable.
    Waiting(SessionId, oneshot::Receiver<Result<Opened, Refusal>>),
    /// Ask again after the next tick.
    Later,
}

/// Whoever opens a session and goes away before it is durable leaves it to its time-out.
struct AwayOnDrop<'a> {
    handle: &'a MatchHandle,
    session: Option<SessionId>,
}

impl Drop for AwayOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            self.handle.away(session);
        }
    }
}

/// A well-mixed id from what makes it unique (the finaliser of `SplitMix64`, chained).
fn session_id(parts: [u64; 4]) -> SessionId {
    let mix = |state: u64, part: u64| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    SessionId(parts.into_iter().fold(0, mix))
}
