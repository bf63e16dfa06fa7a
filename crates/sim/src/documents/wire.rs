//! What is asked of a collection and what it answers. All of it is JSON: operators write it, games
//! put it into effects, nodes hand it on, and the journal of the collection has it in commands.
//!
//! The limits here hold for whatever comes from outside, and are checked by
//! [`Order::check`] and by the collection itself.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::declare::{Who, only};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 128;
/// Most calls of one order.
pub const MAX_CALLS: usize = 256;
/// The longest order, as JSON, in bytes.
pub const MAX_ORDER: usize = 48 << 10;
/// The longest answer, as JSON, in bytes.
pub const MAX_ANSWER: usize = 48 << 10;
/// The largest document, in bytes of its canonical form.
pub const MAX_DOCUMENT: usize = 16 << 10;
/// Most documents in one answer.
pub const MAX_ROWS: usize = 1_000;

// Both go to another node in one message, with a few words around.
const _: () = assert!(MAX_ORDER + 1024 < rekindle_schema::peer::MAX_PEER_MESSAGE);
const _: () = assert!(MAX_ANSWER + 1024 < rekindle_schema::peer::MAX_PEER_MESSAGE);
const _: () = assert!(MAX_DOCUMENT * 2 < MAX_ANSWER);

/// Who calls an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// An operator, or a backend of the studio's that speaks for itself.
    Operator,
    /// A player, for whom a backend or a match speaks.
    Player(u64),
    /// A match, by one of its effects.
    Match(u64),
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operator => f.write_str("an operator"),
            Self::Player(player) => write!(f, "player {player}"),
            Self::Match(id) => write!(f, "match {id:016x}"),
        }
    }
}

/// One action on one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The action by name.
    pub action: String,
    /// The document's key.
    pub key: String,
    /// The action's arguments; may be left out if it takes none.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub args: Json,
    /// The version that the document must have: else the call is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// Which effect an order is: by this it is applied once, however often it is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The match that asked for it.
    pub match_id: u64,
    /// In which of its ticks.
    pub tick: u64,
    /// Which effect of that tick.
    pub ordinal: u32,
}

/// Calls that are applied all, in order, or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Who calls.
    pub caller: Caller,
    /// The effect that it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What is called.
    pub calls: Vec<Call>,
}

impl Order {
    /// Refuses what is outside of the limits. Called by whoever takes an order from outside.
    pub fn check(&self) -> Result<(), Refusal> {
        let (count, size) =
            (self.calls.len(), serde_json::to_vec(self).map_or(usize::MAX, |v| v.len()));
        if count == 0 || count > MAX_CALLS {
            let problem = format!("{count} calls in one order: expected 1 to {MAX_CALLS}");
            return Err(Refusal::TooLarge { problem });
        }
        if size > MAX_ORDER {
            let problem = format!("an order of {size} bytes: at most {MAX_ORDER} are taken");
            return Err(Refusal::TooLarge { problem });
        }
        match self.calls.iter().find(|call| !is_key(&call.key)) {
            Some(call) => {
                let length = call.key.len();
                let problem = format!(
                    "a key of {length} bytes: expected 1 to {MAX_KEY} bytes without control \
                     characters"
                );
                Err(Refusal::TooLarge { problem })
            }
            None => Ok(()),
        }
    }
}

/// Whether a text can be the key of a document.
pub fn is_key(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The payload of an effect of kind [`CALL_EFFECT`](super::CALL_EFFECT), as JSON: the calls of a
/// match. Written by [`Output::call`](crate::Output::call), read by the node that delivers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectCalls {
    /// The kind of the documents.
    pub kind: String,
    /// The player for whom the match calls; absent if it calls for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<u64>,
    /// All of them, or none.
    pub calls: Vec<Call>,
}

/// What the command of a collection says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Submission {
    /// Apply this.
    Order(Order),
    /// These matches are over and all their effects are applied: what is remembered of them goes,
    /// if nothing came of them for so many ticks.
    Forget {
        /// The matches.
        matches: Vec<u64>,
        /// For how many ticks of the collection nothing must have come.
        idle: u64,
    },
}

