//! Reading logs: each is streamed once, in chunks, past all the stretches of lineages that lie in
//! it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rekindle_schema::batch::{BatchView, Frame};
use rekindle_schema::lease::{Lineage, MatchLease, NodeLease, NodeState};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, Tick};

use super::base::{Base, Position};
use super::{End, HistoryError};
use crate::archive::Placed;
use crate::witness::{self, Short, utc};
use crate::{Store, StoreError};

/// How many bytes of a log are in memory at once.
const CHUNK: usize = 4 << 20;
/// How many damaged batches in a row are stepped over in search of one that can be read.
const MAX_HOLES: u32 = 1_000;

/// The stretches of lineages, by log.
pub(super) type Stretches = BTreeMap<Incarnation, BTreeMap<(MatchId, Epoch), Stretch>>;

/// Reads each log once for all stretches in it.
pub(super) async fn read_logs(
    store: &Store,
    plans: impl Iterator<Item = Stretch>,
) -> Result<Stretches, StoreError> {
    let mut logs: Stretches = BTreeMap::new();
    for stretch in plans {
        logs.entry(stretch.log).or_default().insert((stretch.match_id, stretch.epoch), stretch);
    }
    let first_batches: BTreeMap<Incarnation, BatchNo> =
        store.journal.logs().await?.into_iter().map(|info| (info.log, info.first)).collect();
    for (&log, stretches) in &mut logs {
        // Read before the log is: a log that grows reaches at least what its lease said.
        let lease = store.leases.node(log).await?;
        read_log(store, log, first_batches.get(&log).copied(), lease.as_ref(), stretches).await?;
    }
    Ok(logs)
}

/// What was read of a match, in the order of its lineage.
pub(super) fn taken_out(logs: &mut Stretches, lease: &MatchLease) -> Vec<Stretch> {
    let mine =
        |line: &Lineage| logs.get_mut(&line.incarnation)?.remove(&(lease.match_id, line.epoch));
    lease.lineage.iter().filter_map(mine).collect()
}

/// Records that are to be archived.
pub struct Wanted<'a> {
    /// The row of the match whose records they are.
    pub lease: &'a MatchLease,
    /// The first record that is wanted.
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

