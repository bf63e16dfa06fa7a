//! Players and the port that they come through, on a real node: few descriptors, a store that was
//! put back, a build that computes otherwise.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rekindle_arena::Arena;
use rekindle_client::{ClientConfig, ClientEvent, GameClient, Snapshot, Trust};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId, Seq, Tick};
use rekindle_sim::{Game, Value as _};
use rekindle_testkit::udp_proxy::{Link, UdpProxy};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, REKINDLE, command, eventually, rekindle};

type Client = GameClient<Arena>;

/// A node on a directory of its own, which always has the same game port.
struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let port = std::net::UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        Self { dir: tempfile::tempdir().expect("a directory"), port }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("rekindle-data")
    }

    fn start_with(&self, mut command: Command, more: &[&str]) -> Node {
        let listen = format!("127.0.0.1:{}", self.port);
        command
            .args([
                "start",
                "--dev",
                "--log",
                "json",
                "--admin",
                "127.0.0.1:0",
                "--listen",
                &listen,
            ])
            .args(more);
        let mut node = Node::from_command(command);
        node.wait_for("RK-NODE-001");
        node
    }

    fn start(&self) -> Node {
        self.start_with(command(self.path()), &[])
    }

    /// Players reach the node through `proxy` alone: it tells them no other address.
    fn start_behind(&self, proxy: &UdpProxy) -> Node {
        let public = format!("public={}", proxy.addr());
        self.start_with(command(self.path()), &["--set", &public])
    }

    fn create(&self) -> MatchId {
        let created = rekindle(self.path(), &["match", "create", "--json"]).expect(0).json();
        created["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
    }

    fn card(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.data().join("node.json")).expect("node.json"))
            .expect("JSON")
    }

    fn admin(&self) -> SocketAddr {
        self.card()["admin"].as_str().and_then(|addr| addr.parse().ok()).expect("an address")
    }

    fn client(&self, addr: SocketAddr, player: u64, match_id: MatchId) -> Client {
        let issued =
            rekindle(self.path(), &["ticket", "issue", "--player", &player.to_string()]).expect(0);
        let certificate = std::fs::read(self.data().join("cert.der")).expect("a certificate");
        let mut config =
            ClientConfig::new(vec![addr], Trust::Certificate(certificate), issued.stdout.trim());
        config.match_id = Some(match_id);
        Client::connect(config).expect("a client")
    }

    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }
}

/// The first event that `pick` takes.
async fn until<T>(
    client: &mut Client,
    what: &str,
    mut pick: impl FnMut(ClientEvent) -> Option<T>,
) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            let event = client.event().await.expect("the client goes on");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what} did not come"))
}

fn snapshot(event: ClientEvent) -> Option<Snapshot> {
    if let ClientEvent::Snapshot(snapshot) = event { Some(snapshot) } else { None }
}

/// Plays as the game's bot does, until a snapshot of `tick`.
async fn play_to(client: &mut Client, player: u64, tick: u64) -> Tick {
    let (player, mut memory) = (PlayerId(player), <Arena as Game>::Bot::initial());
    loop {
        let seen = timeout(PATIENCE, client.seen()).await.expect("a snapshot").expect("the arena");
        if seen.snapshot.header.tick.0 >= tick {
            return seen.snapshot.header.tick;
        }
        let config = seen.config().expect("the arena's");
        let input = Arena::bot(player, &seen.view(), &config, &mut memory);
        input.map(|input| client.input(&input));
    }
}

/// What a client is told once it is back, and the next tick that it sees.
async fn comes_back(client: &mut Client) -> (Vec<(Epoch, Tick)>, Tick) {
    let (mut resumed, mut rewound) = (false, Vec::new());
    let next = until(client, "the next tick", |event| {
        match event {
            ClientEvent::Resumed { .. } => resumed = true,
            ClientEvent::Rewound { epoch, to } => rewound.push((epoch, to)),
            ClientEvent::Snapshot(snapshot) if resumed => return Some(snapshot.header.tick),
            _ => {}
        }
        None
    })
    .await;
    (rewound, next)
}

