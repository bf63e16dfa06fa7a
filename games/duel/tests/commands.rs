//! A studio's own executable with a game for two: every command takes what is registered, and
//! speaks of this executable and its game.
#![expect(clippy::disallowed_methods, reason = "a test measures time")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The studio's executable.
const DUEL: &str = env!("CARGO_BIN_EXE_duel");
const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

fn duel(dir: &Path) -> Command {
    let mut command = Command::new(DUEL);
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"REKINDLE_"))
    {
        command.env_remove(name);
    }
    command
}

fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = duel(dir).args(args).output().unwrap();
    (
        status.code(),
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

/// A bare start, whose log goes into the file `log`. Killed when dropped.
struct Bare {
    child: Child,
    printed: Vec<String>,
}

impl Bare {
    fn start(dir: &Path) -> Self {
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut command = duel(dir);
        let mut child = command.args(FREE).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut printed: Vec<String> = Vec::new();
        while !printed.last().is_some_and(|line| line.contains("Ctrl-C")) {
            match lines.next() {
                Some(line) => printed.push(line),
                None => panic!("the node ended: {printed:#?}"),
            }
        }
        Self { child, printed }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bare_start_plays_the_game_with_as_many_bots_as_it_has_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let node = Bare::start(dir.path());
    let text = node.printed.join("\n");
    assert!(text.contains("(duel) runs at tick ") && text.contains("with 2 house bots"), "{text}");
    assert!(
        !text.contains("arena") && !text.contains(" bots --count"),
        "nothing is offered that cannot work: {text}"
    );
    // Every command that is offered works.
    let offered: Vec<&String> =
        node.printed.iter().filter(|line| line.trim_start().starts_with(DUEL)).collect();
    assert_eq!(offered.len(), 3, "{text}");
    for line in offered {
        let mut words: Vec<&str> =
            line.trim().split_once("   ").unwrap().0.split_whitespace().skip(1).collect();
        if words[0] == "watch" {
            words.extend(["--seconds", "1"]);
        }
        let (code, out, err) = run(dir.path(), &words);
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
    }

    // The match is full: bots are told so.
    let (code, out, err) = run(dir.path(), &["bots", "--count", "2", "--seconds", "4"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(
        out.contains("2 bots: RK-") && err.contains("RK-CLI-148") && err.contains("has room"),
        "{out}{err}"
    );
    assert!(
        err.contains("duel match create --game duel` makes one with room") && !out.contains("p50"),
        "what to do next, and no figures of bots that never played: {out}{err}"
    );

    // A match without words about the game is one of the game that there is.
    let (code, out, err) = run(dir.path(), &["match", "create", "--json"]);
    assert!(code == Some(0) && out.contains("\"game\":\"duel\""), "{out}{err}");
    let id =
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["id"].as_str().unwrap().to_owned();
    let (code, out, err) =
        run(dir.path(), &["bots", "--count", "2", "--seconds", "3", "--match", &id]);
    assert_eq!(code, Some(0), "{out}{err}");
}

/// The only file in the only directory in `dir`.
fn only_file(dir: &Path) -> std::path::PathBuf {
    let only = |dir: &Path| std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    only(&only(dir))
}

#[test]
fn a_first_run_says_which_match_is_parked_and_begins_no_second_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let node = Bare::start(dir);
    // A second of play in the log.
    let (code, out, err) = run(dir, &["watch", "--seconds", "1"]);
    assert_eq!(code, Some(0), "{out}{err}");
    drop(node);
    let log = only_file(&dir.join("rekindle-data/logs"));
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&log, bytes).unwrap();

    let node = Bare::start(dir);
    let text = node.printed.join("\n");
    let (_, out, _) = run(dir, &["match", "ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    let [only] = &listed.as_array().unwrap()[..] else { panic!("a second match: {listed}") };
    assert_eq!(only["state"], "parked");
    let (id, reason) = (only["id"].as_str().unwrap(), only["reason"].as_str().unwrap());
    let (_, list, _) = run(dir, &["match", "ls"]);
    let note = list.lines().find_map(|line| line.strip_prefix(&format!("note: {id}: "))).unwrap();
    // The list has the whole report; the first lines of a node say where it is.
    assert!(!note.contains(id), "{list}");
    let parked = text.lines().find(|line| line.contains("(duel): parked: `")).unwrap();
    assert!(parked.ends_with(&format!("duel match show {}` says why", &id[..8])), "{text}");
    assert!(reason.contains("`rekindle ") && note.contains("`duel "), "{reason} {note}");
    assert!(!text.contains("runs at tick") && !text.contains(" watch"), "{text}");
    // What is offered works, and another match is one command away.
    for words in ["match show", "match create --bots 2"] {
        let offered = |line: &&String| line.starts_with("  ") && line.contains(words);
        let line = node.printed.iter().find(offered).expect(words);
        let words: Vec<&str> =
            line.trim().split_once("   ").unwrap().0.split_whitespace().skip(1).collect();
        let (code, out, err) = run(dir, &words);
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
    }
    // Wherever advice is read, it names this executable.
    let admin = node.printed.iter().find_map(|line| line.trim().strip_prefix("health")).unwrap();
    let ready = http_get(admin.trim());
    assert!(ready.contains(&format!("`duel match show {}`", &id[..8])), "{ready}");
    let page = http_get(admin.trim().trim_end_matches("readyz"));
    assert!(page.contains("`duel match create`"), "{page}");
    let (_, status, _) = run(dir, &["cluster", "status"]);
    assert!(status.contains("  duel match show ") && !status.contains("  rekindle "), "{status}");
    let said = std::fs::read_to_string(dir.join("log")).unwrap();
    for text in [&text, &said, &ready, &page] {
        assert!(text.contains("duel") && !text.contains("`rekindle "), "{text}");
    }
    assert!(said.contains("`duel "), "{said}");
}

/// What is answered at `http://HOST/PATH`.
fn http_get(url: &str) -> String {
    use std::io::{Read as _, Write as _};
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_match_ticks_at_the_rate_that_it_was_made_with_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let node = Bare::start(dir.path());
    let create = |rate: &str, config: &str| {
        let words = ["match", "create", "--tick-rate", rate, "--game-config", config, "--json"];
        run(dir.path(), &words)
    };
    let (code, out, err) = create("61", "{}");
    assert!(
        code == Some(2) && err.contains("`duel` is made for 1 to 60 ticks a second"),
        "{out}{err}"
    );
    let (code, out, err) = create("5", r#"{"players": 6}"#);
    assert_eq!(code, Some(0), "{out}{err}");
    let made: serde_json::Value = serde_json::from_str(&out).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    let play = || {
        let words = ["bots", "--count", "3", "--seconds", "2", "--match", &id];
        let (code, out, err) = run(dir.path(), &words);
        assert_eq!(code, Some(0), "{out}{err}");
    };
    let tick = || {
        let (_, out, err) = run(dir.path(), &["match", "show", &id, "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&out).expect(&err);
        assert_eq!(shown["tick_rate"], 5, "{shown}");
        shown["tick"].as_u64().unwrap()
    };
    let (before, begun) = (tick(), std::time::Instant::now());
    play();
    let made = (tick() - before) as f64 / begun.elapsed().as_secs_f64();
    assert!((3.0..6.5).contains(&made), "{made} ticks a second");
    drop(node);
    let _again = Bare::start(dir.path());
    let before = tick();
    play();
    assert!(tick() > before);
}

#[test]
fn the_demo_plays_what_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(dir.path(), &["demo", "--json"]);
    let summary: serde_json::Value =
        serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!(code, Some(0), "{summary} {err}");
    assert_eq!(
        (&summary["players"], &summary["matches"], &summary["holds"]),
        (&32.into(), &16.into(), &true.into()),
        "{summary}"
    );
    let (code, _, err) = run(dir.path(), &["demo", "--players", "5", "--matches", "2"]);
    assert!(code == Some(2) && err.contains("RK-DEMO-140") && err.contains("--players 4"), "{err}");
}

#[test]
fn help_and_hints_name_this_executable_and_its_game() {
    let dir = tempfile::tempdir().unwrap();
    let (code, help, _) = run(dir.path(), &["--help"]);
    assert!(
        code == Some(0) && help.contains("Usage: duel ") && help.contains("one match of duel"),
        "{help}"
    );
    assert!(!help.contains("arena") && !help.contains("rekindle demo"), "{help}");
    let (code, _, hint) = run(dir.path(), &["match", "ls"]);
    assert!(
        code == Some(3) && hint.contains("start one with `duel`") && !hint.contains("`rekindle"),
        "{hint}"
    );
    let (_, version, _) = run(dir.path(), &["--version"]);
    assert!(version.starts_with("duel with rekindle "), "{version}");
}

/// The goals that the executable has written down: match and id, in order.
fn goals(dir: &Path) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(dir.join("goals")).unwrap_or_default();
    let goal = |line: &str| {
        let mut words = line.split(' ');
        let id = words.next()?.to_owned();
        Some((id, words.next()?.split('.').next()?.parse().ok()?))
    };
    text.lines().filter_map(goal).collect()
}

#[test]
fn a_function_of_the_executable_gets_every_event_at_least_once_although_its_node_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let deadline = Instant::now() + Duration::from_mins(1);
    for least in [2, 4, 6] {
        let mut command = duel(dir);
        // With an archive: what is trimmed from the log is still listed below.
        command.args(FREE).args(["--set", "retention.archive=all"]).env("DUEL_GOALS", "goals");
        let mut node = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while goals(dir).len() < least {
            assert!(Instant::now() < deadline, "{:?}", goals(dir));
            std::thread::sleep(Duration::from_millis(20));
        }
        node.kill().unwrap();
        node.wait().unwrap();
    }
    let written = goals(dir);
    let (code, out, err) = run(dir, &["events", "--type", "goal", "--json"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let told: Vec<u64> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["tick"].as_u64().unwrap())
        .collect();
    let last = written.iter().map(|(_, tick)| *tick).max().unwrap();
    let expected: Vec<u64> = told.iter().copied().filter(|tick| *tick <= last).collect();
    let mut got: Vec<u64> = Vec::new();
    for (_, tick) in &written {
        // Those that are written down again after a crash.
        if !got.contains(tick) {
            got.push(*tick);
        }
    }
    assert_eq!(got, expected, "all of them, for the first time in their order");
    assert!(got.len() >= 4, "{written:?}");
}
