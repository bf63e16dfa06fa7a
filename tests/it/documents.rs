//! Documents in real processes: calls of matches arrive exactly once, whoever is killed; operators
//! call and read through any node.

use std::path::Path;
use std::time::{Duration, Instant};

use rekindle_client::{ClientConfig, GameClient, GameError, Trust};
use rekindle_sim::documents::wire::{Call, Query};
use rekindle_tictactoe::{Ending, PLAYED, Put, RESET, Standing, TicTacToe};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fleet::{Fleet, Size};
use crate::support::{Node, PATIENCE, eventually, rekindle};

/// The kind of document that tic-tac-toe has.
const KIND: &str = "tictactoe-standing";

#[test]
fn an_operator_calls_and_reads_and_what_is_refused_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), &[]);
    let doc = |args: &[&str]| rekindle(dir.path(), &[&["doc"], args].concat());
    let kinds = doc(&["kinds"]).expect(0).stdout;
    assert!(
        kinds.contains(KIND) && kinds.contains("only its own player and operators may"),
        "{kinds}"
    );
    // Of a collection that nobody has used yet.
    let none = doc(&["get", KIND, "7"]);
    assert!(none.code != 0 && none.stderr.contains("RK-DOC-102"), "{none:?}");
    node.said("RK-DOC-127");

    for (args, words) in [
        (&["call", KIND, "played", "7", "\"won\""][..], "RK-DOC-105: an operator may not call"),
        (&["call", KIND, "win", "7"], "RK-DOC-101: no action `win`; there are: played, reset"),
        (&["call", KIND, "reset", "7"], "RK-DOC-102: there is no document `7`"),
        (&["call", KIND, "reset", "7", "{"], "RK-CLI-212"),
        (&["call", "purse", "reset", "7"], "RK-DOC-120: no kind of document `purse`"),
        (&["ls", KIND, "--where", "luck > 1"], "RK-DOC-112: no field `luck`; there are: rounds"),
        (
            &["ls", KIND, "--where", "key = 7"],
            "RK-DOC-112: the filter compares `key`, which is a text",
        ),
        (&["ls", KIND, "--limit", "1001"], "RK-DOC-112: a limit of 1001: at most 1000"),
    ] {
        let refused = doc(args);
        assert!(refused.code != 0 && refused.stderr.contains(words), "{args:?}: {refused:?}");
    }
    let no = doc(&["can", KIND, "reset", "7", "--player", "8"]);
    assert!(no.code != 0 && no.stdout.contains("no: RK-DOC-105: player 8 may not"), "{no:?}");
    let no = doc(&["can", KIND, "reset", "7", "--player", "8", "--json"]).json();
    assert_eq!((&no["refused"]["code"], &no["refused"]["at"]), (&json!("RK-DOC-105"), &json!(0)));
    assert!(no["refused"]["message"].as_str().unwrap().starts_with("RK-DOC-105: player 8"), "{no}");
    let empty = doc(&["ls", KIND, "--explain"]).expect(0).stdout;
    assert!(empty.contains("no documents of this kind") && empty.contains("durable tick"));
    let none = doc(&["ls", KIND, "--where", "key = \"7\""]).expect(0).stdout;
    assert!(none.contains("no document matches the filter"), "{none}");
    // Refusals are in the audit log, too.
    let audit = rekindle(dir.path(), &["audit"]).expect(0).stdout;
    assert!(audit.contains("documents.call") && audit.contains("RK-DOC-105"), "{audit}");
    assert_eq!(node.terminate(), 0);
}

