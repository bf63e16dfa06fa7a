//! A match's history, put together from its checkpoints, the archive and the logs that its lineage names.
//!
//! Recovery, `journal`, `replay` and `verify` call it. It decides nothing about ownership: it reads what the lease says and refuses a
//! history with a hole in it. Each log is streamed once, in chunks, for all matches asked for; what belongs to other matches is dropped. Records that
//! the archive has are taken from there, the rest from the logs; a recovery that has a checkpoint does not look into the archive.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use rekindle_schema::archive::{ChunkKind, ChunkMeta};
use rekindle_schema::batch::{BatchView, Frame};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{Lineage, MatchLease};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, Tick};

use crate::Store;
use crate::archive::{self, Placed};
use crate::chains::{Chain, Restorer};
use crate::port::StoreError;

/// How many bytes of a log are in memory at once.
const CHUNK: usize = 4 << 20;
/// How many damaged batches in a row are stepped over in search of one that can be read.
const MAX_HOLES: u32 = 1_000;
/// How many checkpoints are looked up at the same time.
const LOOKUPS: usize = 8;
/// By how much the clocks of owners may differ, in milliseconds: for so long after a point in time, records that were made before it are looked for.
pub const CLOCK_SLACK_MS: u64 = 10 * 60 * 1_000;

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
    /// With the last record whose wall clock is not after this, in milliseconds since 1970, and all before it, whatever their clocks say: the clock of
    /// the next owner may be behind. A record that is more than [`CLOCK_SLACK_MS`] later ends the search.
    Time(u64),
}

impl End {
    /// Whether a history that has this record has all that it needs.
    fn is_reached(self, frame: &Frame) -> bool {
        match self {
            Self::Newest => false,
            Self::Seq(end) => frame.header.seq >= end,
            Self::Tick(tick) => frame.header.last_tick >= tick,
            Self::Time(ms) => frame.header.time_ms > ms.saturating_add(CLOCK_SLACK_MS),
        }
    }

    /// Whether what stands there is certainly not behind the end.
    fn is_after(self, seq: Seq, tick: Tick, time_ms: u64) -> bool {
        match self {
            Self::Newest => true,
            Self::Seq(end) => seq <= end,
            Self::Tick(end) => tick <= end,
            // The record that it covers may have been made a little later than the checkpoint.
            Self::Time(ms) => time_ms.saturating_add(CLOCK_SLACK_MS) <= ms,
        }
    }
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
    /// What went wrong without doing harm: a damaged checkpoint that an older one stands in for, a damaged chunk whose records the log still has.
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
    /// Records that were archived cannot be read, and no log has them.
    #[error("RK-STORE-024: match {match_id}: records from seq {seq} on are in the archive, but cannot be read: {problem}")]
    Archive {
        /// Which match.
        match_id: MatchId,
        /// The first record that could not be read.
        seq: Seq,
        /// What is wrong with the archive.
        problem: String,
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

    let plans = leases.iter().zip(&bases).flat_map(|(lease, base)| Stretch::plan(lease, base, options.end));
    let mut logs = read_logs(store, plans).await?;
    let finish = |(lease, base): (&MatchLease, Base)| assemble(lease, base, taken_out(&mut logs, lease), options.end);
    Ok(leases.iter().zip(bases).map(finish).collect())
}

/// The stretches of lineages, by log.
type Stretches = BTreeMap<Incarnation, BTreeMap<(MatchId, Epoch), Stretch>>;

/// Reads each log once for all stretches in it.
async fn read_logs(store: &Store, plans: impl Iterator<Item = Stretch>) -> Result<Stretches, StoreError> {
    let mut logs: Stretches = BTreeMap::new();
    for stretch in plans {
        logs.entry(stretch.log).or_default().insert((stretch.match_id, stretch.epoch), stretch);
    }
    let first_batches: BTreeMap<Incarnation, BatchNo> =
        store.journal.logs().await?.into_iter().map(|info| (info.log, info.first)).collect();
    for (&log, stretches) in &mut logs {
        let seal = store.leases.node(log).await?.and_then(|lease| lease.seal);
        read_log(store, log, first_batches.get(&log).copied(), seal, stretches).await?;
    }
    Ok(logs)
}

/// What was read of a match, in the order of its lineage.
fn taken_out(logs: &mut Stretches, lease: &MatchLease) -> Vec<Stretch> {
    let mine = |line: &Lineage| logs.get_mut(&line.incarnation)?.remove(&(lease.match_id, line.epoch));
    lease.lineage.iter().filter_map(mine).collect()
}

/// Where in the logs the records behind a checkpoint or a chunk begin: no later one lies in an earlier batch of that log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The ownership.
    pub epoch: Epoch,
    /// Its log.
    pub log: Incarnation,
    /// In that log.
    pub batch: BatchNo,
}

