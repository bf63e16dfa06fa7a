//! A data directory knows whether it is the one that it was, and leaves the processes of its
//! original alone.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::{Epoch, Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store::StoreError;
use rekindle_store::identity::{Fresh, Holder, StoreIdentity};
use rekindle_store::process::{holder, start_time, this_host};
use rekindle_store_conformance::{Scribe, match_lease, node_lease, register};
use rekindle_store_local::{LocalOptions, LocalStore};

const NODE: Incarnation = Incarnation(1);
const A: MatchId = MatchId(1);
const NOW: u64 = 1_795_000_000_000;

fn open(dir: &Path) -> Store {
    LocalStore::open(dir, LocalOptions::default()).unwrap()
}

async fn ascertain(store: &Store, chance: u128) -> StoreIdentity {
    store.identity.ascertain(Fresh { now_ms: NOW, chance }).await.unwrap()
}

/// A directory with a match in epoch 1 and the identity 1.
async fn original(dir: &Path) -> StoreIdentity {
    let store = open(dir);
    let identity = ascertain(&store, 1).await;
    store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
    identity
}

/// As `cp -a` does it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
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
async fn a_directory_that_was_moved_is_the_same_and_one_that_was_copied_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let first = original(&place("a")).await;
    assert_eq!(first.floor, Epoch(0));
    fs::rename(place("a"), place("moved")).unwrap();
    assert_eq!(ascertain(&open(&place("moved")), 2).await, first);
    std::os::unix::fs::symlink(place("moved"), place("link")).unwrap();
    assert_eq!(ascertain(&open(&place("link")), 3).await, first);

    copy(&place("moved"), &place("copy"));
    let second = ascertain(&open(&place("copy")), 4).await;
    assert_eq!((second.id.0, second.floor), (4, Epoch(NOW)));
    assert!(second.because.contains("copy"), "{}", second.because);
    assert_eq!(ascertain(&open(&place("copy")), 5).await, second);
    assert_eq!(ascertain(&open(&place("moved")), 6).await, first, "the original is what it was");

    // What was copied is put in the place of the original, whose inode numbers are free again.
    copy(&place("copy"), &place("again"));
    fs::remove_dir_all(place("copy")).unwrap();
    copy(&place("again"), &place("copy"));
    let third = ascertain(&open(&place("copy")), 7).await;
    assert!(third.id.0 == 7 && third.floor > second.floor, "{third:?}");
}

#[tokio::test]
async fn an_older_database_and_a_lost_or_damaged_identity_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a");
    original(&root).await;
    fs::copy(root.join("node.db"), dir.path().join("older")).unwrap();
    fs::rename(dir.path().join("older"), root.join("node.db")).unwrap();
    let replaced = ascertain(&open(&root), 2).await;
    assert!(replaced.id.0 == 2 && replaced.because.contains("node.db"), "{replaced:?}");

    fs::remove_file(root.join("identity")).unwrap();
    let lost = ascertain(&open(&root), 3).await;
    assert!(lost.id.0 == 3 && lost.floor >= Epoch(NOW), "{lost:?}");

    let mut bytes = fs::read(root.join("identity")).unwrap();
    bytes[60] ^= 1;
    fs::write(root.join("identity"), bytes).unwrap();
    let store = open(&root);
    assert!(matches!(store.identity.current().await, Err(StoreError::Corrupt { .. })));
    assert_eq!(LocalStore::audit(&root).unwrap().findings.len(), 1);
    let damaged = ascertain(&store, 4).await;
    assert!(damaged.id.0 == 4 && damaged.because.contains("damaged"), "{damaged:?}");
    assert!(LocalStore::audit(&root).unwrap().is_clean());
}

#[tokio::test]
async fn the_copy_forgets_the_process_of_its_original_and_touches_it_never() {
    let dir = tempfile::tempdir().unwrap();
    let (root, twin) = (dir.path().join("a"), dir.path().join("b"));
    original(&root).await;
    let mut node = sleeper();
    let pid = node.0.id();
    let lease = NodeLease {
        pid,
        pid_start: start_time(pid).unwrap(),
        host: this_host(),
        ..node_lease(NODE)
    };
    open(&root).leases.register(lease.clone()).await.unwrap();
    copy(&root, &twin);
    let store = open(&twin);
    assert_eq!(store.identity.holder(&lease).await.unwrap(), Holder::Stranger);
    // Even before it is known that this is a copy.
    store.leases.fence(NODE).await.unwrap();
    assert_eq!(node.0.try_wait().unwrap(), None, "the process of the original was killed");
    drop(store);

    fs::remove_dir_all(&twin).unwrap();
    copy(&root, &twin);
    let store = open(&twin);
    ascertain(&store, 2).await;
    let found = store.leases.node(NODE).await.unwrap().unwrap();
    assert_eq!(
        (found.pid, found.state),
        (0, NodeState::Live),
        "it names nobody whom somebody would wait for"
    );
    assert_eq!(open(&root).leases.node(NODE).await.unwrap(), Some(lease));
}

#[test]
fn a_process_that_has_ended_and_was_not_waited_for_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let mut child = Killed(
        Command::new("sleep").arg("600").stdin(fs::File::open(&file).unwrap()).spawn().unwrap(),
    );
    let (pid, start) = (child.0.id(), start_time(child.0.id()).unwrap());
    let files = [file];
    let look = || holder(pid, start, &files);
    assert_eq!(
        (look(), holder(pid, start + 1, &files), holder(pid, start, &[])),
        (Holder::Holds, Holder::Gone, Holder::Stranger)
    );
    child.0.kill().unwrap();
    while look() != Holder::Gone {
        std::thread::yield_now();
    }
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "it was not waited for");
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_files_are_gone() {
    let vanish: [fn(&Path); 5] = [
        |root| fs::remove_dir_all(root).unwrap(),
        |root| {
            let moved = root.with_extension("moved");
            fs::rename(root, &moved).unwrap();
            copy(&moved, root);
        },
        |root| fs::remove_file(root.join("node.db")).unwrap(),
        |root| fs::remove_file(root.join("node.db-wal")).unwrap(),
        |root| fs::remove_dir_all(root.join("logs")).unwrap(),
    ];
    for vanish in vanish {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a");
        let store = open(&root);
        register(&store, NODE).await;
        let mut scribe = Scribe::new(NODE);
        scribe.append(&store, 3, &[A]).await;
        store.leases.renew(NODE, 2_000, None).await.unwrap();
        vanish(&root);
        let lost = store.leases.renew(NODE, 3_000, None).await.unwrap_err();
        assert!(matches!(&lost, StoreError::Misplaced { .. }) && !lost.is_transient(), "{lost}");
        assert!(matches!(
            store.journal.append(scribe.small(&[A])).await,
            Err(StoreError::Misplaced { .. })
        ));
        assert!(
            matches!(store.leases.stop(NODE).await, Err(StoreError::Misplaced { .. })),
            "a clean stop of nothing"
        );
    }
}
