//! `rekindle config check|show`.

use serde::Serialize;

use super::Context;
use super::args::ConfigCommand;
use super::exit::{Exit, Failure};
use crate::config::Origin;
use crate::config::keys::KEYS;

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    value: String,
    origin: &'a Origin,
    env: String,
    help: &'a str,
}

/// A configuration that got here is valid: whatever is wrong ended the program with its reason before.
pub(super) fn run(context: &Context, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => context.answer(&serde_json::json!({ "valid": true }), || "the configuration is valid".to_owned())?,
        ConfigCommand::Show { origin } => {
            let lines: Vec<Line<'_>> = KEYS
                .iter()
                .map(|key| {
                    let (_, origin) = context.settings.get(key);
                    Line { key: key.name, value: context.settings.shown(key), origin, env: key.env(), help: key.help }
                })
                .collect();
            context.answer(&lines, || {
                let line = |line: &Line<'_>| {
                    let note = if *origin { line.origin.to_string() } else { line.help.to_owned() };
                    format!("{:<29} = {:<18} # {note}", line.key, line.value)
                };
                lines.iter().map(line).collect::<Vec<_>>().join("\n")
            })?;
        }
    }
    Ok(Exit::Done)
}
