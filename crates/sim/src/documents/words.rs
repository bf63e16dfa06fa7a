//! What is wrong with a JSON, in words for people who have not written the program. Called where
//! calls, questions and configurations from outside are read.

use serde::de::DeserializeOwned;
use serde_json::{Error, Value as Json};

/// What a parser says in front of what it found, and between that and what it expects.
const FOUND: [&str; 3] = ["invalid type: ", "invalid value: ", "invalid length "];
const EXPECTED: &str = ", expected ";

/// The problem with a JSON that does not fit. The line is left out where all stands on one.
pub fn of(error: &Error) -> String {
    let words = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let (words, place) = match words.strip_suffix(&place) {
        Some(words) if error.line() == 1 => (words, format!(", at byte {}", error.column())),
        _ => (words.as_str(), String::new()),
    };
    let read = FOUND.iter().find_map(|found| words.strip_prefix(found)?.split_once(EXPECTED));
    let problem = match read {
        Some((found, expected)) => {
            format!("expected {}, found {}", named(expected), named(found))
        }
        None => words.to_owned(),
    };
    problem + &place
}

/// Reads a value that keys lead to: the problem names those that lead to what does not fit, such as
/// `zone.radius`.
pub(crate) fn read<T: DeserializeOwned>(json: Json) -> Result<T, String> {
    serde_path_to_error::deserialize(json).map_err(|error| match error.path().iter().next() {
        Some(_) => format!("`{}`: {}", error.path(), of(error.inner())),
        None => of(error.inner()),
    })
}

/// What the parser calls something, as people who write JSON call it.
fn named(words: &str) -> String {
    const NAMES: [(&str, &str); 18] = [
        ("i8", "a whole number from -128 to 127"),
        ("i16", "a whole number from -32768 to 32767"),
        ("i32", "a whole number of 32 bits"),
        ("i64", "a whole number"),
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number of 32 bits, not below 0"),
        ("u64", "a whole number, not below 0"),
        ("usize", "a whole number, not below 0"),
        ("f32", "a number"),
        ("f64", "a number"),
        ("a string", "a text"),
        ("a boolean", "true or false"),
        ("unit", "no arguments"),
        ("a sequence", "a list"),
        ("sequence", "a list"),
        ("a map", "an object"),
        ("map", "an object"),
    ];
    // What was found, with the value in backticks or quotes.
    const VALUES: [&str; 4] = ["integer ", "floating point ", "boolean ", "character "];
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == words) {
        return (*name).to_owned();
    }
    if let Some(text) = words.strip_prefix("string ") {
        return format!("the text {text}");
    }
    if words.starts_with("struct ") {
        return "an object".to_owned();
    }
    if words.starts_with("tuple ") || words.starts_with("an array ") {
        return words.replacen("tuple", "a list", 1).replacen("an array", "a list", 1);
    }
    let value = VALUES.iter().find_map(|kind| words.strip_prefix(kind));
    value.map_or_else(|| words.to_owned(), |value| value.trim_matches('`').to_owned())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value as Json, from_str, from_value, json};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bet {
        #[serde(rename = "amount")]
        _amount: u32,
        #[serde(rename = "on", default)]
        _on: Vec<String>,
    }

    #[test]
    fn what_does_not_fit_is_said_without_names_of_types() {
        let of = |value: Json| super::of(&from_value::<Bet>(value).unwrap_err());
        for (value, words) in [
            (json!({"amount": "much"}), "expected a whole number of 32 bits, not below 0, found"),
            (json!({"amount": "much"}), "found the text \"much\""),
            (json!({"amount": -1}), "found -1"),
            (json!({"amount": 1.5}), "found 1.5"),
            (json!({"amount": true}), "found true"),
            (json!({"amount": 1, "on": {}}), "expected a list, found an object"),
            (json!({"amount": 1, "on": [1]}), "expected a text, found 1"),
            (json!(null), "expected an object, found null"),
            (json!({}), "missing field `amount`"),
            (json!({"amount": 1, "x": 2}), "unknown field `x`, expected `amount` or `on`"),
        ] {
            let said = of(value);
            assert!(said.contains(words), "{said:?} does not say {words:?}");
        }
        let nothing = super::of(&from_value::<()>(json!("a hat")).unwrap_err());
        assert_eq!(nothing, "expected no arguments, found the text \"a hat\"");
    }

    #[test]
    fn what_does_not_fit_is_named_by_the_keys_that_lead_to_it() {
        #[derive(Debug, Deserialize)]
        struct Table {
            #[serde(rename = "bets")]
            _bets: Vec<Bet>,
        }
        let problem = |json| super::read::<Table>(json).unwrap_err();
        let bets = json!({"bets": [{"amount": 1}, {"amount": "much"}]});
        assert_eq!(
            problem(bets),
            "`bets[1].amount`: expected a whole number of 32 bits, not below 0, found the text \
             \"much\""
        );
        assert_eq!(problem(json!(7)), "expected an object, found 7");
    }

    #[test]
    fn the_place_in_a_text_is_said_once() {
        let said = super::of(&from_str::<Bet>(r#"{"amount": "x"}"#).unwrap_err());
        assert!(said.ends_with("found the text \"x\", at byte 14"), "{said}");
        let said = super::of(&from_str::<Bet>("{\n\"amount\": }").unwrap_err());
        assert!(said.contains("line 2"), "{said}");
    }
}
