//! What an operator wants of a node, and how far the node has come with it, as the registry keeps
//! both. They outlive the node's process: a node that starts again goes on with them.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{Incarnation, MatchId};

/// Format tag of an encoded [`NodeWish`].
pub const NODE_WISH_TAG: FormatTag = FormatTag(0x7007);
/// Format tag of an encoded [`DrainProgress`].
pub const DRAIN_PROGRESS_TAG: FormatTag = FormatTag(0x7008);
/// The names of all wishes in the registry begin with this.
pub const NODE_WISHES: &str = "wishes/";
/// The names of all progress in the registry begin with this.
pub const DRAINS: &str = "drains/";
/// Most matches that a [`DrainProgress`] names.
pub const MAX_LEFT: usize = 8;

/// What a node is to do. Without a wish it runs matches as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// It gives its matches to other nodes, takes no further ones, and goes on.
    Drained,
    /// As `Drained`; when it has none left its process ends, and no node of this name starts.
    Decommissioned,
}

impl Wanted {
    /// In a word, as it stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Decommissioned => "decommissioned",
        }
    }
}

/// What an operator wants of the node of this name, whichever process has it. Written by whoever
/// carries out the operator's command; the node reads it each second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWish {
    /// The configured name of the node.
    pub node: String,
    /// What it is to do.
    pub wanted: Wanted,
    /// When that was asked for, in milliseconds since 1970.
    pub since_ms: u64,
    /// Who asked.
    pub who: String,
}

/// How far the node of this name has come. Written by the node alone, while a wish stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// The configured name of the node.
    pub node: String,
    /// The run that says this: what another run said counts for nothing.
    pub incarnation: Incarnation,
    /// Matches that it has given away since the wish was taken up.
    pub moved: u32,
    /// Matches that it still runs.
    pub left: u32,
    /// Of those, some that could not be given away yet, with the reason; at most [`MAX_LEFT`].
    pub stuck: Vec<(MatchId, String)>,
    /// How long a match stood still at most, in milliseconds.
    pub worst_pause_ms: u64,
}

/// The name of an entry about a node. Names in the registry are lower case and those of nodes need
/// not be: the second part says, bit by bit, which letters are not.
fn entry(prefix: &str, node: &str) -> String {
    let upper = node.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_uppercase());
    let upper =
        upper.fold(0_u128, |bits, (at, _)| bits | 1_u128.checked_shl(at as u32).unwrap_or(0));
    format!("{prefix}{}/{upper:x}", node.to_ascii_lowercase())
}

impl NodeWish {
    /// The name of a node's entry in the registry.
    pub fn entry(node: &str) -> String {
        entry(NODE_WISHES, node)
    }

    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(NODE_WISH_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(NODE_WISH_TAG, bytes)
    }
}

impl DrainProgress {
    /// The name of a node's entry in the registry.
    pub fn entry(node: &str) -> String {
        entry(DRAINS, node)
    }

    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(DRAIN_PROGRESS_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(DRAIN_PROGRESS_TAG, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_whose_names_differ_in_case_have_entries_of_their_own() {
        let names = ["n1", "N1", "eu.n-1", "EU.n-1", "eU.N-1"];
        let mut entries: Vec<String> = names.iter().map(|name| NodeWish::entry(name)).collect();
        assert_eq!(entries[0], "wishes/n1/0");
        assert_eq!(entries[1], "wishes/n1/1");
        assert!(entries.iter().all(|entry| !entry.bytes().any(|byte| byte.is_ascii_uppercase())));
        entries.sort();
        entries.dedup();
        assert_eq!(entries.len(), names.len());
        assert!(DrainProgress::entry(&"A".repeat(63)).len() < 120);
    }
}
