//! What operators do with the nodes of a cluster: drain one while it is played on, take that back,
//! decommission one for good.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Done, Node, command, eventually, http_get, rekindle};

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
        self.spawn_with(name, &[])
    }

    fn spawn_with(&self, name: &str, more: &[&str]) -> Node {
        let named = format!("node.name={name}");
        // Matches are to be moved once nodes have been the same for a second, not for a minute.
        let soon = ["--set", "cluster.rebalance_after_s=1"];
        let off = ["--set", "cluster.rebalance=false"];
        let balance = if self.balanced { soon } else { off };
        let args = ["--store", &self.store, "--set", &named];
        Node::spawn(&self.of(name), &[&args[..], &balance, more].concat())
    }

    fn start(&self, name: &str) -> Node {
        let mut node = self.spawn(name);
        node.wait_for("RK-NODE-001");
        node
    }

    /// Two nodes with links to each other. The second runs two matches at most.
    fn start_two(&self) -> (Node, Node) {
        let mut a = self.start("a");
        let mut b = self.spawn_with("b", &["--set", "limits.matches=2"]);
        b.wait_for("RK-NODE-001");
        a.wait_for(LINKED);
        b.wait_for(LINKED);
        (a, b)
    }

    /// What a running node says of itself.
    fn card(&self, name: &str) -> Value {
        let card = std::fs::read(self.of(name).join("rekindle-data/node.json")).unwrap();
        serde_json::from_slice(&card).unwrap()
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

#[test]
fn a_node_that_has_just_started_can_be_named_for_a_match_at_every_other() {
    let place = Place::new();
    let (mut a, b) = (place.start("a"), place.start("b"));
    for _ in 0..3 {
        a.kill();
        a = place.start("a");
        // The link to it may not be there yet: it is waited for.
        let created = place.at("b", &["match", "create", "--on", "a", "--json"]).expect(0).json();
        assert_eq!(created["node"], "a", "{created}");
    }
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
}

/// One request to one node: the match on another one, its address, tickets that let players in.
fn a_matchmaker_gets_all_that_its_players_need(place: &Place) {
    let (a, asked) = (place.card("a"), place.card("b"));
    let admin = asked["admin"].as_str().unwrap();
    let wanted = serde_json::json!({
        "game": "arena", "config": {}, "house_bots": 1, "on": "a",
        "seats": [{ "player": 41, "name": "ada" }, { "player": 42 }],
    });
    let (head, created) = http_post(admin, "/v1/matches", &wanted);
    assert!(head.contains(" 200 "), "{head} {created}");
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

    // The same at the command line, for people.
    let listen = a["listen"].as_str().unwrap();
    let said = place.at("b", &["match", "create", "--on", "a", "--ticket", "41,42"]).expect(0);
    for words in [&format!("address    {listen}"), "player 41: v4.public.", "player 42: v4.public."]
    {
        assert!(said.stdout.contains(words), "{words}: {said:?}");
    }

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
    // Bots that ask the node without matches play at the one that has it.
    let admin = place.card("a")["admin"].as_str().unwrap().to_owned();
    let bots = ["bots", "--admin", &admin, "--count", "2", "--seconds", "3", "--json"];
    let played = rekindle(place.dir.path(), &bots).expect(0).json();
    assert_eq!((&played["joins"], &played["closed"]), (&2.into(), &0.into()), "{played}");
    assert!(played["inputs_durable"].as_u64() > Some(10), "{played}");
    let none = rekindle(place.dir.path(), &["bots", "--admin", &admin, "--game", "tictactoe"]);
    assert!(none.code == 4 && none.stderr.contains("RK-CLI-012"), "{none:?}");
    let seats = open("a").unwrap()["seats"].as_u64().unwrap();
    assert_eq!(open("a").unwrap()["reason"], Value::Null, "its node was asked");
    let table = place.at("a", &["match", "ls", "--open"]).expect(0).stdout;
    assert!(table.contains(&format!("3/{seats}")) && !table.contains("note:"), "{table}");
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
fn a_lobby_finds_open_matches_by_game_and_properties() {
    let place = Place::new();
    let a = place.start("a");
    let create = |properties: &[&str]| {
        let mut args = vec!["match", "create", "--bots", "1", "--json"];
        for property in properties {
            args.extend(["--property", property]);
        }
        place.at("a", &args).expect(0).json()["id"].clone()
    };
    let duel = create(&["mode=duel", "map=old-town"]);
    let (other, plain) = (create(&["mode=duel", "map=sea"]), create(&[]));
    let listed = |properties: &[&str]| {
        let mut args = vec!["match", "ls", "--open", "--game", "arena", "--json"];
        for property in properties {
            args.extend(["--property", property]);
        }
        place.at("a", &args).expect(0).json().as_array().unwrap().clone()
    };
    let ids = |found: &[Value]| found.iter().map(|found| found["id"].clone()).collect::<Vec<_>>();
    let found = listed(&["map=old-town", "mode=duel"]);
    assert_eq!(ids(&found), std::slice::from_ref(&duel));
    assert_eq!(found[0]["properties"], serde_json::json!({"mode": "duel", "map": "old-town"}));
    let both = ids(&listed(&["mode=duel"]));
    assert!(both.len() == 2 && both.contains(&duel) && both.contains(&other), "{both:?}");
    assert!(ids(&listed(&[])).contains(&plain));
    assert!(listed(&["mode=race"]).is_empty());
    // Lists are asked in the words of documents.
    let asked = |words: &[&str]| {
        let args = [&["match", "ls", "--game", "arena", "--json"], words].concat();
        place.at("a", &args)
    };
    let found = |words: &[&str]| ids(asked(words).expect(0).json().as_array().unwrap());
    let old = r#"properties.map in ("old-town", "new-town") and tick_rate >= 30"#;
    assert_eq!(found(&["--where", old]), std::slice::from_ref(&duel));
    let sorted = [other.clone(), duel.clone(), plain.clone()];
    let made_here = r#"properties.mode = "duel" or house_bots = 1"#;
    assert_eq!(found(&["--sort", "-properties.map", "--where", made_here]), sorted);
    assert_eq!(found(&["--sort", "properties.map", "--limit", "1"]).len(), 1);
    for (filter, words) in [
        ("players > \"4\"", "`players`, which is a number"),
        ("player > 4", "no field `player`, did you mean `players`?"),
        ("players >", "the filter `players >`"),
    ] {
        let refused = asked(&["--where", filter]);
        assert!(refused.code != 0 && refused.stderr.contains(words), "{filter}: {refused:?}");
    }
    let shown = place.at("a", &["match", "show", duel.as_str().unwrap()]).expect(0).stdout;
    assert!(shown.contains("property   mode=duel"), "{shown}");
    let wrong = place.at("a", &["match", "ls", "--property", "duel"]);
    let words = "write NAME=VALUE, like mode=duel";
    assert!(wrong.code != 0 && wrong.stderr.contains(words), "{wrong:?}");
    assert_eq!(a.terminate(), 0);
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

#[test]
fn an_operator_evens_out_a_cluster_through_any_node_and_is_told_what_could_not_be_done() {
    let place = Place::new();
    let (mut a, mut b) = place.start_two();
    for _ in 0..5 {
        place.create("a");
    }
    let rebalance =
        |more: &[&str]| place.at("b", &[&["cluster", "rebalance", "--json"][..], more].concat());
    let count = |answer: &Value, what: &str| answer[what].as_array().map(Vec::len);

    let plan = rebalance(&["--dry-run"]).expect(0).json();
    assert_eq!((count(&plan, "moves"), count(&plan, "moved")), (Some(2), None), "{plan}");
    let first = &plan["moves"][0];
    assert_eq!((&first["from"], &first["to"]), (&"a".into(), &"b".into()), "{plan}");
    assert!(first["why"].as_str().unwrap().contains("node a runs 5, its share is 2.5"), "{plan}");
    assert_eq!(place.shown("b", "b")["matches"], 0, "nothing has moved");

    let done = rebalance(&[]).expect(0);
    let answer = done.json();
    assert_eq!((count(&answer, "moved"), count(&answer, "stayed")), (Some(2), Some(0)), "{answer}");
    assert!(done.stderr.contains("2 of 2: match"), "progress is shown: {done:?}");
    let ticks = b.wait_for("RK-NODE-224");
    assert!(ticks["pause_ms"].is_u64(), "{ticks}");
    let admin = place.card("b")["admin"].as_str().unwrap().to_owned();
    eventually("the pauses of both as a metric", || {
        let metrics = http_get(&admin, "/metrics");
        metrics.contains("rekindle_migration_pause_seconds_count 2").then_some(())
    });
    let nothing = place.at("a", &["cluster", "rebalance"]).expect(0);
    assert!(nothing.stderr.contains("nothing has to move"), "{nothing:?}");

    // A match of the other node, moved through the one that is to have it.
    let id = answer["moved"][0]["id"].as_str().unwrap();
    let back = place.at("a", &["match", "migrate", id, "--to", "a", "--json"]).expect(0).json();
    assert_eq!(back["node"], "a", "{back}");
    place.at("b", &["match", "migrate", id, "--to", "b"]).expect(0);

    // The other node is full now.
    for _ in 0..3 {
        place.create("a");
    }
    let answer = rebalance(&[]).expect(1).json();
    assert_eq!((count(&answer, "moved"), count(&answer, "stayed")), (Some(0), Some(2)), "{answer}");
    assert!(answer["stayed"][0]["why"].as_str().unwrap().contains("RK-NODE-182"), "{answer}");
    a.stays_silent_about("RK-NODE-206", Duration::ZERO);
    assert_eq!((a.terminate(), b.terminate()), (0, 0));
}

#[test]
fn a_chosen_node_that_refuses_or_hangs_makes_no_second_owner_and_a_retry_works() {
    let place = Place::new();
    let (mut a, b) = place.start_two();
    let held = [place.create("b"), place.create("b")];
    for _ in 0..3 {
        place.create("a");
    }
    // The other node has less to do, so it is chosen, and it is full.
    let create =
        |more: &[&str]| place.at("a", &[&["match", "create", "--json"][..], more].concat());
    assert_eq!(create(&[]).expect(0).json()["node"], "a");
    a.wait_for("RK-NODE-217");
    let refused = create(&["--on", "b"]);
    assert!(refused.code != 0 && refused.stderr.contains("RK-NODE-215"), "{refused:?}");

    for id in &held {
        place.at("b", &["match", "stop", id]).expect(0);
    }
    b.signal(Signal::STOP);
    let frozen = create(&["--on", "b"]);
    // On a slow machine it may look dead before it is asked: then it is certain that nothing was.
    let unknown = frozen.stderr.contains("RK-NODE-216: it is unknown whether node b has created");
    assert!(frozen.code != 0 && (unknown || frozen.stderr.contains("RK-NODE-213")), "{frozen:?}");
    assert_eq!(create(&[]).expect(0).json()["node"], "a", "nobody waits for it again");

    b.signal(Signal::CONT);
    let mut nodes = vec![b];
    let again = eventually("a match at the node that hung", || {
        if nodes.last_mut()?.has_ended() {
            nodes.push(place.start("b"));
        }
        let again = create(&["--on", "b"]);
        (again.code == 0).then(|| again.json())
    });
    assert_eq!(again["node"], "b", "{again}");
    let running = ["a", "b"].map(|name| {
        let listed = place.at(name, &["match", "ls", "--json"]).expect(0).json();
        let running = listed.as_array().unwrap().iter().filter(|of| of["state"] == "running");
        running.map(|of| of["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    });
    assert!(running[0].is_disjoint(&running[1]), "two owners: {running:?}");
    assert!(running[1].contains(again["id"].as_str().unwrap()), "{running:?}");

    // One that is dead is not waited for at all.
    nodes.pop().unwrap().kill();
    let dead = create(&["--on", "b"]);
    assert!(dead.code != 0, "{dead:?}");
    assert_eq!(create(&[]).expect(0).json()["node"], "a");
    drop(nodes);
    assert_eq!(a.terminate(), 0);
}
