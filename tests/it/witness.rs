//! A log that ends too early, a directory that does not fit its logs: both are told, by the start,
//! by `verify` and by `doctor`, and nothing goes on in silence.

use std::path::{Path, PathBuf};

use crate::support::{Node, eventually, rekindle};

/// A node that ran a match for a few renewals of its lease and was killed: its data directory, the
/// match, and the last tick that a client could see.
fn killed_node(dir: &Path) -> (PathBuf, String, u64) {
    let node = Node::start(dir, &["--set", "checkpoint.every_s=1"]);
    let created = rekindle(dir, &["match", "create", "--bots", "4", "--json"]).expect(0).json();
    let id = created["id"].as_str().unwrap().to_owned();
    let mut seen = 0;
    eventually("the tick", || {
        let view = rekindle(dir, &["match", "show", &id, "--json"]).expect(0).json();
        seen = view["tick"].as_u64()?;
        (seen >= 120).then_some(())
    });
    node.kill();
    (dir.join("rekindle-data"), id, seen)
}

/// The one file in the one folder below `kind`.
fn only_segment(data: &Path, kind: &str) -> PathBuf {
    let only = |dir: &Path| {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.pop().unwrap()
    };
    only(&only(&data.join(kind)))
}

/// `verify` calls it damage, and names each of `parts`.
fn verify_says(dir: &Path, what: &str, parts: &[&str]) {
    let done = rekindle(dir, &["verify", "--json"]);
    assert_eq!(done.code, 5, "{what}: {done:?}");
    let faults = done.json()["faults"].to_string();
    assert!(parts.iter().all(|part| faults.contains(part)), "{what}: {faults}");
}

#[test]
fn a_log_that_lost_its_end_is_damage_until_an_operator_gives_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let (data, id, seen) = killed_node(dir.path());
    rekindle(dir.path(), &["verify"]).expect(0);
    let segment = only_segment(&data, "logs");
    let log = segment.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let whole = std::fs::read(&segment).unwrap();

    // Everything up to the last second or so has a witness.
    let witnessed = whole.len() * 6 / 10;
    let cuts: Vec<usize> = (0..witnessed).step_by(4_096).collect();
    for len in cuts.iter().copied().step_by(cuts.len().div_ceil(5)) {
        std::fs::write(&segment, &whole[..len]).unwrap();
        verify_says(dir.path(), &format!("cut to {len} of {}", whole.len()), &[&log, &id, "ticks"]);
    }
    let mut zeroed = whole.clone();
    zeroed[witnessed..].fill(0);
    std::fs::write(&segment, zeroed).unwrap();
    verify_says(dir.path(), "zeroed", &[&log, &id]);
    std::fs::remove_file(&segment).unwrap();
    verify_says(dir.path(), "no segment", &[&log, &id, "is gone"]);
    let doctor = rekindle(dir.path(), &["doctor", "--json"]);
    assert!(doctor.code != 0 && doctor.stdout.contains(&log), "{doctor:?}");

    // The start says so, and does not go on.
    let mut node = Node::start(dir.path(), &[]);
    let parked = node.said("RK-NODE-011");
    assert!(
        parked.to_string().contains(&id) && parked.to_string().contains("accept-loss"),
        "{parked}"
    );
    node.said("RK-CLUSTER-110");
    node.stays_silent_about("RK-NODE-010", std::time::Duration::from_millis(1_500));
    assert_eq!(node.terminate(), 0);

    // Put back, it is whole again: nothing was cut off meanwhile.
    std::fs::create_dir_all(segment.parent().unwrap()).unwrap();
    std::fs::write(&segment, &whole).unwrap();
    rekindle(dir.path(), &["verify"]).expect(0);

    // An operator gives up what is missing.
    std::fs::write(&segment, &whole[..witnessed / 2]).unwrap();
    rekindle(dir.path(), &["store", "accept-loss", "0000000000000001"]).expect(4);
    let told = rekindle(dir.path(), &["store", "accept-loss", &log, "--json"]).expect(0).json();
    assert!(told["accepted"] == false && told["matches"][0]["id"] == *id, "{told}");
    rekindle(dir.path(), &["store", "accept-loss", &log, "--yes"]).expect(0);
    let mut node = Node::start(dir.path(), &[]);
    let resumed = node.said("RK-NODE-010");
    assert!(
        resumed.to_string().contains(&id) && resumed["tick"].as_u64().unwrap() < seen,
        "{resumed}"
    );
    assert_eq!(node.terminate(), 0);
    rekindle(dir.path(), &["verify"]).expect(0);
}

#[test]
fn a_directory_that_does_not_fit_its_logs_is_not_started_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, id, _) = killed_node(dir.path());
    let refused = |what: &str, part: &str| {
        let done = rekindle(
            dir.path(),
            &["start", "--dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        );
        assert!(done.code == 1 && done.stderr.contains(part), "{what}: {done:?}");
    };

    // A checkpoint that the lease names.
    let checkpoints = only_segment(&data, "checkpoints");
    let stored = std::fs::read(&checkpoints).unwrap();
    std::fs::remove_file(&checkpoints).unwrap();
    verify_says(dir.path(), "no checkpoint", &["RK-STORE-112", &id]);
    std::fs::write(&checkpoints, stored).unwrap();
    rekindle(dir.path(), &["verify"]).expect(0);

    let database = data.join("node.db");
    let files = [database.clone(), data.join("node.db-wal")];
    // What the killed node left in its write-ahead log comes into the database.
    rusqlite::Connection::open(&database)
        .and_then(|db| db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"))
        .unwrap();
    let good: Vec<Option<Vec<u8>>> = files.iter().map(|file| std::fs::read(file).ok()).collect();
    let restore = || {
        for (file, bytes) in files.iter().zip(&good) {
            match bytes {
                Some(bytes) => std::fs::write(file, bytes).unwrap(),
                None => drop(std::fs::remove_file(file)),
            }
        }
        let _ = std::fs::remove_file(data.join("node.db-shm"));
    };

    rusqlite::Connection::open(&database).unwrap().execute("DELETE FROM match_lease", []).unwrap();
    verify_says(dir.path(), "a row", &["match_lease"]);
    refused("a row", "match_lease");
    restore();

    std::fs::remove_file(&database).unwrap();
    let _ = std::fs::remove_file(data.join("node.db-wal"));
    verify_says(dir.path(), "no database", &["node.db"]);
    refused("no database", "node.db");
    assert!(!database.exists(), "it is not made anew");
    restore();

    // Its logs are those of a later time than the database.
    rusqlite::Connection::open(&database)
        .and_then(|db| {
            db.execute_batch(
                "UPDATE totals SET rows = 0, crcs = 0 WHERE name IN ('node_lease', 'match_lease'); \
                 DELETE FROM node_lease; DELETE FROM match_lease;",
            )
        })
        .unwrap();
    verify_says(dir.path(), "an older database", &["RK-STORE-111"]);
    refused("an older database", "RK-STORE-111");
    restore();

    let mut node = Node::start(dir.path(), &[]);
    let resumed = node.said("RK-NODE-010");
    assert!(resumed.to_string().contains(&id), "{resumed}");
}
