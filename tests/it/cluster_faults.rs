//! Nodes in networks of their own, one network namespace each, of which single directions fail, a
//! disk that is full, clocks that are wrong. The networks are in a network and a process namespace
//! that the test makes for itself and that the kernel takes down with it, however it ends.
//!
//! A direction is cut by an entry for the other node in the sender's neighbour table that names a
//! card which does not exist: what is sent there vanishes, what comes from there arrives.

use std::process::Command;
use std::time::Duration;

use rekindle_loadtest::Swarm;
use rekindle_testservers as servers;

use crate::checker;
use crate::fleet::{Apart, FENCED, Fleet, Size, all_play, evidence, runtime};
use crate::support::{Node, eventually};

/// No card has this address.
const NOWHERE: &str = "02:00:00:00:de:ad";
/// Set for the part that runs inside.
const INSIDE: &str = "REKINDLE_INSIDE_NAMESPACES";
/// Three nodes with a match each.
const THREE: Size = Size { nodes: 3, matches: 3, seats: 2 };

/// Runs `ip`; what it said if it failed.
fn ip(words: &str) -> Result<(), String> {
    let done = Command::new("ip").args(words.split(' ')).output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(()) } else { Err(format!("ip {words}: {said}")) }
}

fn text([a, b, c, d]: [u8; 4]) -> String {
    format!("{a}.{b}.{c}.{d}")
}

/// A bridge where the bots are, and a namespace on it for each node.
fn networks(nodes: usize) -> Result<(), String> {
    ip("link set lo up")?;
    ip("link add br0 type bridge")?;
    ip("addr add 10.77.0.1/24 dev br0")?;
    ip("link set br0 up")?;
    for index in 0..nodes {
        let (name, address) = (Apart::name(index), text(Apart::address(index)));
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add veth{index} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set veth{index} master br0 up"))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
    }
    Ok(())
}

/// From now on nothing that `from` sends to `to` arrives.
fn cut(from: usize, to: usize) {
    let (name, address) = (Apart::name(from), text(Apart::address(to)));
    let entry = format!("neigh replace {address} lladdr {NOWHERE} dev eth0 nud permanent");
    ip(&format!("-n {name} {entry}")).unwrap();
}

fn heal(from: usize, to: usize) {
    let (name, address) = (Apart::name(from), text(Apart::address(to)));
    ip(&format!("-n {name} neigh del {address} dev eth0")).unwrap();
}

/// Runs the test of this name in namespaces of its own; `false` within them. Says SKIPPED without
/// the rights for that.
fn outside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let unshare = |program: &mut dyn FnMut(&mut Command)| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        program(&mut command);
        command
    };
    let prepare = "mount -t tmpfs none /run && exec \"$@\"";
    let mut may = unshare(&mut |command| {
        let probe = "ip link add br0 type bridge && ip netns add probe";
        command.args(["sh", "-c", prepare, "sh", "sh", "-c", probe]);
    });
    match may.output() {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            servers::skipped("faults of the network", &format!("no rights: {}", said.trim()));
            return true;
        }
        Err(error) => {
            servers::skipped("faults of the network", &format!("no unshare: {error}"));
            return true;
        }
    }
    let this = std::env::current_exe().unwrap();
    let mut inside = unshare(&mut |command| {
        command.args(["sh", "-c", prepare, "sh"]).arg(&this);
        command.args(["--exact", &format!("cluster_faults::{test}")]);
        command.args(["--nocapture", "--include-ignored"]);
    });
    let done = inside.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}{}", String::from_utf8_lossy(&done.stderr));
    let ran = said.contains("test result: ok. 1 passed");
    assert!(done.status.success() && ran, "{test} in namespaces of its own: {}", done.status);
    true
}

/// Three nodes at play, and bots that reach all of them.
struct Scene {
    fleet: Fleet,
    store: String,
    nodes: Vec<Node>,
    runtime: tokio::runtime::Runtime,
    swarm: Swarm,
}

impl Scene {
    fn new() -> Self {
        networks(THREE.nodes).unwrap();
        let mut fleet = Fleet::apart(THREE);
        let store = fleet.local();
        let nodes = fleet.start_all(&store);
        let runtime = runtime();
        let swarm = runtime.block_on(async { fleet.swarm() });
        let scene = Self { fleet, store, nodes, runtime, swarm };
        scene.all_play();
        scene
    }

    fn all_play(&self) {
        all_play(&self.runtime, &self.swarm, self.fleet.players(), 0);
    }