#[test]
fn a_collection_is_no_match_to_play_in_and_says_which_call_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let doc = |args: &[&str]| rekindle(dir.path(), &[&["doc"], args].concat());
    let calls = json!([{ "action": "reset", "key": "7" }, { "action": "win", "key": "7" }]);
    std::fs::write(dir.path().join("calls.json"), calls.to_string()).unwrap();
    for ask in ["call", "can"] {
        let refused = doc(&[ask, KIND, "--file", "calls.json"]);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(refused.code != 0 && said.contains("call 1 of 2"), "{ask}: {said}");
    }
    let ls = rekindle(dir.path(), &["match", "ls", "--json"]).expect(0).json();
    let found = ls.as_array().unwrap().iter().find(|found| found["game"] == KIND).unwrap();
    let id = found["id"].as_str().unwrap();
    let stop = rekindle(dir.path(), &["match", "stop", id]);
    assert!(stop.code != 0 && stop.stderr.contains("RK-DOC-124"), "{stop:?}");
    for args in [&["watch", id, "--seconds", "1"][..], &["bots", "--match", id, "--seconds", "5"]] {
        let refused = rekindle(dir.path(), args).expect(1);
        assert!(refused.stderr.contains("RK-DOC-124"), "{args:?}: {refused:?}");
    }
    // What it answers is shown by its fields, here the answer to the call that was refused.
    let events = rekindle(dir.path(), &["events", id, "--json"]).expect(0).stdout;
    let first: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert!(
        first["fields"]["json"].as_str().is_some_and(|json| json.contains("refused")),
        "{first}"
    );
    let list = rekindle(dir.path(), &["match", "show", id]).expect(0).stdout;
    assert!(list.contains(&format!("a collection: `rekindle doc ls {KIND}`")), "{list}");
    let create = rekindle(dir.path(), &["match", "create", "--game", KIND]);
    assert!(create.code != 0 && create.stderr.contains("RK-DOC-124"), "{create:?}");
    assert_eq!(node.terminate(), 0);
}

/// The answer of `rekindle doc`, with where it comes from.
fn explained(dir: &Path, args: &[&str]) -> Value {
    let asked = rekindle(dir, &[&["doc"], args, &["--explain", "--json"]].concat());
    // A no of `can` is an answer.
    assert!([0, 5].contains(&asked.code), "{args:?}: {asked:?}");
    asked.json()
}

/// Overwrites the middle of every file below a directory.
fn damage(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let (from, to) = (bytes.len() / 8, bytes.len() * 7 / 8);
        bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, bytes).unwrap();
    }
}

/// A match on the node `n1`, until rounds are counted and nothing of it is on its way any more.
fn play_rounds(asked: &Path) {
    let create = ["match", "create", "--game", "tictactoe", "--bots", "2", "--on", "n1"];
    let rematch = ["--game-config", r#"{"rematch":true}"#, "--json"];
    let created = rekindle(asked, &[&create[..], &rematch].concat()).expect(0).json();
    eventually("rounds that are counted", || {
        let stats = rekindle(asked, &["doc", "stats", KIND, "--json"]);
        (stats.code == 0 && stats.json()["rounds"].as_u64() >= Some(4)).then_some(())
    });
    let id = created["id"].as_str().unwrap();
    rekindle(asked, &["match", "stop", id]).expect(0);
    eventually("a match that has delivered what it asked for, and is over", || {
        let shown = rekindle(asked, &["match", "show", id, "--json"]);
        (shown.code == 0 && shown.json()["state"] == "ended").then_some(())
    });
}

#[test]
fn documents_that_no_node_runs_are_read_from_the_store_and_the_answer_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["n1", "n2"].map(|name| dir.path().join(name));
    for place in [&one, &two] {
        std::fs::create_dir_all(place).unwrap();
    }
    let store = format!("local:{}", dir.path().join("store").display());
    let start = |place: &Path, region: &str| {
        let name = place.file_name().unwrap().to_str().unwrap();
        let args = ["--node", name, "--region", region, "--store", &store];
        Node::start(place, &args)
    };
    let first = start(&one, "west");
    // Of another region: it takes over nothing of the first.
    let second = start(&two, "east");
    play_rounds(&one);

    let questions: [&[&str]; 4] = [
        &["ls", KIND, "--where", "rounds >= 1", "--sort", "-rounds"],
        &["stats", KIND],
        &["ls", KIND, "--limit", "1", "--skip", "1"],
        &["can", KIND, "reset", "1", "--player", "1"],
    ];
    let mut known = Vec::new();
    for question in questions {
        let memory = explained(&two, question);
        let beside = explained(&two, &[question, &["--from", "store"]].concat());
        assert_eq!((&memory["source"], &beside["source"]), (&json!("memory"), &json!("store")));
        assert_eq!(memory["answered_by"], "n1");
        assert_eq!(beside["answered_by"], "n2");
        assert_eq!(memory["reply"], beside["reply"], "{question:?}");
        known.push(memory);
    }
    assert!(known[1]["reply"]["stats"]["documents"].as_u64() >= Some(2), "{}", known[1]);

    first.kill();
    for (question, before) in questions.iter().zip(&known) {
        let now = explained(&two, question);
        assert_eq!((&now["source"], &now["answered_by"]), (&json!("store"), &json!("n2")));
        assert_eq!(now["reply"], before["reply"], "{question:?}");
        assert!(now["as_of_tick"].as_u64() >= before["as_of_tick"].as_u64(), "nothing is lost");
        let why = &now["explain"];
        assert_eq!((&why["owner"], &why["state"]), (&json!("n1"), &json!("running")), "{why}");
        assert!(why["why"].as_str().unwrap().starts_with("no node answers from memory"), "{why}");
        assert!(why["age_ms"].as_u64().is_some() && why["plan"].is_object(), "{why}");
    }
    let words = rekindle(&two, &["doc", "stats", KIND, "--explain"]).expect(0).stdout;
    assert!(words.contains("from the store, by n2, as of the collection's durable tick"));
    assert!(words.contains("owned by node n1") && words.contains("by a scan"), "{words}");
    let written = rekindle(&two, &["doc", "call", KIND, "reset", "1", "--player", "1"]);
    assert!(written.code != 0 && written.stderr.contains("RK-DOC-12"), "{written:?}");
    assert_eq!(second.terminate(), 0);

    let none = rekindle(&two, &["doc", "stats", KIND, "--from", "memory"]);
    assert!(none.code != 0 && none.stderr.contains("RK-CLI-001"), "{none:?}");
    let offline = explained(&two, &["stats", KIND, "--store", &store]);
    assert_eq!(offline["reply"], known[1]["reply"]);
    for part in ["checkpoints", "logs"] {
        damage(&dir.path().join("store").join(part));
    }
    let broken = rekindle(&two, &["doc", "stats", KIND, "--store", &store]);
    assert!(broken.code != 0 && broken.stderr.contains("RK-DOC-130"), "{broken:?}");
}