impl From<&CheckpointMeta> for Position {
    fn from(meta: &CheckpointMeta) -> Self {
        Self { epoch: meta.epoch, log: meta.log, batch: meta.batch }
    }
}

impl From<&ChunkMeta> for Position {
    fn from(meta: &ChunkMeta) -> Self {
        Self { epoch: meta.last_epoch, log: meta.log, batch: meta.batch }
    }
}

/// Records that are to be archived.
pub struct Wanted<'a> {
    /// Whose.
    pub lease: &'a MatchLease,
    /// The first.
    pub from: Seq,
    /// Where it is looked for, if that is known.
    pub position: Option<Position>,
    /// The checksum of the record before the first, and its epoch, if they are known.
    pub after: Option<(Epoch, u32)>,
    /// The last.
    pub to: Seq,
    /// Reading ends once the payloads of a match are as long as this, in bytes.
    pub max_bytes: usize,
}

/// Records of matches from the logs alone, with their places, each log read once. What is there is checked as a history is; it may end before the
/// record that was asked for.
pub async fn records_in_logs(store: &Store, wanted: &[Wanted<'_>]) -> Result<Vec<Result<Vec<Placed>, HistoryError>>, StoreError> {
    let base = |wanted: &Wanted<'_>| Base { position: wanted.position, after: wanted.after, ..Base::at(None, wanted.from) };
    let plan = |wanted: &Wanted<'_>| {
        let stretches = Stretch::plan(wanted.lease, &base(wanted), End::Seq(wanted.to));
        let max_bytes = wanted.max_bytes;
        stretches.into_iter().map(move |stretch| Stretch { max_bytes, ..stretch }).collect::<Vec<_>>()
    };
    let mut logs = read_logs(store, wanted.iter().flat_map(plan)).await?;
    let join = |wanted: &Wanted<'_>| {
        let mut next = wanted.from;
        let mut records: Vec<Placed> = Vec::new();
        for stretch in taken_out(&mut logs, wanted.lease) {
            if stretch.begins() != next {
                if stretch.begins() > next && records.is_empty() {
                    let found = format!("this owner's records begin with {}", stretch.begins());
                    return Err(HistoryError::Gap { match_id: wanted.lease.match_id, log: stretch.log, expected: next, found });
                }
                break;
            }
            // What was read before it failed is good.
            next = stretch.next;
            records.extend(stretch.frames);
            if let Some(error) = stretch.failed {
                if records.is_empty() {
                    return Err(error);
                }
                break;
            }
        }
        Ok(records)
    };
    Ok(wanted.iter().map(join).collect())
}

/// Somewhere from where a match can be replayed: a checkpoint, or a state in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The last record whose effect is in it.
    pub seq: Seq,
    /// Where it stands.
    pub tick: Tick,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// It, and the links under it, newest first; the last one has a base if that is not there.
    Checkpoint(Vec<CheckpointMeta>),
    Archive(Box<ChunkMeta>),
}

impl Point {
    /// `list` has the checkpoints that it may rest on.
    fn of_checkpoint(meta: &CheckpointMeta, list: &[CheckpointMeta]) -> Self {
        let chain = Chain::of(meta, list);
        let links = chain.map_or_else(|| vec![meta.clone()], |chain| chain.links().iter().map(|&link| link.clone()).collect());
        Self { seq: meta.seq, tick: meta.tick, source: Source::Checkpoint(links) }
    }

