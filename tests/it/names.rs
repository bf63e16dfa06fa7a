//! Nodes of one store have names of their own: what is set twice is refused, what nobody has set is
//! made different, and a node that was killed has its name again at once.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Node, eventually, http_get, rekindle};

/// A store, and a data directory for each of its nodes.
struct Place {
    dir: tempfile::TempDir,
    store: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("local:{}", dir.path().join("store").display());
        Self { dir, store }
    }

    fn of(&self, node: &str) -> PathBuf {
        let place = self.dir.path().join(node);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    fn spawn(&self, node: &str, more: &[&str]) -> Node {
        Node::spawn(&self.of(node), &[&["--store", &self.store], more].concat())
    }

    fn start(&self, node: &str, more: &[&str]) -> Node {
        let mut node = self.spawn(node, more);
        node.wait_for("RK-NODE-001");
        node
    }
}

/// What is written of a node that runs for commands on its host.
fn card(place: &Path) -> Value {
    let bytes = std::fs::read(place.join("rekindle-data/node.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The name that a node which runs says it has.
fn name(place: &Path) -> String {
    let answer = http_get(card(place)["admin"].as_str().unwrap(), "/v1/node");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let node: Value = serde_json::from_str(body).unwrap();
    node["name"].as_str().unwrap().to_owned()
}

/// Names of live nodes, in order.
fn live(place: &Path) -> Vec<String> {
    let listed = rekindle(place, &["node", "ls", "--json"]).expect(0).json();
    let nodes = listed.as_array().unwrap().iter().filter(|node| node["state"] == "live");
    let mut names: Vec<_> = nodes.map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_name_that_is_set_twice_is_refused_and_harms_nobody() {
    let place = Place::new();
    let mut first = place.start("a", &["--node", "eu"]);
    let card = card(&place.of("a"));
    let mut second = place.spawn("b", &["--node", "eu"]);
    assert_eq!(second.wait(), 2);
    let said = second.rest();
    let (address, pid) = (card["listen"].as_str().unwrap(), first.pid().to_string());
    for part in ["RK-NODE-250", "the name eu", address, &pid, "--node"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!first.has_ended());
    assert_eq!(live(&place.of("a")), ["eu"]);

    // The one whose name it is has it at once after a kill, while its last lease still looks live,
    // and so has a node in another directory when the first one is gone.
    first.kill();
    first = place.start("a", &["--node", "eu"]);
    assert_eq!(name(&place.of("a")), "eu");
    first.kill();
    let _third = place.start("c", &["--node", "eu"]);
    assert_eq!(name(&place.of("c")), "eu");
}

#[test]
fn nodes_that_nobody_has_named_take_different_names_and_keep_them() {
    let place = Place::new();
    let nodes = ["a", "b", "c"];
    // At the same moment: whoever comes later steps back.
    let mut running = nodes.map(|node| place.spawn(node, &[]));
    for node in &mut running {
        node.wait_for("RK-NODE-001");
    }
    let names = nodes.map(|node| name(&place.of(node)));
    assert_eq!(live(&place.of("a")), ["node-1", "node-2", "node-3"], "{names:?}");
    for (node, name) in running.iter().zip(&names) {
        let says_so = node.seen.iter().any(|event| event["code"] == "RK-NODE-251");
        assert_eq!(says_so, name != "node-1", "{name}: {:#?}", node.seen);
    }
    let [a, b, c] = running;
    // One is killed, one stops: both have their names again.
    c.kill();
    assert_eq!(b.terminate(), 0);
    let _running = [a, place.start("c", &[]), place.start("b", &[])];
    let again = nodes.map(|node| name(&place.of(node)));
    assert_eq!(again, names);
    eventually("that the killed run is fenced", || {
        (live(&place.of("a")) == ["node-1", "node-2", "node-3"]).then_some(())
    });
}
