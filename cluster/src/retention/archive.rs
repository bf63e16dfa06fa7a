//! Moves records into the archive before the log loses them.
//!
//! [`plan`] decides for one match what comes next; [`run`] reads the logs once for many matches,
//! puts chunks, reads each back, and says how far the archive has got: trimming may go so far and
//! no further. A crash anywhere leaves chunks that stand and records that are still in the log: the
//! next run goes on behind the last chunk. Several nodes may do this at the same time: the first
//! chunk of a name stands, and everybody goes on behind it.

use std::collections::BTreeMap;

use rekindle_schema::archive::{ChunkKind, ChunkMeta};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
use rekindle_store::archive::{self, CHUNK_TARGET, ChunkBuilder, Placed};
use rekindle_store::chains::{self, Restorer};
use rekindle_store::history::{self, HistoryError, Position, Wanted};
use rekindle_store::{Store, StoreError};

/// Matches whose records are in memory at the same time.
const GROUP: usize = 64;
/// How many bytes of records of one match are.
const READ: usize = 2 * CHUNK_TARGET;
/// Rounds of reading in one run: what is left then waits for the next.
const ROUNDS: usize = 64;
/// Intervals between chunks after which a state is archived as well.
const STATE_EVERY: u64 = 5;

/// Behind this batch nothing lies: the last chunk of a match that has ended says so.
pub const NOTHING_BEHIND: BatchNo = BatchNo(u64::MAX);

/// What is known of one match.
pub struct Subject<'a> {
    /// Its row.
    pub lease: &'a MatchLease,
    /// Its checkpoints, newest first, those of its lineage only.
    pub checkpoints: &'a [CheckpointMeta],
    /// Its chunks, as listed.
    pub chunks: &'a [ChunkMeta],
    /// How many checkpoints are kept: the oldest of them says which records recovery still needs.
    pub kept: usize,
    /// How much time one chunk covers at least, in milliseconds.
    pub chunk_every_ms: u64,
}

/// What is archived next of a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A state that is put first: the records before `from` are gone.
    pub restart: Option<CheckpointMeta>,
    /// The first record.
    pub from: Seq,
    /// Where it lies; unknown before the first chunk.
    pub position: Option<Position>,
    /// Epoch and checksum of the record before it.
    pub after: Option<(Epoch, u32)>,
    /// The last record.
    pub to: Seq,
    /// Nothing comes behind what the log has.
    pub ends: bool,
}

/// What the archive needs of the logs from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// Everything behind this.
    Behind(Position),
    /// All that there is.
    Everything,
}

fn last_records(chunks: &[ChunkMeta]) -> Option<&ChunkMeta> {
    chunks.iter().filter(|meta| meta.kind == ChunkKind::Records).max_by_key(|meta| meta.last_seq)
}

fn ended(lease: &MatchLease) -> bool {
    matches!(lease.state, MatchState::Ended { .. })
}

/// What the archive needs as long as it has no more than these chunks.
pub fn need(chunks: &[ChunkMeta]) -> Need {
    match last_records(chunks) {
        Some(last) if last.batch == NOTHING_BEHIND => Need::Nothing,
        Some(last) => Need::Behind(Position::from(last)),
        None => Need::Everything,
    }
}

/// What is next, if anything is due. `first` has the first batch of each log that is there.
pub fn plan(subject: &Subject<'_>, first: &BTreeMap<Incarnation, BatchNo>) -> Option<Step> {
    let Subject { lease, checkpoints, chunks, kept, chunk_every_ms } = *subject;
    let last = last_records(chunks);
    if last.is_some_and(|last| last.batch == NOTHING_BEHIND) {
        return None;
    }
    let ends = ended(lease);
    let to = if ends {
        Seq(u64::MAX)
    } else {
        // The last record stays in the log, so that there is one left to mark as the last when the
        // match ends.
        let (newest, oldest) =
            (checkpoints.first()?, chains::oldest_kept(checkpoints, kept)?.tip());
        let since = last.map_or(lease.spec.created_ms, |last| last.last_ms);
        if oldest.time_ms.abs_diff(since) < chunk_every_ms {
            return None;
        }
        Seq(oldest.seq.0.min(newest.seq.0.saturating_sub(1)))
    };
    let from = last.map_or(Seq(1), |last| last.last_seq.next());
    let position = last.map(Position::from);
    let after = last.map(|last| (last.last_epoch, last.last_crc));
    let step = Step { restart: None, from, position, after, to, ends };
    if from > to {
        return None;
    }
    if in_logs(lease, from, position, first) {
        return Some(step);
    }
    // The records behind the last chunk are gone: the archive was off for a while. It goes on with
    // the oldest state that there is.
    let restart = checkpoints.iter().rev().find(|meta| meta.seq >= from)?;
    let from = restart.seq.next();
    let known =
        chunks.iter().any(|meta| meta.kind == ChunkKind::State && meta.last_seq == restart.seq);
    let step = Step {
        restart: Some(restart.clone()),
        from,
        position: Some(Position::from(restart)),
        after: None,
        ..step
    };
    (from <= to && !(known && ends)).then_some(step)
}

