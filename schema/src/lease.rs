//! The rows that decide who runs what. Their protocol is in `docs/ARCHITECTURE.md`; the store
//! decides, clocks never do.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointBase;
use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{BatchNo, Epoch, Incarnation, MatchId, Seq};

/// Format tag of an encoded [`MatchLease`].
pub const MATCH_LEASE_TAG: FormatTag = FormatTag(0x3011);
/// Format tag of an encoded [`NodeLease`].
pub const NODE_LEASE_TAG: FormatTag = FormatTag(0x3022);
/// Format tag of a [`MatchLease`] as release 0.1 began: without a region.
const MATCH_LEASE_1: FormatTag = FormatTag(0x3001);
/// Format tag of a [`NodeLease`] as release 0.1 began: without host and region.
const NODE_LEASE_1: FormatTag = FormatTag(0x3002);
/// Format tag of a [`NodeLease`] as release 0.1 went on: without a word about how far the log had
/// come.
const NODE_LEASE_2: FormatTag = FormatTag(0x3012);

/// The region of nodes and matches that name none.
pub const DEFAULT_REGION: &str = "main";

/// Whether an incarnation may still acknowledge anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum NodeState {
    /// It may acknowledge what it wrote.
    Live,
    /// It stopped cleanly: its matches are checkpointed and its log holds nothing that a recovery
    /// needs.
    Stopped,
    /// Another incarnation took its matches. Terminal.
    Fenced,
}

/// How far a node's log had come for certain at some moment. It stands in the lease, apart from the
/// log: a log that ends before it has lost batches that were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The last batch that was durable; 0: none was written yet.
    pub batch: BatchNo,
    /// The checksum of that batch, 0 if there is none.
    pub crc: u32,
    /// When that was said, in milliseconds since 1970.
    pub at_ms: u64,
    /// The last checkpoint that the node had stored by then, if it had stored one.
    pub checkpoint: Option<StoredCheckpoint>,
}

/// Names a checkpoint that was stored: it, or a newer one of the same match, is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCheckpoint {
    /// The match that it is of.
    pub match_id: MatchId,
    /// Which one of it.
    pub name: CheckpointBase,
}

/// One row for each run of a node process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLease {
    /// The run of a node process that the row is about.
    pub incarnation: Incarnation,
    /// The node's configured name.
    pub name: String,
    /// Live, stopped or fenced.
    pub state: NodeState,
    /// Process id on `host`, for fencing on one host.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot (`/proc/PID/stat`, field 22): a reused
    /// pid has another one.
    pub pid_start: u64,
    /// When others may begin to suspect it, in milliseconds since 1970. A hint only.
    pub deadline_ms: u64,
    /// The last batch of its log that counts, once sealed.
    pub seal: Option<BatchNo>,
    /// Names the kernel and the process namespace in which `pid` means something; empty if unknown.
    pub host: String,
    /// Where the node runs. It takes over matches of its own region only.
    pub region: String,
    /// How far its log had come when the lease was last renewed; `None`: nobody has said.
    pub reached: Option<Reached>,
    /// When an operator accepted that the end of the log is lost, in milliseconds since 1970.
    /// `seal` and `reached` say what is left since then.
    pub loss_accepted_ms: Option<u64>,
}

impl NodeLease {
    /// The last batch that the log is known to have had: it was sealed there, or its node said so.
    /// `None`: nobody knows.
    pub fn known_end(&self) -> Option<BatchNo> {
        self.seal.max(self.reached.map(|reached| reached.batch))
    }

    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(NODE_LEASE_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        #[derive(Deserialize)]
        struct First {
            incarnation: Incarnation,
            name: String,
            state: NodeState,
            pid: u32,
            pid_start: u64,
            deadline_ms: u64,
            seal: Option<BatchNo>,
        }
        if !NODE_LEASE_1.is_of(bytes) && !NODE_LEASE_2.is_of(bytes) {
            return codec::decode(NODE_LEASE_TAG, bytes);
        }
        let (first, host, region) = if NODE_LEASE_2.is_of(bytes) {
            codec::decode::<(First, String, String)>(NODE_LEASE_2, bytes)?
        } else {
            (codec::decode(NODE_LEASE_1, bytes)?, String::new(), DEFAULT_REGION.to_owned())
        };
        let First { incarnation, name, state, pid, pid_start, deadline_ms, seal } = first;
        let (reached, loss_accepted_ms) = (None, None);
        Ok(Self {
            incarnation,
            name,
            state,
            pid,
            pid_start,
            deadline_ms,
            seal,
            host,
            region,
            reached,
            loss_accepted_ms,
        })
    }
}

/// What a match is, fixed at its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchSpec {
    /// The name under which the game type is registered.
    pub game: String,
    /// The game's own encoding of its configuration.
    pub config: Bytes,
    /// Seed of the world's random numbers.
    pub seed: u64,
    /// Ticks per second of wall time.
    pub tick_rate: u16,
    /// How many house bots the node plays in it.
    pub house_bots: u16,
    /// Wall clock at creation, in milliseconds since 1970.
    pub created_ms: u64,
}

/// What a match is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchState {
    /// Its owner runs it.
    Running,
    /// It could not be continued: the report says why. An operator decides.
    Parked {
        /// Player, system and tick, in words.
        report: String,
    },
    /// It is over.
    Ended {
        /// Why it is over: said by the game or by an operator, for people.
        reason: String,
    },
}

/// One stretch of a match's journal: which log it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The ownership that wrote it.
    pub epoch: Epoch,
    /// The run of a node in whose log it stands.
    pub incarnation: Incarnation,
    /// No record of this stretch lies in an earlier batch.
    pub first_batch: BatchNo,
    /// The first record of this stretch.
    pub first_seq: Seq,
}

/// The directory row of a match. Every change is a compare-and-set on `version`, made on a row that
/// was just read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchLease {
    /// The match that the row is about.
    pub match_id: MatchId,
    /// Grows by one with every change of the row.
    pub version: u64,
    /// Grows by one with every owner.
    pub epoch: Epoch,
    /// The owner.
    pub incarnation: Incarnation,
    /// Running, parked or ended.
    pub state: MatchState,
    /// Recovery attempts since the match last ran healthily.
    pub attempts: u32,
    /// Where its journal lies, oldest stretch first.
    pub lineage: Vec<Lineage>,
    /// What it is.
    pub spec: MatchSpec,
    /// Its home: only nodes of this region take it over by themselves.
    pub region: String,
}

impl MatchLease {
    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(MATCH_LEASE_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        #[derive(Deserialize)]
        struct First {
            match_id: MatchId,
            version: u64,
            epoch: Epoch,
            incarnation: Incarnation,
            state: MatchState,
            attempts: u32,
            lineage: Vec<Lineage>,
            spec: MatchSpec,
        }
        if !MATCH_LEASE_1.is_of(bytes) {
            return codec::decode(MATCH_LEASE_TAG, bytes);
        }
        let First { match_id, version, epoch, incarnation, state, attempts, lineage, spec } =
            codec::decode(MATCH_LEASE_1, bytes)?;
        Ok(Self {
            match_id,
            version,
            epoch,
            incarnation,
            state,
            attempts,
            lineage,
            spec,
            region: DEFAULT_REGION.to_owned(),
        })
    }
}
