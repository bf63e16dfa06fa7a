//! Jobs and the audit log of a real node.

use std::path::Path;

use rekindle::clock;
use rekindle_schema::{Incarnation, JobId};
use rekindle_store::{Claim, NewJob};
use rekindle_store_local::{LocalOptions, LocalStore};
use serde_json::Value;

use crate::support::{Node, eventually, http_get, rekindle};

fn jobs(dir: &Path, args: &[&str]) -> Vec<Value> {
    let listed = rekindle(dir, &[&["jobs", "ls", "--json"], args].concat()).expect(0).json();
    listed.as_array().unwrap().clone()
}

fn audit(dir: &Path, args: &[&str]) -> Vec<Value> {
    let listed = rekindle(dir, &[&["audit", "--json"], args].concat()).expect(0).json();
    listed.as_array().unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// How many checkpoints the node has stored.
fn checkpoints(dir: &Path) -> u64 {
    let page = http_get(&admin(dir), "/metrics");
    let line =
        page.lines().find_map(|line| line.strip_prefix("rekindle_checkpoint_put_seconds_count"));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("no count of checkpoints: {page}"))
}

/// Where the node's only match is.
fn tick(dir: &Path) -> u64 {
    let listed = rekindle(dir, &["match", "ls", "--json"]).expect(0).json();
    listed[0]["tick"].as_u64().unwrap_or_else(|| panic!("no tick: {listed}"))
}

fn admin(dir: &Path) -> String {
    let card = std::fs::read(dir.join("rekindle-data/node.json")).unwrap();
    let card: Value = serde_json::from_slice(&card).unwrap();
    text(&card["admin"]).to_owned()
}

#[test]
fn chores_run_by_the_clock_and_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(
        dir.path(),
        &["--set", "jobs.cron=keep-house every 1s; verify-store 20 4 * * *"],
    );
    rekindle(dir.path(), &["match", "create", "--bots", "2"]).expect(0);
    // By the clock: slots follow each other, each is worked on once, and the next one waits.
    let done = eventually("two slots", || {
        Some(jobs(dir.path(), &["--kind", "keep-house", "--state", "done"]))
            .filter(|jobs| jobs.len() >= 2)
    });
    assert!(
        done.iter()
            .all(|job| job["attempt"] == 1 && text(&job["key"]).starts_with("cron:keep-house:")),
        "{done:?}"
    );
    let waiting = jobs(dir.path(), &["--kind", "verify-store"]);
    assert_eq!(
        (waiting.len(), &waiting[0]["state"]),
        (1, &Value::from("ready")),
        "the next night is remembered already: {waiting:?}"
    );

    // By hand.
    let verified = rekindle(dir.path(), &["jobs", "run", "verify-store", "--wait", "30", "--json"])
        .expect(0)
        .json();
    assert!(
        verified["state"] == "done" && text(&verified["note"]).contains("all whole"),
        "{verified}"
    );
    let stored = rekindle(dir.path(), &["jobs", "run", "checkpoint-all", "--wait", "30", "--json"])
        .expect(0)
        .json();
    assert_eq!(stored["note"], "1 matches checkpointed", "{stored}");
    // The wish is answered once: later ticks have no checkpoints of their own.
    let stored_by_then = checkpoints(dir.path());
    let behind = tick(dir.path()) + 60;
    eventually("sixty ticks more", || (tick(dir.path()) >= behind).then_some(()));
    let since = checkpoints(dir.path()) - stored_by_then;
    assert!(since <= 1, "{since} checkpoints in 60 ticks after one wish");
    let shown = rekindle(dir.path(), &["jobs", "show", text(&stored["id"])]).expect(0).stdout;
    assert!(
        shown.contains("checkpoint-all in queue node-") && shown.contains("state      done"),
        "{shown}"
    );

    // What cannot be done says why.
    let refused = rekindle(dir.path(), &["jobs", "retry", text(&stored["id"])]).expect(1);
    assert!(
        refused.stderr.contains("RK-ADMIN-409") && refused.stderr.contains("it is done"),
        "{}",
        refused.stderr
    );
    let unknown = rekindle(dir.path(), &["jobs", "run", "sing"]).expect(2);
    assert!(
        unknown.stderr.contains("this node knows: backup, checkpoint-all, keep-house"),
        "{}",
        unknown.stderr
    );
    rekindle(dir.path(), &["jobs", "show", "0123456789abcdef"]).expect(4);
    rekindle(dir.path(), &["jobs", "ls", "--state", "sleeping"]).expect(2);

    // Calling off and having it tried again.
    let night = text(&waiting[0]["id"]);
    assert_eq!(
        rekindle(dir.path(), &["jobs", "cancel", night, "--json"]).expect(0).json()["state"],
        "cancelled"
    );
    rekindle(dir.path(), &["jobs", "retry", night]).expect(0);
    eventually("its end", || {
        Some(jobs(dir.path(), &["--kind", "verify-store", "--state", "done"]))
            .filter(|jobs| jobs.len() == 2)
    });
    assert_eq!(node.terminate(), 0);
    rekindle(dir.path(), &["verify"]).expect(0);
}

/// A job that a dead holder had claimed, in the store of a node that does not run.
fn abandoned_job(dir: &Path, until_ms: u64) -> JobId {
    let store = LocalStore::open(dir.join("rekindle-data"), LocalOptions::default()).unwrap();
    let now_ms = clock::now_ms();
    let job = NewJob {
        id: JobId::at(now_ms, 1),
        queue: "heavy".to_owned(),
        kind: "verify-store".to_owned(),
        payload: Vec::new().into(),
        unique: None,
        run_at_ms: now_ms,
        max_attempts: 3,
        created_ms: now_ms,
    };
    let claim =
        Claim { queue: "heavy".to_owned(), by: Incarnation(0xdead), now_ms, until_ms, limit: 9 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let id = store.jobs.enqueue(job).await.unwrap();
        assert_eq!(store.jobs.claim(claim).await.unwrap().len(), 1);
        id
    })
}

