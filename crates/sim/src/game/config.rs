//! Configurations: JSON on the outside, the game's own type inside.
//!
//! What is given is laid over the defaults key by key, so a configuration of an earlier build keeps
//! its meaning when keys are added. Keys that were dropped or renamed are those that the game
//! declares ([`FormerKeys`]):
//!
//! | the old build has | this build has | |
//! |---|---|---|
//! | a key | the same | its value |
//! | nothing | a key | its default |
//! | a key | it under another name | its value, if the game says [`config_renamed`](crate::GameBuilder::config_renamed) |
//! | a key | nothing | left out if the game says [`config_retired`](crate::GameBuilder::config_retired), else refused |

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::ecs::world::Constants;
use crate::game::builder::Game;
use crate::game::former::FormerKeys;
use crate::game::simulation::SimError;

/// A configuration and what is computed from it alone.
pub(crate) struct Configured<G: Game> {
    pub(crate) config: Arc<G::Config>,
    /// As JSON, with all its keys.
    pub(crate) bytes: Bytes,
    pub(crate) constants: Arc<Constants>,
}

/// Reads a configuration; empty bytes are the defaults.
pub(crate) fn parse<G: Game>(json: &[u8], former: &FormerKeys) -> Result<G::Config, SimError> {
    let fail = |problem: String| SimError::Config { game: G::NAME.to_owned(), problem };
    let mut given: Json = match json {
        [] => Json::Object(serde_json::Map::new()),
        json => serde_json::from_slice(json).map_err(|error| fail(format!("not JSON: {error}")))?,
    };
    let mut all =
        serde_json::to_value(G::Config::default()).map_err(|error| fail(error.to_string()))?;
    if all.is_null() {
        // A configuration without content.
        all = Json::Object(serde_json::Map::new());
    }
    former.bring_up(&mut given).map_err(fail)?;
    overlay(&mut all, given, "").map_err(fail)?;
    let whole = if all.as_object().is_some_and(serde_json::Map::is_empty) {
        serde_json::from_value(Json::Null)
    } else {
        Err(serde::de::Error::custom(""))
    };
    let config: G::Config = match whole {
        Ok(config) => config,
        Err(_) => serde_json::from_value(all).map_err(|error| fail(error.to_string()))?,
    };
    G::validate(&config).map_err(fail)?;
    Ok(config)
}

/// Encodes a configuration with all its keys.
pub(crate) fn to_bytes<G: Game>(config: &G::Config) -> Result<Bytes, SimError> {
    let fail = |error: serde_json::Error| SimError::Config {
        game: G::NAME.to_owned(),
        problem: error.to_string(),
    };
    // Through a JSON value, whose keys are in order: equal configurations are equal bytes.
    let json =
        serde_json::to_value(config).and_then(|value| serde_json::to_vec(&value)).map_err(fail)?;
    Ok(if json == b"null" { Bytes::from_static(b"{}") } else { json.into() })
}

/// Lays `given` over `base`. Keys must be known, except where the default is an empty object: that
/// is a map of the user's making.
fn overlay(base: &mut Json, given: Json, path: &str) -> Result<(), String> {
    match (base, given) {
        (Json::Object(base), Json::Object(given)) if !base.is_empty() || path.is_empty() => {
            for (key, value) in given {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let Some(place) = base.get_mut(&key) else {
                    let known: Vec<_> = base.keys().map(|key| format!("`{key}`")).collect();
                    let known = if known.is_empty() {
                        "there are no keys".to_owned()
                    } else {
                        format!("known are {}", known.join(", "))
                    };
                    return Err(format!("unknown key `{path}`: {known}"));
                };
                overlay(place, value, &path)?;
            }
            Ok(())
        }
        (Json::Object(base), given) if !base.is_empty() || path.is_empty() => {
            let place =
                if path.is_empty() { "the configuration".to_owned() } else { format!("`{path}`") };
            Err(format!("{place} is an object with keys, not `{given}`"))
        }
        (base, given) => {
            *base = given;
            Ok(())
        }
    }
}
