//! Size and exactness of snapshots of a moving world, as a client with a steady round trip gets
//! them.

mod motion;

use std::collections::VecDeque;

use motion::{FIGHTER, Motion, TICK_RATE};
use rekindle_netcode::{SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
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
        let stats = sender.encode(&header, &view, &history, avatar, None, 1200, &mut out);
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