    fn of_chunk(meta: ChunkMeta) -> Self {
        Self { seq: meta.last_seq, tick: meta.last_tick, source: Source::Archive(Box::new(meta)) }
    }

    /// The checkpoint that it is, if it is not in the archive.
    pub fn checkpoint(&self) -> Option<&CheckpointMeta> {
        match &self.source {
            Source::Checkpoint(links) => links.first(),
            Source::Archive(_) => None,
        }
    }

    /// Whether all that it rests on is listed.
    pub fn is_whole(&self) -> bool {
        match &self.source {
            Source::Checkpoint(links) => links.last().is_some_and(|link| link.base.is_none()),
            Source::Archive(_) => true,
        }
    }

    /// The record that the full state under it covers: its own, unless it is a delta.
    fn root(&self) -> Seq {
        match &self.source {
            Source::Checkpoint(links) => links.last().map_or(self.seq, |link| link.seq),
            Source::Archive(_) => self.seq,
        }
    }

    fn time_ms(&self) -> u64 {
        match &self.source {
            Source::Checkpoint(links) => links.first().map_or(0, |meta| meta.time_ms),
            Source::Archive(meta) => meta.last_ms,
        }
    }

    /// Reads it, every checksum checked; a delta is applied to what it rests on.
    pub async fn load(&self, store: &Store) -> Result<(CheckpointMeta, Bytes), StoreError> {
        match &self.source {
            Source::Checkpoint(links) => {
                let tip = links.first().ok_or_else(|| StoreError::NotFound(format!("the checkpoint at seq {}", self.seq)))?;
                let (_, state) = Restorer::new(&*store.checkpoints, links).restore(tip).await?;
                Ok((tip.clone(), state))
            }
            Source::Archive(meta) => archive::state(meta, &store.archive.get(meta).await?),
        }
    }
}

/// From where a match can be replayed, oldest first, and what could not be read of that. Of a checkpoint that is in the archive as well, the
/// former is named.
pub async fn points(store: &Store, lease: &MatchLease) -> Result<(Vec<Point>, Vec<StoreError>), StoreError> {
    let (checkpoints, mut damaged) = store.checkpoints.list(lease.match_id).await?;
    let (chunks, bad) = store.archive.list(lease.match_id).await?;
    damaged.extend(bad);
    let mut points: BTreeMap<Seq, Point> = BTreeMap::new();
    points.extend(chunks.into_iter().filter(|meta| meta.kind == ChunkKind::State).map(|meta| (meta.last_seq, Point::of_chunk(meta))));
    for meta in checkpoints.iter().rev().filter(|meta| in_lineage(lease, meta)) {
        let point = Point::of_checkpoint(meta, &checkpoints);
        // What the archive has is better than a delta whose base is gone.
        if point.is_whole() || !points.contains_key(&meta.seq) {
            points.insert(meta.seq, point);
        }
    }
    Ok((points.into_values().collect(), damaged))
}

/// Where replay begins.
struct Base {
    checkpoint: Option<(CheckpointMeta, Bytes)>,
    root: Option<Seq>,
    /// The first record that is needed of the logs.
    next: Seq,
    /// Where that is looked for.
    position: Option<Position>,
    /// Epoch and checksum of the record before it.
    after: Option<(Epoch, u32)>,
    /// What came from the archive: the records before `next`.
    archived: Vec<Frame>,
    /// It begins behind one of the kept checkpoints.
    in_logs: bool,
    /// The archive has all that was asked for.
    complete: bool,
    /// Why the archive does not have `next`, if it should.
    problem: Option<String>,
    notes: Vec<String>,
}

impl Base {
    fn at(checkpoint: Option<(CheckpointMeta, Bytes)>, next: Seq) -> Self {
        let position = checkpoint.as_ref().map(|(meta, _)| Position::from(meta));
        Self {
            checkpoint,
            root: None,
            next,
            position,
            after: None,
            archived: Vec::new(),
            in_logs: false,
            complete: false,
            problem: None,
            notes: Vec::new(),
        }
    }

