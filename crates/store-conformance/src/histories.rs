//! Histories of matches, as recovery reads them.

use rekindle_schema::lease::{MatchLease, Reached};
use rekindle_schema::{BatchNo, MatchId, Seq, Tick};
use rekindle_store::Store;
use rekindle_store::history::{self, End, History, HistoryError, LoadOptions, Start};
use rekindle_store::witness;

use super::{
    A, B, Backend, NODE, OTHER, Scribe, checkpoint, fence_and_seal, match_lease, register,
};

async fn load(
    store: &Store,
    lease: &MatchLease,
    start: Start,
    end: End,
) -> Result<History, HistoryError> {
    history::load(store, lease, &LoadOptions { start, end }).await
}

fn seqs(history: &History) -> Vec<u64> {
    history.frames.iter().map(|frame| frame.header.seq.0).collect()
}

/// A match that moved has its records in several logs, among those of other matches; it may come
/// back to a node where it was.
pub async fn a_history_spans_owners(backend: &impl Backend) {
    let store = backend.open().await;
    let (mut first, mut second) = (Scribe::new(NODE), Scribe::new(OTHER));
    register(&store, NODE).await;
    register(&store, OTHER).await;
    first.append(&store, 10, &[A, B]).await;
    second.own(A, 2, 11);
    second.append(&store, 5, &[A]).await;
    first.own(A, 3, 16);
    first.append(&store, 4, &[B]).await;
    first.append(&store, 3, &[A, B]).await;
    let mut lease = match_lease(A, &[(NODE, 1), (OTHER, 11), (NODE, 16)]);
    lease.lineage[2].first_batch = BatchNo(13);
    let history = load(&backend.open().await, &lease, Start::Newest, End::Newest).await.unwrap();
    assert_eq!(seqs(&history), (1..=18).collect::<Vec<_>>());
    assert_eq!(history.last_seq(), Seq(18));
    assert!(history.notes.is_empty());

    // A checkpoint in the second log makes the first unnecessary.
    let (meta, state) = checkpoint(A, 2, OTHER, 12, 2, 100);
    store.checkpoints.put(meta.clone(), state.clone()).await.unwrap();
    let history = load(&store, &lease, Start::Newest, End::Newest).await.unwrap();
    assert_eq!(history.checkpoint, Some((meta, state)));
    assert_eq!(seqs(&history), (13..=18).collect::<Vec<_>>());
    assert_eq!(history.frames[0].header.epoch.0, 2);
    let empty = load(&store, &match_lease(MatchId(99), &[(NODE, 1)]), Start::Newest, End::Newest)
        .await
        .unwrap();
    assert_eq!((empty.last_seq(), empty.frames.len()), (Seq(0), 0));
}

/// What a node writes after its log was sealed does not count, also if it has the right epoch and
/// goes on without a gap.
pub async fn a_zombie_behind_the_seal_does_not_count(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    register(&store, OTHER).await;
    let mut zombie = Scribe::new(NODE);
    zombie.append(&store, 6, &[A]).await;
    assert_eq!(fence_and_seal(&store, NODE).await, BatchNo(6));
    for _ in 0..3 {
        let refused = store.journal.append(zombie.small(&[A])).await;
        assert!(refused.is_err(), "a fenced node was told that its batch counts");
    }
    let lease = match_lease(A, &[(NODE, 1)]);
    assert_eq!(load(&store, &lease, Start::Newest, End::Newest).await.unwrap().last_seq(), Seq(6));
    let mut heir = Scribe::new(OTHER);
    heir.own(A, 2, 7);
    heir.append(&store, 2, &[A]).await;
    let lease = match_lease(A, &[(NODE, 1), (OTHER, 7)]);
    let history = load(&backend.open().await, &lease, Start::Newest, End::Newest).await.unwrap();
    let owners: Vec<_> =
        history.frames.iter().map(|frame| (frame.header.seq.0, frame.header.epoch.0)).collect();
    assert_eq!(owners[5..], [(6, 1), (7, 2), (8, 2)]);
}

