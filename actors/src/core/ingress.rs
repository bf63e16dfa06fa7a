//! Admission: what a match takes from its sessions, and the step that comes of it.
//!
//! Everything here is bounded: sessions by the game's player limit, inputs and commands per session
//! by [`IngressLimits`]. Of a player's inputs the newest whose target is not after the tick counts,
//! and all before it are void: an outage is no store of moves. Commands are numbered without gaps
//! and applied in order, each exactly once: the table that says so is in the world and comes back
//! with it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rekindle_door::{Admission, Opened, RawInput, Refusal};
use rekindle_schema::record::{
    AppliedCommand, AppliedInput, EffectId, Join, Leave, LeaveReason, Step,
};
use rekindle_schema::wire::{INPUT_NUMBERS_END, RefuseCode};
use rekindle_schema::{PlayerId, SessionId, Tick};
use rekindle_sim::SessionState;
use tokio::time::Instant;

use super::life::{self, SessionStage};

/// Bounds of what waits for a match.
#[derive(Debug, Clone, Copy)]
pub struct IngressLimits {
    /// Sessions, joining ones included.
    pub players: usize,
    /// How far in the future an input's target may lie, in ticks.
    pub window: u64,
    /// Inputs that wait per session.
    pub inputs: usize,
    /// Commands that wait per session.
    pub commands: usize,
    /// Commands of a session that one step takes.
    pub commands_per_step: usize,
    /// Ticks after which an away session ends.
    pub away_ticks: u64,
}

/// What [`Ingress::open`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The session exists and is durable.
    Ready(Opened),
    /// This session will exist once its join is durable ([`Ingress::durable`] tells).
    Wait(SessionId),
    /// The player's earlier session is just ending: ask again after the next tick.
    Later,
    /// Not admitted.
    Refused(Refusal),
}

/// The next step, and when the inputs in it arrived.
#[derive(Debug, Default)]
pub struct Drawn {
    /// The step, its contributions in canonical order.
    pub step: Step,
    /// Arrival of each input in `step.inputs`, in that order.
    pub arrived: Vec<Instant>,
}

/// Where a session stands between its join and its leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the step that lets it in.
    Joining,
    /// Let in by the step of this tick, which is not durable yet.
    In(Tick),
    /// Its join is durable.
    Durable,
    /// Ends with the next step.
    Leaving(LeaveReason),
}

impl Phase {
    fn stage(self) -> SessionStage {
        match self {
            Self::Joining => SessionStage::Joining,
            Self::In(_) => SessionStage::In,
            Self::Durable => SessionStage::Durable,
            Self::Leaving(_) => SessionStage::Leaving,
        }
    }
}

/// An input that waits for its tick.
#[derive(Debug)]
struct Waiting {
    /// The tick that it is meant for.
    target: Tick,
    /// The tick that the player was looking at; not ahead of the world when it arrived.
    view: Tick,
    /// The game's encoding, which the game accepts.
    payload: Bytes,
    /// When it arrived, for the metrics alone.
    arrived: Instant,
}

/// One session and what waits on it.
#[derive(Debug)]
struct Slot {
    player: PlayerId,
    /// What the player is called; empty if the session came with the world.
    name: String,
    phase: Phase,
    /// It is part of the world: a step has let it in.
    inside: bool,
    /// The number of the newest input that a step has taken; 0 before the first.
    last_input: u64,
    /// The number of the newest command that a step has taken; 0 before the first.
    last_command: u64,
    /// Inputs that wait, by number; all are above `last_input`.
    inputs: BTreeMap<u64, Waiting>,
    /// Commands that wait; the first is number `last_command + 1`.
    commands: VecDeque<Bytes>,
    /// The tick at which its connection was gone, until one is back.
    away_since: Option<Tick>,
    /// A match that goes on after a recovery waits a while for its player.
    awaited: bool,
    /// How often its input or command made the world panic.
    strikes: u32,
}

impl Slot {
    /// The session goes on to this phase.
    ///
    /// # Panics
    ///
    /// If it does not lead there: see [`life::SESSION`].
    fn go(&mut self, to: Phase) {
        life::SESSION.assert(self.phase.stage(), to.stage());
        self.phase = to;
    }

