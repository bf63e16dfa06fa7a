//! The archive of the local store as files: every flipped byte is noticed, every length, whatever a
//! dead process left; and an archive that an earlier release wrote is read.
//!
//! `schema/golden/archive-1` is never changed.
//! `REKINDLE_GOLDEN=new cargo test -p rekindle-store-local --test archive` writes it if it
//! is missing.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_schema::batch::BatchView;
use rekindle_schema::{Incarnation, MatchId, Tick};
use rekindle_store::archive::{ChunkBuilder, Placed};
use rekindle_store::{Store, StoreError, archive};
use rekindle_store_conformance::{Scribe, checkpoint, chunk};
use rekindle_store_local::{LocalOptions, LocalStore};

const A: MatchId = MatchId(0x7f3a);
const PIN: Pin =
    Pin { match_id: A, from: Tick(3), to: Some(Tick(9)), created_ms: 1_700_000_000_000 };

fn open(dir: &Path) -> Store {
    LocalStore::open(dir, LocalOptions::default()).unwrap()
}

/// Four records, the state behind them, two more records.
fn parts() -> Vec<(ChunkMeta, Bytes)> {
    let node = Incarnation(0xa1);
    let mut scribe = Scribe::new(node);
    let mut chunk = |count: usize| {
        let mut builder = ChunkBuilder::default();
        for _ in 0..count {
            let batch = scribe.small(&[A]);
            let frame = BatchView::parse(&batch.bytes).unwrap().all_frames()[0].clone();
            assert!(builder.push(&Placed { frame, log: node, batch: batch.number }).is_none());
        }
        builder.finish().unwrap()
    };
    let (first, second) = (chunk(4), chunk(2));
    let (meta, state) = checkpoint(A, 1, node, 4, 4, 200);
    vec![first, archive::pack_state(&meta, &state).unwrap(), second]
}

async fn fill(dir: &Path) {
    let store = open(dir);
    for (meta, bytes) in parts() {
        store.archive.put(meta, bytes).await.unwrap();
    }
    store.archive.pin(PIN).await.unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir.join("archive").join(A.to_string()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

/// What can be read is what was written: nothing else is ever taken for it.
async fn assert_nothing_false(store: &Store, context: &str) {
    let (listed, _) = store.archive.list(A).await.unwrap();
    for meta in listed {
        let written = parts().into_iter().find(|(written, _)| *written == meta);
        let (_, bytes) = written.unwrap_or_else(|| panic!("{context}: {meta:?} was never written"));
        match store.archive.get(&meta).await {
            Ok(found) => assert!(found == bytes, "{context}: other bytes"),
            Err(StoreError::Corrupt { .. }) => {}
            Err(error) => panic!("{context}: {error}"),
        }
    }
}

#[tokio::test]
async fn no_flipped_byte_goes_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
    let store = open(dir.path());
    let files = files(dir.path());
    assert_eq!(files.len(), 4);
    let mut flipped = 0;
    for path in &files {
        let whole = fs::read(path).unwrap();
        // Each bit of the header, then one of each byte, another one in the next.
        for bit in (0..128).chain((16..whole.len()).map(|byte| byte * 8 + byte % 8)) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, &bytes).unwrap();
            let audit = LocalStore::audit(dir.path()).unwrap();
            let context = format!("{}, bit {bit}", path.display());
            assert!(
                !audit.is_clean()
                    && audit
                        .findings
                        .iter()
                        .any(|finding| finding.place == path.display().to_string()),
                "{context}: {audit:?}"
            );
            assert_nothing_false(&store, &context).await;
            flipped += 1;
        }
        fs::write(path, &whole).unwrap();
    }
    println!("{flipped} bits");
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
}

