//! Events by type and fields, out of what is stored and as they come from all nodes; statistics of
//! matches.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Node, Told, command, eventually, rekindle};

fn create(dir: &Path, args: &[&str]) -> String {
    let all: Vec<&str> = ["match", "create", "--json"].iter().chain(args).copied().collect();
    rekindle(dir, &all).expect(0).json()["id"].as_str().unwrap().to_owned()
}

fn lines(dir: &Path, args: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let stdout = rekindle(dir, &all).expect(0).stdout;
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A game of tictactoe that house bots play to its end.
fn played(dir: &Path) -> String {
    let id = create(dir, &["--game", "tictactoe", "--bots", "2"]);
    eventually("the end of the match", || {
        rekindle(dir, &["match", "show", &id]).stdout.contains("draw").then_some(())
    });
    id
}

#[test]
fn events_are_found_by_type_player_and_tick_while_a_node_runs_and_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let node = Node::start(dir, &[]);
    let id = played(dir);
    let all = lines(dir, &["events", &id]);
    assert_eq!(all.len(), 9, "each of nine fields is marked once: {all:?}");
    let places: BTreeSet<u64> =
        all.iter().map(|event| event["fields"]["place"].as_u64().unwrap()).collect();
    assert_eq!(places, (0..9).collect());
    let first = &all[0];
    assert_eq!(
        (&first["event"], &first["match"], &first["game"]),
        (&"put".into(), &id[..].into(), &"tictactoe".into())
    );
    let player = first["fields"]["player"].to_string();
    let of_player = lines(dir, &["events", &id, "--type", "put", "--player", &player]);
    assert_eq!(of_player.len(), 5, "who begins makes five marks: {of_player:?}");
    let nothing = rekindle(dir, &["events", &id, "--player", "77"]).expect(0);
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("no such event is recorded in 1"));
    let second = all[1]["tick"].to_string();
    let span = lines(dir, &["events", &id, "--from", &second, "--to", &second]);
    assert_eq!(span, all[1..2]);
    assert_eq!(lines(dir, &["events", "--game", "tictactoe", "--since", "1h"]), all);
    let time = all[8]["time"].as_str().unwrap();
    assert_eq!(time.len(), "2026-11-25T12:00:00.250Z".len(), "{time}");
    assert!(lines(dir, &["events", &id, "--since", time]).contains(&all[8]));

    questions_are_answered_in_words(dir, &id);
    let gone = rekindle(dir, &["match", "stats", &id, "--store", "local:gone", "--data-dir", "x"]);
    assert!(gone.code == 4 && gone.stderr.contains("RK-NODE-027: gone is no data"), "{gone:?}");
    // A ticket is for the match that a prefix names, and for none that is not there.
    let ticket = ["ticket", "issue", "--player", "7", "--match"];
    rekindle(dir, &[&ticket[..], &["zz"]].concat()).expect(4);
    rekindle(dir, &[&ticket[..], &[&id[..6]]].concat()).expect(0);
    let audit = rekindle(dir, &["audit"]).expect(0).stdout;
    assert!(audit.contains(&format!("ttl_s=3600 match={id}")), "{audit}");
    let none = rekindle(dir, &["events", "--game", "tictacto"]).expect(4).stderr;
    assert!(none.contains("RK-CLI-231") && none.contains("arena"), "{none}");

    // Statistics out of the store, for the match is over: asked of the node, then without one.
    let stats = rekindle(dir, &["match", "stats", &id, "--json"]).expect(0).json();
    let marks = &stats["statistics"][0];
    assert_eq!((&stats["source"], &marks["name"]), (&"store".into(), &"marks".into()));
    assert_eq!(marks["total"], json!({ "count": 9, "sum": 9, "min": 1, "max": 1 }));
    assert_eq!(marks["players"].as_array().unwrap().len(), 2);
    // Values by name likewise, and of any tick by a replay.
    let values = rekindle(dir, &["match", "values", &id, "--json"]).expect(0).json();
    let by_mark = json!({ "name": "cells_by_mark", "value": { "1": 5, "2": 4 } });
    assert_eq!((&values["source"], &values["values"]), (&"store".into(), &json!([by_mark])));
    let words = rekindle(dir, &["match", "values", &id]).expect(0).stdout;
    assert!(words.contains("cells_by_mark") && words.contains(r#"{"1":5,"2":4}"#), "{words}");
    let before = rekindle(dir, &["replay", &id, "--to", "1", "--json"]).expect(0).json();
    assert_eq!(before["values"][0]["value"], json!({ "0": 9 }), "{before}");
    assert_eq!(node.terminate(), 0);
    assert_eq!(rekindle(dir, &["match", "stats", &id, "--json"]).expect(0).json(), stats);
    assert_eq!(rekindle(dir, &["match", "values", &id, "--json"]).expect(0).json(), values);
    assert_eq!(lines(dir, &["events", &id]), all);
    let words = rekindle(dir, &["events", &id]).expect(0).stdout;
    assert!(words.contains(r#" put {"place":"#), "{words}");
    let commands = lines(dir, &["journal", &id]);
    let commands: Vec<&Value> = commands.iter().filter(|line| line["kind"] == "command").collect();
    assert!(commands.len() >= 9 && commands[0]["fields"]["place"].is_u64(), "{commands:?}");
    let follow = rekindle(dir, &["events", &id, "--follow"]).expect(3).stderr;
    assert!(follow.contains("RK-CLI-232"), "{follow}");
}

/// Questions that nothing answers say what is wrong with them.
fn questions_are_answered_in_words(dir: &Path, id: &str) {
    let typo = rekindle(dir, &["events", id, "--type", "putt"]).expect(2).stderr;
    assert!(typo.contains("RK-CLI-230") && typo.contains("did you mean `put`?"), "{typo}");
    let comma = rekindle(dir, &["events", id, "--type", "put,"]).expect(2).stderr;
    assert!(comma.contains("a comma too many"), "{comma}");
    let far = rekindle(dir, &["events", "--type", "kll"]).expect(2).stderr;
    assert!(far.contains("did you mean `kill`?"), "the nearest of all games: {far}");
    let empty = rekindle(dir, &["events", ""]).expect(4).stderr;
    assert!(empty.contains("RK-CLI-234"), "{empty}");
    let beside = rekindle(dir, &["events", id, "--admin", "127.0.0.1:1"]).expect(0).stderr;
    assert!(beside.contains("does not ask the node of --admin"), "{beside}");
}

/// Two nodes beside one store.
struct Pair(tempfile::TempDir);

impl Pair {
    fn place(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self, name: &str) -> Node {
        std::fs::create_dir(self.place(name)).unwrap();
        let store = format!("local:{}", self.place("store").display());
        Node::start(&self.place(name), &["--store", &store, "--set", &format!("node.name={name}")])
    }

    fn on_store(&self, args: &[&str]) -> Vec<String> {
        let store = format!("local:{}", self.place("store").display());
        args.iter().map(|arg| (*arg).to_owned()).chain(["--store".to_owned(), store]).collect()
    }
}

/// The lines of a stream of the admin interface, read until `last` was among them.
fn stream_until(admin: &str, path: &str, last: &str) -> Vec<String> {
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(stream).lines() {
        seen.push(line.unwrap_or_else(|error| panic!("{error}: {seen:#?}")));
        if seen.last().is_some_and(|line| line.contains(last)) {
            return seen;
        }
    }
    seen
}

#[test]
fn events_of_all_nodes_are_followed_once_and_in_order_while_one_is_killed() {
    let pair = Pair(tempfile::tempdir().unwrap());
    let first = pair.start("a");
    let second = pair.start("b");
    let b = pair.place("b");
    let mut follow = command(&b);
    follow.args(pair.on_store(&["events", "--follow", "--since", "1h", "--json"]));
    let mut follow = Told::from_command(follow);
    let arena = ["--game", "arena", "--bots", "4", "--game-config", r#"{"rematch":true}"#];
    let moved = create(&pair.place("a"), &[&arena[..], &["--on", "a"]].concat());
    let stays = create(&b, &[&arena[..], &["--on", "b"]].concat());
    for id in [&moved, &stays] {
        follow.wait_for(&format!(r#""match":"{id}""#));
    }
    // Statistics of a match of another node come from the store.
    let stats = rekindle(&b, &["match", "stats", &moved, "--json"]).expect(0).json();
    assert_eq!((&stats["source"], &stats["statistics"]), (&"store".into(), &json!([])));
    let stats = rekindle(&b, &["match", "stats", &stays, "--json"]).expect(0).json();
    assert_eq!(stats["source"], "memory");
    first.kill();
    eventually("the match at the other node", || {
        let place = rekindle(&b, &["match", "where", &moved, "--json"]);
        (place.code == 0 && place.json()["place"] == "here").then_some(())
    });
    rekindle(&b, &["match", "stop", &moved, "--reason", "enough"]).expect(0);
    rekindle(&b, &["match", "stop", &stays, "--reason", "enough"]).expect(0);
    for _ in [&moved, &stays] {
        follow.wait_for(r#"{"ended":{"match":"#);
    }
    let told: Vec<Value> =
        follow.seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for id in [&moved, &stays] {
        let stored = pair.on_store(&["events", id]);
        let all = lines(&b, &stored.iter().map(String::as_str).collect::<Vec<_>>());
        let of: Vec<&Value> = told.iter().filter(|event| event["match"] == id[..]).collect();
        assert!(!all.is_empty() && of == all.iter().collect::<Vec<_>>(), "{id}: {of:#?}, {all:#?}");
    }

    // The same over HTTP, from a node that had neither at first: past and end of one match.
    let card = std::fs::read(b.join("rekindle-data/node.json")).unwrap();
    let card: Value = serde_json::from_slice(&card).unwrap();
    let admin = card["admin"].as_str().unwrap();
    let path = format!("/v1/events?match={moved}&since_ms=0");
    let stream = stream_until(admin, &path, "no line has this").join("\n");
    assert!(stream.contains("text/event-stream") && stream.contains("event: event"), "{stream}");
    let wrong = stream_until(admin, "/v1/events?type=kil", "RK-ADMIN").join("\n");
    assert!(wrong.contains(" 400 ") && wrong.contains("did you mean `kill`?"), "{wrong}");
    assert_eq!(second.terminate(), 0);
}
