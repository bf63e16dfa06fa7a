//! A match's history, put together from its checkpoints, the archive and the logs that its lineage
//! names.
//!
//! Recovery, `journal`, `replay` and `verify` call it. It decides nothing about ownership: it reads
//! what the lease says and refuses a history with a hole in it. Each log is streamed once, in
//! chunks, for all matches asked for; what belongs to other matches is dropped. Records that the
//! archive has are taken from there, the rest from the logs; a recovery that has a checkpoint does
//! not look into the archive.

mod base;
mod follow;
mod logs;
mod points;

use base::Base;
pub use base::Position;
use bytes::Bytes;
pub use follow::{LogFollower, read_on};
use futures::{FutureExt, StreamExt};
use logs::{Stretch, read_logs, taken_out};
pub use logs::{Wanted, records_in_logs};
pub use points::{Point, in_lineage, points};
use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{BatchNo, Incarnation, MatchId, Seq, Tick};

use crate::{Store, StoreError};

/// How many checkpoints are looked up at the same time.
const LOOKUPS: usize = 8;
/// By how much the clocks of owners may differ, in milliseconds: for so long after a point in time,
/// records that were made before it are looked for.
pub const CLOCK_SLACK_MS: u64 = 10 * 60 * 1_000;

/// Where a history begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// With the newest usable checkpoint that is not behind the end; without one, with the first
    /// record.
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
    /// With the last record whose wall clock is not after this, in milliseconds since 1970, and all
    /// before it, whatever their clocks say: the clock of the next owner may be behind. A record
    /// that is more than [`CLOCK_SLACK_MS`] later ends the search.
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

/// Which part of a history is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The checkpoint or state from which replay begins.
    pub start: Start,
    /// The last record, tick or time that is wanted.
    pub end: End,
}

/// All that a match can be rebuilt from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// What to restore first, put together if it is a delta; `None`: begin with the world as set up
    /// by the match's spec.
    pub checkpoint: Option<(CheckpointMeta, Bytes)>,
    /// The records after it, ascending by seq without gaps, each checked.
    pub frames: Vec<Frame>,
    /// The record that the full checkpoint under `checkpoint` covers: the checkpoint's own, unless
    /// it is a delta.
    pub root: Option<Seq>,
    /// What went wrong without doing harm: a damaged checkpoint that an older one stands in for, a
    /// damaged chunk whose records the log still has.
    pub notes: Vec<String>,
}

/// Why a match's history cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A damaged part of a log may hold records of the match.
    #[error(
        "RK-STORE-020: match {match_id}: records from seq {seq} on may lie in a damaged part of \
         log {log}: {problem}"
    )]
    Damaged {
        /// The match whose history was wanted.
        match_id: MatchId,
        /// The first record that could not be read.
        seq: Seq,
        /// The log that was read, named by its writer.
        log: Incarnation,
        /// Batch, file and offset, and which check failed.
        problem: String,
    },
    /// Records are missing.
    #[error(
        "RK-STORE-021: match {match_id}: record {expected} is missing in log {log}: {found}; run \
         `rekindle verify`"
    )]
    Gap {
        /// The match whose history was wanted.
        match_id: MatchId,
        /// The log in which the record should be, by the lineage.
        log: Incarnation,
        /// The record that should come next.
        expected: Seq,
        /// What is there instead, with its batch.
        found: String,
    },
    /// Records that were archived cannot be read, and no log has them.
    #[error(
        "RK-STORE-024: match {match_id}: records from seq {seq} on are in the archive, but cannot \
         be read: {problem}"
    )]
    Archive {
        /// The match whose history was wanted.
        match_id: MatchId,
        /// The first record that could not be read.
        seq: Seq,
        /// What is wrong with the archive, in words.
        problem: String,
    },
    /// A record does not continue the one before it.
    #[error(
        "RK-STORE-022: match {match_id}: record {seq} in batch {batch} of log {log} carries \
         {found:08x} as the checksum of the record before it, which has {expected:08x}"
    )]
    Chain {
        /// The match whose history was wanted.
        match_id: MatchId,
        /// The log that was read, named by its writer.
        log: Incarnation,
        /// The batch that holds the record.
        batch: BatchNo,
        /// The record that does not continue the one before it.
        seq: Seq,
        /// The checksum that it carries for the record before it.
        found: u32,
        /// The checksum that the record before it has.
        expected: u32,
    },
}

