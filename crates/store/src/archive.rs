//! What is in a chunk of the archive: the records of a match exactly as they lay in the log, or a
//! state, compressed.
//!
//! Frames keep their checksums and the chain from each to the next, so a history out of chunks is
//! checked as one out of logs. [`ChunkBuilder`] is filled by whoever archives; [`records`] and
//! [`state`] take stored bytes apart and check them against the manifest.

use std::io::Read;

use bytes::Bytes;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Encoding};
use rekindle_schema::batch::{Frame, MAX_BATCH};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{BatchNo, Incarnation};

use crate::StoreError;
use crate::{MAX_CHECKPOINT, MAX_CHUNK};

/// A chunk of records is closed once its content is as long as this, in bytes.
pub const CHUNK_TARGET: usize = 256 << 10;
/// The longest content of a chunk that is believed, in bytes: nobody's memory is filled because a
/// manifest says so.
const fn max_content(kind: ChunkKind) -> usize {
    match kind {
        // One record more than it takes to close a chunk.
        ChunkKind::Records => CHUNK_TARGET + MAX_BATCH + (64 << 10),
        ChunkKind::State => MAX_CHECKPOINT + (64 << 10),
    }
}
/// Fast, and with the ratio that repetitive records have anyway.
const LEVEL: i32 = 3;

/// What a chunk is called in errors and notes.
pub fn place(meta: &ChunkMeta) -> String {
    match meta.kind {
        ChunkKind::Records => {
            format!(
                "the archived records {} to {} (ticks {} to {}) of match {}",
                meta.first_seq, meta.last_seq, meta.first_tick, meta.last_tick, meta.match_id
            )
        }
        ChunkKind::State => format!(
            "the archived state of match {} at seq {} (tick {})",
            meta.match_id, meta.last_seq, meta.last_tick
        ),
    }
}

fn corrupt(meta: &ChunkMeta, problem: impl ToString) -> StoreError {
    StoreError::Corrupt { place: place(meta), problem: problem.to_string() }
}

/// A record and where it lay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The record.
    pub frame: Frame,
    /// The log in which it lay, named by its writer.
    pub log: Incarnation,
    /// The batch in which it lay.
    pub batch: BatchNo,
}

/// Puts records into one chunk after the other. The same records make the same chunks.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    content: Vec<u8>,
    meta: Option<ChunkMeta>,
}

impl ChunkBuilder {
    /// Takes the next record; returns a chunk if that has filled it.
    pub fn push(&mut self, placed: &Placed) -> Option<(ChunkMeta, Bytes)> {
        let Placed { frame, log, batch } = placed;
        let header = &frame.header;
        let crc = Frame::encode(header, &frame.payload, &mut self.content);
        let meta = self.meta.get_or_insert(ChunkMeta {
            match_id: header.match_id,
            kind: ChunkKind::Records,
            first_epoch: header.epoch,
            last_epoch: header.epoch,
            first_seq: header.seq,
            last_seq: header.seq,
            first_tick: header.first_tick,
            last_tick: header.last_tick,
            first_ms: header.time_ms,
            last_ms: header.time_ms,
            log: *log,
            batch: *batch,
            records: 0,
            last_crc: crc,
            encoding: Encoding::Plain,
            len: 0,
            crc: 0,
            raw_len: 0,
        });
        meta.last_epoch = header.epoch;
        meta.last_seq = header.seq;
        meta.last_tick = header.last_tick;
        meta.first_ms = meta.first_ms.min(header.time_ms);
        meta.last_ms = meta.last_ms.max(header.time_ms);
        (meta.log, meta.batch, meta.last_crc) = (*log, *batch, crc);
        meta.records += 1;
        if self.content.len() < CHUNK_TARGET { None } else { self.finish() }
    }

    /// What has been pushed since the last chunk, as a chunk of its own.
    pub fn finish(&mut self) -> Option<(ChunkMeta, Bytes)> {
        let meta = self.meta.take()?;
        Some(pack(meta, std::mem::take(&mut self.content)))
    }
}

/// A state as a chunk. `TooLarge` if it is over the limit of a chunk even when compressed.
pub fn pack_state(
    checkpoint: &CheckpointMeta,
    state: &[u8],
) -> Result<(ChunkMeta, Bytes), StoreError> {
    let manifest = checkpoint.encode();
    let mut content = Vec::with_capacity(4 + manifest.len() + state.len());
    content.extend_from_slice(&(manifest.len() as u32).to_le_bytes());
    content.extend_from_slice(&manifest);
    content.extend_from_slice(state);
    let meta = ChunkMeta {
        match_id: checkpoint.match_id,
        kind: ChunkKind::State,
        first_epoch: checkpoint.epoch,
        last_epoch: checkpoint.epoch,
        first_seq: checkpoint.seq,
        last_seq: checkpoint.seq,
        first_tick: checkpoint.tick,
        last_tick: checkpoint.tick,
        first_ms: checkpoint.time_ms,
        last_ms: checkpoint.time_ms,
        log: checkpoint.log,
        batch: checkpoint.batch,
        records: 0,
        last_crc: 0,
        encoding: Encoding::Plain,
        len: 0,
        crc: 0,
        raw_len: 0,
    };
    let (meta, bytes) = pack(meta, content);
    if bytes.len() > MAX_CHUNK {
        return Err(StoreError::TooLarge {
            what: "an archived state",
            size: bytes.len(),
            limit: MAX_CHUNK,
        });
    }
    Ok((meta, bytes))
}

