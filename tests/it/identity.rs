//! A copy or a restored store is a store of its own: it harms nobody, and its matches go on in
//! epochs that nobody has seen. A store whose files vanish under a node ends that node.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rekindle_testservers as servers;
use rustix::process::Signal;
use serde_json::Value;

use crate::store::Tables;
use crate::support::{Node, eventually, rekindle};

/// Every copy and every restored store continues its matches in epochs above this: they are
/// milliseconds since 1970.
const YEAR_2020_MS: u64 = 1_577_836_800_000;

fn create(dir: &Path, data: &str) -> String {
    let bots = [
        "match",
        "create",
        "--bots",
        "3",
        "--game-config",
        r#"{"rematch":true}"#,
        "--json",
        "--data-dir",
        data,
    ];
    rekindle(dir, &bots).expect(0).json()["id"].as_str().unwrap().to_owned()
}

fn show(dir: &Path, data: &str, id: &str) -> Value {
    rekindle(dir, &["match", "show", id, "--json", "--data-dir", data]).expect(0).json()
}

/// Waits until a match has passed a tick; its view then.
fn reaches(dir: &Path, data: &str, id: &str, tick: u64) -> Value {
    eventually("the tick", || {
        Some(show(dir, data, id))
            .filter(|view| view["state"] == "running" && view["tick"].as_u64() >= Some(tick))
    })
}

fn epoch(view: &Value) -> u64 {
    view["epoch"].as_u64().unwrap()
}

/// As `cp -a` does it.
fn copy(dir: &Path, from: &str, to: &str) {
    assert!(
        Command::new("cp").arg("-a").arg(from).arg(to).current_dir(dir).status().unwrap().success()
    );
}

fn identity(dir: &Path, store: &str) -> Value {
    rekindle(dir, &["store", "status", "--json", "--store", store]).expect(0).json()
}

fn logged<'a>(node: &'a Node, code: &str) -> Option<&'a Value> {
    node.seen.iter().find(|event| event["code"] == code)
}

/// A node on `a`, stopped for the moment of the copy; a node on `b`, its copy, while the first one
/// is stopped still, or runs on.
fn beside_its_original(stopped: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut original = Node::start(dir.path(), &["--data-dir", "a"]);
    let id = create(dir.path(), "a");
    let before = reaches(dir.path(), "a", &id, 20)["tick"].as_u64().unwrap();
    original.signal(Signal::STOP);
    copy(dir.path(), "a", "b");
    if !stopped {
        original.signal(Signal::CONT);
    }
    // The card in the copy names the node of the original: a command on the copy must not reach
    // that.
    let refused = rekindle(dir.path(), &["match", "stop", &id, "--data-dir", "b"]).expect(3);
    assert!(refused.stderr.contains("RK-CLI-001"), "{}", refused.stderr);

    let begun = Instant::now();
    let mut twin = Node::start(dir.path(), &["--data-dir", "b"]);
    let known = logged(&twin, "RK-STORE-101")
        .unwrap_or_else(|| panic!("it does not know that it is a copy: {:#?}", twin.seen));
    assert!(
        known["old"] != known["new"] && known["because"].as_str().unwrap().contains("copy"),
        "{known}"
    );
    assert!(
        logged(&twin, "RK-NODE-010").is_some(),
        "the match was not resumed after {:?}: {:#?}",
        begun.elapsed(),
        twin.seen
    );
    if stopped {
        original.signal(Signal::CONT);
    }
    let view = reaches(dir.path(), "b", &id, before + 30);
    assert!(epoch(&view) > YEAR_2020_MS, "{view}");
    let view = reaches(dir.path(), "a", &id, before + 30);
    assert_eq!(epoch(&view), 1, "the original was disturbed: {view}");
    original.stays_silent_about("RK-NODE-003", Duration::from_millis(1_500));
    twin.stays_silent_about("RK-STORE-012", Duration::ZERO);
    assert_ne!(
        identity(dir.path(), "local:a")["identity"],
        identity(dir.path(), "local:b")["identity"]
    );
    assert_eq!((original.terminate(), twin.terminate()), (0, 0));
    // Both stay what they are.
    let again = Node::start(dir.path(), &["--data-dir", "b"]);
    assert!(logged(&again, "RK-STORE-101").is_none());
    let next = epoch(&show(dir.path(), "b", &id));
    again.kill();
    let again = Node::start(dir.path(), &["--data-dir", "a"]);
    assert!(logged(&again, "RK-STORE-101").is_none());
    assert_eq!(epoch(&show(dir.path(), "a", &id)), 2);
    assert!(next > YEAR_2020_MS);
}

