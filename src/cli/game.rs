//! `rekindle game`: what the games of this executable are made of. It asks no node and no store.

use serde_json::json;

use super::args::GameCommand;
use super::context::Context;
use crate::exit::{Exit, Failure};

pub(super) fn run(context: &Context, command: &GameCommand) -> Result<Exit, Failure> {
    match command {
        GameCommand::Graph { game, states, .. } => graph(context, game.as_deref(), *states),
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
