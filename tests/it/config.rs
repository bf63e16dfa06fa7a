//! Configuration as a user meets it: exit codes, words, origins.

use crate::support::{command, rekindle};

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rekindle.toml"), "[admin]\nlisen = \"127.0.0.1:1\"\n").unwrap();
    let done = rekindle(dir.path(), &["config", "check"]).expect(2);
    assert!(
        done.stderr
            .contains("unknown key `admin.lisen` (rekindle.toml:2), did you mean `admin.listen`?"),
        "{}",
        done.stderr
    );
    assert!(
        !dir.path().join("rekindle-data").exists(),
        "a wrong configuration must leave nothing behind"
    );
    rekindle(dir.path(), &["start"]).expect(2);
    let done = rekindle(dir.path(), &["config", "check", "--json"]).expect(2);
    assert_eq!(done.json()["exit"], 2);
}

#[test]
fn values_come_from_where_show_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("my.toml"), "shards = 3\nlisten = \"127.0.0.1:5\"\n").unwrap();
    let output = command(dir.path())
        .args([
            "config",
            "show",
            "--origin",
            "--json",
            "--config",
            "my.toml",
            "--set",
            "beat_every=60",
        ])
        .env("REKINDLE_LISTEN", "127.0.0.1:6")
        .output()
        .unwrap();
    assert!(output.status.success());
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let line = |key: &str| {
        lines
            .iter()
            .find(|line| line["key"] == key)
            .map(|line| (line["value"].clone(), line["origin"].clone()))
            .unwrap()
    };
    assert_eq!(line("shards"), ("3".into(), "my.toml:1".into()));
    assert_eq!(line("listen"), ("127.0.0.1:6".into(), "environment REKINDLE_LISTEN".into()));
    assert_eq!(line("beat_every"), ("60".into(), "--set".into()));
    assert_eq!(line("output"), ("durable".into(), "default".into()));
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    for (args, words) in [
        (&["start", "--admin", "0.0.0.0:0"][..], "set admin.token"),
        (&["start", "--dev", "--listen", "0.0.0.0:0"], "must be loopback"),
        (&["start", "--listen", "here"], "expected an address"),
        (&["start", "--set", "shards"], "expected KEY=VALUE"),
        (&["start", "--set", "shard=1"], "did you mean `shards`?"),
        (&["config", "check", "--config", "missing.toml"], "cannot read missing.toml"),
        (&["match", "dance"], "unrecognized subcommand"),
    ] {
        let done = rekindle(dir.path(), args).expect(2);
        assert!(done.stderr.contains(words), "{args:?}: {}", done.stderr);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn commands_say_when_no_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let done = rekindle(dir.path(), &["match", "ls"]).expect(3);
    assert!(done.stderr.contains("no node runs on ./rekindle-data"), "{}", done.stderr);
    rekindle(dir.path(), &["match", "ls", "--admin", "127.0.0.1:1"]).expect(3);
}

#[test]
fn the_example_configuration_is_valid_and_gives_every_key_a_known_name() {
    let dir = tempfile::tempdir().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rekindle.toml");
    rekindle(dir.path(), &["config", "check", "--config", example, "--data-dir", "data"]).expect(0);
    let unit = include_str!("../../deploy/rekindle.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/rekindle "))
        .unwrap();
    assert!(start.starts_with("start --config "), "{start}");
    // A database that is away for long must not leave the unit down for good.
    assert!(
        unit.lines().any(|line| line == "StartLimitIntervalSec=0")
            && unit.contains("Restart=always"),
        "{unit}"
    );
    let alerts = include_str!("../../deploy/alerts.yml");
    assert!(
        alerts.contains("expr: sum by (instance, reason) (rekindle_matches_not_running) > 0"),
        "a match that does not run alerts somebody"
    );
}
