//! A data directory over its life: reopened, shared, fenced, trimmed, refused.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::lease::NodeState;
use rekindle_schema::{BatchNo, Incarnation, MatchId, Seq};
use rekindle_store::process::start_time;
use rekindle_store::{Renewal, Store, StoreError};
use rekindle_store_conformance::{Scribe, checkpoint, node_lease, read_all, register};
use rekindle_store_local::disk::{Disk, DiskFile, SystemDisk};
use rekindle_store_local::{LocalOptions, LocalStore};

const NODE: Incarnation = Incarnation(1);
const A: MatchId = MatchId(1);

fn open(dir: &Path) -> Store {
    LocalStore::open(dir, LocalOptions { segment_bytes: 2_000, ..LocalOptions::default() }).unwrap()
}

#[tokio::test]
async fn a_log_goes_on_after_it_was_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let mut scribe = Scribe::new(NODE);
    let mut written = Vec::new();
    for round in 0..4 {
        let store = open(dir.path());
        register(&store, NODE).await;
        if let Some(last) = written.last().cloned() {
            store.journal.append(last).await.unwrap();
        }
        written.extend(scribe.append(&store, 7, &[A]).await);
        let (meta, state) = checkpoint(A, 1, NODE, round + 1, 1, 100);
        store.checkpoints.put(meta, state).await.unwrap();
        assert_eq!(read_all(&store, NODE, 1, 1_000).await, written);
    }
    let store = open(dir.path());
    let (found, damaged) = store.checkpoints.list(A).await.unwrap();
    assert_eq!((found.len(), damaged.len()), (4, 0));
    drop(store);
    let audit = LocalStore::audit(dir.path()).unwrap();
    assert_eq!(
        (audit.batches, audit.frames, audit.checkpoints, audit.findings.len()),
        (28, 28, 4, 0),
        "{audit:?}"
    );
}

#[tokio::test]
async fn two_writers_cannot_share_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (open(dir.path()), open(dir.path()));
    register(&first, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&first, 1, &[A]).await;
    let refused = second.journal.append(scribe.small(&[A])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
}

#[test]
fn the_directory_of_a_newer_release_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("format"), "rekindle data directory, format 2\n").unwrap();
    let refused = LocalStore::open(dir.path(), LocalOptions::default()).err().unwrap();
    assert!(
        matches!(&refused, StoreError::Refused { problem, .. } if problem.contains("newer release")),
        "{refused}"
    );
    fs::write(dir.path().join("format"), "rekindle data directory, farmat 1\n").unwrap();
    assert!(matches!(
        LocalStore::open(dir.path(), LocalOptions::default()),
        Err(StoreError::Corrupt { .. })
    ));
    fs::remove_file(dir.path().join("format")).unwrap();
    assert!(matches!(
        LocalStore::open(dir.path(), LocalOptions::default()),
        Err(StoreError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn segments_are_dropped_whole_and_only_when_nothing_in_them_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 60, &[A, MatchId(2)]).await;
    for seq in 1..=30 {
        let (meta, state) = checkpoint(A, 1, NODE, seq, 1, 300);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let count =
        |kind: &str| fs::read_dir(dir.path().join(kind).join(NODE.to_string())).unwrap().count();
    let before = (count("logs"), count("checkpoints"));
    store.journal.trim(NODE, BatchNo(40)).await.unwrap();
    store.checkpoints.trim(A, Seq(25)).await.unwrap();
    let after = (count("logs"), count("checkpoints"));
    assert!(after.0 <= before.0 / 2 && after.1 <= before.1 / 2, "{before:?} {after:?}");
    assert_eq!(read_all(&store, NODE, 40, 1_000).await.len(), 21);
    assert_eq!(store.checkpoints.list(A).await.unwrap().0.len(), 6);
    drop(store);
    assert!(LocalStore::audit(dir.path()).unwrap().findings.is_empty());
}

/// Kills a child of a test when the test ends, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleeper() -> Killed {
    Killed(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
}

#[tokio::test]
async fn a_fence_kills_the_process_that_registered_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    register(&store, NODE).await;
    let mut suspect = holding_child("child_reads_and_stays", dir.path());
    // A process that is alive and was registered, but has this store not open: the node of the
    // store of which this one is a copy.
    let (mut bystander, mut stranger) = (sleeper(), sleeper());
    let lease = |incarnation, pid, pid_start| {
        let mut lease = node_lease(Incarnation(incarnation));
        (lease.pid, lease.pid_start) = (pid, pid_start);
        lease
    };
    let (pid, other) = (suspect.0.id(), bystander.0.id());
    store.leases.register(lease(5, pid, start_time(pid).unwrap())).await.unwrap();
    store
        .leases
        .register(lease(4, stranger.0.id(), start_time(stranger.0.id()).unwrap()))
        .await
        .unwrap();
    // A pid that was used again by another process, and this very process.
    store.leases.register(lease(2, other, start_time(other).unwrap() - 1)).await.unwrap();
    let me = std::process::id();
    store.leases.register(lease(3, me, start_time(me).unwrap())).await.unwrap();
    for incarnation in 2..=5 {
        store.leases.fence(Incarnation(incarnation)).await.unwrap();
        assert_eq!(
            store.leases.node(Incarnation(incarnation)).await.unwrap().unwrap().state,
            NodeState::Fenced
        );
    }
    assert!(!suspect.0.wait().unwrap().success());
    assert!(bystander.0.try_wait().unwrap().is_none(), "a bystander was killed");
    assert!(stranger.0.try_wait().unwrap().is_none(), "the node of another store was killed");
}

/// Run as a child by the test below.
#[test]
#[ignore = "a child process of another test"]
fn child_holds_the_database() {
    let Ok(dir) = std::env::var("REKINDLE_CHILD_DIR") else { return };
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut connection = rusqlite::Connection::open(Path::new(&dir).join("node.db")).unwrap();
    let _held =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    println!("held");
    std::thread::sleep(Duration::from_mins(10));
}

#[tokio::test]
async fn a_fence_frees_the_database_from_a_stuck_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_holds_the_database", "--ignored", "--nocapture"])
        .env("REKINDLE_CHILD_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut lease = node_lease(NODE);
    (lease.pid, lease.pid_start) = (child.0.id(), start_time(child.0.id()).unwrap());
    store.leases.register(lease).await.unwrap();
    child.0.stdin.take().unwrap().write_all(b"now\n").unwrap();
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")));
    store.leases.fence(NODE).await.unwrap();
    assert_eq!(store.leases.seal(NODE, BatchNo(0)).await.unwrap(), BatchNo(0));
}

/// A node that stops cleanly while another one believes it dead: either it had said so first, and
/// its process ends as it wants to, or it was fenced, is told so, and is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_said_it_stopped_before_it_was_fenced_is_not_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (open(dir.path()), open(dir.path()));
    register(&store, NODE).await;
    let mut child = holding_child("child_reads_and_stays", dir.path());
    let (mut stopped, mut fenced) = (0, 0);
    // Whoever came first waits longer the next time, so that both come first now and then.
    let (mut before_stop, mut before_fence) = (Duration::ZERO, Duration::ZERO);
    for round in 10..60 {
        let mut lease = node_lease(Incarnation(round));
        let pid = child.0.id();
        (lease.pid, lease.pid_start) = (pid, start_time(pid).unwrap());
        store.leases.register(lease).await.unwrap();
        let stop = async {
            tokio::time::sleep(before_stop).await;
            store.leases.stop(Incarnation(round)).await
        };
        let fence = async {
            tokio::time::sleep(before_fence).await;
            other.leases.fence(Incarnation(round)).await
        };
        let (renewal, done) = tokio::join!(stop, fence);
        done.unwrap();
        if renewal.unwrap() == Renewal::Live {
            stopped += 1;
            assert!(child.0.try_wait().unwrap().is_none(), "killed after it had stopped");
            (before_stop, before_fence) = (longer(before_stop), before_fence / 2);
        } else {
            fenced += 1;
            assert!(!child.0.wait().unwrap().success(), "killed because it was fenced");
            (before_stop, before_fence) = (before_stop / 2, longer(before_fence));
            child = holding_child("child_reads_and_stays", dir.path());
        }
        if stopped >= 3 && fenced >= 3 {
            return;
        }
    }
    panic!("stopped first {stopped} times, fenced first {fenced} times: one was hardly tried");
}

