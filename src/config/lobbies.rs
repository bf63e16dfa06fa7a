//! The key `lobbies.create`: which matches clients may have made for them.

use rekindle_sim::Properties;
use serde_json::{Map, Value as Json};

use super::{ConfigError, Settings, bad, text};

const KEY: &str = "lobbies.create";
/// An entry as it is meant to be.
const FORM: &str = "`GAME NAME=VALUE... {CONFIGURATION}; ...`, like `arena mode=duel \
     {\"max_players\": 2}`";

/// A match that clients may have made.
#[derive(Debug, Clone, PartialEq)]
pub struct Mode {
    /// Of this game.
    pub game: String,
    /// With these properties. A client that asks for some of them gets such a match.
    pub properties: Properties,
    /// The game's configuration.
    pub config: Json,
}

/// Reads them.
pub(super) fn modes(settings: &Settings) -> Result<Vec<Mode>, ConfigError> {
    let value = text(settings, KEY);
    let mut modes = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let (mode, behind) =
            mode(rest).map_err(|problem| bad(settings, KEY, &format!("{FORM}, but {problem}")))?;
        modes.push(mode);
        rest = behind.trim_start();
    }
    Ok(modes)
}

/// One entry, and what stands behind it.
fn mode(entry: &str) -> Result<(Mode, &str), String> {
    let words = &entry[..entry.find(['{', ';']).unwrap_or(entry.len())];
    let mut each = words.split_whitespace();
    let game = each.next().ok_or("an entry names no game")?.to_owned();
    let properties = each.map(rekindle_sim::property).collect::<Result<Properties, _>>()?;
    let rest = &entry[words.len()..];
    let mut read = serde_json::Deserializer::from_str(rest).into_iter::<Map<String, Json>>();
    let config = match rest.starts_with('{').then(|| read.next()).flatten() {
        Some(config) => {
            config.map_err(|error| format!("the configuration of `{game}`: {error}"))?
        }
        None => Map::new(),
    };
    let behind = if config.is_empty() && !rest.starts_with('{') {
        rest
    } else {
        rest[read.byte_offset()..].trim_start()
    };
    let behind = match behind.strip_prefix(';') {
        Some(behind) => behind,
        None if behind.is_empty() => behind,
        None => return Err(format!("`{behind}` stands behind the configuration of `{game}`")),
    };
    Ok((Mode { game, properties, config: Json::Object(config) }, behind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Sources;

    fn read(value: &str) -> Result<Vec<Mode>, String> {
        let flags = vec![("--set".to_owned(), KEY.to_owned(), value.to_owned())];
        let file = Some(std::path::PathBuf::from("/dev/null"));
        let settings = Settings::load(&Sources { file, flags, ..Sources::default() })
            .map_err(|error| error.to_string())?;
        modes(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn entries_have_a_game_and_may_have_properties_and_a_configuration() {
        assert_eq!(read(""), Ok(Vec::new()));
        let read = read(
            r#"arena mode=duel map=old {"max_players": 2, "note": "a; b}"} ; tictactoe;rts {}"#,
        );
        let properties = [("map", "old"), ("mode", "duel")];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mode = |game: &str| Mode {
            game: game.to_owned(),
            properties: Properties::new(),
            config: json!({}),
        };
        let config = json!({ "max_players": 2, "note": "a; b}" });
        let arena = Mode { properties: properties.into(), config, ..mode("arena") };
        assert_eq!(read, Ok(vec![arena, mode("tictactoe"), mode("rts")]));
    }

    #[test]
    fn what_is_no_entry_is_refused_in_words() {
        for (value, words) in [
            ("; arena", "names no game"),
            ("arena duel", "`duel` is no property"),
            ("arena {\"a\": }", "the configuration of `arena`"),
            ("arena {} {}", "stands behind the configuration"),
        ] {
            let problem = read(value).unwrap_err();
            assert!(problem.contains(words) && problem.contains(KEY), "{words}: {problem}");
        }
    }
}
