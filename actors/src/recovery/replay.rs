//! From a history to a running world: restore, replay, check.
//!
//! Pure and synchronous. Called by [`crate::Host::recover`] off the shards, by poison handling, and
//! by the commands that verify, replay and list journals.

use std::collections::BTreeMap;

use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchSpec};
use rekindle_schema::record::{Beat, Decision, Flush, Step};
use rekindle_schema::{BuildId, MatchId, Seq, SessionId, Tick};
use rekindle_sim::{GameType, Simulation, StepOutput};
use rekindle_store::history::History;

use super::proof::{Proof, Recorded};
use super::upgrade::BuildChange;
use crate::config::{Games, OtherBuild};
use crate::core::{EventLog, Hashes, Turns};
use crate::error::RecoveryError;

/// What a replay led to.
pub struct Replayed {
    /// The world.
    pub sim: Box<dyn Simulation>,
    /// The last record that is in it; 0 if there was none.
    pub seq: Seq,
    /// Where it stands.
    pub tick: Tick,
    /// The checksum of the last record, 0 if there was none.
    pub crc: u32,
    /// The checkpoint it began with, if there was one.
    pub checkpoint: Option<CheckpointMeta>,
    /// What the full checkpoint under it covers.
    pub root: Option<Seq>,
    /// Ticks that were made again.
    pub replayed: u64,
    /// Hashes that were compared and found equal, that of the checkpoint included.
    pub beats_checked: u64,
    /// What came of the ticks that other builds had computed, if there were any. It has a
    /// difference only if that was accepted.
    pub proof: Option<Proof>,
    /// Set if players were shown what is not in this world: the newest tick that they saw and that
    /// still holds.
    pub holds_until: Option<Tick>,
    /// What the match's next record is to say besides.
    pub opening: Vec<Decision>,
    /// How many periods lay between its ticks at last, as far as the records say: see
    /// [`Decision::Slowdown`].
    pub slowdown: u8,
    /// Set if another build goes on with it.
    pub build_change: Option<BuildChange>,
    /// The newest hashes that were computed on the way.
    pub hashes: Hashes,
    /// Where the ownerships began whose records were replayed.
    pub turns: Turns,
    /// The newest events that were computed on the way.
    pub events: EventLog,
    /// The last replayed tick in which each session did something.
    pub active: BTreeMap<SessionId, Tick>,
    /// Set if the match has ended: why.
    pub ended: Option<String>,
}

impl Replayed {
    /// A world that was just set up: nothing was replayed.
    pub fn fresh(sim: Box<dyn Simulation>) -> Self {
        Self {
            tick: sim.tick(),
            events: EventLog::behind(sim.tick()),
            sim,
            seq: Seq(0),
            crc: 0,
            checkpoint: None,
            root: None,
            replayed: 0,
            beats_checked: 0,
            proof: None,
            holds_until: None,
            opening: Vec::new(),
            slowdown: 1,
            build_change: None,
            hashes: Hashes::default(),
            turns: Turns::default(),
            active: BTreeMap::new(),
            ended: None,
        }
    }
}

/// What the observer of [`Replay::run`] is told after each tick.
pub struct Replaying<'a> {
    /// The tick that was made.
    pub tick: Tick,
    /// From what.
    pub step: &'a Step,
    /// What came of it.
    pub output: &'a StepOutput,
    /// The world after it.
    pub sim: &'a dyn Simulation,
}

/// Restores and replays a whole history; `progress` is told each tick. See [`Replay`] for more
/// control.
pub fn replay(
    game: &dyn GameType,
    spec: &MatchSpec,
    history: &History,
    build: BuildId,
    other_build: OtherBuild,
    progress: &mut dyn FnMut(Tick),
) -> Result<Replayed, RecoveryError> {
    Replay { game, spec, build, other_build, until: None, match_id: None }
        .run(history, &mut |at| progress(at.tick))
}

/// Whether this build can go on with a match, found out before the match is claimed; and the last
/// record that it goes on from, if not all count. An error says what this build lacks and nothing
/// about the match: another build may have it.
///
/// A history that this build made, begun with a checkpoint that it made, is not looked into: what
/// is wrong with it shows in the replay. A checkpoint of another build is restored, and what
/// another build computed is made again and compared, unless that is refused. Called by whoever
/// claims matches, through [`crate::Host::fits`].
pub fn fits(
    games: &Games,
    lease: &MatchLease,
    history: &History,
    build: BuildId,
    other_build: OtherBuild,
) -> Result<Option<Seq>, RecoveryError> {
    let match_id = lease.match_id;
    let game = games.get(&lease.spec.game)?;
    let failed = |error| RecoveryError::Sim { match_id, error };
    let foreign = history.frames.iter().any(|frame| frame.header.build != build);
    match &history.checkpoint {
        _ if foreign => {
            let spec = &lease.spec;
            let replay = Replay {
                game: &*game,
                spec,
                build,
                other_build,
                until: None,
                match_id: Some(match_id),
            };
            return replay.last_usable(history);
        }
        Some((meta, state)) if meta.build != build => {
            game.restore(state).map(drop).map_err(failed)?;
        }
        None if history.frames.is_empty() => {
            game.create_at(&lease.spec.config, lease.spec.seed, lease.spec.tick_rate)
                .map(drop)
                .map_err(failed)?;
        }
        _ => {}
    }
    Ok(None)
}

