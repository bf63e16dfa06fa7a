//! What stands in the registry about standbys: what operators want of a match, and what each node
//! follows.
//!
//! An operator's wish stands under [`StandbyWish::entry`] until it is taken back. What a node
//! follows stands under [`FollowReport::entry`]; that node alone writes it, whenever it changes and
//! now and then. Both decide nothing about ownership.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{Epoch, Incarnation, MatchId, Tick};
use crate::peer::Purpose;

/// Format tag of an encoded [`StandbyWish`].
pub const STANDBY_WISH_TAG: FormatTag = FormatTag(0x7005);
/// Format tag of an encoded [`FollowReport`].
pub const FOLLOW_REPORT_TAG: FormatTag = FormatTag(0x7006);
/// The names of all wishes in the registry begin with this.
pub const WISHES: &str = "standby/";
/// The names of all reports in the registry begin with this.
pub const REPORTS: &str = "following/";
/// Most matches in a report; what is beyond them is left out.
pub const MAX_REPORTED: usize = 512;
/// Longest words about a match in a report, in bytes.
pub const MAX_REPORT_WORDS: usize = 400;

/// What an operator wants of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyWish {
    /// How many nodes should follow it; 0: none, whatever its game has.
    pub standbys: u8,
}

impl StandbyWish {
    /// The name of a match's entry in the registry.
    pub fn entry(match_id: MatchId) -> String {
        format!("{WISHES}{match_id}")
    }

    /// The match of an entry with this name; `None` if it is none.
    pub fn match_of(entry: &str) -> Option<MatchId> {
        let id = entry.strip_prefix(WISHES)?.parse().ok()?;
        (Self::entry(id) == entry).then_some(id)
    }

    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(STANDBY_WISH_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(STANDBY_WISH_TAG, bytes)
    }
}

/// How far a match is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FollowState {
    /// It is being restored, or begun anew.
    Starting,
    /// It is followed.
    Follows {
        /// The last tick that was made.
        tick: Tick,
        /// How many ticks that was behind the end of its owner's log when it was read last.
        lag: u64,
    },
    /// It is not followed under this owner: why, for people.
    Stopped(String),
    /// What the follower computes differs from what the owner recorded: what, for people.
    Differs(String),
}

/// A match that a node follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedMatch {
    /// The match.
    pub match_id: MatchId,
    /// The ownership that is followed.
    pub epoch: Epoch,
    /// What for.
    pub purpose: Purpose,
    /// How far.
    pub state: FollowState,
}

/// What a node follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowReport {
    /// The node.
    pub incarnation: Incarnation,
    /// When it said so, in milliseconds since 1970 by its own clock: for people.
    pub at_ms: u64,
    /// The matches, ascending by id, at most [`MAX_REPORTED`].
    pub matches: Vec<FollowedMatch>,
}

impl FollowReport {
    /// The name of a node's entry in the registry.
    pub fn entry(incarnation: Incarnation) -> String {
        format!("{REPORTS}{incarnation}")
    }

    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FOLLOW_REPORT_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(FOLLOW_REPORT_TAG, bytes)
    }
}
