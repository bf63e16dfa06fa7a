//! Two nodes on one store: what becomes of a match when the one that runs it dies, hangs or stops.
//! With no server at all: both share a local store.

use std::path::Path;

use crate::support::{Node, eventually, rekindle};
use serde_json::Value;

/// Two data directories beside one store.
struct Pair {
    dir: tempfile::TempDir,
    store: String,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("store=local:{}", dir.path().join("store").display());
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, store }
    }

    fn place(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, name: &str, more: &[&str]) -> Node {
        let node_name = format!("node.name={name}");
        let mut args = vec!["--set", &self.store, "--set", &node_name];
        args.extend(more);
        Node::start(&self.place(name), &args)
    }

    fn create(&self, name: &str) -> String {
        let created = rekindle(
            &self.place(name),
            &["match", "create", "--on", name, "--bots", "4", "--json"],
        )
        .expect(0)
        .json();
        created["id"].as_str().unwrap().to_owned()
    }
}

fn tick_of(dir: &Path, id: &str) -> Option<Value> {
    let done = rekindle(dir, &["match", "show", id, "--json"]);
    (done.code == 0).then(|| done.json())
}

fn reaches(dir: &Path, id: &str, tick: u64) -> Value {
    eventually("the tick", || {
        tick_of(dir, id)
            .filter(|view| view["state"] == "running" && view["tick"].as_u64() >= Some(tick))
    })
}

#[test]
fn the_matches_of_a_killed_node_go_on_at_the_other_one() {
    let pair = Pair::new();
    let (first, mut second) = (pair.start("a", &[]), pair.start("b", &[]));
    let id = pair.create("a");
    let before = reaches(&pair.place("a"), &id, 40)["tick"].as_u64().unwrap();
    first.kill();
    let resumed = second.wait_for("RK-NODE-010");
    assert_eq!(
        (resumed["match_id"].as_str(), &resumed["hash_ok"]),
        (Some(id.as_str()), &Value::Bool(true))
    );
    assert!(resumed["tick"].as_u64().unwrap() >= before, "{resumed}");
    let view = reaches(&pair.place("b"), &id, before + 30);
    assert_eq!(view["epoch"], 2, "{view}");

    // The other way round: a clean stop hands over, too, and to a node that came later.
    let mut first = pair.start("a", &[]);
    first.wait_for("RK-PEER-020");
    assert_eq!(second.terminate(), 0);
    reaches(&pair.place("a"), &id, before + 40);
}

#[test]
fn a_node_that_hangs_is_fenced_and_its_matches_go_on() {
    let pair = Pair::new();
    let (mut first, mut second) = (pair.start("a", &[]), pair.start("b", &[]));
    let id = pair.create("a");
    let before = reaches(&pair.place("a"), &id, 40)["tick"].as_u64().unwrap();
    first.signal(rustix::process::Signal::STOP);
    let resumed = second.wait_for("RK-NODE-010");
    assert!(resumed["tick"].as_u64().unwrap() >= before, "{resumed}");
    reaches(&pair.place("b"), &id, before + 30);
    // On one host the fence kills, so that a node that wakes can do nothing at all.
    assert_eq!(first.wait(), -1, "ended by a signal");
}

#[test]
fn a_match_stays_at_home_until_its_home_is_moved() {
    let pair = Pair::new();
    let (eu, mut us) = (
        pair.start("a", &["--set", "node.region=eu"]),
        pair.start("b", &["--set", "node.region=us"]),
    );
    let id = pair.create("a");
    let before = reaches(&pair.place("a"), &id, 40)["tick"].as_u64().unwrap();
    eu.kill();

    let promote = |more: &[&str]| {
        let mut args =
            vec!["--set", pair.store.as_str(), "region", "promote", "eu", "--to", "us", "--json"];
        args.extend(more);
        rekindle(&pair.place("b"), &args)
    };
    let survey = promote(&[]).expect(0).json();
    assert_eq!(survey["moved"], 0, "a survey changes nothing: {survey}");
    assert!(
        survey["matches"][0]["tick"].as_u64().unwrap() >= before,
        "what would go on, and from where: {survey}"
    );
    // Longer than any suspicion takes.
    us.stays_silent_about("RK-NODE-010", std::time::Duration::from_secs(7));

    assert_eq!(promote(&["--yes"]).expect(0).json()["moved"], 1);
    let resumed = us.wait_for("RK-NODE-010");
    assert!(resumed["tick"].as_u64().unwrap() >= before, "{resumed}");
    reaches(&pair.place("b"), &id, before + 30);
    assert_eq!(promote(&["--yes"]).expect(0).json()["moved"], 0, "nothing is left there");
}
