//! Bytes from the network that no honest peer sent: no panic, no memory beyond what the bytes
//! justify, and the receiver goes on.

mod motion;

use bytes::Bytes;
use motion::{Motion, Rng, STRIDE};
use proptest::prelude::*;
use rekindle_netcode::{
    Coding, InputItem, InputPacket, InputSender, PacketError, SnapshotHeader, SnapshotReceiver,
    SnapshotSender, ViewHistory,
};
use rekindle_schema::{Epoch, Tick};

/// A receiver that has a baseline, its sender, and the datagrams so far.
fn session(
    coding: Coding,
) -> (Motion, ViewHistory, SnapshotSender, SnapshotReceiver, Vec<Vec<u8>>) {
    let mut motion = Motion::new(21, 12);
    let mut sender = SnapshotSender::new(motion.schema.clone()).with_coding(coding);
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    let (mut history, mut sent) = (ViewHistory::new(), Vec::new());
    for _ in 0..6 {
        sent.push(next(&mut motion, &mut history, &mut sender));
        receiver.receive(sent.last().expect("just pushed")).expect("honest");
        sender.acknowledge(receiver.acknowledgement().0, receiver.acknowledgement().1);
    }
    (motion, history, sender, receiver, sent)
}

fn next(motion: &mut Motion, history: &mut ViewHistory, sender: &mut SnapshotSender) -> Vec<u8> {
    motion.step();
    let view = motion.view();
    history.push(view.clone());
    let header = SnapshotHeader {
        epoch: Epoch(1),
        tick: view.tick,
        durable: view.tick,
        avatar: Some(1),
        ..SnapshotHeader::default()
    };
    let mut out = Vec::new();
    sender.encode(&header, &view, history, None, 1200, &mut out);
    out
}

#[test]
fn every_flipped_bit_and_every_truncation_is_survived() {
    survives(Coding::Rice);
    survives(Coding::Range);
}

fn survives(coding: Coding) {
    let (mut motion, mut history, mut sender, receiver, sent) = session(coding);
    let honest = next(&mut motion, &mut history, &mut sender);
    for datagram in [&honest, &sent[0]] {
        for bit in 0..datagram.len() * 8 {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut victim = receiver.clone();
            if let Ok(received) = victim.receive(&damaged) {
                assert!(received.view.entities.is_sorted_by_key(|entity| entity.slot));
                assert_eq!(received.view.values.len(), received.view.entities.len() * STRIDE);
                assert!(received.view.entities.len() <= 12 + 64 + damaged.len());
            }
        }
        // The last bytes of a range coded body may stand for another world: datagrams come whole.
        let tail = if coding == Coding::Range { 4 } else { 0 };
        for len in 0..datagram.len() {
            let cut = receiver.clone().receive(&datagram[..len]);
            assert!(
                cut.is_err() || len + tail >= datagram.len(),
                "{len} of {} bytes",
                datagram.len()
            );
        }
    }
    let mut receiver = receiver;
    assert!(receiver.receive(&honest).is_ok());
}

#[test]
fn a_refused_datagram_leaves_the_receiver_as_it_was() {
    for coding in [Coding::Rice, Coding::Range] {
        is_as_it_was(coding);
    }
}

