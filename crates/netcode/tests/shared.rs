//! Snapshots that clients of a match share: encoded once, and no different from those that each
//! gets alone.

mod fight;
mod motion;
mod sights;

use std::collections::VecDeque;
use std::sync::Arc;

use fight::Fight;
use motion::Rng;
use rekindle_netcode::{Coding, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::Epoch;
use rekindle_schema::net::NetView;

const SESSIONS: usize = 16;
const BUDGET: usize = 1200;

struct Session {
    sender: SnapshotSender,
    receiver: SnapshotReceiver,
    /// Acknowledgements take this many ticks.
    delay: usize,
    acks: VecDeque<(rekindle_schema::Tick, u32)>,
}

fn header(view: &NetView, session: usize) -> SnapshotHeader {
    SnapshotHeader {
        epoch: Epoch(1),
        tick: view.tick,
        durable: view.tick,
        applied: vec![(session as u64 + view.tick.0, view.tick)],
        echo_ms: session as u32 + 1,
        hold_ms: 3,
        next_expected_input: None,
        avatar: view.avatar(Fight::player(session)),
    }
}

/// Plays a fight before 16 sessions that come one after the other, are acknowledged after different
/// times, lose packets and read `codings`, four sessions each in turn. Returns how many snapshots
/// were encoded and how many of them were
/// shared.
fn play(codings: &[Coding], ticks: usize, radius: Option<f32>, loss: f32) -> (usize, usize) {
    let mut rng = Rng(9);
    let mut fight = Fight::new(5, 16, 84);
    let mut history = ViewHistory::new();
    let mut sessions: Vec<Session> = Vec::new();
    let (mut encoded, mut shared) = (0, 0);
    let (mut out, mut alone) = (Vec::new(), Vec::new());
    for tick in 0..ticks {
        fight.step();
        let mut view = fight.view();
        if let Some(radius) = radius {
            view = sights::near(&fight.schema, &view, &view.avatars, radius);
        }
        history.push(Arc::clone(&view));
        if tick % 3 == 0 && sessions.len() < SESSIONS {
            sessions.push(Session {
                sender: SnapshotSender::new(Arc::clone(&fight.schema))
                    .with_coding(codings[sessions.len() / 4 % codings.len()]),
                receiver: SnapshotReceiver::new(Arc::clone(&fight.schema)),
                delay: 1 + sessions.len() % 4,
                acks: VecDeque::new(),
            });
        }
        for (index, session) in sessions.iter_mut().enumerate() {
            let header = header(&view, index);
            // A history of its own knows nothing of the others.
            let (mut sender, own) = (session.sender.clone(), history.clone());
            let viewer = Some(Fight::player(index));
            let stats = session.sender.encode(&header, &view, &history, viewer, BUDGET, &mut out);
            sender.encode(&header, &view, &own, viewer, BUDGET, &mut alone);
            assert_eq!(out, alone, "session {index} at tick {}", view.tick);
            (encoded, shared) = (encoded + 1, shared + usize::from(stats.shared));
            if !rng.chance(loss) {
                let received = session.receiver.receive(&out).expect("own snapshot");
                assert_eq!(received.header, header);
                if received.complete && radius.is_none() {
                    assert_eq!(
                        (&received.view.entities, &received.view.values),
                        (&view.entities, &view.values)
                    );
                }
            }
            session.acks.push_back(session.receiver.acknowledgement());
            if session.acks.len() > session.delay {
                let (newest, bits) = session.acks.pop_front().expect("not empty");
                session.sender.acknowledge(newest, bits);
            }
        }
    }
    (encoded, shared)
}

#[test]
fn clients_that_know_the_same_share_and_each_gets_what_it_would_get_alone() {
    let (encoded, shared) = play(&[Coding::Rice], 400, None, 0.0);
    println!("{shared} of {encoded} snapshots were copied");
    assert!(shared * 2 > encoded, "only {shared} of {encoded} snapshots were shared");
}

#[test]
fn clients_that_lose_packets_know_different_things_and_share_less() {
    let (encoded, shared) = play(&[Coding::Rice], 400, None, 0.03);
    println!("{shared} of {encoded} snapshots were copied");
    assert!(shared * 6 > encoded, "only {shared} of {encoded} snapshots were shared");
}

#[test]
fn clients_that_see_different_things_share_nothing() {
    let (encoded, shared) = play(&[Coding::Range], 60, Some(10.0), 0.0);
    assert!(encoded > 500 && shared == 0, "{shared} of {encoded}");
}

#[test]
fn bodies_are_shared_among_those_that_read_the_same_coding() {
    let (encoded, shared) = play(&[Coding::Range], 400, None, 0.0);
    assert!(shared * 2 > encoded, "only {shared} of {encoded} snapshots were shared");
    let (encoded, shared) = play(&[Coding::Rice, Coding::Range], 400, None, 0.01);
    assert!(shared * 4 > encoded, "only {shared} of {encoded} snapshots were shared");
}
