//! What operators do with the nodes of a cluster: drain one while it is played on, take that back,
//! decommission one for good.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Done, Node, command, eventually, rekindle};

/// Log code: a link to another node.
const LINKED: &str = "RK-PEER-020";
/// Bots that play over the network.
const BOTS: u64 = 3;

/// Data directories beside one store.
struct Place {
    dir: tempfile::TempDir,
    store: String,
    /// Whether nodes give matches to less loaded ones.
    balanced: bool,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("local:{}", dir.path().join("store").display());
        Self { dir, store, balanced: false }
    }

    fn of(&self, name: &str) -> PathBuf {
        let place = self.dir.path().join(name);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    fn spawn(&self, name: &str) -> Node {
        let named = format!("node.name={name}");
        // Matches are to be moved once nodes have been the same for a second, not for a minute.
        let soon = ["--set", "cluster.rebalance_after_s=1"];
        let off = ["--set", "cluster.rebalance=false"];
        let balance = if self.balanced { soon } else { off };
        let args = ["--store", &self.store, "--set", &named];
        Node::spawn(&self.of(name), &[&args[..], &balance].concat())
    }

    fn start(&self, name: &str) -> Node {
        let mut node = self.spawn(name);
        node.wait_for("RK-NODE-001");
        node
    }

    /// A command at the node of this name.
    fn at(&self, name: &str, args: &[&str]) -> Done {
        rekindle(&self.of(name), args)
    }

    /// A command on the store alone.
    fn offline(&self, args: &[&str]) -> Done {
        let args = [args, &["--store", &self.store]].concat();
        rekindle(self.dir.path(), &args)
    }

    fn create(&self, name: &str) -> String {
        let created =
            self.at(name, &["match", "create", "--on", name, "--bots", "2", "--json"]).expect(0);
        created.json()["id"].as_str().unwrap().to_owned()
    }

    fn shown(&self, at: &str, node: &str) -> Value {
        self.at(at, &["node", "show", node, "--json"]).expect(0).json()
    }
}

#[test]
fn a_node_is_drained_under_load_stays_so_over_its_restart_and_no_session_ends() {
    let place = Place::new();
    let (mut a, mut b) = (place.start("a"), place.start("b"));
    a.wait_for(LINKED);
    b.wait_for(LINKED);
    let ids = [place.create("a"), place.create("a")];
    let mut bots = command(&place.of("a"));
    let count = BOTS.to_string();
    bots.args(["bots", "--match", &ids[0], "--count", &count, "--seconds", "8", "--json"]);
    let bots = std::thread::spawn(move || bots.output().unwrap());
    eventually("bots in the match", || {
        let shown = place.at("a", &["match", "show", &ids[0], "--json"]).expect(0).json();
        (shown["players"].as_u64() >= Some(BOTS + 2)).then_some(())
    });

    // From the other node.
    let drained = place.at("b", &["node", "drain", "a", "--wait", "--json"]).expect(0);
    let answer = drained.json();
    assert_eq!(
        (&answer["empty"], &answer["drain"]["moved"]),
        (&true.into(), &2.into()),
        "{answer}"
    );
    assert!(drained.stderr.contains("to go"), "progress is shown: {drained:?}");
    assert_eq!(place.shown("b", "a")["state"], "drained");
    let refused = place.at("a", &["match", "create", "--on", "a"]);
    assert!(refused.code != 0 && refused.stderr.contains("RK-NODE-204"), "{refused:?}");
    let elsewhere = place.at("b", &["match", "create", "--on", "a"]);
    assert!(elsewhere.code != 0 && elsewhere.stderr.contains("RK-NODE-211"), "{elsewhere:?}");
    let placed = place.at("a", &["match", "create", "--bots", "1", "--json"]).expect(0).json();
    assert_eq!(placed["node"], "b", "a drained node has the other one run it: {placed}");
    let back = place.at("b", &["match", "migrate", &ids[0], "--to", "a"]);
    assert!(back.code != 0 && back.stderr.contains("drained"), "{back:?}");

    let played = bots.join().unwrap();
    let told: Value = serde_json::from_slice(&played.stdout).expect("JSON");
    assert!(played.status.success(), "{told}");
    assert_eq!(
        (&told["joins"], &told["joins_again"], &told["closed"]),
        (&BOTS.into(), &0.into(), &0.into()),
        "{told}"
    );
    assert!(told["sessions_resumed"].as_u64() >= Some(BOTS), "they went along: {told}");

    assert_eq!(a.terminate(), 0);
    let a = place.start("a");
    let refused = place.at("a", &["match", "create", "--on", "a"]);
    assert!(refused.stderr.contains("RK-NODE-204"), "{refused:?}");
    assert_eq!(place.shown("a", "a")["state"], "drained", "over its restart");
    let taken_back = place.offline(&["node", "undrain", "a", "--json"]).expect(0).json();
    assert_eq!((&taken_back["before"], &taken_back["runs"]), (&"drained".into(), &true.into()));
    eventually("a node that takes matches", || {
        (place.at("a", &["match", "create", "--on", "a"]).code == 0).then_some(())
    });
    eventually("that others know it", || (place.shown("b", "a")["state"] == "live").then_some(()));
    a_matchmaker_gets_all_that_its_players_need(&place);
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
}