/// What came of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The document's key.
    pub key: String,
    /// The version that the document has now. If the action has destroyed it, the number of that
    /// change: a document that is made anew with this key has a greater version.
    pub version: u64,
    /// What the action returned.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub out: Json,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All calls were applied, each with this.
    Done(Vec<Done>),
    /// The effect had been applied before: nothing was changed now.
    Repeated,
    /// The collection remembers effects of as many matches as it can: ask again later.
    Later,
    /// Nothing was changed.
    Refused {
        /// The place of the call that was refused, from 0.
        at: usize,
        /// Why.
        why: Refusal,
    },
}

/// Why a call or a question is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "refusal")]
pub enum Refusal {
    /// There is no such action.
    #[error("RK-DOC-101: no action `{action}`; there are: {known}")]
    NoAction {
        /// What was called.
        action: String,
        /// What there is.
        known: String,
    },
    /// There is no such document.
    #[error("RK-DOC-102: there is no document `{key}`")]
    NoDocument {
        /// The key.
        key: String,
    },
    /// There is one already.
    #[error("RK-DOC-103: there is a document `{key}` already, with version {version}")]
    Exists {
        /// The key.
        key: String,
        /// Its version.
        version: u64,
    },
    /// The document has another version than the caller knows.
    #[error(
        "RK-DOC-104: `{key}` has version {found}, not {wanted}: read it again and call with what \
         it has now"
    )]
    Stale {
        /// The key.
        key: String,
        /// What the caller knows.
        wanted: u64,
        /// What the document has; 0 if there is none.
        found: u64,
    },
    /// The policies of the action do not let this caller.
    #[error("RK-DOC-105: {caller} may not call `{action}` on `{key}`: {policy}")]
    Forbidden {
        /// The action.
        action: String,
        /// The key.
        key: String,
        /// Who called, in words.
        caller: String,
        /// Who may, in words.
        policy: String,
    },
    /// The arguments are not those of the action.
    #[error("RK-DOC-106: arguments of `{action}`: {problem}")]
    Arguments {
        /// The action.
        action: String,
        /// What is wrong.
        problem: String,
    },
    /// The document would have a value that it must not have.
    #[error("RK-DOC-107: `{action}` on `{key}`: {problem}")]
    Invalid {
        /// The action.
        action: String,
        /// The key.
        key: String,
        /// Field and value.
        problem: String,
    },
    /// There is no room for another document.
    #[error("RK-DOC-108: the collection has {most} documents, and no more fit")]
    Full {
        /// How many it may have.
        most: u64,
    },
    /// A limit on size.
    #[error("RK-DOC-109: {problem}")]
    TooLarge {
        /// What is too large, and the limit.
        problem: String,
    },
    /// The action panicked.
    #[error("RK-DOC-110: action `{action}` panicked: {message}")]
    Panicked {
        /// The action.
        action: String,
        /// What the panic said.
        message: String,
    },
    /// The action itself refuses.
    #[error("RK-DOC-111: `{action}` refuses ({code}): {words}")]
    Denied {
        /// The action.
        action: String,
        /// The game's name for the reason.
        code: String,
        /// The reason in words.
        words: String,
    },
    /// The question makes no sense.
    #[error("RK-DOC-112: {problem}")]
    Question {
        /// What is wrong, and what is known.
        problem: String,
    },
    /// The kind does not let this player read.
    #[error(
        "RK-DOC-114: player {player} may not read this of the documents of kind `{kind}`: \
         {policy} (`read_by` in their declaration)"
    )]
    Unreadable {
        /// The kind.
        kind: String,
        /// Who asked.
        player: u64,
        /// Who may, in words.
        policy: String,
    },
    /// The bytes are no order.
    #[error("RK-DOC-113: this is no order for a collection: {problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAction { .. } => "RK-DOC-101",
            Self::NoDocument { .. } => "RK-DOC-102",
            Self::Exists { .. } => "RK-DOC-103",
            Self::Stale { .. } => "RK-DOC-104",
            Self::Forbidden { .. } => "RK-DOC-105",
            Self::Arguments { .. } => "RK-DOC-106",
            Self::Invalid { .. } => "RK-DOC-107",
            Self::Full { .. } => "RK-DOC-108",
            Self::TooLarge { .. } => "RK-DOC-109",
            Self::Panicked { .. } => "RK-DOC-110",
            Self::Denied { .. } => "RK-DOC-111",
            Self::Question { .. } => "RK-DOC-112",
            Self::Malformed { .. } => "RK-DOC-113",
            Self::Unreadable { .. } => "RK-DOC-114",
        }
    }
}

