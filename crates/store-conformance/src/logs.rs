//! Logs and checkpoints.

use std::time::Duration;

use rekindle_schema::batch::{MAX_BATCH, MAX_PAYLOAD};
use rekindle_schema::{BatchNo, Incarnation, Seq};
use rekindle_store::history::{self, LoadOptions};
use rekindle_store::{MAX_CHECKPOINT, Store};
use rekindle_store::{StoreError, Tail};

use super::{A, B, Backend, NODE, OTHER, Scribe, checkpoint, match_lease, read_all, register};

fn whole(last: u64) -> Tail {
    Tail { last: BatchNo(last), proven: BatchNo(last), torn: None, damage: None }
}

/// Batches are read as they were written, from any number on, in chunks of any size, by any
/// process.
pub async fn batches_come_back_in_order(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    assert_eq!(store.journal.tail(NODE).await.unwrap(), whole(0));
    assert!(store.journal.read(NODE, BatchNo(1), 1 << 20).await.unwrap().is_empty());
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&store, 20, &[A, B]).await;
    let large = vec![9; 300 << 10];
    let batch = scribe.batch(&[(A, &large), (B, b""), (A, b"x")]);
    store.journal.append(batch.clone()).await.unwrap();
    written.push(batch);
    written.extend(scribe.append(&store, 20, &[B]).await);
    let other = backend.open().await;
    for max in [0, 500, 64 << 10, 8 << 20] {
        assert_eq!(read_all(&store, NODE, 1, max).await, written);
        assert_eq!(read_all(&other, NODE, 7, max).await, written[6..]);
        let chunk = other.journal.read(NODE, BatchNo(1), max).await.unwrap();
        assert!(
            chunk.len() == 1 || chunk.iter().map(|batch| batch.bytes.len()).sum::<usize>() <= max,
            "more than asked for"
        );
    }
    assert!(store.journal.read(NODE, BatchNo(42), 1 << 20).await.unwrap().is_empty());
    assert_eq!(other.journal.tail(NODE).await.unwrap(), whole(41));
    let logs = other.journal.logs().await.unwrap();
    assert_eq!(
        logs.iter().map(|info| (info.log, info.first)).collect::<Vec<_>>(),
        [(NODE, BatchNo(1))]
    );
}

/// A batch that is appended again, because its answer was lost, changes nothing.
pub async fn a_duplicate_append_is_harmless(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let written = scribe.append(&store, 5, &[A]).await;
    for batch in [&written[4], &written[0], &written[2], &written[4]] {
        store.journal.append(batch.clone()).await.unwrap();
    }
    scribe.append(&store, 1, &[A]).await;
    assert_eq!(read_all(&store, NODE, 1, 1 << 20).await[..5], written);
    assert_eq!(store.journal.tail(NODE).await.unwrap(), whole(6));
}

/// Another batch under the same number means that two writers share a log; so does one that does
/// not continue the one before it.
pub async fn a_conflicting_batch_is_refused(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let written = scribe.append(&store, 3, &[A]).await;
    let mut twin = Scribe::new(NODE);
    for number in 1..=3 {
        let batch = twin.batch(&[(A, b"something else")]);
        let refused = store.journal.append(batch).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Conflict { log: NODE, number: n } if n.0 == number),
            "{refused}"
        );
    }
    let refused = store.journal.append(twin.batch(&[(A, b"the fourth")])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
    assert_eq!(read_all(&store, NODE, 1, 1 << 20).await, written);
    scribe.append(&store, 1, &[A]).await;
}

/// A batch that would leave a hole is refused.
pub async fn a_gap_is_refused(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let first = scribe.small(&[A]);
    let second = scribe.small(&[A]);
    let refused = store.journal.append(second.clone()).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Gap { last: BatchNo(0), got: BatchNo(2), .. }),
        "{refused}"
    );
    store.journal.append(first).await.unwrap();
    store.journal.append(second).await.unwrap();
    let (_, fourth) = (scribe.small(&[A]), scribe.small(&[A]));
    let refused = store.journal.append(fourth).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Gap { last: BatchNo(2), got: BatchNo(4), .. }),
        "{refused}"
    );
    assert_eq!(store.journal.tail(NODE).await.unwrap(), whole(2));
}