/// One request to one node: the match on another one, its address, tickets that let players in.
fn a_matchmaker_gets_all_that_its_players_need(place: &Place) {
    let card = |name: &str| -> Value {
        let card = std::fs::read(place.of(name).join("rekindle-data/node.json")).unwrap();
        serde_json::from_slice(&card).unwrap()
    };
    let (a, asked) = (card("a"), card("b"));
    let admin = asked["admin"].as_str().unwrap();
    let wanted = serde_json::json!({
        "game": "arena", "config": {}, "house_bots": 1, "on": "a",
        "seats": [{ "player": 41, "name": "ada" }, { "player": 42 }],
    });
    let created = eventually("a match on the other node", || {
        let (head, body) = http_post(admin, "/v1/matches", &wanted);
        // The link to a node that has just started may not be there yet.
        head.contains(" 200 ").then_some(body)
    });
    assert_eq!(
        (&created["node"], &created["addresses"][0]),
        (&"a".into(), &a["listen"]),
        "{created}"
    );
    assert_eq!(created["certificate_sha256"].as_str().map(str::len), Some(64), "{created}");
    let tickets = created["tickets"].as_array().unwrap();
    assert_eq!((tickets.len(), &tickets[0]["player"]), (2, &41.into()), "{created}");
    assert!(tickets[1]["ticket"].as_str().unwrap().starts_with("v4.public."), "{created}");
    let id = created["id"].as_str().unwrap();
    eventually("its house bot in the match", || {
        let shown = place.at("a", &["match", "show", id, "--json"]).expect(0).json();
        (shown["state"] == "running" && shown["players"] == 1).then_some(())
    });

    let nowhere = serde_json::json!({
        "game": "arena", "config": {}, "house_bots": 0, "on": "nowhere",
    });
    let (head, body) = http_post(admin, "/v1/matches", &nowhere);
    assert!(head.contains(" 400 ") && body.to_string().contains("RK-NODE-210"), "{head} {body}");
}

