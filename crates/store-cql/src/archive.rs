//! The archive: bytes first, under a key made of what they are; then the manifest, by a
//! transaction, so that of many the first stands.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rekindle_schema::MatchId;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_store::MAX_CHUNK;
use rekindle_store::backend;
use rekindle_store::{Archive, StoreError, StoreResult};
use scylla::errors::DeserializationError;
use scylla::response::query_result::QueryRowsResult;

use super::guards::Guards;
use super::{CqlStore, PART, PARTS_AT_ONCE, id, migrate, ordered};

/// Pieces of 256 KiB in one partition: 16 MiB.
const PIECES: usize = 64;

fn kind_number(kind: ChunkKind) -> i32 {
    match kind {
        ChunkKind::Records => 0,
        ChunkKind::State => 1,
    }
}

/// Match, first seq, kind: the name of a chunk.
type Name = (i64, i64, i32);

fn name(meta: &ChunkMeta) -> Name {
    (id(meta.match_id.0), ordered(meta.first_seq.0), kind_number(meta.kind))
}

/// Whether the bytes of two manifests lie under the same key.
fn same_bytes(one: &ChunkMeta, other: &ChunkMeta) -> bool {
    (one.crc, one.len) == (other.crc, other.len)
}

impl CqlStore {
    fn chunk_metas(
        &self,
        rows: &QueryRowsResult,
    ) -> Result<Vec<Result<ChunkMeta, StoreError>>, StoreError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            self.driver.unreadable("read manifests of the archive", error)
        };
        let rows = rows.rows::<(Option<&[u8]>,)>().map_err(|error| unreadable(&error))?;
        let decode = |row: Result<(Option<&[u8]>,), DeserializationError>| {
            let (meta,) = row.map_err(|error| unreadable(&error))?;
            let meta = ChunkMeta::decode(meta.unwrap_or_default());
            Ok(meta.map_err(|error| migrate::undecodable(&self.driver, "archive_chunk", &error)))
        };
        rows.map(decode).collect()
    }

    /// The manifest that stands under a name, if it can be read, and its bytes.
    async fn standing(
        &self,
        (match_id, seq, kind): Name,
    ) -> Result<Option<(Result<ChunkMeta, StoreError>, Vec<u8>)>, StoreError> {
        let what = "read a manifest of the archive";
        let rows = self
            .driver
            .rows(what, &self.statements.archive_row, &(self.space(), match_id, seq, kind))
            .await?;
        let raw: Option<(Option<Vec<u8>>,)> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        let Some((raw,)) = raw else { return Ok(None) };
        Ok(self.chunk_metas(&rows)?.pop().map(|meta| (meta, raw.unwrap_or_default())))
    }

    async fn write_pieces(&self, meta: &ChunkMeta, bytes: &Bytes) -> Result<(), StoreError> {
        let ((match_id, seq, kind), crc, len) =
            (name(meta), i64::from(meta.crc), ordered(meta.len));
        let write = |index: usize| {
            let bytes = bytes.slice(index * PART..bytes.len().min((index + 1) * PART));
            async move {
                let (piece, chunk) = ((index / PIECES) as i32, index as i32);
                let values =
                    (self.space(), match_id, seq, kind, crc, len, piece, chunk, bytes.as_ref());
                self.driver
                    .write("write to the archive", &self.statements.archive_piece_write, &values)
                    .await
            }
        };
        let count = bytes.len().div_ceil(PART);
        let writes: Vec<futures::future::BoxFuture<'_, _>> =
            (0..count).map(|index| Box::pin(write(index)) as _).collect();
        futures::stream::iter(writes).buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await
    }

    async fn read_pieces(&self, meta: &ChunkMeta) -> Result<Bytes, StoreError> {
        let ((match_id, seq, kind), crc, len) =
            (name(meta), i64::from(meta.crc), ordered(meta.len));
        let what = "read from the archive";
        let read = |index: usize| async move {
            let values = (
                self.space(),
                match_id,
                seq,
                kind,
                crc,
                len,
                (index / PIECES) as i32,
                index as i32,
            );
            let rows = self.driver.rows(what, &self.statements.archive_piece_read, &values).await?;
            let row: Option<(Option<Vec<u8>>,)> =
                rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
            Ok(row.and_then(|(bytes,)| bytes).unwrap_or_default())
        };
        let count = (meta.len.min(MAX_CHUNK as u64) as usize).div_ceil(PART);
        let reads: Vec<futures::future::BoxFuture<'_, Result<Vec<u8>, StoreError>>> =
            (0..count).map(|index| Box::pin(read(index)) as _).collect();
        let pieces: Vec<Vec<u8>> =
            futures::stream::iter(reads).buffered(PARTS_AT_ONCE).try_collect().await?;
        let bytes = Bytes::from(pieces.concat());
        if Guards::checksums(Guards::of(&self.options)) {
            backend::check_chunk(meta, &bytes)?;
        }
        Ok(bytes)
    }

    async fn drop_pieces(&self, meta: &ChunkMeta) -> Result<(), StoreError> {
        let ((match_id, seq, kind), crc, len) =
            (name(meta), i64::from(meta.crc), ordered(meta.len));
        let count = (meta.len.min(MAX_CHUNK as u64) as usize).div_ceil(PIECES * PART);
        for piece in 0..count as i32 {
            let key = (self.space(), match_id, seq, kind, crc, len, piece);
            self.driver
                .write("delete from the archive", &self.statements.archive_piece_drop, &key)
                .await?;
        }
        Ok(())
    }

    async fn put_chunk(&self, meta: ChunkMeta, bytes: Bytes) -> Result<ChunkMeta, StoreError> {
        backend::check_new_chunk(&meta, &bytes)?;
        let full = || {
            StoreError::Overloaded(format!(
                "{} chunks wait for {}",
                self.options.append_queue,
                self.driver.place()
            ))
        };
        let _permit = self.puts.try_acquire().map_err(|_| full())?;
        let (key, encoded) = (name(&meta), meta.encode());
        let what = "enter a chunk of the archive";
        let mut written = false;
        loop {
            let damaged = match self.standing(key).await? {
                None => None,
                Some((Ok(stands), raw)) => match self.read_pieces(&stands).await {
                    Ok(_) => {
                        // Ours are of no use to anybody, unless they are those that stand.
                        if written && !same_bytes(&stands, &meta) {
                            self.drop_pieces(&meta).await?;
                        }
                        return Ok(stands);
                    }
                    Err(StoreError::Corrupt { .. }) => Some(raw),
                    Err(error) => return Err(error),
                },
                Some((Err(_), raw)) => Some(raw),
            };
            self.write_pieces(&meta, &bytes).await?;
            written = true;
            let answer = match &damaged {
                None => {
                    let values = (self.space(), key.0, key.1, key.2, encoded.as_slice());
                    self.settled(what, &self.statements.archive_enter, &values).await?
                }
                // The same manifest, and now its bytes are whole.
                Some(raw) if *raw == encoded => return Ok(meta),
                Some(raw) => {
                    let values =
                        (encoded.as_slice(), self.space(), key.0, key.1, key.2, raw.as_slice());
                    self.settled(what, &self.statements.archive_replace, &values).await?
                }
            };
            if answer.applied {
                return Ok(meta);
            }
            // Another one was faster, or an attempt of ours whose answer was lost.
        }
    }

    async fn pin_rows(&self) -> Result<Vec<Pin>, StoreError> {
        let what = "list pins";
        let read = |rows: &QueryRowsResult| {
            let rows =
                rows.rows::<(&[u8],)>().map_err(|error| self.driver.unreadable(what, &error))?;
            let decode = |row: Result<(&[u8],), DeserializationError>| {
                let (value,) = row.map_err(|error| self.driver.unreadable(what, &error))?;
                Pin::decode(value)
                    .map_err(|error| migrate::undecodable(&self.driver, "archive_pin", &error))
            };
            rows.map(decode).collect::<Result<Vec<_>, _>>()
        };
        let mut pins =
            self.driver.all(what, &self.statements.pin_rows, &(self.space(),), read).await?;
        pins.sort_by_key(|pin| pin.match_id);
        Ok(pins)
    }
}