/// Sums over what the store has of the calls of matches, and over the documents.
struct Sums {
    /// Rounds in effects, each counted for two players.
    asked: u64,
    /// Rounds in documents.
    counted: u64,
}

fn sums(fleet: &Fleet, index: usize) -> Option<Sums> {
    let effects =
        fleet.ask(index, &["effects", "ls", "--store", &fleet.local(), "--json"]).expect(0).json();
    let effects = effects.as_array().unwrap().clone();
    let refused = effects.iter().find(|effect| effect["kind"] == "rekindle.call.refused");
    assert_eq!(refused, None, "nothing is refused");
    let calls = effects.iter().filter(|effect| effect["kind"] == "rekindle.call");
    let asked = calls.map(|effect| effect["json"]["calls"].as_array().unwrap().len() as u64).sum();
    let stats = fleet.ask(index, &["doc", "stats", KIND, "--json"]);
    (stats.code == 0).then(|| Sums { asked, counted: stats.json()["rounds"].as_u64().unwrap() })
}

/// The place of the node that runs the collection.
fn keeper(fleet: &Fleet, asked: usize) -> Option<usize> {
    let listed = fleet.ask(asked, &["match", "ls", "--json"]);
    let matches: Value = (listed.code == 0).then(|| listed.json())?;
    let found = matches.as_array()?.iter().find(|found| found["game"] == KIND)?.clone();
    (0..3).find(|index| found["node"] == json!(Fleet::name(*index)))
}

