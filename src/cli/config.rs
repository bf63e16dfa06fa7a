//! `rekindle config check|show`.

use serde::Serialize;

use super::args::ConfigCommand;
use super::context::Context;
use crate::config::Origin;
use crate::config::keys::KEYS;
use crate::exit::{Exit, Failure};

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    value: String,
    origin: &'a Origin,
    env: String,
    help: &'a str,
}

/// A configuration that got here is right in itself: what is wrong with that ended the program
/// before. What is left is whether it fits this host.
pub(super) fn run(context: &Context, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => {
            context.fit_to_start()?;
            let ignored = context.settings.passed_over();
            context.answer(&serde_json::json!({ "valid": true, "ignored": ignored }), || {
                let mut lines = vec!["the configuration is valid".to_owned()];
                if !ignored.is_empty() {
                    lines.push(format!(
                        "note: passed over, for they have the shape of service links: {}",
                        ignored.join(", ")
                    ));
                }
                lines
            })?;
        }
        ConfigCommand::Show { origin } => {
            let lines: Vec<Line<'_>> = KEYS
                .iter()
                .map(|key| {
                    let (_, origin) = context.settings.get(key);
                    Line {
                        key: key.name,
                        value: context.settings.shown(key),
                        origin,
                        env: key.env(),
                        help: key.help,
                    }
                })
                .collect();
            context.answer(&lines, || {
                let line = |line: &Line<'_>| {
                    let note = if *origin { line.origin.to_string() } else { line.help.to_owned() };
                    format!("{:<29} = {:<18} # {note}", line.key, line.value)
                };
                lines.iter().map(line).collect()
            })?;
        }
    }
    Ok(Exit::Done)
}
