//! What the archive says of its pieces, and which stretches of matches are pinned.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{BatchNo, Epoch, Incarnation, MatchId, Seq, Tick};

/// Format tag of an encoded [`ChunkMeta`].
pub const CHUNK_META_TAG: FormatTag = FormatTag(0x6001);
/// Format tag of an encoded [`Pin`].
pub const PIN_TAG: FormatTag = FormatTag(0x6002);

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ChunkKind {
    /// Records, as frames.
    Records,
    /// A checkpoint from which the records behind it can be replayed.
    State,
}

/// How the content of a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Encoding {
    /// The content, byte for byte.
    Plain,
    /// One Zstandard frame.
    Zstd,
}

/// The manifest of one chunk of the archive: a stretch of one match's records, or a state. It is
/// the archive's index: by seq, by tick, by time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkMeta {
    /// The match whose records or state it holds.
    pub match_id: MatchId,
    /// Records or a state. Match, kind and `first_seq` name a chunk.
    pub kind: ChunkKind,
    /// Epoch of the first record; of a state, the one that took it.
    pub first_epoch: Epoch,
    /// Epoch of the last record.
    pub last_epoch: Epoch,
    /// The first record; of a state, the last record whose effect is in it.
    pub first_seq: Seq,
    /// The last record; of a state, the same as `first_seq`.
    pub last_seq: Seq,
    /// The first tick that is covered; of a state, the tick it stands at.
    pub first_tick: Tick,
    /// The last tick that is covered.
    pub last_tick: Tick,
    /// The least wall clock of its records, in milliseconds since 1970.
    pub first_ms: u64,
    /// The greatest wall clock of its records. Clocks of owners differ, so chunks may overlap in
    /// time; they never do in records.
    pub last_ms: u64,
    /// The log in which the last record lay.
    pub log: Incarnation,
    /// No record behind `last_seq` lies in an earlier batch of that log: trimming goes by this.
    pub batch: BatchNo,
    /// How many records; 0 for a state.
    pub records: u64,
    /// The checksum of the last record, which the next of the same epoch carries as `prev_crc`; 0
    /// for a state.
    pub last_crc: u32,
    /// How the content is stored.
    pub encoding: Encoding,
    /// Length of the stored bytes.
    pub len: u64,
    /// CRC32C of the stored bytes.
    pub crc: u32,
    /// Length of the content in bytes.
    pub raw_len: u64,
}

impl ChunkMeta {
    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(CHUNK_META_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(CHUNK_META_TAG, bytes)
    }
}

/// A stretch of a match whose replay must stay possible, whatever the retention policy says. A
/// match has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The match that is pinned.
    pub match_id: MatchId,
    /// The first tick.
    pub from: Tick,
    /// The last tick; `None`: to the end, wherever that will be.
    pub to: Option<Tick>,
    /// Wall clock when it was pinned, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Pin {
    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(PIN_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(PIN_TAG, bytes)
    }
}