#[test]
fn a_copied_directory_is_a_store_of_its_own_and_its_original_lives_on() {
    beside_its_original(false);
}

#[test]
fn a_copy_does_not_kill_an_original_that_is_stopped() {
    beside_its_original(true);
}

#[test]
fn a_copy_of_what_a_killed_node_left_and_a_moved_directory_go_on_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &["--data-dir", "a"]);
    let id = create(dir.path(), "a");
    reaches(dir.path(), "a", &id, 10);
    node.kill();
    // With lock, card and pid file of the dead node in it.
    copy(dir.path(), "a", "b");
    let twin = Node::start(dir.path(), &["--data-dir", "b"]);
    let first = epoch(&show(dir.path(), "b", &id));
    assert!(logged(&twin, "RK-STORE-101").is_some() && first > YEAR_2020_MS, "{first}");
    twin.kill();
    // A copy of the copy that is put where the copy was.
    copy(dir.path(), "b", "c");
    std::fs::remove_dir_all(dir.path().join("b")).unwrap();
    copy(dir.path(), "c", "b");
    let twin = Node::start(dir.path(), &["--data-dir", "b"]);
    assert!(epoch(&show(dir.path(), "b", &id)) > first + 1);
    twin.kill();

    std::fs::rename(dir.path().join("a"), dir.path().join("moved")).unwrap();
    let node = Node::start(dir.path(), &["--data-dir", "moved"]);
    assert!(logged(&node, "RK-STORE-101").is_none(), "a directory that was moved is the same");
    assert_eq!(epoch(&show(dir.path(), "moved", &id)), 2);
}

/// Backup at epoch 1, on to epoch 2, everything lost, restored: the epoch is one that nobody has
/// seen. The same for a copy.
fn after_a_backup(tables: Option<&(Tables, Tables)>) {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = match tables {
        None => ("local:one".to_owned(), "local:two".to_owned()),
        Some((first, second)) => {
            for tables in [first, second] {
                rekindle(dir.path(), &["store", "migrate", "--store", &tables.url()]).expect(0);
            }
            (first.url(), second.url())
        }
    };
    let start = |store: &str| Node::start(dir.path(), &["--data-dir", "node", "--store", store]);
    let node = start(&first);
    let id = create(dir.path(), "node");
    reaches(dir.path(), "node", &id, 10);
    rekindle(dir.path(), &["store", "backup", "safe", "--store", &first]).expect(0);
    node.kill();
    let node = start(&first);
    let seen = epoch(&show(dir.path(), "node", &id));
    assert_eq!(seen, 2);
    node.kill();

    rekindle(dir.path(), &["store", "restore", "safe", "--store", &second]).expect(0);
    let status = identity(dir.path(), &second);
    assert!(status["identity_because"].as_str().unwrap().contains("copied"), "{status}");
    let node = start(&second);
    let restored = epoch(&show(dir.path(), "node", &id));
    assert!(
        restored > YEAR_2020_MS && Some(restored) >= status["epoch_floor"].as_u64(),
        "{restored}: {status}"
    );
    node.kill();

    let made =
        rekindle(dir.path(), &["store", "copy", "--from", &second, "--to", "local:copy", "--json"])
            .expect(0)
            .json();
    assert_eq!(made["copied"]["matches"], 1);
    let node = start("local:copy");
    let copied = epoch(&show(dir.path(), "node", &id));
    assert!(copied > restored + 1, "{copied} after {restored}");
    node.kill();
    // A backup is a directory on which a node may run, and so is a copy of it.
    copy(dir.path(), "safe", "again");
    let node = start("local:again");
    assert!(epoch(&show(dir.path(), "node", &id)) > YEAR_2020_MS);
    node.kill();
}

#[test]
fn a_restored_local_store_continues_in_an_epoch_that_nobody_has_seen() {
    after_a_backup(None);
}

#[test]
fn restored_tables_on_postgres_continue_in_an_epoch_that_nobody_has_seen() {
    let (Some(first), Some(second)) = (Tables::postgres(), Tables::postgres()) else {
        return servers::skipped("restored tables on Postgres", "no such server");
    };
    after_a_backup(Some(&(first, second)));
}

#[test]
fn restored_tables_on_cql_continue_in_an_epoch_that_nobody_has_seen() {
    let (Some(first), Some(second)) = (Tables::cql(), Tables::cql()) else {
        return servers::skipped("restored tables on CQL", "no such server");
    };
    after_a_backup(Some(&(first, second)));
}

