//! The journal of one match as the store has it in the end, and an independent re-simulation of it.
//!
//! Made by a simulation when it is over. It shares no code with recovery: it reads batches frame by
//! frame, knows nothing of checkpoints, and computes the whole match again from tick 0.

use std::collections::BTreeMap;

use rekindle_schema::batch::{Batch, BatchView, Frame};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{Decision, Effect, Event, Flush, Step};
use rekindle_schema::{BatchNo, Epoch, Incarnation, Seq, SessionId, StateHash, Tick};
use rekindle_sim::{GameType, Simulation};

use crate::oracle::{Rule, Violation};

/// One record with what its frame says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Under which ownership it was written.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// What it says.
    pub flush: Flush,
}

/// The whole journal of one match, in order, from its first tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    /// All records.
    pub records: Vec<Record>,
}

/// All batches that were ever written to each log, also those that were trimmed since, ascending by
/// number, up to the seal where there is one.
pub type Logs = BTreeMap<Incarnation, BTreeMap<BatchNo, Batch>>;

impl Account {
    /// Reads what the lineage of `lease` names from `logs`, ignoring what lies behind the `seals`.
    /// Everything that is wrong with it is reported: unreadable batches, missing or doubled
    /// numbers, broken chains of checksums, ticks that do not follow.
    pub fn read(
        lease: &MatchLease,
        logs: &Logs,
        seals: &BTreeMap<Incarnation, BatchNo>,
    ) -> (Self, Vec<Violation>) {
        let mut problems = vec![];
        let mut bad = |detail: String| {
            problems.push(Violation::new(
                Rule::JournalWhole,
                format!("match {}: {detail}", lease.match_id.short()),
            ));
        };
        let mut records: Vec<Record> = vec![];
        for stretch in &lease.lineage {
            let seal = seals.get(&stretch.incarnation).copied().unwrap_or(BatchNo(u64::MAX));
            let mut last_crc = 0;
            for (number, batch) in logs
                .get(&stretch.incarnation)
                .into_iter()
                .flatten()
                .filter(|&(number, _)| *number <= seal)
            {
                let view = match BatchView::parse(&batch.bytes) {
                    Ok(view) => view,
                    Err(error) => {
                        bad(format!("batch {number} of log {}: {error}", stretch.incarnation));
                        continue;
                    }
                };
                for frame in view.frames(lease.match_id, stretch.epoch) {
                    if frame.header.prev_crc != last_crc {
                        bad(format!(
                            "record {} follows a record with another checksum than the one before \
                             it",
                            frame.header.seq
                        ));
                    }
                    last_crc = frame.crc;
                    if *number < stretch.first_batch || frame.header.seq < stretch.first_seq {
                        bad(format!(
                            "record {} lies before the start that the lineage names for epoch {}",
                            frame.header.seq, stretch.epoch
                        ));
                    }
                    match record(frame) {
                        Ok(record) => records.push(record),
                        Err(error) => bad(error),
                    }
                }
            }
        }
        let account = Self { records };
        problems.extend(
            account.gaps().into_iter().map(|detail| Violation::new(Rule::JournalWhole, detail)),
        );
        (account, problems)
    }

    /// Where numbers or ticks do not follow each other, in words.
    pub fn gaps(&self) -> Vec<String> {
        let mut problems = vec![];
        let (mut seq, mut tick, mut epoch) = (Seq(0), Tick(0), Epoch(0));
        for Record { epoch: of, seq: number, flush } in &self.records {
            if *number != seq.next() {
                problems.push(format!("record {number} follows record {seq}"));
            }
            if *of < epoch {
                problems
                    .push(format!("record {number} of epoch {of} follows one of epoch {epoch}"));
            }
            if flush.first != tick.next() || flush.last.0 + 1 < flush.first.0 {
                problems.push(format!(
                    "record {number} has ticks {} to {} behind tick {tick}",
                    flush.first, flush.last
                ));
            }
            let inside = |tick: Tick| flush.first <= tick && tick <= flush.last;
            if !flush.steps.iter().all(|step| inside(step.tick))
                || !flush.steps.is_sorted_by(|one, next| one.tick < next.tick)
            {
                problems.push(format!(
                    "record {number} has steps that are not among its ticks {} to {}, or not in \
                     order",
                    flush.first, flush.last
                ));
            }
            (seq, tick, epoch) = (*number, flush.last.max(tick), *of);
        }
        problems
    }