/// Whether a record that is needed next may still be in a log.
fn in_logs(
    lease: &MatchLease,
    from: Seq,
    position: Option<Position>,
    first: &BTreeMap<Incarnation, BatchNo>,
) -> bool {
    let Some(line) = lease.lineage.iter().rev().find(|line| line.first_seq <= from) else {
        return false;
    };
    let here = position
        .filter(|position| (position.epoch, position.log) == (line.epoch, line.incarnation));
    let batch = here.map_or(line.first_batch, |position| position.batch.max(line.first_batch));
    first.get(&line.incarnation).is_some_and(|&first| first <= batch.max(BatchNo(1)))
}

/// The checkpoint that is worth a place in the archive when its records up to `reached` are there.
pub fn state_due<'a>(subject: &Subject<'a>, reached: Seq) -> Option<&'a CheckpointMeta> {
    let newest = subject.checkpoints.iter().find(|meta| meta.seq <= reached)?;
    let before = subject
        .chunks
        .iter()
        .filter(|meta| meta.kind == ChunkKind::State)
        .max_by_key(|meta| meta.last_seq);
    let due = match before {
        Some(before) if before.last_seq >= newest.seq => false,
        Some(before) => {
            ended(subject.lease)
                || newest.time_ms.abs_diff(before.last_ms) >= subject.chunk_every_ms * STATE_EVERY
        }
        None => true,
    };
    due.then_some(newest)
}

/// One match while it is archived.
struct Work<'a> {
    subject: &'a Subject<'a>,
    step: Step,
    need: Need,
    reached: Option<Seq>,
    done: bool,
}

impl Work<'_> {
    fn id(&self) -> MatchId {
        self.subject.lease.match_id
    }

    fn failed(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(code = "RK-CLUSTER-010", match_id = %self.id(), %error, "records are not \
            archived; the log keeps them");
        self.done = true;
    }

    /// The archive has this chunk.
    fn advance(&mut self, meta: &ChunkMeta) {
        self.need = need(std::slice::from_ref(meta));
        self.reached = Some(meta.last_seq);
        self.step.from = meta.last_seq.next();
        self.step.position = Some(Position::from(meta));
        self.step.after = Some((meta.last_epoch, meta.last_crc));
        self.done = self.step.from > self.step.to || meta.batch == NOTHING_BEHIND;
    }
}