/// Point in time: by record, by tick, from a record, from the beginning.
pub async fn a_history_ends_where_it_is_told(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    Scribe::new(NODE).append(&store, 20, &[A]).await;
    for seq in [5, 15] {
        let (meta, state) = checkpoint(A, 1, NODE, seq, seq, 64);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let lease = match_lease(A, &[(NODE, 1)]);
    // Record n covers ticks 2n-1 and 2n; a checkpoint at seq n stands at tick 2n.
    for (start, end, base, expected) in [
        (Start::Newest, End::Newest, Some(15), 16..21),
        (Start::Newest, End::Seq(Seq(17)), Some(15), 16..18),
        (Start::Newest, End::Seq(Seq(15)), Some(15), 16..16),
        (Start::Newest, End::Seq(Seq(14)), Some(5), 6..15),
        (Start::Newest, End::Seq(Seq(3)), None, 1..4),
        (Start::Newest, End::Tick(Tick(29)), Some(5), 6..16),
        (Start::Newest, End::Tick(Tick(33)), Some(15), 16..18),
        (Start::Beginning, End::Newest, None, 1..21),
        (Start::Seq(Seq(8)), End::Seq(Seq(9)), None, 8..10),
        (Start::Seq(Seq(0)), End::Tick(Tick(4)), None, 1..3),
    ] {
        let history = load(&store, &lease, start, end).await.unwrap();
        assert_eq!(
            history.checkpoint.as_ref().map(|(meta, _)| meta.seq.0),
            base,
            "{start:?} {end:?}"
        );
        assert_eq!(seqs(&history), expected.collect::<Vec<_>>(), "{start:?} {end:?}");
        assert!(history.notes.is_empty());
    }
    let short = load(&store, &lease, Start::Newest, End::Seq(Seq(40))).await.unwrap();
    assert_eq!(
        (short.last_seq(), short.notes.len()),
        (Seq(20), 1),
        "it is said that the journal ends before the record asked for"
    );
}

/// A hole in a match's records is an error, wherever it is; other matches in the same log are not
/// harmed.
pub async fn missing_records_are_not_passed_over(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    register(&store, OTHER).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 4, &[A, B]).await;
    scribe.skip(A, 1);
    scribe.append(&store, 4, &[A, B]).await;
    let lost =
        load(&store, &match_lease(A, &[(NODE, 1)]), Start::Newest, End::Newest).await.unwrap_err();
    assert!(
        matches!(lost, HistoryError::Gap { match_id: A, log: NODE, expected: Seq(5), .. }),
        "{lost}"
    );
    let before =
        load(&store, &match_lease(A, &[(NODE, 1)]), Start::Newest, End::Seq(Seq(4))).await.unwrap();
    assert_eq!(before.last_seq(), Seq(4));
    assert_eq!(
        load(&store, &match_lease(B, &[(NODE, 1)]), Start::Newest, End::Newest)
            .await
            .unwrap()
            .last_seq(),
        Seq(8)
    );

    // The first owner's records end before those of the second begin.
    let mut heir = Scribe::new(OTHER);
    heir.own(B, 2, 10);
    heir.append(&store, 2, &[B]).await;
    let lost = load(&store, &match_lease(B, &[(NODE, 1), (OTHER, 10)]), Start::Newest, End::Newest)
        .await
        .unwrap_err();
    assert!(
        matches!(lost, HistoryError::Gap { match_id: B, log: NODE, expected: Seq(9), .. }),
        "{lost}"
    );

    // The log ends before its seal.
    store.leases.fence(OTHER).await.unwrap();
    store.leases.seal(OTHER, BatchNo(3)).await.unwrap();
    let lost = load(&store, &match_lease(B, &[(NODE, 1), (OTHER, 9)]), Start::Newest, End::Newest)
        .await
        .unwrap_err();
    assert!(matches!(lost, HistoryError::Gap { .. }), "{lost}");
    let lost = load(&store, &match_lease(MatchId(5), &[(OTHER, 1)]), Start::Newest, End::Newest)
        .await
        .unwrap_err();
    assert!(matches!(lost, HistoryError::Damaged { log: OTHER, seq: Seq(1), .. }), "{lost}");
}