/// As `cp -a` does it while the node holds its breath.
fn copy(node: &Node, from: &Path, to: &Path) {
    node.signal(rustix::process::Signal::STOP);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    node.signal(rustix::process::Signal::CONT);
    assert!(copied.success());
}

fn put_back(place: &Place, copy: &Path) {
    std::fs::remove_dir_all(place.data()).expect("it is there");
    std::fs::rename(copy, place.data()).expect("it is there");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn a_store_that_was_put_back_rewinds_its_players_at_once() {
    let place = Place::new();
    let node = place.start();
    let match_id = place.create();
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut client = place.client(place.addr(), 7, match_id);
    let (earlier, saved) =
        (runtime.block_on(play_to(&mut client, 7, 60)), place.path().join("saved"));
    copy(&node, &place.data(), &saved);
    // Two more owners, and five seconds: all that is lost.
    let mut node = node;
    for _ in 0..2 {
        node.kill();
        node = place.start();
        runtime.block_on(comes_back(&mut client));
    }
    let last = runtime.block_on(play_to(&mut client, 7, earlier.0 + 150));
    node.kill();
    put_back(&place, &saved);
    let mut node = place.start();
    let begin = Instant::now();
    let (rewound, next) = runtime.block_on(comes_back(&mut client));
    assert!(begin.elapsed() < Duration::from_secs(6), "it goes on at once: {:?}", begin.elapsed());
    assert!(rewound.len() == 1 && rewound[0].1 < last, "{rewound:?} after {last}");
    assert!(
        next > rewound[0].1 && next < last,
        "the next tick it sees is {next}; it had seen {last}"
    );
    // It may be in before the node says that it is ready.
    let told = node.said("RK-GATE-127");
    assert!(told["from"] == rewound[0].1.0 + 1 && told["until"].as_u64() >= Some(last.0), "{told}");
    let metrics = http_get(place.admin(), "/metrics").expect("it answers");
    let mut rewinds =
        metrics.lines().filter(|line| line.starts_with("rekindle_gateway_rewound_total{"));
    assert!(rewinds.any(|line| line.ends_with(" 1")), "{metrics}");
    runtime.block_on(play_to(&mut client, 7, next.0 + 10));
}

#[test]
fn a_store_that_was_put_back_and_went_on_in_another_way_rewinds_who_comes_later() {
    let place = Place::new();
    let runtime = runtime();
    let _inside = runtime.enter();
    let proxy = runtime.block_on(UdpProxy::start(place.addr(), Link::GOOD, 1)).expect("a proxy");
    let node = place.start_behind(&proxy);
    let match_id = place.create();
    let mut client = place.client(proxy.addr(), 7, match_id);
    runtime.block_on(play_to(&mut client, 7, 60));
    let saved = place.path().join("saved");
    copy(&node, &place.data(), &saved);
    // What has come meanwhile is older than what comes now.
    while client.try_event().is_some() {}
    let copied = runtime.block_on(play_to(&mut client, 7, 0));
    let last = runtime.block_on(play_to(&mut client, 7, copied.0 + 90));
    node.kill();
    proxy.set_link(Link::CUT);
    put_back(&place, &saved);
    let _node = place.start_behind(&proxy);
    // Nobody plays now, so the match is another one when it passes that tick.
    eventually("the match has passed that tick", || {
        let view = rekindle(place.path(), &["match", "show", &match_id.to_string(), "--json"]);
        (view.code == 0 && view.json()["tick"].as_u64() > Some(last.0 + 30)).then_some(())
    });
    proxy.set_link(Link::GOOD);
    let (rewound, next) = runtime.block_on(comes_back(&mut client));
    assert!(
        rewound.len() == 1 && rewound[0].1 < last,
        "{rewound:?}; the two ways part soon after {copied}, it had seen {last}"
    );
    assert!(next > last);
}

#[test]
fn an_operator_sees_how_good_the_line_of_a_player_is() {
    let place = Place::new();
    let runtime = runtime();
    let _inside = runtime.enter();
    let ms = Duration::from_millis;
    let link = Link { loss: 0.05, delay: ms(30), jitter: ms(15), ..Link::GOOD };
    let proxy = runtime.block_on(UdpProxy::start(place.addr(), link, 1)).expect("a proxy");
    let node = place.start_behind(&proxy);
    let match_id = place.create();
    let mut client = place.client(proxy.addr(), 7, match_id);
    runtime.block_on(play_to(&mut client, 7, 150));
    let show = |flags: &[&str]| {
        let id = match_id.to_string();
        rekindle(place.path(), &[&["match", "show", &id], flags].concat()).expect(0)
    };
    let shown = show(&["--json"]).json();
    let [line] = shown["clients"].as_array().expect("clients").as_slice() else {
        panic!("{shown}");
    };
    let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key}: {line}"));
    assert_eq!((number("player"), &line["carrier"]), (7.0, &Value::from("quic")));
    assert!((50.0..200.0).contains(&number("rtt_ms")), "{line}");
    assert!((1.0..40.0).contains(&number("jitter_ms")), "{line}");
    assert!((0.005..0.3).contains(&number("lost")), "{line}");
    assert!(number("has") > 100.0, "{line}");
    let text = show(&[]).stdout;
    assert!(text.contains("player     7: quic, protocol 6, rtt "), "{text}");
    // The client sees the same from its side.
    assert!((50.0..200.0).contains(&client.rtt_ms()), "{}", client.rtt_ms());
    assert!(client.jitter_ms() > 1.0 && client.loss() > 0.0 && client.loss() < 0.3);
    assert!(client.server_tick() > 100.0, "{}", client.server_tick());
    drop(node);
}