impl HistoryError {
    /// The same may succeed later: the store does not answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

impl History {
    /// The last record whose effect is in it; `Seq(0)` if nothing was ever recorded.
    pub fn last_seq(&self) -> Seq {
        let frame = self.frames.last().map(|frame| frame.header.seq);
        frame.or_else(|| self.checkpoint.as_ref().map(|(meta, _)| meta.seq)).unwrap_or_default()
    }
}

/// Loads the history of one match.
pub async fn load(
    store: &Store,
    lease: &MatchLease,
    options: &LoadOptions,
) -> Result<History, HistoryError> {
    let mut all = load_each(store, &[(lease, *options)]).await;
    all.pop().unwrap_or_else(|| Ok(History::default()))
}

/// Loads the histories of many matches and reads each log once. The results stand in the order of
/// `leases`; a damaged log fails only those matches that may have records in the damaged part.
pub async fn load_many(
    store: &Store,
    leases: &[MatchLease],
    options: &LoadOptions,
) -> Vec<Result<History, HistoryError>> {
    load_each(store, &leases.iter().map(|lease| (lease, *options)).collect::<Vec<_>>()).await
}

/// As [`load_many`], each with options of its own.
pub async fn load_each(
    store: &Store,
    wanted: &[(&MatchLease, LoadOptions)],
) -> Vec<Result<History, HistoryError>> {
    match load_all(store, wanted).await {
        Ok(results) => results,
        Err(error) => wanted.iter().map(|_| Err(error.clone().into())).collect(),
    }
}

async fn load_all(
    store: &Store,
    wanted: &[(&MatchLease, LoadOptions)],
) -> Result<Vec<Result<History, HistoryError>>, StoreError> {
    // Boxed: behind a reference in a closure the future would not be `Send` for callers that spawn
    // this.
    let lookups: Vec<_> =
        wanted.iter().map(|(lease, options)| Base::find(store, lease, *options).boxed()).collect();
    let bases: Vec<Result<Base, StoreError>> =
        futures::stream::iter(lookups).buffered(LOOKUPS).collect().await;
    let bases: Vec<Base> = bases.into_iter().collect::<Result<_, _>>()?;

    let plans = wanted
        .iter()
        .zip(&bases)
        .flat_map(|((lease, options), base)| Stretch::plan(lease, base, options.end));
    let mut logs = read_logs(store, plans).await?;
    let finish = |((lease, options), base): (&(&MatchLease, LoadOptions), Base)| {
        assemble(lease, base, taken_out(&mut logs, lease), options.end)
    };
    Ok(wanted.iter().zip(bases).map(finish).collect())
}

fn assemble(
    lease: &MatchLease,
    base: Base,
    stretches: Vec<Stretch>,
    end: End,
) -> Result<History, HistoryError> {
    let Base { checkpoint, root, mut next, archived, problem, notes, .. } = base;
    let mut history = History { checkpoint, root, frames: archived, notes };
    let in_logs = next;
    // What the logs do not have either is the archive's fault if it should have it.
    let blame = |error: HistoryError| match &problem {
        Some(problem) => HistoryError::Archive {
            match_id: lease.match_id,
            seq: in_logs,
            problem: format!("{problem}; and {error}"),
        },
        None => error,
    };
    let reached = |frames: &[Frame]| frames.last().is_some_and(|frame| end.is_reached(frame));
    for stretch in stretches {
        if let Some(error) = stretch.failed {
            return Err(blame(error));
        }
        if stretch.begins() != next {
            let found = format!("this owner's records begin with {}", stretch.begins());
            return Err(blame(HistoryError::Gap {
                match_id: lease.match_id,
                log: stretch.log,
                expected: next,
                found,
            }));
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
        End::Seq(seq) if next <= seq => {
            history
                .notes
                .push(format!("the journal ends with record {}, before {seq}", next.0 - 1));
        }
        End::Tick(tick)
            if history.frames.last().is_some_and(|frame| frame.header.last_tick < tick) =>
        {
            history.notes.push(format!("the journal ends before tick {tick}"));
        }
        End::Time(ms) => {
            let last = history.frames.iter().rposition(|frame| frame.header.time_ms <= ms);
            history.frames.truncate(last.map_or(0, |last| last + 1));
        }
        _ => {}
    }
    debug_assert_contiguous(&history.frames);
    Ok(history)
}

/// A history leaves no record out and has none twice: whoever replays it relies on that.
fn debug_assert_contiguous(frames: &[Frame]) {
    debug_assert!(
        frames.windows(2).all(|pair| pair[1].header.seq == pair[0].header.seq.next()),
        "the records of a history do not follow one another: {:?}",
        frames.iter().map(|frame| frame.header.seq).collect::<Vec<_>>()
    );
}

#[cfg(test)]
mod tests {
    use rekindle_schema::Incarnation;
    use rekindle_schema::batch::BatchView;
    use rekindle_store_conformance::Scribe;

    use super::*;

    #[test]
    #[should_panic(expected = "do not follow one another")]
    fn a_history_with_a_hole_is_noticed() {
        let mut scribe = Scribe::new(Incarnation(1));
        let mut frames = Vec::new();
        for skipped in [0, 0, 1] {
            scribe.skip(MatchId(1), skipped);
            let batch = scribe.small(&[MatchId(1)]);
            frames.extend_from_slice(BatchView::parse(&batch.bytes).unwrap().all_frames());
        }
        debug_assert_contiguous(&frames[..2]);
        debug_assert_contiguous(&frames);
    }
}
