//! A node as its operator meets it: starts, dies, comes back, stops.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Node, command, eventually, http_get, rekindle};
use serde_json::Value;

/// Creates a match with house bots and returns its id.
fn create(dir: &Path, bots: &str) -> String {
    let created = rekindle(
        dir,
        &["match", "create", "--bots", bots, "--game-config", r#"{"rematch":true}"#, "--json"],
    )
    .expect(0)
    .json();
    created["id"].as_str().unwrap().to_owned()
}

fn show(dir: &Path, id: &str) -> Value {
    rekindle(dir, &["match", "show", id, "--json"]).expect(0).json()
}

/// Waits until a match of the running node has published this tick.
fn wait_for_tick(dir: &Path, id: &str, tick: u64) -> Value {
    eventually("the tick", || {
        Some(show(dir, id)).filter(|view| view["tick"].as_u64().unwrap() >= tick)
    })
}

#[test]
fn after_kill_9_the_same_match_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let id = create(dir.path(), "4");
    wait_for_tick(dir.path(), &id, 70);
    node.kill();

    // What the dead node left is whole, and says where it stands.
    let found = rekindle(dir.path(), &["verify", "--json"]).expect(0).json();
    let (tick, hash) =
        (found["matches"][0]["to_tick"].as_u64().unwrap(), found["matches"][0]["hash"].clone());
    assert!(tick >= 70 && found["matches"][0]["beats"].as_u64().unwrap() >= 2, "{found}");
    let replayed = rekindle(dir.path(), &["replay", &id[..6], "--json"]).expect(0).json();
    assert_eq!((replayed["tick"].as_u64(), &replayed["hash"]), (Some(tick), &hash));

    let mut node = Node::spawn(dir.path(), &[]);
    let resumed = node.wait_for("RK-NODE-010");
    assert_eq!(
        (resumed["match_id"].as_str(), resumed["tick"].as_u64()),
        (Some(id.as_str()), Some(tick))
    );
    assert_eq!(resumed["hash_ok"], true);
    node.wait_for("RK-NODE-001");
    let view = wait_for_tick(dir.path(), &id, tick + 40);
    assert_eq!(
        (view["epoch"].as_u64(), view["players"].as_u64()),
        (Some(2), Some(4)),
        "the same four bots, no more: {view}"
    );
    node.kill();

    // The next epoch continues the history: simulated again from tick 0 on, it passes through the
    // same state.
    let replayed = rekindle(dir.path(), &["replay", &id, "--to", &tick.to_string(), "--json"])
        .expect(0)
        .json();
    assert_eq!(replayed["hash"], hash);
    rekindle(dir.path(), &["verify"]).expect(0);
}

#[test]
fn a_signal_during_recovery_is_a_clean_stop_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let id = create(dir.path(), "2");
    wait_for_tick(dir.path(), &id, 40);
    node.kill();

    let mut node = Node::spawn(dir.path(), &[]);
    node.wait_for("RK-NODE-019");
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);

    let mut node = Node::spawn(dir.path(), &[]);
    let resumed = node.wait_for("RK-NODE-010");
    assert_eq!(
        (resumed["match_id"].as_str(), resumed["replayed"].as_u64()),
        (Some(id.as_str()), Some(0)),
        "it was put away: {resumed}"
    );
    node.wait_for("RK-NODE-001");
    assert_eq!(
        node.terminate(),
        0,
        "neither is one that comes as soon as the node is ready too early"
    );
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let id = create(dir.path(), "2");
    wait_for_tick(dir.path(), &id, 10);
    assert_eq!(node.terminate(), 0);
    assert!(!dir.path().join("rekindle-data/node.json").exists());
    rekindle(dir.path(), &["match", "ls"]).expect(3);

    let mut node = Node::spawn(dir.path(), &[]);
    assert_eq!(node.wait_for("RK-NODE-010")["replayed"], 0);
    node.wait_for("RK-NODE-001");
    let drained = rekindle(dir.path(), &["drain", "--json"]).expect(0).json();
    assert_eq!(drained["matches"], 1);
    assert_eq!(node.wait(), 0);

    // However soon the stop came, it is not counted against the match.
    let node = Node::start(dir.path(), &[]);
    let shown = rekindle(dir.path(), &["match", "show", &id, "--json"]).expect(0).json();
    assert!(shown["attempts"].as_u64().unwrap() <= 1, "{shown}");
    assert_eq!(node.terminate(), 0);
}

#[test]
fn a_connection_that_breaks_is_told_from_an_answer_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let half = "HTTP/1.0 200 OK\r\ncontent-length: 40\r\n\r\n[";
    for (answer, code, words) in [
        ("", 3, "RK-ADMIN-003: the connection to the node at http://127.0.0.1"),
        (half, 3, "1 of its 40 bytes came"),
        ("220 mail\r\n", 1, "RK-ADMIN-002"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let node = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let asked = rekindle(dir.path(), &["match", "ls", "--admin", &addr]).expect(code);
        assert!(asked.stderr.contains(words), "{answer:?}: {asked:?}");
        node.join().unwrap();
    }
}

