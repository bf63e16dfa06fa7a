//! Damaged files: every bit of a small data directory is flipped in turn, every file is cut
//! everywhere. What was stored comes back as it was, or it is said that it does not.

use std::fs;
use std::path::{Path, PathBuf};

use rekindle_schema::checkpoint::CheckpointBase;
use rekindle_schema::lease::{MatchLease, Reached, StoredCheckpoint};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
use rekindle_store::chains;
use rekindle_store::history::{self, History, HistoryError, LoadOptions, Start};
use rekindle_store::{Store, StoreError, witness};
use rekindle_store_conformance::{Scribe, as_delta, checkpoint, match_lease, register};
use rekindle_store_local::{LocalOptions, LocalStore, Severity};

const NODE: Incarnation = Incarnation(1);
const A: MatchId = MatchId(1);
const B: MatchId = MatchId(2);

fn open(dir: &Path) -> Result<Store, StoreError> {
    LocalStore::open(dir, LocalOptions::default())
}

/// Seven batches of two matches, two checkpoints of one of them, three segments of each kind.
async fn fill(dir: &Path) {
    let store =
        LocalStore::open(dir, LocalOptions { segment_bytes: 900, ..LocalOptions::default() })
            .unwrap();
    register(&store, NODE).await;
    for match_id in [A, B] {
        store.leases.create(match_lease(match_id, &[(NODE, 1)])).await.unwrap();
    }
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 7, &[A, B]).await;
    for seq in [2, 5] {
        let (meta, state) = checkpoint(A, 1, NODE, seq, seq, 60);
        store.checkpoints.put(meta, state).await.unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

type Loaded = Vec<Result<History, HistoryError>>;

/// What recovery sees: the histories of all matches, from their checkpoints and from their
/// beginnings.
async fn recover(dir: &Path) -> Result<Loaded, StoreError> {
    let store = open(dir)?;
    let leases: Vec<MatchLease> = store.leases.matches().await?;
    let mut loaded = history::load_many(&store, &leases, &LoadOptions::default()).await;
    let beginning = LoadOptions { start: Start::Beginning, ..LoadOptions::default() };
    loaded.extend(history::load_many(&store, &leases, &beginning).await);
    Ok(loaded)
}

/// Whether a recovery is as good as the undamaged one: the same records, from whichever checkpoint.
fn same(found: &History, good: &History) -> bool {
    found.last_seq() == good.last_seq() && found.frames.ends_with(&good.frames)
}

/// Judges one damaged directory: it must be reported, by recovery or by the audit, or make no
/// difference. Returns whether it was reported.
async fn judge(dir: &Path, good: &[History], what: &str) -> bool {
    let audit = LocalStore::audit(dir);
    let audited = audit.as_ref().map_or(true, |audit| !audit.findings.is_empty());
    let torn = audit.as_ref().is_ok_and(|audit| audit.is_clean() && audited);
    match recover(dir).await {
        Err(_) => assert!(audited, "{what}: recovery failed but the audit found nothing"),
        Ok(loaded) => {
            assert!(loaded.len() == good.len() || audited, "{what}: a match vanished in silence");
            for (found, good) in loaded.iter().zip(good) {
                match found {
                    Ok(found) if same(found, good) => {}
                    Ok(found) => {
                        // The last batch may be missing if it is called a possibly torn tail;
                        // nothing else may.
                        let lost = good.last_seq().0 - found.last_seq().0;
                        let prefix = found.frames.len() < good.frames.len()
                            && good.frames.starts_with(&found.frames);
                        assert!(
                            torn && lost == 1 && prefix,
                            "{what}: silently different: {} instead of {}",
                            found.last_seq(),
                            good.last_seq()
                        );
                    }
                    Err(_) => {
                        assert!(audited, "{what}: recovery failed but the audit found nothing");
                    }
                }
            }
        }
    }
    audited
}

/// Every how many bits one is flipped. Every bit (`REKINDLE_FLIP_STEP=1`, as `cargo xtask bits`
/// asks for) takes long.
fn step(usual: usize) -> usize {
    std::env::var("REKINDLE_FLIP_STEP").ok().and_then(|step| step.parse().ok()).unwrap_or(usual)
}

async fn flip_every_bit_of(choose: impl Fn(&Path) -> bool, step: usize) -> (usize, usize) {
    let original = tempfile::tempdir().unwrap();
    fill(original.path()).await;
    let good: Vec<History> =
        recover(original.path()).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert!(LocalStore::audit(original.path()).unwrap().findings.is_empty());
    let dir = tempfile::tempdir().unwrap();
    let (mut flips, mut reported) = (0, 0);
    for file in files(original.path()).into_iter().filter(|file| choose(file)) {
        let bytes = fs::read(&file).unwrap();
        copy(original.path(), dir.path());
        let target = dir.path().join(file.strip_prefix(original.path()).unwrap());
        for bit in (0..bytes.len() * 8).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&target, damaged).unwrap();
            flips += 1;
            let what = format!("{} bit {bit}", target.display());
            reported += usize::from(judge(dir.path(), &good, &what).await);
        }
        fs::write(&target, bytes).unwrap();
    }
    (flips, reported)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_flipped_bit_of_a_log_or_checkpoint_goes_unnoticed() {
    // Every 31st meets every word of every header.
    let step = step(31);
    let (flips, reported) =
        flip_every_bit_of(|file| file.extension().is_some_and(|end| end == "seg"), step).await;
    println!("{flips} bits of segments flipped, {reported} reported");
    assert!(flips > 500);
    assert_eq!(flips, reported, "the audit checks every byte of a segment");
}

