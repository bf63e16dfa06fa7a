//! Recorded streams of snapshots, for clients in other languages: what a server sent over a bad
//! line, and what the receiver here made of each datagram. `clients/typescript` decodes the same
//! files.
//!
//! `schema/golden/snapshots/NAME.bin` is a list of byte strings, each behind its length (`u32`,
//! little-endian): a `Welcome` as it stands on the stream, then datagrams in the order in which
//! they came. `NAME.json` has one entry for each datagram: `null` if it gave no view, else its
//! tick, whether it is complete, the number of entities, and a checksum (FNV-1a of 32 bits) over
//! slot, generation, components, stamp and row of each entity as little-endian `u32`; every 16th
//! view is there in full.
//!
//! `REKINDLE_GOLDEN=new` writes files that are missing; a file that is there is never changed.

mod motion;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use motion::{Motion, Rng, STRIDE, TICK_RATE};
use rekindle_netcode::{
    Coding, Received, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory,
};
use rekindle_schema::net::NetSchema;
use rekindle_schema::wire::{ServerMessage, StreamDecoder, Welcome, encode_server};
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, Tick};

/// What is recorded.
struct Recording {
    name: &'static str,
    coding: Coding,
    seed: u64,
    fighters: usize,
    budget: usize,
    loss: f32,
    /// Ticks of delay, and how many more at most.
    delay: (u64, u64),
    /// Another owner goes on here.
    takeover: Option<u64>,
}

const TICKS: u64 = 160;

const RECORDINGS: [Recording; 4] = [
    Recording {
        name: "lossy",
        coding: Coding::Rice,
        seed: 14,
        fighters: 18,
        budget: 1200,
        loss: 0.2,
        delay: (1, 4),
        takeover: Some(90),
    },
    Recording {
        name: "narrow",
        coding: Coding::Rice,
        seed: 41,
        fighters: 50,
        budget: 150,
        loss: 0.05,
        delay: (2, 2),
        takeover: None,
    },
    Recording {
        name: "lossy-range",
        coding: Coding::Range,
        seed: 15,
        fighters: 18,
        budget: 1200,
        loss: 0.2,
        delay: (1, 4),
        takeover: Some(90),
    },
    Recording {
        name: "narrow-range",
        coding: Coding::Range,
        seed: 51,
        fighters: 50,
        budget: 130,
        loss: 0.05,
        delay: (2, 2),
        takeover: None,
    },
];

fn welcome(schema: &NetSchema) -> Vec<u8> {
    encode_server(&ServerMessage::Welcome(Box::new(Welcome {
        match_id: MatchId(7),
        game: "motion".into(),
        epoch: Epoch(3),
        tick: Tick(0),
        tick_rate: TICK_RATE,
        player: PlayerId(1),
        session: SessionId(2),
        resumed: false,
        resume_token: "v4.public.sample".into(),
        next_input: 1,
        next_command: 1,
        schema: schema.clone(),
        config: bytes::Bytes::new(),
    })))
    .to_vec()
}

/// All datagrams of a recording, in the order of their arrival.
fn record(recording: &Recording) -> Vec<Vec<u8>> {
    let mut rng = Rng(recording.seed);
    let mut motion = Motion::new(recording.seed, recording.fighters);
    (motion.fire, motion.death) = (0.05, 0.02);
    let schema = motion.schema.clone();
    let mut sender =
        SnapshotSender::new(schema.clone()).with_tick_rate(TICK_RATE).with_coding(recording.coding);
    let mut receiver = SnapshotReceiver::new(schema);
    let mut history = ViewHistory::new();
    let (mut flying, mut acks) = (Vec::new(), Vec::new());
    let (mut arrived, mut epoch) = (Vec::new(), Epoch(3));
    for tick in 1..=TICKS {
        motion.step();
        let view = motion.view();
        if recording.takeover == Some(tick) {
            epoch = Epoch(4);
            history.clear();
            sender.reset();
            acks.clear();
        }
        history.push(view.clone());
        acks.retain(|&(at, newest, bits): &(u64, Tick, u32)| {
            if at <= tick {
                sender.acknowledge(newest, bits);
            }
            at > tick
        });
        let header = SnapshotHeader {
            epoch,
            tick: view.tick,
            durable: view.tick,
            ..SnapshotHeader::default()
        };
        let mut out = Vec::new();
        sender.encode(&header, &view, &history, None, recording.budget, &mut out);
        if !out.is_empty() && !rng.chance(recording.loss) {
            let (least, more) = recording.delay;
            flying.push((tick + least + rng.below(more + 1), out.clone()));
            if rng.chance(0.05) {
                flying.push((tick + least + more, out));
            }
        }
        let (now, later) = flying.into_iter().partition(|(at, _)| *at <= tick);
        flying = later;
        for (_, datagram) in now {
            let _ = receiver.receive(&datagram);
            arrived.push(datagram);
        }
        let (newest, bits) = receiver.acknowledgement();
        acks.push((tick + 2, newest, bits));
    }
    arrived
}

