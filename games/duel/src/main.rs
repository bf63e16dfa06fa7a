//! The `duel` executable: a node that plays duels. All that a studio writes besides its game.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;

use rekindle::Delivered;
use rekindle_duel::{Duel, Goal};

fn main() -> ExitCode {
    rekindle::Node::new().game::<Duel>().on_event::<Goal, _, _>(write_down).run()
}

/// Adds a goal to the file that `DUEL_GOALS` names, if it names one. A goal that is written down
/// again after a crash has the same first two words.
async fn write_down(goal: Delivered<Goal>) -> Result<(), String> {
    let Some(path) = std::env::var_os("DUEL_GOALS") else { return Ok(()) };
    let (id, player) = (goal.id, goal.event.player);
    let line = format!("{} {}.{} {player}\n", goal.match_id, id.tick, id.ordinal);
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|error| error.to_string())
}