/// Two chains of three checkpoints each, and a log that is trimmed as far as they allow.
async fn fill_chains(dir: &Path) {
    let store =
        LocalStore::open(dir, LocalOptions { segment_bytes: 900, ..LocalOptions::default() })
            .unwrap();
    register(&store, NODE).await;
    store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
    let mut scribe = Scribe::new(NODE);
    let whole = |seq| checkpoint(A, 1, NODE, seq, seq, 200);
    for seq in 1..=14 {
        scribe.append(&store, 1, &[A]).await;
        let (meta, state) = match seq {
            4 | 10 => whole(seq),
            5 | 6 | 11 | 12 => as_delta(&whole(seq - 1), &whole(seq)),
            _ => continue,
        };
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let list = store.checkpoints.list(A).await.unwrap().0;
    let (_, second) = chains::restore_points(&list);
    let tip = second.unwrap().tip();
    assert_eq!(tip.seq.0, 6);
    store.checkpoints.trim(A, chains::keep_from(&list).unwrap()).await.unwrap();
    store.journal.trim(NODE, tip.batch).await.unwrap();
    assert!(
        store.journal.logs().await.unwrap()[0].first > BatchNo(3),
        "the log does not go back to the beginning"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_any_link_leaves_one_of_the_two_restore_points() {
    let original = tempfile::tempdir().unwrap();
    fill_chains(original.path()).await;
    let lease = match_lease(A, &[(NODE, 1)]);
    let dir = tempfile::tempdir().unwrap();
    copy(original.path(), dir.path());
    let (mut flips, mut from) = (0, std::collections::BTreeMap::new());
    for file in files(&original.path().join("checkpoints")) {
        let bytes = fs::read(&file).unwrap();
        let target = dir.path().join(file.strip_prefix(original.path()).unwrap());
        for bit in (0..bytes.len() * 8).step_by(step(31)) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&target, damaged).unwrap();
            let what = format!("{} bit {bit}", target.display());
            let store = open(dir.path()).unwrap();
            let history = history::load(&store, &lease, &LoadOptions::default())
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let (meta, state) =
                history.checkpoint.unwrap_or_else(|| panic!("{what}: nothing to restore"));
            assert_eq!(
                state,
                checkpoint(A, 1, NODE, meta.seq.0, 0, 200).1,
                "{what}: another state"
            );
            assert_eq!(history.frames.last().unwrap().header.seq.0, 14, "{what}");
            assert_eq!(history.frames[0].header.seq, meta.seq.next(), "{what}");
            assert!(
                meta.seq.0 == 12 || !history.notes.is_empty(),
                "{what}: fell back to {} in silence",
                meta.seq
            );
            assert!(
                !LocalStore::audit(dir.path()).unwrap().findings.is_empty(),
                "{what}: the audit found nothing"
            );
            *from.entry(meta.seq.0).or_insert(0) += 1;
            flips += 1;
        }
        fs::write(&target, bytes).unwrap();
    }
    println!("{flips} bits of checkpoints flipped; restored from {from:?}");
    // The newest full one damaged: its two deltas fall with it, and the chain before it stands in.
    assert!(from.keys().copied().collect::<Vec<_>>() == [6, 10, 11, 12], "{from:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_flipped_bit_of_the_database_changes_a_recovery_in_silence() {
    let step = step(31 * 37);
    let (flips, reported) = flip_every_bit_of(
        |file| file.file_name().is_some_and(|name| name == "node.db" || name == "format"),
        step,
    )
    .await;
    println!(
        "{flips} bits of node.db flipped, {reported} reported; the others lie in unused space"
    );
    assert!(reported > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cut_of_the_last_segment_leaves_whole_batches_and_is_reported() {
    let original = tempfile::tempdir().unwrap();
    fill(original.path()).await;
    let last = files(&original.path().join("logs")).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    let store = open(original.path()).unwrap();
    let all = store.journal.read(NODE, BatchNo(1), 1 << 20).await.unwrap();
    drop(store);
    let mut ends = std::collections::BTreeMap::new();
    for len in (0..=bytes.len()).rev() {
        fs::write(&last, &bytes[..len]).unwrap();
        let store = open(original.path()).unwrap();
        let tail = store.journal.tail(NODE).await.unwrap();
        let found = store.journal.read(NODE, BatchNo(1), 1 << 20).await.unwrap();
        assert_eq!(found, all[..tail.last.0 as usize], "cut to {len}");
        if tail.torn.is_none() {
            *ends.entry(tail.last.0).or_insert(0) += 1;
        }
    }
    // A cut is not reported only where a whole batch ends, or where the segment's header does.
    assert!(ends.values().all(|count| *count <= 1), "{ends:?}");
    assert_eq!(ends.keys().max(), Some(&7));
}

#[tokio::test]
async fn a_torn_tail_is_trimmed_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let last = files(&dir.path().join("logs")).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    for torn in [&b"RKBT and then the power failed"[..], &[0; 5_000]] {
        let mut bytes = whole.clone();
        bytes.extend_from_slice(torn);
        fs::write(&last, &bytes).unwrap();
        let store = open(dir.path()).unwrap();
        let tail = store.journal.tail(NODE).await.unwrap();
        assert_eq!(tail.last, BatchNo(7));
        let report = tail.torn.unwrap();
        assert!(
            report.contains(&format!("offset {}", whole.len())) && report.contains(".seg"),
            "{report}"
        );
        let audit = LocalStore::audit(dir.path()).unwrap();
        assert!(
            audit.findings.len() == 1 && audit.findings[0].severity == Severity::Note,
            "{audit:?}"
        );
        store.leases.fence(NODE).await.ok();
        store.journal.settle(NODE, BatchNo(7)).await.unwrap();
        assert_eq!(fs::read(&last).unwrap(), whole);
        let kept = last.with_extension(format!("{}.torn", whole.len()));
        assert_eq!(fs::read(kept).unwrap(), torn, "what was cut off is kept for inspection");
        assert_eq!(store.journal.tail(NODE).await.unwrap().torn, None);
    }
}

#[tokio::test]
async fn a_bad_batch_with_good_ones_behind_it_is_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 3, &[A, B]).await;
    scribe.append(&store, 1, &[B]).await;
    scribe.append(&store, 3, &[A]).await;
    let only = files(&dir.path().join("logs")).pop().unwrap();
    let mut bytes = fs::read(&only).unwrap();
    let starts: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"RKBT")
        .map(|(at, _)| at)
        .collect();
    bytes[starts[3] + 90] ^= 1;
    fs::write(&only, &bytes).unwrap();

    let tail = store.journal.tail(NODE).await.unwrap();
    assert_eq!((tail.last, &tail.torn), (BatchNo(7), &None), "the log can be sealed");
    assert!(
        tail.damage
            .as_ref()
            .is_some_and(|damage| damage.contains(&format!("offset {}", starts[3]))),
        "{tail:?}"
    );
    assert_eq!(store.journal.read(NODE, BatchNo(1), 1 << 20).await.unwrap().len(), 3);
    assert!(matches!(
        store.journal.read(NODE, BatchNo(4), 1 << 20).await,
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(
        store.journal.read(NODE, BatchNo(5), 1 << 20).await.unwrap().len(),
        3,
        "what lies behind can still be read"
    );

    // Batch 4 held nothing of A, whose records go on without a gap; of B it held the last one that
    // was written.
    let a = history::load(&store, &match_lease(A, &[(NODE, 1)]), &LoadOptions::default())
        .await
        .unwrap();
    assert_eq!(a.last_seq().0, 6);
    let b = history::load(&store, &match_lease(B, &[(NODE, 1)]), &LoadOptions::default())
        .await
        .unwrap_err();
    let text = b.to_string();
    assert!(matches!(b, HistoryError::Damaged { match_id: B, .. }), "{text}");
    assert!(text.contains("batch 4") && text.contains(".seg at offset"), "{text}");
}

#[tokio::test]
async fn a_damaged_or_missing_checkpoint_falls_back_to_the_older_one() {
    for damage in ["flip", "cut", "remove", "cut everything"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        register(&store, NODE).await;
        let mut scribe = Scribe::new(NODE);
        scribe.append(&store, 8, &[A]).await;
        for (node, seq) in [(NODE, 3), (NODE, 6)] {
            let (meta, state) = checkpoint(A, 1, node, seq, seq, 5_000);
            store.checkpoints.put(meta, state).await.unwrap();
        }
        drop(store);
        let path = files(&dir.path().join("checkpoints")).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.windows(4).rposition(|four| four == b"RKCP").unwrap();
        match damage {
            "flip" => bytes[second + 2_000] ^= 64,
            "cut" => bytes.truncate(second + 3_000),
            "remove" => bytes.truncate(second),
            _ => bytes.clear(),
        }
        fs::write(&path, bytes).unwrap();
        let store = open(dir.path()).unwrap();
        let history = history::load(&store, &match_lease(A, &[(NODE, 1)]), &LoadOptions::default())
            .await
            .unwrap();
        let base = history.checkpoint.as_ref().map(|(meta, _)| meta.seq.0);
        assert_eq!(base, if damage == "cut everything" { None } else { Some(3) }, "{damage}");
        assert_eq!(history.last_seq().0, 8);
        assert_eq!(
            history.notes.len(),
            usize::from(damage == "flip" || damage == "cut"),
            "{damage}: {:?}",
            history.notes
        );
    }
}

#[tokio::test]
async fn settling_a_dead_log_removes_a_checkpoint_that_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 8, &[A]).await;
    for seq in [3, 6] {
        let (meta, state) = checkpoint(A, 1, NODE, seq, seq, 5_000);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    drop(store);
    let path = files(&dir.path().join("checkpoints")).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 3_000);
    fs::write(&path, bytes).unwrap();
    let store = open(dir.path()).unwrap();
    let seqs = async || {
        let (found, damaged) = store.checkpoints.list(A).await.unwrap();
        (found.iter().map(|meta| meta.seq.0).collect::<Vec<_>>(), damaged.len())
    };
    assert_eq!(seqs().await, (vec![3], 1));
    store.leases.fence(NODE).await.unwrap();
    store.journal.settle(NODE, BatchNo(8)).await.unwrap();
    assert_eq!(seqs().await, (vec![3], 0));
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.checkpoints.list(A).await.unwrap().1.len(), 0);
    drop(store);
    assert!(LocalStore::audit(dir.path()).unwrap().findings.is_empty());
}