#[test]
fn an_operator_says_that_a_store_was_restored() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &["--data-dir", "a"]);
    let id = create(dir.path(), "a");
    reaches(dir.path(), "a", &id, 5);
    let renew = [
        "store",
        "renew-identity",
        "--reason",
        "a snapshot was put back",
        "--json",
        "--data-dir",
        "a",
    ];
    rekindle(dir.path(), &renew).expect(7);
    node.kill();
    let before = identity(dir.path(), "local:a");
    assert!(before["identity"].is_string() && before["epoch_floor"] == 0, "{before}");
    let renewed = rekindle(dir.path(), &renew).expect(0).json();
    assert!(renewed["old"] == before["identity"] && renewed["old"] != renewed["new"], "{renewed}");
    let after = identity(dir.path(), "local:a");
    assert_eq!(
        (&after["identity"], &after["epoch_floor"]),
        (&renewed["new"], &renewed["epoch_floor"])
    );
    let words = rekindle(dir.path(), &["store", "status", "--store", "local:a"]).expect(0).stdout;
    assert!(
        words.contains("a snapshot was put back")
            && words.contains(renewed["new"].as_str().unwrap()),
        "{words}"
    );
    let node = Node::start(dir.path(), &["--data-dir", "a"]);
    assert_eq!(Some(epoch(&show(dir.path(), "a", &id))), renewed["epoch_floor"].as_u64());
    let audit = rekindle(dir.path(), &["audit", "--data-dir", "a"]).expect(0).stdout;
    assert!(audit.contains("store.renew-identity"), "{audit}");
    node.kill();
    rekindle(dir.path(), &["store", "renew-identity", "--store", "local:nothing"]).expect(4);
    assert!(!dir.path().join("nothing").exists());
}

#[test]
fn a_restart_after_a_kill_does_not_claim_to_have_killed_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let mut dead = Node::start(dir.path(), &["--data-dir", "a"]);
    let id = create(dir.path(), "a");
    reaches(dir.path(), "a", &id, 5);
    dead.signal(Signal::KILL);
    // Dead, and not waited for by its parent yet.
    eventually("its end", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", dead.pid())).unwrap();
        // Its files are closed with its last thread.
        let threads = std::fs::read_dir(format!("/proc/{}/task", dead.pid())).unwrap().count();
        (stat.contains(") Z ") && threads == 1).then_some(())
    });
    let node = Node::start(dir.path(), &["--data-dir", "a"]);
    assert!(
        logged(&node, "RK-NODE-010").is_some() && logged(&node, "RK-STORE-012").is_none(),
        "{:#?}",
        node.seen
    );
    dead.wait();
}

/// A node with a match on `a` whose files vanish: it ends within seconds, says why and does not say
/// that it stopped.
fn vanishes(vanish: impl FnOnce(&Path), terminated: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), &["--data-dir", "a"]);
    let id = create(dir.path(), "a");
    reaches(dir.path(), "a", &id, 10);
    vanish(&dir.path().join("a"));
    let begun = Instant::now();
    if terminated {
        node.signal(Signal::TERM);
    } else {
        let ended = node.wait_for("RK-NODE-003");
        assert!(ended["reason"].as_str().unwrap().contains("RK-STORE-100"), "{ended}");
    }
    assert_eq!(node.wait(), 1, "{:#?}", node.seen);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    node.stays_silent_about("RK-NODE-004", Duration::from_millis(100));
    assert!(
        node.seen.iter().any(|event| event.to_string().contains("RK-STORE-100")),
        "{:#?}",
        node.seen
    );
}

#[test]
fn a_node_whose_directory_is_removed_ends() {
    vanishes(|data| std::fs::remove_dir_all(data).unwrap(), false);
}

#[test]
fn a_node_whose_directory_is_moved_away_and_replaced_ends() {
    let replace = |data: &Path| {
        let moved = data.with_extension("moved");
        std::fs::rename(data, &moved).unwrap();
        assert!(Command::new("cp").arg("-a").arg(&moved).arg(data).status().unwrap().success());
    };
    vanishes(replace, false);
}

#[test]
fn a_node_whose_database_or_logs_are_removed_ends() {
    vanishes(|data| std::fs::remove_file(data.join("node.db")).unwrap(), false);
    vanishes(|data| std::fs::remove_dir_all(data.join("logs")).unwrap(), false);
}

#[test]
fn a_node_that_is_stopped_after_its_directory_was_removed_does_not_say_that_all_is_well() {
    vanishes(|data| std::fs::remove_dir_all(data).unwrap(), true);
}