/// What can be asked of a collection without changing it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// One document.
    Get {
        /// Its key.
        key: String,
    },
    /// The documents that a filter lets through.
    Query(Query),
    /// All aggregates.
    Stats,
    /// Whether an order would be applied, and with what outcome. Nothing is changed.
    Can(Order),
    /// Matches of which the collection remembers effects, and that nothing came of for so many
    /// ticks: at most [`MAX_ROWS`].
    Sources {
        /// Ticks of the collection.
        idle: u64,
    },
    /// How this question would be answered. The question itself is not.
    Plan(Box<Question>),
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How the documents are found.
    pub access: Access,
    /// How many documents are looked at.
    pub scanned: u64,
}

/// How documents are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// By the index of keys.
    KeyIndex,
    /// All documents are gone through.
    Scan,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.access {
            Access::KeyIndex => "by the index of keys",
            Access::Scan => "by a scan of all documents",
        };
        write!(f, "{how}, {} looked at", self.scanned)
    }
}

/// Which documents, in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// The filter; all documents without one. `rating >= 1500 and not (name = "x")`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The field to sort by, `-` before it for descending; by key without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// Most documents in the answer, at most [`MAX_ROWS`]; 100 without one. With 0 the answer
    /// has their number alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// So many are left out at the beginning.
    pub skip: usize,
}

/// A document as it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The key.
    pub key: String,
    /// The version.
    pub version: u64,
    /// The attributes.
    pub document: Json,
    /// What is calculated of them, by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub calculations: serde_json::Map<String, Json>,
}

/// What a question is answered with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The document, if there is one.
    Document(Option<Row>),
    /// The documents.
    Rows {
        /// As many as were asked for and fit into an answer.
        rows: Vec<Row>,
        /// How many the filter lets through; without a filter, all.
        matching: usize,
        /// The collection ends behind these rows, or goes on: ask again with a greater `skip`.
        more: bool,
    },
    /// The aggregates by name, and `documents`: how many there are.
    Stats(serde_json::Map<String, Json>),
    /// What would come of the order.
    Can(Outcome),
    /// Matches.
    Sources(Vec<u64>),
    /// How a question would be answered.
    Plan(Plan),
    /// The question makes no sense.
    Refused(Refusal),
}

/// What a collection says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CollectionInfo {
    /// The kind of its documents.
    pub kind: String,
    /// The attributes.
    pub attributes: Vec<String>,
    /// The actions.
    pub actions: Vec<ActionInfo>,
    /// The calculations by name.
    pub calculations: Vec<String>,
    /// The aggregates by name.
    pub aggregates: Vec<String>,
    /// Which players may read.
    #[serde(default)]
    pub readers: Vec<Who>,
    /// Most documents.
    pub most: u64,
}

impl CollectionInfo {
    /// Whether a player's client may ask this. Who asks what would come of calls learns what the
    /// calls would tell.
    pub fn may_read(&self, player: u64, question: &Question) -> Result<(), Refusal> {
        let all = self.readers.contains(&Who::Player);
        let own = all || self.readers.contains(&Who::Owner);
        let may = match question {
            Question::Can(_) => true,
            Question::Get { key } => all || own && *key == player.to_string(),
            Question::Query(_) | Question::Stats => all,
            Question::Sources { .. } | Question::Plan(_) => false,
        };
        let (kind, policy) = (self.kind.clone(), only(&self.readers));
        if may { Ok(()) } else { Err(Refusal::Unreadable { kind, player, policy }) }
    }
}

/// What an action says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionInfo {
    /// Its name.
    pub name: String,
    /// `create`, `update`, `upsert`, `destroy`.
    pub does: String,
    /// Who may call it, in words.
    pub policy: String,
}
