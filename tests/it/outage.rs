//! A store that is away while a node plays: matches stand still or run on, as configured, the
//! operator is told, and all of it goes on by itself.

use std::path::Path;

use rekindle_testservers as servers;
use serde_json::Value;

use crate::store::Tables;
use crate::support::{Node, eventually, rekindle};

fn create(dir: &Path) -> String {
    let created = rekindle(
        dir,
        &["match", "create", "--bots", "2", "--game-config", r#"{"endless":true}"#, "--json"],
    )
    .expect(0)
    .json();
    created["id"].as_str().unwrap().to_owned()
}

/// Waits until the match of a running node is shown like this.
fn wait_for(dir: &Path, id: &str, what: &str, shown: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let done = rekindle(dir, &["match", "show", id, "--json"]);
        (done.code == 0).then(|| done.json()).filter(&shown)
    })
}

fn tick(view: &Value) -> u64 {
    view["tick"].as_u64().unwrap()
}

/// Matches that pause show nothing that is not safe, matches that run on do; neither loses a tick
/// that was shown or changes its owner.
fn sits_out(tables: Option<Tables>, what: &str, on_stall: &str) {
    let Some(tables) = tables else {
        return servers::skipped(&format!("an outage of {what}"), "no such server");
    };
    let dir = tempfile::tempdir().unwrap();
    let (proxy, store) = tables.proxied(dir.path());
    let setting = format!("on_stall={on_stall}");
    let node = Node::start(dir.path(), &["--store", &store, "--set", &setting]);
    let id = create(dir.path());
    wait_for(dir.path(), &id, "a second of play", |view| tick(view) >= 30);

    proxy.set_up(false);
    let last_shown = if on_stall == "pause" {
        let stalled = wait_for(dir.path(), &id, "the pause", |view| view["state"] == "stalled");
        assert!(
            stalled["reason"].as_str().unwrap().contains("until the store has caught up"),
            "{stalled}"
        );
        let listed = rekindle(dir.path(), &["match", "ls"]).expect(0).stdout;
        assert!(
            listed.contains(&id) && listed.contains("stalled") && listed.contains("note: "),
            "{listed}"
        );
        tick(&stalled)
    } else {
        let away = wait_for(dir.path(), &id, "the outage", |view| view["reason"].is_string());
        assert_eq!(away["state"], "running", "{away}");
        let on = wait_for(dir.path(), &id, "two more seconds of play", |view| {
            tick(view) >= tick(&away) + 60
        });
        assert!(
            on["durable"].as_u64().unwrap() <= tick(&away),
            "what is shown is not safe, and that can be seen: {on}"
        );
        tick(&on)
    };
    // What an operator wants cannot be written down, so it is not done, and that is said.
    let refused = rekindle(dir.path(), &["match", "create", "--bots", "1"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("RK-ADMIN-507: nothing was done"),
        "{}",
        refused.stderr
    );

    proxy.set_up(true);
    let back = wait_for(dir.path(), &id, "a second of play afterwards", |view| {
        view["state"] == "running"
            && view["reason"].is_null()
            && view["durable"].as_u64().unwrap() >= last_shown + 30
    });
    assert_eq!((back["epoch"].as_u64(), back["players"].as_u64()), (Some(1), Some(2)), "{back}");
    node.kill();
    let mut node = Node::spawn(dir.path(), &["--store", &store]);
    let resumed = node.wait_for("RK-NODE-010");
    assert_eq!(
        (resumed["match_id"].as_str(), &resumed["hash_ok"]),
        (Some(id.as_str()), &Value::Bool(true)),
        "{resumed}"
    );
    assert!(
        resumed["tick"].as_u64().unwrap() >= last_shown,
        "what was shown during the outage is durable after it: {resumed}"
    );
}

#[test]
fn matches_pause_while_postgres_is_away_and_go_on() {
    sits_out(Tables::postgres(), "Postgres", "pause");
}

#[test]
fn matches_run_on_while_postgres_is_away_if_they_may() {
    sits_out(Tables::postgres(), "Postgres", "run");
}

#[test]
fn matches_pause_while_a_cql_server_is_away_and_go_on() {
    sits_out(Tables::cql(), "a CQL server", "pause");
}