#[test]
fn matches_are_listed_shown_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let _node = Node::start(dir.path(), &[]);
    let (one, two) = (create(dir.path(), "0"), create(dir.path(), "2"));
    let listed = rekindle(dir.path(), &["match", "ls", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    wait_for_tick(dir.path(), &two, 3);
    let stopped = rekindle(dir.path(), &["match", "stop", &one, "--reason", "enough", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        (stopped["state"].as_str(), stopped["reason"].as_str()),
        (Some("ended"), Some("enough"))
    );
    for (args, done) in
        [(["match", "stop", &one], "stopped"), (["match", "profile", &one], "profiled")]
    {
        let ended = rekindle(dir.path(), &args).expect(1).stderr;
        assert!(
            ended.contains(&format!("RK-ADMIN-409: match {one} has ended at tick ")),
            "{ended}"
        );
        assert!(ended.contains("Z (enough): it cannot be") && ended.contains(done), "{ended}");
    }
    let show = rekindle(dir.path(), &["match", "show", &one]).expect(0).stdout;
    assert!(show.contains("players    none: it is over"), "{show}");
    rekindle(dir.path(), &["match", "profile", &two, "--seconds", "0"]).expect(2);
    let profile = rekindle(dir.path(), &["match", "profile", &two, "--seconds", "2", "--json"])
        .expect(0)
        .json();
    let ticks = profile["tick"]["runs"].as_u64().unwrap();
    assert!(ticks >= 20 && profile["load"].as_f64().unwrap() > 0.0, "{profile}");
    let parts = |stage: &Value| stage["parts"].as_array().unwrap().clone();
    let parts: Vec<Value> = profile["stages"].as_array().unwrap().iter().flat_map(parts).collect();
    for name in ["steer", "journal outbox"] {
        let found = parts.iter().find(|part| part["name"] == name);
        let runs = found.and_then(|part| part["times"]["runs"].as_u64());
        assert_eq!(runs, Some(ticks), "{name}: {profile}");
    }
    let done = rekindle(dir.path(), &["match", "show", "zz"]).expect(4);
    assert!(done.stderr.contains("no match begins with `zz`"), "{}", done.stderr);
    let done = rekindle(dir.path(), &["match", "create", "--game", "chess"]).expect(2);
    assert!(done.stderr.contains("this node has: arena"), "{}", done.stderr);
    let done =
        rekindle(dir.path(), &["match", "create", "--game-config", r#"{"widht":30}"#]).expect(2);
    assert!(done.stderr.contains("widht"), "{}", done.stderr);
    let wrong = ["match", "create", "--game-config", r#"{"width":"wide"}"#];
    let done = rekindle(dir.path(), &wrong).expect(2);
    let words = "`width`: expected a number, found the text \"wide\"";
    assert!(done.stderr.contains(words), "{}", done.stderr);

    let backwards = rekindle(dir.path(), &["journal", &two, "--from", "9", "--to", "5"]).expect(2);
    assert!(backwards.stderr.contains("RK-CLI-269"), "{}", backwards.stderr);
    let journal = rekindle(dir.path(), &["journal", &two, "--from", "1", "--to", "60", "--json"])
        .expect(0)
        .stdout;
    let lines: Vec<Value> =
        journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["kind"] == "join").count(), 2);
    assert!(lines.windows(2).all(|pair| pair[0]["tick"].as_u64() <= pair[1]["tick"].as_u64()));
}

#[test]
fn a_directory_has_one_node_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let done =
        rekindle(dir.path(), &["start", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .expect(7);
    assert!(done.stderr.contains(&format!("pid {}", node.pid())), "{}", done.stderr);
    // Also where its ports would be found taken: who types the same twice has forgotten the first.
    let ports = std::fs::read(dir.path().join("rekindle-data/node.json")).unwrap();
    let ports: Value = serde_json::from_slice(&ports).unwrap();
    let (listen, admin) = (&ports["listen"], &ports["admin"]);
    let again = ["--listen", listen.as_str().unwrap(), "--admin", admin.as_str().unwrap()];
    let args: Vec<&str> = ["start"].into_iter().chain(again).collect();
    let done = rekindle(dir.path(), &args).expect(7);
    assert!(done.stderr.contains("RK-NODE-022"), "{}", done.stderr);
}

#[test]
fn players_come_in_over_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let _node = Node::start(dir.path(), &[]);
    let id = create(dir.path(), "0");
    let summary = rekindle(
        dir.path(),
        &["bots", "--count", "2", "--seconds", "3", "--match", &id[..8], "--json"],
    )
    .expect(0)
    .json();
    assert!(
        summary["inputs_durable"].as_u64().unwrap() > 20 && summary["beats"].as_u64().unwrap() > 0,
        "{summary}"
    );
    eventually("bots that leave are gone", || {
        (show(dir.path(), &id)["players"] == 0).then_some(())
    });
    let idle = ["bots", "--idle", "--count", "2", "--seconds", "2", "--json"];
    let idle = rekindle(dir.path(), &idle).expect(0).json();
    assert_eq!((&idle["joins"], &idle["inputs_durable"]), (&2.into(), &0.into()), "{idle}");
    let watched = rekindle(dir.path(), &["watch", &id[..8], "--seconds", "2", "--json"]).expect(0);
    assert_eq!(watched.json()["match"], id);
}

#[test]
fn bots_whose_node_does_not_come_back_say_so_and_fail() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let id = create(dir.path(), "0");
    let args = ["bots", "--count", "3", "--seconds", "8", "--match", &id, "--json"];
    let mut bots = command(dir.path());
    bots.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    let bots = bots.spawn().unwrap();
    let all_in = || {
        let shown = show(dir.path(), &id);
        shown["tick"].as_u64().filter(|_| shown["players"] == 3)
    };
    let tick = eventually("bots in the match", all_in);
    // A second later each of them knows that it was let in.
    eventually("a second of play", || {
        (show(dir.path(), &id)["tick"].as_u64()? > tick + 30).then_some(())
    });
    node.kill();
    let ended = bots.wait_with_output().unwrap();
    // The figures, then the error.
    let told = ended.stdout.split(|&byte| byte == b'\n').next().unwrap();
    let told: Value = serde_json::from_slice(told).unwrap();
    let (out, err) = (told.to_string(), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(1), "{out}{err}");
    assert_eq!((&told["cut_off"], &told["closed"]), (&3.into(), &0.into()), "{out}");
    assert!(err.contains("RK-CLI-148") && err.contains("cut off"), "{err}");
    assert!(out.contains("cut off, and not back when the time was over"), "{out}");
}

#[test]
fn the_first_run_prints_what_works() {
    let dir = tempfile::tempdir().unwrap();
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut child = command(dir.path()).args(free).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()))
        .map_while(Result::ok);
    let mut printed = Vec::new();
    while !printed.last().is_some_and(|line: &String| line.contains("Ctrl-C")) {
        printed.push(lines.next().unwrap_or_else(|| panic!("the node ended: {printed:#?}")));
    }
    let urls: Vec<&str> = printed
        .iter()
        .flat_map(|line| line.split_whitespace())
        .filter(|word| word.starts_with("http://"))
        .collect();
    assert_eq!(urls.len(), 4, "{printed:#?}");
    for url in urls {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let answer = http_get(host, &format!("/{path}"));
        assert!(answer.starts_with("HTTP/1.0 200"), "{url}: {answer}");
    }
    let commands: Vec<&String> = printed
        .iter()
        .filter(|line| line.trim_start().starts_with(crate::support::REKINDLE))
        .collect();
    assert_eq!(commands.len(), 4, "{printed:#?}");
    for line in commands {
        let (command, _) = line.trim().split_once("   ").unwrap();
        let mut words: Vec<&str> = command.split_whitespace().skip(1).collect();
        if words[0] == "watch" {
            words.extend(["--seconds", "1"]);
        }
        rekindle(dir.path(), &words).expect(0);
    }
    let kill = printed.iter().find_map(|line| line.trim().strip_prefix("kill -9 ")).unwrap();
    assert_eq!(kill.split_whitespace().next().unwrap().parse::<u32>().unwrap(), child.id());
    child.kill().unwrap();
    child.wait().unwrap();

    let mut child = command(dir.path()).args(free).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()))
        .map_while(Result::ok);
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("match ")
            && first.contains(" resumed at tick ")
            && first.ends_with("hash ok"),
        "{first}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_admin_listener_keeps_strangers_out() {
    let dir = tempfile::tempdir().unwrap();
    let _node = Node::start(dir.path(), &["--set", "admin.token=s3cret"]);
    let card: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("rekindle-data/node.json")).unwrap())
            .unwrap();
    let admin = card["admin"].as_str().unwrap();
    assert!(http_get(admin, "/livez").starts_with("HTTP/1.0 200"));
    assert!(http_get(admin, "/v1/matches").starts_with("HTTP/1.0 401"));
    assert!(http_get(admin, "/nowhere").starts_with("HTTP/1.0 404"));
    rekindle(dir.path(), &["match", "ls"]).expect(1);
    rekindle(dir.path(), &["match", "ls", "--set", "admin.token=s3cret"]).expect(0);
}

#[test]
fn every_metric_that_is_served_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let _node = Node::start(dir.path(), &[]);
    let id = create(dir.path(), "2");
    wait_for_tick(dir.path(), &id, 31);
    let card: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("rekindle-data/node.json")).unwrap())
            .unwrap();
    let page = http_get(card["admin"].as_str().unwrap(), "/metrics");
    let described: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let served: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(
        served.contains(&"rekindle_ticks_total")
            && served.contains(&"rekindle_journal_append_seconds"),
        "{page}"
    );
    for name in served {
        assert!(described.contains(&name), "{name} is served without a description");
    }
}
