//! Nodes under load, each a real process, with bots that know all of them: they are restarted one
//! after the other, frozen, cut off from the store. What the bots saw is held against the store by
//! a checker that shares no code with the nodes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rekindle_arena::Arena;
use rekindle_loadtest::{BotSpec, Brain, Evidence, Swarm, SwarmConfig, Trust};
use rekindle_schema::{MatchId, PlayerId};
use rekindle_sim::{GameType, Typed};
use rekindle_testservers as servers;
use serde_json::Value;

use crate::checker;
use crate::store::Tables;
use crate::support::{Node, PATIENCE, rekindle};

/// With which a node ends whose matches were taken.
const FENCED: i32 = 6;
/// Bots in each match.
const SEATS: usize = 3;

/// Nodes with a directory each beside one store, and the matches that were created at them.
struct Cluster {
    dir: tempfile::TempDir,
    names: Vec<&'static str>,
    ports: Vec<u16>,
    matches: Vec<MatchId>,
}

impl Cluster {
    fn new(names: &[&'static str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir_all(dir.path().join(name).join("rekindle-data")).unwrap();
        }
        Self { dir, names: names.to_vec(), ports: Vec::new(), matches: Vec::new() }
    }

    fn local(&self) -> String {
        format!("local:{}", self.dir.path().join("store").display())
    }

    fn place(&self, index: usize) -> PathBuf {
        self.dir.path().join(self.names[index])
    }

