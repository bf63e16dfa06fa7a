//! What operators did: entries that are only ever added.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{ActionId, Incarnation};

/// Format tag of an encoded [`AuditEntry`].
pub const AUDIT_ENTRY_TAG: FormatTag = FormatTag(0x5002);

/// The longest text of an entry (who, action, target, detail, error), in bytes.
pub const MAX_TEXT: usize = 4 << 10;

/// How far an action had come when the entry was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// It is about to be carried out. Without a later entry its outcome is unknown: the node ended
    /// meanwhile.
    Begun,
    /// It was carried out.
    Done,
    /// It was refused, or it failed.
    Failed {
        /// Why, in words.
        error: String,
    },
}

impl Stage {
    /// Its place among the entries of one action: 0 before it, 1 after it.
    pub fn order(&self) -> u8 {
        u8::from(*self != Self::Begun)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Failed { .. } => "failed",
        })
    }
}

/// One entry. An action has two, one before and one after it, with the same `action_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Wall clock of the node, in milliseconds since 1970.
    pub time_ms: u64,
    /// The action that the entry is about; both its entries have it.
    pub action_id: ActionId,
    /// How far it had come.
    pub stage: Stage,
    /// The node that carried it out; zero if it was done without one.
    pub node: Incarnation,
    /// Who asked for it, and from where: `admin 127.0.0.1:50312`, `cli root@host`,
    /// `job prune-audit`.
    pub who: String,
    /// What was done: `match.create`, `jobs.cancel`.
    pub action: String,
    /// To what: a match, a job, a node; empty if to nothing in particular.
    pub target: String,
    /// Its arguments, in words. Never a secret.
    pub detail: String,
}

impl AuditEntry {
    /// What tells it apart and how entries are ordered: time, action, place in the action.
    pub fn key(&self) -> (u64, ActionId, u8) {
        (self.time_ms, self.action_id, self.stage.order())
    }

    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(AUDIT_ENTRY_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(AUDIT_ENTRY_TAG, bytes)
    }
}
