//! Events of matches, as `GET /v1/events` streams them and `rekindle events --json` prints them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The query of `GET /v1/events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowEvents {
    /// One match, by its whole id. Absent: all matches, or those of `game`.
    #[serde(rename = "match")]
    pub match_id: Option<String>,
    /// All matches of this game type.
    pub game: Option<String>,
    /// Kinds of event, separated by commas. Absent: all.
    #[serde(rename = "type")]
    pub kinds: Option<String>,
    /// Only events that concern this player.
    pub player: Option<u64>,
    /// What was recorded since then comes first: milliseconds since 1970.
    pub since_ms: Option<u64>,
}

/// An event that players were told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// The match, by its id. With tick and ordinal it names the event for ever.
    #[serde(rename = "match")]
    pub match_id: String,
    /// The name of its game type; empty if the match is no longer in the directory.
    pub game: String,
    /// In which tick it happened.
    pub tick: u64,
    /// Which one within that tick, from 0.
    pub ordinal: u32,
    /// When that was recorded: RFC 3339, UTC.
    pub time: String,
    /// Which kind of event.
    pub event: String,
    /// The one player who was told; absent if everybody was.
    pub player: Option<u64>,
    /// What it says, by the names of its fields; absent if it cannot be read.
    pub fields: Option<serde_json::Value>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// Its bytes, in hexadecimal.
    pub payload: String,
}

/// Records of a match that are neither in a log nor in the archive any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The match.
    #[serde(rename = "match")]
    pub match_id: String,
    /// How many records. Each may have any number of events.
    pub records: u64,
    /// The first tick of which nothing can be said.
    pub from_tick: u64,
    /// The last one.
    pub to_tick: u64,
}

/// What one match has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The match.
    #[serde(rename = "match")]
    pub match_id: String,
    /// At this tick.
    pub tick: u64,
    /// Why, for people.
    pub reason: String,
}

/// What whoever follows events is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventNews {
    /// Something happened.
    Event(Box<EventView>),
    /// The reader, or what it reads, was too late for these.
    Missed {
        /// Which.
        missed: Missed,
    },
    /// Events of this tick and later ones are void: the match went on from an earlier one.
    Void {
        /// From which tick on.
        void: Turn,
    },
    /// A match is over.
    Ended {
        /// Which, and why.
        ended: Turn,
    },
    /// Something cannot be read for now, or at all, in words. What follows comes all the same.
    Trouble {
        /// What.
        trouble: String,
    },
}

impl EventNews {
    /// Which kind of news it is: the name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Event(_) => "event",
            Self::Missed { .. } => "missed",
            Self::Void { .. } => "void",
            Self::Ended { .. } => "ended",
            Self::Trouble { .. } => "trouble",
        }
    }
}

impl fmt::Display for EventView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tick, ordinal, time, event, .. } = self;
        write!(f, "{tick:>8}.{ordinal} {time} {event}")?;
        if let Some(player) = self.player {
            write!(f, " to player {player}")?;
        }
        match (&self.fields, &self.unread) {
            (Some(fields), _) => write!(f, " {fields}"),
            (None, why) => {
                write!(f, " {} (bytes: {})", self.payload, why.as_deref().unwrap_or_default())
            }
        }
    }
}

impl fmt::Display for EventNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::Missed { missed: Missed { match_id, records, from_tick, to_tick } } => write!(
                f,
                "missed: {records} records of match {match_id}, ticks {from_tick} to {to_tick}: \
                 they are no longer kept"
            ),
            Self::Void { void: Turn { match_id, tick, reason } } => {
                write!(f, "void: match {match_id} goes on before tick {tick}: {reason}")
            }
            Self::Ended { ended: Turn { match_id, tick, reason } } => {
                write!(f, "ended: match {match_id} after tick {tick}: {reason}")
            }
            Self::Trouble { trouble } => write!(f, "trouble: {trouble}"),
        }
    }
}
