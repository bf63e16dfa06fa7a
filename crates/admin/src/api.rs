//! What the admin listener and the commands say to each other, as JSON.

use std::collections::BTreeMap;

use rekindle_schema::Incarnation;
use rekindle_schema::audit::{AuditEntry, Stage};
use rekindle_schema::condition::Condition;
use rekindle_schema::job::JobStatus;
use serde::{Deserialize, Serialize};

/// A refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// Stable, for programs: `RK-ADMIN-404`.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}

/// `GET /v1/node`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    /// The configured name.
    pub name: String,
    /// This run of the process: 16 hexadecimal digits.
    pub incarnation: String,
    /// The build of the executable.
    pub build: String,
    /// The package version.
    pub version: String,
    /// UDP address for players.
    pub listen: String,
    /// Where players reach it from elsewhere, if that is configured.
    #[serde(default)]
    pub public: Option<String>,
    /// The certificate that it shows to players: DER, in hexadecimal.
    pub certificate: String,
    /// The certificates that players are to trust, likewise: that one, then those that it will
    /// show.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Names of the registered game types.
    pub games: Vec<String>,
    /// Seconds since the process was ready.
    pub uptime_s: u64,
    /// It stops as soon as its matches are checkpointed.
    pub draining: bool,
}

/// One match, in `GET /v1/matches` and `GET /v1/matches/ID`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MatchView {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The game type.
    pub game: String,
    /// Where it stands, as the node that answers sees it.
    pub state: Condition,
    /// Why it does not run here, is over, or stands still; of a running one, that the store does
    /// not answer.
    pub reason: Option<String>,
    /// The newest published tick; of one that does not run here, that of its newest checkpoint.
    /// Absent if this node does not know.
    pub tick: Option<u64>,
    /// The newest tick that is in the journal for good, if it runs here. Behind `tick` only with
    /// `output = "immediate"` or `on_stall = "run"`.
    pub durable: Option<u64>,
    /// The name of the node that runs it, or ran it last; absent if nobody knows it any more.
    #[serde(default)]
    pub node: Option<String>,
    /// Ticks per second.
    pub tick_rate: u16,
    /// How many times longer than that says its ticks lie apart, because the node that runs it has
    /// too much to do: 2 to 4. Absent otherwise, and if another node runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<u8>,
    /// The version of the game's rules that it began with; absent if this node does not know.
    #[serde(default)]
    pub rules: Option<u32>,
    /// By what a lobby finds it, as it was made with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Its owner's count: grows with every recovery.
    pub epoch: u64,
    /// Sessions in it, house bots included.
    pub players: usize,
    /// How many there can be; absent if the node that answers does not have the game.
    #[serde(default)]
    pub seats: Option<usize>,
    /// How many of them are house bots.
    pub house_bots: u16,
    /// Recoveries since it last ran healthily; of one that was parked by trials, the processes that
    /// died of it.
    pub attempts: u32,
    /// Nodes that follow it: to go on with it if its node dies, or to check what that computes.
    #[serde(default)]
    pub followers: Vec<FollowerView>,
    /// In words: which build it went on from when it was recovered last, and on what grounds.
    /// Absent if that was the same build.
    #[serde(default)]
    pub build_change: Option<String>,
    /// The lines of its clients, in `GET /v1/matches/ID` of the node that runs it.
    #[serde(default)]
    pub clients: Vec<ClientView>,
}

/// The line of a client of a match. House bots have none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientView {
    /// Which player it is.
    pub player: u64,
    /// It only watches.
    pub spectator: bool,
    /// `quic`, `webtransport` or `websocket`.
    pub carrier: String,
    /// The version of the protocol that it speaks.
    pub protocol: u16,
    /// The smoothed round trip, milliseconds.
    pub rtt_ms: f64,
    /// How unevenly its packets come, milliseconds (RFC 3550, section 6.4.1).
    pub jitter_ms: f64,
    /// The part of the packets to it that are held to be lost, 0 to 1; 0 over WebSocket, where the
    /// system sends them again.
    pub lost: f64,
    /// Bytes a second that its snapshots are held to, as its link carries no more.
    #[serde(default)]
    pub pace: Option<u32>,
    /// The newest tick of which it has said that it has the snapshot.
    pub has: Option<u64>,
}

/// A node that follows a match, as it said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerView {
    /// Its name.
    pub node: String,
    /// The match goes on there at once if its node dies now.
    pub ready: bool,
    /// It only checks what the match's node computes.
    pub audits: bool,
    /// The last tick that it had made when it said so.
    pub tick: Option<u64>,
    /// How many ticks that was behind what was durable.
    pub lag: Option<u64>,
    /// In words: how far it is, or what differs.
    pub words: String,
}

/// `POST /v1/matches/ID/standby`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetStandby {
    /// How many nodes follow the match from now on, 0 to 2; absent: what its game has.
    pub standbys: Option<u8>,
}

