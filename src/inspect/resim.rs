//! Simulates a history again, step by step, from what its records say.
//!
//! Deliberately not the code that recovers matches: a fault there must not hide itself here. Pure
//! but for what the visitor does.

use std::fmt;

use rekindle_schema::batch::Frame;
use rekindle_schema::codec::CodecError;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::record::{Flush, Step};
use rekindle_schema::{MatchId, Seq, StateHash, Tick};
use rekindle_sim::{SimError, Simulation, StepOutput};
use rekindle_store::history::{self, End, HistoryError, LoadOptions, Start};
use rekindle_store::{Store, StoreError};

/// Why a history cannot be simulated to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResimError {
    /// A record is not what its format says, behind a checksum that is right.
    #[error("RK-VERIFY-001: match {match_id}, record {seq}: {error}")]
    Record {
        /// The match whose history is simulated.
        match_id: MatchId,
        /// The number of the record in the history of its match.
        seq: Seq,
        /// What the decoder found.
        error: CodecError,
    },
    /// A record's ticks do not follow those before it.
    #[error(
        "RK-VERIFY-002: match {match_id}, record {seq}: it covers ticks {first} to {last}, \
         expected was {expected}"
    )]
    Ticks {
        /// The match whose history is simulated.
        match_id: MatchId,
        /// The number of the record in the history of its match.
        seq: Seq,
        /// Its first tick.
        first: Tick,
        /// Its last tick.
        last: Tick,
        /// The tick that should come first.
        expected: Tick,
    },
    /// A step or beat lies outside the ticks of its record, or out of order.
    #[error("RK-VERIFY-003: match {match_id}, record {seq}: {what} of tick {tick} is out of place")]
    Misplaced {
        /// The match whose history is simulated.
        match_id: MatchId,
        /// The number of the record in the history of its match.
        seq: Seq,
        /// Step or beat.
        what: &'static str,
        /// Its tick.
        tick: Tick,
    },
    /// The game cannot repeat a step.
    #[error("RK-VERIFY-004: match {match_id}: {error}")]
    Sim {
        /// The match whose history is simulated.
        match_id: MatchId,
        /// What the game said.
        error: SimError,
    },
}

/// A record, decoded.
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// What it says.
    pub flush: Flush,
}

/// Decodes a record and checks that it is in order in itself.
pub fn decode(frame: &Frame) -> Result<Record, ResimError> {
    let (match_id, seq) = (frame.header.match_id, frame.header.seq);
    let flush = Flush::decode(&frame.payload).map_err(|error| ResimError::Record {
        match_id,
        seq,
        error,
    })?;
    let misplaced = |what, tick| ResimError::Misplaced { match_id, seq, what, tick };
    if (flush.first, flush.last) != (frame.header.first_tick, frame.header.last_tick) {
        let (first, last) = (flush.first, flush.last);
        return Err(ResimError::Ticks {
            match_id,
            seq,
            first,
            last,
            expected: frame.header.first_tick,
        });
    }
    let mut before = None;
    for tick in flush.steps.iter().map(|step| step.tick) {
        if tick < flush.first || tick > flush.last || before >= Some(tick) {
            return Err(misplaced("the step", tick));
        }
        before = Some(tick);
    }
    if let Some(beat) =
        flush.beats.iter().find(|beat| beat.tick < flush.first || beat.tick > flush.last)
    {
        return Err(misplaced("the beat", beat.tick));
    }
    Ok(Record { seq, flush })
}

/// One tick as it was made again.
pub struct Moment<'a> {
    /// The world after it.
    pub sim: &'a dyn Simulation,
    /// What it was made from.
    pub step: &'a Step,
    /// What it brought forth.
    pub output: &'a StepOutput,
    /// The record that says so.
    pub record: &'a Record,
}

/// A hash that the simulation does not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// After which tick.
    pub tick: Tick,
    /// What the simulation gives.
    pub computed: StateHash,
    /// What was recorded.
    pub recorded: StateHash,
    /// Who recorded it: the journal or a checkpoint.
    pub by: &'static str,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tick, computed, recorded, by } = self;
        write!(f, "tick {tick}: the simulation gives hash {computed}, the {by} says {recorded}")
    }
}

impl Moment<'_> {
    /// The beats of the journal at this tick, each with what it contradicts. Whoever makes ticks
    /// again looks at all of them.
    pub fn beats(&self) -> impl Iterator<Item = Option<Mismatch>> {
        let tick = self.sim.tick();
        let mut computed = None;
        self.record.flush.beats.iter().filter(move |beat| beat.tick == tick).map(move |beat| {
            // Hashing a world costs more than a tick of it.
            let computed = *computed.get_or_insert_with(|| self.sim.state_hash());
            (computed != beat.hash).then_some(Mismatch {
                tick,
                computed,
                recorded: beat.hash,
                by: "journal",
            })
        })
    }
}

/// What the journal's beat says of a checkpoint at `tick`, whose last record is `seq`, if it says
/// something else than `hash`. `None` also when there is no beat, or the record is no longer there.
pub async fn contradicted(
    store: &Store,
    lease: &MatchLease,
    (seq, tick, hash): (Seq, Tick, StateHash),
) -> Result<Option<Mismatch>, StoreError> {
    let one = LoadOptions { start: Start::Seq(seq), end: End::Seq(seq) };
    let frames = match history::load(store, lease, &one).await {
        Ok(history) => history.frames,
        Err(HistoryError::Store(error)) if error.is_transient() => return Err(error),
        Err(_) => return Ok(None),
    };
    let records = frames
        .iter()
        .filter(|frame| frame.header.seq == seq)
        .filter_map(|frame| decode(frame).ok());
    let beat = records
        .flat_map(|record| record.flush.beats)
        .find(|beat| beat.tick == tick && beat.hash != hash);
    Ok(beat.map(|beat| Mismatch { tick, computed: hash, recorded: beat.hash, by: "journal" }))
}

/// Makes every tick of `frames` behind where `sim` stands. `visit` sees each and says whether to go
/// on. Returns the state at the end.
pub fn run(
    mut sim: Box<dyn Simulation>,
    match_id: MatchId,
    frames: &[Frame],
    mut visit: impl FnMut(Moment<'_>) -> bool,
) -> Result<Box<dyn Simulation>, ResimError> {
    for frame in frames {
        let record = decode(frame)?;
        let (first, last) = (record.flush.first, record.flush.last);
        if first != sim.tick().next() || last < first {
            return Err(ResimError::Ticks {
                match_id,
                seq: record.seq,
                first,
                last,
                expected: sim.tick().next(),
            });
        }
        let mut steps = record.flush.steps.iter().peekable();
        for tick in (first.0..=last.0).map(Tick) {
            let empty = Step { tick, ..Step::default() };
            let step = steps.next_if(|step| step.tick == tick).unwrap_or(&empty);
            let output = &sim.step(step).map_err(|error| ResimError::Sim { match_id, error })?;
            if !visit(Moment { sim: &*sim, step, output, record: &record }) {
                return Ok(sim);
            }
        }
    }
    Ok(sim)
}