#[test]
fn a_job_of_a_killed_node_is_taken_over_when_its_lease_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = ["--set", "jobs.cron="];
    let node = Node::start(dir.path(), &config);
    node.kill();
    let until_ms = clock::now_ms() + 4_000;
    let id = abandoned_job(dir.path(), until_ms).to_string();
    let node = Node::start(dir.path(), &config);
    let job = eventually("its end", || {
        Some(rekindle(dir.path(), &["jobs", "show", &id, "--json"]).expect(0).json())
            .filter(|job| job["state"] == "done")
    });
    assert_eq!(job["attempt"], 2, "{job}");
    assert!(job["finished_ms"].as_u64().unwrap() >= until_ms, "before the lease was over: {job}");
    assert_eq!(node.terminate(), 0);
    rekindle(dir.path(), &["verify"]).expect(0);
}

#[test]
fn what_operators_do_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let created =
        rekindle(dir.path(), &["match", "create", "--bots", "1", "--json"]).expect(0).json();
    let id = text(&created["id"]);
    rekindle(dir.path(), &["match", "stop", id, "--reason", "enough of it"]).expect(0);
    rekindle(dir.path(), &["match", "stop", id]).expect(1);
    rekindle(dir.path(), &["ticket", "issue", "--player", "7"]).expect(0);
    rekindle(dir.path(), &["jobs", "run", "prune-jobs", "--wait", "30"]).expect(0);
    let entries = audit(dir.path(), &[]);
    let told: Vec<(&str, &str, &str)> = entries
        .iter()
        .map(|entry| (text(&entry["action"]), text(&entry["stage"]), text(&entry["target"])))
        .collect();
    let job = text(&entries[9]["target"]).to_owned();
    assert_eq!(
        told,
        [
            ("match.create", "begun", ""),
            ("match.create", "done", id),
            ("match.stop", "begun", id),
            ("match.stop", "done", id),
            ("match.stop", "begun", id),
            ("match.stop", "failed", id),
            ("ticket.issue", "begun", "player 7"),
            ("ticket.issue", "done", "player 7"),
            ("jobs.run", "begun", ""),
            ("jobs.run", "done", &job),
        ]
    );
    assert!(
        entries[2]["detail"] == "reason=enough of it"
            && text(&entries[2]["who"]).contains(" from 127.0.0.1:"),
        "{}",
        entries[2]
    );
    assert!(text(&entries[5]["error"]).contains("has ended at tick"), "{}", entries[5]);
    assert!(
        !entries.iter().any(|entry| entry.to_string().contains("v4.public")),
        "a ticket is a secret"
    );
    rekindle(dir.path(), &["drain"]).expect(0);
    let mut node = node;
    assert_eq!(node.wait(), 0);

    // Without a node the store is asked.
    let offline = audit(dir.path(), &[]);
    assert_eq!((offline.len(), &offline[..10]), (12, &entries[..]));
    let middle = offline[5]["time_ms"].as_u64().unwrap();
    assert_eq!(audit(dir.path(), &["--since", "-1d", "--limit", "3"]), offline[9..]);
    assert_eq!(audit(dir.path(), &["--until", "-1h"]), [] as [Value; 0]);
    assert!(audit(dir.path(), &["--since", "-1h"]).iter().any(|entry| entry["time_ms"] == middle));
    let words = rekindle(dir.path(), &["audit"]).expect(0).stdout;
    assert_eq!(words.lines().count(), 6, "one line an action: {words}");
    assert!(
        words.contains("match.stop")
            && words.contains("failed: RK-ADMIN-409")
            && words.contains("node.drain"),
        "{words}"
    );
    rekindle(dir.path(), &["audit", "--since", "yesterday"]).expect(2);
    rekindle(dir.path(), &["verify"]).expect(0);
}

#[test]
fn backups_are_made_by_a_job_and_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("backups");
    let node = Node::start(dir.path(), &["--set", "backup.dir=backups", "--set", "backup.keep=1"]);
    let created =
        rekindle(dir.path(), &["match", "create", "--bots", "2", "--json"]).expect(0).json();
    let id = text(&created["id"]).to_owned();
    let backups = || -> Vec<String> {
        let names = std::fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    };
    let mut made = Vec::new();
    for _ in 0..2 {
        let job = rekindle(dir.path(), &["jobs", "run", "backup", "--wait", "50", "--json"])
            .expect(0)
            .json();
        assert_eq!(job["state"], "done", "{job}");
        made.push(backups());
    }
    assert!(made[0].len() == 1 && made[1].len() == 1 && made[0] != made[1], "{made:?}");
    let newest = place.join(&made[1][0]);
    let verified =
        rekindle(dir.path(), &["verify", newest.to_str().unwrap(), "--json"]).expect(0).json();
    assert_eq!(verified["matches"][0]["id"], id.as_str());
    assert_eq!(node.terminate(), 0);

    // Without a place there is nothing to try again.
    let _node = Node::start(dir.path(), &[]);
    let refused =
        rekindle(dir.path(), &["jobs", "run", "backup", "--wait", "50", "--json"]).expect(5);
    assert!(refused.stdout.contains("RK-NODE-045"), "{refused:?}");
}
