//! What nodes ask of each other over their links. Bulk bytes never travel here: matches are
//! followed through the store.
//!
//! A request is answered once, or the link breaks and its outcome is unknown. Nothing here decides
//! who owns a match: the directory row does.

use serde::{Deserialize, Serialize};

use crate::codec::FormatTag;
use crate::ids::{BatchNo, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};
use crate::lease::MatchSpec;

/// The peer protocol that this build speaks best.
pub const PEER_VERSION: u16 = 1;
/// The oldest that it understands.
pub const PEER_VERSION_MIN: u16 = 1;
/// Format tag of an encoded [`PeerRequest`].
pub const REQUEST_TAG: FormatTag = FormatTag(0x7101);
/// Format tag of an encoded [`PeerReply`].
pub const REPLY_TAG: FormatTag = FormatTag(0x7102);
/// The largest request or reply, in bytes.
pub const MAX_PEER_MESSAGE: usize = 64 << 10;

/// Most matches in one [`PeerReply::Crowds`].
pub const MAX_CROWDS: usize = 2_000;

const _: () = assert!(PEER_VERSION_MIN <= PEER_VERSION);
// An id takes nine bytes at most, a count five.
const _: () = assert!(MAX_CROWDS * 14 < MAX_PEER_MESSAGE);

/// Why a node follows a match of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// It is about to own it: a migration.
    Migration,
    /// It will own it when the owner dies.
    Standby,
    /// It checks that the owner computes what it should.
    Audit,
}

/// Where a match was stopped to change hands: all of it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The ownership under which it was stopped.
    pub epoch: Epoch,
    /// The last tick.
    pub tick: Tick,
    /// The last record.
    pub seq: Seq,
    /// The hash after that tick.
    pub hash: StateHash,
}

/// What one node asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// Are you there? Answered with [`PeerReply::Done`].
    Ping,
    /// Follow this match from the store, until it is yours or [`PeerRequest::Unfollow`]. Harmless
    /// to repeat.
    Follow {
        /// The match.
        match_id: MatchId,
        /// What for.
        purpose: Purpose,
    },
    /// How far have you followed? Answered with [`PeerReply::Follows`].
    Followed {
        /// The match.
        match_id: MatchId,
    },
    /// Follow no longer.
    Unfollow {
        /// The match.
        match_id: MatchId,
    },
    /// The match was stopped here: answer with [`PeerReply::Ready`] when you stand there with the
    /// same hash.
    Stopped {
        /// The match.
        match_id: MatchId,
        /// Where.
        cut: Cut,
    },
    /// The row of the match names you: run it. Harmless to repeat.
    Yours {
        /// The match.
        match_id: MatchId,
        /// The version of the row that names you.
        version: u64,
    },
    /// Enter a new match and run it. Answered with [`PeerReply::Done`] once it runs. Harmless to
    /// repeat: the directory has one row of this id, whoever entered it. A node of a build that
    /// does not know this request refuses it.
    Create {
        /// The match, drawn by who asks.
        match_id: MatchId,
        /// What it is.
        spec: MatchSpec,
    },
    /// How many sessions have your matches? Answered with [`PeerReply::Crowds`], in the order of
    /// their ids. A node of a build that does not know this request refuses it.
    Crowds {
        /// Only those behind this one.
        after: Option<MatchId>,
    },
    /// Move a match that you run, as an operator wants. Answered with [`PeerReply::Given`] once the
    /// other node has it. A node of a build that does not know this request refuses it.
    Give {
        /// The match.
        match_id: MatchId,
        /// The node that is to have it.
        to: Incarnation,
    },
    /// An order or a question for a collection of documents that you run. Answered with
    /// [`PeerReply::Documents`], or with [`PeerReply::Done`] if it is unknown whether an order was
    /// applied; a refusal means that nothing was done. A node of a build that does not know this
    /// request refuses it.
    Documents {
        /// The match that is the collection.
        match_id: MatchId,
        /// What is asked, as JSON.
        json: String,
    },
    /// A client may have a match with these properties made, and none has a free seat: find one, or
    /// make it. Answered with [`PeerReply::Found`]. A node of a build that does not know this
    /// request refuses it.
    Seek {
        /// Of this game.
        game: String,
        /// It has all of these.
        properties: Vec<(String, String)>,
    },
}

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerReply {
    /// It was done.
    Done,
    /// How far a match is followed.
    Follows {
        /// The last tick that was made here.
        tick: Tick,
        /// The last record that was applied.
        seq: Seq,
    },
    /// The follower stands at the cut with its hash.
    Ready {
        /// No record that the follower will write for the match lies in an earlier batch of its
        /// log.
        first_batch: BatchNo,
    },
    /// It cannot be done, and was not.
    Refused {
        /// Why, with a code, for people.
        words: String,
    },
    /// How many sessions matches have, at most [`MAX_CROWDS`] of them.
    Crowds {
        /// Matches that run here, by ascending id, each with its sessions.
        crowds: Vec<(MatchId, u32)>,
        /// There are more behind the last one.
        more: bool,
    },
    /// The match has moved.
    Given {
        /// How long it stood still until its row named the new owner, in milliseconds.
        stood_ms: u64,
    },
    /// What a collection of documents says.
    Documents {
        /// The answer, as JSON.
        json: String,
    },
    /// A match that fits.
    Found {
        /// It runs somewhere.
        match_id: MatchId,
    },
}

/// A request with what the receiver must know of its sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCall {
    /// [`PEER_VERSION`] of the sender.
    pub version: u16,
    /// Who asks.
    pub from: Incarnation,
    /// Whom it means: an incarnation that was replaced since must not answer.
    pub to: Incarnation,
    /// What is asked.
    pub request: PeerRequest,
}
