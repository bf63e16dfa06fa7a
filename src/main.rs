//! The `rekindle` executable: a node that plays the arena, tic-tac-toe, skirmish and royale.

use std::process::ExitCode;

use rekindle_arena::Arena;
use rekindle_royale::Royale;
use rekindle_skirmish::Skirmish;
use rekindle_tictactoe::{Standing, TicTacToe};

fn main() -> ExitCode {
    // Short rounds, one after the other: there is always a fight to see, and now and then a result.
    let fights_on =
        serde_json::json!({ "rematch": true, "max_players": 32, "score_limit": 8, "podium_s": 3 });
    let rounds = serde_json::json!({ "rematch": true });
    let rematch = serde_json::json!({ "rematch": true });
    let battles = serde_json::json!({ "sides": 4, "rematch": true, "spectators": true });
    rekindle::Node::new()
        .game::<Arena>()
        .showcase(fights_on)
        .game::<TicTacToe>()
        .showcase(rematch)
        .document::<Standing>()
        .game::<Skirmish>()
        .showcase(battles)
        .game::<Royale>()
        .showcase(rounds)
        .run()
}