/// The status line and headers of the answer, and its JSON.
fn http_post(admin: &str, path: &str, body: &Value) -> (String, Value) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_match_with_a_free_seat_is_found_through_every_node() {
    let place = Place::new();
    let (mut a, mut b) = (place.start("a"), place.start("b"));
    a.wait_for(LINKED);
    b.wait_for(LINKED);
    let create = |bots: &str| {
        let args = ["match", "create", "--on", "b", "--bots", bots, "--json"];
        place.at("a", &args).expect(0).json()
    };
    let listed = |at: &str, game: &str| {
        let args = ["match", "ls", "--open", "--game", game, "--json"];
        place.at(at, &args).expect(0).json().as_array().unwrap().clone()
    };
    let id = create("3")["id"].clone();
    let open = |at: &str| listed(at, "arena").into_iter().find(|found| found["id"] == id);
    eventually("the players of a match of the other node", || {
        (open("a")?["players"] == 3 && open("b")?["players"] == 3).then_some(())
    });
    let seats = open("a").unwrap()["seats"].as_u64().unwrap();
    let full = create(&seats.to_string())["id"].clone();
    eventually("a match without a free seat", || {
        let shown = place.at("b", &["match", "show", full.as_str()?, "--json"]).expect(0).json();
        (shown["players"] == seats).then_some(())
    });
    assert!(listed("a", "arena").iter().all(|found| found["id"] != full), "it is full");
    assert!(listed("a", "chess").is_empty());
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
}

#[test]
fn a_node_that_is_decommissioned_ends_and_its_name_is_refused_until_that_is_taken_back() {
    let place = Place::new();
    let (mut a, mut b) = (place.start("a"), place.start("b"));
    a.wait_for(LINKED);
    b.wait_for(LINKED);
    let id = place.create("a");
    place.at("b", &["node", "decommission", "nobody"]).expect(4);
    let gone = place.offline(&["node", "decommission", "a", "--wait", "--json"]).expect(0).json();
    assert_eq!(gone["empty"], true, "{gone}");
    assert_eq!(a.wait(), 0, "its process ends by itself");
    eventually("the match at the other node", || {
        let shown = place.at("b", &["match", "show", &id, "--json"]).expect(0).json();
        (shown["state"] == "running" && shown["node"] == "b").then_some(())
    });

    let mut refused = place.spawn("a");
    assert_eq!(refused.wait(), 1);
    let words = refused.rest();
    assert!(words.contains("RK-NODE-203"), "{words}");
    let status = place.at("b", &["cluster", "status", "--json"]);
    assert!(status.stdout.contains("rekindle node undrain a"), "{status:?}");
    place.at("b", &["node", "undrain", "a"]).expect(0);
    let a = place.start("a");
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
}

#[test]
fn a_match_that_cannot_leave_stays_in_play_and_the_reason_is_told() {
    let place = Place::new();
    let a = place.start("a");
    let id = place.create("a");
    let late = place.at("a", &["node", "drain", "a", "--wait", "--timeout", "4", "--json"]);
    let answer = late.expect(1).json();
    assert_eq!(answer["empty"], false, "{answer}");
    let why = answer["drain"]["stuck"][0].clone();
    assert!(why["id"] == id.as_str() && why["why"].to_string().contains("no other live node"));
    let ready = place.at("a", &["match", "show", &id, "--json"]).expect(0).json();
    assert_eq!(ready["state"], "running", "{ready}");
    assert_eq!(place.shown("a", "a")["state"], "draining");
    assert_eq!(a.terminate(), 0);
}

#[test]
fn a_node_that_joins_gets_matches_of_the_one_that_has_them_all() {
    let place = Place { balanced: true, ..Place::new() };
    let mut a = place.start("a");
    let ids: Vec<String> = (0..3).map(|_| place.create("a")).collect();
    let b = place.start("b");
    let moved = a.wait_for("RK-NODE-206");
    assert_eq!(moved["to"], "b", "{moved}");
    let id = moved["match_id"].as_str().unwrap().to_owned();
    assert!(ids.contains(&id), "{moved}");
    eventually("the match in play at the other node", || {
        let shown = place.at("b", &["match", "show", &id, "--json"]).expect(0).json();
        (shown["state"] == "running" && shown["node"] == "b").then_some(())
    });
    // With two here and one there it is as even as it gets.
    a.stays_silent_about("RK-NODE-206", Duration::from_secs(3));
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
}
