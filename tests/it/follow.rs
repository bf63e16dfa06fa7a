//! Clients that follow their match through a cluster of real nodes: to the one that has it, and to
//! the one that takes it over.

use rekindle_client::{Client, ClientConfig, ClientEvent, Trust};
use rekindle_schema::MatchId;
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, eventually, rekindle};

/// Two nodes beside one store, which have the same keys.
struct Pair {
    dir: tempfile::TempDir,
}

impl Pair {
    fn place(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, name: &str) -> Node {
        let store = format!("store=local:{}", self.dir.path().join("store").display());
        let node_name = format!("node.name={name}");
        Node::start(&self.place(name), &["--set", &store, "--set", &node_name])
    }
}

async fn until<T>(client: &mut Client, mut pick: impl FnMut(ClientEvent) -> Option<T>) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            if let Some(found) = pick(client.event().await.expect("the client goes on")) {
                return found;
            }
        }
    });
    found.await.expect("it comes in time")
}

#[test]
fn a_client_that_knows_one_node_plays_at_another_and_comes_back_when_that_is_killed() {
    let pair = Pair { dir: tempfile::tempdir().expect("a directory") };
    for name in ["a", "b"] {
        std::fs::create_dir(pair.place(name)).expect("a directory");
    }
    let first = pair.start("a");
    let second = pair.start("b");
    let created =
        rekindle(&pair.place("b"), &["match", "create", "--on", "b", "--bots", "2", "--json"]);
    let id = created.expect(0).json()["id"].as_str().expect("an id").to_owned();

    let place = |name: &str| rekindle(&pair.place(name), &["match", "where", &id, "--json"]);
    let here = eventually("the match at its node", || {
        let here = place("b");
        (here.code == 0).then(|| here.json()).filter(|view| view["place"] == "here")
    });
    let seen_from_a = eventually("the other node among the members", || {
        let view = place("a");
        (view.code == 0).then(|| view.json()).filter(|view| view["place"] == "elsewhere")
    });
    assert_eq!((&seen_from_a["node"], &seen_from_a["players"]), (&here["node"], &here["players"]));
    assert_eq!(here["node"], "b");

    let ticket = rekindle(&pair.place("a"), &["ticket", "issue", "--player", "7"]).expect(0);
    let card = std::fs::read(pair.place("a").join("rekindle-data/node.json")).expect("node.json");
    let card: serde_json::Value = serde_json::from_slice(&card).expect("JSON");
    let asked = card["listen"].as_str().and_then(|addr| addr.parse().ok()).expect("an address");
    let certificate =
        std::fs::read(pair.place("a").join("rekindle-data/cert.der")).expect("a certificate");
    let mut config =
        ClientConfig::new(vec![asked], Trust::Certificate(certificate), ticket.stdout.trim());
    config.match_id = id.parse::<MatchId>().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut client = Client::connect(config).expect("a client");
        let seen = until(&mut client, |event| match event {
            ClientEvent::Snapshot(snapshot) if snapshot.header.tick.0 > 30 => {
                Some(snapshot.header.tick)
            }
            _ => None,
        })
        .await;
        // Attempts overlap: the node that was asked may have been asked twice.
        assert!((1..=2).contains(&client.counts().redirects), "{:?}", client.counts());
        second.kill();
        let to = until(&mut client, |event| match event {
            ClientEvent::Moved { to, .. } => Some(to),
            _ => None,
        })
        .await;
        assert_eq!(to, asked);
        until(&mut client, |event| match event {
            ClientEvent::Snapshot(snapshot) => (snapshot.header.tick > seen).then_some(()),
            _ => None,
        })
        .await;
    });
    drop(first);
}
