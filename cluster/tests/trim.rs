//! Logs are trimmed by what checkpoints rest on.

use rekindle_cluster::retention::trim::Cut;
use rekindle_cluster::retention::{self, Policy};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store::chains;
use rekindle_store::history::{self, LoadOptions};
use rekindle_store_conformance::{Scribe, as_delta, checkpoint, match_lease, register};
use rekindle_store_memory::MemoryStore;

const NODE: Incarnation = Incarnation(1);
const MATCH: MatchId = MatchId(1);

/// What housekeeping cuts with the usual policy.
async fn cuts(store: &Store) -> Vec<Cut> {
    retention::run(store, &Policy::default(), 0).await.unwrap().cuts
}

/// Deltas on one full checkpoint are one restore point: with two of them, and nothing else, all of
/// the log stays. With a second chain, it is kept from the last link of the first on, and whatever
/// is damaged in the newer chain, the match comes back from there.
#[tokio::test]
async fn a_log_is_kept_from_the_chain_before_the_newest_on() {
    let memory = MemoryStore::new();
    let store = memory.store();
    register(&store, NODE).await;
    store.leases.create(match_lease(MATCH, &[(NODE, 1)])).await.unwrap();
    let mut scribe = Scribe::new(NODE);
    let whole = |seq| checkpoint(MATCH, 1, NODE, seq, seq, 300);
    for seq in 1..=8 {
        scribe.append(&store, 1, &[MATCH]).await;
        let (meta, state) = match seq {
            3 => whole(3),
            4 | 5 => as_delta(&whole(seq - 1), &whole(seq)),
            _ => continue,
        };
        store.checkpoints.put(meta, state).await.unwrap();
    }
    assert_eq!(cuts(&store).await, [], "all three fall with the full one");

    for (meta, state) in [whole(7), as_delta(&whole(7), &whole(8))] {
        store.checkpoints.put(meta, state).await.unwrap();
    }
    assert_eq!(cuts(&store).await, [Cut { log: NODE, before: BatchNo(5) }]);
    // A zombie's checkpoint, of an owner that the row does not know, is no restore point.
    let (meta, state) = checkpoint(MATCH, 9, NODE, 8, 8, 300);
    store.checkpoints.put(meta, state).await.unwrap();
    assert_eq!(cuts(&store).await, []);

    let list = store.checkpoints.list(MATCH).await.unwrap().0;
    let newest = chains::Chain::of(
        list.iter().find(|meta| meta.seq.0 == 8 && meta.epoch.0 == 1).unwrap(),
        &list,
    )
    .unwrap();
    assert!(memory.flip_bit_of(newest.root(), 77));
    let lease = match_lease(MATCH, &[(NODE, 1)]);
    let history = history::load(&store, &lease, &LoadOptions::default()).await.unwrap();
    assert_eq!(history.checkpoint.map(|(meta, state)| (meta.seq.0, state)), Some((5, whole(5).1)));
    assert_eq!(
        history.frames.iter().map(|frame| frame.header.seq.0).collect::<Vec<_>>(),
        [6, 7, 8]
    );
    assert!(history.notes.iter().any(|note| note.contains("passed over")), "{:?}", history.notes);
}
