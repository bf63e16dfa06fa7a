//! The archive: chunks, pins, and the removal of what belonged to a match.

use bytes::Bytes;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_schema::lease::MatchState;
use rekindle_schema::{MatchId, Seq, Tick};
use rekindle_store::StoreError;
use rekindle_store::archive::{self, ChunkBuilder, Placed};
use rekindle_store::{MAX_CHUNK, Store};

use super::{A, B, Backend, NODE, Scribe, checkpoint, match_lease, open_many};
use rekindle_schema::batch::BatchView;

/// `count` records of a match from `first` on, as one chunk.
pub fn chunk(match_id: MatchId, first: u64, count: u64) -> (ChunkMeta, Bytes) {
    let mut scribe = Scribe::new(NODE);
    scribe.own(match_id, 1, first);
    let mut builder = ChunkBuilder::default();
    for _ in 0..count {
        let batch = scribe.small(&[match_id]);
        let view = BatchView::parse(&batch.bytes).expect("a scribe's batch is whole");
        for frame in view.all_frames() {
            assert!(
                builder
                    .push(&Placed { frame: frame.clone(), log: NODE, batch: batch.number })
                    .is_none(),
                "test chunks are small"
            );
        }
    }
    builder.finish().expect("there are records")
}

async fn listed(store: &Store, match_id: MatchId) -> Vec<ChunkMeta> {
    let (metas, damaged) = store.archive.list(match_id).await.unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    metas
}

/// Chunks are listed in the order of their records, each match's on its own, and come back as they
/// were put, also through another process.
pub async fn chunks_come_back_in_order(backend: &impl Backend) {
    let store = backend.open().await;
    assert!(
        listed(&store, A).await.is_empty() && store.archive.matches().await.unwrap().is_empty()
    );
    let (state, bytes) = checkpoint(A, 1, NODE, 10, 10, 50_000);
    let state_chunk = archive::pack_state(&state, &bytes).unwrap();
    let chunks = [chunk(A, 1, 10), chunk(A, 11, 300), chunk(A, 311, 1)];
    for (meta, bytes) in [&chunks[2], &state_chunk, &chunks[0], &chunks[1], &chunk(B, 7, 3)] {
        assert_eq!(store.archive.put(meta.clone(), bytes.clone()).await.unwrap(), *meta);
    }
    let other = backend.open().await;
    let metas = listed(&other, A).await;
    assert_eq!(metas, [&chunks[0].0, &state_chunk.0, &chunks[1].0, &chunks[2].0].map(Clone::clone));
    assert_eq!(listed(&other, B).await.len(), 1);
    assert_eq!(other.archive.matches().await.unwrap(), [A, B]);
    let mut seqs = Vec::new();
    for meta in metas.iter().filter(|meta| meta.kind == ChunkKind::Records) {
        let frames = archive::records(meta, &other.archive.get(meta).await.unwrap()).unwrap();
        seqs.extend(frames.iter().map(|frame| frame.header.seq.0));
    }
    assert_eq!(seqs, (1..=311).collect::<Vec<_>>());
    let found =
        archive::state(&state_chunk.0, &other.archive.get(&state_chunk.0).await.unwrap()).unwrap();
    assert_eq!(found, (state, bytes));
}

/// Of chunks of one name the first stands, and whoever comes later is told which it is.
pub async fn the_first_chunk_stands(backend: &impl Backend) {
    let stores = open_many(backend, 4).await;
    let (first, bytes) = chunk(A, 1, 5);
    let (longer, more) = chunk(A, 1, 9);
    assert_eq!(stores[0].archive.put(first.clone(), bytes.clone()).await.unwrap(), first);
    assert_eq!(
        stores[1].archive.put(first.clone(), bytes.clone()).await.unwrap(),
        first,
        "the same once more is harmless"
    );
    assert_eq!(stores[2].archive.put(longer.clone(), more).await.unwrap(), first);
    assert!(matches!(stores[3].archive.get(&longer).await, Err(StoreError::NotFound(_))));
    assert_eq!(stores[3].archive.get(&first).await.unwrap(), bytes);

    let puts = (0..12).map(|index| {
        let (meta, bytes) = chunk(B, 1, index + 1);
        stores[index as usize % 4].archive.put(meta, bytes)
    });
    let stood: Vec<ChunkMeta> =
        futures::future::join_all(puts).await.into_iter().map(Result::unwrap).collect();
    assert!(stood.iter().all(|meta| *meta == stood[0]), "{stood:?}");
    assert_eq!(listed(&stores[1], B).await, [stood[0].clone()]);
    let bytes = stores[2].archive.get(&stood[0]).await.unwrap();
    assert_eq!(archive::records(&stood[0], &bytes).unwrap().len() as u64, stood[0].records);
}