/// Whether [`fits`] has to restore or replay to find out, so that it does not belong on a thread
/// that others wait for.
pub(crate) fn fits_at_once(history: &History, build: BuildId, other_build: OtherBuild) -> bool {
    let foreign = history.frames.iter().any(|frame| frame.header.build != build);
    match &history.checkpoint {
        _ if foreign => other_build == OtherBuild::Refuse,
        Some((meta, _)) => meta.build == build,
        None => !history.frames.is_empty(),
    }
}

/// How to replay.
pub struct Replay<'a> {
    /// The game.
    pub game: &'a dyn GameType,
    /// What the match is, for a history without a checkpoint.
    pub spec: &'a MatchSpec,
    /// The build that runs.
    pub build: BuildId,
    /// What to do about records of another build.
    pub other_build: OtherBuild,
    /// The last tick to make; all of them without it.
    pub until: Option<Tick>,
    /// For errors; taken from the history if it has anything in it.
    pub match_id: Option<MatchId>,
}

impl Replay<'_> {
    /// Restores the checkpoint, makes every recorded tick again, compares every hash on the way.
    pub fn run(
        &self,
        history: &History,
        observe: &mut dyn FnMut(Replaying<'_>),
    ) -> Result<Replayed, RecoveryError> {
        let state = self.run_all(history, observe)?;
        if self.other_build != OtherBuild::Accept
            && let Some(proof) = &state.proof
        {
            proof.verdict(self.match_id(history), self.build)?;
        }
        Ok(state)
    }

    /// Makes every recorded tick again, also behind a difference to what another build recorded.
    fn run_all(
        &self,
        history: &History,
        observe: &mut dyn FnMut(Replaying<'_>),
    ) -> Result<Replayed, RecoveryError> {
        let mut state = self.begin(history)?;
        for frame in &history.frames {
            if self.until.is_some_and(|until| state.tick >= until) {
                break;
            }
            self.apply(&mut state, frame, observe)?;
        }
        Ok(state)
    }

    /// The last record that this build may go on from, if not from the last one of all.
    fn last_usable(&self, history: &History) -> Result<Option<Seq>, RecoveryError> {
        let state = match self.run_all(history, &mut |_| {}) {
            // What this build cannot even make again is behind what is equal, too.
            Err(RecoveryError::Sim { .. }) if self.other_build == OtherBuild::LastEqual => {
                return self.equal_before_failure(history).map(Some);
            }
            done => done?,
        };
        let Some(proof) = state.proof.filter(|_| self.other_build != OtherBuild::Accept) else {
            return Ok(None);
        };
        match proof.verdict(self.match_id(history), self.build) {
            Err(_) if self.other_build == OtherBuild::LastEqual => Ok(Some(proof.equal.1)),
            verdict => verdict.map(|()| None),
        }
    }

    /// As [`Proof::equal`], of a history that this build fails to make again.
    fn equal_before_failure(&self, history: &History) -> Result<Seq, RecoveryError> {
        let mut state = self.begin(history)?;
        for frame in &history.frames {
            if self.apply(&mut state, frame, &mut |_| {}).is_err() {
                break;
            }
        }
        Ok(state.proof.map_or(state.seq, |proof| proof.equal.1))
    }

    fn match_id(&self, history: &History) -> MatchId {
        let in_frames = history.frames.first().map(|frame| frame.header.match_id);
        self.match_id
            .or(in_frames)
            .or_else(|| history.checkpoint.as_ref().map(|(meta, _)| meta.match_id))
            .unwrap_or_default()
    }

    /// The world that replay begins with.
    pub(super) fn begin(&self, history: &History) -> Result<Replayed, RecoveryError> {
        let match_id = self.match_id(history);
        let failed = |error| RecoveryError::Sim { match_id, error };
        let sim = match &history.checkpoint {
            Some((_, bytes)) => self.game.restore(bytes).map_err(failed)?,
            None => self
                .game
                .create_at(&self.spec.config, self.spec.seed, self.spec.tick_rate)
                .map_err(failed)?,
        };
        let mut state = Replayed { root: history.root, ..Replayed::fresh(sim) };
        if let Some((meta, _)) = &history.checkpoint {
            self.check_checkpoint(&mut state, meta)?;
        }
        state.tick = state.sim.tick();
        Ok(state)
    }

    fn check_checkpoint(
        &self,
        state: &mut Replayed,
        meta: &CheckpointMeta,
    ) -> Result<(), RecoveryError> {
        if state.sim.tick() != meta.tick {
            let problem = format!(
                "its checkpoint stands at tick {}, the manifest says {}",
                state.sim.tick(),
                meta.tick
            );
            return Err(RecoveryError::Broken { match_id: meta.match_id, seq: meta.seq, problem });
        }
        // A checkpoint of another build may have been migrated while it was decoded: its hash says
        // nothing then.
        if meta.build == self.build {
            let computed = state.sim.state_hash();
            if computed != meta.hash {
                return Err(RecoveryError::HashMismatch {
                    match_id: meta.match_id,
                    tick: meta.tick,
                    recorded: meta.hash,
                    computed,
                    source_of: "checkpoint",
                });
            }
            state.beats_checked += 1;
            state.hashes.push(Beat { tick: meta.tick, hash: computed });
        }
        // Where that ownership began, nobody knows any more: records of it that follow say nothing.
        state.turns.push(meta.epoch, None);
        state.seq = meta.seq;
        state.checkpoint = Some(meta.clone());
        Ok(())
    }

    /// What the next record says, if it follows what `state` has.
    fn read(&self, state: &Replayed, frame: &Frame) -> Result<Flush, RecoveryError> {
        let (seq, match_id) = (frame.header.seq, frame.header.match_id);
        let broken = |problem: String| RecoveryError::Broken { match_id, seq, problem };
        if seq != state.seq.next() && state.seq != Seq(0) || seq == Seq(0) {
            return Err(broken(format!("it follows record {}", state.seq)));
        }
        let flush = Flush::decode(&frame.payload).map_err(|error| broken(error.to_string()))?;
        if flush.first != state.tick.next() || flush.last < flush.first {
            return Err(broken(format!(
                "it covers ticks {} to {}, the world stands at {}",
                flush.first, flush.last, state.tick
            )));
        }
        if frame.header.build != self.build && self.other_build == OtherBuild::Refuse {
            return Err(RecoveryError::OtherBuild {
                match_id,
                tick: flush.first,
                found: frame.header.build,
                ours: self.build,
            });
        }
        Ok(flush)
    }

    /// Makes the ticks of the next record.
    pub(super) fn apply(
        &self,
        state: &mut Replayed,
        frame: &Frame,
        observe: &mut dyn FnMut(Replaying<'_>),
    ) -> Result<(), RecoveryError> {
        let header = &frame.header;
        let match_id = header.match_id;
        let flush = self.read(state, frame)?;
        state.turns.push(header.epoch, Some(state.tick));
        let foreign = header.build != self.build;
        let before = (state.tick, state.seq);
        let mut recorded = foreign.then(|| Recorded::new(header, &flush, before, &mut state.proof));
        let mut steps = flush.steps.iter().peekable();
        let mut beats = flush.beats.iter().peekable();
        for number in flush.first.0..=flush.last.0 {
            let tick = Tick(number);
            if self.until.is_some_and(|until| tick > until) {
                break;
            }
            let empty = Step { tick, ..Step::default() };
            let step = steps.next_if(|step| step.tick == tick).unwrap_or(&empty);
            let output =
                state.sim.step(step).map_err(|error| RecoveryError::Sim { match_id, error })?;
            state.tick = tick;
            state.replayed += 1;
            state.events.push(&output.events);
            let joined = step.joins.iter().map(|join| join.session);
            let moved = step.inputs.iter().map(|input| input.session);
            state.active.extend(joined.chain(moved).map(|session| (session, tick)));
            let beat = beats.next_if(|beat| beat.tick == tick);
            match (&mut recorded, &mut state.proof) {
                (Some(recorded), Some(proof)) => {
                    let made = (&*state.sim, &output);
                    recorded.compare(proof, &mut state.hashes, made, beat);
                    state.holds_until = proof.holds_until();
                }
                _ => check_own(state, match_id, beat)?,
            }
            observe(Replaying { tick, step, output: &output, sim: &*state.sim });
        }
        if self.until.is_none() {
            let left =
                (steps.next().map(|step| step.tick)).or_else(|| beats.next().map(|beat| beat.tick));
            if let Some(tick) = left {
                let problem = format!(
                    "it has something for tick {tick}, which is out of order or outside {} to {}",
                    flush.first, flush.last
                );
                return Err(RecoveryError::Broken { match_id, seq: header.seq, problem });
            }
        }
        state.ended = None;
        for decision in &flush.decisions {
            match decision {
                Decision::End { reason, .. } => state.ended = Some(reason.clone()),
                Decision::Slowdown { periods, .. } => state.slowdown = *periods,
                Decision::Quarantine { .. } | Decision::OtherBuild { .. } => {}
            }
        }
        state.seq = header.seq;
        state.crc = frame.crc;
        Ok(())
    }
}

/// Compares a tick of this build with the hash that it recorded, if it did.
fn check_own(
    state: &mut Replayed,
    match_id: MatchId,
    beat: Option<&Beat>,
) -> Result<(), RecoveryError> {
    let Some(&Beat { tick, hash: recorded }) = beat else { return Ok(()) };
    let computed = state.sim.state_hash();
    if computed != recorded {
        let source_of = "journal";
        return Err(RecoveryError::HashMismatch { match_id, tick, recorded, computed, source_of });
    }
    state.beats_checked += 1;
    state.hashes.push(Beat { tick, hash: computed });
    Ok(())
}
