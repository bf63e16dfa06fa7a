//! Frames and batches: how records lie in the log of a node.
//!
//! A *frame* is one record of one match behind a checked header. A *batch* is what one group commit writes: a directory of the matches
//! in it, then their frames. See `docs/FORMATS.md` for the bytes.

use bytes::Bytes;

use crate::ids::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, Tick};

/// The header of a frame, without the parts that encoding computes (magic, version, lengths, checksums).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whose record.
    pub match_id: MatchId,
    /// Under which ownership it was written.
    pub epoch: Epoch,
    /// Its number in the match's journal.
    pub seq: Seq,
    /// First tick that it covers.
    pub first_tick: Tick,
    /// Last tick that it covers.
    pub last_tick: Tick,
    /// The game build that executed those ticks.
    pub build: BuildId,
    /// Wall clock when it was made, in milliseconds since 1970, for queries only.
    pub time_ms: u64,
    /// CRC of the match's frame before this one (0 for the first of an epoch on a node).
    pub prev_crc: u32,
}

/// A frame, decoded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its own CRC32C.
    pub crc: u32,
    /// An encoded [`crate::record::Flush`].
    pub payload: Bytes,
}

/// One line of a batch's directory: the frames of one match in it are contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry {
    /// Whose frames.
    pub match_id: MatchId,
    /// Under which ownership.
    pub epoch: Epoch,
    /// The number of the first of them.
    pub first_seq: Seq,
    /// How many.
    pub count: u32,
    /// Where the first begins, in bytes from the start of the batch.
    pub offset: u32,
}

/// A whole batch as it is written: encoded bytes and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// In whose log.
    pub incarnation: Incarnation,
    /// Its number in that log.
    pub number: BatchNo,
    /// The encoded batch, header and directory included.
    pub bytes: Bytes,
}