/// A log that is copied after its beginning was trimmed keeps its numbers; everything else about it
/// is as with any log.
pub async fn a_copy_of_a_trimmed_log_begins_where_it_did(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let batches: Vec<_> = (0..60).map(|_| scribe.small(&[A])).collect();
    let append = async |number: usize| store.journal.append(batches[number - 1].clone()).await;
    store.journal.begin(NODE, BatchNo(50)).await.unwrap();
    store.journal.begin(NODE, BatchNo(51)).await.unwrap();
    assert!(
        matches!(append(53).await, Err(StoreError::Gap { .. })),
        "only the batch that was named may come first"
    );
    append(51).await.unwrap();
    assert!(matches!(append(53).await, Err(StoreError::Gap { .. })));
    append(52).await.unwrap();
    append(51).await.unwrap();
    store.journal.begin(NODE, BatchNo(51)).await.unwrap();
    let refused = store.journal.begin(NODE, BatchNo(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    for number in 53..=60 {
        append(number).await.unwrap();
    }
    let other = backend.open().await;
    assert_eq!(other.journal.logs().await.unwrap()[0].first, BatchNo(51));
    assert_eq!(read_all(&other, NODE, 51, 1000).await, batches[50..]);
    assert!(matches!(
        other.journal.read(NODE, BatchNo(1), 1000).await,
        Err(StoreError::NotFound(_))
    ));
    assert_eq!(other.journal.tail(NODE).await.unwrap(), whole(60));
    other.leases.fence(NODE).await.unwrap();
    other.journal.settle(NODE, BatchNo(60)).await.unwrap();
    assert_eq!(other.leases.seal(NODE, BatchNo(60)).await.unwrap(), BatchNo(60));
}

/// What was damaged on the way to the store does not get in.
pub async fn damaged_bytes_are_refused_before_they_are_written(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let batch = Scribe::new(NODE).small(&[A]);
    let mut bytes = batch.bytes.to_vec();
    bytes[100] ^= 4;
    let mut damaged = batch.clone();
    damaged.bytes = bytes.into();
    assert!(matches!(store.journal.append(damaged).await, Err(StoreError::Corrupt { .. })));
    let mut renamed = batch.clone();
    renamed.number = BatchNo(2);
    assert!(matches!(store.journal.append(renamed).await, Err(StoreError::Corrupt { .. })));
    store.journal.append(batch).await.unwrap();
    let (meta, state) = checkpoint(A, 1, NODE, 1, 1, 100);
    let cut = store.checkpoints.put(meta.clone(), state.slice(..99)).await;
    assert!(matches!(cut, Err(StoreError::Corrupt { .. })));
    store.checkpoints.put(meta, state).await.unwrap();
}

/// Payloads of 0 bytes, 1 MiB and the maximum are kept; anything larger is refused and harms
/// nothing.
pub async fn sizes_up_to_the_limit_are_kept(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let payload: Vec<u8> = (0..MAX_PAYLOAD).map(|i| (i / 7) as u8).collect();
    let mut written = Vec::new();
    for size in [0, 1 << 20, MAX_PAYLOAD] {
        written.push(scribe.batch(&[(A, &payload[..size])]));
        store.journal.append(written[written.len() - 1].clone()).await.unwrap();
    }
    let mut over = scribe.clone().small(&[A]);
    over.bytes = vec![0; MAX_BATCH + 1].into();
    let refused = store.journal.append(over).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { limit: MAX_BATCH, .. }), "{refused}");
    let (first, second) = payload.split_at(MAX_PAYLOAD - 1000);
    written.push(scribe.batch(&[(A, &payload[..MAX_PAYLOAD - 1000]), (B, first), (A, second)]));
    store.journal.append(written[3].clone()).await.unwrap();
    assert_eq!(read_all(&backend.open().await, NODE, 1, 1 << 20).await, written);

    for (seq, len) in [(1, 0), (2, 1), (3, 1 << 20)] {
        let (meta, state) = checkpoint(A, 1, NODE, seq, 1, len);
        store.checkpoints.put(meta.clone(), state.clone()).await.unwrap();
        assert_eq!(backend.open().await.checkpoints.get(&meta).await.unwrap(), state);
    }
    let (mut meta, _) = checkpoint(A, 1, NODE, 4, 1, 0);
    meta.len = MAX_CHECKPOINT as u64 + 1;
    let refused =
        store.checkpoints.put(meta, vec![0; MAX_CHECKPOINT + 1].into()).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { limit: MAX_CHECKPOINT, .. }), "{refused}");
}

