//! What the model is made of: the store, the processes, and what players were shown.
//!
//! Rows of the directory become the product's own rows ([`Row::lease`]) wherever the product
//! decides something about them.

use bytes::Bytes;
use rekindle_cluster::ownership::takeover::Followed;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState,
};
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};

/// How many incarnations there are at most. The last one is started in the course of a run: it is
/// also a process that crashed and came back under a new name.
pub(crate) const NODES: usize = 3;
/// How many matches there are at most.
pub(crate) const MATCHES: usize = 2;

/// An incarnation, its log, or a match, by number.
pub(crate) type Id = u8;

/// What stands in one place of a match's history: two records are the same if both are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Record {
    pub epoch: u8,
    pub by: Id,
}

/// A history from its first record on; the record with number `n` is at index `n - 1`.
pub(crate) type Content = Vec<Record>;

/// One record in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Frame {
    pub of: Id,
    pub epoch: u8,
    pub seq: u8,
}

/// One batch of a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Batch {
    pub frames: Vec<Frame>,
    /// False: it lies on one replica or in a page cache, and may vanish.
    pub durable: bool,
}

/// The log of an incarnation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    /// How many batches were trimmed.
    pub trimmed: u8,
    /// The batches behind them.
    pub batches: Vec<Batch>,
    /// A batch that is under way to the store, and may arrive long after its writer has died.
    pub sent: Option<Vec<Frame>>,
}

impl Log {
    /// The number of the last batch, 0 for none.
    pub(crate) fn last(&self) -> u8 {
        self.trimmed + self.batches.len() as u8
    }

    /// The last batch may still vanish.
    pub(crate) fn is_half(&self) -> bool {
        self.batches.last().is_some_and(|batch| !batch.durable)
    }

    /// No record of a match that is claimed now will lie in an earlier batch.
    pub(crate) fn next(&self) -> u8 {
        self.last() + 1 + u8::from(self.sent.is_some())
    }
}

/// Whether an incarnation may acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    Unregistered,
    Live,
    Fenced,
}

/// The lease of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub standing: Standing,
    /// The last batch that counts.
    pub seal: Option<u8>,
}

/// One stretch of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stretch {
    pub epoch: u8,
    pub log: Id,
    pub first_batch: u8,
    pub first_seq: u8,
}

/// The directory row of a match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    pub version: u8,
    pub epoch: u8,
    pub owner: Id,
    pub lineage: Vec<Stretch>,
}

fn incarnation(id: Id) -> Incarnation {
    Incarnation(u64::from(id))
}

impl Lease {
    /// The lease of an incarnation as the product has it.
    pub(crate) fn of(self, id: Id) -> NodeLease {
        NodeLease {
            incarnation: incarnation(id),
            name: String::new(),
            state: match self.standing {
                Standing::Fenced => NodeState::Fenced,
                Standing::Live | Standing::Unregistered => NodeState::Live,
            },
            pid: 0,
            pid_start: 0,
            deadline_ms: 0,
            seal: self.seal.map(|seal| BatchNo(u64::from(seal))),
            host: String::new(),
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        }
    }
}

impl Follower {
    /// How far it has come, as the product has it.
    pub(crate) fn followed(&self) -> Followed {
        Followed {
            epoch: Epoch(u64::from(self.epoch)),
            owner: incarnation(self.owner),
            read_to: BatchNo(u64::from(self.read_to)),
            seq: Seq(self.content.len() as u64),
        }
    }
}

impl Row {
    /// The row as the product has it.
    pub(crate) fn lease(&self, of: Id) -> MatchLease {
        let stretch = |stretch: &Stretch| Lineage {
            epoch: Epoch(u64::from(stretch.epoch)),
            incarnation: incarnation(stretch.log),
            first_batch: BatchNo(u64::from(stretch.first_batch)),
            first_seq: Seq(u64::from(stretch.first_seq)),
        };
        let spec = MatchSpec {
            game: String::new(),
            config: Bytes::new(),
            seed: 0,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        };
        MatchLease {
            match_id: MatchId(u64::from(of)),
            version: u64::from(self.version),
            epoch: Epoch(u64::from(self.epoch)),
            incarnation: incarnation(self.owner),
            state: MatchState::Running,
            attempts: 0,
            lineage: self.lineage.iter().map(stretch).collect(),
            spec,
            region: DEFAULT_REGION.to_owned(),
        }
    }

    /// The product's row, as the model has it.
    pub(crate) fn of(lease: &MatchLease) -> Self {
        let stretch = |line: &Lineage| Stretch {
            epoch: line.epoch.0 as u8,
            log: line.incarnation.0 as u8,
            first_batch: line.first_batch.0 as u8,
            first_seq: line.first_seq.0 as u8,
        };
        Self {
            version: lease.version as u8,
            epoch: lease.epoch.0 as u8,
            owner: lease.incarnation.0 as u8,
            lineage: lease.lineage.iter().map(stretch).collect(),
        }
    }
}

/// A stored state of a match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Checkpoint {
    pub epoch: u8,
    pub log: Id,
    pub batch: u8,
    pub content: Content,
}

