//! Nodes of one store, each a real process with a directory of its own, and bots that know the
//! addresses of all. Tests and drills do things to the nodes; What the bots saw
//! is held against the store by [`crate::checker`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rekindle_arena::Arena;
use rekindle_loadtest::{BotSpec, Brain, Evidence, Move, Progress, Swarm, SwarmConfig, Trust};
use rekindle_schema::{MatchId, PlayerId};
use rekindle_sim::{GameType, Typed};
use serde_json::Value;

use crate::support::{Done, Node, PATIENCE, REKINDLE, command, rekindle};

/// With which a node ends whose matches were taken.
pub(crate) const FENCED: i32 = 6;
/// Ticks per second of the matches.
pub(crate) const TICK_RATE: u32 = 30;

/// How many nodes, matches and bots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    pub(crate) matches: usize,
    /// Bots in each match.
    pub(crate) seats: usize,
}

/// A network of its own for each node, on one bridge where the test is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Apart;

impl Apart {
    /// The network namespace of a node.
    pub(crate) fn name(index: usize) -> String {
        format!("node{index}")
    }

    /// Its address on the bridge.
    pub(crate) fn address(index: usize) -> [u8; 4] {
        [10, 77, 0, 10 + index as u8]
    }
}

/// Nodes with a directory each beside one store, and the matches that were created at them.
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
    size: Size,
    apart: Option<Apart>,
    /// Nodes whose wall clock is wrong, and by what: `+1h`.
    clocks: BTreeMap<usize, &'static str>,
    addrs: Vec<SocketAddr>,
    pub(crate) matches: Vec<MatchId>,
}

