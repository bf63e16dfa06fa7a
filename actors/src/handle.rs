//! A link to one running match, for whoever serves its sessions.
//!
//! All methods but [`MatchHandle::open`] return at once: what arrives is admitted or refused here,
//! under a short lock, and waits in the match's bounded queues for its tick.

use std::sync::Arc;

use bytes::Bytes;
use rekindle_schema::frame::TickFrame;
use rekindle_schema::lease::MatchSpec;
use rekindle_schema::net::NetSchema;
use rekindle_schema::record::LeaveReason;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::core::{Admission, Durable, OpenOutcome, Opened, RawInput};
use crate::messages::MatchMsg;
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;

/// What a match is and where it stands.
#[derive(Debug, Clone)]
pub struct MatchInfo {
    /// Which.
    pub match_id: MatchId,
    /// Name of its game type.
    pub game: String,
    /// Its present ownership.
    pub epoch: Epoch,
    /// The newest published tick.
    pub tick: Tick,
    /// Ticks per second.
    pub tick_rate: u16,
    /// What its snapshots are made of.
    pub schema: Arc<NetSchema>,
    /// The game's encoding of its configuration.
    pub config: Bytes,
}

/// A link to one match of this node. Cheap to clone.
#[derive(Clone)]
pub struct MatchHandle {
    cell: Arc<MatchCell>,
}

impl MatchHandle {
    pub(crate) fn new(cell: Arc<MatchCell>) -> Self {
        Self { cell }
    }

    /// What it is and where it stands.
    pub fn info(&self) -> MatchInfo {
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

    /// The session that `player` has in it, or is about to have.
    pub fn session_of(&self, player: PlayerId) -> Option<SessionId> {
        self.cell.doors.lock().ingress.session_of(player)
    }

    /// The hash of the match after `tick`, if that is one of the newest beats.
    pub fn hash_at(&self, tick: Tick) -> Option<StateHash> {
        self.cell.hash_at(tick)
    }

    /// Set if its recovery computed ticks again with another result than they had: the newest tick
    /// that still holds.
    pub fn holds_until(&self) -> Option<Tick> {
        self.cell.holds_until
    }

    /// The tick where the world stands, executed but perhaps not yet durable, and its hash. `None`
    /// if the match has stopped.
    pub async fn inspect(&self) -> Option<(Tick, StateHash)> {
        let (reply, answer) = oneshot::channel();
        self.cell.cast(MatchMsg::Inspect(reply));
        answer.await.ok()
    }

    /// Opens a session for `player`, or resumes the one that the player has. Resolves once it is
    /// durable.
    ///
    /// A player has one session in a match: `resume` names it if the caller knows it, and is
    /// refused if it belongs to somebody else.
    pub async fn open(
        &self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
    ) -> Result<Opened, (RefuseCode, String)> {
        let gone = || (RefuseCode::Unavailable, "the match stopped: try again".to_owned());
        let mut durable = self.cell.books.subscribe();
        loop {
            durable.mark_unchanged();
            match self.ask(player, name.clone(), resume) {
                Asked::Answered(answer) => {
                    self.wake_if_complete();
                    return answer;
                }
                Asked::Waiting(session, answer) => {
                    let mut abandoned = AwayOnDrop { link: self, session: Some(session) };
                    let answer = answer.await.unwrap_or_else(|_| Err(gone()));
                    abandoned.session = None;
                    return answer;
                }
                // The player's last session ends with the next tick.
                Asked::Later => durable.changed().await.map_err(|_| gone())?,
            }
        }
    }

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
            OpenOutcome::Refused(code, words) => Asked::Answered(Err((code, words))),
            OpenOutcome::Later => Asked::Later,
            OpenOutcome::Wait(session) => {
                let (reply, answer) = oneshot::channel();
                doors.waiters.entry(session).or_default().push(reply);
                Asked::Waiting(session, answer)
            }
        }
    }

    /// Hands over an input.
    pub fn input(&self, input: RawInput) -> Admission {
        if !self.cell.game.accepts_input(&input.payload) {
            return Admission::Malformed;
        }
        self.cell.doors.lock().ingress.input(input, Instant::now())
    }

    /// Hands over a reliable command.
    pub fn command(&self, session: SessionId, seq: u64, payload: Bytes) -> Admission {
        if !self.cell.game.accepts_command(&payload) {
            return Admission::Malformed;
        }
        self.cell.doors.lock().ingress.command(session, seq, payload)
    }

    /// The player left for good.
    pub fn close(&self, session: SessionId) {
        self.cell.doors.lock().ingress.close(session, LeaveReason::Left);
    }

    /// An operator removes the player.
    pub fn remove(&self, session: SessionId) {
        self.cell.doors.lock().ingress.close(session, LeaveReason::Removed);
    }

    /// The session's connection is gone: it waits for the player to come back.
    pub fn away(&self, session: SessionId) {
        self.cell.doors.lock().ingress.away(session);
    }

    /// The session's connection is back.
    pub fn back(&self, session: SessionId) {
        self.cell.doors.lock().ingress.back(session);
        self.wake_if_complete();
    }

    /// All frames that are published from now on, in order. The receiver is closed when the match
    /// ends or stops here, or when it lags by more than it holds.
    pub fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>> {
        self.cell.subscribers.add(|| self.cell.is_alive())
    }

    /// A recovered match that waits for its sessions goes on when the last is back.
    fn wake_if_complete(&self) {
        if self.cell.phase() == MatchPhase::Waiting && self.cell.doors.lock().ingress.all_present()
        {
            self.cell.cast(MatchMsg::Present);
        }
    }
}

enum Asked {
    Answered(Result<Opened, (RefuseCode, String)>),
    Waiting(SessionId, oneshot::Receiver<Result<Opened, (RefuseCode, String)>>),
    Later,
}

/// Whoever opens a session and goes away before it is durable leaves it to its time-out.
struct AwayOnDrop<'a> {
    link: &'a MatchHandle,
    session: Option<SessionId>,
}

impl Drop for AwayOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            self.link.away(session);
        }
    }
}

/// A well-mixed id from what makes it unique (the finaliser of SplitMix64, chained).
fn session_id(parts: [u64; 4]) -> SessionId {
    let mix = |state: u64, part: u64| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    SessionId(parts.into_iter().fold(0, mix))
}