#[tokio::test]
async fn commits_that_sqlite_would_drop_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    register(&store, NODE).await;
    for number in 1..=5 {
        store.leases.create(match_lease(MatchId(number), &[(NODE, 1)])).await.unwrap();
    }
    // As after kill -9: the write-ahead log is still there.
    let copied = tempfile::tempdir().unwrap();
    copy(dir.path(), copied.path());
    drop(store);
    let wal = copied.path().join("node.db-wal");
    let bytes = fs::read(&wal).unwrap();
    let frames = (bytes.len() - 32) / (24 + 4096);
    assert!(frames > 5, "{frames} frames");
    let mut noticed = 0;
    for at in [9, 20, 32 + 8, 32 + 30, 32 + 4120 * 2 + 17, 32 + 4120 * 3 + 3_000] {
        let damaged = tempfile::tempdir().unwrap();
        copy(copied.path(), damaged.path());
        fs::remove_file(damaged.path().join("node.db-shm")).ok();
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(damaged.path().join("node.db-wal"), bytes).unwrap();
        let refused = open(damaged.path()).err();
        assert!(
            matches!(refused, Some(StoreError::Corrupt { .. })),
            "byte {at} of the write-ahead log: {refused:?}"
        );
        assert!(!LocalStore::audit(damaged.path()).unwrap().is_clean());
        noticed += 1;
    }
    assert_eq!(noticed, 6);
    fs::remove_file(copied.path().join("node.db-shm")).ok();
    let store = open(copied.path()).unwrap();
    assert_eq!(store.leases.matches().await.unwrap().len(), 5);
}

