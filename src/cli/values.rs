//! `rekindle match values`: what the game of a match declares under names, and whether what must
//! hold does: from the running node, or from the store if none runs. `replay` shows the same.

use rekindle_admin::values::{MatchValues, ValidationStands, ValueStands};

use super::context::Context;
use super::stats::of_match;
use crate::control::{NamedViews, match_values};
use crate::exit::{Exit, Failure};

pub(super) fn run(context: &Context, prefix: &str) -> Result<Exit, Failure> {
    let found = of_match(context, prefix, "values", NamedViews::of, match_values)?;
    context.answer(&found, || {
        let MatchValues { id, game, tick, source, values, validations } = &found;
        let mut lines = vec![format!("match {id} ({game}) after tick {tick}, from {source}")];
        lines.extend(words(values, validations));
        if lines.len() == 1 {
            lines.push("its game declares no values".to_owned());
        }
        lines
    })?;
    Ok(Exit::Done)
}

/// A line for each value and validation.
pub(super) fn words(values: &[ValueStands], validations: &[ValidationStands]) -> Vec<String> {
    let value = |ValueStands { name, value, problem }: &ValueStands| match problem {
        None => format!("  {name:<32} {value}"),
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
