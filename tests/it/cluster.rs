//! Several nodes on one store, as operators and developers meet them: what `cluster status` and
//! `node ls` say while nodes come and go, and `dev`, which runs several of them.

use std::path::Path;

use serde_json::Value;

use crate::support::{Node, command, eventually, rekindle};

/// Data directories beside one store.
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

    fn of(&self, name: &str) -> std::path::PathBuf {
        let place = self.dir.path().join(name);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    fn start(&self, name: &str) -> Node {
        let named = format!("node.name={name}");
        Node::start(&self.of(name), &["--store", &self.store, "--set", &named])
    }
}

fn status(dir: &Path) -> Value {
    let done = rekindle(dir, &["cluster", "status", "--json"]);
    assert!([0, 5].contains(&done.code), "{done:?}");
    assert_eq!(done.code == 5, done.json()["verdict"] == "bad", "{done:?}");
    done.json()
}

#[test]
fn a_status_says_whether_one_more_node_may_die_and_what_happened() {
    let place = Place::new();
    let first = place.start("a");
    let (a, b) = (place.of("a"), place.of("b"));
    rekindle(&a, &["match", "create", "--bots", "2"]).expect(0);
    let alone = status(&a);
    assert_eq!(
        (&alone["verdict"], &alone["can_lose_one"], &alone["matches"]),
        (&"degraded".into(), &false.into(), &1.into())
    );
    let second = place.start("b");
    let two = eventually("two nodes that are well", || {
        Some(status(&b)).filter(|status| status["verdict"] == "ok")
    });
    assert_eq!((&two["can_lose_one"], &two["nodes_live"]), (&true.into(), &2.into()));
    let asked = status(&a);
    assert_eq!(asked["players"], 2, "both are house bots: {asked}");

    first.kill();
    let after = eventually("the match at the other node", || {
        Some(status(&b)).filter(|now| now["matches_without_owner"] == 0 && now["nodes_live"] == 1)
    });
    assert_eq!(after["can_lose_one"], false, "{after}");
    let told = after["last_hour"].to_string();
    assert!(told.contains("node a was heard of last; then it was fenced"), "{told}");
    let shown = rekindle(&b, &["node", "show", "a", "--json"]).expect(0).json();
    assert_eq!((&shown["state"], &shown["matches"]), (&"fenced".into(), &0.into()));
    rekindle(&b, &["node", "show", "c"]).expect(4);
    // The same, with no node asked.
    let offline = ["node", "ls", "--store", &place.store];
    let words = rekindle(&b, &offline).expect(0).stdout;
    assert!(words.contains("fenced") && words.contains("live"), "{words}");
    assert_eq!(second.terminate(), 0);
}

#[test]
fn dev_runs_several_nodes_says_which_one_died_and_stops_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = command(dir.path());
    dev.args(["dev", "--nodes", "2", "--data-dir", "d"]);
    let mut dev = crate::support::Told::from_command(dev);
    let up = dev.wait_for("cluster status --admin");
    let admin = up.split_whitespace().last().unwrap().to_owned();
    let listed = eventually("both nodes", || {
        let done = rekindle(dir.path(), &["node", "ls", "--json", "--admin", &admin]).expect(0);
        let nodes = done.json().as_array().unwrap().clone();
        (nodes.iter().filter(|node| node["state"] == "live").count() == 2).then_some(nodes)
    });
    assert_eq!(listed.len(), 2, "{listed:?}");
    // Whoever forgets that these nodes are no single one is told how to name one of them.
    let nobody = rekindle(dir.path(), &["match", "ls", "--data-dir", "d"]).expect(3).stderr;
    assert!(nobody.contains("RK-CLI-001") && nobody.contains("--data-dir d/n1"), "{nobody}");
    rekindle(dir.path(), &["match", "ls", "--data-dir", "d/n1"]).expect(0);
    let pid: i32 =
        std::fs::read_to_string(dir.path().join("d/n2/node.pid")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let said = dev.wait_for("n2 | ended:");
    assert!(said.contains("signal: 9"), "{said}");
    dev.signal(rustix::process::Signal::INT);
    dev.wait_for("all nodes stopped");
    assert_eq!(dev.wait(), 0);
}