fn pipe(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pipe_in_place_of_a_segment_costs_no_batch_before_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let last = files(&dir.path().join("logs")).pop().unwrap();
    let begins: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::remove_file(&last).unwrap();
    pipe(&last);
    let store = open(dir.path()).unwrap();
    let tail = store.journal.tail(NODE).await.unwrap();
    assert_eq!((tail.last, tail.proven), (BatchNo(begins - 1), BatchNo(begins)));
    assert!(tail.damage.is_some_and(|damage| damage.contains("a named pipe")));
    let whole = store.journal.read(NODE, BatchNo(1), usize::MAX).await.unwrap();
    assert_eq!(whole.len() as u64, begins - 1);
    store.journal.settle(NODE, tail.last).await.unwrap();
    let beyond = store.journal.read(NODE, BatchNo(begins), 1).await;
    assert!(matches!(beyond, Err(StoreError::Corrupt { .. })), "{beyond:?}");
}

/// A log of 40 batches of 3 KB each that its node said to have come to batch 38, the row of its
/// match, and a checkpoint that its lease names.
async fn fill_witnessed(dir: &Path) -> PathBuf {
    let store = open(dir).unwrap();
    register(&store, NODE).await;
    store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
    let mut scribe = Scribe::new(NODE);
    let mut reached = None;
    for number in 1..=40 {
        let batch = scribe.batch(&[(A, &[number as u8; 3_000])]);
        let crc = batch.crc();
        store.journal.append(batch).await.unwrap();
        if number == 20 {
            let (meta, state) = checkpoint(A, 1, NODE, 20, 20, 500);
            store.checkpoints.put(meta, state).await.unwrap();
        }
        if number == 38 {
            let checkpoint = StoredCheckpoint {
                match_id: A,
                name: CheckpointBase { epoch: Epoch(1), seq: Seq(20) },
            };
            reached = Some(Reached {
                batch: BatchNo(38),
                crc,
                at_ms: 1_700_000_002_000,
                checkpoint: Some(checkpoint),
            });
        }
    }
    store.leases.renew(NODE, 9_000, reached).await.unwrap();
    drop(store);
    files(&dir.join("logs")).pop().unwrap()
}

