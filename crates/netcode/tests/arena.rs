//! The size of snapshots of a real fight, its error bound, and that every client decodes what the
//! world was.

mod fight;

use std::collections::VecDeque;
use std::sync::Arc;

use fight::Fight;
use rekindle_netcode::{Coding, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::{Epoch, Tick};

/// Acknowledgements take 100 ms: three ticks.
const DELAY: usize = 3;

/// Mean bytes of a snapshot, for the first fighter, and how many entities moved in a tick.
fn mean_bytes(coding: Coding, fighters: usize, drones: usize, ticks: u64) -> (f64, f64) {
    let mut fight = Fight::new(5, fighters, drones);
    let mut sender = SnapshotSender::new(Arc::clone(&fight.schema)).with_coding(coding);
    let mut receiver = SnapshotReceiver::new(Arc::clone(&fight.schema));
    let (mut history, mut acks, mut out) = (ViewHistory::new(), VecDeque::new(), Vec::new());
    let (mut total, mut count) = (0, 0);
    for index in 0..ticks {
        fight.step();
        let view = fight.view();
        history.push(Arc::clone(&view));
        let tick = view.tick.0;
        let avatar = view.avatar(Fight::player(0));
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            applied: (tick - 4..tick).map(|seq| (seq, Tick(seq))).collect(),
            echo_ms: tick as u32 * 33,
            hold_ms: 12,
            next_expected_input: None,
            avatar,
        };
        sender.encode(&header, &view, &history, None, 1200, &mut out);
        let received = receiver.receive(&out).expect("own snapshot");
        if received.complete {
            assert_eq!(
                (&received.view.entities, &received.view.values),
                (&view.entities, &view.values)
            );
            let worst = fight.worst_error(&received.view);
            assert!(worst <= 0.501, "{worst} quanta off at tick {tick}");
        }
        acks.push_back(receiver.acknowledgement());
        if acks.len() > DELAY {
            let (newest, bits) = acks.pop_front().expect("not empty");
            sender.acknowledge(newest, bits);
        }
        if index >= 10 {
            assert!(received.complete, "all fits from the second acknowledged snapshot on");
            (total, count) = (total + out.len(), count + 1);
        }
    }
    let mean = total as f64 / f64::from(count);
    let per_view = |sum: u64| sum as f64 / fight.views as f64;
    println!(
        "{coding:?}, {fighters} fighters, {drones} drones: {mean:.1} B; {:.1} entities, {:.1} \
         moved",
        per_view(fight.entities),
        per_view(fight.moved)
    );
    (mean, per_view(fight.moved))
}

#[test]
fn a_hundred_moving_entities_fit_into_320_bytes_or_range_coded_into_150() {
    // Some always stand: the dead, and drones that turn.
    for (coding, most) in [(Coding::Rice, 320.0), (Coding::Range, 150.0)] {
        let (mean, moved) = mean_bytes(coding, 16, 114, 400);
        assert!(moved >= 100.0, "only {moved:.1} moved");
        assert!(mean <= most, "{coding:?}: {mean:.1} B");
    }
}

#[test]
fn sixty_four_fighters_among_drones_fit_into_320_bytes_or_range_coded_into_230() {
    for (coding, most) in [(Coding::Rice, 320.0), (Coding::Range, 230.0)] {
        let (mean, _) = mean_bytes(coding, 64, 36, 200);
        assert!(mean <= most, "{coding:?}: {mean:.1} B");
    }
}

#[test]
fn thirty_two_entities_fit_into_110_bytes_or_range_coded_into_85() {
    for (coding, most) in [(Coding::Rice, 110.0), (Coding::Range, 85.0)] {
        let (mean, _) = mean_bytes(coding, 16, 16, 400);
        assert!(mean <= most, "{coding:?}: {mean:.1} B");
    }
}