impl Fleet {
    pub(crate) fn new(size: Size) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..size.nodes {
            std::fs::create_dir_all(dir.path().join(Self::name(index)).join("rekindle-data"))
                .unwrap();
        }
        Self {
            dir,
            size,
            apart: None,
            clocks: BTreeMap::new(),
            addrs: Vec::new(),
            matches: Vec::new(),
        }
    }

    /// As [`Fleet::new`], for networks that are there already. Links between hosts need
    /// certificates: a private authority issues them.
    pub(crate) fn apart(size: Size) -> Self {
        let fleet = Self { apart: Some(Apart), ..Self::new(size) };
        rekindle(fleet.dir.path(), &["ca", "init", "ca"]).expect(0);
        for index in 0..size.nodes {
            let (name, out) = (Self::name(index), format!("tls-{index}"));
            rekindle(fleet.dir.path(), &["ca", "issue", &name, "--ca", "ca", "--out", &out])
                .expect(0);
        }
        fleet
    }

    pub(crate) fn name(index: usize) -> String {
        format!("n{}", index + 1)
    }

    pub(crate) fn local(&self) -> String {
        format!("local:{}", self.disk().display())
    }

    /// Where a local store is.
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn place(&self, index: usize) -> PathBuf {
        self.dir.path().join(Self::name(index))
    }

    pub(crate) fn players(&self) -> usize {
        self.size.matches * self.size.seats
    }

    /// Runs a command where a node runs.
    pub(crate) fn ask(&self, index: usize, args: &[&str]) -> Done {
        if self.apart.is_none() {
            return rekindle(&self.place(index), args);
        }
        let output = self.command(index).args(args).output().expect("it starts");
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// From its next start on, the wall clock of this node is wrong by so much. `false` without
    /// libfaketime, which does it.
    pub(crate) fn set_clock(&mut self, index: usize, offset: &'static str) -> bool {
        self.clocks.insert(index, offset);
        faketime().is_some()
    }

    fn command(&self, index: usize) -> std::process::Command {
        let plain = command(&self.place(index));
        if self.apart.is_none() {
            return plain;
        }
        let mut inside = std::process::Command::new("ip");
        inside.current_dir(self.place(index)).stdin(std::process::Stdio::null());
        for (name, _) in plain.get_envs() {
            inside.env_remove(name);
        }
        inside.args(["netns", "exec", &Apart::name(index), REKINDLE]);
        inside
    }

    /// Starts a node: for the first time on a free port, and with its share of the matches; later
    /// on the same port.
    pub(crate) fn start(&mut self, index: usize, store: &str) -> Node {
        let node = self.spawn(index, store);
        if self.addrs.len() == index {
            let card = std::fs::read(self.place(index).join("rekindle-data/node.json")).unwrap();
            let card: Value = serde_json::from_slice(&card).unwrap();
            self.addrs.push(card["listen"].as_str().unwrap().parse().unwrap());
            let share = (index..self.size.matches).step_by(self.size.nodes);
            let rate = TICK_RATE.to_string();
            let here = card["incarnation"].as_str().unwrap();
            let config = [r#"{"endless":true}"#, "--tick-rate", &rate, "--on", here, "--json"];
            let create = [&["match", "create", "--game-config"][..], &config].concat();
            for _ in share {
                let created = self.ask(index, &create).expect(0).json();
                self.matches.push(created["id"].as_str().unwrap().parse().unwrap());
            }
        }
        node
    }

    fn spawn(&self, index: usize, store: &str) -> Node {
        let mut command = self.command(index);
        if let (Some(offset), Some(library)) = (self.clocks.get(&index), faketime()) {
            command.env("LD_PRELOAD", library).env("FAKETIME", offset);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.args(["start", "--log", "json", "--admin", "127.0.0.1:0"]);
        command.args(["--store", store, "--set", "retention.journal=all", "--set"]);
        command.arg(format!("node.name={}", Self::name(index)));
        let listen = match self.apart {
            None => self.addrs.get(index).copied().unwrap_or(([127, 0, 0, 1], 0).into()),
            Some(_) => (Apart::address(index), 7_777).into(),
        };
        command.args(["--listen", &listen.to_string()]);
        if self.apart.is_some() {
            let others: SocketAddr = (Apart::address(index), 7_790).into();
            command.args(["--set", &format!("cluster.listen={others}")]);
            let tls = self.dir.path().join(format!("tls-{index}"));
            for (key, file) in [("ca", "ca.pem"), ("cert", "node.pem"), ("key", "node.key")] {
                let path = tls.join(file);
                command.args(["--set", &format!("cluster.tls.{key}={}", path.display())]);
            }
        }
        let mut node = Node::from_command(command);
        node.wait_for("RK-NODE-001");
        node
    }

    /// All nodes, started one after the other.
    pub(crate) fn start_all(&mut self, store: &str) -> Vec<Node> {
        (0..self.size.nodes).map(|index| self.start(index, store)).collect()
    }

    /// Where players reach a node.
    pub(crate) fn addr(&self, index: usize) -> SocketAddr {
        self.addrs[index]
    }

    /// Lets the bots in, those of each match at the node that runs it.
    pub(crate) fn swarm(&self) -> Swarm {
        let bots = (0..self.players()).map(|bot| {
            let (player, home) = (bot as u64 + 1, bot % self.matches.len());
            // Also good for a node whose clock is an hour ahead.
            let issue = ["ticket", "issue", "--ttl", "36000", "--player", &player.to_string()];
            let ticket = self.ask(0, &issue).expect(0).stdout.trim().to_owned();
            let match_id = Some(self.matches[home]);
            BotSpec { player: PlayerId(player), ticket, match_id, first: None }
        });
        let bots: Vec<BotSpec> = bots.collect();
        let certificate = std::fs::read(self.place(0).join("rekindle-data/cert.der")).unwrap();
        let game = Typed::<Arena>::new().unwrap();
        let brain: Brain = Arc::new(move |player, view, config, memory| {
            Move::input(game.bot(player, view, config, memory))
        });
        let trust = Trust::Certificate(certificate);
        Swarm::start(SwarmConfig::new(self.addrs.clone(), trust, bots, brain)).unwrap()
    }

    /// Which node runs each match, by its place. Each node is asked for its own: what it knows of
    /// others may be old. All of them are up.
    pub(crate) fn owners(&self) -> BTreeMap<MatchId, usize> {
        let mut owners = BTreeMap::new();
        for place in 0..self.size.nodes {
            let listed = self.ask(place, &["match", "ls", "--json"]).expect(0).json();
            let views = listed.as_array().cloned().unwrap_or_default();
            let runs = |view: &&Value| view["state"] == "running" || view["state"] == "stalled";
            let ids =
                views.iter().filter(runs).filter_map(|view| view["id"].as_str()?.parse().ok());
            owners.extend(ids.map(|id| (id, place)));
        }
        owners
    }
}

/// The library that gives a process another wall clock, if it is installed.
fn faketime() -> Option<&'static str> {
    let known = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
    ];
    known.into_iter().find(|path| std::path::Path::new(path).exists())
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Waits until so many sessions were resumed in all, and every bot is shown new ticks.
pub(crate) fn all_play(
    runtime: &tokio::runtime::Runtime,
    swarm: &Swarm,
    players: usize,
    resumed: u64,
) {
    runtime.block_on(async {
        let back = |now: &Progress| now.resumed >= resumed && now.connected >= players;
        let came = swarm.wait_until(PATIENCE, back).await;
        let before = swarm.progress();
        let more = before.snapshots + 10 * players as u64;
        let play = swarm.wait_until(PATIENCE, |now| now.snapshots >= more).await;
        assert!(came && play, "{:?}; {:?}; {before:?}", swarm.progress(), swarm.trouble());
    });
}

/// Ends the bots once they have seen enough to judge by.
pub(crate) fn evidence(runtime: &tokio::runtime::Runtime, swarm: Swarm) -> Evidence {
    runtime.block_on(async {
        let enough = swarm.wait_until(PATIENCE, |now| now.durable >= 500 && now.beats >= 20).await;
        assert!(enough, "{:?}", swarm.progress());
        swarm.stop(false).await
    })
}