/// What everybody says who looks: the history, the audit, the ends.
async fn noticed(dir: &Path, what: &str) {
    let audit = LocalStore::audit(dir).unwrap();
    assert!(!audit.is_clean(), "{what}: {audit:?}");
    let store = open(dir).unwrap();
    let lost = history::load(&store, &match_lease(A, &[(NODE, 1)]), &LoadOptions::default()).await;
    assert!(
        matches!(lost, Err(HistoryError::Damaged { match_id: A, log: NODE, .. })),
        "{what}: {lost:?}"
    );
    assert!(!witness::look(&store).await.unwrap().is_empty(), "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_end_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let segment = fill_witnessed(dir.path()).await;
    let whole = fs::read(&segment).unwrap();
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
    let starts: Vec<usize> = whole
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"RKBT")
        .map(|(at, _)| at)
        .collect();
    assert_eq!(starts.len(), 40);

    for len in (0..starts[38]).step_by(4_096) {
        fs::write(&segment, &whole[..len]).unwrap();
        noticed(dir.path(), &format!("cut to {len}")).await;
    }
    for zeroed in [10_000, 20_000, 50_000] {
        let mut bytes = whole.clone();
        bytes[whole.len() - zeroed..].fill(0);
        fs::write(&segment, bytes).unwrap();
        noticed(dir.path(), &format!("the last {zeroed} bytes zeroed")).await;
    }
    // The log of another node under its name.
    let other = tempfile::tempdir().unwrap();
    let store = open(other.path()).unwrap();
    register(&store, Incarnation(2)).await;
    Scribe::new(Incarnation(2)).append(&store, 60, &[A]).await;
    fs::copy(files(&other.path().join("logs")).pop().unwrap(), &segment).unwrap();
    noticed(dir.path(), "another log's segment").await;
    fs::remove_file(&segment).unwrap();
    noticed(dir.path(), "no segment").await;
    pipe(&segment);
    noticed(dir.path(), "a pipe as segment").await;
    let tail = open(dir.path()).unwrap().journal.tail(NODE).await.unwrap();
    assert!(tail.damage.is_some_and(|damage| damage.contains("a named pipe")));
    fs::remove_file(&segment).unwrap();
    fs::remove_dir(segment.parent().unwrap()).unwrap();
    noticed(dir.path(), "no folder").await;

    // Behind what its node had said nobody can tell, but for traces of later batches.
    fs::create_dir(segment.parent().unwrap()).unwrap();
    fs::write(&segment, &whole[..starts[39] + 100]).unwrap();
    assert!(LocalStore::audit(dir.path()).unwrap().is_clean());
    let store = open(dir.path()).unwrap();
    let tail = store.journal.tail(NODE).await.unwrap();
    assert_eq!(
        (tail.last, tail.proven, tail.torn.is_some(), tail.damage),
        (BatchNo(39), BatchNo(39), true, None)
    );
    let mut bytes = whole.clone();
    bytes[starts[38] + 500] ^= 1;
    bytes[starts[39]..].fill(0);
    fs::write(&segment, bytes).unwrap();
    let tail = store.journal.tail(NODE).await.unwrap();
    assert_eq!(
        (tail.last, tail.proven, tail.torn, tail.damage.is_some()),
        (BatchNo(38), BatchNo(39), None, true)
    );
    noticed(dir.path(), "a batch was written behind the bad one").await;
    store.leases.fence(NODE).await.unwrap();
    store.journal.settle(NODE, BatchNo(38)).await.unwrap();
    assert_eq!(fs::read(&segment).unwrap().len(), whole.len(), "what proves it stays");
}

