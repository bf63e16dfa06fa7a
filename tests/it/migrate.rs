//! Two nodes on one store give a match to each other while it is played, also when one of them is
//! killed in the middle; a node that stops gives all of its matches away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{Node, eventually, rekindle};
use serde_json::Value;

/// Log code: a link to another node.
const LINKED: &str = "RK-PEER-020";
/// Log code: a match came from another node.
const CAME: &str = "RK-NODE-183";
/// Log code: a node that stops has given its matches away.
const EMPTIED: &str = "RK-NODE-187";
/// How often a match moves.
const MOVES: usize = 20;

/// Data directories beside one store.
struct Nodes {
    dir: tempfile::TempDir,
    store: String,
}

impl Nodes {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("store=local:{}", dir.path().join("store").display());
        Self { dir, store }
    }

    fn place(&self, name: &str) -> PathBuf {
        let place = self.dir.path().join(name);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    fn start(&self, name: &str) -> Node {
        let node_name = format!("node.name={name}");
        Node::start(&self.place(name), &["--set", &self.store, "--set", &node_name])
    }

    /// Two nodes that are linked with each other.
    fn pair(&self) -> (Node, Node) {
        let (mut a, mut b) = (self.start("a"), self.start("b"));
        a.wait_for(LINKED);
        b.wait_for(LINKED);
        (a, b)
    }

    fn create(&self, name: &str) -> String {
        let created = rekindle(
            &self.place(name),
            &["match", "create", "--on", name, "--bots", "8", "--json"],
        );
        created.expect(0).json()["id"].as_str().unwrap().to_owned()
    }

    /// Moves a match, once the other node is known well enough for that.
    fn migrate(&self, id: &str, from: &str, to: &str) -> Value {
        eventually("the move", || {
            let moved =
                rekindle(&self.place(from), &["match", "migrate", id, "--to", to, "--json"]);
            (moved.code == 0).then(|| moved.json())
        })
    }

    fn tick(&self, name: &str, id: &str) -> Option<u64> {
        let shown = rekindle(&self.place(name), &["match", "show", id, "--json"]);
        let view = (shown.code == 0).then(|| shown.json())?;
        (view["state"] == "running").then(|| view["tick"].as_u64()).flatten()
    }

    fn reaches(&self, name: &str, id: &str, tick: u64) -> u64 {
        eventually("the tick", || self.tick(name, id).filter(|at| *at >= tick))
    }

    /// Every record of every match is there, and computes what it did.
    fn verify(&self) {
        rekindle(&self.place("a"), &["--set", &self.store, "verify"]).expect(0);
    }
}

#[test]
fn a_match_moves_back_and_forth_while_it_is_played_and_no_tick_is_lost() {
    let nodes = Nodes::new();
    let (a, b) = nodes.pair();
    let id = nodes.create("a");
    let mut tick = nodes.reaches("a", &id, 30);
    let mut pauses = Vec::new();
    for round in 0..MOVES {
        let (from, to) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let moved = nodes.migrate(&id, from, to);
        assert_eq!(moved["node"], to, "{moved}");
        pauses.push(moved["pause_ms"].as_u64().unwrap());
        tick = nodes.reaches(to, &id, tick + 10);
    }
    pauses.sort_unstable();
    let (middle, most) = (pauses[MOVES / 2], pauses[MOVES - 1]);
    // Machines that run tests are busy: the pause is bounded, not measured, here.
    assert!(middle < 500, "pauses in ms: p50 {middle}, max {most}: {pauses:?}");
    let shown = rekindle(&nodes.place("a"), &["match", "show", &id, "--json"]).expect(0).json();
    assert_eq!(shown["epoch"].as_u64(), Some(MOVES as u64 + 1), "{shown}");
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
    nodes.verify();
}

#[test]
fn a_node_that_stops_gives_its_matches_to_the_other_one() {
    let nodes = Nodes::new();
    let (mut a, mut b) = nodes.pair();
    let ids: Vec<String> = (0..3).map(|_| nodes.create("a")).collect();
    let ticks: Vec<u64> = ids.iter().map(|id| nodes.reaches("a", id, 20)).collect();
    // Before that it cannot know that the other one takes them.
    nodes.migrate(&ids[0], "a", "b");
    nodes.migrate(&ids[0], "b", "a");
    b.wait_for(CAME);
    a.signal(rustix::process::Signal::TERM);
    let emptied = a.wait_for(EMPTIED);
    assert_eq!((&emptied["moved"], &emptied["stayed"]), (&3.into(), &0.into()), "{emptied}");
    assert_eq!(a.wait(), 0);
    for (id, tick) in ids.iter().zip(ticks) {
        nodes.reaches("b", id, tick + 10);
    }
    assert_eq!(b.terminate(), 0);
    nodes.verify();
}

/// Kills one of two nodes while a match moves between them, after so many milliseconds.
fn killed_in_the_middle(victim: &str, after_ms: u64) {
    let nodes = Nodes::new();
    let (a, b) = nodes.pair();
    let id = nodes.create("a");
    nodes.migrate(&id, "a", "b");
    nodes.migrate(&id, "b", "a");
    let tick = nodes.reaches("a", &id, 20);
    let place = nodes.place("a");
    let moving = {
        let id = id.clone();
        std::thread::spawn(move || {
            rekindle(&place, &["match", "migrate", &id, "--to", "b", "--json"]).code
        })
    };
    let until = Instant::now() + Duration::from_millis(after_ms);
    while Instant::now() < until {
        std::thread::yield_now();
    }
    let (survivor, left) = if victim == "a" {
        a.kill();
        ("b", b)
    } else {
        b.kill();
        ("a", a)
    };
    // Its answer may have been lost with the node.
    let _ = moving.join().unwrap();
    nodes.reaches(survivor, &id, tick + 20);
    assert_eq!(left.terminate(), 0);
    nodes.verify();
}

#[test]
fn a_source_that_is_killed_while_a_match_moves_leaves_one_owner() {
    for after_ms in [5, 30, 60, 90, 150] {
        killed_in_the_middle("a", after_ms);
    }
}

#[test]
fn a_target_that_is_killed_while_a_match_moves_leaves_one_owner() {
    for after_ms in [5, 30, 60, 90, 150] {
        killed_in_the_middle("b", after_ms);
    }
}

#[test]
fn a_move_that_cannot_be_is_refused_and_the_match_goes_on() {
    let nodes = Nodes::new();
    let (a, _b) = nodes.pair();
    let id = nodes.create("a");
    let tick = nodes.reaches("a", &id, 5);
    let refused = rekindle(&nodes.place("a"), &["match", "migrate", &id, "--to", "nobody"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("no other live node `nobody`"), "{}", refused.stderr);
    nodes.reaches("a", &id, tick + 20);
    assert_eq!(a.terminate(), 0);
}