    /// The last tick that is in the journal.
    pub fn last_tick(&self) -> Tick {
        self.records.last().map_or(Tick(0), |record| record.flush.last)
    }

    /// Under which ownership the record with this tick was written.
    pub fn epoch_of(&self, tick: Tick) -> Option<Epoch> {
        let index = self.records.partition_point(|record| record.flush.last < tick);
        self.records
            .get(index)
            .filter(|record| record.flush.first <= tick)
            .map(|record| record.epoch)
    }

    /// All steps with something in them.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.records.iter().flat_map(|record| &record.flush.steps)
    }

    /// Makes every tick of the journal again, from a new match of this game, and notes what came of
    /// it.
    pub fn resimulate(
        &self,
        game: &dyn GameType,
        lease: &MatchLease,
    ) -> Result<Recomputed, String> {
        let mut sim = game
            .create_at(&lease.spec.config, lease.spec.seed, lease.spec.tick_rate)
            .map_err(|error| error.to_string())?;
        let mut steps: BTreeMap<Tick, &Step> = self.steps().map(|step| (step.tick, step)).collect();
        let mut seen = Recomputed::default();
        seen.note(&*sim, Tick(0));
        for number in 1..=self.last_tick().0 {
            let tick = Tick(number);
            let nothing = Step { tick, ..Step::default() };
            let step = steps.remove(&tick).unwrap_or(&nothing);
            let output = sim.step(step).map_err(|error| error.to_string())?;
            for (command, accepted) in step.commands.iter().zip(&output.commands) {
                seen.commands.insert((command.session, command.seq), (tick, *accepted));
            }
            seen.events.extend(
                output.events.into_iter().map(|event| ((event.tick, event.ordinal), event)),
            );
            seen.effects.extend(output.effects);
            seen.note(&*sim, tick);
        }
        Ok(seen)
    }

    /// Inputs that were left out because they make a system panic.
    pub fn quarantined(&self) -> usize {
        let decisions = self.records.iter().flat_map(|record| &record.flush.decisions);
        decisions.filter(|decision| matches!(decision, Decision::Quarantine { .. })).count()
    }
}

fn record(frame: &Frame) -> Result<Record, String> {
    let header = &frame.header;
    let flush =
        Flush::decode(&frame.payload).map_err(|error| format!("record {}: {error}", header.seq))?;
    if (header.first_tick, header.last_tick) != (flush.first, flush.last) {
        return Err(format!(
            "record {}: its header says ticks {} to {}, its payload {} to {}",
            header.seq, header.first_tick, header.last_tick, flush.first, flush.last
        ));
    }
    Ok(Record { epoch: header.epoch, seq: header.seq, flush })
}

/// What a re-simulation computed.
#[derive(Debug, Clone, Default)]
pub struct Recomputed {
    /// The hash after every tick.
    pub hashes: BTreeMap<Tick, StateHash>,
    /// The networked world after every tick.
    pub views: BTreeMap<Tick, NetView>,
    /// When each command was applied, and whether the game accepted it.
    pub commands: BTreeMap<(SessionId, u64), (Tick, bool)>,
    /// Every event.
    pub events: BTreeMap<(Tick, u32), Event>,
    /// Every effect, in order.
    pub effects: Vec<Effect>,
}

impl Recomputed {
    fn note(&mut self, sim: &dyn Simulation, tick: Tick) {
        self.hashes.insert(tick, sim.state_hash());
        let mut view = NetView::default();
        sim.extract(&mut view);
        self.views.insert(tick, view);
    }
}
