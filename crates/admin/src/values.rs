//! Values of a match under names, as `GET /v1/matches/{id}/values` says them.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The answer of `GET /v1/matches/{id}/values`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchValues {
    /// The match.
    pub id: String,
    /// The name of its game type.
    pub game: String,
    /// After which tick they stand so. It is durable.
    pub tick: u64,
    /// `memory` of the node that runs the match, or `store`: made again from its journal.
    pub source: String,
    /// The calculations and aggregates that the game declares, in its order.
    pub values: Vec<ValueStands>,
    /// What the game says must hold, in its order.
    pub validations: Vec<ValidationStands>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueStands {
    /// Its name.
    pub name: String,
    /// The value; null also if there is none.
    pub value: Json,
    /// Why there is none; absent if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One validation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationStands {
    /// Its name.
    pub name: String,
    /// It is checked in ticks that this divides.
    pub every: u64,
    /// What becomes of the match if it does not hold then: `warn` or `stop`.
    pub if_broken: String,
    /// Whether it holds now.
    pub holds: bool,
    /// What is wrong; absent if it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
