//! Size and exactness of snapshots of a moving world, as a client with a steady round trip gets
//! them.

mod motion;

use std::collections::VecDeque;

use motion::{FIGHTER, Motion, TICK_RATE};
use rekindle_netcode::{Coding, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::{Epoch, Tick};

/// Mean bytes of a snapshot; acknowledgements take `delay` ticks.
fn mean_bytes(mut motion: Motion, delay: usize, ticks: u64) -> f64 {
    let mut sender = SnapshotSender::new(motion.schema.clone()).with_tick_rate(TICK_RATE);
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    let mut history = ViewHistory::new();
    let mut acks = VecDeque::new();
    let (mut total, mut count, mut out) = (0, 0, Vec::new());
    for tick in 1..=ticks {
        motion.step();
        let view = motion.view();
        history.push(view.clone());
        let avatar = view
            .entities
            .iter()
            .find(|entity| entity.components & FIGHTER != 0)
            .map(|entity| entity.slot);
        let applied = (0..4)
            .filter_map(|back| {
                Some((tick.checked_sub(4 - back)?, Tick(tick.checked_sub(4 - back)?)))
            })
            .collect();
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            applied,
            echo_ms: 123_456 + tick as u32 * 33,
            hold_ms: 12,
            next_expected_input: None,
            avatar,
        };
        let stats = sender.encode(&header, &view, &history, None, 1200, &mut out);
        assert_eq!(stats.bytes, out.len());
        let received = receiver.receive(&out).expect("decodes");
        assert_eq!(received.header, header);
        if received.complete {
            assert_eq!(received.view.entities, view.entities);
            assert_eq!(received.view.values, view.values);
        }
        assert!(
            motion.worst_error(&received.view) <= 0.501 || !received.complete,
            "more than half a quantum off"
        );
        acks.push_back(receiver.acknowledgement());
        if acks.len() > delay {
            let (newest, bits) = acks.pop_front().expect("not empty");
            sender.acknowledge(newest, bits);
        }
        if tick > 60 {
            total += out.len();
            count += 1;
        }
    }
    total as f64 / f64::from(count)
}

#[test]
fn a_hundred_moving_entities_fit_into_320_bytes() {
    let mean = mean_bytes(Motion::new(7, 100), 3, 900);
    println!("100 moving entities: {mean:.1} B");
    assert!(mean <= 320.0, "{mean:.1} B");
}

#[test]
fn thirty_two_moving_entities_fit_into_110_bytes() {
    let mean = mean_bytes(Motion::new(7, 32), 3, 900);
    println!("32 moving entities: {mean:.1} B");
    assert!(mean <= 110.0, "{mean:.1} B");
}

/// Encodes the same worlds both ways, none of it range coded into more bytes; returns the bytes of
/// each.
fn both_ways(mut motion: Motion, delay: u64, ticks: u64) -> [usize; 2] {
    let sender = || SnapshotSender::new(motion.schema.clone()).with_tick_rate(TICK_RATE);
    let mut senders = [sender(), sender().with_coding(Coding::Range)];
    let mut history = ViewHistory::new();
    let (mut bytes, mut lens) = ([0; 2], [0; 2]);
    for tick in 1..=ticks {
        motion.step();
        let view = motion.view();
        history.push(view.clone());
        let header =
            SnapshotHeader { tick: view.tick, durable: view.tick, ..SnapshotHeader::default() };
        for (sender, len) in senders.iter_mut().zip(&mut lens) {
            let mut out = Vec::new();
            *len = sender.encode(&header, &view, &history, None, 60_000, &mut out).bytes;
            sender.acknowledge(Tick(tick.saturating_sub(delay)), 0);
        }
        bytes = [bytes[0] + lens[0], bytes[1] + lens[1]];
        assert!(lens[1] <= lens[0], "tick {tick}: {} B became {} B", lens[0], lens[1]);
    }
    bytes
}

#[test]
fn range_coded_snapshots_are_smaller_and_none_is_larger() {
    for moving in [0, 1, 2, 5, 12, 30, 100, 400] {
        for (delay, fire, rest) in [(1, 0.0, 0.0), (3, 0.01, 0.0), (9, 0.1, 0.5), (3, 0.0, 1.0)] {
            let mut motion = Motion::new(31 + moving as u64, moving);
            (motion.fire, motion.rest) = (fire, rest);
            let [rice, range] = both_ways(motion, delay, 200);
            assert!(range * 100 < rice * 95, "{moving} moving: {rice} B became {range} B");
        }
    }
}