#[test]
fn ticks_that_another_build_computes_in_another_way_are_taken_back_and_written_down() {
    let place = Place::new();
    let node = place.start();
    let match_id = place.create();
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut client = place.client(place.addr(), 7, match_id);
    let last = runtime.block_on(play_to(&mut client, 7, 100));
    node.kill();
    // Another build is another file; that it computes otherwise is the work of another seed, with
    // which it begins once no checkpoint is left.
    let other = place.path().join("other-build");
    std::fs::copy(REKINDLE, &other).expect("a copy");
    std::fs::File::options()
        .append(true)
        .open(&other)
        .and_then(|mut file| file.write_all(b"another build"))
        .expect("it is longer");
    runtime.block_on(async {
        let store = rekindle_store_open::address::StoreAddress::Local(place.data())
            .open()
            .await
            .expect("the store");
        let mut row = store.leases.get(match_id).await.expect("the store answers").expect("a row");
        (row.version, row.spec.seed) = (row.version + 1, row.spec.seed + 1);
        store
            .leases
            .compare_and_set(row)
            .await
            .expect("the store answers")
            .expect("nobody else writes");
        store.checkpoints.trim(match_id, Seq(u64::MAX)).await.expect("the store answers");
    });
    let mut command = Command::new(&other);
    command.current_dir(place.path());
    let mut node = place.start_with(command, &["--set", "accept_build=true"]);
    let resumed = node.said("RK-NODE-010");
    assert_eq!(resumed["hash_ok"], false, "{resumed}");
    let (rewound, _) = runtime.block_on(comes_back(&mut client));
    assert!(rewound.len() == 1 && rewound[0].1 < last, "{rewound:?}");
    node.said("RK-GATE-127");
    let entry = eventually("the audit entry", || {
        let entries = rekindle(place.path(), &["audit", "--json"]).expect(0).json();
        entries.as_array()?.iter().find(|entry| entry["action"] == "match.rewound").cloned()
    });
    assert_eq!(entry["target"], match_id.to_string(), "{entry}");
}