/// A log that ends before the batch that its node named is damaged: matches that may have had
/// records in there are not recovered, those that had gone elsewhere before are. Once an operator
/// accepts the loss, the rest is what there is.
pub async fn a_log_that_ends_too_early_is_damage(backend: &impl Backend) {
    let (gone, reached) = (MatchId(0x0c), |batch, crc| Reached {
        batch: BatchNo(batch),
        crc,
        at_ms: 1_700_000_004_000,
        checkpoint: None,
    });
    let store = backend.open().await;
    for node in [NODE, OTHER] {
        register(&store, node).await;
    }
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 3, &[A, B]).await;
    let written = scribe.append(&store, 3, &[A]).await;
    let mut heir = Scribe::new(OTHER);
    heir.own(B, 2, 4);
    heir.append(&store, 2, &[B]).await;
    let (a, b) = (match_lease(A, &[(NODE, 1)]), match_lease(B, &[(NODE, 1), (OTHER, 4)]));

    // As far as the log goes: nothing is wrong.
    store.leases.renew(NODE, 2_000, Some(reached(6, written[2].crc()))).await.unwrap();
    assert_eq!(load(&store, &a, Start::Newest, End::Newest).await.unwrap().last_seq(), Seq(6));
    assert_eq!(witness::look(&store).await.unwrap(), [""; 0]);
    // The same number with another checksum: another log stands there.
    store.leases.renew(NODE, 2_000, Some(reached(6, written[2].crc() ^ 1))).await.unwrap();
    let other = load(&store, &a, Start::Newest, End::Newest).await.unwrap_err();
    assert!(matches!(other, HistoryError::Damaged { match_id: A, log: NODE, .. }), "{other}");

    store.leases.renew(NODE, 2_000, Some(reached(9, 1))).await.unwrap();
    for sealed in [false, true] {
        if sealed {
            store.leases.fence(NODE).await.unwrap();
            assert_eq!(store.leases.seal(NODE, BatchNo(9)).await.unwrap(), BatchNo(9));
        }
        let lost = load(&backend.open().await, &a, Start::Newest, End::Newest).await.unwrap_err();
        assert!(
            matches!(lost, HistoryError::Damaged { match_id: A, log: NODE, seq: Seq(7), .. }),
            "{lost}"
        );
        let words = lost.to_string();
        let named = [
            "ticks after 12",
            "about 120",
            "batch 6",
            "batch 9",
            "2023-11-14T22:13:24.000Z",
            "accept-loss",
        ];
        assert!(named.iter().all(|part| words.contains(part)), "{words}");
        assert_eq!(
            load(&store, &b, Start::Newest, End::Newest).await.unwrap().last_seq(),
            Seq(5),
            "it had moved before"
        );
        let ended = load(&store, &a, Start::Newest, End::Seq(Seq(5))).await.unwrap();
        assert_eq!(ended.last_seq(), Seq(5), "what lies before can be read");
        let found = witness::look(&store).await.unwrap();
        assert!(found.len() == 1 && found[0].contains("RK-STORE-110"), "{found:?}");
    }
    store.leases.accept_loss(NODE, BatchNo(6), 5).await.unwrap();
    assert_eq!(load(&store, &a, Start::Newest, End::Newest).await.unwrap().last_seq(), Seq(6));
    assert_eq!(witness::look(&store).await.unwrap(), [""; 0]);

    // Nothing of the log is there at all.
    let lone = MatchId(0xf1);
    let node = rekindle_schema::Incarnation(0xc3);
    register(&store, node).await;
    store.leases.renew(node, 2_000, Some(reached(3, 1))).await.unwrap();
    let lost = load(&store, &match_lease(gone, &[(node, 1)]), Start::Newest, End::Newest)
        .await
        .unwrap_err();
    assert!(
        lost.to_string().contains("is gone") && lost.to_string().contains("all ticks"),
        "{lost}"
    );
    assert!(
        load(&store, &match_lease(lone, &[(OTHER, 1)]), Start::Newest, End::Newest).await.is_ok(),
        "nobody said anything of that log"
    );
    let found = witness::look(&store).await.unwrap();
    assert!(found.len() == 1 && found[0].contains("is gone"), "{found:?}");
}