/// `GET /v1/matches/ID/where`: what a game's own servers tell a client that is to play there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereView {
    /// 16 hexadecimal digits.
    pub id: String,
    /// Where it is.
    pub place: Place,
    /// The name of the node that has it.
    pub node: Option<String>,
    /// Where players reach that node: `host:port`, UDP. Any other node of the cluster redirects
    /// them there.
    pub players: Option<String>,
    /// Why it is over.
    pub reason: Option<String>,
}

/// Where a match is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the node that answers.
    Here,
    /// On another node.
    Elsewhere,
    /// Between two owners: ask again.
    Between,
    /// Nowhere, until an operator decides.
    Parked,
    /// It is over.
    Over,
}

/// `POST /v1/documents/KIND/call`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallDocuments {
    /// The player for whom the backend speaks; absent if it speaks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<u64>,
    /// The calls: `action`, `key`, `args`, `if_version`. All are applied, in order, or none.
    pub calls: Vec<serde_json::Value>,
}

/// The answer of `POST /v1/documents/KIND/ask`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AskedDocuments {
    /// The answer of the collection.
    pub reply: serde_json::Value,
    /// Of which of its ticks: all of it is durable.
    pub as_of_tick: u64,
    /// The node that answered.
    pub answered_by: String,
    /// `memory`: of the node that runs the collection; `store`: the newest checkpoint and the
    /// records behind it.
    pub source: String,
    /// Why that source, and what the answer cost; if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<serde_json::Value>,
}

/// The query of `GET /v1/matches`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListMatches {
    /// Only matches of this game type.
    pub game: Option<String>,
    /// 1: only matches of all nodes that run and have a free seat, with their players as their
    /// nodes say it now. 0 or absent: all.
    pub open: Option<u8>,
    /// Only matches that were made with all of these properties: `mode=duel,map=old`.
    pub property: Option<String>,
    /// Only matches for which this holds, a filter over [`MATCH_FIELDS`] in the words of documents:
    /// `players > 4 and properties.mode = "duel"`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// The field by which they are sorted, `-` before it for descending; by id without one.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// The fields of a [`MatchView`] by which matches are filtered and sorted.
pub const MATCH_FIELDS: [&str; 16] = [
    "id",
    "game",
    "state",
    "reason",
    "tick",
    "durable",
    "node",
    "tick_rate",
    "slowdown",
    "rules",
    "properties",
    "epoch",
    "players",
    "seats",
    "house_bots",
    "attempts",
];

/// `POST /v1/matches`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateMatch {
    /// The game type.
    pub game: String,
    /// The game's configuration.
    pub config: serde_json::Value,
    /// By what a lobby finds it: names and values of letters, digits, `.`, `_` and `-`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// How many house bots play in it.
    pub house_bots: u16,
    /// Seed of the world; random if absent.
    pub seed: Option<u64>,
    /// Ticks per second; the game's if absent.
    pub tick_rate: Option<u16>,
    /// The node that is to run it: its name, or its incarnation. If absent the node that is asked
    /// chooses one of its region that has less to do than others.
    #[serde(default)]
    pub on: Option<String>,
    /// Players who get a ticket for this match in the same answer, at most [`MOST_SEATS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seats: Vec<Seat>,
    /// For how many seconds their tickets are good; 300 if absent.
    #[serde(default)]
    pub ttl_s: Option<u64>,
}

/// Most tickets in one answer to [`CreateMatch`].
pub const MOST_SEATS: usize = 256;

/// A player who is to get a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Number of the player's account.
    pub player: u64,
    /// The name to show, 1 to 32 bytes; `player-N` if absent.
    #[serde(default)]
    pub name: Option<String>,
}

/// The answer to [`CreateMatch`]: all that a matchmaker hands on to clients.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatedMatch {
    /// The match, as the node that was asked sees it.
    #[serde(flatten)]
    pub view: MatchView,
    /// Where players connect, `host:port`, UDP: its node first, then others, which redirect there.
    pub addresses: Vec<String>,
    /// SHA-256 of the certificate that all nodes of the cluster show to players, in hexadecimal.
    pub certificate_sha256: String,
    /// A ticket for each seat, in their order.
    pub tickets: Vec<SeatTicket>,
}

/// The ticket of a [`Seat`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatTicket {
    /// Number of the player's account.
    pub player: u64,
    /// PASETO v4.public, good for this match alone.
    pub ticket: String,
}

/// `POST /v1/matches/ID/stop`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StopMatch {
    /// Why, for the players.
    pub reason: String,
}

/// `POST /v1/matches/ID/resume`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ResumeMatch {
    /// What is to be done if this build computes ticks of another one otherwise than they were
    /// recorded; absent: what the node's configuration says.
    #[serde(default)]
    pub otherwise: Option<Otherwise>,
}

/// How a match goes on with a build that computes its last ticks otherwise than they were played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// From the last state that is equal: what was played since is undone, and players are told.
    FromLastEqual,
    /// With what this build makes of them.
    Accept,
}

impl Otherwise {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::FromLastEqual => "from-last-equal",
            Self::Accept => "accept",
        }
    }
}