#[test]
fn a_player_of_a_match_that_ended_meanwhile_is_told_so_also_after_a_restart() {
    let place = Place::new();
    let node = place.start();
    let match_id = place.create();
    let runtime = runtime();
    let _inside = runtime.enter();
    let proxy = runtime.block_on(UdpProxy::start(place.addr(), Link::GOOD, 1)).expect("a proxy");
    let mut client = place.client(proxy.addr(), 7, match_id);
    runtime.block_on(play_to(&mut client, 7, 10));
    proxy.set_link(Link::CUT);
    rekindle(place.path(), &["match", "stop", &match_id.to_string(), "--reason", "time is up"])
        .expect(0);
    assert_eq!(node.terminate(), 0);
    let _node = place.start();
    proxy.set_link(Link::GOOD);
    let closed = until(&mut client, "the end", |event| match event {
        ClientEvent::Closed { code, message } => Some((code, message)),
        _ => None,
    });
    assert_eq!(runtime.block_on(closed), (Some(RefuseCode::Ended), "time is up".to_owned()));
}

fn http_get(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn slow_admins_and_few_descriptors_cost_no_player_the_game() {
    let place = Place::new();
    let mut limited = Command::new("sh");
    limited.current_dir(place.path()).args(["-c", r#"ulimit -n 256; exec "$0" "$@""#, REKINDLE]);
    let _node = place.start_with(limited, &[]);
    let match_id = place.create();
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut player = place.client(place.addr(), 7, match_id);
    runtime.block_on(play_to(&mut player, 7, 10));
    let admin = place.admin();
    // More connections than the node may have files; each begins a request and does not end it.
    let mut slow: Vec<TcpStream> = Vec::new();
    while slow.len() < 400 {
        let Ok(mut stream) = TcpStream::connect_timeout(&admin, Duration::from_millis(200)) else {
            break;
        };
        let _ = stream.write_all(b"GET /livez HT");
        slow.push(stream);
    }
    assert!(slow.len() > 64, "{} connections", slow.len());
    // Quiet phases and busy ones: the player plays on, and another gets in.
    let seen = until_tick(&runtime, &mut player, 60);
    let mut second = new_player(&runtime, &place, 8, match_id);
    until_tick(&runtime, &mut player, seen + 30);
    // The first of them are let go by themselves, long before the half minute that HTTP servers
    // usually give.
    let begin = Instant::now();
    slow[0].set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut rest = Vec::new();
    let _ = slow[0].read_to_end(&mut rest);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    drop(slow);
    eventually("the node says that it is ready", || {
        http_get(admin, "/readyz").ok()?.contains(" 200 ").then_some(())
    });
    runtime.block_on(play_to(&mut second, 8, seen + 40));
    drop(new_player(&runtime, &place, 9, match_id));
}

/// Until a snapshot of `tick`, in the same session. A machine that is busy for a second may cost
/// the connection; then the client is back by itself.
fn until_tick(runtime: &tokio::runtime::Runtime, client: &mut Client, tick: u64) -> u64 {
    let session = |client: &Client| client.welcome().map(|welcome| welcome.session);
    let before = session(client);
    let reached = runtime.block_on(until(client, "the tick", |event| match event {
        ClientEvent::Closed { message, .. } => panic!("{message}"),
        ClientEvent::Snapshot(snapshot) => {
            Some(snapshot.header.tick.0).filter(|&seen| seen >= tick)
        }
        _ => None,
    }));
    assert!(before.is_some() && session(client) == before, "it is another session");
    reached
}

fn new_player(
    runtime: &tokio::runtime::Runtime,
    place: &Place,
    player: u64,
    match_id: MatchId,
) -> Client {
    let mut client = place.client(place.addr(), player, match_id);
    runtime.block_on(until(&mut client, "a snapshot", snapshot));
    client
}
