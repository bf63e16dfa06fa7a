//! The `rekindle` executable: a node that plays the arena.

use std::process::ExitCode;

use rekindle_arena::Arena;

fn main() -> ExitCode {
    let fights_on = serde_json::json!({ "rematch": true, "max_players": 32 });
    rekindle::Node::new().game::<Arena>().showcase(fights_on).run()
}
