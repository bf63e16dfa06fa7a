//! Statistics of a match, as `GET /v1/matches/{id}/stats` says them.

use serde::{Deserialize, Serialize};

/// The answer of `GET /v1/matches/{id}/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchStats {
    /// The match.
    pub id: String,
    /// The name of its game type.
    pub game: String,
    /// After which tick they stand so. It is durable.
    pub tick: u64,
    /// `memory` of the node that runs the match, or `store`: made again from its journal.
    pub source: String,
    /// What the game declares, in its order.
    pub statistics: Vec<StatisticStands>,
}

/// One statistic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatisticStands {
    /// Its name.
    pub name: String,
    /// The id of the event that is counted.
    pub of: String,
    /// The length of its window in ticks; absent without one.
    pub window: Option<u64>,
    /// The first tick that is in the window.
    pub window_from: Option<u64>,
    /// All events of the match.
    pub total: TallyStands,
    /// Those in the window.
    pub recent: Option<TallyStands>,
    /// Of each player, ascending.
    pub players: Vec<PlayerStands>,
    /// How many players are left out, because there were too many others.
    pub forgotten: u64,
}

/// What a statistic says of a player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerStands {
    /// The player.
    pub player: u64,
    /// All events that count for the player.
    pub total: TallyStands,
    /// Those in the window.
    pub recent: Option<TallyStands>,
}

/// What a number of events come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyStands {
    /// How many.
    pub count: u64,
    /// The sum of their values.
    pub sum: i64,
    /// The least value; 0 if there was no event.
    pub min: i64,
    /// The greatest value; 0 if there was no event.
    pub max: i64,
}
