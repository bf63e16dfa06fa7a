//! The archive: one row for each chunk, and pins.

use bytes::Bytes;
use rekindle_schema::MatchId;
use rekindle_schema::archive::{ChunkMeta, Pin};
use rekindle_store::backend;
use rekindle_store::{Archive, StoreError, StoreResult};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::convert::{column, corrupt, count, decoded, id};
use super::guards::Guards;
use super::pools::Lane;
use super::{Inner, PostgresStore};

const TABLE: &str = "archive_chunk";
/// How often a chunk that others replace at the same time is looked at.
const TRIES: usize = 8;

/// (match, first seq, kind) of a chunk, as columns.
fn key(meta: &ChunkMeta) -> Result<(i64, i64, i16), StoreError> {
    Ok((id(meta.match_id.0), count("seq", meta.first_seq.0)?, i16::from(meta.kind as u8)))
}

/// Columns (meta, checksum of meta, first seq).
fn manifest(match_id: MatchId, row: &Row) -> Result<ChunkMeta, StoreError> {
    let place = || {
        format!("chunk of match {match_id} at seq {}", row.try_get::<_, i64>(2).unwrap_or_default())
    };
    let bytes: &[u8] = column(row, 0, TABLE)?;
    if i64::from(crc32c::crc32c(bytes)) != column::<i64>(row, 1, TABLE)? {
        return Err(corrupt(place(), "the checksum of its manifest does not match"));
    }
    let meta = ChunkMeta::decode(bytes).map_err(|error| corrupt(place(), error))?;
    if meta.match_id == match_id {
        Ok(meta)
    } else {
        Err(corrupt(place(), format!("its manifest is one of match {}", meta.match_id)))
    }
}

impl Inner {
    /// The manifest and the number of the put that stands under the name of `meta`.
    async fn chunk(
        &self,
        meta: &ChunkMeta,
    ) -> Result<Option<(i64, Result<ChunkMeta, StoreError>)>, StoreError> {
        let sql = "SELECT meta, meta_crc, first_seq, put FROM archive_chunk WHERE match_id = $1 \
            AND first_seq = $2 AND kind = $3";
        let (match_id, seq, kind) = key(meta)?;
        let rows = self
            .pools
            .rows(Lane::Bulk, "reading the archive", sql, &[&match_id, &seq, &kind])
            .await?;
        rows.first()
            .map(|row| Ok((column(row, 3, TABLE)?, manifest(meta.match_id, row))))
            .transpose()
    }

    async fn chunk_bytes(&self, meta: &ChunkMeta, put: i64) -> Result<Bytes, StoreError> {
        let sql = "SELECT bytes FROM archive_chunk WHERE match_id = $1 AND first_seq = $2 AND kind \
            = $3 AND put = $4";
        let (match_id, seq, kind) = key(meta)?;
        let rows = self
            .pools
            .rows(Lane::Bulk, "reading the archive", sql, &[&match_id, &seq, &kind, &put])
            .await?;
        let row = rows.first().ok_or_else(|| backend::no_chunk(meta))?;
        let bytes: &[u8] = column(row, 0, TABLE)?;
        if Guards::checksums(&self.options) {
            backend::check_chunk(meta, bytes)?;
        }
        Ok(Bytes::copy_from_slice(bytes))
    }

