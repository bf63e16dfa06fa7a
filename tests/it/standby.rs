//! Three real nodes, a match with a standby, real clients: the node that runs the match is killed,
//! and the match goes on where it was followed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rekindle_arena::Arena;
use rekindle_client::{ClientConfig, ClientEvent, GameClient, Trust};
use rekindle_schema::{Epoch, MatchId, Tick};
use rekindle_sim::{Game, Value as _};
use serde_json::Value;
use tokio::sync::watch;

use crate::support::{Node, eventually, rekindle};

/// Log code: a match goes on with its standby.
const PROMOTED: &str = "RK-NODE-191";
const NAMES: [&str; 3] = ["a", "b", "c"];
const PLAYERS: u64 = 8;
/// So often a node is killed; more for figures.
const ROUNDS: &str = "REKINDLE_TEST_PROMOTIONS";

/// Nodes beside one store.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn of(&self, name: &str) -> PathBuf {
        let place = self.dir.path().join(name);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    fn start(&self, at: usize) -> Node {
        let store = format!("store=local:{}", self.dir.path().join("store").display());
        let settings = [
            store,
            format!("node.name={}", NAMES[at]),
            "cluster.standby=1".to_owned(),
            "recovery.healthy_ms=300".to_owned(),
        ];
        let args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        Node::start(&self.of(NAMES[at]), &args)
    }

    /// Where clients reach a node that runs.
    fn listens(&self, at: usize) -> SocketAddr {
        let card = std::fs::read(self.of(NAMES[at]).join("rekindle-data/node.json")).unwrap();
        let card: Value = serde_json::from_slice(&card).unwrap();
        card["listen"].as_str().unwrap().parse().unwrap()
    }

    fn shown(&self, at: usize, id: &str) -> Option<Value> {
        let shown = rekindle(&self.of(NAMES[at]), &["match", "show", id, "--json"]);
        (shown.code == 0).then(|| shown.json())
    }

    /// The owner and the standby of the match, once it runs healthily and is followed closely.
    fn owner_and_standby(&self, asked: usize, id: &str) -> (usize, usize) {
        let place = |name: &Value| NAMES.iter().position(|known| *name == **known);
        eventually("a standby that follows", || {
            let view = self.shown(asked, id)?;
            let followers = view["followers"].as_array()?;
            let ready = followers.iter().find(|follower| follower["ready"] == true)?;
            let healthy = view["attempts"] == 0;
            healthy.then_some((place(&view["node"])?, place(&ready["node"])?))
        })
    }
}

/// When a client was first shown something of each ownership.
type Firsts = Vec<(Epoch, Tick, Instant)>;

