//! The `rekindle` executable: a node that plays the arena.

use std::process::ExitCode;

use rekindle_arena::Arena;

fn main() -> ExitCode {
    rekindle::Node::new().game::<Arena>().run()
}
