//! The bus between real processes. The library's registries are global to a process, so the other
//! nodes of a test are this executable again, told by its environment which node to be.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rekindle_cluster::bus::greeting::NoLink;
use rekindle_cluster::bus::ractor::{Bus, BusParts};
use rekindle_cluster::bus::tls::{PEER_NAME, Tls};
use rekindle_cluster::bus::{PeerBus as _, PeerError, PeerService, budget};
use rekindle_schema::hello::Hello;
use rekindle_schema::peer::{PeerReply, PeerRequest, Purpose};
use rekindle_schema::{Incarnation, MatchId, Seq, Tick};
use tokio::net::TcpListener;

/// What tells a child which node to be: id, store, name, versions, directory of its certificate.
const ROLE: &str = "REKINDLE_TEST_PEER";
const STORE: u128 = 7;
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers how far a match is followed with its number, and never says that one is followed.
struct Echo;

impl PeerService for Echo {
    fn handle(&self, from: Incarnation, request: PeerRequest) -> BoxFuture<'_, PeerReply> {
        Box::pin(async move {
            match request {
                PeerRequest::Followed { match_id } => {
                    PeerReply::Follows { tick: Tick(match_id.0), seq: Seq(from.0) }
                }
                _ => std::future::pending().await,
            }
        })
    }
}

async fn bus(
    id: u64,
    store: u128,
    name: &str,
    speaks: (u16, u16),
    tls: Option<Tls>,
) -> (Bus, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (name, from) = (name.to_owned(), Incarnation(id));
    let me = Hello { speaks, store, from, name, to: None };
    let bus = Bus::start(BusParts { me, listener, tls }).await.unwrap();
    (bus, address)
}

fn certificate(dir: &Path) -> Tls {
    Tls::load(&dir.join("ca.pem"), &dir.join("node.pem"), &dir.join("node.key")).unwrap()
}

