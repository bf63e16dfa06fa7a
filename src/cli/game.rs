//! `rekindle game`: what the games of this executable are made of. It asks no node and no store.

mod typescript;

use serde_json::json;

use super::args::GameCommand;
use super::context::Context;
use crate::exit::{Exit, Failure};

pub(super) fn run(context: &Context, command: &GameCommand) -> Result<Exit, Failure> {
    match command {
        GameCommand::Graph { game, states, .. } => graph(context, game.as_deref(), *states),
        GameCommand::Schema { game, ts, from } => schema(context, game.as_deref(), (*ts, from)),
    }
}

/// Prints a game as a Mermaid diagram: its state machines, or its systems.
fn graph(context: &Context, name: Option<&str>, states: bool) -> Result<Exit, Failure> {
    let name = name.or_else(|| context.games.names().next()).unwrap_or_default();
    let game = context.games.get(name)?;
    let (of, chart) =
        if states { ("states", game.state_chart()) } else { ("systems", game.system_chart()) };
    // A diagram of nothing has its first line alone.
    if chart.lines().count() < 2 {
        return Err(Failure::new(
            Exit::Failed,
            format!("RK-CLI-200: game `{name}` declares no {of}: there is nothing to draw"),
        ));
    }
    context.answer(&json!({ "game": name, "of": of, "mermaid": chart }), || {
        chart.lines().map(str::to_owned).collect()
    })?;
    Ok(Exit::Done)
}

/// Prints what snapshots of a game carry: as JSON, a line for each field, or as TypeScript.
fn schema(
    context: &Context,
    name: Option<&str>,
    (ts, from): (bool, &str),
) -> Result<Exit, Failure> {
    let name = name.or_else(|| context.games.names().next()).unwrap_or_default();
    let game = context.games.get(name)?;
    let schema = game.net_schema();
    if ts {
        let module = typescript::module(name, schema, from);
        context.answer(&json!({ "game": name, "typescript": module }), || {
            module.lines().map(str::to_owned).collect()
        })?;
        return Ok(Exit::Done);
    }
    context.answer(&json!({ "game": name, "schema": schema }), || {
        let fields = schema.components.iter().flat_map(|component| {
            let of = &component.name;
            component
                .fields
                .iter()
                .map(move |field| format!("{of}.{} {:?}", field.name, field.kind))
        });
        fields.collect()
    })?;
    Ok(Exit::Done)
}
