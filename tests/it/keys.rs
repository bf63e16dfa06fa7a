//! The keys of a cluster: nodes of one store let each other's players in, through deaths and
//! rotations, and a node without the secret is none of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rekindle_client::{Client, ClientConfig, ClientEvent, Trust};
use rekindle_schema::MatchId;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{Done, Node, PATIENCE, command, eventually, http_get};

const SECRET: &str = "one secret for all of this cluster";

/// The host of one node: a directory of its own, a store that it shares.
struct Host {
    dir: tempfile::TempDir,
    store: String,
    secret: Option<&'static str>,
}

impl Host {
    fn new(store: &str, secret: Option<&'static str>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir, store: store.to_owned(), secret }
    }

    fn command(&self) -> Command {
        let mut command = command(self.dir.path());
        command.env("REKINDLE_STORE", &self.store);
        command.envs(self.secret.map(|secret| ("REKINDLE_CLUSTER_SECRET", secret)));
        command
    }

    fn spawn(&self) -> Node {
        let mut command = self.command();
        command
            .args(["start", "--dev", "--log", "json", "--listen", "127.0.0.1:0"])
            .args(["--admin", "127.0.0.1:0"]);
        Node::from_command(command)
    }

    fn start(&self) -> Node {
        let mut node = self.spawn();
        node.wait_for("RK-NODE-001");
        node
    }

    fn run(&self, args: &[&str]) -> Done {
        let output = self.command().args(args).output().expect("the executable starts");
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("rekindle-data")
    }

    fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.data().join("cert.der")).expect("a certificate")
    }

    fn card(&self) -> Value {
        let card = std::fs::read(self.data().join("node.json")).expect("node.json");
        serde_json::from_slice(&card).expect("JSON")
    }

    fn listen(&self) -> SocketAddr {
        self.card()["listen"].as_str().and_then(|addr| addr.parse().ok()).expect("an address")
    }

    /// What the node tells pages.
    fn edge_json(&self) -> Value {
        let card = self.card();
        assert_eq!(card["web"], card["listen"], "TCP and UDP have one number");
        let answer = http_get(&self.listen().to_string(), "/edge.json");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).expect("JSON")
    }

    fn create(&self) -> MatchId {
        let created = self.run(&["match", "create", "--json"]).expect(0).json();
        created["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
    }

    fn ticket(&self, player: u64) -> String {
        let issued = self.run(&["ticket", "issue", "--player", &player.to_string()]).expect(0);
        issued.stdout.trim().to_owned()
    }

    fn keys(&self) -> Vec<Value> {
        let listed = self.run(&["keys", "ls", "--json"]).expect(0).json();
        listed.as_array().expect("a list").clone()
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

/// A player who was let in.
async fn enter(addr: SocketAddr, certificate: Vec<u8>, ticket: String, match_id: MatchId) {
    let mut config = ClientConfig::new(vec![addr], Trust::Certificate(certificate), ticket);
    config.match_id = Some(match_id);
    let mut client = Client::connect(config).expect("a client");
    let welcome = |event| matches!(event, ClientEvent::Welcome(_)).then_some(());
    until(&mut client, "a welcome", welcome).await;
}

fn local(dir: &Path) -> String {
    format!("local:{}", dir.join("shared").display())
}

#[test]
fn two_first_starts_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = [Host::new(&local(dir.path()), None), Host::new(&local(dir.path()), None)];
    let mut nodes = [hosts[0].spawn(), hosts[1].spawn()];
    for node in &mut nodes {
        node.wait_for("RK-NODE-001");
    }
    assert_eq!(hosts[0].certificate(), hosts[1].certificate());
    assert_eq!(hosts[0].keys().len(), 1);
    // Both are shown to browsers with the same certificate, by the number that players know.
    let told = [hosts[0].edge_json(), hosts[1].edge_json()];
    let hashes = |told: &Value| told["webtransport"]["hashes"].as_array().expect("hashes").clone();
    assert_eq!((hashes(&told[0]), hashes(&told[0]).len()), (hashes(&told[1]), 2));
    let url = format!("https://{}/rekindle/4", hosts[0].listen());
    assert_eq!(told[0]["webtransport"]["url"], url.as_str());
    // The next certificate for native clients is named before it is shown.
    let shown = hosts[0].certificate();
    hosts[0].run(&["keys", "rotate", "--tls"]).expect(0);
    for host in &hosts {
        eventually("node.json names both certificates", || {
            let known = host.card()["certificates"].as_array().map(Vec::len);
            (known == Some(2)).then_some(())
        });
        assert_eq!(host.certificate(), shown);
    }
}

#[test]
fn a_node_with_the_wrong_secret_does_not_start_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = local(dir.path());
    let right = Host::new(&store, Some(SECRET));
    right.start().terminate();
    let (keys, nodes) = (right.keys(), right.run(&["store", "status", "--json"]).expect(0).stdout);
    for (secret, code) in
        [(Some("another secret of the same length"), "RK-NODE-165"), (None, "RK-NODE-164")]
    {
        let wrong = Host::new(&store, secret);
        let refused = wrong.run(&["start", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        assert!(refused.code == 1 && refused.stderr.contains(code), "{refused:?}");
        let rotation = wrong.run(&["keys", "rotate"]);
        assert!(rotation.code == 1 && rotation.stderr.contains(code), "{rotation:?}");
        assert!(!wrong.data().join("cert.der").exists());
    }
    assert_eq!(right.keys(), keys);
    assert_eq!(right.run(&["store", "status", "--json"]).expect(0).stdout, nodes);
    let ids: BTreeSet<String> = keys.iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn keys_of_an_earlier_release_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(&local(dir.path()), None);
    // Without a store a ticket is signed with keys in the directory, as earlier releases have them.
    let ticket = host.ticket(7);
    let (keys, certificate) = (host.data().join("gateway.keys"), host.certificate());
    let node = host.start();
    assert_eq!(host.certificate(), certificate, "clients have pinned it");
    std::fs::write(&keys, "half of").unwrap();
    node.terminate();
    let node = host.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let match_id = host.create();
        enter(host.listen(), certificate, ticket, match_id).await;
    });
    node.terminate();
}
