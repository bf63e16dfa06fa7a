//! Checkpoints: a manifest that does not count yet, the chunks, then the manifest counts.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{Epoch, MatchId, Seq};
use rekindle_store::MAX_CHECKPOINT;
use rekindle_store::backend;
use rekindle_store::{Checkpoints, StoreError, StoreResult};
use scylla::errors::DeserializationError;
use scylla::response::query_result::QueryRowsResult;

use super::guards::Guards;
use super::{CqlStore, PART, PARTS_AT_ONCE, id, migrate, ordered};

/// Chunks in one partition: 16 MiB.
const CHUNKS: usize = 64;

/// A row of the table of manifests.
struct Manifest {
    match_id: MatchId,
    seq: Seq,
    epoch: Epoch,
    /// Of the state; part of its chunks' keys.
    crc: i64,
    len: u64,
    meta: Option<Vec<u8>>,
    whole: bool,
}

type Columns = (i64, i64, Option<i64>, Option<i64>, Option<Vec<u8>>, Option<bool>);

impl Manifest {
    fn of(match_id: MatchId, (seq, epoch, crc, len, meta, whole): Columns) -> Self {
        Self {
            match_id,
            seq: Seq(seq as u64),
            epoch: Epoch(epoch as u64),
            crc: crc.unwrap_or_default(),
            len: len.map_or(0, |len| len as u64).min(MAX_CHECKPOINT as u64),
            meta,
            whole: whole == Some(true),
        }
    }

    fn pieces(&self) -> i32 {
        (self.len as usize).div_ceil(CHUNKS * PART) as i32
    }
}

fn missing(meta: &CheckpointMeta) -> StoreError {
    StoreError::NotFound(format!("the checkpoint of match {} at seq {}", meta.match_id, meta.seq))
}

