//! A match's history, put together from its checkpoints and the logs that its lineage names.
//!
//! Recovery, `journal`, `replay` and `verify` call it. It decides nothing about ownership: it reads what the lease says and refuses a
//! history with a hole in it. Each log is streamed once, in chunks, for all matches asked for; what belongs to other matches is dropped.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use rekindle_schema::batch::{BatchView, Frame};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{Lineage, MatchLease};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, Tick};

use crate::Store;
use crate::chains::Restorer;
use crate::port::StoreError;

/// How many bytes of a log are in memory at once.
const CHUNK: usize = 4 << 20;
/// How many damaged batches in a row are stepped over in search of one that can be read.
const MAX_HOLES: u32 = 1_000;
/// How many checkpoints are looked up at the same time.
const LOOKUPS: usize = 8;

/// Where a history begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// With the newest usable checkpoint that is not behind the end; without one, with the first record.
    #[default]
    Newest,
    /// With this record, without a checkpoint.
    Seq(Seq),
    /// With the first record, without a checkpoint.
    Beginning,
}

/// Where a history ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// With the last record.
    #[default]
    Newest,
    /// With this record.
    Seq(Seq),
    /// With the record that covers this tick.
    Tick(Tick),
}

/// What to load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where to begin.
    pub start: Start,
    /// Where to end.
    pub end: End,
}

/// All that a match can be rebuilt from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// What to restore first, put together if it is a delta; `None`: begin with the world as set up by the match's spec.
    pub checkpoint: Option<(CheckpointMeta, Bytes)>,
    /// The records after it, ascending by seq without gaps, each checked.
    pub frames: Vec<Frame>,
    /// The record that the full checkpoint under `checkpoint` covers: the checkpoint's own, unless it is a delta.
    pub root: Option<Seq>,
    /// What went wrong without doing harm: a damaged checkpoint that an older one stands in for.
    pub notes: Vec<String>,
}

/// Why a match's history cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A damaged part of a log may hold records of the match.
    #[error("RK-STORE-020: match {match_id}: records from seq {seq} on may lie in a damaged part of log {log}: {problem}")]
    Damaged {
        /// Which match.
        match_id: MatchId,
        /// The first record that could not be read.
        seq: Seq,
        /// In which log.
        log: Incarnation,
        /// Batch, file and offset, and which check failed.
        problem: String,
    },
    /// Records are missing.
    #[error("RK-STORE-021: match {match_id}: record {expected} is missing in log {log}: {found}; run `rekindle verify`")]
    Gap {
        /// Which match.
        match_id: MatchId,
        /// In which log it should be.
        log: Incarnation,
        /// Which record.
        expected: Seq,
        /// What is there instead, with its batch.
        found: String,
    },
    /// A record does not continue the one before it.
    #[error(
        "RK-STORE-022: match {match_id}: record {seq} in batch {batch} of log {log} carries {found:08x} as the checksum of the record before it, which has {expected:08x}"
    )]
    Chain {
        /// Which match.
        match_id: MatchId,
        /// In which log.
        log: Incarnation,
        /// In which batch.
        batch: BatchNo,
        /// Which record.
        seq: Seq,
        /// What it says.
        found: u32,
        /// What it should say.
        expected: u32,
    },
}

impl History {
    /// The last record whose effect is in it; `Seq(0)` if nothing was ever recorded.
    pub fn last_seq(&self) -> Seq {
        let frame = self.frames.last().map(|frame| frame.header.seq);
        frame.or_else(|| self.checkpoint.as_ref().map(|(meta, _)| meta.seq)).unwrap_or_default()
    }
}

/// Loads the history of one match.
pub async fn load(store: &Store, lease: &MatchLease, options: &LoadOptions) -> Result<History, HistoryError> {
    let mut all = load_many(store, std::slice::from_ref(lease), options).await;
    all.pop().unwrap_or_else(|| Ok(History::default()))
}

/// Loads the histories of many matches and reads each log once. The results stand in the order of `leases`; a damaged log fails only those
/// matches that may have records in the damaged part.
pub async fn load_many(store: &Store, leases: &[MatchLease], options: &LoadOptions) -> Vec<Result<History, HistoryError>> {
    match load_all(store, leases, *options).await {
        Ok(results) => results,
        Err(error) => leases.iter().map(|_| Err(error.clone().into())).collect(),
    }
}