    /// The fault lasts so long, under load.
    fn goes_on_for(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Ends everything; how many nodes ended by themselves before. Every promise holds.
    fn judge(self) -> usize {
        self.all_play();
        let Self { store, nodes, runtime, swarm, fleet: _fleet } = self;
        let evidence = evidence(&runtime, swarm);
        let codes: Vec<i32> = nodes
            .into_iter()
            .map(|mut node| if node.has_ended() { node.wait() } else { node.terminate() })
            .collect();
        // On a local store whoever fences a node of the same host ends it.
        assert!(codes.iter().all(|code| [0, FENCED, -1].contains(code)), "{codes:?}");
        let judged = checker::check(&store, &evidence);
        println!("exit codes {codes:?}, epochs {:?}", judged.epochs);
        codes.iter().filter(|code| **code != 0).count()
    }
}

#[test]
fn a_one_way_cut_ends_no_node_that_a_third_one_hears() {
    if outside("a_one_way_cut_ends_no_node_that_a_third_one_hears") {
        return;
    }
    let scene = Scene::new();
    cut(0, 1);
    scene.goes_on_for(Duration::from_secs(4));
    heal(0, 1);
    assert_eq!(scene.judge(), 0, "nobody is fenced: the third node passes on what it hears");
}

#[test]
#[ignore = "half a minute: cargo xtask cluster faults"]
fn a_node_that_nobody_hears_breaks_no_promise() {
    if outside("a_node_that_nobody_hears_breaks_no_promise") {
        return;
    }
    let scene = Scene::new();
    cut(0, 1);
    cut(0, 2);
    scene.goes_on_for(Duration::from_secs(8));
    heal(0, 1);
    heal(0, 2);
    assert!(scene.judge() <= 1, "at most the one that was not heard is fenced");
}

#[test]
#[ignore = "half a minute: cargo xtask cluster faults"]
fn a_partition_that_heals_breaks_no_promise() {
    if outside("a_partition_that_heals_breaks_no_promise") {
        return;
    }
    let scene = Scene::new();
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        cut(from, to);
    }
    scene.goes_on_for(Duration::from_secs(8));
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        heal(from, to);
    }
    assert!(scene.judge() <= 2, "a node that reaches the store is left");
}

#[test]
#[ignore = "half a minute: cargo xtask cluster faults"]
fn clocks_that_are_an_hour_apart_cost_no_takeover_and_break_no_promise() {
    let mut fleet = Fleet::new(THREE);
    if !(fleet.set_clock(0, "+1h") && fleet.set_clock(1, "-1h")) {
        return servers::skipped("wrong clocks", "libfaketime is not installed");
    }
    let store = fleet.local();
    let mut nodes = fleet.start_all(&store);
    let runtime = runtime();
    let swarm = runtime.block_on(async { fleet.swarm() });
    all_play(&runtime, &swarm, fleet.players(), 0);
    // Longer than a lease stands.
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(6)).await });
    assert!(nodes.iter_mut().all(|node| !node.has_ended()), "nobody is fenced for its clock");
    nodes.remove(2).kill();
    all_play(&runtime, &swarm, fleet.players(), THREE.seats as u64);
    let evidence = evidence(&runtime, swarm);
    for node in nodes {
        assert_eq!(node.terminate(), 0);
    }
    let judged = checker::check(&store, &evidence);
    let moved = judged.epochs.iter().filter(|epoch| epoch.0 > 1).count();
    assert!(moved >= 1, "the killed node's match goes on: {judged:?}");
}

/// How much fits on the disk under the store.
const DISK: &str = "size=192m";

#[test]
#[ignore = "half a minute: cargo xtask cluster faults"]
fn a_full_disk_under_the_store_ends_nodes_and_loses_nothing() {
    if outside("a_full_disk_under_the_store_ends_nodes_and_loses_nothing") {
        return;
    }
    let mut fleet = Fleet::new(THREE);
    let (store, disk) = (fleet.local(), fleet.disk());
    std::fs::create_dir_all(&disk).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", DISK, "none"]).arg(&disk);
    assert!(mount.status().unwrap().success());
    ip("link set lo up").unwrap();
    let nodes = fleet.start_all(&store);
    let runtime = runtime();
    let swarm = runtime.block_on(async { fleet.swarm() });
    all_play(&runtime, &swarm, fleet.players(), 0);
    let filler = disk.join("filler");
    let mut filling = std::fs::File::create(&filler).unwrap();
    let piece = vec![0; 64 << 10];
    // Until nothing fits any more, also not what a node gives back when it ends.
    let codes: Vec<i32> = nodes
        .into_iter()
        .map(|mut node| {
            eventually("the end of a node whose disk is full", || {
                while std::io::Write::write(&mut filling, &piece).is_ok_and(|wrote| wrote > 0) {}
                node.has_ended().then(|| node.wait())
            })
        })
        .collect();
    println!("exit codes with a full disk: {codes:?}");
    assert!(codes.iter().all(|code| *code != 0), "{codes:?}");
    drop(filling);
    std::fs::remove_file(filler).unwrap();
    let nodes: Vec<Node> = (0..THREE.nodes).map(|index| fleet.start(index, &store)).collect();
    all_play(&runtime, &swarm, fleet.players(), fleet.players() as u64);
    let evidence = evidence(&runtime, swarm);
    for node in nodes {
        assert_eq!(node.terminate(), 0);
    }
    checker::check(&store, &evidence);
}
