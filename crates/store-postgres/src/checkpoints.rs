//! Checkpoints: a small state in its manifest's row, a large one in chunks that are written before
//! it in the same transaction.
//!
//! A reader sees a manifest only when all its chunks are there. What `list` has once found whole it
//! does not read again, because a row is never changed: every put has its own number. `get` checks
//! each time.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{MatchId, Seq};
use rekindle_store::MAX_CHECKPOINT;
use rekindle_store::backend;
use rekindle_store::{Checkpoints, StoreError, StoreResult};
use tokio::sync::Semaphore;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::convert::{bound, column, corrupt, count, id};
use super::guards::Guards;
use super::pools::{Failure, Lane};
use super::{Inner, PostgresStore};

const TABLE: &str = "checkpoint";
/// A state up to this size stands in the row of its manifest; a larger one is cut into chunks of
/// this size, in bytes.
const CHUNK: usize = 256 << 10;
/// How many whole checkpoints are remembered: 8 bytes and a little more for each.
const MAX_KNOWN: usize = 65_536;

const PUT: &str = "WITH gone AS (DELETE FROM checkpoint_chunk USING checkpoint old \
                   WHERE old.match_id = $1 AND old.seq = $2 AND old.epoch = $3 \
                                AND checkpoint_chunk.put = old.put) \
                   INSERT INTO checkpoint (match_id, seq, epoch, put, meta, meta_crc, chunks, \
                   state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                   ON CONFLICT (match_id, seq, epoch) DO UPDATE \
                   SET put = excluded.put, meta = excluded.meta, meta_crc = excluded.meta_crc, \
                                chunks = excluded.chunks, state = excluded.state";

/// Checkpoints on their way, and those that are known to be whole.
pub(super) struct Known {
    pub(super) queue: Semaphore,
    whole: Mutex<HashSet<i64>>,
}

impl Known {
    pub(super) fn new(queue: usize) -> Self {
        Self { queue: Semaphore::new(queue), whole: Mutex::default() }
    }

    fn is_whole(&self, put: i64) -> bool {
        self.whole.lock().contains(&put)
    }

    fn add(&self, put: i64) {
        let mut whole = self.whole.lock();
        if whole.len() >= MAX_KNOWN {
            whole.clear();
        }
        whole.insert(put);
    }
}

/// A manifest as it is stored.
struct Stored {
    put: i64,
    chunks: i32,
    meta: CheckpointMeta,
}

fn place(match_id: MatchId, seq: u64) -> String {
    format!("checkpoint of match {match_id} at seq {seq}")
}

/// Columns (put, chunks, seq, meta, checksum of meta).
fn stored(match_id: MatchId, row: &Row) -> Result<Stored, StoreError> {
    let place = || place(match_id, row.try_get::<_, i64>(2).unwrap_or_default().cast_unsigned());
    let bytes: &[u8] = column(row, 3, TABLE)?;
    if i64::from(crc32c::crc32c(bytes)) != column::<i64>(row, 4, TABLE)? {
        return Err(corrupt(place(), "the checksum of its manifest does not match"));
    }
    let meta = CheckpointMeta::decode(bytes).map_err(|error| corrupt(place(), error))?;
    if meta.match_id != match_id {
        return Err(corrupt(place(), format!("its manifest is one of match {}", meta.match_id)));
    }
    Ok(Stored { put: column(row, 0, TABLE)?, chunks: column(row, 1, TABLE)?, meta })
}

fn missing(meta: &CheckpointMeta) -> StoreError {
    StoreError::NotFound(format!("the checkpoint of match {} at seq {}", meta.match_id, meta.seq))
}

impl Inner {
    async fn put(&self, meta: &CheckpointMeta, state: &Bytes) -> Result<(), StoreError> {
        const DOING: &str = "putting a checkpoint";
        if state.len() > MAX_CHECKPOINT {
            return Err(StoreError::TooLarge {
                what: "a checkpoint",
                size: state.len(),
                limit: MAX_CHECKPOINT,
            });
        }
        backend::check_state(meta, state)?;
        let Ok(_place) = self.known.queue.try_acquire() else {
            return Err(StoreError::Overloaded(format!(
                "{} checkpoints wait already",
                self.options.checkpoint_queue
            )));
        };
        let told = |failure: Failure| failure.told(DOING);
        let mut lent = self.pools.lend(Lane::Bulk, DOING).await?;
        let rows = lent.ask("SELECT nextval('checkpoint_put')", &[]).await.map_err(told)?;
        let put: i64 = column(
            rows.first()
                .ok_or_else(|| corrupt(format!("table {TABLE}"), "no number for a checkpoint"))?,
            0,
            TABLE,
        )?;
        let encoded = meta.encode();
        let crc = i64::from(crc32c::crc32c(&encoded));
        let (seq, epoch) = (count("seq", meta.seq.0)?, count("epoch", meta.epoch.0)?);
        let (chunks, inline): (i32, &[u8]) = if state.len() > CHUNK {
            (state.len().div_ceil(CHUNK) as i32, &[])
        } else {
            (0, state)
        };
        let manifest: [&(dyn ToSql + Sync); 8] =
            [&id(meta.match_id.0), &seq, &epoch, &put, &encoded, &crc, &chunks, &inline];
        if chunks == 0 {
            lent.ask(PUT, &manifest).await.map_err(told)?;
        } else {
            lent.begin().await.map_err(told)?;
            for (ordinal, chunk) in (0_i32..).zip(state.chunks(CHUNK)) {
                let sql = "INSERT INTO checkpoint_chunk (put, ordinal, bytes) VALUES ($1, $2, $3)";
                lent.ask(sql, &[&put, &ordinal, &chunk]).await.map_err(told)?;
            }
            lent.ask(PUT, &manifest).await.map_err(told)?;
            lent.commit().await.map_err(told)?;
        }
        self.known.add(put);
        Ok(())
    }