/// Records of matches from the logs alone, with their places, each log read once. What is there is
/// checked as a history is; it may end before the record that was asked for.
pub async fn records_in_logs(
    store: &Store,
    wanted: &[Wanted<'_>],
) -> Result<Vec<Result<Vec<Placed>, HistoryError>>, StoreError> {
    let base = |wanted: &Wanted<'_>| Base {
        position: wanted.position,
        after: wanted.after,
        ..Base::at(None, wanted.from)
    };
    let plan = |wanted: &Wanted<'_>| {
        let stretches = Stretch::plan(wanted.lease, &base(wanted), End::Seq(wanted.to));
        let max_bytes = wanted.max_bytes;
        stretches
            .into_iter()
            .map(move |stretch| Stretch { max_bytes, ..stretch })
            .collect::<Vec<_>>()
    };
    let mut logs = read_logs(store, wanted.iter().flat_map(plan)).await?;
    let join = |wanted: &Wanted<'_>| {
        let mut next = wanted.from;
        let mut records: Vec<Placed> = Vec::new();
        for stretch in taken_out(&mut logs, wanted.lease) {
            if stretch.begins() != next {
                if stretch.begins() > next && records.is_empty() {
                    let found = format!("this owner's records begin with {}", stretch.begins());
                    return Err(HistoryError::Gap {
                        match_id: wanted.lease.match_id,
                        log: stretch.log,
                        expected: next,
                        found,
                    });
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

/// One line of a lineage while its log is read.
pub(super) struct Stretch {
    pub(super) match_id: MatchId,
    pub(super) epoch: Epoch,
    pub(super) log: Incarnation,
    /// No record that is needed lies in an earlier batch.
    pub(super) first_batch: BatchNo,
    /// The first record of the stretch, whose `prev_crc` is 0.
    pub(super) first_seq: Seq,
    /// The record that is needed next.
    pub(super) next: Seq,
    /// The first record that no longer belongs to the stretch, if another stretch follows.
    pub(super) limit: Option<Seq>,
    pub(super) end: End,
    /// Epoch and checksum of the record before `next`, when that was not read here.
    pub(super) after: Option<(Epoch, u32)>,
    pub(super) max_bytes: usize,
    pub(super) frames: Vec<Placed>,
    pub(super) done: bool,
    /// A hole in the log since the last record that was read.
    pub(super) hole: Option<String>,
    /// The log had this batch when the checkpoint was stored that the history begins with.
    pub(super) reaches: Option<BatchNo>,
    /// The last tick that is known, and when it was recorded or its checkpoint taken.
    pub(super) stands: Option<(Tick, u64)>,
    /// Ticks per second.
    pub(super) tick_rate: u16,
    /// The log ends too early.
    pub(super) short: Option<Short>,
    pub(super) failed: Option<HistoryError>,
}

impl Stretch {
    pub(super) fn plan(lease: &MatchLease, base: &Base, end: End) -> Vec<Self> {
        let mut planned = Vec::new();
        for (index, line) in lease.lineage.iter().enumerate() {
            let limit = lease.lineage.get(index + 1).map(|next| next.first_seq);
            let over = limit.is_some_and(|limit| limit <= base.next.max(line.first_seq));
            let behind_end = matches!(end, End::Seq(seq) if line.first_seq.max(base.next) > seq);
            if over || behind_end || base.complete {
                continue;
            }
            let here = base.position.filter(|position| {
                (position.epoch, position.log) == (line.epoch, line.incarnation)
            });
            planned.push(Self {
                match_id: lease.match_id,
                epoch: line.epoch,
                log: line.incarnation,
                first_batch: here
                    .map_or(line.first_batch, |position| position.batch.max(line.first_batch)),
                first_seq: line.first_seq,
                next: line.first_seq.max(base.next),
                limit,
                end,
                after: base.after,
                max_bytes: usize::MAX,
                frames: Vec::new(),
                done: false,
                hole: None,
                reaches: base.reaches(line),
                stands: base.checkpoint.as_ref().map(|(meta, _)| (meta.tick, meta.time_ms)),
                tick_rate: lease.spec.tick_rate,
                short: None,
                failed: None,
            });
        }
        planned
    }

    /// The first record that was read, or that is needed.
    pub(super) fn begins(&self) -> Seq {
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
        let before = if seq == self.first_seq {
            Some(0)
        } else {
            self.frames.last().map_or(after, |last| Some(last.frame.crc))
        };
        if let Some(expected) = before.filter(|&expected| expected != frame.header.prev_crc) {
            let found = frame.header.prev_crc;
            self.failed = Some(HistoryError::Chain {
                match_id: self.match_id,
                log: self.log,
                batch,
                seq,
                found,
                expected,
            });
            return;
        }
        self.hole = None;
        self.stands = Some((frame.header.last_tick, frame.header.time_ms));
        let payload = Bytes::copy_from_slice(&frame.payload);
        self.max_bytes = self.max_bytes.saturating_sub(payload.len());
        self.frames.push(Placed {
            frame: Frame { payload, ..frame.clone() },
            log: self.log,
            batch,
        });
        self.next = seq.next();
        self.done =
            self.limit == Some(self.next) || self.end.is_reached(frame) || self.max_bytes == 0;
    }

    fn gap(&mut self, found: String) {
        let (match_id, log) = (self.match_id, self.log);
        self.failed = Some(match self.hole.take() {
            Some(problem) => HistoryError::Damaged { match_id, seq: self.next, log, problem },
            None => HistoryError::Gap { match_id, log, expected: self.next, found },
        });
    }

    /// What the end of the log that is gone means for the match, in words.
    fn missing(&self, short: &Short) -> String {
        let from = match self.stands {
            Some((tick, at)) => format!(
                "of match {} ticks after {tick}, which was recorded at {}, may be missing",
                self.match_id,
                utc(at)
            ),
            None => format!("of match {} all ticks may be missing", self.match_id),
        };
        let span = self.stands.zip(short.at_ms).map(|((_, from), to)| {
            to.saturating_sub(from).saturating_mul(self.tick_rate.into()) / 1_000
        });
        from + &span
            .filter(|span| *span > 0)
            .map_or_else(String::new, |span| format!(" (about {span})"))
    }

    /// The log ends with batch `ends`, and batch `next` would come next: whether it is known to
    /// have come further.
    fn find_short(&mut self, lease: Option<&NodeLease>, ends: BatchNo, next: BatchNo) {
        // Once a loss is accepted, what checkpoints say of the log is part of it.
        let by_checkpoint =
            self.reaches.filter(|_| lease.is_none_or(|lease| lease.loss_accepted_ms.is_none()));
        let known =
            lease.and_then(NodeLease::known_end).max(by_checkpoint).filter(|&known| known >= next);
        let at_ms = lease.and_then(|lease| lease.reached).map(|reached| reached.at_ms);
        self.short = known.map(|known| Short { log: self.log, ends, known, at_ms });
    }

    /// The log has no more records.
    fn close(&mut self) {
        if let (true, Some(short)) = (self.open(), &self.short) {
            let problem = format!("{}; {short}", self.missing(short));
            self.failed = Some(HistoryError::Damaged {
                match_id: self.match_id,
                seq: self.next,
                log: self.log,
                problem,
            });
        }
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
    lease: Option<&NodeLease>,
    stretches: &mut BTreeMap<(MatchId, Epoch), Stretch>,
) -> Result<(), StoreError> {
    let begin = stretches.values().map(|stretch| stretch.first_batch).min().unwrap_or_default();
    // The batch before the one that a checkpoint names must be there as well, unless it was
    // trimmed.
    let proofs =
        stretches.values().filter_map(|stretch| stretch.reaches).filter(|_| first.is_some());
    let begin = proofs.min().map_or(begin, |proof| proof.min(begin));
    for stretch in stretches.values_mut() {
        if let Some(first) = first.filter(|&first| stretch.first_batch.max(BatchNo(1)) < first) {
            stretch.hole = Some(format!("batches before {first} are no longer there"));
        }
    }
    let (seal, reached) =
        (lease.and_then(|lease| lease.seal), lease.and_then(|lease| lease.reached));
    let mut next = begin.max(first.unwrap_or(BatchNo(1))).max(BatchNo(1));
    let (mut last, mut looks): (Option<BatchNo>, u32) = (None, 0);
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
                let last = match last {
                    Some(last) => last,
                    None => *last.insert(store.journal.tail(log).await?.last),
                };
                if next > last {
                    break;
                }
                continue;
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                damage(stretches, &waiting, &format!("batch {next}: {error}"));
                break;
            }
            Err(error @ StoreError::NotFound(_)) => {
                let now = store
                    .journal
                    .logs()
                    .await?
                    .into_iter()
                    .find(|info| info.log == log)
                    .map(|info| info.first);
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
            let more = lease.is_some_and(|lease| {
                lease.state == NodeState::Live && lease.known_end() >= Some(next)
            });
            let Some(pause) = witness::wait(looks).filter(|_| more) else { break };
            tokio::time::sleep(pause).await;
            looks += 1;
            continue;
        }
        for batch in batches {
            if seal.is_some_and(|seal| batch.number > seal) {
                break;
            }
            let view = match BatchView::parse(&batch.bytes) {
                Ok(view) => view,
                Err(error) => {
                    return Err(StoreError::Corrupt {
                        place: format!("log {log}, batch {next}"),
                        problem: error.to_string(),
                    });
                }
            };
            if view.number() != next || before.is_some_and(|crc| crc != view.prev_crc()) {
                damage(
                    stretches,
                    &waiting,
                    &format!("batch {} does not follow the one before it", view.number()),
                );
            }
            if let Some(reached) = reached.filter(|reached| {
                reached.batch == view.number() && ![0, view.crc()].contains(&reached.crc)
            }) {
                let (number, crc) = (view.number(), view.crc());
                let problem = format!(
                    "batch {number} has checksum {crc:08x}, its node wrote one with {:08x}: the \
                     log is another one",
                    reached.crc
                );
                fail(stretches, &waiting, &problem);
                waiting.clear();
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
    let ends = if first.is_some() { BatchNo(next.0 - 1) } else { BatchNo(0) };
    for (_, stretch) in stretches.iter_mut().filter(|(key, _)| waiting.contains(key)) {
        stretch.find_short(lease, ends, next);
    }
    stretches.values_mut().for_each(Stretch::close);
    Ok(())
}

/// Nothing that is read from here on belongs to the matches that are still being read.
fn fail(
    stretches: &mut BTreeMap<(MatchId, Epoch), Stretch>,
    waiting: &BTreeSet<(MatchId, Epoch)>,
    problem: &str,
) {
    for key in waiting {
        if let Some(stretch) = stretches.get_mut(key) {
            let Stretch { match_id, next: seq, log, .. } = *stretch;
            stretch.failed =
                Some(HistoryError::Damaged { match_id, seq, log, problem: problem.to_owned() });
        }
    }
}

/// Any record of the matches that are still being read may lie in what cannot be read.
fn damage(
    stretches: &mut BTreeMap<(MatchId, Epoch), Stretch>,
    waiting: &BTreeSet<(MatchId, Epoch)>,
    problem: &str,
) {
    for key in waiting {
        if let Some(stretch) = stretches.get_mut(key) {
            stretch.hole.get_or_insert_with(|| problem.to_owned());
        }
    }
}