fn checksum(received: &Received) -> u32 {
    let mut hash = 0x811c_9dc5u32;
    let mut add = |word: u32| {
        for byte in word.to_le_bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    };
    for (index, entity) in received.view.entities.iter().enumerate() {
        add(entity.slot);
        add(entity.generation);
        add(entity.components);
        add(received.stamps[index].0 as u32);
        received.view.row(index, STRIDE).iter().for_each(|&value| add(value));
    }
    hash
}

/// What the receiver makes of the datagrams, as JSON.
fn decode(schema: &Arc<NetSchema>, datagrams: &[Vec<u8>]) -> String {
    let mut receiver = SnapshotReceiver::new(schema.clone());
    let (mut out, mut views) = ("[".to_owned(), 0);
    for (index, datagram) in datagrams.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        let Ok(received) = receiver.receive(datagram) else {
            out.push_str("null");
            continue;
        };
        let (header, entities) = (&received.header, &received.view.entities);
        write!(
            out,
            "{{\"epoch\":{},\"tick\":{},\"complete\":{},\"count\":{},\"checksum\":{}",
            header.epoch.0,
            header.tick.0,
            received.complete,
            entities.len(),
            checksum(&received)
        )
        .unwrap();
        if views % 16 == 0 {
            let row = |(index, entity): (usize, &rekindle_schema::net::NetEntity)| {
                format!(
                    "[{},{},{},{},{:?}]",
                    entity.slot,
                    entity.generation,
                    entity.components,
                    received.stamps[index].0,
                    received.view.row(index, STRIDE)
                )
                .replace(' ', "")
            };
            let rows: Vec<String> = entities.iter().enumerate().map(row).collect();
            write!(out, ",\"entities\":[{}]", rows.join(",")).unwrap();
        }
        out.push('}');
        views += 1;
    }
    out.push_str("\n]\n");
    out
}

fn frames(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn parts(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (part, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        parts.push(part.to_vec());
        bytes = rest;
    }
    parts
}

/// The bytes of a golden file; writes `new` if the file is missing and that was asked for.
fn golden(name: &str, new: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schema/golden/snapshots");
    let path = path.join(name);
    if !path.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, new).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn recorded_streams_are_decoded_as_ever() {
    for recording in &RECORDINGS {
        let schema = motion::schema();
        let new = [vec![welcome(&schema)], record(recording)].concat();
        let stored = parts(&golden(&format!("{}.bin", recording.name), &frames(&new)));
        let (welcome, datagrams) = stored.split_first().expect("a welcome");
        let mut stream = StreamDecoder::of_server();
        stream.push(welcome);
        let Ok(Some(ServerMessage::Welcome(welcome))) = stream.next_message() else {
            panic!("{}: no welcome", recording.name)
        };
        let decoded = decode(&Arc::new(welcome.schema), datagrams);
        let expected = golden(&format!("{}.json", recording.name), decoded.as_bytes());
        assert_eq!(decoded.as_bytes(), expected, "{}", recording.name);
        let dropped = decoded.matches("null").count();
        assert!((1..datagrams.len() / 2).contains(&dropped), "{dropped} gave no view");
    }
}