impl CqlStore {
    fn manifests(
        &self,
        match_id: MatchId,
        rows: &QueryRowsResult,
    ) -> Result<Vec<Manifest>, StoreError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            self.driver.unreadable("read manifests of checkpoints", error)
        };
        let rows = rows.rows::<Columns>().map_err(|error| unreadable(&error))?;
        let manifest = |row: Result<Columns, DeserializationError>| {
            row.map(|row| Manifest::of(match_id, row)).map_err(|error| unreadable(&error))
        };
        rows.map(manifest).collect()
    }

    async fn manifests_of(&self, match_id: MatchId) -> Result<Vec<Manifest>, StoreError> {
        let key = (self.space(), id(match_id.0));
        self.driver
            .all("list checkpoints", &self.statements.checkpoint_rows, &key, |rows| {
                self.manifests(match_id, rows)
            })
            .await
    }

    async fn manifest(
        &self,
        match_id: MatchId,
        seq: Seq,
        epoch: Epoch,
    ) -> Result<Option<Manifest>, StoreError> {
        let key = (self.space(), id(match_id.0), ordered(seq.0), ordered(epoch.0));
        let rows =
            self.driver.rows("read a checkpoint", &self.statements.checkpoint_row, &key).await?;
        Ok(self.manifests(match_id, &rows)?.pop())
    }

    async fn put_checkpoint(&self, meta: CheckpointMeta, state: Bytes) -> Result<(), StoreError> {
        if state.len() > MAX_CHECKPOINT {
            return Err(StoreError::TooLarge {
                what: "a checkpoint",
                size: state.len(),
                limit: MAX_CHECKPOINT,
            });
        }
        backend::check_state(&meta, &state)?;
        let full = || {
            StoreError::Overloaded(format!(
                "{} checkpoints wait for {}",
                self.options.append_queue,
                self.driver.place()
            ))
        };
        let _permit = self.puts.try_acquire().map_err(|_| full())?;
        let (match_id, seq, epoch, crc) =
            (id(meta.match_id.0), ordered(meta.seq.0), ordered(meta.epoch.0), i64::from(meta.crc));
        let encoded = meta.encode();
        let before =
            self.manifest(meta.match_id, meta.seq, meta.epoch).await?.filter(|before| before.whole);
        if before.as_ref().is_some_and(|before| before.meta.as_deref() == Some(&encoded)) {
            return Ok(());
        }
        // The manifest first, so that trimming finds the chunks of a put that was cut off. It does
        // not count yet. One that takes the place of another must not hide that one before it is
        // whole itself.
        let manifest =
            (self.space(), match_id, seq, epoch, crc, ordered(meta.len), encoded.as_slice());
        if before.is_none() {
            self.driver
                .write("begin a checkpoint", &self.statements.checkpoint_begin, &manifest)
                .await?;
        }
        let write = |(index, bytes): (usize, &[u8])| {
            let values = (
                self.space().to_owned(),
                match_id,
                seq,
                epoch,
                crc,
                (index / CHUNKS) as i32,
                index as i32,
                bytes.to_vec(),
            );
            async move {
                self.driver.write("write a chunk", &self.statements.chunk_write, &values).await
            }
        };
        let mut chunks = futures::stream::iter(state.chunks(PART).enumerate().map(write))
            .buffer_unordered(PARTS_AT_ONCE);
        while let Some(written) = chunks.next().await {
            written?;
        }
        drop(chunks);
        self.driver
            .write("finish a checkpoint", &self.statements.checkpoint_whole, &manifest)
            .await?;
        match before {
            Some(before) if before.crc != crc => self.drop_chunks(&before).await,
            _ => Ok(()),
        }
    }

    async fn get_checkpoint(&self, meta: CheckpointMeta) -> Result<Bytes, StoreError> {
        let found =
            self.manifest(meta.match_id, meta.seq, meta.epoch).await?.filter(|found| found.whole);
        let encoded = meta.encode();
        if found.and_then(|found| found.meta) != Some(encoded) || meta.len > MAX_CHECKPOINT as u64 {
            return Err(missing(&meta));
        }
        let (match_id, seq, epoch, crc) =
            (id(meta.match_id.0), ordered(meta.seq.0), ordered(meta.epoch.0), i64::from(meta.crc));
        let read = |index: usize| async move {
            let key =
                (self.space(), match_id, seq, epoch, crc, (index / CHUNKS) as i32, index as i32);
            let what = "read a chunk";
            let rows = self.driver.rows(what, &self.statements.chunk_read, &key).await?;
            let row: Option<(Option<Vec<u8>>,)> =
                rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
            Ok(row.and_then(|(bytes,)| bytes).unwrap_or_default())
        };
        let reads: Vec<futures::future::BoxFuture<'_, Result<Vec<u8>, StoreError>>> = (0
            ..(meta.len as usize).div_ceil(PART))
            .map(|index| Box::pin(read(index)) as _)
            .collect();
        let mut chunks = futures::stream::iter(reads).buffered(PARTS_AT_ONCE);
        let mut state = Vec::with_capacity(meta.len as usize);
        while let Some(chunk) = chunks.try_next().await? {
            state.extend_from_slice(&chunk);
        }
        if Guards::checksums(Guards::of(&self.options)) {
            backend::check_state(&meta, &state)?;
        }
        Ok(state.into())
    }

    async fn drop_chunks(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let Manifest { match_id, seq, epoch, crc, .. } = *manifest;
        for piece in 0..manifest.pieces() {
            let key = (self.space(), id(match_id.0), ordered(seq.0), ordered(epoch.0), crc, piece);
            self.driver.write("delete a checkpoint", &self.statements.piece_drop, &key).await?;
        }
        Ok(())
    }
}

impl Checkpoints for CqlStore {
    fn put(&self, meta: CheckpointMeta, state: Bytes) -> StoreResult<'_, ()> {
        Box::pin(self.put_checkpoint(meta, state))
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<CheckpointMeta>, Vec<StoreError>)> {
        Box::pin(async move {
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            for manifest in
                self.manifests_of(match_id).await?.into_iter().filter(|manifest| manifest.whole)
            {
                // A row that is whole and has no manifest: trimmed while it was being put.
                let Some(meta) = manifest.meta else { continue };
                match CheckpointMeta::decode(&meta) {
                    Ok(meta) => good.push(meta),
                    Err(error) => {
                        bad.push(migrate::undecodable(&self.driver, "checkpoint", &error));
                    }
                }
            }
            good.sort_by_key(|meta| std::cmp::Reverse((meta.seq, meta.epoch)));
            Ok((good, bad))
        })
    }

    fn get(&self, meta: &CheckpointMeta) -> StoreResult<'_, Bytes> {
        Box::pin(self.get_checkpoint(meta.clone()))
    }

    fn trim(&self, match_id: MatchId, before: Seq) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let old: Vec<Manifest> = self
                .manifests_of(match_id)
                .await?
                .into_iter()
                .filter(|manifest| manifest.seq < before)
                .collect();
            if old.is_empty() {
                return Ok(());
            }
            // The chunks first: their manifests are what finds them.
            for manifest in &old {
                self.drop_chunks(manifest).await?;
            }
            let values = (self.space(), id(match_id.0), ordered(before.0));
            self.driver.write("trim checkpoints", &self.statements.checkpoint_trim, &values).await
        })
    }
}
