//! Nodes of one store find each other, notice who dies and who hangs, and let no strangers in.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Node, eventually, rekindle};
use serde_json::Value;

const LINKED: &str = "RK-PEER-020";
const LINK_ENDED: &str = "RK-PEER-021";
const LOOKS_DEAD: &str = "RK-PEER-022";
const NO_LINK: &str = "RK-PEER-024";

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

    fn start(&self, name: &str, more: &[&str]) -> Node {
        let mut args = vec!["--set", &self.store, "--node", name];
        args.extend(more);
        Node::start(&self.place(name), &args)
    }

    /// Some nodes, each linked with all others.
    fn linked(&self, names: &[&str]) -> Vec<Node> {
        let mut nodes: Vec<Node> = names.iter().map(|name| self.start(name, &[])).collect();
        for node in &mut nodes {
            said(node, LINKED, names.len() - 1);
        }
        nodes
    }
}

/// The `count`th event with this code, be it one from before the node was ready.
fn said(node: &mut Node, code: &str, count: usize) -> Value {
    loop {
        let mut found = node.seen.iter().filter(|event| event["code"] == code);
        if let Some(event) = found.nth(count - 1) {
            return event.clone();
        }
        node.wait_for(code);
    }
}

/// The first event with this code about the node of this name, as [`said`].
fn about(node: &mut Node, code: &str, name: &str) -> Value {
    loop {
        let is_it = |event: &&Value| event["code"] == code && event["name"] == name;
        if let Some(event) = node.seen.iter().find(is_it) {
            return event.clone();
        }
        node.wait_for(code);
    }
}

#[test]
fn a_killed_node_is_noticed_by_all_others_in_a_moment_and_its_match_goes_on() {
    let nodes = Nodes::new();
    let mut running = nodes.linked(&["a", "b", "c"]);
    let mut names = vec!["a", "b", "c"];
    let mut took = Vec::new();
    // The machine may be busy: the quickest of three counts.
    for fresh in ["d", "e", "f"] {
        let (victim, name) = (running.remove(0), names.remove(0));
        let created = rekindle(
            &nodes.place(name),
            &["match", "create", "--on", name, "--bots", "2", "--json"],
        );
        let id = created.expect(0).json()["id"].clone();
        let killed = Instant::now();
        victim.kill();
        for node in &mut running {
            about(node, LINK_ENDED, name);
        }
        took.push(killed.elapsed());
        eventually("one of them has the match", || {
            let runs = |name: &&str| {
                let id = id.as_str().unwrap();
                let shown = rekindle(&nodes.place(name), &["match", "show", id, "--json"]);
                shown.code == 0 && shown.json()["state"] == "running"
            };
            names.iter().any(runs).then_some(())
        });
        running.push(nodes.start(fresh, &[]));
        names.push(fresh);
        let others = running.len() - 1;
        said(running.last_mut().unwrap(), LINKED, others);
    }
    assert!(*took.iter().min().unwrap() < Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_node_that_hangs_is_noticed_in_two_seconds_and_not_at_once() {
    let nodes = Nodes::new();
    let mut running = nodes.linked(&["a", "b", "c"]);
    let mut took = Vec::new();
    for (name, fresh) in [("c", "d"), ("d", "e"), ("e", "f")] {
        let victim = running.pop().unwrap();
        let stopped = Instant::now();
        victim.signal(rustix::process::Signal::STOP);
        for node in &mut running {
            about(node, LINK_ENDED, name);
        }
        // The first of them fences it; the others may find that done.
        let looked_dead = |node: &Node| {
            let about = |event: &&Value| event["code"] == LOOKS_DEAD && event["name"] == name;
            node.seen.iter().find(about).map(|event| event["why"].clone())
        };
        let why: Vec<Value> = running.iter().filter_map(looked_dead).collect();
        assert!(why.contains(&Value::from("Silent")), "{why:?}");
        let noticed = stopped.elapsed();
        assert!(noticed > Duration::from_millis(400), "a pause is no death: {noticed:?}");
        took.push(noticed);
        victim.kill();
        running.push(nodes.start(fresh, &[]));
        for node in &mut running[..2] {
            about(node, LINKED, fresh);
        }
        said(&mut running[2], LINKED, 2);
    }
    assert!(*took.iter().min().unwrap() < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_node_of_another_store_is_told_that_it_does_not_belong() {
    let (ours, theirs) = (Nodes::new(), Nodes::new());
    let mut node = ours.start("a", &[]);
    let address = node.said("RK-NODE-177");
    let address = address["address"].as_str().unwrap().to_owned();
    let mut stranger = theirs.start("x", &["--join", &address]);
    let refused = said(&mut stranger, NO_LINK, 1);
    assert!(refused["problem"].as_str().unwrap().starts_with("RK-PEER-005"), "{refused}");
    said(&mut node, "RK-PEER-016", 1);
    // One of the same store is let in by the same way.
    let mut friend = ours.start("b", &["--join", &address]);
    assert_eq!(said(&mut friend, LINKED, 1)["name"], "a");
    said(&mut node, LINKED, 1);
}

/// A certificate for `name` of the authority in `ca`, as flags.
fn certified(nodes: &Nodes, ca: &Path, name: &str) -> Vec<String> {
    let out = nodes.place(&format!("tls-{name}"));
    let (ca, out) = (ca.to_str().unwrap(), out.to_str().unwrap());
    rekindle(nodes.dir.path(), &["ca", "issue", name, "--ca", ca, "--out", out]).expect(0);
    ["ca=ca.pem", "cert=node.pem", "key=node.key"]
        .iter()
        .flat_map(|pair| {
            let (key, file) = pair.split_once('=').unwrap();
            ["--set".to_owned(), format!("cluster.tls.{key}={out}/{file}")]
        })
        .collect()
}

#[test]
fn with_certificates_of_one_authority_nodes_link_and_with_another_one_they_do_not() {
    let nodes = Nodes::new();
    let (ours, theirs) = (nodes.dir.path().join("ours"), nodes.dir.path().join("theirs"));
    for ca in [&ours, &theirs] {
        rekindle(nodes.dir.path(), &["ca", "init", ca.to_str().unwrap()]).expect(0);
        let key = std::fs::metadata(ca.join("ca.key")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    }
    let again = rekindle(nodes.dir.path(), &["ca", "init", ours.to_str().unwrap()]);
    assert_eq!(again.code, 1, "an authority is not overwritten: {again:?}");
    let start = |ca: &Path, name: &str| {
        let flags = certified(&nodes, ca, name);
        nodes.start(name, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut first = start(&ours, "a");
    let mut second = start(&ours, "b");
    assert_eq!(said(&mut first, LINKED, 1)["name"], "b");
    assert_eq!(said(&mut second, LINKED, 1)["name"], "a");
    let mut stranger = start(&theirs, "c");
    let refused = said(&mut stranger, NO_LINK, 1);
    assert!(refused["problem"].as_str().unwrap().starts_with("RK-PEER-007"), "{refused}");
    let far = [
        &["config", "check", "--set", "cluster.listen=192.0.2.1:7790"][..],
        &["config", "check", "--set", "cluster.tls.ca=/nowhere"],
    ];
    for (args, code) in far.into_iter().zip(["RK-CONFIG-150", "RK-CONFIG-151"]) {
        let refused = rekindle(&nodes.place("a"), args);
        assert!(refused.code == 2 && refused.stderr.contains(code), "{refused:?}");
    }
}