#[test]
fn each_round_is_counted_exactly_once_though_nodes_of_matches_and_of_the_collection_are_killed() {
    let mut fleet = Fleet::new(Size { nodes: 3, matches: 0, seats: 0 });
    let store = fleet.local();
    let mut nodes: Vec<Option<Node>> = fleet.start_all(&store).into_iter().map(Some).collect();
    let mut matches = Vec::new();
    for index in 0..6 {
        let name = Fleet::name(index % 3);
        let create = ["match", "create", "--game", "tictactoe", "--bots", "2", "--on", &name];
        let rematch = ["--game-config", r#"{"rematch":true}"#, "--json"];
        let created = fleet.ask(index % 3, &[&create[..], &rematch].concat()).expect(0).json();
        matches.push(created["id"].as_str().unwrap().to_owned());
    }
    let reached = |fleet: &Fleet, at: usize, least: u64| {
        eventually("rounds that are counted", || {
            sums(fleet, at).filter(|sums| sums.counted >= least).map(|sums| sums.counted)
        })
    };
    let mut counted = reached(&fleet, 0, 4);
    for kill in 0..4 {
        let keeper = eventually("a collection that runs", || keeper(&fleet, kill % 3));
        // In turns the node that keeps the documents and one that does not; each has matches.
        let victim = if kill % 2 == 0 { keeper } else { (keeper + 1) % 3 };
        let other = (victim + 1) % 3;
        nodes[victim].take().expect("it runs").kill();
        counted = reached(&fleet, other, counted + 4);
        nodes[victim] = Some(fleet.start(victim, &store));
    }
    for id in &matches {
        eventually("a match that is stopped", || {
            let at = (0..3).find(|index| {
                let stop = fleet.ask(*index, &["match", "stop", id]);
                stop.code == 0 || stop.stderr.contains("ended")
            });
            at.map(|_| ())
        });
    }
    // A match has delivered its effects when it has ended.
    let until = Instant::now() + PATIENCE;
    let sums = loop {
        let found = sums(&fleet, 0).expect("the collection answers");
        if found.asked == found.counted || Instant::now() > until {
            break found;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(sums.counted, sums.asked, "rounds in documents, and in effects");
    assert!(sums.asked >= 20, "{} rounds", sums.asked);
}

/// A player of tic-tac-toe against a house bot, at the second node, who knows the addresses of all.
fn player(fleet: &Fleet, number: u64) -> GameClient<TicTacToe> {
    let create = ["match", "create", "--game", "tictactoe", "--bots", "1", "--on", "n2"];
    let rematch = ["--game-config", r#"{"rematch":true}"#, "--json"];
    let created = fleet.ask(1, &[&create[..], &rematch].concat()).expect(0).json();
    let issue = ["ticket", "issue", "--player", &number.to_string()];
    let ticket = fleet.ask(1, &issue).expect(0).stdout;
    let certificate = std::fs::read(fleet.place(1).join("rekindle-data/cert.der")).unwrap();
    let addrs = vec![fleet.addr(1), fleet.addr(0)];
    let mut config = ClientConfig::new(addrs, Trust::Certificate(certificate), ticket.trim());
    config.match_id = created["id"].as_str().unwrap().parse().ok();
    GameClient::connect(config).unwrap()
}

async fn soon<T>(waiting: impl Future<Output = T>) -> T {
    timeout(PATIENCE, waiting).await.expect("it comes in time")
}

/// The code of a refusal.
fn code<T: std::fmt::Debug>(asked: Result<T, GameError>) -> String {
    match asked {
        Err(GameError::Documents { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_players_client_calls_and_reads_by_itself_also_while_the_node_of_the_documents_is_killed() {
    let mut fleet = Fleet::new(Size { nodes: 2, matches: 0, seats: 0 });
    let store = fleet.local();
    let mut nodes: Vec<Option<Node>> = fleet.start_all(&store).into_iter().map(Some).collect();
    let runtime = crate::fleet::runtime();
    let _inside = runtime.enter();
    let mut client = player(&fleet, 7);
    runtime.block_on(soon(client.joined())).unwrap();

    // It puts its mark into the first cell that is free, until a round is over and counted.
    let played = runtime.block_on(soon(async {
        loop {
            for place in 0..9 {
                client.ask(&Put { place }).await.unwrap();
            }
            if let Some(own) = client.get::<Standing>("7").await.unwrap() {
                break own;
            }
        }
    }));
    assert!(played.document["rounds"].as_u64() >= Some(1), "{played:?}");
    runtime.block_on(async {
        // The house bot has played as many.
        let all = soon(client.query::<Standing>(Query::default())).await.unwrap();
        assert_eq!(all.len(), 2, "{all:?}");
        let other = all.iter().find(|row| row.key != "7").unwrap().key.clone();
        assert_eq!(
            code(soon(client.call::<Standing>(vec![RESET.on(other, &())])).await),
            "RK-DOC-105"
        );
        let cheats = vec![PLAYED.on(7, &Ending::Won)];
        assert_eq!(code(soon(client.call::<Standing>(cheats)).await), "RK-DOC-105");
        let late = Call { if_version: Some(played.version + 1_000), ..RESET.on(7, &()) };
        assert_eq!(code(soon(client.call::<Standing>(vec![late])).await), "RK-DOC-104");
    });

    let keeper = eventually("a collection that runs", || keeper(&fleet, 1));
    nodes[keeper].take().expect("it runs").kill();
    runtime.block_on(soon(async {
        // Who is not told whether it was done looks, and asks again.
        loop {
            match client.call::<Standing>(vec![RESET.on(7, &())]).await {
                Ok(done) => break assert_eq!(done[0].key, "7"),
                Err(GameError::Unknown { .. }) => {}
                // It was done, and nobody could say so.
                Err(GameError::Documents { code, .. }) if code == "RK-DOC-102" => break,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(client.get::<Standing>("7").await.unwrap(), None, "it began anew");
    }));
}