/// What is not what its manifest says, or is too large, is refused before it is written.
pub async fn a_bad_chunk_is_refused(backend: &impl Backend) {
    let store = backend.open().await;
    let (meta, bytes) = chunk(A, 1, 5);
    let mut flipped = bytes.to_vec();
    flipped[7] ^= 1;
    for wrong in [Bytes::from(flipped), bytes.slice(1..)] {
        let refused = store.archive.put(meta.clone(), wrong).await.unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    }
    let large = Bytes::from(vec![0; MAX_CHUNK + 1]);
    let oversized =
        ChunkMeta { len: large.len() as u64, crc: crc32c::crc32c(&large), ..meta.clone() };
    let refused = store.archive.put(oversized, large).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused}");
    assert!(listed(&store, A).await.is_empty());
    assert_eq!(store.archive.put(meta.clone(), bytes).await.unwrap(), meta);
}

/// The largest chunk comes back.
pub async fn the_largest_chunk_is_kept(backend: &impl Backend) {
    let store = backend.open().await;
    let large: Bytes = (0..MAX_CHUNK)
        .map(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1])
        .collect::<Vec<u8>>()
        .into();
    let meta =
        ChunkMeta { len: large.len() as u64, crc: crc32c::crc32c(&large), ..chunk(A, 1, 1).0 };
    assert_eq!(store.archive.put(meta.clone(), large.clone()).await.unwrap(), meta);
    assert!(backend.open().await.archive.get(&meta).await.unwrap() == large);
}

/// One chunk is removed, and no other.
pub async fn chunks_are_removed_one_by_one(backend: &impl Backend) {
    let store = backend.open().await;
    let chunks = [chunk(A, 1, 4), chunk(A, 5, 4), chunk(A, 9, 4)];
    for (meta, bytes) in &chunks {
        store.archive.put(meta.clone(), bytes.clone()).await.unwrap();
    }
    for _ in 0..2 {
        store.archive.remove(&chunks[1].0).await.unwrap();
    }
    let other = backend.open().await;
    assert_eq!(listed(&other, A).await, [chunks[0].0.clone(), chunks[2].0.clone()]);
    assert!(matches!(other.archive.get(&chunks[1].0).await, Err(StoreError::NotFound(_))));
    let (longer, bytes) = chunk(A, 5, 3);
    assert_eq!(
        other.archive.put(longer.clone(), bytes).await.unwrap(),
        longer,
        "its name is free again"
    );
    for meta in listed(&store, A).await {
        store.archive.remove(&meta).await.unwrap();
    }
    assert!(store.archive.matches().await.unwrap().is_empty());
}

/// A match has one pin; it outlives the process, and chunks do not matter to it.
pub async fn pins_stay_until_they_are_removed(backend: &impl Backend) {
    let store = backend.open().await;
    let pin = Pin { match_id: B, from: Tick(100), to: Some(Tick(200)), created_ms: 1 };
    let whole = Pin { match_id: A, from: Tick(0), to: None, created_ms: 2 };
    assert!(store.archive.pins().await.unwrap().is_empty());
    assert!(!store.archive.unpin(A).await.unwrap());
    for pin in [Pin { from: Tick(7), ..pin }, whole, pin] {
        store.archive.pin(pin).await.unwrap();
    }
    let (meta, bytes) = chunk(A, 1, 4);
    store.archive.put(meta.clone(), bytes).await.unwrap();
    store.archive.remove(&meta).await.unwrap();
    let other = backend.open().await;
    assert_eq!(other.archive.pins().await.unwrap(), [whole, pin]);
    assert!(other.archive.unpin(B).await.unwrap() && !other.archive.unpin(B).await.unwrap());
    assert_eq!(store.archive.pins().await.unwrap(), [whole]);
    assert!(store.archive.matches().await.unwrap().is_empty());
}

/// The row of a match goes when it has ended and nobody has changed it since it was read.
pub async fn only_ended_matches_leave_the_directory(backend: &impl Backend) {
    let store = backend.open().await;
    let mut row = match_lease(A, &[(NODE, 1)]);
    store.leases.create(row.clone()).await.unwrap();
    store.leases.create(match_lease(B, &[(NODE, 1)])).await.unwrap();
    let refused = store.leases.remove(A, 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    (row.version, row.state) = (2, MatchState::Ended { reason: "over".to_owned() });
    store.leases.compare_and_set(row.clone()).await.unwrap().unwrap();
    assert!(!store.leases.remove(A, 1).await.unwrap(), "the row has changed since");
    assert_eq!(store.leases.get(A).await.unwrap(), Some(row));
    for _ in 0..2 {
        assert!(store.leases.remove(A, 2).await.unwrap());
    }
    let other = backend.open().await;
    assert_eq!(other.leases.get(A).await.unwrap(), None);
    assert_eq!(other.leases.matches().await.unwrap().len(), 1);
    store
        .checkpoints
        .put(checkpoint(A, 1, NODE, 3, 3, 10).0, checkpoint(A, 1, NODE, 3, 3, 10).1)
        .await
        .unwrap();
    store.checkpoints.trim(A, Seq(u64::MAX)).await.unwrap();
    assert!(store.checkpoints.list(A).await.unwrap().0.is_empty());
}