    async fn find(store: &Store, lease: &MatchLease, options: LoadOptions) -> Result<Self, StoreError> {
        let mut base = match options.start {
            Start::Newest => Self::newest(store, lease, options.end).await?,
            Start::Seq(seq) => Self::at(None, seq.max(Seq(1))),
            Start::Beginning => Self::at(None, Seq(1)),
        };
        // The records behind the checkpoints that are kept are in the logs.
        if !base.complete && (options.end != End::Newest || !base.in_logs) {
            base.read_archive(store, lease, options.end).await?;
        }
        Ok(base)
    }

    async fn newest(store: &Store, lease: &MatchLease, end: End) -> Result<Self, StoreError> {
        let (found, damaged) = store.checkpoints.list(lease.match_id).await?;
        let passed_over = |error: &StoreError| format!("a checkpoint that cannot be read was passed over: {error}");
        let mut notes: Vec<String> = damaged.iter().map(passed_over).collect();
        // Of a failing device an older checkpoint may still be had; the first record, behind trimmed logs, may not.
        let mut device = damaged.into_iter().find(|error| matches!(error, StoreError::Io { .. }));
        let in_time = |point: &Point| end.is_after(point.seq, point.tick, point.time_ms());
        let checkpoints = found.iter().filter(|meta| in_lineage(lease, meta)).map(|meta| Point::of_checkpoint(meta, &found));
        let mut candidates: Vec<Point> = checkpoints.filter(in_time).collect();
        if candidates.is_empty() || end != End::Newest {
            let (chunks, damaged) = store.archive.list(lease.match_id).await?;
            notes.extend(damaged.iter().map(passed_over));
            candidates.extend(chunks.into_iter().filter(|meta| meta.kind == ChunkKind::State).map(Point::of_chunk).filter(in_time));
            candidates.sort_by_key(|point| std::cmp::Reverse(point.seq));
        }
        for point in candidates {
            match point.load(store).await {
                Ok((meta, state)) => {
                    let next = meta.seq.next();
                    let complete = matches!(end, End::Tick(tick) if meta.tick >= tick);
                    let (root, in_logs) = (Some(point.root()), point.checkpoint().is_some());
                    return Ok(Self { root, in_logs, complete, notes, ..Self::at(Some((meta, state)), next) });
                }
                Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_))) => notes.push(passed_over(&error)),
                Err(error @ StoreError::Io { .. }) => {
                    notes.push(passed_over(&error));
                    device.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        device.map_or(Ok(Self { notes, ..Self::at(None, Seq(1)) }), Err)
    }

