//! The `duel` executable: a node that plays duels. All that a studio writes besides its game.

use std::process::ExitCode;

use rekindle_duel::Duel;

fn main() -> ExitCode {
    rekindle::Node::new().game::<Duel>().run()
}