impl Archive for CqlStore {
    fn put(&self, meta: ChunkMeta, bytes: Bytes) -> StoreResult<'_, ChunkMeta> {
        Box::pin(self.put_chunk(meta, bytes))
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<ChunkMeta>, Vec<StoreError>)> {
        Box::pin(async move {
            let key = (self.space(), id(match_id.0));
            let all = self
                .driver
                .all("list chunks", &self.statements.archive_rows, &key, |rows| {
                    self.chunk_metas(rows)
                })
                .await?;
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            for meta in all {
                match meta {
                    Ok(meta) => good.push(meta),
                    Err(error) => bad.push(error),
                }
            }
            good.sort_by_key(|meta| (meta.first_seq, meta.kind));
            Ok((good, bad))
        })
    }

    fn get(&self, meta: &ChunkMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(async move {
            match self.standing(name(&meta)).await? {
                Some((Ok(stands), _)) if stands == meta => self.read_pieces(&meta).await,
                _ => Err(backend::no_chunk(&meta)),
            }
        })
    }

    fn remove(&self, meta: &ChunkMeta) -> StoreResult<'_, ()> {
        let meta = meta.clone();
        Box::pin(async move {
            let (match_id, seq, kind) = name(&meta);
            let stands = self.standing((match_id, seq, kind)).await?;
            // The bytes first: the manifest is what finds them.
            if let Some((Ok(stands), _)) = &stands {
                self.drop_pieces(stands).await?;
            }
            let what = "remove a chunk";
            let values = (self.space(), match_id, seq, kind);
            self.settled(what, &self.statements.archive_remove, &values).await.map(drop)
        })
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchId>> {
        Box::pin(async move {
            let what = "list matches in the archive";
            let read = |rows: &QueryRowsResult| {
                let rows = rows
                    .rows::<(&str, i64)>()
                    .map_err(|error| self.driver.unreadable(what, &error))?;
                let rows =
                    rows.map(|row| row.map_err(|error| self.driver.unreadable(what, &error)));
                let mine =
                    rows.filter(|row| !matches!(row, Ok((space, _)) if *space != self.space()));
                mine.map(|row| row.map(|(_, match_id)| MatchId(match_id as u64)))
                    .collect::<Result<Vec<_>, _>>()
            };
            let mut matches =
                self.driver.all(what, &self.statements.archive_matches, &(), read).await?;
            matches.sort_unstable();
            matches.dedup();
            Ok(matches)
        })
    }

    fn pin(&self, pin: Pin) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let (match_id, value, what) = (id(pin.match_id.0), pin.encode(), "pin a match");
            loop {
                let values = (self.space(), match_id, value.as_slice());
                if self.settled(what, &self.statements.pin_enter, &values).await?.applied {
                    return Ok(());
                }
                let values = (value.as_slice(), self.space(), match_id);
                if self.settled(what, &self.statements.pin_replace, &values).await?.applied {
                    return Ok(());
                }
                // It was removed in between.
            }
        })
    }

    fn unpin(&self, match_id: MatchId) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let what = "unpin a match";
            let values = (self.space(), id(match_id.0));
            Ok(self.settled(what, &self.statements.pin_remove, &values).await?.applied)
        })
    }

    fn pins(&self) -> StoreResult<'_, Vec<Pin>> {
        Box::pin(self.pin_rows())
    }
}
