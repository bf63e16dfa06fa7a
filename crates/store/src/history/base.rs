//! What a history rests on before any log is read: a checkpoint, and what the archive has behind
//! it.

use bytes::Bytes;
use rekindle_schema::archive::{ChunkKind, ChunkMeta};
use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{Lineage, MatchLease};
use rekindle_schema::{BatchNo, Epoch, Incarnation, Seq};

use super::points::{Point, in_lineage};
use super::{End, LoadOptions, Start};
use crate::archive;
use crate::{Store, StoreError};

/// Where in the logs the records behind a checkpoint or a chunk begin: no later one lies in an
/// earlier batch of that log.
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

/// Where replay begins.
pub(super) struct Base {
    pub(super) checkpoint: Option<(CheckpointMeta, Bytes)>,
    pub(super) root: Option<Seq>,
    /// The first record that is needed of the logs.
    pub(super) next: Seq,
    /// The log and batch from which on `next` is looked for.
    pub(super) position: Option<Position>,
    /// Epoch and checksum of the record before it.
    pub(super) after: Option<(Epoch, u32)>,
    /// What came from the archive: the records before `next`.
    pub(super) archived: Vec<Frame>,
    /// It begins behind one of the kept checkpoints.
    pub(super) in_logs: bool,
    /// The archive has all that was asked for.
    pub(super) complete: bool,
    /// Why the archive does not have `next`, if it should.
    pub(super) problem: Option<String>,
    pub(super) notes: Vec<String>,
}

impl Base {
    pub(super) fn at(checkpoint: Option<(CheckpointMeta, Bytes)>, next: Seq) -> Self {
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

    /// A batch that the log of this owner had when the checkpoint was stored: the one before the
    /// batch that it names, which may have been the next to be written.
    pub(super) fn reaches(&self, line: &Lineage) -> Option<BatchNo> {
        let (meta, _) = self.checkpoint.as_ref().filter(|_| self.in_logs)?;
        let same = (meta.epoch, meta.log) == (line.epoch, line.incarnation);
        same.then(|| BatchNo(meta.batch.0.saturating_sub(1)))
    }

    pub(super) async fn find(
        store: &Store,
        lease: &MatchLease,
        options: LoadOptions,
    ) -> Result<Self, StoreError> {
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
        let passed_over = |error: &StoreError| {
            format!("a checkpoint that cannot be read was passed over: {error}")
        };
        let mut notes: Vec<String> = damaged.iter().map(passed_over).collect();
        // Of a failing device an older checkpoint may still be had; the first record, behind
        // trimmed logs, may not.
        let mut device = damaged.into_iter().find(|error| matches!(error, StoreError::Io { .. }));
        let in_time = |point: &Point| end.is_after(point.seq, point.tick, point.time_ms());
        let checkpoints = found
            .iter()
            .filter(|meta| in_lineage(lease, meta))
            .map(|meta| Point::of_checkpoint(meta, &found));
        let mut candidates: Vec<Point> = checkpoints.filter(in_time).collect();
        if candidates.is_empty() || end != End::Newest {
            let (chunks, damaged) = store.archive.list(lease.match_id).await?;
            notes.extend(damaged.iter().map(passed_over));
            candidates.extend(
                chunks
                    .into_iter()
                    .filter(|meta| meta.kind == ChunkKind::State)
                    .map(Point::of_chunk)
                    .filter(in_time),
            );
            candidates.sort_by_key(|point| std::cmp::Reverse(point.seq));
        }
        for point in candidates {
            match point.load(store).await {
                Ok((meta, state)) => {
                    let next = meta.seq.next();
                    let complete = matches!(end, End::Tick(tick) if meta.tick >= tick);
                    let (root, in_logs) = (Some(point.root()), point.checkpoint().is_some());
                    return Ok(Self {
                        root,
                        in_logs,
                        complete,
                        notes,
                        ..Self::at(Some((meta, state)), next)
                    });
                }
                Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_))) => {
                    notes.push(passed_over(&error));
                }
                Err(error @ StoreError::Io { .. }) => {
                    notes.push(passed_over(&error));
                    device.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        device.map_or(Ok(Self { notes, ..Self::at(None, Seq(1)) }), Err)
    }

    /// Takes from the archive what it has from `next` on. A chunk that cannot be read ends that:
    /// the log may still have its records.
    async fn read_archive(
        &mut self,
        store: &Store,
        lease: &MatchLease,
        end: End,
    ) -> Result<(), StoreError> {
        let (chunks, damaged) = store.archive.list(lease.match_id).await?;
        self.problem = damaged.first().map(ToString::to_string);
        for meta in chunks.iter().filter(|meta| meta.kind == ChunkKind::Records) {
            if meta.last_seq < self.next {
                continue;
            }
            if meta.first_seq > self.next || matches!(end, End::Seq(seq) if seq < self.next) {
                break;
            }
            let frames = match store
                .archive
                .get(meta)
                .await
                .and_then(|bytes| archive::records(meta, &bytes))
            {
                Ok(frames) => frames,
                Err(
                    error @ (StoreError::Corrupt { .. }
                    | StoreError::NotFound(_)
                    | StoreError::Io { .. }),
                ) => {
                    self.problem = Some(error.to_string());
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            for frame in frames {
                if frame.header.seq < self.next {
                    continue;
                }
                let chained = self.archived.last().map_or(Ok(()), |last| {
                    archive::follows(last.header.epoch, last.crc, last.header.seq, &frame)
                });
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