async fn load_all(store: &Store, leases: &[MatchLease], options: LoadOptions) -> Result<Vec<Result<History, HistoryError>>, StoreError> {
    // Boxed: behind a reference in a closure the future would not be `Send` for callers that spawn this.
    let lookups: Vec<_> = leases.iter().map(|lease| Base::find(store, lease, options).boxed()).collect();
    let bases: Vec<Result<Base, StoreError>> = futures::stream::iter(lookups).buffered(LOOKUPS).collect().await;
    let bases: Vec<Base> = bases.into_iter().collect::<Result<_, _>>()?;

    let mut logs: BTreeMap<Incarnation, BTreeMap<(MatchId, Epoch), Stretch>> = BTreeMap::new();
    for (lease, base) in leases.iter().zip(&bases) {
        for stretch in Stretch::plan(lease, base, options.end) {
            logs.entry(stretch.log).or_default().insert((stretch.match_id, stretch.epoch), stretch);
        }
    }
    let first_batches: BTreeMap<Incarnation, BatchNo> =
        store.journal.logs().await?.into_iter().map(|info| (info.log, info.first)).collect();
    for (&log, stretches) in &mut logs {
        let seal = store.leases.node(log).await?.and_then(|lease| lease.seal);
        read_log(store, log, first_batches.get(&log).copied(), seal, stretches).await?;
    }

    let finish = |(lease, base): (&MatchLease, Base)| {
        let mine = |line: &Lineage| logs.get_mut(&line.incarnation)?.remove(&(lease.match_id, line.epoch));
        let stretches: Vec<Stretch> = lease.lineage.iter().filter_map(mine).collect();
        assemble(lease, base, stretches, options.end)
    };
    Ok(leases.iter().zip(bases).map(finish).collect())
}

/// Where replay begins.
struct Base {
    checkpoint: Option<(CheckpointMeta, Bytes)>,
    root: Option<Seq>,
    /// The first record that is needed.
    next: Seq,
    notes: Vec<String>,
}

impl Base {
    async fn find(store: &Store, lease: &MatchLease, options: LoadOptions) -> Result<Self, StoreError> {
        let next = match options.start {
            Start::Newest => return Self::newest(store, lease, options.end).await,
            Start::Seq(seq) => seq.max(Seq(1)),
            Start::Beginning => Seq(1),
        };
        Ok(Self { checkpoint: None, root: None, next, notes: Vec::new() })
    }

    async fn newest(store: &Store, lease: &MatchLease, end: End) -> Result<Self, StoreError> {
        let (found, damaged) = store.checkpoints.list(lease.match_id).await?;
        let passed_over = |error: &StoreError| format!("a checkpoint that cannot be read was passed over: {error}");
        let mut notes: Vec<String> = damaged.iter().map(passed_over).collect();
        // Of a failing device an older checkpoint may still be had; the first record, behind trimmed logs, may not.
        let mut device = damaged.into_iter().find(|error| matches!(error, StoreError::Io { .. }));
        let in_time = |meta: &CheckpointMeta| match end {
            End::Newest => true,
            End::Seq(seq) => meta.seq <= seq,
            End::Tick(tick) => meta.tick <= tick,
        };
        let mut restorer = Restorer::new(&*store.checkpoints, &found);
        for meta in found.iter().filter(|meta| in_lineage(lease, meta) && in_time(meta)) {
            match restorer.restore(meta).await {
                Ok((root, state)) => {
                    let root = Some(root.seq);
                    return Ok(Self { next: meta.seq.next(), checkpoint: Some((meta.clone(), state)), root, notes });
                }
                Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_))) => notes.push(passed_over(&error)),
                Err(error @ StoreError::Io { .. }) => {
                    notes.push(passed_over(&error));
                    device.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        device.map_or(Ok(Self { checkpoint: None, root: None, next: Seq(1), notes }), Err)
    }
}

/// A checkpoint counts only if its owner owned the match when the record that it covers was written.
pub fn in_lineage(lease: &MatchLease, meta: &CheckpointMeta) -> bool {
    let Some(index) = lease.lineage.iter().position(|line| (line.epoch, line.incarnation) == (meta.epoch, meta.log)) else {
        return false;
    };
    let begins = meta.seq.next() >= lease.lineage[index].first_seq;
    begins && lease.lineage.get(index + 1).is_none_or(|next| meta.seq < next.first_seq)
}

