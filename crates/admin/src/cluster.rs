//! `GET /v1/cluster`: what the store says of the nodes and matches that share it. Facts alone, so
//! that whoever asks draws the conclusions, and so that the same ones can be read from a store of
//! which no node runs.

use serde::{Deserialize, Serialize};

use crate::api::AuditView;

/// What a node lease says, with how long ago it should have been renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStanding {
    /// Its lease is live and renewed.
    Live,
    /// Its lease is live, and its deadline has passed: it hangs, died, or cannot reach the store.
    Late,
    /// It stopped cleanly.
    Stopped,
    /// Its matches were taken. It never comes back under this incarnation.
    Fenced,
}

impl NodeStanding {
    /// The word, as it stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Late => "late",
            Self::Stopped => "stopped",
            Self::Fenced => "fenced",
        }
    }
}

/// One run of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// The configured name.
    pub name: String,
    /// This run: 16 hexadecimal digits.
    pub incarnation: String,
    /// Where it runs.
    pub region: String,
    /// By its lease.
    pub standing: NodeStanding,
    /// An operator empties it.
    pub draining: bool,
    /// When it began, in milliseconds since 1970.
    pub since_ms: u64,
    /// When its lease was renewed last, as far as the deadline in it says, in milliseconds since
    /// 1970.
    pub renewed_ms: u64,
    /// Rows of running matches that name it.
    pub matches: usize,
    /// The build of its executable, if it says so.
    pub build: Option<String>,
    /// Where players reach it, if it says so.
    pub players_at: Option<String>,
    /// Its admin listener, if it says so.
    pub admin: Option<String>,
    /// How far it has come, if it is to be drained and says so.
    #[serde(default)]
    pub drain: Option<DrainEntry>,
}

/// How far a node has come that is to be drained, as it said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainEntry {
    /// Matches that it has given away.
    pub moved: u32,
    /// Matches that it still runs.
    pub left: u32,
    /// Of those, some that could not be given away yet.
    pub stuck: Vec<StuckEntry>,
    /// How long a match stood still at most, in milliseconds.
    pub worst_pause_ms: u64,
}

/// A match that could not be given away yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckEntry {
    /// 16 hexadecimal digits.
    pub id: String,
    /// Why, in words.
    pub why: String,
}

/// What a node is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeWanted {
    /// Run matches as it comes.
    Serving,
    /// Give its matches away, take no further ones, and go on.
    Drained,
    /// As `drained`; then its process ends, and no node of this name starts.
    Decommissioned,
}

impl NodeWanted {
    /// The word, as it stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Drained => "drained",
            Self::Decommissioned => "decommissioned",
        }
    }
}

/// What an operator wants of a node, whether or not it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishEntry {
    /// The configured name of the node.
    pub node: String,
    /// Never `serving`: then there is no wish.
    pub wanted: NodeWanted,
    /// When it was asked for, in milliseconds since 1970.
    pub since_ms: u64,
    /// Who asked.
    pub who: String,
}

/// `POST /v1/nodes/NAME`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WishNode {
    /// What the node of that name is to do.
    pub wanted: NodeWanted,
}

/// What comes of a [`WishNode`]: the wish is in the store, and the node carries it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWished {
    /// The configured name of the node.
    pub node: String,
    /// What it is to do now.
    pub wanted: NodeWanted,
    /// What it was to do before.
    pub before: NodeWanted,
    /// A process of the node runs, by its lease. One that does not carries the wish out when it is
    /// started.
    pub runs: bool,
}

/// `GET /v1/cluster/rebalance`: what would move so that all nodes run their share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RebalanceView {
    /// All live nodes, by name.
    pub nodes: Vec<ShareEntry>,
    /// What would move, in this order. Each of them is a `POST /v1/matches/ID/migrate`.
    pub moves: Vec<MoveEntry>,
    /// Why nothing should move just now: a node looks dead, or matches are being recovered.
    pub not_now: Option<String>,
}

/// How a node stands to its share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareEntry {
    /// The configured name.
    pub node: String,
    /// This run: 16 hexadecimal digits.
    pub incarnation: String,
    /// Where it runs.
    pub region: String,
    /// How many matches it runs.
    pub matches: usize,
    /// How many it runs if loads are even; 0 if it is drained.
    pub share: f64,
    /// How many it runs once everything has moved.
    pub after: usize,
}

/// A match that would move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveEntry {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The game type.
    pub game: String,
    /// The name of the node that runs it.
    pub from: String,
    /// The name of the node that should run it.
    pub to: String,
    /// The incarnation of that one.
    pub to_incarnation: String,
    /// Why, in words.
    pub why: String,
}

/// Most matches that a view names.
pub const MAX_TROUBLED: usize = 1_000;

/// One match that has not ended, by its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchEntry {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The game type.
    pub game: String,
    /// The incarnation that owns it.
    pub owner: String,
    /// Only nodes of this region take it over by themselves.
    pub region: String,
    /// Why it is parked; absent if it should run.
    pub parked: Option<String>,
    /// Recoveries since it last ran healthily.
    pub attempts: u32,
}

/// A match that a node follows, as that node said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedEntry {
    /// The match: 16 hexadecimal digits.
    pub id: String,
    /// The incarnation of the node that follows it.
    pub node: String,
    /// The match goes on there at once if its owner dies now.
    pub ready: bool,
    /// What is computed there differs from what its owner recorded: what, in words.
    pub differs: Option<String>,
}

/// The whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// When it was read, by the clock of whoever read it, in milliseconds since 1970.
    pub now_ms: u64,
    /// All runs of nodes that the store remembers, oldest first.
    pub nodes: Vec<NodeEntry>,
    /// What operators want of nodes, by name.
    #[serde(default)]
    pub wishes: Vec<WishEntry>,
    /// How many matches should run: their rows say so.
    pub running: usize,
    /// Matches that are parked, that name no live node, or that were recovered and have not run
    /// healthily since; ascending by id, at most [`MAX_TROUBLED`].
    pub troubled: Vec<MatchEntry>,
    /// How many more of them there are.
    pub troubled_more: usize,
    /// Matches that live nodes follow.
    #[serde(default)]
    pub followed: Vec<FollowedEntry>,
    /// What operators did in the last hour, newest first, at most 100 entries.
    pub actions: Vec<AuditView>,
}