/// Archives what is due of these matches and says what the archive needs of the logs from now on.
/// Trouble with one match does not keep the others back: it is reported, and its records stay
/// needed.
pub async fn run(
    store: &Store,
    subjects: &[Subject<'_>],
    first: &BTreeMap<Incarnation, BatchNo>,
) -> Result<BTreeMap<MatchId, Need>, StoreError> {
    let mut needs = BTreeMap::new();
    for group in subjects.chunks(GROUP) {
        let mut works = Vec::new();
        for subject in group {
            let need = need(subject.chunks);
            match plan(subject, first) {
                Some(step) => works.push(Work { subject, step, need, reached: None, done: false }),
                // What an ended match had is in the archive or lost.
                None if ended(subject.lease) => {
                    _ = needs.insert(subject.lease.match_id, Need::Nothing);
                }
                None => _ = needs.insert(subject.lease.match_id, need),
            }
        }
        for work in &mut works {
            restart(store, work).await?;
        }
        for _ in 0..ROUNDS {
            if works.iter().all(|work| work.done) {
                break;
            }
            round(store, &mut works).await?;
        }
        for work in works {
            if let Some(meta) = work.reached.and_then(|reached| state_due(work.subject, reached))
                && let Err(error) = put_state(store, meta).await
            {
                tracing::warn!(code = "RK-CLUSTER-011", match_id = %work.id(), %error, "a state is \
                    not archived: replays of this stretch begin earlier");
            }
            needs.insert(work.id(), work.need);
        }
    }
    Ok(needs)
}

/// Puts the state behind which the archive goes on.
async fn restart(store: &Store, work: &mut Work<'_>) -> Result<(), StoreError> {
    let Some(meta) = work.step.restart.clone() else { return Ok(()) };
    tracing::warn!(
        code = "RK-CLUSTER-012", match_id = %work.id(), from = %work.step.from,
        "earlier records are in no log any more: the archive of this match has a hole before this \
         one"
    );
    match put_state(store, &meta).await {
        Ok(()) => work.need = Need::Behind(Position::from(&meta)),
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => work.failed(&error),
    }
    Ok(())
}

async fn put_state(store: &Store, meta: &CheckpointMeta) -> Result<(), StoreError> {
    let (list, _) = store.checkpoints.list(meta.match_id).await?;
    let gone = || {
        StoreError::NotFound(format!(
            "the checkpoint of match {} at seq {}",
            meta.match_id, meta.seq
        ))
    };
    let tip = list.iter().find(|listed| *listed == meta).ok_or_else(gone)?;
    let (_, state) = Restorer::new(&*store.checkpoints, &list).restore(tip).await?;
    let (chunk, bytes) = archive::pack_state(&chains::as_full(tip, &state), &state)?;
    let stands = store.archive.put(chunk, bytes).await?;
    archive::state(&stands, &store.archive.get(&stands).await?).map(|_| ())
}

/// Reads on for all matches that are not done, and puts what was read.
async fn round(store: &Store, works: &mut [Work<'_>]) -> Result<(), StoreError> {
    let open: Vec<usize> = (0..works.len()).filter(|&index| !works[index].done).collect();
    let wanted = |&index: &usize| {
        let Work { subject, step, .. } = &works[index];
        Wanted {
            lease: subject.lease,
            from: step.from,
            position: step.position,
            after: step.after,
            to: step.to,
            max_bytes: READ,
        }
    };
    let wanted: Vec<Wanted<'_>> = open.iter().map(wanted).collect();
    let read = history::records_in_logs(store, &wanted).await?;
    drop(wanted);
    for (index, read) in open.into_iter().zip(read) {
        let work = &mut works[index];
        match read {
            Ok(records) => match put_records(store, work, records).await {
                Ok(()) => {}
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => work.failed(&error),
            },
            Err(HistoryError::Store(error)) if error.is_transient() => return Err(error),
            // Of a match that has ended the log may have nothing more.
            Err(error) => work.failed(&error),
        }
    }
    Ok(())
}

async fn put_records(
    store: &Store,
    work: &mut Work<'_>,
    records: Vec<Placed>,
) -> Result<(), StoreError> {
    let cut_short = records.iter().map(|placed| placed.frame.payload.len()).sum::<usize>() >= READ;
    let mut builder = ChunkBuilder::default();
    let mut chunks: Vec<_> = records.iter().filter_map(|placed| builder.push(placed)).collect();
    if !cut_short {
        chunks.extend(builder.finish());
        work.done = true;
        match chunks.last_mut() {
            Some((last, _)) if work.step.ends => last.batch = NOTHING_BEHIND,
            None if work.step.ends => work.need = Need::Nothing,
            _ => {}
        }
    }
    for (meta, bytes) in chunks {
        let stands = store.archive.put(meta.clone(), bytes.clone()).await?;
        let stored = store.archive.get(&stands).await?;
        archive::records(&stands, &stored)?;
        let done = work.done;
        work.advance(&stands);
        if stands != meta {
            // Another node was faster: it goes on behind its chunk.
            return Ok(());
        }
        work.done |= done;
    }
    Ok(())
}