/// A reader that follows a log while it grows sees every batch once, whole, in order.
pub async fn a_log_can_be_read_while_it_grows(backend: &impl Backend) {
    const BATCHES: u64 = 150;
    let (store, other) = (backend.open().await, backend.open().await);
    register(&store, NODE).await;
    let writer = tokio::spawn(async move {
        let mut scribe = Scribe::new(NODE);
        let payload = vec![3; 20_000];
        for _ in 0..BATCHES {
            store.journal.append(scribe.batch(&[(A, &payload), (B, b"b")])).await.unwrap();
        }
    });
    let mut next = 1;
    while next <= BATCHES {
        let found = other
            .journal
            .read(NODE, BatchNo(next), 50_000)
            .await
            .expect("a log that grows is not corrupt");
        for batch in found {
            assert_eq!(batch.number, BatchNo(next));
            assert!(rekindle_schema::batch::BatchView::parse(&batch.bytes).is_ok());
            next += 1;
        }
        let tail = other.journal.tail(NODE).await.expect("a log that grows is not corrupt");
        assert!(tail.last.0 + 1 >= next, "the tail went back");
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

/// Far more appends than a store takes at once: some may be refused, and what is acknowledged is
/// there.
pub async fn overload_is_refused_and_leaves_a_prefix(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let batches: Vec<_> = (0..300).map(|_| scribe.small(&[A])).collect();
    let outcomes =
        futures::future::join_all(batches.iter().map(|batch| store.journal.append(batch.clone())))
            .await;
    let mut last = 0;
    for (batch, outcome) in batches.iter().zip(&outcomes) {
        match outcome {
            Ok(()) => last = batch.number.0,
            Err(StoreError::Overloaded(_) | StoreError::Gap { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(last > 0);
    let tail = store.journal.tail(NODE).await.unwrap();
    assert!(tail.last.0 >= last, "an acknowledged batch is missing");
    assert_eq!(read_all(&store, NODE, 1, 1 << 20).await, batches[..tail.last.0 as usize]);
    for batch in &batches[tail.last.0 as usize..] {
        store.journal.append(batch.clone()).await.unwrap();
    }
    assert_eq!(store.journal.tail(NODE).await.unwrap(), whole(300));
}

/// Trimming takes nothing from `before` on, whatever it frees, and the log goes on.
pub async fn trimming_keeps_what_was_not_trimmed(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&store, 30, &[A]).await;
    let mut asked = 1;
    for before in [0, 1, 10, 5, 30, 31, 99] {
        store.journal.trim(NODE, BatchNo(before)).await.unwrap();
        let first = store.journal.logs().await.unwrap()[0].first;
        asked = asked.max(before);
        assert!(
            first.0 <= asked.min(written.len() as u64),
            "trimming before {before} took everything up to {first}"
        );
        assert_eq!(
            read_all(&backend.open().await, NODE, first.0, 1000).await,
            written[first.0 as usize - 1..]
        );
        if first.0 > 1 {
            let gone = store.journal.read(NODE, BatchNo(1), 1000).await;
            assert!(
                matches!(gone, Err(StoreError::NotFound(_))),
                "what was trimmed is not simply the end of the log"
            );
        }
        written.extend(scribe.append(&store, 1, &[A]).await);
    }
    assert_eq!(store.journal.tail(NODE).await.unwrap(), whole(37));
}

/// The log of a fenced incarnation can be removed altogether, and then its lease.
pub async fn a_dead_log_goes_as_a_whole(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    register(&store, OTHER).await;
    Scribe::new(NODE).append(&store, 5, &[A]).await;
    Scribe::new(OTHER).append(&store, 5, &[A]).await;
    store.leases.fence(NODE).await.unwrap();
    assert_eq!(store.leases.seal(NODE, BatchNo(4)).await.unwrap(), BatchNo(4));
    store.journal.trim(NODE, BatchNo(4)).await.unwrap();
    assert_eq!(
        store.journal.read(NODE, BatchNo(4), 0).await.unwrap().len(),
        1,
        "batch 4 counts and was not to be trimmed"
    );
    store.journal.trim(NODE, BatchNo(5)).await.unwrap();
    let logs: Vec<Incarnation> =
        backend.open().await.journal.logs().await.unwrap().iter().map(|info| info.log).collect();
    assert_eq!(logs, [OTHER]);
    store.leases.forget(NODE).await.unwrap();
    assert_eq!(store.leases.node(NODE).await.unwrap(), None);
}

/// Checkpoints are listed by what they cover, can be put again, and go when they are trimmed.
pub async fn checkpoints_are_listed_newest_first(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    for (match_id, seq) in [(A, 10), (B, 5), (A, 30), (A, 20), (B, 6), (A, 30)] {
        let (meta, state) = checkpoint(match_id, 1, NODE, seq, 1, 1000);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let seqs = async |store: &Store, match_id| -> Vec<u64> {
        let (found, damaged) = store.checkpoints.list(match_id).await.unwrap();
        assert!(damaged.is_empty(), "{damaged:?}");
        found.iter().map(|meta| meta.seq.0).collect()
    };
    assert_eq!(seqs(&store, A).await, [30, 20, 10]);
    assert_eq!(seqs(&backend.open().await, B).await, [6, 5]);
    let (missing, _) = checkpoint(A, 1, NODE, 31, 1, 10);
    assert!(matches!(store.checkpoints.get(&missing).await, Err(StoreError::NotFound(_))));
    store.checkpoints.trim(A, Seq(20)).await.unwrap();
    assert_eq!(seqs(&store, A).await, [30, 20]);
    let (meta, state) = checkpoint(A, 1, NODE, 40, 1, 10);
    store.checkpoints.put(meta, state).await.unwrap();
    assert_eq!(seqs(&store, A).await, [40, 30, 20]);
    assert_eq!(seqs(&store, B).await, [6, 5]);
}

/// While 64 MiB are put, other matches commit.
pub async fn a_large_checkpoint_does_not_hold_up_commits(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 1, &[B]).await;
    let (meta, state) = checkpoint(A, 1, NODE, 1, 1, 64 << 20);
    let put = tokio::spawn({
        let (store, meta, state) = (store.clone(), meta.clone(), state.clone());
        async move { store.checkpoints.put(meta, state).await }
    });
    let mut during = 0;
    while !put.is_finished() {
        // Far longer than any one commit takes, far shorter than an accident.
        let batch = scribe.small(&[B]);
        let commit = tokio::time::timeout(Duration::from_secs(10), store.journal.append(batch));
        commit.await.expect("a commit waits for a checkpoint").unwrap();
        during += u64::from(!put.is_finished());
    }
    put.await.unwrap().unwrap();
    println!("{during} commits while 64 MiB were put");
    assert_eq!(backend.open().await.checkpoints.get(&meta).await.unwrap(), state);
}

/// Whatever is trimmed by the rule (each match from its second-newest checkpoint on), every match
/// can be recovered, also if its newest checkpoint is lost.
pub async fn retention_keeps_what_recovery_needs(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let leases = [match_lease(A, &[(NODE, 1)]), match_lease(B, &[(NODE, 1)])];
    for round in 1..=8u64 {
        scribe.append(&store, 10, &[A, B]).await;
        let last = round * 10;
        let owner = if round % 2 == 0 { A } else { B };
        let (meta, state) = checkpoint(owner, 1, NODE, last - 3, last - 3, 500);
        store.checkpoints.put(meta, state).await.unwrap();
        let mut keep = BatchNo(u64::MAX);
        for lease in &leases {
            let (found, _) = store.checkpoints.list(lease.match_id).await.unwrap();
            let second = found.get(1).map_or(BatchNo(1), |meta| meta.batch);
            keep = keep.min(second);
            if let Some(second) = found.get(1) {
                store.checkpoints.trim(lease.match_id, second.seq).await.unwrap();
            }
        }
        store.journal.trim(NODE, keep).await.unwrap();
        for lease in &leases {
            let (found, _) = store.checkpoints.list(lease.match_id).await.unwrap();
            let end = |seq| LoadOptions { end: seq, ..LoadOptions::default() };
            let newest = history::load(&store, lease, &end(history::End::Newest)).await.unwrap();
            assert_eq!(newest.last_seq(), Seq(last));
            if let Some(newest) = found.first() {
                let before = Seq(newest.seq.0 - 1);
                let older =
                    history::load(&store, lease, &end(history::End::Seq(before))).await.unwrap();
                assert_eq!(
                    older.last_seq(),
                    before,
                    "the second-newest checkpoint needs records that are gone"
                );
            }
        }
    }
}
