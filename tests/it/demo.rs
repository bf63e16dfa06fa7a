//! The demo, whole: a node process, bots over QUIC, SIGKILL, the verdict. Of a game that is played
//! by inputs, and of one that is played by commands.

use crate::support::rekindle;

#[test]
fn the_demo_holds_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let done = rekindle(
        dir.path(),
        &["demo", "--kills", "2", "--players", "16", "--seed", "3", "--json", "--data-dir", "kept"],
    )
    .expect(0);
    let verdict = done.json();
    let figure = |name: &str| {
        verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {verdict}"))
    };
    assert_eq!(
        (figure("kills"), figure("matches"), figure("players"), figure("sessions_resumed")),
        (2, 2, 16, 16)
    );
    assert!(figure("inputs_durable") >= 1_000 && figure("beats_checked") >= 20, "{verdict}");
    for broken in [
        "durable_inputs_lost",
        "duplicate_inputs",
        "hash_mismatches",
        "joins_after_kill",
        "ticks_rolled_back_max",
    ] {
        assert_eq!(figure(broken), 0, "{broken}: {verdict}");
    }
    assert!(verdict["kill_to_tick_ms_p50"].as_f64().unwrap() > 0.0);
    // What the demo leaves stands up to an audit of every byte.
    rekindle(dir.path(), &["verify", "kept"]).expect(0);
    rekindle(dir.path(), &["demo", "--data-dir", "kept"]).expect(2);
}

#[test]
fn the_demo_of_a_game_of_commands_loses_no_move() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["demo", "--game", "tictactoe", "--players", "16", "--seed", "3", "--json"];
    let verdict = rekindle(dir.path(), &args).expect(0).json();
    let figure = |name: &str| {
        verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {verdict}"))
    };
    assert_eq!(
        (figure("kills"), figure("matches"), figure("players"), figure("sessions_resumed")),
        (1, 8, 16, 16)
    );
    assert_eq!(figure("inputs_durable"), 0, "it has no inputs: {verdict}");
    assert!(figure("commands_answered") >= 200 && figure("results") > 0, "{verdict}");
    for broken in [
        "answered_commands_lost",
        "duplicate_commands",
        "hash_mismatches",
        "joins_after_kill",
        "ticks_rolled_back_max",
        "results_wrong",
    ] {
        assert_eq!(figure(broken), 0, "{broken}: {verdict}");
    }
}

#[test]
fn the_demo_of_a_battle_of_many_units_holds_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let rules = r#"{"units": 200, "rematch": true}"#;
    let args = ["demo", "--game", "skirmish", "--players", "16", "--game-config", rules, "--json"];
    let verdict = rekindle(dir.path(), &args).expect(0).json();
    let figure = |name: &str| {
        verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {verdict}"))
    };
    assert_eq!(
        (figure("kills"), figure("matches"), figure("players"), figure("sessions_resumed")),
        (1, 8, 16, 16)
    );
    assert!(figure("commands_answered") >= 200 && figure("beats_distinct") >= 20, "{verdict}");
    for broken in [
        "answered_commands_lost",
        "duplicate_commands",
        "hash_mismatches",
        "joins_after_kill",
        "ticks_rolled_back_max",
    ] {
        assert_eq!(figure(broken), 0, "{broken}: {verdict}");
    }
}

#[test]
fn a_match_of_the_demo_that_ends_is_followed_by_another_one_with_the_same_bots() {
    let dir = tempfile::tempdir().unwrap();
    let demo = ["demo", "--game", "tictactoe", "--players", "16", "--game-config"];
    let play = |config: &str| rekindle(dir.path(), &[&demo[..], &[config, "--json"]].concat());
    // Without rounds a match takes a few seconds.
    let verdict = play("{}").expect(0).json();
    let figure = |name: &str| {
        verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {verdict}"))
    };
    assert_eq!((figure("players"), figure("sessions_resumed")), (16, 16));
    assert!(figure("matches_ended") >= 20 && figure("matches") > 20, "{verdict}");
    assert!(figure("commands_answered") >= 200 && figure("results") >= 20, "{verdict}");
    for broken in ["answered_commands_lost", "duplicate_commands", "hash_mismatches"] {
        assert_eq!(figure(broken), 0, "{broken}: {verdict}");
    }
    let unknown = play(r#"{"rounds": 3}"#).expect(2);
    assert!(unknown.stderr.contains("unknown key `rounds`"), "{unknown:?}");
    assert!(play("{").expect(2).stderr.contains("RK-CLI-003"));
}
