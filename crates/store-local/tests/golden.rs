//! A data directory that an earlier release wrote is opened, and its contents are
//! what that release put there.
//!
//! `schema/golden/data-1` is never changed. `REKINDLE_GOLDEN=new cargo test -p
//! rekindle-store-local --test golden` writes it if it is missing.

use std::fs;
use std::path::{Path, PathBuf};

use rekindle_schema::audit::{AuditEntry, Stage};
use rekindle_schema::lease::NodeState;
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::{ActionId, BatchNo, Incarnation, MatchId, Tick};
use rekindle_store::history::{self, LoadOptions};
use rekindle_store::{AuditQuery, Store};
use rekindle_store_conformance::{Scribe, checkpoint, job, match_lease, read_all, register};
use rekindle_store_local::{LocalOptions, LocalStore};

const NODE: Incarnation = Incarnation(0xaa);
const OTHER: Incarnation = Incarnation(0xbb);
const A: MatchId = MatchId(0x7f3a);

fn open(dir: &Path) -> Store {
    LocalStore::open(dir, LocalOptions { segment_bytes: 600, ..LocalOptions::default() }).unwrap()
}

async fn fill(dir: &Path) {
    let store = open(dir);
    register(&store, NODE).await;
    register(&store, OTHER).await;
    store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
    Scribe::new(NODE).append(&store, 5, &[A, MatchId(2)]).await;
    let (meta, state) = checkpoint(A, 1, NODE, 3, 3, 100);
    store.checkpoints.put(meta, state).await.unwrap();
    store.leases.fence(NODE).await.unwrap();
    store.leases.seal(NODE, BatchNo(5)).await.unwrap();
    let mut heir = Scribe::new(OTHER);
    heir.own(A, 2, 6);
    heir.append(&store, 2, &[A]).await;
    let mut lease = match_lease(A, &[(NODE, 1), (OTHER, 6)]);
    lease.version = 2;
    store.leases.compare_and_set(lease).await.unwrap().unwrap();
    let effect = Effect {
        id: EffectId { tick: Tick(4), ordinal: 0 },
        kind: "result".to_owned(),
        payload: b"won".to_vec().into(),
    };
    store.effects.deliver(A, effect).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

/// The same files with the same bytes, except `node.db`, whose pages `SQLite` arranges as it likes.
fn assert_same(left: &Path, right: &Path) {
    for entry in fs::read_dir(left).unwrap() {
        let path = entry.unwrap().path();
        let twin = right.join(path.file_name().unwrap());
        if path.is_dir() {
            assert_same(&path, &twin);
        } else if path.file_name().is_some_and(|name| name != "node.db") {
            assert_eq!(fs::read(&path).unwrap(), fs::read(&twin).unwrap(), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_data_directory_of_format_1() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schema/golden/data-1");
    if !golden.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        fill(&golden).await;
    }
    let fresh = tempfile::tempdir().unwrap();
    fill(fresh.path()).await;
    assert_same(&golden, fresh.path());

    let dir = tempfile::tempdir().unwrap();
    copy(&golden, dir.path());
    let audit = LocalStore::audit(dir.path()).unwrap();
    assert_eq!((audit.batches, audit.checkpoints, audit.findings.len()), (7, 1, 0), "{audit:?}");
    let store = open(dir.path());
    let lease = store.leases.get(A).await.unwrap().unwrap();
    let history = history::load(&store, &lease, &LoadOptions::default()).await.unwrap();
    assert_eq!(history.checkpoint.as_ref().map(|(meta, _)| meta.seq.0), Some(3));
    assert_eq!(
        history.frames.iter().map(|frame| frame.header.seq.0).collect::<Vec<_>>(),
        [4, 5, 6, 7]
    );
    assert_eq!(read_all(&store, NODE, 1, 100).await.len(), 5);
    let node = store.leases.node(NODE).await.unwrap().unwrap();
    assert_eq!((node.state, node.seal), (NodeState::Fenced, Some(BatchNo(5))));
    assert_eq!(store.effects.delivered().await.unwrap()[0].1.payload, &b"won"[..]);
}

/// The version of the tables, as `SQLite` keeps it.
fn tables(dir: &Path) -> i64 {
    let connection = rusqlite::Connection::open(dir.join("node.db")).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn tables_of_version_1_get_what_they_lack() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schema/golden/data-1");
    let dir = tempfile::tempdir().unwrap();
    copy(&golden, dir.path());
    assert_eq!(
        tables(dir.path()),
        1,
        "the golden directory is no longer what the first release wrote"
    );
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
    assert_eq!(tables(dir.path()), 1, "whoever only looks changes nothing");
    let (one, two) = (open(dir.path()), open(dir.path()));
    assert_eq!(tables(dir.path()), 3);
    let id = one.jobs.enqueue(job(1)).await.unwrap();
    let entry = AuditEntry {
        time_ms: 5,
        action_id: ActionId(7),
        stage: Stage::Begun,
        node: NODE,
        who: "me".to_owned(),
        action: "match.stop".to_owned(),
        target: A.to_string(),
        detail: String::new(),
    };
    one.audit.append(entry.clone()).await.unwrap();
    assert_eq!(two.jobs.get(id).await.unwrap().unwrap().id, id);
    assert_eq!(
        two.audit.list(AuditQuery { since_ms: 0, until_ms: 6, limit: 9 }).await.unwrap(),
        [entry]
    );
    let shared = RegistryEntry { name: "keys".into(), version: 1, value: "k".into() };
    assert_eq!(one.registry.put(shared.clone()).await.unwrap(), Ok(()));
    assert_eq!(two.registry.get("keys").await.unwrap(), Some(shared));
    assert_eq!(
        one.leases.get(A).await.unwrap().unwrap().version,
        2,
        "what was there is still there"
    );
    drop((one, two));
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
    // A release that is newer than this one would write version 4.
    rusqlite::Connection::open(dir.path().join("node.db"))
        .unwrap()
        .pragma_update(None, "user_version", 4)
        .unwrap();
    let refused = LocalStore::open(dir.path(), LocalOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("version 4") && refused.contains("version 3"), "{refused}");
}

#[tokio::test]
async fn a_job_that_nobody_would_find_is_reported() {
    for (table, change) in [
        ("job_due", "DELETE FROM job_due"),
        ("job_due", "UPDATE job_due SET b = b + 1"),
        ("job", "UPDATE job SET value = zeroblob(length(value))"),
        ("audit", "DELETE FROM totals WHERE name = 'audit'"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.jobs.enqueue(job(1)).await.unwrap();
        drop(store);
        assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
        let connection = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
        assert_eq!(connection.execute(change, []).unwrap(), 1);
        drop(connection);
        let found = LocalStore::audit(dir.path()).unwrap();
        let named = found.findings.iter().any(|finding| format!("{finding:?}").contains(table));
        assert!(!found.is_clean() && named, "{change}: {:?}", found.findings);
    }
}
