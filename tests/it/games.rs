//! The games of the executable: drawn, and one that is played by commands.

use serde_json::json;

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
    // Its result is in the store, while the node runs and afterwards.
    let effects = ["effects", "ls", &id, "--kind", "result", "--json"];
    let told = rekindle(dir.path(), &effects).expect(0).json();
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!((&told[0]["match"], &told[0]["json"]), (&id[..].into(), &json!([null, "draw"])));
    assert_eq!(node.terminate(), 0);
    let text = rekindle(dir.path(), &["effects", "ls"]).expect(0).stdout;
    assert!(text.contains("result") && text.contains("[null,\"draw\"]"), "{text}");
    let none = rekindle(dir.path(), &["effects", "ls", "--kind", "loot"]).expect(0).stdout;
    assert!(none.contains("no effect was delivered"), "{none}");
    // Every move was journaled, and is computed again to the same world.
    rekindle(dir.path(), &["verify"]).expect(0);
}

#[test]
fn bots_play_a_game_by_commands_over_the_network_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let _node = Node::start(dir.path(), &[]);
    let nowhere = ["bots", "--game", "tictactoe", "--seconds", "1"];
    let none = rekindle(dir.path(), &nowhere).expect(4);
    assert!(none.stderr.contains("RK-CLI-012: no match of `tictactoe`"), "{none:?}");
    rekindle(dir.path(), &["match", "create", "--game", "arena"]).expect(0);
    rekindle(dir.path(), &["match", "create", "--game", "tictactoe"]).expect(0);
    let play = ["bots", "--game", "tictactoe", "--count", "2", "--seconds", "30", "--json"];
    let played = rekindle(dir.path(), &play).expect(0).json();
    let figure = |name: &str| played[name].as_u64().unwrap_or_else(|| panic!("{name}: {played}"));
    assert_eq!((figure("ended"), figure("closed"), figure("inputs_sent")), (2, 0, 0), "{played}");
    assert_eq!((figure("commands_sent"), figure("commands_granted")), (9, 9), "{played}");
    // The answer to the last move may be overtaken by the end of the match.
    assert!(figure("commands_answered") >= 8, "{played}");
    assert!(played["command_latency"]["p50_ms"].as_f64().unwrap() > 0.0, "{played}");
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
    let phases = rekindle(dir.path(), &["game", "graph", "arena", "--states"]).expect(0).stdout;
    assert!(phases.contains("arena_course_Live --> arena_course_Podium"), "{phases}");
    let nothing = rekindle(dir.path(), &["game", "graph", "skirmish", "--states"]).expect(1);
    assert!(nothing.stderr.contains("RK-CLI-200"), "{nothing:?}");
    let which = rekindle(dir.path(), &["game", "graph", "arena"]).expect(2).stderr;
    assert!(which.contains("--states") && which.contains("--systems"), "both are named: {which}");
    let unknown = rekindle(dir.path(), &["game", "graph", "aren", "--states"]);
    assert!(
        unknown.code != 0 && unknown.stderr.contains("arena, royale, skirmish, tictactoe"),
        "{unknown:?}"
    );
    assert_eq!(rekindle(dir.path(), &["game", "graph"]).code, 2);
}