/// A checkpoint names the batch behind which its later records are: a log that ends before the one
/// before that is damaged, whatever its lease says.
pub async fn a_checkpoint_says_how_far_the_log_had_come(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    Scribe::new(NODE).append(&store, 4, &[A]).await;
    let lease = match_lease(A, &[(NODE, 1)]);
    let (meta, state) = checkpoint(A, 1, NODE, 4, 4, 80);
    store.checkpoints.put(meta, state).await.unwrap();
    assert_eq!(load(&store, &lease, Start::Newest, End::Newest).await.unwrap().last_seq(), Seq(4));
    let (meta, state) = checkpoint(A, 1, NODE, 7, 6, 80);
    store.checkpoints.put(meta, state).await.unwrap();
    let lost = load(&store, &lease, Start::Newest, End::Newest).await.unwrap_err();
    let words = lost.to_string();
    assert!(
        matches!(lost, HistoryError::Damaged { match_id: A, log: NODE, seq: Seq(8), .. }),
        "{words}"
    );
    assert!(words.contains("batch 5") && words.contains("ticks after 14"), "{words}");
    assert_eq!(fence_and_seal(&store, NODE).await, BatchNo(4));
    store.leases.accept_loss(NODE, BatchNo(4), 5).await.unwrap();
    let left = load(&store, &lease, Start::Newest, End::Newest).await.unwrap();
    assert_eq!(
        (left.last_seq(), left.frames.len()),
        (Seq(7), 0),
        "the checkpoint is what there is"
    );
}

/// A record that names another one as the one before it is an error.
pub async fn a_broken_chain_is_noticed(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 3, &[A]).await;
    scribe.break_chain(A);
    scribe.append(&store, 1, &[A]).await;
    let error =
        load(&store, &match_lease(A, &[(NODE, 1)]), Start::Newest, End::Newest).await.unwrap_err();
    assert!(
        matches!(error, HistoryError::Chain { match_id: A, seq: Seq(4), batch: BatchNo(4), .. }),
        "{error}"
    );
}

/// A checkpoint counts only if it was taken by an owner of the lineage, of records that the owner
/// wrote.
pub async fn checkpoints_of_strangers_are_ignored(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    register(&store, OTHER).await;
    let mut first = Scribe::new(NODE);
    first.append(&store, 10, &[A]).await;
    let mut second = Scribe::new(OTHER);
    second.own(A, 2, 8);
    second.append(&store, 3, &[A]).await;
    // A zombie's view of records 8 to 10, one of another epoch, one of another node, and a good
    // one.
    for (epoch, log, seq) in
        [(1, NODE, 10), (1, NODE, 8), (3, OTHER, 10), (2, NODE, 10), (1, NODE, 6)]
    {
        let (meta, state) = checkpoint(A, epoch, log, seq, 1, 50);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let history =
        load(&store, &match_lease(A, &[(NODE, 1), (OTHER, 8)]), Start::Newest, End::Newest)
            .await
            .unwrap();
    assert_eq!(history.checkpoint.as_ref().map(|(meta, _)| meta.seq.0), Some(6));
    assert_eq!(
        history.frames.iter().map(|frame| frame.header.epoch.0).collect::<Vec<_>>(),
        [1, 2, 2, 2]
    );
}

/// Many matches recover at once, each with its own checkpoint, and the broken one among them fails
/// alone.
pub async fn many_histories_come_from_one_log(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    let matches: Vec<MatchId> = (1..=40).map(MatchId).collect();
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 6, &matches).await;
    scribe.skip(MatchId(7), 2);
    scribe.append(&store, 6, &matches).await;
    for &match_id in matches.iter().filter(|match_id| match_id.0 % 3 == 0) {
        let seq = match_id.0 % 5 + 5;
        let (meta, state) = checkpoint(match_id, 1, NODE, seq, seq, 100);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let leases: Vec<MatchLease> =
        matches.iter().map(|&match_id| match_lease(match_id, &[(NODE, 1)])).collect();
    let histories = history::load_many(&store, &leases, &LoadOptions::default()).await;
    assert_eq!(histories.len(), leases.len());
    for (lease, history) in leases.iter().zip(histories) {
        if lease.match_id == MatchId(7) {
            assert!(matches!(history, Err(HistoryError::Gap { expected: Seq(7), .. })));
            continue;
        }
        let history = history.unwrap();
        assert_eq!(history.last_seq(), Seq(12));
        let base = history.checkpoint.as_ref().map_or(0, |(meta, _)| meta.seq.0);
        assert_eq!(base, if lease.match_id.0 % 3 == 0 { lease.match_id.0 % 5 + 5 } else { 0 });
        assert_eq!(seqs(&history), (base + 1..=12).collect::<Vec<_>>());
        assert!(history.frames.iter().all(|frame| frame.header.match_id == lease.match_id));
    }
}
