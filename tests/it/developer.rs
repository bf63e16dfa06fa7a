//! What a developer does with a match that went wrong: packs it into a file, plays that again, asks
//! why something happened; and changes the game while its matches are played.

use std::fs;
use std::path::Path;
use std::process::Command;

use rekindle_arena::Arena;
use rekindle_schema::bugreport::BugReport;
use rekindle_sim::{Harness, Simulation as _};
use serde_json::Value;

use crate::support::{Node, Told, command, eventually, rekindle};

fn create(dir: &Path, args: &[&str]) -> String {
    let all: Vec<&str> = ["match", "create", "--json"].iter().chain(args).copied().collect();
    rekindle(dir, &all).expect(0).json()["id"].as_str().unwrap().to_owned()
}

fn json_lines(dir: &Path, args: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let stdout = rekindle(dir, &all).expect(0).stdout;
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn tick_of(dir: &Path, id: &str) -> u64 {
    let shown = rekindle(dir, &["match", "show", id, "--json"]).expect(0).json();
    shown["tick"].as_u64().unwrap_or(0)
}

#[test]
fn a_match_goes_into_a_file_that_a_test_and_replay_play_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let secret = "hush-hush-hush-hush-hush-hush-hush-hush";
    let token = format!("admin.token={secret}");
    let node = Node::start(dir, &["--set", "checkpoint.every_s=1"]);
    let id = create(dir, &["--bots", "4"]);
    eventually("a few seconds of play", || (tick_of(dir, &id) > 100).then_some(()));

    // Of a live match, beside its node; the configuration is that of the one who asks.
    let args = ["bugreport", &id, "--from", "1", "--out", "live.rkbug", "--json", "--set", &token];
    let told = rekindle(dir, &args).expect(0).json();
    assert_eq!((&told["first_tick"], &told["state"]), (&1.into(), &"running".into()));
    let bytes = fs::read(dir.join("live.rkbug")).unwrap();
    let report = BugReport::decode(&bytes).unwrap();
    assert!(report.settings.iter().any(|(key, _)| key == "admin.token"));
    let has_it = bytes.windows(secret.len()).any(|some| some == secret.as_bytes());
    assert!(!has_it, "no secret is in it");
    assert!(rekindle(dir, &args).expect(2).stderr.contains("RK-CLI-262"));

    // A test plays it, bit for bit.
    let played = Harness::<Arena>::from_bugreport(&bytes).replay();
    let last = told["last_tick"].as_u64().unwrap();
    assert_eq!(played.steps().len() as u64, last, "every tick since the first");
    let hash = played.simulation().state_hash().to_string();
    let shown = rekindle(dir, &["replay", "--file", "live.rkbug", "--json"]).expect(0).json();
    assert_eq!((&shown["hash"], &shown["tick"]), (&hash[..].into(), &last.into()));
    assert!(shown["beats"].as_u64() >= Some(3), "{}", shown["beats"]);

    // Of a match that is over, without a node: the same tick is the same state.
    rekindle(dir, &["match", "stop", &id]).expect(0);
    assert_eq!(node.terminate(), 0);
    let told = rekindle(dir, &["bugreport", &id, "--json"]).expect(0).json();
    assert_eq!(told["state"], "ended");
    let file = told["file"].as_str().unwrap();
    let shown = rekindle(dir, &["replay", "--file", file, "--json"]).expect(0).json();
    let stored = rekindle(dir, &["replay", &id, "--json"]).expect(0).json();
    assert_eq!((&shown["hash"], &shown["state"]), (&stored["hash"], &stored["state"]));
    // In short, for people, and every value where that is asked for.
    let short = rekindle(dir, &["replay", "--file", file]).expect(0).stdout;
    assert!(short.lines().count() < 16 && short.contains("players    4: "), "{short}");
    let entities = shown["state"]["entities"].as_array().unwrap().len();
    assert!(short.contains(&format!("entities   {entities}: ")), "{short}");
    assert!(short.contains(shown["hash"].as_str().unwrap()) && short.contains("--state"));
    let stored = rekindle(dir, &["replay", &id]).expect(0).stdout;
    assert!(stored.lines().count() < 16 && stored.contains("events     "), "{stored}");
    let full = rekindle(dir, &["replay", &id, "--state"]).expect(0).stdout;
    assert!(full.contains("\"entities\": [") && full.lines().count() > 100);
    let beyond = rekindle(dir, &["replay", "--file", "live.rkbug", "--to", "999999"]).expect(4);
    assert!(beyond.stderr.contains("RK-CLI-264"), "{beyond:?}");
    let mut bytes = bytes;
    bytes.truncate(bytes.len() - 1);
    for (name, bytes) in [("short.rkbug", &bytes[..]), ("foreign.rkbug", b"PK\x03\x04")] {
        fs::write(dir.join(name), bytes).unwrap();
        let refused = rekindle(dir, &["replay", "--file", name]).expect(5).stderr;
        assert!(refused.contains("RK-CLI-263") && refused.contains(name), "{refused}");
    }
}