    fn opened(&self, session: SessionId, resumed: bool) -> Opened {
        let queued = self.inputs.keys().next_back().copied().unwrap_or(0);
        Opened {
            session,
            resumed,
            next_input: self.last_input.max(queued) + 1,
            next_command: self.last_command + self.commands.len() as u64 + 1,
        }
    }
}

/// Who is in a match and what waits for its next step.
#[derive(Debug)]
pub struct Ingress {
    limits: IngressLimits,
    /// The last tick that was drawn.
    tick: Tick,
    sessions: BTreeMap<SessionId, Slot>,
    /// Effects that a sink has acknowledged since the last step, ascending.
    effects_done: Vec<EffectId>,
    /// Set once nobody gets in any more: what [`Ingress::open`] answers.
    closed: Option<Refusal>,
}

impl Ingress {
    /// For a world that stands at `tick` with `sessions` in it. They count as away until they come
    /// back.
    pub fn new(limits: IngressLimits, tick: Tick, sessions: &[SessionState]) -> Self {
        let mut ingress = Self {
            limits,
            tick,
            sessions: BTreeMap::new(),
            effects_done: Vec::new(),
            closed: None,
        };
        ingress.rebase(tick, sessions);
        ingress
    }

    /// The world was rebuilt and stands at `tick` with `sessions`: what is not in it was never
    /// applied.
    pub fn rebase(&mut self, tick: Tick, sessions: &[SessionState]) {
        self.tick = tick;
        self.sessions
            .retain(|id, slot| !slot.inside || sessions.iter().any(|state| state.session == *id));
        for state in sessions {
            let slot = self.sessions.entry(state.session).or_insert_with(|| Slot {
                player: state.player,
                name: String::new(),
                phase: Phase::Durable,
                inside: true,
                last_input: 0,
                last_command: 0,
                inputs: BTreeMap::new(),
                commands: VecDeque::new(),
                away_since: Some(tick),
                awaited: true,
                strikes: 0,
            });
            slot.last_input = state.last_input;
            slot.inputs.retain(|&seq, _| seq > state.last_input);
            if slot.last_command != state.last_command {
                slot.commands.clear();
                slot.last_command = state.last_command;
            }
        }
    }

    /// Lets nobody in any more; [`Ingress::open`] answers with this refusal.
    pub fn close_doors(&mut self, refusal: Refusal) {
        self.closed = Some(refusal);
    }

    /// How many sessions are in or about to be.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Nobody is in.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Most sessions at a time.
    pub fn capacity(&self) -> usize {
        self.limits.players
    }

    /// Only these sessions are worth waiting for: the players of the others were gone, or idle,
    /// before the match stopped.
    pub fn await_only(&mut self, present: impl Fn(SessionId) -> bool) {
        for (&session, slot) in &mut self.sessions {
            slot.awaited = present(session);
        }
    }

    /// No session that is worth waiting for waits for its player.
    pub fn all_present(&self) -> bool {
        self.sessions.values().all(|slot| !slot.awaited || slot.away_since.is_none())
    }

