//! The executable: a node that plays `template-arena`, with all commands of Rekindle.

use std::process::ExitCode;

use template_arena::TemplateArena;

fn main() -> ExitCode {
    // What a first run and `demo` play: one round after the other.
    let rounds = serde_json::json!({ "rematch": true });
    rekindle::Node::new().game::<TemplateArena>().showcase(rounds).run()
}