/// A pause that grows from nothing to seconds in a few rounds.
fn longer(pause: Duration) -> Duration {
    pause * 2 + Duration::from_micros(100)
}

/// A child process that has the database of `dir` open and says so.
fn holding_child(test: &str, dir: &Path) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("REKINDLE_CHILD_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    // How many leases it saw depends on the test.
    assert!(lines.any(|line| line.unwrap().contains("held ")), "the child has ended");
    child
}

/// Run as a child by the tests around.
#[test]
#[ignore = "a child process of another test"]
fn child_reads_and_stays() {
    let Ok(dir) = std::env::var("REKINDLE_CHILD_DIR") else { return };
    let mut connection = rusqlite::Connection::open(Path::new(&dir).join("node.db")).unwrap();
    let reading = connection.transaction().unwrap();
    let rows: i64 =
        reading.query_row("SELECT count(*) FROM node_lease", [], |row| row.get(0)).unwrap();
    println!("held {rows}");
    std::thread::sleep(Duration::from_mins(10));
}

#[tokio::test]
async fn nobody_waits_for_a_process_that_is_stuck_while_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    register(&store, NODE).await;
    let _child = holding_child("child_reads_and_stays", dir.path());
    for round in 1..=3 {
        store.leases.renew(NODE, round, None).await.unwrap();
        // Long enough for the write-ahead log to be folded, which is what must not wait.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let renewal = tokio::time::timeout(
            Duration::from_secs(3),
            store.leases.renew(NODE, round + 100, None),
        );
        renewal.await.expect("a change waits for a reader").unwrap();
    }
}

/// A disk that remembers which directories were synced.
#[derive(Default)]
struct SyncedDirs(Mutex<Vec<PathBuf>>);

impl Disk for SyncedDirs {
    fn open(&self, path: &Path, new: bool) -> std::io::Result<Box<dyn DiskFile>> {
        SystemDisk.open(path, new)
    }

    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        self.0.lock().push(path.to_owned());
        SystemDisk.sync_dir(path)
    }
}

/// Without that, a power cut takes the whole directory away, however well everything in it was
/// synced.
#[tokio::test]
async fn the_names_of_a_new_directory_and_of_the_folders_above_it_are_durable_before_anything_is_acknowledged()
 {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().canonicalize().unwrap().join("of/games/node");
    // The lock of a node makes the directory before the store is opened.
    fs::create_dir_all(&dir).unwrap();
    let disk = Arc::new(SyncedDirs::default());
    let options = || LocalOptions { disk: disk.clone(), ..LocalOptions::default() };
    drop(LocalStore::open(&dir, options()).unwrap());
    let synced = std::mem::take(&mut *disk.0.lock());
    for above in dir.ancestors().skip(1).take(3) {
        assert!(synced.iter().any(|path| path == above), "{} among {synced:?}", above.display());
    }
    drop(LocalStore::open(&dir, options()).unwrap());
    assert!(disk.0.lock().is_empty(), "a directory that is old already is not synced again");
}