    /// Whether `session` is in the match.
    pub fn contains(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The session of `player`, unless it is about to end.
    pub fn session_of(&self, player: PlayerId) -> Option<SessionId> {
        let mut slots = self.sessions.iter();
        slots
            .find(|(_, slot)| slot.player == player && !matches!(slot.phase, Phase::Leaving(_)))
            .map(|(&id, _)| id)
    }

    /// Queues an input that the game accepts.
    pub fn input(&mut self, input: RawInput, now: Instant) -> Admission {
        let Some(slot) = self.sessions.get_mut(&input.session) else { return Admission::NoSession };
        if !matches!(slot.phase, Phase::In(_) | Phase::Durable) {
            return Admission::NoSession;
        }
        if input.seq <= slot.last_input || slot.inputs.contains_key(&input.seq) {
            return Admission::Stale;
        }
        if input.seq >= INPUT_NUMBERS_END
            || input.target.0 > self.tick.0.saturating_add(self.limits.window)
        {
            return Admission::OutOfWindow;
        }
        if slot.inputs.len() >= self.limits.inputs {
            return Admission::Full;
        }
        // The view is what a rewind goes back to: it never lies ahead of the world.
        let view = input.view.min(self.tick);
        slot.inputs.insert(
            input.seq,
            Waiting { target: input.target, view, payload: input.payload, arrived: now },
        );
        Admission::Queued
    }

    /// Queues a reliable command that the game accepts.
    pub fn command(&mut self, session: SessionId, seq: u64, payload: Bytes) -> Admission {
        let Some(slot) = self.sessions.get_mut(&session) else { return Admission::NoSession };
        if !matches!(slot.phase, Phase::In(_) | Phase::Durable) {
            return Admission::NoSession;
        }
        let next = slot.last_command + slot.commands.len() as u64 + 1;
        if seq < next {
            return Admission::Stale;
        }
        if seq > next {
            return Admission::OutOfWindow;
        }
        if slot.commands.len() >= self.limits.commands {
            return Admission::Full;
        }
        slot.commands.push_back(payload);
        Admission::Queued
    }

    /// A player wants in. A player has one session in a match: whoever shows a valid ticket again
    /// gets that one. `fresh` makes ids of new sessions.
    pub fn open(
        &mut self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
        mut fresh: impl FnMut() -> SessionId,
    ) -> OpenOutcome {
        if let Some(refusal) = &self.closed {
            return OpenOutcome::Refused(refusal.clone());
        }
        if let Some(wanted) = resume
            && self.sessions.get(&wanted).is_some_and(|slot| slot.player != player)
        {
            return refused(
                RefuseCode::Credential,
                format!("session {wanted} belongs to another player"),
            );
        }
        // A resume token does not expire: it opens the session that it was made for, or nothing.
        if let Some(wanted) = resume
            && !self.sessions.contains_key(&wanted)
        {
            return refused(
                RefuseCode::Removed,
                format!("session {wanted} is over: show a ticket"),
            );
        }
        if let Some((&id, slot)) = self.sessions.iter_mut().find(|(_, slot)| slot.player == player)
        {
            return match slot.phase {
                Phase::Durable => {
                    slot.away_since = None;
                    OpenOutcome::Ready(slot.opened(id, true))
                }
                Phase::Joining | Phase::In(_) => OpenOutcome::Wait(id),
                Phase::Leaving(_) => OpenOutcome::Later,
            };
        }
        if self.sessions.len() >= self.limits.players {
            return refused(
                RefuseCode::Full,
                format!("all {} places are taken", self.limits.players),
            );
        }
        let mut id = fresh();
        while self.sessions.contains_key(&id) {
            id = fresh();
        }
        self.sessions.insert(
            id,
            Slot {
                player,
                name: clip(name),
                phase: Phase::Joining,
                inside: false,
                last_input: 0,
                last_command: 0,
                inputs: BTreeMap::new(),
                commands: VecDeque::new(),
                away_since: None,
                awaited: false,
                strikes: 0,
            },
        );
        OpenOutcome::Wait(id)
    }

    /// The session ends with the next step; one that has not entered yet is forgotten.
    pub fn close(&mut self, session: SessionId, reason: LeaveReason) {
        match self.sessions.get_mut(&session) {
            Some(slot) if slot.inside => slot.go(Phase::Leaving(reason)),
            Some(_) => drop(self.sessions.remove(&session)),
            None => {}
        }
    }

    /// The session never entered the world: its join was left out.
    pub fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// The session's connection is gone.
    pub fn away(&mut self, session: SessionId) {
        let tick = self.tick;
        if let Some(slot) = self.sessions.get_mut(&session) {
            slot.away_since.get_or_insert(tick);
        }
    }

    /// The session's connection is back.
    pub fn back(&mut self, session: SessionId) {
        if let Some(slot) = self.sessions.get_mut(&session) {
            slot.away_since = None;
        }
    }

    /// A sink has acknowledged an effect: the next step takes it out of the state.
    pub fn effect_done(&mut self, id: EffectId) {
        if let Err(at) = self.effects_done.binary_search(&id) {
            self.effects_done.insert(at, id);
        }
    }

    /// This player's input or command made the world panic. Returns how often that has happened in
    /// this session.
    pub fn strike(&mut self, player: PlayerId) -> Option<(SessionId, u32)> {
        let (&id, slot) = self.sessions.iter_mut().find(|(_, slot)| slot.player == player)?;
        slot.strikes += 1;
        Some((id, slot.strikes))
    }

    /// Joins up to `tick` are durable: the sessions that can be told so, ascending.
    pub fn durable(&mut self, tick: Tick) -> Vec<Opened> {
        let mut ready = Vec::new();
        for (&id, slot) in &mut self.sessions {
            if let Phase::In(joined) = slot.phase
                && joined <= tick
            {
                slot.go(Phase::Durable);
                ready.push(slot.opened(id, false));
            }
        }
        ready
    }

    /// Takes what belongs into the step of the next tick.
    pub fn draw(&mut self) -> Drawn {
        let tick = self.tick.next();
        self.tick = tick;
        let mut drawn = Drawn { step: Step { tick, ..Step::default() }, ..Drawn::default() };
        let mut inputs = Vec::new();
        for (&session, slot) in &mut self.sessions {
            let player = slot.player;
            if slot.inside
                && !matches!(slot.phase, Phase::Leaving(_))
                && slot
                    .away_since
                    .is_some_and(|since| tick.0.saturating_sub(since.0) > self.limits.away_ticks)
            {
                slot.go(Phase::Leaving(LeaveReason::TimedOut));
            }
            match slot.phase {
                Phase::Joining => {
                    drawn.step.joins.push(Join { player, session, name: slot.name.clone() });
                    slot.go(Phase::In(tick));
                    slot.inside = true;
                }
                Phase::Leaving(reason) => drawn.step.leaves.push(Leave { player, session, reason }),
                Phase::In(_) | Phase::Durable => {
                    if let Some((input, arrived)) = take_input(slot, session, tick) {
                        inputs.push((input, arrived));
                    }
                    for payload in slot
                        .commands
                        .drain(..slot.commands.len().min(self.limits.commands_per_step))
                    {
                        slot.last_command += 1;
                        drawn.step.commands.push(AppliedCommand {
                            player,
                            session,
                            seq: slot.last_command,
                            payload,
                        });
                    }
                }
            }
        }
        self.sessions.retain(|_, slot| !matches!(slot.phase, Phase::Leaving(_)));
        drawn.step.joins.sort_by_key(|join| join.player);
        drawn.step.leaves.sort_by_key(|leave| leave.player);
        drawn.step.commands.sort_by_key(|command| (command.player, command.seq));
        inputs.sort_by_key(|(input, _)| input.player);
        (drawn.step.inputs, drawn.arrived) = inputs.into_iter().unzip();
        drawn.step.effects_done = std::mem::take(&mut self.effects_done);
        drawn
    }
}

fn refused(code: RefuseCode, words: String) -> OpenOutcome {
    OpenOutcome::Refused(Refusal::new(code, words))
}

/// The newest input whose target has come; it and all before it leave the queue.
fn take_input(slot: &mut Slot, session: SessionId, tick: Tick) -> Option<(AppliedInput, Instant)> {
    let seq = *slot.inputs.iter().rev().find(|(_, waiting)| waiting.target <= tick)?.0;
    let later = slot.inputs.split_off(&(seq + 1));
    let waiting = std::mem::replace(&mut slot.inputs, later).remove(&seq)?;
    slot.last_input = seq;
    let Waiting { view, payload, arrived, .. } = waiting;
    Some((AppliedInput { player: slot.player, session, seq, view_tick: view, payload }, arrived))
}

/// At most 32 bytes of UTF-8, cut between characters.
fn clip(mut name: String) -> String {
    let end = (0..=name.len().min(32)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    name.truncate(end);
    name
}
