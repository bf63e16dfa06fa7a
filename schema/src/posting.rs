//! An effect that is still to be posted to a webhook's receiver, as the registry keeps it.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{Incarnation, MatchId, Tick};
use crate::record::{Effect, EffectId};

/// Format tag of an encoded [`Posting`].
pub const POSTING_TAG: FormatTag = FormatTag(0x7011);
/// The names of all postings in the registry begin with this.
pub const POSTINGS: &str = "webhook/";

/// What is to be posted, and how that went so far. Entered before the match is told that its effect
/// is delivered, changed by each attempt, removed when the receiver has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// What the game asked for.
    pub effect: Effect,
    /// The node that entered it, and posts it as long as it lives.
    pub by: Incarnation,
    /// When it was entered, in milliseconds since 1970.
    pub entered_ms: u64,
    /// How often it was posted.
    pub attempts: u32,
    /// Not before this it is posted again, in milliseconds since 1970.
    pub due_ms: u64,
    /// What the last attempt came to, in words; empty before the first.
    pub last: String,
    /// It is not posted any more.
    pub given_up: bool,
}

impl Posting {
    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(POSTING_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(POSTING_TAG, bytes)
    }
}

/// Where a posting is. The name of its entry is `webhook/NAME/MATCH/TICK-ORDINAL`, in hexadecimal
/// digits of fixed width, so that those of a match are listed in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Posted {
    /// The name of the webhook.
    pub webhook: String,
    /// The match whose effect it is.
    pub match_id: MatchId,
    /// The effect.
    pub id: EffectId,
}

impl Posted {
    /// What the names of a match's entries begin with.
    pub fn of_match(webhook: &str, match_id: MatchId) -> String {
        format!("{POSTINGS}{webhook}/{:016x}/", match_id.0)
    }

    /// The name of the entry.
    pub fn name(&self) -> String {
        let Self { webhook, match_id, id } = self;
        format!("{}{:016x}-{:08x}", Self::of_match(webhook, *match_id), id.tick.0, id.ordinal)
    }

    /// Reads such a name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(POSTINGS)?.split('/');
        let (webhook, match_id) = (parts.next()?.to_owned(), parts.next()?);
        let (tick, ordinal) = parts.next()?.split_once('-')?;
        let match_id = MatchId(u64::from_str_radix(match_id, 16).ok()?);
        let tick = Tick(u64::from_str_radix(tick, 16).ok()?);
        let ordinal = u32::from_str_radix(ordinal, 16).ok()?;
        parts.next().is_none().then_some(Self { webhook, match_id, id: EffectId { tick, ordinal } })
    }
}