/// A client that plays until it is told to stop.
struct Player {
    firsts: watch::Receiver<Firsts>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Player {
    fn start(config: ClientConfig) -> Self {
        let (sender, firsts) = watch::channel(Firsts::new());
        let stop = Arc::<AtomicBool>::default();
        let task = tokio::spawn(play(config, sender, Arc::clone(&stop)));
        Self { firsts, stop, task }
    }
}

async fn play(config: ClientConfig, firsts: watch::Sender<Firsts>, stop: Arc<AtomicBool>) {
    let mut client = GameClient::<Arena>::connect(config).unwrap();
    let mut memory = <Arena as Game>::Bot::initial();
    let mut newest = (Epoch(0), Tick(0));
    while !stop.load(Ordering::Acquire) {
        match client.event().await.expect("the session goes on") {
            ClientEvent::Resumed { welcome, .. } => {
                assert!(welcome.resumed, "its session goes on");
            }
            ClientEvent::Rewound { .. } => panic!("what was shown holds"),
            ClientEvent::Closed { message, .. } => panic!("{message}"),
            ClientEvent::Snapshot(snapshot) => {
                let header = &snapshot.header;
                assert!((header.epoch, header.tick) > newest, "ticks rise");
                if header.epoch > newest.0 {
                    let first = (header.epoch, header.tick, Instant::now());
                    firsts.send_modify(|firsts| firsts.push(first));
                }
                newest = (header.epoch, header.tick);
                let player = snapshot.welcome.player;
                let seen = client.read(snapshot).unwrap();
                let config = seen.config().unwrap();
                if let Some(input) = Arena::bot(player, &seen.view(), &config, &mut memory) {
                    client.input(&input);
                }
            }
            _ => {}
        }
    }
}

/// Lets clients into a match, who know the addresses of all nodes; those of later starts they
/// learn.
fn players(place: &Place, id: &str) -> Vec<Player> {
    let certificate = std::fs::read(place.of("a").join("rekindle-data/cert.der")).unwrap();
    let addrs: Vec<SocketAddr> = (0..NAMES.len()).map(|at| place.listens(at)).collect();
    let player = |number: u64| {
        let number = number.to_string();
        let ticket = rekindle(&place.of("a"), &["ticket", "issue", "--player", &number]).expect(0);
        let trust = Trust::Certificate(certificate.clone());
        let mut config = ClientConfig::new(addrs.clone(), trust, ticket.stdout.trim());
        config.match_id = id.parse::<MatchId>().ok();
        Player::start(config)
    };
    (1..=PLAYERS).map(player).collect()
}

/// From `at` until each client was shown a tick of a later ownership than `epoch`.
async fn gaps(players: &mut [Player], epoch: u64, at: Instant) -> Vec<Duration> {
    let mut gaps = Vec::new();
    for player in players {
        let later = |firsts: &Firsts| firsts.iter().find(|first| first.0.0 > epoch).copied();
        let waits = player.firsts.wait_for(|firsts| later(firsts).is_some());
        let shown = tokio::time::timeout(crate::support::PATIENCE, waits).await;
        let shown = shown.expect("it goes on").expect("the player plays");
        gaps.push(later(&shown).expect("it is there").2.saturating_duration_since(at));
    }
    gaps
}

/// When the standby logged each step of the last promotion, in milliseconds after `killed`.
fn steps(seen: &[Value], killed: SystemTime) -> String {
    let codes = ["RK-PEER-021", "RK-PEER-022", "RK-CLUSTER-003", "RK-NODE-019", PROMOTED];
    let last = |code: &str| seen.iter().rev().find(|event| event["code"] == code);
    let after = |event: &Value| {
        // Of the same minute, or the next.
        let (_, seconds) = event["timestamp"].as_str()?.trim_end_matches('Z').rsplit_once(':')?;
        let killed = killed.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64() % 60.0;
        let after = (seconds.parse::<f64>().ok()? - killed).rem_euclid(60.0);
        Some(format!("{code} {:.0}", after * 1_000.0, code = event["code"].as_str()?))
    };
    let steps: Vec<String> = codes.into_iter().filter_map(|code| after(last(code)?)).collect();
    steps.join(", ")
}

#[test]
fn a_match_goes_on_at_its_standby_when_its_node_is_killed_and_no_session_ends() {
    let rounds: usize =
        std::env::var(ROUNDS).ok().map_or(1, |rounds| rounds.parse().expect("a number"));
    let place = Place::new();
    let mut nodes: Vec<Option<Node>> = (0..3).map(|at| Some(place.start(at))).collect();
    let created = rekindle(&place.of("a"), &["match", "create", "--on", "a", "--json"]);
    let id = created.expect(0).json()["id"].as_str().unwrap().to_owned();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut players = players(&place, &id);
    let mut all = Vec::new();
    for round in 0..rounds {
        let asked = nodes.iter().position(Option::is_some).unwrap();
        // A node that has just come may be the better standby: the follower changes once more.
        let (owner, standby) = eventually("a standby that stays", || {
            let found = place.owner_and_standby(asked, &id);
            // Meanwhile clients are told where it is, and connect to it.
            std::thread::sleep(Duration::from_millis(2_500));
            (found == place.owner_and_standby(asked, &id)).then_some(found)
        });
        let view = place.shown(owner, &id).unwrap();
        let epoch = view["epoch"].as_u64().unwrap();
        if round == 0 {
            let status =
                rekindle(&place.of("b"), &["cluster", "status", "--json"]).expect(0).json();
            assert_eq!(status["matches_with_standby"], 1, "{status}");
        }
        let (at, clock) = (Instant::now(), SystemTime::now());
        nodes[owner].take().unwrap().kill();
        let mut gaps = runtime.block_on(gaps(&mut players, epoch, at));
        let promoted = nodes[standby].as_mut().unwrap().wait_for(PROMOTED);
        assert_eq!(promoted["epoch"].to_string().trim_matches('"'), (epoch + 1).to_string());
        gaps.sort_unstable();
        let ms = |gap: Duration| gap.as_millis();
        println!(
            "round {round}: gap at clients in ms: least {}, most {}; {}",
            ms(gaps[0]),
            ms(gaps[gaps.len() - 1]),
            steps(&nodes[standby].as_ref().unwrap().seen, clock)
        );
        all.extend(gaps);
        nodes[owner] = Some(place.start(owner));
    }
    all.sort_unstable();
    let part = |part: f64| all[((all.len() - 1) as f64 * part) as usize].as_millis();
    println!(
        "{} gaps in ms: p50 {}, p90 {}, p99 {}, max {}",
        all.len(),
        part(0.5),
        part(0.9),
        part(0.99),
        part(1.0)
    );
    for player in &players {
        player.stop.store(true, Ordering::Release);
    }
    for player in players {
        runtime.block_on(player.task).expect("it has seen nothing wrong");
    }
    for node in nodes.into_iter().flatten() {
        assert_eq!(node.terminate(), 0);
    }
    let store = format!("store=local:{}", place.dir.path().join("store").display());
    rekindle(&place.of("a"), &["--set", &store, "verify"]).expect(0);
}

#[test]
fn an_operator_says_which_match_has_a_standby() {
    let place = Place::new();
    let (a, b) = (place.start(0), place.start(1));
    let created =
        rekindle(&place.of("a"), &["match", "create", "--on", "a", "--bots", "2", "--json"]);
    let id = created.expect(0).json()["id"].as_str().unwrap().to_owned();
    place.owner_and_standby(0, &id);
    let said = rekindle(&place.of("b"), &["match", "standby", &id, "off"]).expect(0);
    assert!(said.stdout.contains("is to have no standby"), "{said:?}");
    eventually("a match that nobody follows", || {
        let shown = rekindle(&place.of("a"), &["match", "standby", &id, "show"]).expect(0);
        shown.stdout.contains("nobody follows").then_some(())
    });
    rekindle(&place.of("a"), &["match", "standby", &id, "on"]).expect(0);
    let (owner, standby) = place.owner_and_standby(0, &id);
    assert_eq!((owner, standby), (0, 1));
    let shown = rekindle(&place.of("a"), &["node", "show", "b", "--json"]).expect(0).json();
    assert_eq!(shown["follows"], 1, "{shown}");
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
}
