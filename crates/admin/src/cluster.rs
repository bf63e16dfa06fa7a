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

/// The whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// When it was read, by the clock of whoever read it, in milliseconds since 1970.
    pub now_ms: u64,
    /// All runs of nodes that the store remembers, oldest first.
    pub nodes: Vec<NodeEntry>,
    /// How many matches should run: their rows say so.
    pub running: usize,
    /// Matches that are parked, that name no live node, or that were recovered and have not run
    /// healthily since; ascending by id, at most [`MAX_TROUBLED`].
    pub troubled: Vec<MatchEntry>,
    /// How many more of them there are.
    pub troubled_more: usize,
    /// What operators did in the last hour, newest first, at most 100 entries.
    pub actions: Vec<AuditView>,
}