/// One line of a lineage while its log is read.
struct Stretch {
    match_id: MatchId,
    epoch: Epoch,
    log: Incarnation,
    /// No record that is needed lies in an earlier batch.
    first_batch: BatchNo,
    /// The first record of the stretch, whose `prev_crc` is 0.
    first_seq: Seq,
    /// The record that is needed next.
    next: Seq,
    /// The first record that no longer belongs to the stretch, if another stretch follows.
    limit: Option<Seq>,
    end: End,
    frames: Vec<Frame>,
    done: bool,
    /// A hole in the log since the last record that was read.
    hole: Option<String>,
    failed: Option<HistoryError>,
}

impl Stretch {
    fn plan(lease: &MatchLease, base: &Base, end: End) -> Vec<Self> {
        let mut planned = Vec::new();
        for (index, line) in lease.lineage.iter().enumerate() {
            let limit = lease.lineage.get(index + 1).map(|next| next.first_seq);
            let over = limit.is_some_and(|limit| limit <= base.next.max(line.first_seq));
            let behind_end = matches!(end, End::Seq(seq) if line.first_seq.max(base.next) > seq);
            if over || behind_end {
                continue;
            }
            let checkpoint = base.checkpoint.as_ref().map(|(meta, _)| meta);
            let here = checkpoint.filter(|meta| (meta.epoch, meta.log) == (line.epoch, line.incarnation));
            planned.push(Self {
                match_id: lease.match_id,
                epoch: line.epoch,
                log: line.incarnation,
                first_batch: here.map_or(line.first_batch, |meta| meta.batch.max(line.first_batch)),
                first_seq: line.first_seq,
                next: line.first_seq.max(base.next),
                limit,
                end,
                frames: Vec::new(),
                done: false,
                hole: None,
                failed: None,
            });
        }
        planned
    }

    fn open(&self) -> bool {
        !self.done && self.failed.is_none()
    }

    fn take(&mut self, frame: &Frame, batch: BatchNo) {
        let seq = frame.header.seq;
        if !self.open() || seq < self.next && self.frames.is_empty() {
            return;
        }
        if seq != self.next {
            return self.gap(format!("batch {batch} goes on with record {seq}"));
        }
        let before = if seq == self.first_seq { Some(0) } else { self.frames.last().map(|last| last.crc) };
        if let Some(expected) = before.filter(|&expected| expected != frame.header.prev_crc) {
            let found = frame.header.prev_crc;
            self.failed = Some(HistoryError::Chain { match_id: self.match_id, log: self.log, batch, seq, found, expected });
            return;
        }
        self.hole = None;
        let payload = Bytes::copy_from_slice(&frame.payload);
        self.frames.push(Frame { payload, ..frame.clone() });
        self.next = seq.next();
        self.done = self.limit == Some(self.next)
            || match self.end {
                End::Newest => false,
                End::Seq(end) => seq >= end,
                End::Tick(tick) => frame.header.last_tick >= tick,
            };
    }

    fn gap(&mut self, found: String) {
        let (match_id, log) = (self.match_id, self.log);
        self.failed = Some(match self.hole.take() {
            Some(problem) => HistoryError::Damaged { match_id, seq: self.next, log, problem },
            None => HistoryError::Gap { match_id, log, expected: self.next, found },
        });
    }

    /// The log has no more records.
    fn close(&mut self) {
        if self.open() && (self.limit.is_some() || self.hole.is_some()) {
            self.gap("the log ends before it".to_owned());
        }
    }
}

