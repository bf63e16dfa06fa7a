//! Batches come back as they were pushed, and bytes that are no batch are refused without harm.

use bytes::Bytes;
use proptest::prelude::*;
use rekindle_schema::batch::{
    BatchBuilder, BatchError, BatchView, FrameHeader, MAX_BATCH, MAX_PAYLOAD, PushError,
};
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, Tick};

fn header(match_id: u64, seq: u64, prev_crc: u32) -> FrameHeader {
    FrameHeader {
        match_id: MatchId(match_id),
        epoch: Epoch(3),
        seq: Seq(seq),
        first_tick: Tick(seq * 2),
        last_tick: Tick(seq * 2 + 1),
        build: BuildId(0xb111d),
        time_ms: 1_700_000_000_000 + seq,
        prev_crc,
    }
}

fn sample() -> Bytes {
    let mut builder = BatchBuilder::new(Incarnation(7), BatchNo(9), 0x1234, MAX_BATCH);
    let a1 = builder.push(&header(2, 10, 0), b"one").unwrap();
    builder.push(&header(1, 5, 99), b"").unwrap();
    builder.push(&header(2, 11, a1), b"two").unwrap();
    builder.finish().bytes
}

#[test]
fn interleaved_frames_are_grouped_by_match_and_keep_their_order() {
    let view = BatchView::parse(&sample()).unwrap();
    assert_eq!(
        (view.incarnation(), view.number(), view.prev_crc()),
        (Incarnation(7), BatchNo(9), 0x1234)
    );
    let directory: Vec<_> = view
        .directory()
        .iter()
        .map(|entry| (entry.match_id.0, entry.first_seq.0, entry.count))
        .collect();
    assert_eq!(directory, [(1, 5, 1), (2, 10, 2)]);
    let frames = view.frames(MatchId(2), Epoch(3));
    assert_eq!(frames.iter().map(|frame| &frame.payload[..]).collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(frames[1].header.prev_crc, frames[0].crc);
    assert_eq!(frames[0].header, header(2, 10, 0));
    assert!(view.frames(MatchId(2), Epoch(4)).is_empty());
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let good = sample();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(BatchView::parse(&bad.into()).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(BatchView::parse(&good.slice(..len)).is_err(), "cut to {len}");
    }
    let mut longer = good.to_vec();
    longer.push(0);
    assert_eq!(
        BatchView::parse(&longer.into()),
        Err(BatchError::Layout { what: "bytes behind the end" })
    );
}

#[test]
fn limits_hold() {
    let mut builder = BatchBuilder::new(Incarnation(1), BatchNo(1), 0, 1000);
    let big = vec![7; MAX_PAYLOAD + 1];
    assert_eq!(builder.push(&header(1, 1, 0), &big), Err(PushError::TooLarge(MAX_PAYLOAD + 1)));
    builder.push(&header(1, 1, 0), &big[..MAX_PAYLOAD]).unwrap();
    assert_eq!(builder.push(&header(1, 2, 0), b""), Err(PushError::Full));
    let batch = builder.finish();
    assert_eq!(BatchView::parse(&batch.bytes).unwrap().all_frames()[0].payload.len(), MAX_PAYLOAD);

    let mut builder = BatchBuilder::new(Incarnation(1), BatchNo(1), 0, 1000);
    builder.push(&header(1, 1, 0), b"x").unwrap();
    let refused = builder.push(&header(1, 3, 0), b"x");
    assert_eq!(
        refused,
        Err(PushError::NotContiguous { match_id: MatchId(1), last: Seq(1), got: Seq(3) })
    );
    let expected = builder.len();
    assert_eq!(builder.finish().bytes.len(), expected);
}

#[test]
fn an_empty_batch_is_a_batch() {
    let batch = BatchBuilder::new(Incarnation(1), BatchNo(1), 0, 0).finish();
    let view = BatchView::parse(&batch.bytes).unwrap();
    assert!(view.directory().is_empty());
    assert_eq!(view.crc(), batch.crc());
}

proptest! {
    #[test]
    fn whatever_is_pushed_comes_back(
        pushes in prop::collection::vec(
            (0u64..5, prop::collection::vec(any::<u8>(), 0..200)),
            0..60,
        ),
    ) {
        let mut builder = BatchBuilder::new(Incarnation(1), BatchNo(1), 0, MAX_BATCH);
        let mut next = [1u64; 5];
        let mut expected: Vec<Vec<(u32, Vec<u8>)>> = vec![Vec::new(); 5];
        for (match_id, payload) in pushes {
            let index = match_id as usize;
            let crc = builder.push(&header(match_id, next[index], 0), &payload).unwrap();
            next[index] += 1;
            expected[index].push((crc, payload));
        }
        let view = BatchView::parse(&builder.finish().bytes).unwrap();
        for (match_id, expected) in expected.iter().enumerate() {
            let frames = view.frames(MatchId(match_id as u64), Epoch(3));
            let found: Vec<_> =
                frames.iter().map(|frame| (frame.crc, frame.payload.to_vec())).collect();
            prop_assert_eq!(&found, expected);
        }
    }

    #[test]
    fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = BatchView::parse(&bytes.into());
    }

    /// Checksums are repaired behind the damage, so that the layout checks alone must hold.
    #[test]
    fn any_directory_is_harmless(at in 0usize..200, value in any::<u8>()) {
        let mut bytes = sample().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        let head = crc32c::crc32c(&bytes[..40]);
        bytes[40..44].copy_from_slice(&head.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..44]), &bytes[48..]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        let _ = BatchView::parse(&bytes.into());
    }
}