/// Compresses the content if that makes it shorter, and completes the manifest.
fn pack(meta: ChunkMeta, content: Vec<u8>) -> (ChunkMeta, Bytes) {
    let raw_len = content.len() as u64;
    // Compressing into memory fails only for lack of it; then the content is kept as it is.
    let packed =
        zstd::bulk::compress(&content, LEVEL).ok().filter(|packed| packed.len() < content.len());
    let (encoding, bytes) =
        packed.map_or((Encoding::Plain, content), |packed| (Encoding::Zstd, packed));
    let crc = crc32c::crc32c(&bytes);
    (ChunkMeta { encoding, len: bytes.len() as u64, crc, raw_len, ..meta }, bytes.into())
}

fn content(meta: &ChunkMeta, bytes: &Bytes) -> Result<Bytes, StoreError> {
    crate::backend::check_chunk(meta, bytes)?;
    let content = match meta.encoding {
        Encoding::Plain => bytes.clone(),
        Encoding::Zstd => {
            let most = max_content(meta.kind);
            let limit = usize::try_from(meta.raw_len).ok().filter(|&len| len <= most);
            let limit = limit.ok_or_else(|| {
                corrupt(
                    meta,
                    format!("a content of {} bytes is over the limit of {most}", meta.raw_len),
                )
            })?;
            decompress(bytes, limit)
                .map_err(|error| corrupt(meta, format!("it cannot be decompressed: {error}")))?
                .into()
        }
    };
    if content.len() as u64 == meta.raw_len {
        Ok(content)
    } else {
        Err(corrupt(
            meta,
            format!("its content has {} bytes, its manifest says {}", content.len(), meta.raw_len),
        ))
    }
}

/// As many bytes as there are, up to `limit`; memory grows with them, not with what is promised.
fn decompress(bytes: &[u8], limit: usize) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(bytes)?;
    // No frame needs a longer window than its content.
    decoder.window_log_max(limit.max(1).ilog2().saturating_add(1).clamp(10, 30))?;
    decoder.take(limit as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Whether a chunk holds what its manifest says: all that [`records`] and [`state`] check. Whoever
/// copies chunks calls it.
pub fn check(meta: &ChunkMeta, bytes: &Bytes) -> Result<(), StoreError> {
    match meta.kind {
        ChunkKind::Records => records(meta, bytes).map(drop),
        ChunkKind::State => state(meta, bytes).map(drop),
    }
}

/// The records of a chunk: each frame's checksum, the chain between them, and the manifest's
/// numbers are checked.
pub fn records(meta: &ChunkMeta, bytes: &Bytes) -> Result<Vec<Frame>, StoreError> {
    let mut rest = content(meta, bytes)?;
    if meta.kind != ChunkKind::Records {
        return Err(corrupt(meta, "it holds no records"));
    }
    let mut frames: Vec<Frame> = Vec::new();
    while !rest.is_empty() {
        let (frame, len) = Frame::decode(&rest)
            .map_err(|error| corrupt(meta, format!("record {}: {error}", frames.len() + 1)))?;
        rest = rest.slice(len..);
        if let Some(last) = frames.last() {
            follows(last.header.epoch, last.crc, last.header.seq, &frame)
                .map_err(|problem| corrupt(meta, problem))?;
        }
        frames.push(frame);
    }
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
        return Err(corrupt(meta, "it is empty"));
    };
    let found = (
        first.header.match_id,
        first.header.epoch,
        first.header.seq,
        first.header.first_tick,
        frames.len() as u64,
    );
    let ends = (last.header.epoch, last.header.seq, last.header.last_tick, last.crc);
    let said = (meta.match_id, meta.first_epoch, meta.first_seq, meta.first_tick, meta.records);
    if found != said || ends != (meta.last_epoch, meta.last_seq, meta.last_tick, meta.last_crc) {
        return Err(corrupt(
            meta,
            format!(
                "it holds records {} to {}, not those that its manifest names",
                first.header.seq, last.header.seq
            ),
        ));
    }
    Ok(frames)
}

/// Whether `frame` is the record behind one of this epoch, checksum and seq.
pub fn follows(
    epoch: rekindle_schema::Epoch,
    crc: u32,
    seq: rekindle_schema::Seq,
    frame: &Frame,
) -> Result<(), String> {
    let header = &frame.header;
    let expected = if header.epoch == epoch { crc } else { 0 };
    if header.seq != seq.next() || header.epoch < epoch {
        return Err(format!(
            "record {} of epoch {} stands behind record {seq} of epoch {epoch}",
            header.seq, header.epoch
        ));
    }
    if header.prev_crc != expected {
        return Err(format!(
            "record {} carries {:08x} as the checksum of the record before it, which has \
             {expected:08x}",
            header.seq, header.prev_crc
        ));
    }
    Ok(())
}

/// The checkpoint in a chunk, as it was stored once, checked as one.
pub fn state(meta: &ChunkMeta, bytes: &Bytes) -> Result<(CheckpointMeta, Bytes), StoreError> {
    let content = content(meta, bytes)?;
    if meta.kind != ChunkKind::State {
        return Err(corrupt(meta, "it holds no state"));
    }
    let short = || corrupt(meta, "its content is cut off");
    let head = content.first_chunk::<4>().ok_or_else(short)?;
    let end = 4usize.saturating_add(u32::from_le_bytes(*head) as usize);
    let manifest = content.get(4..end).ok_or_else(short)?;
    let checkpoint: CheckpointMeta =
        CheckpointMeta::decode(manifest).map_err(|error| corrupt(meta, error))?;
    let state = content.slice(end..);
    crate::backend::check_state(&checkpoint, &state)?;
    if (checkpoint.match_id, checkpoint.epoch, checkpoint.seq, checkpoint.tick)
        != (meta.match_id, meta.first_epoch, meta.first_seq, meta.first_tick)
    {
        return Err(corrupt(meta, format!("it holds a state at seq {}", checkpoint.seq)));
    }
    Ok((checkpoint, state))
}