impl Checkpoint {
    /// Its manifest, as the product has it.
    pub(crate) fn meta(&self, of: Id) -> CheckpointMeta {
        CheckpointMeta {
            match_id: MatchId(u64::from(of)),
            epoch: Epoch(u64::from(self.epoch)),
            seq: Seq(self.content.len() as u64),
            tick: Tick(self.content.len() as u64),
            log: incarnation(self.log),
            batch: BatchNo(u64::from(self.batch)),
            build: BuildId(1),
            hash: StateHash::default(),
            time_ms: 0,
            len: 0,
            crc: 0,
            base: None,
        }
    }
}

/// Why a row is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Why {
    /// A takeover, or the promotion of a standby.
    Claim,
    /// The commit point of a migration.
    HandOver,
    /// The source of a migration whose outcome it does not know names itself.
    Insist,
}

/// A compare-and-set that is under way to the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Cas {
    pub by: Id,
    pub of: Id,
    pub why: Why,
    /// Somebody still waits for the answer.
    pub awaited: bool,
    /// The version that must stand.
    pub base: u8,
    pub wanted: Row,
}

/// How far the source of a migration has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It has stopped the match at the cut.
    Cut,
    /// The target stands there too; no record of it will lie in an earlier batch of its log.
    Ready { first_batch: u8 },
    /// Its compare-and-set on this row is under way.
    Asked { base: Row },
    /// That may or may not have been carried out, or may still be.
    Doubt { base: Row },
}

/// A migration, at its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Move {
    pub target: Id,
    pub stage: Stage,
}

/// A match that a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub epoch: u8,
    pub content: Content,
    /// How much of it this run has acknowledged, and in which batch the last of it lies.
    pub acknowledged: Option<(u8, u8)>,
    /// Set: it is stopped for a migration.
    pub moving: Option<Move>,
}

impl Run {
    /// Nothing of it is unacknowledged that it made itself.
    pub(crate) fn is_quiet(&self) -> bool {
        let own = self.content.iter().any(|record| record.epoch == self.epoch);
        !own || self.acknowledged.is_some_and(|(len, _)| usize::from(len) == self.content.len())
    }
}

/// The batch that a process waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    Sent,
    /// It is durable; whether the writer's lease is live is not yet verified.
    Written,
}

/// A takeover of a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Takeover {
    pub victim: Id,
    /// How many of its steps are done.
    pub done: u8,
    /// The last batch that was found.
    pub tail: u8,
    /// The directory as it was at the beginning. Only a mutant remembers that.
    pub rows: Option<[Row; MATCHES]>,
}

/// A match that runs elsewhere, as far as a standby of it has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    pub epoch: u8,
    /// Whose log is read.
    pub owner: Id,
    /// The last batch of it that was read.
    pub read_to: u8,
    pub content: Content,
}

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub up: bool,
    pub runs: [Option<Run>; MATCHES],
    pub write: Option<Write>,
    pub takeover: Option<Takeover>,
    /// The directory as a mutant remembers it.
    pub stale: Option<[Row; MATCHES]>,
    /// What will run when the claim under way succeeds.
    pub claims: [Option<Content>; MATCHES],
    /// What a follower of a match that runs elsewhere stands at.
    pub follows: [Option<Follower>; MATCHES],
}

/// How much of what is limited has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Spent {
    pub crashes: u8,
    pub moves: u8,
    pub follows: u8,
    /// Claims of standbys for what they had followed.
    pub promotions: u8,
    pub lost: u8,
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Two incarnations acknowledged different records with one number.
    OneOwner,
    /// What was acknowledged is not in the lineage up to the seals, or not where it was.
    NothingUndone,
    /// A history lacks a record before others.
    NoGap,
    /// A history has a record twice.
    Once,
    /// An owner follows another without a higher epoch.
    EpochsGrow,
    /// A match that nobody runs cannot be taken over by a node that is live.
    OrphansAreTaken,
}

/// The whole world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub leases: [Lease; NODES],
    pub logs: [Log; NODES],
    pub rows: [Row; MATCHES],
    pub checkpoints: [Vec<Checkpoint>; MATCHES],
    /// Requests under way, ascending.
    pub queue: Vec<Cas>,
    pub nodes: [Node; NODES],
    /// The longest history that was acknowledged to players.
    pub shown: [Content; MATCHES],
    pub spent: Spent,
    /// What has gone wrong.
    pub broken: Option<Rule>,
}

impl State {
    /// Two live nodes, the second of which owns `second` (all other matches are of the first).
    pub(crate) fn new(second: Option<Id>) -> Self {
        let lease = |standing| Lease { standing, seal: None };
        let row = |of: usize| {
            let owner = Id::from(second == Some(of as Id));
            let first = Stretch { epoch: 1, log: owner, first_batch: 1, first_seq: 1 };
            Row { version: 1, epoch: 1, owner, lineage: vec![first] }
        };
        let rows: [Row; MATCHES] = std::array::from_fn(row);
        let node = |id: usize| Node {
            up: id < NODES - 1,
            runs: std::array::from_fn(|of| {
                (usize::from(rows[of].owner) == id).then_some(Run {
                    epoch: 1,
                    content: Content::new(),
                    acknowledged: None,
                    moving: None,
                })
            }),
            ..Node::default()
        };
        Self {
            leases: [Standing::Live, Standing::Live, Standing::Unregistered].map(lease),
            logs: Default::default(),
            nodes: std::array::from_fn(node),
            rows,
            checkpoints: Default::default(),
            queue: Vec::new(),
            shown: Default::default(),
            spent: Spent::default(),
            broken: None,
        }
    }
}