    /// Starts a node: for the first time on a free port and with a match of its own, later on the
    /// same port.
    fn start(&mut self, index: usize, store: &str) -> Node {
        let name = format!("node.name={}", self.names[index]);
        let port = self.ports.get(index).copied();
        let listen = format!("listen=127.0.0.1:{}", port.unwrap_or(0));
        let args = ["--store", store, "--set", &name, "--set", &listen, "--set"];
        let node =
            Node::start(&self.place(index), &[&args[..], &["retention.journal=all"]].concat());
        if port.is_none() {
            let card = std::fs::read(self.place(index).join("rekindle-data/node.json")).unwrap();
            let card: Value = serde_json::from_slice(&card).unwrap();
            let listen: SocketAddr = card["listen"].as_str().unwrap().parse().unwrap();
            self.ports.push(listen.port());
            let create = ["match", "create", "--game-config", r#"{"endless":true}"#, "--json"];
            let created = rekindle(&self.place(index), &create).expect(0).json();
            self.matches.push(created["id"].as_str().unwrap().parse().unwrap());
        }
        node
    }

    /// Lets the bots in, those of each match at the node that runs it.
    fn swarm(&self) -> Swarm {
        let addrs: Vec<SocketAddr> =
            self.ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect();
        let bots = (0..self.matches.len() * SEATS).map(|bot| {
            let (player, home) = (bot as u64 + 1, bot % self.matches.len());
            let issue = ["ticket", "issue", "--player", &player.to_string()];
            let ticket = rekindle(&self.place(0), &issue).expect(0).stdout.trim().to_owned();
            let (match_id, first) = (Some(self.matches[home]), Some(addrs[home]));
            BotSpec { player: PlayerId(player), ticket, match_id, first }
        });
        let bots: Vec<BotSpec> = bots.collect();
        let certificate = std::fs::read(self.place(0).join("rekindle-data/cert.der")).unwrap();
        let game = Typed::<Arena>::new().unwrap();
        let brain: Brain =
            Arc::new(move |player, view, config, memory| game.bot(player, view, config, memory));
        Swarm::start(SwarmConfig::new(addrs, Trust::Certificate(certificate), bots, brain)).unwrap()
    }

    fn players(&self) -> usize {
        self.matches.len() * SEATS
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Waits until so many sessions were resumed in all, and every bot is shown new ticks.
fn all_play(runtime: &tokio::runtime::Runtime, swarm: &Swarm, players: usize, resumed: u64) {
    runtime.block_on(async {
        let back =
            |now: &rekindle_loadtest::Progress| now.resumed >= resumed && now.connected >= players;
        let came = swarm.wait_until(PATIENCE, back).await;
        let before = swarm.progress();
        let more = before.snapshots + 20 * players as u64;
        let play = swarm.wait_until(PATIENCE, |now| now.snapshots >= more).await;
        assert!(came && play, "{:?}; {:?}; {before:?}", swarm.progress(), swarm.trouble());
    });
}

/// Ends the bots once they have seen enough to judge by.
fn evidence(runtime: &tokio::runtime::Runtime, swarm: Swarm) -> Evidence {
    runtime.block_on(async {
        let enough = swarm.wait_until(PATIENCE, |now| now.durable >= 500 && now.beats >= 20).await;
        assert!(enough, "{:?}", swarm.progress());
        swarm.stop(false).await
    })
}

#[test]
fn a_rolling_restart_of_all_nodes_under_load_costs_no_session_and_nothing_durable() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let store = cluster.local();
    let mut nodes: Vec<Node> = (0..3).map(|index| cluster.start(index, &store)).collect();
    let runtime = runtime();
    let swarm = runtime.block_on(async { cluster.swarm() });
    let players = cluster.players();
    all_play(&runtime, &swarm, players, 0);
    for index in 0..3 {
        let resumed = swarm.progress().resumed;
        let stopped = nodes.remove(index);
        assert_eq!(stopped.terminate(), 0);
        // At least its own match moves.
        all_play(&runtime, &swarm, players, resumed + SEATS as u64);
        nodes.insert(index, cluster.start(index, &store));
    }
    let evidence = evidence(&runtime, swarm);
    for node in nodes {
        assert_eq!(node.terminate(), 0);
    }
    let judged = checker::check(&store, &evidence);
    assert!(judged.inputs >= 500 && judged.beats >= 20, "{judged:?}");
    assert!(judged.epochs.iter().all(|epoch| epoch.0 > 1), "every match moved: {judged:?}");
}

#[test]
fn a_frozen_node_that_wakes_acknowledges_nothing_more_and_ends() {
    let Some(tables) = Tables::postgres() else {
        return servers::skipped("a frozen node on Postgres", "no such server");
    };
    let store = tables.url();
    let mut cluster = Cluster::new(&["a", "b"]);
    rekindle(&cluster.place(0), &["store", "migrate", "--store", &store]).expect(0);
    let (mut frozen, other) = (cluster.start(0, &store), cluster.start(1, &store));
    let runtime = runtime();
    let swarm = runtime.block_on(async { cluster.swarm() });
    let players = cluster.players();
    all_play(&runtime, &swarm, players, 0);
    frozen.signal(rustix::process::Signal::STOP);
    all_play(&runtime, &swarm, players, SEATS as u64);
    frozen.signal(rustix::process::Signal::CONT);
    assert_eq!(frozen.wait(), FENCED);
    let evidence = evidence(&runtime, swarm);
    assert_eq!(other.terminate(), 0);
    let judged = checker::check(&store, &evidence);
    assert!(judged.epochs.contains(&rekindle_schema::Epoch(2)), "{judged:?}");
}

#[test]
fn a_node_that_is_cut_off_from_the_store_loses_its_matches_and_ends_once_back() {
    let Some(tables) = Tables::postgres() else {
        return servers::skipped("a node without its store on Postgres", "no such server");
    };
    let store = tables.url();
    let mut cluster = Cluster::new(&["a", "b"]);
    let (proxy, through) = tables.proxied(&cluster.place(0));
    let (mut cut_off, mut other) = (cluster.start(0, &through), cluster.start(1, &store));
    let runtime = runtime();
    let swarm = runtime.block_on(async { cluster.swarm() });
    let players = cluster.players();
    all_play(&runtime, &swarm, players, 0);
    proxy.set_up(false);
    // It still lives, and must not tell its players anything that is not in the store.
    other.wait_for("RK-NODE-010");
    proxy.set_up(true);
    assert_eq!(cut_off.wait(), FENCED);
    all_play(&runtime, &swarm, players, SEATS as u64);
    let evidence = evidence(&runtime, swarm);
    assert_eq!(other.terminate(), 0);
    let judged = checker::check(&store, &evidence);
    assert!(judged.epochs.contains(&rekindle_schema::Epoch(2)), "{judged:?}");
}

#[test]
fn the_checker_finds_what_a_bot_was_told_and_the_store_does_not_have() {
    let mut cluster = Cluster::new(&["a"]);
    let store = cluster.local();
    let node = cluster.start(0, &store);
    let runtime = runtime();
    let swarm = runtime.block_on(async { cluster.swarm() });
    all_play(&runtime, &swarm, cluster.players(), 0);
    let mut told = evidence(&runtime, swarm);
    assert_eq!(node.terminate(), 0);
    checker::check(&store, &told);
    let invented = told.bots[0].facts.iter_mut().find_map(|fact| match fact {
        rekindle_loadtest::Fact::Durable(input) => Some(input),
        _ => None,
    });
    invented.unwrap().tick.0 += 1;
    let found = std::panic::catch_unwind(|| checker::check(&store, &told));
    assert!(found.is_err(), "an acknowledgement at another tick was not noticed");
}
