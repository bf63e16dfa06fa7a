//! What a match has executed and the journal has not yet taken.
//!
//! Ticks gather in one open record; it is closed when the journal takes it, when a checkpoint must
//! name it, or when it is large. So a slow store gets few large records and a fast one gets a
//! record per tick, and neither makes this grow without the match noticing.

use std::collections::VecDeque;

use rekindle_schema::record::{Beat, Decision, Effect, Event, Flush, PartSums, Shown, Step};
use rekindle_schema::{Seq, Tick};

/// An open record is closed at about this size in bytes.
const RECORD_BYTES: usize = 256 << 10;
/// One tick may take so many bytes in the journal. It is less than a record may have by more than
/// what an open record holds before it is closed, so that no record is ever too large for the
/// journal, which serves all matches.
pub const MAX_TICK_BYTES: usize = 2 << 20;

/// One executed tick, as the journal needs it.
#[derive(Debug, Default, Clone)]
pub struct TickRecord {
    /// Exactly what was applied.
    pub step: Step,
    /// The hash, if one was due.
    pub beat: Option<Beat>,
    /// Sums of the state's parts, for a hash, if the game has any.
    pub parts: Option<PartSums>,
    /// What was made of it for players to see, in short, if anybody was there.
    pub shown: Option<Shown>,
    /// Facts.
    pub events: Vec<Event>,
    /// Effects asked for.
    pub effects: Vec<Effect>,
    /// Decisions from outside.
    pub decisions: Vec<Decision>,
}

impl TickRecord {
    /// About how many bytes it takes, for bounds.
    pub fn weight(&self) -> usize {
        let step = &self.step;
        32 + step.joins.len() * 64
            + step.leaves.len() * 24
            + step.inputs.iter().map(|input| 32 + input.payload.len()).sum::<usize>()
            + step.commands.iter().map(|command| 32 + command.payload.len()).sum::<usize>()
            + step.effects_done.len() * 12
            + self
                .events
                .iter()
                .map(|event| 32 + event.kind.len() + event.payload.len())
                .sum::<usize>()
            + self
                .effects
                .iter()
                .map(|effect| 32 + effect.kind.len() + effect.payload.len())
                .sum::<usize>()
            + self.decisions.iter().map(decision_weight).sum::<usize>()
            + self.parts.iter().map(|parts| 16 + parts.sums.len() * 5).sum::<usize>()
            + self.shown.iter().len() * 14
    }
}

fn decision_weight(decision: &Decision) -> usize {
    match decision {
        Decision::Quarantine { reason, .. } | Decision::End { reason, .. } => 64 + reason.len(),
        Decision::OtherBuild { .. } => 64,
        Decision::Slowdown { .. } => 16,
    }
}

/// One numbered record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its number in the match's journal.
    pub seq: Seq,
    /// Its content.
    pub flush: Flush,
    /// About how many bytes it takes.
    pub weight: usize,
}

/// Records on their way to the journal.
#[derive(Debug)]
pub struct Outbox {
    next_seq: Seq,
    closed: VecDeque<Record>,
    open: Option<(Flush, usize)>,
}

impl Outbox {
    /// For a match whose next record is `next_seq`.
    pub fn new(next_seq: Seq) -> Self {
        Self { next_seq, closed: VecDeque::new(), open: None }
    }

    /// Adds a tick; returns its weight in bytes.
    pub fn push(&mut self, record: TickRecord) -> usize {
        let weight = record.weight();
        let tick = record.step.tick;
        let begun = || Flush { first: tick, shown: Some(Vec::new()), ..Flush::default() };
        let (flush, total) = self.open.get_or_insert_with(|| (begun(), 0));
        flush.last = tick;
        if !record.step.is_empty() {
            flush.steps.push(record.step);
        }
        flush.beats.extend(record.beat);
        flush.events.extend(record.events);
        flush.effects.extend(record.effects);
        flush.decisions.extend(record.decisions);
        flush.parts.extend(record.parts);
        flush.shown.get_or_insert_default().extend(record.shown);
        *total += weight;
        if *total >= RECORD_BYTES {
            self.cut();
        }
        weight
    }

    /// Closes the open record and returns the number of the last record: all that was pushed so far
    /// is in it or before it.
    pub fn cut(&mut self) -> Seq {
        if let Some((flush, weight)) = self.open.take() {
            self.closed.push_back(Record { seq: self.next_seq, flush, weight });
            self.next_seq = self.next_seq.next();
        }
        Seq(self.next_seq.0 - 1)
    }

    /// Takes the oldest record; the open one last.
    pub fn take(&mut self) -> Option<Record> {
        if self.closed.is_empty() {
            self.cut();
        }
        self.closed.pop_front()
    }

    /// Puts back a record that found no room.
    pub fn put_back(&mut self, record: Record) {
        self.closed.push_front(record);
    }

    /// The last tick that was pushed and not taken.
    pub fn newest(&self) -> Option<Tick> {
        self.open
            .as_ref()
            .map(|(flush, _)| flush.last)
            .or_else(|| self.closed.back().map(|record| record.flush.last))
    }
}