#[test]
fn why_names_the_one_move_that_made_an_event_and_the_shots_behind_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let node = Node::start(dir, &[]);
    let fight = create(dir, &["--game", "arena", "--bots", "8"]);
    let id = create(dir, &["--game", "tictactoe", "--bots", "2"]);
    eventually("the end of the match", || {
        rekindle(dir, &["match", "show", &id]).stdout.contains("draw").then_some(())
    });
    let puts = json_lines(dir, &["events", &id, "--type", "put"]);
    let put = &puts[4];
    let event = format!("{}.{}", put["tick"], put["ordinal"]);
    let found = rekindle(dir, &["why", &id, &event, "--json"]).expect(0).json();
    let causes = found["causes"].as_array().unwrap();
    assert_eq!((causes.len(), &found["complete"]), (1, &true.into()), "{found}");
    assert_eq!(causes[0]["kind"], "command");
    assert_eq!(causes[0]["fields"]["place"], put["fields"]["place"]);
    let words = rekindle(dir, &["why", &id, &event]).expect(0).stdout;
    assert!(words.contains("it cannot be left out") && words.contains("\"place\":"));

    // From the first tick on: the players had to join, and to make the moves before.
    let whole = rekindle(dir, &["why", &id, &event, "--from", "1", "--json"]).expect(0).json();
    let kinds: Vec<&str> =
        whole["causes"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
    assert!(kinds.contains(&"join") && kinds.len() >= 3, "{whole}");
    assert!(whole["of"].as_u64() >= found["of"].as_u64(), "{whole}");

    let kill =
        eventually("a kill", || json_lines(dir, &["events", &fight, "--type", "kill"]).pop());
    let event = format!("{}.{}", kill["tick"], kill["ordinal"]);
    let found = rekindle(dir, &["why", &fight, &event, "--json"]).expect(0).json();
    let (causes, of) = (found["causes"].as_array().unwrap(), found["of"].as_u64().unwrap());
    assert!(!causes.is_empty() && (causes.len() as u64) < of, "{found}");
    assert!(causes.iter().all(|cause| cause["fields"].is_object() || cause["kind"] == "join"));

    // The same out of a file, without the store.
    assert_eq!(node.terminate(), 0);
    rekindle(dir, &["bugreport", &fight, "--from", "1", "--out", "kill.rkbug"]).expect(0);
    let again = rekindle(dir, &["why", "kill.rkbug", &event, "--json"]).expect(0).json();
    assert_eq!(again["causes"], found["causes"]);
    let none = rekindle(dir, &["why", &id, "1.7"]).expect(4).stderr;
    assert!(none.contains("RK-CLI-265"), "{none}");
    let never = rekindle(dir, &["why", &id, "99999999.0"]).expect(4).stderr;
    assert!(never.contains("RK-CLI-266"), "{never}");
    assert!(rekindle(dir, &["why", &id, "kill"]).expect(2).stderr.contains("RK-CLI-268"));
}

/// A stand-in for cargo: it "builds" by appending to the executable, unless the source is broken.
const CARGO: &str = r#"#!/bin/sh
case "$1" in
metadata) printf '{"packages":[{"manifest_path":"%s/Cargo.toml"}]}' "$PWD" ;;
build)
    grep -q broken src/main.rs && { echo "error: it is broken" >&2; exit 101; }
    cp target/debug/rekindle target/debug/new && cat src/main.rs >> target/debug/new &&
        mv target/debug/new target/debug/rekindle ;;
esac
"#;

#[test]
fn dev_builds_again_what_was_changed_and_the_same_matches_go_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let refused = command(dir).env_remove("CARGO_MANIFEST_DIR").args(["dev", "--watch"]).output();
    let refused = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(refused.contains("RK-CLI-260") && refused.contains("no Cargo.toml"), "{refused}");
    for folder in ["src", "target/debug"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for (file, text) in
        [("Cargo.toml", ""), ("target/CACHEDIR.TAG", ""), ("src/main.rs", "// 1"), ("cargo", CARGO)]
    {
        fs::write(dir.join(file), text).unwrap();
    }
    fs::set_permissions(dir.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(crate::support::REKINDLE, dir.join("target/debug/rekindle")).unwrap();
    let mut dev = Command::new(dir.join("target/debug/rekindle"));
    dev.current_dir(dir).env("CARGO", dir.join("cargo")).env_remove("CARGO_MANIFEST_DIR");
    dev.args(["dev", "--watch", "--nodes", "1"]);
    let mut dev = Told::from_command(dev);
    let line = dev.wait_for("match create --bots 8 --game-config");
    let admin = line.split("--admin ").nth(1).unwrap().trim().to_owned();
    dev.wait_for("2 sources watched");
    let asked = ["match", "create", "--bots", "3", "--json", "--admin", &admin];
    let made = rekindle(dir, &asked).expect(0).json();
    let id = made["id"].as_str().unwrap().to_owned();

    // What does not compile changes nothing.
    fs::write(dir.join("src/main.rs"), "// broken").unwrap();
    dev.wait_for("not built: the nodes run on");
    let at = |admin: &str| {
        let shown = rekindle(dir, &["match", "show", &id, "--json", "--admin", admin]);
        let shown: Value = serde_json::from_str(&shown.stdout).ok()?;
        (shown["state"] == "running").then(|| shown["tick"].as_u64())?
    };
    let before = eventually("the match runs", || at(&admin));

    let card = || {
        let card = fs::read_to_string(dir.join("rekindle-data/n1/node.json")).unwrap();
        let card: Value = serde_json::from_str(&card).unwrap();
        (card["listen"].clone(), card["admin"].clone())
    };
    let ports = card();
    fs::write(dir.join("src/main.rs"), "// 22").unwrap();
    let line = dev.wait_for("of 1 nodes run it");
    assert!(line.contains("dev | build "), "{line}");
    dev.wait_for("going on: 1 match");
    // At the ports that it had: else no client would come back.
    assert_eq!(card(), ports);
    eventually("it goes on", || at(&admin).filter(|tick| *tick > before));
    dev.signal(rustix::process::Signal::INT);
    assert_eq!(dev.wait(), 0);
}