    async fn put_chunk(&self, meta: ChunkMeta, bytes: Bytes) -> Result<ChunkMeta, StoreError> {
        const DOING: &str = "archiving a chunk";
        backend::check_new_chunk(&meta, &bytes)?;
        let Ok(_place) = self.known.queue.try_acquire() else {
            return Err(StoreError::Overloaded(format!(
                "{} checkpoints and chunks wait already",
                self.options.checkpoint_queue
            )));
        };
        let (match_id, seq, kind) = key(&meta)?;
        let (encoded, content) = (meta.encode(), &bytes[..]);
        let crc = i64::from(crc32c::crc32c(&encoded));
        for _ in 0..TRIES {
            let insert = "INSERT INTO archive_chunk (match_id, first_seq, kind, put, meta, \
                          meta_crc, bytes) \
                          VALUES ($1, $2, $3, nextval('archive_put'), $4, $5, $6) ON CONFLICT \
                          DO NOTHING RETURNING true";
            let Some((put, stands)) = self.chunk(&meta).await? else {
                let parameters: [&(dyn ToSql + Sync); 6] =
                    [&match_id, &seq, &kind, &encoded, &crc, &content];
                if !self.pools.rows(Lane::Bulk, DOING, insert, &parameters).await?.is_empty() {
                    return Ok(meta);
                }
                continue;
            };
            let whole = match stands {
                Ok(stands) => self.chunk_bytes(&stands, put).await.map(|_| stands),
                Err(error) => Err(error),
            };
            match whole {
                Ok(stands) => return Ok(stands),
                Err(StoreError::NotFound(_)) => {}
                Err(StoreError::Corrupt { .. }) => {
                    let replace = "UPDATE archive_chunk SET put = nextval('archive_put'), meta = \
                                   $5, meta_crc = $6, bytes = $7 \
                                   WHERE match_id = $1 AND first_seq = $2 AND kind = $3 \
                                   AND put = $4 RETURNING true";
                    let parameters: [&(dyn ToSql + Sync); 7] =
                        [&match_id, &seq, &kind, &put, &encoded, &crc, &content];
                    if !self.pools.rows(Lane::Bulk, DOING, replace, &parameters).await?.is_empty() {
                        return Ok(meta);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unavailable("a chunk of the archive comes and goes".to_owned()))
    }

    async fn get_chunk(&self, meta: &ChunkMeta) -> Result<Bytes, StoreError> {
        let (put, stands) = self.chunk(meta).await?.ok_or_else(|| backend::no_chunk(meta))?;
        if stands? != *meta {
            return Err(backend::no_chunk(meta));
        }
        self.chunk_bytes(meta, put).await
    }

    async fn list_chunks(
        &self,
        match_id: MatchId,
    ) -> Result<(Vec<ChunkMeta>, Vec<StoreError>), StoreError> {
        let sql = "SELECT meta, meta_crc, first_seq FROM archive_chunk WHERE match_id = $1 ORDER \
            BY first_seq, kind";
        let rows =
            self.pools.rows(Lane::Bulk, "listing the archive", sql, &[&id(match_id.0)]).await?;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for row in &rows {
            match manifest(match_id, row) {
                Ok(meta) => good.push(meta),
                Err(error) => bad.push(error),
            }
        }
        good.sort_by_key(|meta| (meta.first_seq, meta.kind));
        Ok((good, bad))
    }
}

impl Archive for PostgresStore {
    fn put(&self, meta: ChunkMeta, bytes: Bytes) -> StoreResult<'_, ChunkMeta> {
        Box::pin(self.0.put_chunk(meta, bytes))
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<ChunkMeta>, Vec<StoreError>)> {
        Box::pin(self.0.list_chunks(match_id))
    }

    fn get(&self, meta: &ChunkMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(async move { self.0.get_chunk(&meta).await })
    }

    fn remove(&self, meta: &ChunkMeta) -> StoreResult<'_, ()> {
        let key = key(meta);
        Box::pin(async move {
            let (match_id, seq, kind) = key?;
            let sql =
                "DELETE FROM archive_chunk WHERE match_id = $1 AND first_seq = $2 AND kind = $3";
            self.0
                .pools
                .rows(Lane::Bulk, "removing a chunk", sql, &[&match_id, &seq, &kind])
                .await?;
            Ok(())
        })
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchId>> {
        Box::pin(async move {
            let rows = self
                .0
                .pools
                .rows(
                    Lane::Bulk,
                    "listing the archive",
                    "SELECT DISTINCT match_id FROM archive_chunk",
                    &[],
                )
                .await?;
            let read = |row: &Row| Ok(MatchId(column::<i64>(row, 0, TABLE)?.cast_unsigned()));
            let mut found = rows.iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
            found.sort_unstable();
            Ok(found)
        })
    }

    fn pin(&self, pin: Pin) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let sql = "INSERT INTO pin (match_id, pin) VALUES ($1, $2) ON CONFLICT (match_id) DO \
                UPDATE SET pin = excluded.pin";
            self.0
                .pools
                .rows(Lane::Facts, "pinning a match", sql, &[&id(pin.match_id.0), &pin.encode()])
                .await?;
            Ok(())
        })
    }

    fn unpin(&self, match_id: MatchId) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let sql = "DELETE FROM pin WHERE match_id = $1 RETURNING true";
            Ok(!self
                .0
                .pools
                .rows(Lane::Facts, "unpinning a match", sql, &[&id(match_id.0)])
                .await?
                .is_empty())
        })
    }

    fn pins(&self) -> StoreResult<'_, Vec<Pin>> {
        Box::pin(async move {
            let rows =
                self.0.pools.rows(Lane::Facts, "listing pins", "SELECT pin FROM pin", &[]).await?;
            let mut found = rows
                .iter()
                .map(|row| decoded("pin", Pin::decode(column(row, 0, "pin")?)))
                .collect::<Result<Vec<_>, _>>()?;
            found.sort_by_key(|pin| pin.match_id);
            Ok(found)
        })
    }
}
