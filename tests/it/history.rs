//! What an operator keeps of matches: the archive, points in time, pins, ended matches that go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::{Node, eventually, rekindle};
use serde_json::Value;

const OFTEN: [&str; 8] = [
    "--set",
    "checkpoint.every_s=1",
    "--set",
    "retention.chunk_s=1",
    "--set",
    "recovery.healthy_ms=200",
    "--set",
    "jobs.cron=keep-house every 1s",
];

fn create(dir: &Path) -> String {
    let created = rekindle(
        dir,
        &["match", "create", "--bots", "3", "--game-config", r#"{"rematch":true}"#, "--json"],
    )
    .expect(0)
    .json();
    created["id"].as_str().unwrap().to_owned()
}

fn wait_for_tick(dir: &Path, id: &str, tick: u64) {
    eventually("the tick", || {
        let view = rekindle(dir, &["match", "show", id, "--json"]).expect(0).json();
        (view["tick"].as_u64()? >= tick).then_some(())
    });
}

fn replay(dir: &Path, id: &str, args: &[&str]) -> Value {
    let all: Vec<&str> = ["replay", id, "--json"].iter().chain(args).copied().collect();
    rekindle(dir, &all).expect(0).json()
}

fn journal(dir: &Path, id: &str, args: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["journal", id, "--json"].iter().chain(args).copied().collect();
    let stdout = rekindle(dir, &all).expect(0).stdout;
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn beats(lines: &[Value]) -> Vec<u64> {
    lines
        .iter()
        .filter(|line| line["kind"] == "beat")
        .map(|line| line["tick"].as_u64().unwrap())
        .collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn chunks(dir: &Path, id: &str) -> Vec<PathBuf> {
    let folder = dir.join("rekindle-data/archive").join(id);
    let mut found: Vec<PathBuf> = names(&folder)
        .into_iter()
        .map(|name| folder.join(name))
        .filter(|path| path.extension().is_some_and(|end| end == "chunk"))
        .collect();
    found.sort();
    found
}

#[test]
fn what_the_log_has_lost_is_read_from_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let settings: Vec<&str> =
        OFTEN.iter().copied().chain(["--set", "retention.archive=all"]).collect();
    let node = Node::start(dir, &settings);
    let id = create(dir);
    wait_for_tick(dir, &id, 70);
    node.kill();
    let first_logs = names(&dir.join("rekindle-data/logs"));
    let before = replay(dir, &id, &["--to", "45"]);

    // The next owner's checkpoints make the first log unnecessary: it goes once the archive has its
    // records.
    let node = Node::start(dir, &settings);
    eventually("the end of the first log", || {
        names(&dir.join("rekindle-data/logs")).is_disjoint(&first_logs).then_some(())
    });
    let seen =
        rekindle(dir, &["match", "show", &id, "--json"]).expect(0).json()["tick"].as_u64().unwrap();
    wait_for_tick(dir, &id, seen + 40);
    // Beside the running node.
    assert_eq!(replay(dir, &id, &["--to", "45"])["hash"], before["hash"]);
    node.kill();

    let lines = journal(dir, &id, &[]);
    let found = beats(&lines);
    let expected: Vec<u64> =
        (1..=found.last().map_or(0, |last| last / 30)).map(|n| n * 30).collect();
    assert_eq!(found, expected, "every beat since the first tick");
    assert!(found.last() > Some(&seen));
    let again = replay(dir, &id, &["--to", "45"]);
    assert_eq!((&again["hash"], &again["state"]), (&before["hash"], &before["state"]));

    // A moment is the last tick that was recorded by then.
    let moment = again["recorded"].as_str().unwrap();
    let then = replay(dir, &id, &["--at", moment]);
    let tick = then["tick"].as_u64().unwrap();
    assert!((45..=seen).contains(&tick), "{then}");
    assert_eq!(replay(dir, &id, &["--to", &tick.to_string()])["hash"], then["hash"]);
    let until = beats(&journal(dir, &id, &["--until", moment]));
    let since = beats(&journal(dir, &id, &["--since", moment]));
    assert!(until.iter().all(|beat| *beat <= tick) && until.contains(&30), "{until:?}");
    assert!(!since.contains(&30) && since.last() == found.last(), "{since:?}");
    let both: BTreeSet<u64> = until.iter().chain(&since).copied().collect();
    assert_eq!(both.into_iter().collect::<Vec<_>>(), found);
    let lately = replay(dir, &id, &["--at", "-1s"])["tick"].as_u64();
    assert!(lately > Some(seen) && lately <= replay(dir, &id, &[])["tick"].as_u64(), "{lately:?}");
    let early = rekindle(dir, &["replay", &id, "--at", "2020-01-01T00:00:00Z"]).expect(4);
    assert!(early.stderr.contains("RK-CLI-015"), "{}", early.stderr);
    let wrong = rekindle(dir, &["replay", &id, "--at", "noon"]).expect(2);
    assert!(wrong.stderr.contains("RK-CLI-016"), "{}", wrong.stderr);

    let verified = rekindle(dir, &["verify", "--json"]).expect(0).json();
    assert!(verified["chunks"].as_u64() >= Some(2), "{verified}");
    assert_eq!(verified["matches"][0]["from_tick"], 0, "{verified}");

    // One bit of the archive.
    let first = chunks(dir, &id).remove(0);
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() * 2 / 3;
    bytes[middle] ^= 4;
    std::fs::write(&first, bytes).unwrap();
    let broken = rekindle(dir, &["verify"]);
    assert_ne!(broken.code, 0, "{broken:?}");
    let name = first.file_name().unwrap().to_str().unwrap();
    assert!(broken.stdout.contains(name), "{broken:?}");
    let lost = rekindle(dir, &["replay", &id, "--to", "20"]);
    assert_ne!(lost.code, 0, "{lost:?}");
    assert!(lost.stderr.contains("RK-STORE-024") && lost.stderr.contains(name), "{lost:?}");
    let listed = rekindle(dir, &["journal", &id]).expect(0);
    assert!(
        listed.stderr.contains("RK-STORE-024"),
        "what is missing is not passed over: {}",
        listed.stderr
    );
    // Recovery does not need the archive.
    let mut node = Node::spawn(dir, &settings);
    assert_eq!(node.wait_for("RK-NODE-010")["hash_ok"], true);
}

#[test]
fn a_pinned_replay_stays_while_others_go() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let kept = ["--set", "retention.archive=for:3s", "--set", "retention.ended=for:4s"];
    let settings: Vec<&str> = OFTEN.iter().copied().chain(kept).collect();
    let _node = Node::start(dir, &settings);
    let (plain, pinned, short) = (create(dir), create(dir), create(dir));
    wait_for_tick(dir, &pinned, 45);
    let wrong = rekindle(dir, &["match", "pin", &pinned, "--from", "9", "--to", "3"]).expect(2);
    assert!(wrong.stderr.contains("RK-CLI-017"), "{}", wrong.stderr);
    let done = rekindle(dir, &["match", "pin", &pinned, "--from", "20", "--to", "40", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        (done["match"].as_str(), done["from"].as_u64(), done["to"].as_u64()),
        (Some(pinned.as_str()), Some(20), Some(40))
    );
    let listed = rekindle(dir, &["match", "pins", "--json"]).expect(0).json();
    assert_eq!(listed[0]["match"], pinned.as_str());
    let before = [&plain, &pinned].map(|id| replay(dir, id, &["--to", "35"])["hash"].clone());

    rekindle(dir, &["match", "stop", &short]).expect(0);
    eventually("the end of the ended match", || {
        let listed = rekindle(dir, &["match", "ls", "--json"]).expect(0).json();
        listed.as_array()?.iter().all(|view| view["id"] != short.as_str()).then_some(())
    });
    assert!(
        !names(&dir.join("rekindle-data/archive")).contains(&short),
        "nothing of it is left in the archive"
    );

    let genesis = |id: &str| {
        chunks(dir, id).iter().any(|path| {
            path.to_str().is_some_and(|name| name.contains("00000000000000000001.records"))
        })
    };
    eventually("the oldest chunk of the match that is not pinned goes", || {
        let archived = !chunks(dir, &plain).is_empty();
        (archived && !genesis(&plain)).then_some(())
    });
    assert!(genesis(&pinned), "the pinned one's stays");
    assert_eq!(replay(dir, &pinned, &["--to", "35"])["hash"], before[1]);
    // The log of the running node still has it, by chance of its segment: the archive does not.
    let again = rekindle(dir, &["match", "unpin", &pinned, "--json"]).expect(0).json();
    assert_eq!(again["unpinned"], true);
    rekindle(dir, &["match", "unpin", &pinned]).expect(4);
    eventually("what was pinned goes", || (!genesis(&pinned)).then_some(()));
    rekindle(dir, &["verify"]).expect(0);
}
