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

//!
//! The version of the rules that a match began with stands beside the game's keys, as [`RULES`]:
//! so it is in the match's spec, in its checkpoints and in what clients are told.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::documents::words;
use crate::ecs::world::Constants;
use crate::game::builder::Game;
use crate::game::builder::extensions::Extensions;
use crate::game::former::FormerKeys;
use crate::game::properties::{self, PROPERTIES, Properties};
use crate::game::simulation::SimError;

/// The key of the version of the rules, which no game has. Left out of configurations whose version
/// is 1, as all are of games that never changed their rules.
pub const RULES: &str = "@rules";

/// The version of the rules that a configuration, as matches store it, names.
pub fn rules_of(config: &[u8]) -> u32 {
    let json = serde_json::from_slice::<Json>(config).ok();
    let named = json.as_ref().and_then(|json| json.get(RULES)?.as_u64());
    named.and_then(|rules| u32::try_from(rules).ok()).unwrap_or(1)
}

/// A configuration and what is computed from it alone.
pub(crate) struct Configured<G: Game> {
    pub(crate) config: Arc<G::Config>,
    /// As JSON, with all its keys.
    pub(crate) bytes: Bytes,
    pub(crate) constants: Arc<Constants>,
}

/// The version of the rules in what is given, which it is taken out of, or else `default`; an error
/// if this build does not have it.
fn take_rules<G: Game>(given: &mut Json, default: u32) -> Result<u32, String> {
    const {
        assert!(
            1 <= G::OLDEST_RULES && G::OLDEST_RULES <= G::RULES,
            "OLDEST_RULES of the game is 0, or newer than RULES"
        );
    }
    let (oldest, newest) = (G::OLDEST_RULES, G::RULES);
    let named = given.as_object_mut().and_then(|keys| keys.remove(RULES));
    let known = if oldest == newest {
        format!("this build has version {newest} only")
    } else {
        format!("this build has versions {oldest} to {newest}")
    };
    let rules = named.as_ref().map_or(Some(u64::from(default)), Json::as_u64);
    let rules = rules.and_then(|rules| u32::try_from(rules).ok());
    match rules {
        Some(rules) if rules > newest => Err(format!(
            "version {rules} of the rules is newer than this build: {known}; run the build that \
             has it"
        )),
        Some(0) => Err(format!("versions of the rules begin with 1, so there is no 0: {known}")),
        Some(rules) if rules < oldest => Err(format!(
            "version {rules} of the rules is no longer played: {known}; run an older build"
        )),
        Some(rules) => Ok(rules),
        None => Err(format!("`{RULES}` is the number of a version of the rules: {known}")),
    }
}

/// A configuration, and what stands beside the game's keys.
pub(crate) struct Parsed<C> {
    pub(crate) config: C,
    pub(crate) rules: u32,
    pub(crate) properties: Properties,
}

/// Reads a configuration and the version of the rules in it, or `rules` if there is none; empty
/// bytes are the defaults.
pub(crate) fn parse<G: Game>(
    json: &[u8],
    former: &FormerKeys,
    extensions: &Extensions<G>,
    rules: u32,
) -> Result<Parsed<G::Config>, SimError> {
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
    let rules = take_rules::<G>(&mut given, rules).map_err(fail)?;
    let properties = properties::take(&mut given).map_err(fail)?;
    former.bring_up(&mut given).map_err(fail)?;
    overlay(&mut all, given, "").map_err(fail)?;
    let whole = if all.as_object().is_some_and(serde_json::Map::is_empty) {
        serde_json::from_value(Json::Null)
    } else {
        Err(serde::de::Error::custom(""))
    };
    let config: G::Config = match whole {
        Ok(config) => config,
        Err(_) => words::read(all).map_err(fail)?,
    };
    G::validate(&config).map_err(fail)?;
    extensions.validate(&config).map_err(fail)?;
    Ok(Parsed { config, rules, properties })
}

