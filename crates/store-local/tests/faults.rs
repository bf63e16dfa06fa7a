//! Disks that fail or lie. An error ends the writer; what was acknowledged survives; and the suite
//! notices a store that cheats.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Scribe, checkpoint, read_all, register};
use rekindle_store_local::disk::{Disk, SystemDisk};
use rekindle_store_local::{LocalOptions, LocalStore, Mutant};
use support::{CachedDisk, Cheat, CheatingDisk, FailingDisk, Fault, SlowDisk};

const NODE: Incarnation = Incarnation(1);
const A: MatchId = MatchId(1);
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn open(dir: &Path, disk: Arc<dyn Disk>) -> Store {
    LocalStore::open(
        dir,
        LocalOptions { disk, segment_bytes: 1_500, append_queue: 4, ..LocalOptions::default() },
    )
    .unwrap()
}

#[tokio::test]
async fn the_first_error_ends_the_writer() {
    for fault in [
        Fault::Write(7, EIO),
        Fault::Write(7, ENOSPC),
        Fault::ShortWrite(7, ENOSPC),
        Fault::Sync(7, EIO),
        Fault::Write(1, ENOSPC),
        Fault::Sync(1, EIO),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingDisk::new(fault);
        let store = open(dir.path(), disk.clone());
        register(&store, NODE).await;
        let mut scribe = Scribe::new(NODE);
        let mut acknowledged = Vec::new();
        let failed = loop {
            let batch = scribe.small(&[A]);
            match store.journal.append(batch.clone()).await {
                Ok(()) => acknowledged.push(batch),
                Err(error) => break (batch, error),
            }
        };
        let (batch, error) = failed;
        assert!(
            matches!(&error, StoreError::Io { path, .. } if path.contains("/logs/")),
            "{fault:?}: {error}"
        );
        assert!(!error.is_transient());
        let counts = disk.counts();
        for batch in [batch, scribe.small(&[A])] {
            let again = store.journal.append(batch).await.unwrap_err();
            assert_eq!(again.to_string(), error.to_string(), "{fault:?}");
        }
        assert_eq!(disk.counts(), counts, "{fault:?}: the disk was tried again");
        drop(store);
        let store = open(dir.path(), Arc::new(SystemDisk));
        let found = read_all(&store, NODE, 1, 1 << 20).await;
        assert!(
            found.starts_with(&acknowledged) && found.len() <= acknowledged.len() + 1,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_failed_checkpoint_is_never_visible_and_the_next_one_is_stored() {
    // Of the writes and syncs, the first two are batches, the third the checkpoint before the one
    // that fails.
    for fault in [Fault::ShortWrite(4, ENOSPC), Fault::Write(4, EIO), Fault::Sync(4, EIO)] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingDisk::new(fault);
        let store = open(dir.path(), disk);
        register(&store, NODE).await;
        let mut scribe = Scribe::new(NODE);
        scribe.append(&store, 2, &[A]).await;
        let put = async |seq, len| {
            let (meta, state) = checkpoint(A, 1, NODE, seq, seq, len);
            store.checkpoints.put(meta, state).await
        };
        let seqs = async || {
            let (found, damaged) = store.checkpoints.list(A).await.unwrap();
            assert!(damaged.is_empty(), "{fault:?}: {damaged:?}");
            found.iter().map(|meta| meta.seq.0).collect::<Vec<_>>()
        };
        put(1, 400).await.unwrap();
        assert!(matches!(put(2, 400).await, Err(StoreError::Io { .. })), "{fault:?}");
        assert_eq!(seqs().await, [1], "{fault:?}");
        for (seq, len) in [(3, 300), (4, 400), (5, 1_000)] {
            put(seq, len).await.unwrap();
        }
        scribe.append(&store, 2, &[A]).await;
        assert_eq!(seqs().await, [5, 4, 3, 1], "{fault:?}");
        drop(store);
        assert!(LocalStore::audit(dir.path()).unwrap().is_clean(), "{fault:?}");
        let store = open(dir.path(), Arc::new(SystemDisk));
        let (found, damaged) = store.checkpoints.list(A).await.unwrap();
        assert!(found.len() == 4 && damaged.is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Arc::new(SlowDisk(Duration::from_millis(20))));
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 1, &[A]).await;
    let batches: Vec<_> = (0..40).map(|_| scribe.small(&[A])).collect();
    let outcomes =
        futures::future::join_all(batches.iter().map(|batch| store.journal.append(batch.clone())))
            .await;
    let accepted = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    assert!((4..20).contains(&accepted), "{accepted} were accepted by a queue of 4");
    let refused = outcomes[accepted].as_ref().unwrap_err();
    assert!(matches!(refused, StoreError::Overloaded(_)) && refused.is_transient(), "{refused}");
    assert_eq!(read_all(&store, NODE, 2, 1 << 20).await, batches[..accepted]);
}

/// Appends, puts and cuts the power; returns what is wrong afterwards.
async fn survive_a_power_cut(cheat: Cheat, batches: usize) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let cached = CachedDisk::default();
    let store = open(dir.path(), Arc::new(CheatingDisk { disk: Arc::new(cached.clone()), cheat }));
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let acknowledged = scribe.append(&store, batches, &[A]).await;
    for seq in 1..=3 {
        let (meta, state) = checkpoint(A, 1, NODE, seq, 1, 300);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    drop(store);
    cached.power_cut();
    let store = open(dir.path(), Arc::new(SystemDisk));
    let tail = store.journal.tail(NODE).await.map_err(|error| error.to_string())?;
    let found = read_all(&store, NODE, 1, 1 << 20).await;
    if found != acknowledged {
        return Err(format!(
            "{} of {} acknowledged batches are left, the tail is {tail:?}",
            found.len(),
            acknowledged.len()
        ));
    }
    let (checkpoints, _) = store.checkpoints.list(A).await.map_err(|error| error.to_string())?;
    if checkpoints.len() == 3 {
        Ok(())
    } else {
        Err(format!("{} of 3 checkpoints are left", checkpoints.len()))
    }
}

#[tokio::test]
async fn what_is_acknowledged_survives_a_power_cut() {
    for batches in [1, 2, 5, 13, 40] {
        survive_a_power_cut(Cheat::Honest, batches).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_does_not_sync_fails_the_suite() {
    for batches in [1, 13, 40] {
        let caught = survive_a_power_cut(Cheat::NoSync, batches).await.unwrap_err();
        assert!(caught.starts_with("0 of"), "{caught}");
    }
}

#[tokio::test]
async fn a_store_that_acknowledges_before_it_syncs_fails_the_suite() {
    for batches in [1, 13, 40] {
        survive_a_power_cut(Cheat::LateSync, batches).await.unwrap_err();
    }
}

/// Flips bits of a segment and returns the first batch that came back different without a word.
async fn read_flipped(mutant: Mutant) -> Option<usize> {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Arc::new(SystemDisk));
    register(&store, NODE).await;
    let written = Scribe::new(NODE).append(&store, 3, &[A]).await;
    drop(store);
    let path = dir.path().join("logs").join(NODE.to_string()).join(format!("{:020}.seg", 1));
    let bytes = fs::read(&path).unwrap();
    let store =
        LocalStore::open(dir.path(), LocalOptions { mutant, ..LocalOptions::default() }).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, damaged).unwrap();
        for number in 1..=3 {
            let found = store.journal.read(NODE, BatchNo(number), 0).await.unwrap_or_default();
            if found.first().is_some_and(|batch| *batch != written[number as usize - 1]) {
                return Some(bit);
            }
        }
    }
    None
}

#[tokio::test]
async fn a_damaged_batch_never_comes_back() {
    assert_eq!(read_flipped(Mutant::None).await, None);
}

#[tokio::test]
async fn a_store_that_skips_the_checksums_fails_the_suite() {
    assert!(read_flipped(Mutant::NoChecksums).await.is_some());
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_writer_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(dir.path())
        .output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        println!(
            "SKIPPED: a_full_disk_ends_the_writer_and_loses_nothing: no tmpfs can be mounted: \
             {mounted:?}"
        );
        return;
    }
    let _mounted = Mounted(dir.path());
    let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let payload = vec![1; 40_000];
    let mut acknowledged = Vec::new();
    let error = loop {
        let batch = scribe.batch(&[(A, &payload)]);
        match store.journal.append(batch.clone()).await {
            Ok(()) => acknowledged.push(batch),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, StoreError::Io { what: "write", cause, .. } if cause.contains("No space \
            left")),
        "{error}"
    );
    assert!(acknowledged.len() > 5);
    assert!(matches!(store.journal.append(scribe.small(&[A])).await, Err(StoreError::Io { .. })));
    assert_eq!(read_all(&store, NODE, 1, 1 << 20).await, acknowledged);
    let tail = store.journal.tail(NODE).await.unwrap();
    assert_eq!(tail.last.0 as usize, acknowledged.len());
    drop(store);
    let audit = LocalStore::audit(dir.path()).unwrap();
    assert!(audit.is_clean(), "{audit:?}");
}