#[tokio::test]
async fn a_file_of_another_length_or_name_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let store = open(dir.path());
    for path in files(dir.path()) {
        let whole = fs::read(&path).unwrap();
        for len in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(
                !LocalStore::audit(dir.path()).unwrap().is_clean(),
                "{} cut to {len}",
                path.display()
            );
            assert_nothing_false(&store, "cut").await;
        }
        fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
        assert!(!LocalStore::audit(dir.path()).unwrap().is_clean(), "{} grown", path.display());
        fs::write(&path, &whole).unwrap();
    }
    let files = files(dir.path());
    fs::copy(&files[0], files[0].with_file_name("00000000000000000009.records.chunk")).unwrap();
    assert!(!LocalStore::audit(dir.path()).unwrap().is_clean());
    let (_, damaged) = store.archive.list(A).await.unwrap();
    assert!(matches!(&damaged[..], [StoreError::Corrupt { .. }]), "{damaged:?}");
}

/// A damaged chunk is replaced by one that is whole, and what a dead process had begun to write is
/// no chunk.
#[tokio::test]
async fn what_is_broken_can_be_put_again() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let store = open(dir.path());
    let path = files(dir.path()).remove(0);
    fs::write(&path, b"RKAC").unwrap();
    fs::write(path.with_file_name("4711.0.new"), b"half").unwrap();
    let (meta, bytes) = chunk(A, 1, 3);
    assert_eq!(store.archive.put(meta.clone(), bytes.clone()).await.unwrap(), meta);
    assert_eq!(store.archive.get(&meta).await.unwrap(), bytes);
    assert_eq!(store.archive.list(A).await.unwrap().0.len(), 3);
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
}

/// What cannot be a chunk's content is refused behind checksums that are right, too: lengths that
/// lie, frames of others, a broken chain.
#[test]
fn contents_are_checked_against_their_manifest() {
    let (meta, bytes) = chunk(A, 1, 4);
    assert_eq!(archive::records(&meta, &bytes).unwrap().len(), 4);
    let lies = [
        ChunkMeta { raw_len: meta.raw_len - 1, ..meta.clone() },
        ChunkMeta { raw_len: u64::MAX, ..meta.clone() },
        ChunkMeta { match_id: MatchId(1), ..meta.clone() },
        ChunkMeta { last_seq: meta.last_seq.next(), ..meta.clone() },
        ChunkMeta { records: 3, ..meta.clone() },
        ChunkMeta { last_crc: meta.last_crc ^ 1, ..meta.clone() },
        ChunkMeta { kind: ChunkKind::State, ..meta.clone() },
    ];
    for lie in lies {
        let refused = archive::records(&lie, &bytes).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    }
    let (state, stored) = parts().remove(1);
    assert!(archive::records(&state, &stored).is_err() && archive::state(&meta, &bytes).is_err());
}

#[tokio::test]
async fn an_archive_of_version_1_is_read() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schema/golden/archive-1");
    let dir = tempfile::tempdir().unwrap();
    if !golden.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        fill(dir.path()).await;
        fs::create_dir_all(&golden).unwrap();
        for path in files(dir.path()) {
            fs::copy(&path, golden.join(path.file_name().unwrap())).unwrap();
        }
    }
    let folder = dir.path().join("archive").join(A.to_string());
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(&golden).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let store = open(dir.path());
    assert_eq!(store.archive.pins().await.unwrap(), [PIN]);
    let (listed, damaged) = store.archive.list(A).await.unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(listed.len(), 3);
    // What compression makes of it may differ from release to release, so contents are compared.
    for (meta, (written, bytes)) in listed.iter().zip(parts()) {
        let stored = store.archive.get(meta).await.unwrap();
        match meta.kind {
            ChunkKind::Records => assert_eq!(
                archive::records(meta, &stored).unwrap(),
                archive::records(&written, &bytes).unwrap()
            ),
            ChunkKind::State => assert_eq!(
                archive::state(meta, &stored).unwrap(),
                archive::state(&written, &bytes).unwrap()
            ),
        }
    }
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
}