    /// Takes from the archive what it has from `next` on. A chunk that cannot be read ends that: the log may still have its records.
    async fn read_archive(&mut self, store: &Store, lease: &MatchLease, end: End) -> Result<(), StoreError> {
        let (chunks, damaged) = store.archive.list(lease.match_id).await?;
        self.problem = damaged.first().map(ToString::to_string);
        for meta in chunks.iter().filter(|meta| meta.kind == ChunkKind::Records) {
            if meta.last_seq < self.next {
                continue;
            }
            if meta.first_seq > self.next || matches!(end, End::Seq(seq) if seq < self.next) {
                break;
            }
            let frames = match store.archive.get(meta).await.and_then(|bytes| archive::records(meta, &bytes)) {
                Ok(frames) => frames,
                Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_) | StoreError::Io { .. })) => {
                    self.problem = Some(error.to_string());
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            for frame in frames {
                if frame.header.seq < self.next {
                    continue;
                }
                let chained =
                    self.archived.last().map_or(Ok(()), |last| archive::follows(last.header.epoch, last.crc, last.header.seq, &frame));
                if let Err(problem) = chained {
                    self.problem = Some(format!("{}: {problem}", archive::place(meta)));
                    return Ok(());
                }
                self.next = frame.header.seq.next();
                self.after = Some((frame.header.epoch, frame.crc));
                self.complete = end.is_reached(&frame);
                self.archived.push(frame);
                if self.complete {
                    return Ok(());
                }
            }
            self.position = Some(Position::from(meta));
            // The last record of a match that has ended.
            self.complete = meta.batch == BatchNo(u64::MAX);
        }
        Ok(())
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
    /// Epoch and checksum of the record before `next`, when that was not read here.
    after: Option<(Epoch, u32)>,
    max_bytes: usize,
    frames: Vec<Placed>,
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
            if over || behind_end || base.complete {
                continue;
            }
            let here = base.position.filter(|position| (position.epoch, position.log) == (line.epoch, line.incarnation));
            planned.push(Self {
                match_id: lease.match_id,
                epoch: line.epoch,
                log: line.incarnation,
                first_batch: here.map_or(line.first_batch, |position| position.batch.max(line.first_batch)),
                first_seq: line.first_seq,
                next: line.first_seq.max(base.next),
                limit,
                end,
                after: base.after,
                max_bytes: usize::MAX,
                frames: Vec::new(),
                done: false,
                hole: None,
                failed: None,
            });
        }
        planned
    }

    /// The first record that was read, or that is needed.
    fn begins(&self) -> Seq {
        Seq(self.next.0 - self.frames.len() as u64)
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
        let after = self.after.filter(|(epoch, _)| *epoch == self.epoch).map(|(_, crc)| crc);
        let before = if seq == self.first_seq { Some(0) } else { self.frames.last().map_or(after, |last| Some(last.frame.crc)) };
        if let Some(expected) = before.filter(|&expected| expected != frame.header.prev_crc) {
            let found = frame.header.prev_crc;
            self.failed = Some(HistoryError::Chain { match_id: self.match_id, log: self.log, batch, seq, found, expected });
            return;
        }
        self.hole = None;
        let payload = Bytes::copy_from_slice(&frame.payload);
        self.max_bytes = self.max_bytes.saturating_sub(payload.len());
        self.frames.push(Placed { frame: Frame { payload, ..frame.clone() }, log: self.log, batch });
        self.next = seq.next();
        self.done = self.limit == Some(self.next) || self.end.is_reached(frame) || self.max_bytes == 0;
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
    let Base { checkpoint, root, mut next, archived, problem, notes, .. } = base;
    let mut history = History { checkpoint, root, frames: archived, notes };
    let in_logs = next;
    // What the logs do not have either is the archive's fault if it should have it.
    let blame = |error: HistoryError| match &problem {
        Some(problem) => HistoryError::Archive { match_id: lease.match_id, seq: in_logs, problem: format!("{problem}; and {error}") },
        None => error,
    };
    let reached = |frames: &[Frame]| frames.last().is_some_and(|frame| end.is_reached(frame));
    for stretch in stretches {
        if let Some(error) = stretch.failed {
            return Err(blame(error));
        }
        if stretch.begins() != next {
            let found = format!("this owner's records begin with {}", stretch.begins());
            return Err(blame(HistoryError::Gap { match_id: lease.match_id, log: stretch.log, expected: next, found }));
        }
        next = stretch.next;
        history.frames.extend(stretch.frames.into_iter().map(|placed| placed.frame));
        if matches!(end, End::Tick(_) | End::Time(_)) && reached(&history.frames) {
            break;
        }
    }
    if let Some(problem) = problem {
        history.notes.push(format!("the archive was not used from record {in_logs} on: {problem}"));
    }
    match end {
        End::Seq(seq) if next <= seq => history.notes.push(format!("the journal ends with record {}, before {seq}", next.0 - 1)),
        End::Tick(tick) if history.frames.last().is_some_and(|frame| frame.header.last_tick < tick) => {
            history.notes.push(format!("the journal ends before tick {tick}"));
        }
        End::Time(ms) => {
            let last = history.frames.iter().rposition(|frame| frame.header.time_ms <= ms);
            history.frames.truncate(last.map_or(0, |last| last + 1));
        }
        _ => {}
    }
    Ok(history)
}
