//! Where a match stands, in one word: what operators and their programs read in lists of matches.
//! Written by the node that answers, read by its commands; never stored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a match stands, as one node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It runs on this node.
    Running,
    /// It is on this node and stands still until the store has caught up.
    Stalled,
    /// The node that ran it is gone, and this one is about to recover it.
    Recovering,
    /// Nobody runs it: this build cannot, or its home is another region.
    Waits,
    /// Another live node runs it.
    Elsewhere,
    /// It failed, and an operator decides.
    Parked,
    /// It is over.
    Ended,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Stalled,
        Self::Recovering,
        Self::Waits,
        Self::Elsewhere,
        Self::Parked,
        Self::Ended,
    ];

    /// The word, as it stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Recovering => "recovering",
            Self::Waits => "waits",
            Self::Elsewhere => "elsewhere",
            Self::Parked => "parked",
            Self::Ended => "ended",
        }
    }

    /// Whether the match is on this node and players may be in it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Stalled)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
