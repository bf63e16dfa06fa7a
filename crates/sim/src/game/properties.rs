//! Properties of a match: words by which a lobby finds it, such as `mode=duel`. They are given when
//! the match is made and never change; the game does not see them. They stand in the stored
//! configuration under a key of their own, as the version of the rules does, so that each store and
//! each checkpoint keeps them.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// The key of the properties in a stored configuration, which no game has. Left out if there are
/// none.
pub const PROPERTIES: &str = "@properties";

/// Names and values, ascending by name.
pub type Properties = BTreeMap<String, String>;

/// Most properties of a match.
const MOST: usize = 16;
/// Longest name and longest value, in characters.
const LONGEST: usize = 64;

/// Reads one property as people write it, `name=value`.
///
/// # Errors
/// In words for the one who wrote it, if it is none.
pub fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is no property: write NAME=VALUE, like mode=duel"))?;
    check(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The properties in a configuration, as matches store it.
pub fn properties_of(config: &[u8]) -> Properties {
    let json = serde_json::from_slice::<Json>(config).ok();
    let named = json.as_ref().and_then(|json| json.get(PROPERTIES)).and_then(Json::as_object);
    let text = |(name, value): (&String, &Json)| Some((name.clone(), value.as_str()?.to_owned()));
    named.into_iter().flatten().filter_map(text).collect()
}

/// Both are of `a-z A-Z 0-9 . _ -`: a list of properties is written with commas.
fn check(name: &str, value: &str) -> Result<(), String> {
    for (what, text) in [("name", name), ("value", value)] {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > LONGEST || !text.chars().all(good) {
            return Err(format!(
                "property `{name}={value}`: the {what} has 1 to {LONGEST} characters of a-z, A-Z, \
                 0-9, `.`, `_` and `-`"
            ));
        }
    }
    Ok(())
}

/// Takes the properties out of a given configuration; an error if they are none.
pub(crate) fn take(given: &mut Json) -> Result<Properties, String> {
    let named = given.as_object_mut().and_then(|keys| keys.remove(PROPERTIES));
    let keys = match named {
        None => return Ok(Properties::new()),
        Some(Json::Object(keys)) => keys,
        Some(other) => {
            return Err(format!("`{PROPERTIES}` is {other}: write {{\"mode\": \"duel\"}}"));
        }
    };
    if keys.len() > MOST {
        return Err(format!("{} properties: a match has at most {MOST}", keys.len()));
    }
    let mut properties = Properties::new();
    for (name, value) in keys {
        let Json::String(value) = value else {
            return Err(format!("property `{name}` is {value}: write a text, like \"duel\""));
        };
        check(&name, &value)?;
        properties.insert(name, value);
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc_game::Duel;
    use crate::{GameType as _, Simulation as _, Typed};

    #[test]
    fn a_match_keeps_its_properties_through_checkpoints_and_the_game_does_not_see_them() {
        let game = Typed::<Duel>::new().unwrap();
        let plain = game.config_from_json(r#"{"goal": 10}"#).unwrap();
        assert!(properties_of(&plain).is_empty());
        let text = r#"{"goal": 10, "@properties": {"mode": "duel", "map": "old-town"}}"#;
        let config = game.config_from_json(text).unwrap();
        let wanted = [("map", "old-town"), ("mode", "duel")];
        let wanted: Properties =
            wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(properties_of(&config), wanted);
        let again = game.config_from_json(std::str::from_utf8(&config).unwrap()).unwrap();
        assert_eq!(again, config, "read again it is the same");
        let made = Typed::create(&game, &config, 7).unwrap();
        let bytes = made.checkpoint();
        assert_eq!(Typed::restore(&game, &bytes).unwrap().checkpoint(), bytes);
        let without = Typed::create(&game, &plain, 7).unwrap();
        assert_eq!(made.world().len(), without.world().len());
    }

    #[test]
    fn what_is_no_property_is_refused_in_words() {
        let game = Typed::<Duel>::new().unwrap();
        for (given, words) in [
            (r#"{"@properties": "duel"}"#, "write {\"mode\": \"duel\"}"),
            (r#"{"@properties": {"mode": 3}}"#, "property `mode` is 3: write a text"),
            (r#"{"@properties": {"mode": "a,b"}}"#, "property `mode=a,b`: the value has"),
            (r#"{"@properties": {"": "a"}}"#, "property `=a`: the name has"),
        ] {
            let problem = game.config_from_json(given).unwrap_err().to_string();
            assert!(problem.contains(words), "{words} is missing in: {problem}");
        }
        let many: Vec<String> = (0..17).map(|name| format!(r#""{name}": "a""#)).collect();
        let many = format!(r#"{{"@properties": {{{}}}}}"#, many.join(","));
        let problem = game.config_from_json(&many).unwrap_err().to_string();
        assert!(problem.contains("17 properties: a match has at most 16"), "{problem}");
        assert_eq!(property("mode=duel"), Ok(("mode".to_owned(), "duel".to_owned())));
        assert!(property("duel").unwrap_err().contains("write NAME=VALUE, like mode=duel"));
    }
}