fn is_as_it_was(coding: Coding) {
    let (mut motion, mut history, mut sender, mut receiver, _) = session(coding);
    let before = receiver.acknowledgement();
    let mut honest = next(&mut motion, &mut history, &mut sender);
    honest.push(0);
    assert!(receiver.receive(&honest).is_err());
    assert_eq!(receiver.acknowledgement(), before);
    honest.pop();
    assert!(receiver.receive(&honest).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn random_bytes_are_no_harm(
        seed in any::<u64>(),
        len in 0usize..1300,
        kind in prop::option::of(0x10u8..0x40),
        of in 0..2usize,
    ) {
        let (_, _, _, mut receiver, _) = SESSIONS.with(|sessions| sessions[of].clone());
        let mut rng = Rng(seed);
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
        if let (Some(kind), Some(first)) = (kind, bytes.first_mut()) {
            *first = kind;
        }
        if let Ok(received) = receiver.receive(&bytes) {
            prop_assert!(received.view.entities.len() <= 64 + bytes.len());
        }
        let _ = InputPacket::decode(&bytes, 64);
    }

    #[test]
    fn input_packets_come_back_as_they_were(packet in packet()) {
        let mut out = Vec::new();
        packet.encode(&mut out);
        prop_assert_eq!(InputPacket::decode(&out, 64), Ok(packet));
        for len in 0..out.len() {
            prop_assert!(InputPacket::decode(&out[..len], 64).is_err());
        }
        out.push(0);
        prop_assert!(InputPacket::decode(&out, 64).is_err());
    }

    #[test]
    fn damaged_input_packets_are_no_harm(
        packet in packet(),
        bit in any::<prop::sample::Index>(),
        limit in 0usize..64,
    ) {
        let mut out = Vec::new();
        packet.encode(&mut out);
        let bit = bit.index(out.len() * 8);
        out[bit / 8] ^= 1 << (bit % 8);
        if let Ok(decoded) = InputPacket::decode(&out, limit) {
            prop_assert!(decoded.inputs.iter().all(|item| item.payload.len() <= limit));
            prop_assert!(decoded.inputs.is_sorted_by(|a, b| a.seq < b.seq));
        }
    }
}

thread_local! {
    static SESSIONS: [Session; 2] = [session(Coding::Rice), session(Coding::Range)];
}
type Session = (Motion, ViewHistory, SnapshotSender, SnapshotReceiver, Vec<Vec<u8>>);

fn packet() -> impl Strategy<Value = InputPacket> {
    let item =
        (1u64..1 << 40, any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..64));
    (any::<u64>(), any::<u32>(), any::<u32>(), prop::collection::vec(item, 0..32)).prop_map(
        |(ack_tick, ack_bits, clock_ms, items)| {
            let mut seq = 0;
            let inputs = items.into_iter().map(|(by, target, view, payload)| {
                seq += by;
                InputItem {
                    seq,
                    target: Tick(target),
                    view: Tick(view),
                    payload: Bytes::from(payload),
                }
            });
            InputPacket { ack_tick: Tick(ack_tick), ack_bits, clock_ms, inputs: inputs.collect() }
        },
    )
}

#[test]
fn an_oversized_payload_is_named() {
    let item =
        InputItem { seq: 1, target: Tick(5), view: Tick(3), payload: Bytes::from(vec![0; 65]) };
    let mut out = Vec::new();
    InputPacket { inputs: vec![item], ..InputPacket::default() }.encode(&mut out);
    assert_eq!(InputPacket::decode(&out, 64), Err(PacketError::Oversized { len: 65, most: 64 }));
}

#[test]
fn inputs_are_repeated_until_a_snapshot_names_them() {
    let mut rng = Rng(77);
    let mut sender = InputSender::new(10);
    let mut highest = 9;
    for tick in 100..400u64 {
        let len = 4 + rng.below(6) as usize;
        let seq = sender.push(Bytes::from(vec![tick as u8; len]), Tick(tick), Tick(tick - 6));
        let bytes = sender.packet((Tick(tick - 3), u32::MAX), tick as u32 * 33, 220);
        assert!(bytes.len() <= 220);
        let packet = InputPacket::decode(&bytes, 64).expect("own packet");
        assert_eq!(
            packet.inputs.last().map(|item| (item.seq, item.target)),
            Some((seq, Tick(tick)))
        );
        // One packet in ten arrives. Nothing that the server still wants may be missing from it.
        if rng.chance(0.1) {
            let first = packet.inputs.first().expect("not empty").seq;
            assert!(
                first <= highest + 1 || packet.inputs.len() >= 12,
                "gap between {highest} and {first}"
            );
            highest = seq;
            sender.applied(highest);
            assert_eq!(sender.unacknowledged().count(), 0);
        }
    }
    assert_eq!(
        sender.packet((Tick(0), 0), 0, 0).len(),
        11,
        "without room a packet only acknowledges"
    );
    sender.skip_to(10_000);
    assert_eq!(sender.push(Bytes::new(), Tick(0), Tick(0)), 10_000);
}