/// `POST /v1/tickets`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IssueTicket {
    /// Number of the player's account.
    pub player: u64,
    /// The name to show, 1 to 32 bytes; `player-N` if absent.
    pub name: Option<String>,
    /// Lets its owner watch only.
    #[serde(default)]
    pub spectator: bool,
    /// The only match that it opens.
    pub match_id: Option<String>,
    /// For how many seconds.
    pub ttl_s: u64,
}

/// The answer to [`IssueTicket`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ticket {
    /// PASETO v4.public.
    pub ticket: String,
    /// SHA-256 of the certificates that native clients are to trust, in hexadecimal: the one that
    /// nodes show, then those that they will.
    #[serde(default)]
    pub certificates: Vec<String>,
}

/// `POST /v1/matches/ID/migrate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateMatch {
    /// The node that takes it: its name, or its incarnation.
    pub to: String,
}

/// The answer to [`MigrateMatch`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Migrated {
    /// The match.
    pub id: String,
    /// The name of the node that has it now.
    pub node: String,
    /// How long it stood still at the node that gave it, in milliseconds.
    pub pause_ms: u64,
}

/// `POST /v1/drain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainNode {}

/// The answer to [`DrainNode`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Draining {
    /// How many matches will be checkpointed.
    pub matches: usize,
}

/// One job, in `GET /v1/jobs` and `GET /v1/jobs/ID`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobView {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The queue in which it waits.
    pub queue: String,
    /// What is to be done: the name of its handler.
    pub kind: String,
    /// Where it stands: `ready`, `running`, `done`, `dead` or `cancelled`.
    pub state: JobStatus,
    /// How often it was claimed.
    pub attempt: u32,
    /// After so many it is not tried again by itself.
    pub max_attempts: u32,
    /// When it was enqueued, in milliseconds since 1970.
    pub created_ms: u64,
    /// From when on it may be claimed, in milliseconds since 1970; absent if it is not open.
    pub due_ms: Option<u64>,
    /// When it came to its end, in milliseconds since 1970.
    pub finished_ms: Option<u64>,
    /// The incarnation that works on it.
    pub by: Option<String>,
    /// What came of it.
    pub note: Option<String>,
    /// Why the last attempt that failed did so.
    pub error: Option<String>,
    /// Its unique key.
    pub key: Option<String>,
    /// Its arguments: text, or `0x` and hexadecimal digits.
    pub payload: String,
}

/// The query of `GET /v1/jobs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListJobs {
    /// Only jobs of this queue.
    pub queue: Option<String>,
    /// Only jobs of this kind.
    pub kind: Option<String>,
    /// Only jobs in this state.
    pub state: Option<JobStatus>,
    /// At most so many, 100 if absent, never more than 1,000.
    pub limit: Option<usize>,
}

impl ListJobs {
    /// How many jobs are listed at most.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(100).min(1_000)
    }
}

/// `POST /v1/jobs`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunJob {
    /// What is to be done.
    pub kind: String,
    /// Its arguments.
    #[serde(default)]
    pub payload: String,
}

/// `POST /v1/jobs/ID/retry` and `POST /v1/jobs/ID/cancel`: a body without arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nothing {}

/// The query of `GET /v1/audit`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListAudit {
    /// Only entries of this moment and later, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only entries before this moment, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// At most so many, 1,000 if absent, never more than 10,000.
    pub limit: Option<usize>,
}

impl ListAudit {
    /// How many entries are listed at most.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(1_000).min(10_000)
    }
}

/// One entry of the audit log, in `GET /v1/audit`. An action has two: before and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditView {
    /// In milliseconds since 1970.
    pub time_ms: u64,
    /// The id that both entries of an action share: 16 hexadecimal digits.
    pub action_id: String,
    /// `begun`, `done` or `failed`.
    pub stage: String,
    /// The incarnation that carried it out; absent if no node did.
    pub node: Option<String>,
    /// Who asked for it.
    pub who: String,
    /// What was done.
    pub action: String,
    /// The match, job or node to which it was done; empty if to nothing in particular.
    pub target: String,
    /// Its arguments, in words. Never a secret.
    pub detail: String,
    /// Why it failed, in words; absent unless `stage` is `failed`.
    pub error: Option<String>,
}

impl AuditView {
    /// Of a stored entry.
    pub fn of(entry: &AuditEntry) -> Self {
        Self {
            time_ms: entry.time_ms,
            action_id: entry.action_id.to_string(),
            stage: entry.stage.to_string(),
            node: (entry.node != Incarnation::default()).then(|| entry.node.to_string()),
            who: entry.who.clone(),
            action: entry.action.clone(),
            target: entry.target.clone(),
            detail: entry.detail.clone(),
            error: if let Stage::Failed { error } = &entry.stage {
                Some(error.clone())
            } else {
                None
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_states_of_jobs_have_the_same_word_in_json_and_for_people() {
        for condition in Condition::ALL {
            let json = serde_json::to_string(&condition).unwrap();
            assert_eq!(json, format!("\"{condition}\""));
            assert_eq!(serde_json::from_str::<Condition>(&json).unwrap(), condition);
        }
        for status in JobStatus::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.name()));
        }
        assert!(serde_json::from_str::<Condition>("\"asleep\"").is_err(), "no other word");
    }
}
