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

use bytes::Bytes;
use serde_json::Value as Json;

use crate::game::builder::Game;
use crate::game::simulation::SimError;

/// Keys that configurations of earlier builds had, as dotted paths.
#[derive(Debug, Default)]
pub(crate) struct FormerKeys {
    /// They are gone.
    pub(crate) retired: Vec<&'static str>,
    /// They have another name or place now.
    pub(crate) renamed: Vec<(&'static str, &'static str)>,
}

impl FormerKeys {
    /// Takes former keys out of a configuration and puts what still counts where it belongs today.
    fn bring_up(&self, given: &mut Json) -> Result<(), String> {
        for key in &self.retired {
            take(given, key);
        }
        for (former, now) in &self.renamed {
            if let Some(value) = take(given, former) {
                put(given, now, value).map_err(|()| {
                    format!("`{former}` is called `{now}` now, and both are given")
                })?;
            }
        }
        Ok(())
    }
}

/// Takes out what stands at a dotted path.
fn take(json: &mut Json, path: &str) -> Option<Json> {
    match path.split_once('.') {
        Some((key, rest)) => take(json.as_object_mut()?.get_mut(key)?, rest),
        None => json.as_object_mut()?.remove(path),
    }
}

/// Puts a value at a dotted path where nothing stands yet.
fn put(json: &mut Json, path: &str, value: Json) -> Result<(), ()> {
    let place = json.as_object_mut().ok_or(())?;
    match path.split_once('.') {
        Some((key, rest)) => put(
            place.entry(key).or_insert_with(|| Json::Object(serde_json::Map::new())),
            rest,
            value,
        ),
        None if place.contains_key(path) => Err(()),
        None => {
            place.insert(path.to_owned(), value);
            Ok(())
        }
    }
}

fn get<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(json, |json, key| json.as_object()?.get(key))
}

/// What is wrong with the declared former keys: one that stands for a key of today would take it
/// away, a new name that is none would lose the value.
pub(crate) fn check_former<G: Game>(former: &FormerKeys) -> Vec<String> {
    let today = match serde_json::to_value(G::Config::default()) {
        Ok(today) => today,
        Err(error) => return vec![format!("the default configuration is no JSON: {error}")],
    };
    let olds = former.retired.iter().chain(former.renamed.iter().map(|(old, _)| old));
    let living = olds.filter(|old| get(&today, old).is_some());
    let mut problems: Vec<String> = living
        .map(|old| format!("`{old}` is a key of the configuration, and no former one"))
        .collect();
    let nowhere = former.renamed.iter().filter(|(_, now)| get(&today, now).is_none());
    problems.extend(nowhere.map(|(old, now)| {
        format!("`{old}` is said to be called `{now}` now, but there is no such key")
    }));
    problems
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
