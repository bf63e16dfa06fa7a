//! Checkpoints that are deltas to others.

use bytes::Bytes;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::delta::{self, DeltaWriter};
use rekindle_schema::{Epoch, Seq, Tick};
use rekindle_store::history::{self, End, History, LoadOptions};
use rekindle_store::{Store, chains};

use super::{A, B, Backend, NODE, OTHER, Scribe, checkpoint, match_lease, register};

/// A checkpoint with its state: what a delta can be made to.
pub type Whole = (CheckpointMeta, Bytes);

/// What is stored of `whole` as a delta to `base`.
pub fn as_delta(base: &Whole, whole: &Whole) -> (CheckpointMeta, Bytes) {
    let mut writer = DeltaWriter::new(&base.1);
    writer.replace(0..base.1.len(), &whole.1);
    let (delta, state) =
        delta::seal(&base.1, &writer.finish()).expect("operations that were just written");
    assert_eq!(state, whole.1);
    let (len, crc) = (delta.len() as u64, crc32c::crc32c(&delta));
    (CheckpointMeta { len, crc, base: Some(base.0.as_base()), ..whole.0.clone() }, delta.into())
}

async fn put(store: &Store, (meta, bytes): (CheckpointMeta, Bytes)) {
    store.checkpoints.put(meta, bytes).await.unwrap();
}

async fn load(store: &Store, end: End) -> History {
    history::load(
        store,
        &match_lease(A, &[(NODE, 1)]),
        &LoadOptions { end, ..LoadOptions::default() },
    )
    .await
    .unwrap()
}

fn whole(seq: u64) -> Whole {
    checkpoint(A, 1, NODE, seq, seq, 4_000)
}

/// A delta comes back as it was put, and a history has the state that it leads to; so at any link
/// of a chain.
pub async fn a_chain_comes_back_as_the_state_of_its_last_link(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    Scribe::new(NODE).append(&store, 20, &[A, B]).await;
    let states: Vec<Whole> = [3, 6, 9, 12].into_iter().map(whole).collect();
    let mut stored = vec![states[0].clone()];
    stored.extend(states.windows(2).map(|pair| as_delta(&pair[0], &pair[1])));
    for link in &stored {
        put(&store, link.clone()).await;
    }
    put(&store, checkpoint(B, 1, NODE, 9, 9, 100)).await;
    let store = backend.open().await;
    let (listed, damaged) = store.checkpoints.list(A).await.unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(listed, stored.iter().rev().map(|(meta, _)| meta.clone()).collect::<Vec<_>>());
    for (meta, bytes) in &stored {
        assert_eq!(store.checkpoints.get(meta).await.unwrap(), *bytes);
    }
    for (end, expected) in
        [(End::Newest, 3), (End::Seq(Seq(11)), 2), (End::Tick(Tick(12)), 1), (End::Seq(Seq(3)), 0)]
    {
        let history = load(&store, end).await;
        let (meta, state) = history.checkpoint.clone().unwrap();
        assert_eq!(
            (meta, state),
            (stored[expected].0.clone(), states[expected].1.clone()),
            "{end:?}"
        );
        assert_eq!((history.root, history.notes.len()), (Some(Seq(3)), 0));
    }
}

/// A delta whose base is not there, or is another one than its name says, is passed over, and that
/// is said.
pub async fn a_delta_without_its_base_is_passed_over(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    Scribe::new(NODE).append(&store, 20, &[A]).await;
    put(&store, whole(4)).await;
    put(&store, as_delta(&whole(4), &whole(6))).await;
    // Nobody has the one at 8; the one at 6 is not what the delta at 14 was made to.
    put(&store, as_delta(&whole(8), &whole(10))).await;
    let mut other = whole(6);
    other.1 = vec![1; 4_000].into();
    put(&store, as_delta(&other, &whole(14))).await;
    put(&store, as_delta(&whole(14), &whole(16))).await;
    let history = load(&backend.open().await, End::Newest).await;
    assert_eq!(
        history.checkpoint.map(|(meta, state)| (meta.seq, state)),
        Some((Seq(6), whole(6).1))
    );
    assert_eq!(history.frames.len(), 14);
    let notes = history.notes;
    assert!(notes.len() == 3 && notes.iter().all(|note| note.contains("passed over")), "{notes:?}");
    assert!(
        notes[0].contains("cannot be applied: it is a delta to a state with the hash"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains("it rests on the one at seq") || notes[1].contains("at seq 14"),
        "{notes:?}"
    );
    assert!(
        notes[2].contains("what the checkpoint of match")
            && notes[2].contains("at seq 10 is a delta to does not exist"),
        "{notes:?}"
    );
}

/// What is trimmed by [`chains::keep_from`] leaves both restore points whole.
pub async fn trimming_by_chains_keeps_what_deltas_rest_on(backend: &impl Backend) {
    let store = backend.open().await;
    register(&store, NODE).await;
    register(&store, OTHER).await;
    Scribe::new(NODE).append(&store, 20, &[A]).await;
    for (tip, base) in [
        (2, None),
        (4, Some(2)),
        (6, None),
        (8, Some(6)),
        (10, Some(8)),
        (12, None),
        (14, Some(12)),
    ] {
        let link = base.map_or_else(|| whole(tip), |base| as_delta(&whole(base), &whole(tip)));
        put(&store, link).await;
    }
    let before = chains::keep_from(&store.checkpoints.list(A).await.unwrap().0).unwrap();
    assert_eq!(before, Seq(6));
    store.checkpoints.trim(A, before).await.unwrap();
    let (left, _) = store.checkpoints.list(A).await.unwrap();
    assert_eq!(left.iter().map(|meta| meta.seq.0).collect::<Vec<_>>(), [14, 12, 10, 8, 6]);
    let (newest, second) = chains::restore_points(&left);
    let (newest, second) = (newest.unwrap(), second.unwrap());
    assert_eq!((newest.tip().seq, second.tip().seq, second.root().seq), (Seq(14), Seq(10), Seq(6)));
    assert_eq!(second.tip().epoch, Epoch(1));
    let mut restorer = chains::Restorer::new(&*store.checkpoints, &left);
    for chain in [newest, second] {
        let tip = chain.tip();
        let found = left.iter().find(|meta| *meta == tip).unwrap();
        assert_eq!(restorer.restore(found).await.unwrap().1, whole(tip.seq.0).1);
    }
}
