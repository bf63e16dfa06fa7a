//! Nodes in networks of their own, one network namespace each, of which single directions fail, a
//! disk that is full, clocks that are wrong. The networks are in a network and a process namespace
//! that the test makes for itself and that the kernel takes down with it, however it ends.
//!
//! A direction is cut by an entry for the other node in the sender's neighbour table that names a
//! card which does not exist: what is sent there vanishes, what comes from there arrives. Nodes and
//! a store on a server speak over addresses of their own, so that the one can be cut and not the
//! other.

mod relay;

use std::process::Command;
use std::time::Duration;

use rekindle_loadtest::Swarm;
use rekindle_testservers as servers;

use crate::checker;
use crate::fleet::{Apart, FENCED, Fleet, Size, all_play, evidence, runtime};
use crate::store::Tables;
use crate::support::{Node, eventually, rekindle};

/// No card has this address.
const NOWHERE: &str = "02:00:00:00:de:ad";
/// Set for the part that runs inside.
const INSIDE: &str = "REKINDLE_INSIDE_NAMESPACES";
/// For the part that runs inside: the socket that leads to the store's server, and the store as
/// nodes in there name it.
const WAY_OUT: &str = "REKINDLE_WAY_OUT";
const STORE: &str = "REKINDLE_STORE_INSIDE";
/// Where nodes reach a store on a server.
const SERVER: &str = "10.78.0.1:5432";
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
    ip("addr add 10.78.0.1/24 dev br0")?;
    ip("link set br0 up")?;
    for index in 0..nodes {
        let (name, address) = (Apart::name(index), text(Apart::address(index)));
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add veth{index} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set veth{index} master br0 up"))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {name} addr add {}/24 dev eth0", to_store(index)))?;
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

/// The address from which a node speaks with a store on a server.
fn to_store(node: usize) -> String {
    format!("10.78.0.{}", 10 + node)
}

/// A direction between node 0 and the store.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Requests,
    Answers,
}

impl Direction {
    /// In whose table the entry is, for whom.
    fn entry(self) -> (String, String) {
        match self {
            Self::Requests => (format!("-n {} ", Apart::name(0)), "10.78.0.1 {} dev eth0".into()),
            Self::Answers => (String::new(), format!("{} {{}} dev br0", to_store(0))),
        }
    }

    /// From now on nothing that is sent in this direction arrives.
    fn cut(self) {
        let (at, of) = self.entry();
        let of = of.replace("{}", &format!("lladdr {NOWHERE}"));
        ip(&format!("{at}neigh replace {of} nud permanent")).unwrap();
    }

    fn heal(self) {
        let (at, of) = self.entry();
        ip(&format!("{at}neigh del {}", of.replace("{} ", ""))).unwrap();
    }
}

/// Runs the test of this name in namespaces of its own; `false` within them. Says SKIPPED without
/// the rights for that.
fn outside(test: &str) -> bool {
    outside_with(test, &[])
}

/// The same, with these variables within.
fn outside_with(test: &str, variables: &[(&str, &str)]) -> bool {
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
    inside.envs(variables.iter().copied());
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
        Self::on(None)
    }

    /// On this store; without one on a local store that they share.
    fn on(store: Option<String>) -> Self {
        networks(THREE.nodes).unwrap();
        if let Some(way_out) = std::env::var_os(WAY_OUT) {
            relay::lead_to(way_out.into(), SERVER);
        }
        let mut fleet = Fleet::apart(THREE);
        let store = store.unwrap_or_else(|| fleet.local());
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
    assert!(scene.judge() <= 1, "at most the one that was cut off is fenced");
}

/// One direction between node 0 and the store is cut for so long that its lease stands still.
fn cut_off_from_the_store(test: &str, direction: Direction) {
    if std::env::var_os(INSIDE).is_some() {
        let scene = Scene::on(std::env::var(STORE).ok());
        direction.cut();
        scene.goes_on_for(Duration::from_secs(8));
        // Its match goes on elsewhere, and all see it, while the cut lasts.
        scene.all_play();
        direction.heal();
        let ended = scene.judge();
        assert_eq!(ended, 1, "the one that was cut off is fenced, and no other");
        return;
    }
    let Some(tables) = Tables::postgres() else {
        return servers::skipped("cuts between node and store", "no Postgres");
    };
    let (dir, url) = (tempfile::tempdir().unwrap(), tables.url());
    rekindle(dir.path(), &["store", "migrate", "--store", &url]).expect(0);
    let (scheme, rest) = url.split_once("//").unwrap();
    let (authority, name) = rest.split_once('/').unwrap();
    let (user, server) = authority.split_at(authority.find('@').map_or(0, |at| at + 1));
    let way_out = dir.path().join("store.sock");
    relay::lead_out(&way_out, server);
    let inside = format!("{scheme}//{user}{SERVER}/{name}&timeout=1s");
    let way_out = way_out.to_str().unwrap();
    outside_with(test, &[(WAY_OUT, way_out), (STORE, &inside)]);
}

#[test]
#[ignore = "half a minute: cargo xtask cluster faults"]
fn a_node_whose_requests_do_not_reach_the_store_breaks_no_promise() {
    let test = "a_node_whose_requests_do_not_reach_the_store_breaks_no_promise";
    cut_off_from_the_store(test, Direction::Requests);
}

#[test]
#[ignore = "half a minute: cargo xtask cluster faults"]
fn a_node_that_hears_no_answer_of_the_store_breaks_no_promise() {
    let test = "a_node_that_hears_no_answer_of_the_store_breaks_no_promise";
    cut_off_from_the_store(test, Direction::Answers);
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

/// What [`Node::wait`] says of a process that a signal has ended.
const KILLED: i32 = -1;
/// How much fits on the disk under the store.
const DISK: &str = "size=192m";

#[test]
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
    // One that takes long to end may be fenced, and killed, by another meanwhile.
    let ended = |code: &i32| [1, FENCED, KILLED].contains(code);
    assert!(codes.contains(&1) && codes.iter().all(ended), "{codes:?}");
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
