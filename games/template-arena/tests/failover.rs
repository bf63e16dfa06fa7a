//! The promise of Rekindle, tried with this game: bots play over the network, the node is killed
//! with SIGKILL in the middle of it, started again, and judged by what the bots were told.

use std::process::Command;

#[test]
fn a_killed_node_loses_nothing_that_players_were_told() {
    let demo = Command::new(env!("CARGO_BIN_EXE_template-arena"))
        .args(["demo", "--kills", "1", "--players", "16"])
        .output()
        .expect("the executable runs");
    let printed = String::from_utf8_lossy(&demo.stdout);
    assert!(
        demo.status.success() && printed.contains("every promise held"),
        "{printed}{}",
        String::from_utf8_lossy(&demo.stderr)
    );
}