/// The other node, if this process is one.
#[test]
fn as_another_node() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let [id, store, name, low, high, dir] = words[..] else { panic!("{role}") };
    let tls = (!dir.is_empty()).then(|| certificate(Path::new(dir)));
    let speaks = (low.parse().unwrap(), high.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (bus, address) =
        runtime.block_on(bus(id.parse().unwrap(), store.parse().unwrap(), name, speaks, tls));
    let _inside = runtime.enter();
    bus.serve(Arc::new(Echo));
    println!("\nlistens {address}");
    // Until the test that started it closes the pipe.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

/// A node in a process of its own. Killed when dropped.
struct Other {
    child: Child,
    id: Incarnation,
    address: String,
}

impl Other {
    fn start(id: u64, store: u128, name: &str, speaks: (u16, u16), dir: Option<&Path>) -> Self {
        let dir = dir.map_or_else(String::new, |dir| dir.display().to_string());
        let role = format!("{id} {store} {name} {} {} {dir}", speaks.0, speaks.1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["as_another_node", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listens ").map(str::to_owned))
            .expect("it listens");
        Self { child, id: Incarnation(id), address }
    }

    fn plain(id: u64) -> Self {
        Self::start(id, STORE, &format!("n{id}"), (1, 1), None)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn followed(id: u64) -> PeerRequest {
    PeerRequest::Followed { match_id: MatchId(id) }
}

fn never_answered() -> PeerRequest {
    PeerRequest::Follow { match_id: MatchId(1), purpose: Purpose::Audit }
}

async fn linked(bus: &Bus, other: &Other) {
    bus.dial(Some(other.id), &other.address).await.unwrap();
    until("the link", || bus.linked().contains(&other.id)).await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never came: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

/// All of it in one process, one after the other: it has one bus.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_ask_each_other_and_part() {
    let (bus, own) = bus(100, STORE, "me", (1, 1), None).await;
    requests_are_answered_by_the_node_that_is_asked(&bus).await;
    // The machine may be busy: the quickest of three counts.
    let mut took = Vec::new();
    for id in [10, 11, 12] {
        took.push(a_killed_process_is_noticed(&bus, id).await);
    }
    assert!(*took.iter().min().unwrap() < Duration::from_millis(300), "{took:?}");
    a_stopped_process_costs_a_bounded_amount_and_is_dropped(&bus).await;
    strangers_are_refused_with_words(&bus, &own).await;
    a_node_that_dials_again_replaces_its_link(&bus).await;
}

async fn requests_are_answered_by_the_node_that_is_asked(bus: &Bus) {
    let others = [Other::plain(1), Other::plain(2)];
    for other in &others {
        linked(bus, other).await;
    }
    for (other, number) in [(&others[0], 5), (&others[1], 6)] {
        let reply = bus.call(other.id, followed(number), PATIENCE).await;
        assert_eq!(reply, Ok(PeerReply::Follows { tick: Tick(number), seq: Seq(100) }));
        assert_eq!(bus.call(other.id, PeerRequest::Ping, PATIENCE).await, Ok(PeerReply::Done));
    }
    let nobody = Incarnation(77);
    assert_eq!(bus.call(nobody, followed(1), PATIENCE).await, Err(PeerError::NoLink(nobody)));
    let patience = Duration::from_millis(50);
    let late = bus.call(others[0].id, never_answered(), patience).await;
    assert_eq!(late, Err(PeerError::Unknown(others[0].id)));
    let many = (0..40).map(|n| bus.call(others[0].id, followed(n), PATIENCE));
    let many = futures::future::join_all(many).await;
    assert!(many.iter().all(Result::is_ok), "{many:?}");
    let (_, quiet_ms) = &bus.links()[&others[0].id];
    assert!(*quiet_ms < 1_000, "pings keep it alive: {quiet_ms}");
}

async fn a_killed_process_is_noticed(bus: &Bus, id: u64) -> Duration {
    let mut other = Other::plain(id);
    linked(bus, &other).await;
    let calls = bus.counted().calls;
    let waiting = {
        let (bus, id) = (bus.clone(), other.id);
        tokio::spawn(async move { bus.call(id, never_answered(), PATIENCE).await })
    };
    until("the request is open", || bus.counted().calls > calls).await;
    other.child.kill().unwrap();
    let took = until("the end of the link", || !bus.linked().contains(&other.id)).await;
    assert_eq!(waiting.await.unwrap(), Err(PeerError::Unknown(other.id)), "not after {PATIENCE:?}");
    other.child.wait().unwrap();
    assert!(bus.is_gone(other.id, &other.address).await);
    let refused = bus.dial(Some(other.id), &other.address).await;
    assert_eq!(refused.unwrap_err(), NoLink::NobodyListens);
    took
}

async fn a_stopped_process_costs_a_bounded_amount_and_is_dropped(bus: &Bus) {
    let other = Other::plain(4);
    linked(bus, &other).await;
    other.signal(rustix::process::Signal::STOP);
    let (mut sent, mut busy) = (0, 0);
    let begun = Instant::now();
    let patience = Duration::from_millis(1);
    // It is asked again and again, as fast as that goes, for as long as the link is there.
    while bus.linked().contains(&other.id) && begun.elapsed() < Duration::from_secs(20) {
        match bus.call(other.id, followed(1), patience).await {
            Err(PeerError::Unknown(_)) => sent += 1,
            Err(PeerError::Busy(_)) => {
                busy += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Its threads stop one after the other.
            Err(PeerError::NoLink(_)) | Ok(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let held = begun.elapsed();
    assert!(!bus.linked().contains(&other.id), "a silent link is closed");
    assert!(held > Duration::from_secs(1), "a pause is no silence: {held:?}");
    assert!(sent <= 2 * budget::MAX_OPEN && busy > 100, "{sent} sent, {busy} not");
    assert!(!bus.is_gone(other.id, &other.address).await, "it may wake");
    other.signal(rustix::process::Signal::CONT);
}

async fn strangers_are_refused_with_words(bus: &Bus, own: &str) {
    let foreign = Other::start(5, STORE + 1, "n5", (1, 1), None);
    let refused = bus.dial(Some(foreign.id), &foreign.address).await.unwrap_err().to_string();
    assert!(refused.starts_with("RK-PEER-005"), "{refused}");
    let refused = bus.dial(None, &foreign.address).await.unwrap_err().to_string();
    assert!(refused.starts_with("RK-PEER-005"), "{refused}");
    let distant = Other::start(6, STORE, "n6", (2, 3), None);
    let refused = bus.dial(Some(distant.id), &distant.address).await.unwrap_err().to_string();
    assert!(refused.starts_with("RK-PEER-011"), "{refused}");
    let other = Other::plain(7);
    let late = bus.dial(Some(Incarnation(8)), &other.address).await.unwrap_err().to_string();
    assert!(late.starts_with("RK-PEER-006"), "{late}");
    assert_eq!(bus.dial(None, &other.address).await.unwrap().from, other.id, "who is there");
    assert!(bus.is_gone(Incarnation(8), &other.address).await, "another run has its port");
    assert!(!bus.is_gone(other.id, &other.address).await);
    assert_eq!(bus.dial(None, own).await.unwrap().from, Incarnation(100));
    assert_eq!(bus.linked().iter().filter(|id| (5..=8).contains(&id.0)).count(), 0);
}

async fn a_node_that_dials_again_replaces_its_link(bus: &Bus) {
    let other = Other::plain(9);
    for _ in 0..5 {
        linked(bus, &other).await;
        let reply = bus.call(other.id, followed(3), PATIENCE).await;
        assert!(matches!(reply, Ok(PeerReply::Follows { .. })), "{reply:?}");
    }
    bus.close(other.id);
    until("the end of the link", || !bus.linked().contains(&other.id)).await;
    linked(bus, &other).await;
}

/// An authority and certificates of nodes, in a directory each.
struct Authority {
    key: rcgen::KeyPair,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = Self::params().self_signed(&key).unwrap().pem();
        std::fs::write(dir.join("ca.pem"), pem).unwrap();
        Self { key, dir: dir.to_owned() }
    }

    fn params() -> rcgen::CertificateParams {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    }

    fn issue(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let names = vec![name.to_owned(), PEER_NAME.to_owned()];
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(Self::params(), &self.key);
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.join("node.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.join("node.key"), key.serialize_pem()).unwrap();
        std::fs::copy(self.dir.join("ca.pem"), dir.join("ca.pem")).unwrap();
        dir
    }
}

/// What became of a node with TLS that was dialled.
async fn dialled(bus: &Bus, id: u64, name: &str, dir: Option<&Path>) -> Result<Hello, NoLink> {
    let other = Other::start(id, STORE, name, (1, 1), dir);
    let dialled = bus.dial(Some(other.id), &other.address).await;
    if dialled.is_ok() {
        until("the link", || bus.linked().contains(&other.id)).await;
        let reply = bus.call(other.id, followed(3), PATIENCE).await;
        assert!(matches!(reply, Ok(PeerReply::Follows { .. })), "{reply:?}");
    }
    dialled
}

#[test]
fn with_tls_only_nodes_of_one_authority_link_under_their_own_names() {
    // A process of its own: the other test has a bus in this one.
    if std::env::var("REKINDLE_TEST_TLS").is_err() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["with_tls_only_nodes_of_one_authority_link_under_their_own_names", "--exact"])
            .env("REKINDLE_TEST_TLS", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let place = std::env::temp_dir().join(format!("rekindle-tls-{}", std::process::id()));
    let ours = Authority::new(&place.join("ours"));
    let theirs = Authority::new(&place.join("theirs"));
    let mine = certificate(&ours.issue("me"));
    let nodes: BTreeMap<&str, PathBuf> = [
        ("good", ours.issue("good")),
        ("stranger", theirs.issue("stranger")),
        ("liar", ours.issue("other-name")),
    ]
    .into();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (bus, _) = bus(200, STORE, "me", (1, 1), Some(mine)).await;
        assert!(dialled(&bus, 1, "good", Some(&nodes["good"])).await.is_ok());
        for (id, name, dir, code) in [
            (2, "stranger", Some(nodes["stranger"].as_path()), "RK-PEER-007"),
            (3, "liar", Some(nodes["liar"].as_path()), "RK-PEER-010"),
            (4, "plain", None, "RK-PEER-007"),
        ] {
            let refused = dialled(&bus, id, name, dir).await.unwrap_err().to_string();
            assert!(refused.starts_with(code), "{name}: {refused}");
        }
    });
    std::fs::remove_dir_all(place).unwrap();
}