/// Streams one log past all stretches that lie in it.
async fn read_log(
    store: &Store,
    log: Incarnation,
    first: Option<BatchNo>,
    seal: Option<BatchNo>,
    stretches: &mut BTreeMap<(MatchId, Epoch), Stretch>,
) -> Result<(), StoreError> {
    let begin = stretches.values().map(|stretch| stretch.first_batch).min().unwrap_or_default();
    for stretch in stretches.values_mut() {
        if let Some(first) = first.filter(|&first| stretch.first_batch.max(BatchNo(1)) < first) {
            stretch.hole = Some(format!("batches before {first} are no longer there"));
        }
    }
    let mut next = begin.max(first.unwrap_or(BatchNo(1))).max(BatchNo(1));
    let mut before: Option<u32> = None;
    let mut holes = 0;
    let mut waiting: BTreeSet<(MatchId, Epoch)> = stretches.keys().copied().collect();
    while first.is_some() && !waiting.is_empty() && seal.is_none_or(|seal| next <= seal) {
        let batches = match store.journal.read(log, next, CHUNK).await {
            Ok(batches) => batches,
            Err(error @ StoreError::Corrupt { .. }) if holes < MAX_HOLES => {
                holes += 1;
                before = None;
                damage(stretches, &waiting, &format!("batch {next}: {error}"));
                next = next.next();
                continue;
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                damage(stretches, &waiting, &format!("batch {next}: {error}"));
                break;
            }
            Err(error @ StoreError::NotFound(_)) => {
                let now = store.journal.logs().await?.into_iter().find(|info| info.log == log).map(|info| info.first);
                let Some(first) = now else { break };
                if first <= next {
                    return Err(error);
                }
                damage(stretches, &waiting, &format!("batches before {first} are no longer there"));
                (before, next) = (None, first);
                continue;
            }
            Err(error) => return Err(error),
        };
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            if seal.is_some_and(|seal| batch.number > seal) {
                break;
            }
            let view = match BatchView::parse(&batch.bytes) {
                Ok(view) => view,
                Err(error) => return Err(StoreError::Corrupt { place: format!("log {log}, batch {next}"), problem: error.to_string() }),
            };
            if view.number() != next || before.is_some_and(|crc| crc != view.prev_crc()) {
                damage(stretches, &waiting, &format!("batch {} does not follow the one before it", view.number()));
            }
            (before, next) = (Some(view.crc()), view.number().next());
            for line in view.directory() {
                let key = (line.match_id, line.epoch);
                let Some(stretch) = stretches.get_mut(&key) else { continue };
                for frame in view.frames(line.match_id, line.epoch) {
                    stretch.take(frame, view.number());
                }
                if !stretch.open() {
                    waiting.remove(&key);
                }
            }
        }
    }
    if let Some(seal) = seal
        && next <= seal
    {
        damage(stretches, &waiting, &format!("the log is sealed at batch {seal}, but nothing can be read from batch {next} on"));
    }
    stretches.values_mut().for_each(Stretch::close);
    Ok(())
}

/// Any record of the matches that are still being read may lie in what cannot be read.
fn damage(stretches: &mut BTreeMap<(MatchId, Epoch), Stretch>, waiting: &BTreeSet<(MatchId, Epoch)>, problem: &str) {
    for key in waiting {
        if let Some(stretch) = stretches.get_mut(key) {
            stretch.hole.get_or_insert_with(|| problem.to_owned());
        }
    }
}

fn assemble(lease: &MatchLease, base: Base, stretches: Vec<Stretch>, end: End) -> Result<History, HistoryError> {
    let mut history = History { checkpoint: base.checkpoint, root: base.root, frames: Vec::new(), notes: base.notes };
    let mut next = base.next;
    for stretch in stretches {
        if let Some(error) = stretch.failed {
            return Err(error);
        }
        let begins = stretch.next.0 - stretch.frames.len() as u64;
        if begins != next.0 {
            let found = format!("this owner's records begin with {begins}");
            return Err(HistoryError::Gap { match_id: lease.match_id, log: stretch.log, expected: next, found });
        }
        next = stretch.next;
        history.frames.extend(stretch.frames);
        let reached = |tick| history.frames.last().is_some_and(|frame| frame.header.last_tick >= tick);
        if matches!(end, End::Tick(tick) if reached(tick)) {
            break;
        }
    }
    match end {
        End::Seq(seq) if next <= seq => history.notes.push(format!("the journal ends with record {}, before {seq}", next.0 - 1)),
        End::Tick(tick) if history.frames.last().is_some_and(|frame| frame.header.last_tick < tick) => {
            history.notes.push(format!("the journal ends before tick {tick}"));
        }
        _ => {}
    }
    Ok(history)
}