    /// The bytes of a state, not yet checked.
    async fn state(&self, stored: &Stored) -> Result<Bytes, StoreError> {
        const DOING: &str = "reading a checkpoint";
        let gone = || missing(&stored.meta);
        if stored.chunks == 0 {
            let rows = self
                .pools
                .rows(
                    Lane::Bulk,
                    DOING,
                    "SELECT state FROM checkpoint WHERE put = $1",
                    &[&stored.put],
                )
                .await?;
            let row = rows.first().ok_or_else(gone)?;
            return Ok(Bytes::copy_from_slice(column(row, 0, TABLE)?));
        }
        let mut state = BytesMut::new();
        for ordinal in 0..stored.chunks {
            let sql = "SELECT bytes FROM checkpoint_chunk WHERE put = $1 AND ordinal = $2";
            let rows = self.pools.rows(Lane::Bulk, DOING, sql, &[&stored.put, &ordinal]).await?;
            let Some(row) = rows.first() else {
                let sql = "SELECT FROM checkpoint WHERE put = $1";
                if self.pools.rows(Lane::Bulk, DOING, sql, &[&stored.put]).await?.is_empty() {
                    return Err(gone());
                }
                let place = place(stored.meta.match_id, stored.meta.seq.0);
                return Err(corrupt(
                    place,
                    format!("chunk {ordinal} of {} is missing", stored.chunks),
                ));
            };
            let chunk: &[u8] = column(row, 0, TABLE)?;
            // A manifest that lies about its length makes no reader take more memory than a
            // checkpoint may have.
            if state.len() + chunk.len() > MAX_CHECKPOINT {
                return Err(corrupt(
                    place(stored.meta.match_id, stored.meta.seq.0),
                    "it is longer than a checkpoint may be",
                ));
            }
            state.extend_from_slice(chunk);
        }
        Ok(state.freeze())
    }

    async fn checked_state(&self, stored: &Stored) -> Result<Bytes, StoreError> {
        let state = self.state(stored).await?;
        if Guards::checksums(&self.options) {
            backend::check_state(&stored.meta, &state)?;
        }
        Ok(state)
    }

    async fn list(
        &self,
        match_id: MatchId,
    ) -> Result<(Vec<CheckpointMeta>, Vec<StoreError>), StoreError> {
        let sql = "SELECT put, chunks, seq, meta, meta_crc FROM checkpoint WHERE match_id = $1";
        let rows =
            self.pools.rows(Lane::Bulk, "listing checkpoints", sql, &[&id(match_id.0)]).await?;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for row in &rows {
            let stored = match stored(match_id, row) {
                Ok(stored) => stored,
                Err(error) => {
                    bad.push(error);
                    continue;
                }
            };
            if !self.known.is_whole(stored.put) {
                match self.checked_state(&stored).await {
                    Ok(_) => self.known.add(stored.put),
                    // Trimmed or replaced since the list was read.
                    Err(StoreError::NotFound(_)) => continue,
                    Err(error @ StoreError::Corrupt { .. }) => {
                        bad.push(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            good.push(stored.meta);
        }
        good.sort_by_key(|meta| std::cmp::Reverse((meta.seq, meta.epoch)));
        Ok((good, bad))
    }

    async fn get(&self, meta: &CheckpointMeta) -> Result<Bytes, StoreError> {
        let sql = "SELECT put, chunks, seq, meta, meta_crc FROM checkpoint WHERE match_id = $1 AND \
            seq = $2 AND epoch = $3";
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&id(meta.match_id.0), &bound(meta.seq.0), &bound(meta.epoch.0)];
        let rows = self.pools.rows(Lane::Bulk, "reading a checkpoint", sql, &parameters).await?;
        let stored = stored(meta.match_id, rows.first().ok_or_else(|| missing(meta))?)?;
        if stored.meta != *meta {
            return Err(missing(meta));
        }
        self.checked_state(&stored).await
    }

    async fn trim_checkpoints(&self, match_id: MatchId, before: Seq) -> Result<(), StoreError> {
        let sql = "WITH old AS (DELETE FROM checkpoint WHERE match_id = $1 AND seq < $2 \
                   RETURNING put) \
                   DELETE FROM checkpoint_chunk USING old WHERE checkpoint_chunk.put = old.put";
        self.pools
            .rows(Lane::Bulk, "trimming checkpoints", sql, &[&id(match_id.0), &bound(before.0)])
            .await?;
        Ok(())
    }
}

impl Checkpoints for PostgresStore {
    fn put(&self, meta: CheckpointMeta, state: Bytes) -> StoreResult<'_, ()> {
        Box::pin(async move { self.0.put(&meta, &state).await })
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<CheckpointMeta>, Vec<StoreError>)> {
        Box::pin(self.0.list(match_id))
    }

    fn get(&self, meta: &CheckpointMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(async move { self.0.get(&meta).await })
    }

    fn trim(&self, match_id: MatchId, before: Seq) -> StoreResult<'_, ()> {
        Box::pin(self.0.trim_checkpoints(match_id, before))
    }
}