/// Encodes a configuration with all its keys, and what stands beside them.
pub(crate) fn to_bytes<G: Game>(
    config: &G::Config,
    rules: u32,
    properties: &Properties,
) -> Result<Bytes, SimError> {
    let fail = |error: serde_json::Error| SimError::Config {
        game: G::NAME.to_owned(),
        problem: error.to_string(),
    };
    // Through a JSON value, whose keys are in order: equal configurations are equal bytes.
    let mut json = serde_json::to_value(config).map_err(fail)?;
    if json.is_null() {
        json = Json::Object(serde_json::Map::new());
    }
    if let Some(keys) = json.as_object_mut().filter(|_| rules != 1) {
        keys.insert(RULES.to_owned(), rules.into());
    }
    if let Some(keys) = json.as_object_mut().filter(|_| !properties.is_empty()) {
        let texts = properties.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        keys.insert(PROPERTIES.to_owned(), Json::Object(texts.collect()));
    }
    Ok(serde_json::to_vec(&json).map_err(fail)?.into())
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

#[cfg(test)]
mod tests {
    use rekindle_schema::PlayerId;
    use rekindle_schema::Tick;
    use rekindle_schema::record::{LeaveReason, Step};

    use super::*;
    use crate::{
        GameBuilder, GameType as _, IntoSystems as _, ResMut, Resource, RulesVersion,
        Simulation as _, Stage, Typed, World,
    };

    #[derive(Debug, Clone, PartialEq, Resource)]
    #[resource(id = "sum")]
    struct Sum {
        sum: u64,
    }

    fn add(rules: RulesVersion, mut sum: ResMut<Sum>) {
        sum.sum += u64::from(rules.0);
    }

    fn bonus(mut sum: ResMut<Sum>) {
        sum.sum += 100;
    }

    /// Versions `OLDEST` to `NEWEST` of one game.
    struct Ruled<const OLDEST: u32, const NEWEST: u32>;

    impl<const OLDEST: u32, const NEWEST: u32> Game for Ruled<OLDEST, NEWEST> {
        const NAME: &'static str = "ruled";
        const OLDEST_RULES: u32 = OLDEST;
        const RULES: u32 = NEWEST;
        type Config = ();
        type Input = ();
        type Command = ();
        type Bot = ();
        fn build(game: &mut GameBuilder<Self>) {
            let later = bonus.run_if(|rules: RulesVersion| rules.0 >= 3);
            game.resource::<Sum>().add_systems(Stage::Update, (add, later).chain());
        }
        fn max_players((): &()) -> usize {
            1
        }
        fn setup(world: &mut World, (): &()) {
            let sum = u64::from(world.rules().0) * 1_000;
            world.insert_resource(Sum { sum });
        }
        fn join(_: &mut World, _: PlayerId) {}
        fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
    }

    fn first_tick<G: Game>(running: &mut crate::Match<G>) -> u64 {
        let tick = running.world().tick().next();
        running.step(&Step { tick, ..Step::default() }).unwrap();
        running.world().resource::<Sum>().sum
    }

    #[test]
    fn a_match_keeps_the_rules_that_it_began_with() {
        let (old, new) =
            (Typed::<Ruled<1, 1>>::new().unwrap(), Typed::<Ruled<1, 3>>::new().unwrap());
        // What is created without a word is played by the newest rules; version 1 leaves no trace.
        let (first, third) =
            (old.config_from_json("{}").unwrap(), new.config_from_json("{}").unwrap());
        assert_eq!((&first[..], rules_of(&first), rules_of(&third)), (&b"{}"[..], 1, 3));
        let second = new.config_from_json(r#"{"@rules": 2}"#).unwrap();
        assert_eq!(rules_of(&second), 2);
        for (config, sum) in [(&first, 1_001), (&second, 2_002), (&third, 3_103)] {
            assert_eq!(first_tick(&mut new.create(config, 7).unwrap()), sum);
        }
        // It goes on by them from a checkpoint, in the newer build, too.
        let mut running = old.create(&first, 7).unwrap();
        first_tick(&mut running);
        let mut restored = new.restore(&running.checkpoint()).unwrap();
        assert_eq!(restored.state_hash(), running.state_hash());
        assert_eq!((first_tick(&mut restored), restored.world().tick()), (1_002, Tick(2)));
        let mut running = new.create(&third, 7).unwrap();
        assert_eq!(first_tick(&mut running), 3_103);
        let mut restored = new.restore(&running.checkpoint()).unwrap();
        assert_eq!(first_tick(&mut restored), 3_206);

        // What a build does not have it refuses, by both numbers.
        let newer = old.restore(&running.checkpoint()).err().unwrap().to_string();
        assert!(newer.contains("version 3 of the rules is newer"), "{newer}");
        assert!(newer.contains("has version 1 only"), "{newer}");
        let last = Typed::<Ruled<2, 3>>::new().unwrap();
        let gone = last.create(&first, 7).err().unwrap().to_string();
        assert!(gone.contains("version 1 of the rules is no longer played"), "{gone}");
        let none = new.config_from_json(r#"{"@rules": 0}"#).unwrap_err().to_string();
        assert!(none.contains("versions of the rules begin with 1"), "{none}");
        for wrong in [r#"{"@rules": 4}"#, r#"{"@rules": 0}"#, r#"{"@rules": "x"}"#, "[]"] {
            assert!(new.config_from_json(wrong).is_err(), "{wrong}");
        }
    }
}
