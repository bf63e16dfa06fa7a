//! The executable: a node that plays `template-strategy`, with all commands of Rekindle.

use std::process::ExitCode;

use template_strategy::TemplateStrategy;

fn main() -> ExitCode {
    // What a first run and `demo` play: one round after the other.
    let rounds = serde_json::json!({ "rematch": true });
    rekindle::Node::new().game::<TemplateStrategy>().showcase(rounds).run()
}
