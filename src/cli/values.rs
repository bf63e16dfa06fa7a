//! `rekindle match values`: what the game of a match declares under names, and whether what must
//! hold does: from the running node, or from the store if none runs. `replay` shows the same.

use rekindle_admin::values::{MatchValues, ValidationStands, ValueStands};

use serde_json::Value as Json;

use super::context::Context;
use super::stats::of_match;
use crate::control::{NamedViews, match_values};
use crate::exit::{Exit, Failure};

/// Floats below it have all whole numbers: 2 to the power of 53.
const WHOLE: f64 = 9_007_199_254_740_992.0;

pub(super) fn run(context: &Context, prefix: &str) -> Result<Exit, Failure> {
    let found = of_match(context, prefix, "values", NamedViews::of, match_values)?;
    context.answer(&found, || {
        let MatchValues { id, game, tick, source, values, validations } = &found;
        let mut lines = vec![format!("match {id} ({game}) after tick {tick}, from {source}")];
        lines.extend(words(values, validations));
        if lines.len() == 1 {
            let none = "its game declares no values: `game.calculation`, `game.aggregates` and \
                `game.validation` do";
            lines.push(none.to_owned());
        }
        lines
    })?;
    Ok(Exit::Done)
}

/// A line for each value and validation.
pub(super) fn words(values: &[ValueStands], validations: &[ValidationStands]) -> Vec<String> {
    let value = |ValueStands { name, value, problem }: &ValueStands| match problem {
        None => format!("  {name:<32} {}", shown(value)),
        Some(problem) => format!("  {name:<32} fails: {problem}"),
    };
    let validation = |found: &ValidationStands| {
        let ValidationStands { name, every, if_broken, problem, .. } = found;
        let stands = problem
            .as_ref()
            .map_or("holds".to_owned(), |problem| format!("DOES NOT HOLD: {problem}"));
        let ticks =
            if *every == 1 { "each tick".to_owned() } else { format!("every {every} ticks") };
        format!("  {name:<32} {stands} (checked {ticks}, {if_broken})")
    };
    values.iter().map(value).chain(validations.iter().map(validation)).collect()
}

/// The value with its whole numbers as people write them. Sums are `f64`, also those of gems.
fn shown(value: &Json) -> Json {
    match value {
        Json::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < WHOLE => {
                Json::from(float as i64)
            }
            _ => value.clone(),
        },
        Json::Array(all) => all.iter().map(shown).collect(),
        Json::Object(all) => {
            let all = all.iter().map(|(key, value)| (key.clone(), shown(value)));
            Json::Object(all.collect())
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_shown_without_a_fraction_and_others_as_they_are() {
        for (value, words) in [
            (json!(56.0), "56"),
            (json!(-3.0), "-3"),
            (json!(0.5), "0.5"),
            (json!(7), "7"),
            (json!(1e300), "1e+300"),
            (json!("6.0"), r#""6.0""#),
            (json!(null), "null"),
            (
                json!({"kills": {"7": 6.0}, "all": [1.0, 2.25]}),
                r#"{"all":[1,2.25],"kills":{"7":6}}"#,
            ),
        ] {
            assert_eq!(shown(&value).to_string(), words);
        }
    }
}
