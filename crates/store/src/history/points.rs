//! From where a match can be replayed: checkpoints, and states in the archive.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_schema::archive::{ChunkKind, ChunkMeta};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{Seq, Tick};

use crate::archive;
use crate::chains::{Chain, Restorer};
use crate::{Store, StoreError};

/// Somewhere from where a match can be replayed: a checkpoint, or a state in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The last record whose effect is in it.
    pub seq: Seq,
    /// The last tick that was executed before it was taken.
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
    pub(super) fn of_checkpoint(meta: &CheckpointMeta, list: &[CheckpointMeta]) -> Self {
        let chain = Chain::of(meta, list);
        let links = chain.map_or_else(
            || vec![meta.clone()],
            |chain| chain.links().iter().map(|&link| link.clone()).collect(),
        );
        Self { seq: meta.seq, tick: meta.tick, source: Source::Checkpoint(links) }
    }

    pub(super) fn of_chunk(meta: ChunkMeta) -> Self {
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
    pub(super) fn root(&self) -> Seq {
        match &self.source {
            Source::Checkpoint(links) => links.last().map_or(self.seq, |link| link.seq),
            Source::Archive(_) => self.seq,
        }
    }

    pub(super) fn time_ms(&self) -> u64 {
        match &self.source {
            Source::Checkpoint(links) => links.first().map_or(0, |meta| meta.time_ms),
            Source::Archive(meta) => meta.last_ms,
        }
    }

    /// Reads it, every checksum checked; a delta is applied to what it rests on.
    pub async fn load(&self, store: &Store) -> Result<(CheckpointMeta, Bytes), StoreError> {
        match &self.source {
            Source::Checkpoint(links) => {
                let tip = links.first().ok_or_else(|| {
                    StoreError::NotFound(format!("the checkpoint at seq {}", self.seq))
                })?;
                let (_, state) = Restorer::new(&*store.checkpoints, links).restore(tip).await?;
                Ok((tip.clone(), state))
            }
            Source::Archive(meta) => archive::state(meta, &store.archive.get(meta).await?),
        }
    }
}

/// From where a match can be replayed, oldest first, and what could not be read of that. Of a
/// checkpoint that is in the archive as well, the former is named.
pub async fn points(
    store: &Store,
    lease: &MatchLease,
) -> Result<(Vec<Point>, Vec<StoreError>), StoreError> {
    let (checkpoints, mut damaged) = store.checkpoints.list(lease.match_id).await?;
    let (chunks, bad) = store.archive.list(lease.match_id).await?;
    damaged.extend(bad);
    let mut points: BTreeMap<Seq, Point> = BTreeMap::new();
    points.extend(
        chunks
            .into_iter()
            .filter(|meta| meta.kind == ChunkKind::State)
            .map(|meta| (meta.last_seq, Point::of_chunk(meta))),
    );
    for meta in checkpoints.iter().rev().filter(|meta| in_lineage(lease, meta)) {
        let point = Point::of_checkpoint(meta, &checkpoints);
        // What the archive has is better than a delta whose base is gone.
        if point.is_whole() || !points.contains_key(&meta.seq) {
            points.insert(meta.seq, point);
        }
    }
    Ok((points.into_values().collect(), damaged))
}

/// A checkpoint counts only if its owner owned the match when the record that it covers was
/// written.
pub fn in_lineage(lease: &MatchLease, meta: &CheckpointMeta) -> bool {
    let Some(index) = lease
        .lineage
        .iter()
        .position(|line| (line.epoch, line.incarnation) == (meta.epoch, meta.log))
    else {
        return false;
    };
    let begins = meta.seq.next() >= lease.lineage[index].first_seq;
    begins && lease.lineage.get(index + 1).is_none_or(|next| meta.seq < next.first_seq)
}
