//! What the admin listener and the commands say to each other, as JSON.

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
    /// This run of the process.
    pub incarnation: String,
    /// The build of the executable.
    pub build: String,
    /// The package version.
    pub version: String,
    /// UDP address for players.
    pub listen: String,
    /// The certificate that it shows to players: DER, in hexadecimal.
    pub certificate: String,
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
    /// `running`, `recovering`, `parked` or `ended`.
    pub state: String,
    /// Why it is parked or ended.
    pub reason: Option<String>,
    /// The newest published tick.
    pub tick: u64,
    /// Ticks per second.
    pub tick_rate: u16,
    /// Its owner's count: grows with every recovery.
    pub epoch: u64,
    /// Sessions in it, house bots included.
    pub players: usize,
    /// How many of them are house bots.
    pub house_bots: u16,
    /// Recovery attempts since it last ran healthily.
    pub attempts: u32,
}

/// `POST /v1/matches`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateMatch {
    /// The game type.
    pub game: String,
    /// The game's configuration.
    pub config: serde_json::Value,
    /// How many house bots play in it.
    pub house_bots: u16,
    /// Seed of the world; random if absent.
    pub seed: Option<u64>,
    /// Ticks per second; the game's if absent.
    pub tick_rate: Option<u16>,
}

/// `POST /v1/matches/ID/stop`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StopMatch {
    /// Why, for the players.
    pub reason: String,
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
