//! The games of the executable: drawn, and one that is played by commands.

use crate::support::{Node, eventually, rekindle};

#[test]
fn house_bots_play_a_game_by_commands_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let args = ["match", "create", "--game", "tictactoe", "--bots", "2", "--json"];
    let created = rekindle(dir.path(), &args).expect(0).json();
    let id = created["id"].as_str().unwrap_or_else(|| panic!("no id: {created}")).to_owned();
    let shown = eventually("the end of the match", || {
        let shown = rekindle(dir.path(), &["match", "show", &id]);
        shown.stdout.contains("draw").then_some(shown)
    });
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(node.terminate(), 0);
    // Every move was journaled, and is computed again to the same world.
    rekindle(dir.path(), &["verify"]).expect(0);
}

#[test]
fn a_game_is_drawn_and_nothing_to_draw_has_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let states = rekindle(dir.path(), &["game", "graph", "tictactoe", "--states"]).expect(0).stdout;
    assert!(states.starts_with("stateDiagram-v2\n"), "{states}");
    assert!(
        states.contains("tictactoe_phase_Cross --> tictactoe_phase_Over : timeout"),
        "{states}"
    );
    let drawn = rekindle(dir.path(), &["game", "graph", "arena", "--systems", "--json"]).expect(0);
    let chart = drawn.json()["mermaid"].to_string();
    assert!(chart.contains("subgraph PreUpdate") && chart.contains("[\\\"steer\\\"]"), "{chart}");
    let nothing = rekindle(dir.path(), &["game", "graph", "arena", "--states"]).expect(1);
    assert!(nothing.stderr.contains("RK-CLI-200"), "{nothing:?}");
    let unknown = rekindle(dir.path(), &["game", "graph", "aren", "--states"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("arena, tictactoe"), "{unknown:?}");
    assert_eq!(rekindle(dir.path(), &["game", "graph"]).code, 2);
}
