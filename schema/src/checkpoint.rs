//! What a stored checkpoint says of itself.

use serde::{Deserialize, Serialize};

use crate::codec::FormatTag;
use crate::ids::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};

/// Format tag of an encoded [`CheckpointMeta`].
pub const CHECKPOINT_META_TAG: FormatTag = FormatTag(0x2001);

/// The manifest of a checkpoint. The state itself is an opaque byte string next to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// Of which match.
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
    /// Length of the state in bytes.
    pub len: u64,
    /// CRC32C of the state.
    pub crc: u32,
}
