//! The `rekindle` executable: a node that plays the arena, and tic-tac-toe.

use std::process::ExitCode;

use rekindle_arena::Arena;
use rekindle_tictactoe::{Standing, TicTacToe};

fn main() -> ExitCode {
    // Short rounds, one after the other: there is always a fight to see, and now and then a result.
    let fights_on =
        serde_json::json!({ "rematch": true, "max_players": 32, "score_limit": 8, "podium_s": 3 });
    let rematch = serde_json::json!({ "rematch": true });
    rekindle::Node::new()
        .game::<Arena>()
        .showcase(fights_on)
        .game::<TicTacToe>()
        .showcase(rematch)
        .document::<Standing>()
        .run()
}
