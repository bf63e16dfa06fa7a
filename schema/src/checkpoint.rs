//! What a stored checkpoint says of itself.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};

/// Format tag of an encoded [`CheckpointMeta`] of a full checkpoint.
pub const CHECKPOINT_META_TAG: FormatTag = FormatTag(0x2001);
/// Format tag of an encoded [`CheckpointMeta`] that names a base.
pub const CHECKPOINT_META_BASED_TAG: FormatTag = FormatTag(0x2011);

/// Which checkpoint of the same match another one is a delta to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointBase {
    /// Under which ownership it was taken.
    pub epoch: Epoch,
    /// The last record whose effect is in it.
    pub seq: Seq,
}

/// The manifest of a checkpoint. The state itself is an opaque byte string next to it.
///
/// A full checkpoint is encoded as it always was; one with a base has a tag of its own, so that a
/// reader that knows of no bases refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointMeta {
    /// The match whose state it is.
    pub match_id: MatchId,
    /// Under which ownership it was taken.
    pub epoch: Epoch,
    /// The last record whose effect is in it; replay goes on with the next.
    pub seq: Seq,
    /// The tick it stands at.
    pub tick: Tick,
    /// The log of the incarnation that took it.
    pub log: Incarnation,
    /// No record behind `seq` lies in an earlier batch of that log: trimming goes by this.
    pub batch: BatchNo,
    /// The game build that made it.
    pub build: BuildId,
    /// The hash of the state, checked after a restore.
    pub hash: StateHash,
    /// Wall clock when it was taken, in milliseconds since 1970.
    pub time_ms: u64,
    /// Length of the stored bytes: the state, or the delta.
    pub len: u64,
    /// CRC32C of the stored bytes.
    pub crc: u32,
    /// Set: the stored bytes are a [delta](crate::delta) to the state of this checkpoint. `None`:
    /// they are the state.
    pub base: Option<CheckpointBase>,
}

/// What both forms have, as version 1 wrote it.
#[derive(Serialize, Deserialize)]
struct Plain {
    match_id: MatchId,
    epoch: Epoch,
    seq: Seq,
    tick: Tick,
    log: Incarnation,
    batch: BatchNo,
    build: BuildId,
    hash: StateHash,
    time_ms: u64,
    len: u64,
    crc: u32,
}

impl CheckpointMeta {
    /// How other checkpoints name it as their base.
    pub fn as_base(&self) -> CheckpointBase {
        CheckpointBase { epoch: self.epoch, seq: self.seq }
    }

    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        let Self { match_id, epoch, seq, tick, log, batch, build, hash, time_ms, len, crc, base } =
            self.clone();
        let plain =
            Plain { match_id, epoch, seq, tick, log, batch, build, hash, time_ms, len, crc };
        match base {
            None => codec::encode(CHECKPOINT_META_TAG, &plain),
            Some(base) => codec::encode(CHECKPOINT_META_BASED_TAG, &(plain, base)),
        }
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (plain, base) = if CHECKPOINT_META_BASED_TAG.is_of(bytes) {
            let (plain, base): (Plain, CheckpointBase) =
                codec::decode(CHECKPOINT_META_BASED_TAG, bytes)?;
            (plain, Some(base))
        } else {
            (codec::decode(CHECKPOINT_META_TAG, bytes)?, None)
        };
        let Plain { match_id, epoch, seq, tick, log, batch, build, hash, time_ms, len, crc } =
            plain;
        Ok(Self { match_id, epoch, seq, tick, log, batch, build, hash, time_ms, len, crc, base })
    }
}