#[tokio::test]
async fn a_directory_that_does_not_fit_its_logs_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    fill_witnessed(dir.path()).await;
    let refused = |what: &str| match open(dir.path()) {
        Err(error @ StoreError::Corrupt { .. }) => error.to_string(),
        other => panic!("{what}: {:?}", other.err()),
    };
    let database = dir.path().join("node.db");
    let good = fs::read(&database).unwrap();

    // The row of a match is gone.
    let connection = rusqlite::Connection::open(&database).unwrap();
    assert_eq!(connection.execute("DELETE FROM match_lease", []).unwrap(), 1);
    drop(connection);
    assert!(refused("a row").contains("match_lease"));
    assert!(!LocalStore::audit(dir.path()).unwrap().is_clean());

    // An older database, of before the node was registered.
    let older = tempfile::tempdir().unwrap();
    let store = open(older.path()).unwrap();
    register(&store, Incarnation(9)).await;
    drop(store);
    fs::copy(older.path().join("node.db"), &database).unwrap();
    assert!(refused("an older one").contains("RK-STORE-111"));
    assert!(!LocalStore::audit(dir.path()).unwrap().is_clean());

    // None at all, or an empty one.
    fs::remove_file(&database).unwrap();
    assert!(refused("none").contains("missing"));
    assert!(!database.exists(), "it is not made anew");
    assert!(!LocalStore::audit(dir.path()).unwrap().is_clean());
    fs::write(&database, b"").unwrap();
    assert!(refused("an empty one").contains("RK-STORE-111"));

    fs::write(&database, good).unwrap();
    for rest in ["node.db-wal", "node.db-shm"] {
        let _ = fs::remove_file(dir.path().join(rest));
    }
    let store = open(dir.path()).unwrap();
    assert_eq!(store.leases.matches().await.unwrap().len(), 1);
    assert_eq!(witness::look(&store).await.unwrap(), [""; 0]);
    drop(store);
    fs::remove_dir_all(dir.path().join("checkpoints").join(NODE.to_string())).unwrap();
    let store = open(dir.path()).unwrap();
    let found = witness::look(&store).await.unwrap();
    assert!(found.len() == 1 && found[0].contains("RK-STORE-112"), "{found:?}");
    let history = history::load(&store, &match_lease(A, &[(NODE, 1)]), &LoadOptions::default())
        .await
        .unwrap();
    assert_eq!(history.last_seq(), Seq(40), "the journal still has everything");
}

#[tokio::test]
async fn a_node_without_a_lease_leaves_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert!(matches!(
        store.journal.append(Scribe::new(NODE).small(&[A])).await,
        Err(StoreError::Fenced(NODE))
    ));
    drop(store);
    open(dir.path()).unwrap();
}

#[test]
fn an_error_of_reading_does_not_speak_of_writing() {
    let io = |what| {
        StoreError::Io {
            what,
            path: "logs/1.seg".to_owned(),
            cause: "permission denied".to_owned(),
        }
        .to_string()
    };
    assert!(
        io("open").contains("nothing was changed") && !io("open").contains("unknown"),
        "{}",
        io("open")
    );
    assert!(io("sync").contains("unknown") && io("sync").contains("must end"), "{}", io("sync"));
}
