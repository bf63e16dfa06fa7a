//! The sample packets of `docs/PROTOCOL.md`: today's code makes and reads exactly these bytes, and
//! the document shows exactly them.
//!
//! `REKINDLE_GOLDEN=new cargo test -p rekindle-netcode --test protocol` writes files that are
//! missing; a file that is there is never changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rekindle_netcode::{
    Coding, InputItem, InputPacket, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory,
};
use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};
use rekindle_schema::record::Beat;
use rekindle_schema::wire::{
    Arrive, ClientMessage, Credential, DocumentsAsked, Enter, Heard, Hello, PROTOCOL, PROTOCOL_2,
    PROTOCOL_3, PROTOCOL_4, PROTOCOL_6, RefuseCode, Role, Seek, ServerMessage, Stood,
    StreamDecoder, Welcome, encode_client, encode_server,
};
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The bytes of a golden file; writes `new` if the file is missing and that was asked for.
fn golden(name: &str, new: &[u8]) -> Vec<u8> {
    let path = root().join("schema/golden/protocol").join(name);
    if !path.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        std::fs::write(&path, new).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema() -> NetSchema {
    let field = |name: &str, kind, rate| NetField { name: name.into(), kind, rate };
    let place = FieldKind::Float { min: -64.0, max: 64.0 - 1.0 / 128.0, bits: 14 };
    let speed = FieldKind::Float { min: -32.0, max: 31.875, bits: 9 };
    NetSchema {
        components: vec![
            NetComponent {
                name: "position".into(),
                fields: vec![field("x", place, Some(2)), field("y", place, Some(3))],
            },
            NetComponent {
                name: "velocity".into(),
                fields: vec![field("x", speed, None), field("y", speed, None)],
            },
            NetComponent {
                name: "fighter".into(),
                fields: vec![
                    field("aim", FieldKind::Angle { bits: 8 }, None),
                    field("health", FieldKind::Unsigned { bits: 7 }, None),
                    field("firing", FieldKind::Bool, None),
                ],
            },
        ],
        position: Some((0, 1)),
    }
}

/// Two ticks of a small world: a fighter that turns and is hit, one that stands, a rocket that
/// bursts, another that is fired.
fn views() -> [Arc<NetView>; 2] {
    let entity = |slot, generation, components| NetEntity { slot, generation, components };
    let before = NetView {
        tick: Tick(1000),
        entities: vec![entity(0, 1, 7), entity(1, 1, 7), entity(4, 3, 3)],
        values: [
            [8192, 8192, 312, 256, 128, 100, 0],
            [4000, 9000, 256, 256, 7, 80, 1],
            [8300, 8200, 416, 256, 0, 0, 0],
        ]
        .concat(),
        avatars: vec![(PlayerId(7), 0)],
        restricted: None,
    };
    let after = NetView {
        tick: Tick(1003),
        entities: vec![entity(0, 1, 7), entity(1, 1, 7), entity(5, 12, 3)],
        values: [
            [8273, 8188, 302, 249, 131, 91, 0],
            [4000, 9000, 256, 256, 7, 80, 1],
            [8100, 8192, 256, 416, 0, 0, 0],
        ]
        .concat(),
        avatars: vec![(PlayerId(7), 0)],
        restricted: None,
    };
    [Arc::new(before), Arc::new(after)]
}

fn headers() -> [SnapshotHeader; 2] {
    [
        SnapshotHeader {
            epoch: Epoch(2),
            tick: Tick(1000),
            durable: Tick(1001),
            applied: vec![],
            echo_ms: 0,
            hold_ms: 0,
            next_expected_input: Some(41),
            avatar: Some(0),
        },
        SnapshotHeader {
            epoch: Epoch(2),
            tick: Tick(1003),
            durable: Tick(1003),
            applied: vec![(299, Tick(1001)), (300, Tick(1002)), (301, Tick(1003))],
            echo_ms: 123_456,
            hold_ms: 12,
            next_expected_input: None,
            avatar: Some(0),
        },
    ]
}

#[test]
fn snapshots_of_version_1() {
    let (views, headers) = (views(), headers());
    let schema = Arc::new(schema());
    let mut sender = SnapshotSender::new(Arc::clone(&schema)).with_tick_rate(30);
    let mut receiver = SnapshotReceiver::new(schema).for_player(PlayerId(7));
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    for ((view, header), name) in
        views.iter().zip(&headers).zip(["snapshot-full.bin", "snapshot-delta.bin"])
    {
        history.push(Arc::clone(view));
        sender.encode(header, view, &history, None, 1200, &mut out);
        assert_eq!(out, golden(name, &out), "{name}");
        let received = receiver.receive(&out).expect(name);
        assert_eq!((&received.header, &received.view, received.complete), (header, view, true));
        sender.acknowledge(view.tick, 0);
    }
}

#[test]
fn snapshots_of_version_5() {
    let ([before, view], [first, header]) = (views(), headers());
    let schema = Arc::new(schema());
    let mut sender =
        SnapshotSender::new(Arc::clone(&schema)).with_tick_rate(30).with_coding(Coding::Range);
    let mut receiver = SnapshotReceiver::new(schema).for_player(PlayerId(7));
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    history.push(Arc::clone(&before));
    sender.encode(&first, &before, &history, None, 1200, &mut out);
    assert_eq!(out, golden("snapshot-full.bin", &out), "full ones are as in version 1");
    receiver.receive(&out).expect("a full snapshot");
    sender.acknowledge(before.tick, 0);
    history.push(Arc::clone(&view));
    sender.encode(&header, &view, &history, None, 1200, &mut out);
    assert_eq!(out, golden("snapshot-range.bin", &out));
    let received = receiver.receive(&out).expect("a delta");
    assert_eq!((received.header, received.view, received.complete), (header, view, true));
}

#[test]
fn input_packets_of_version_1() {
    let item = |seq, target, view, payload: &[u8]| InputItem {
        seq,
        target: Tick(target),
        view: Tick(view),
        payload: Bytes::copy_from_slice(payload),
    };
    let packet = InputPacket {
        ack_tick: Tick(1003),
        ack_bits: 0b101,
        clock_ms: 123_490,
        inputs: vec![
            item(302, 1006, 1000, &[1, 2, 3]),
            item(303, 1007, 1001, &[1, 2, 4]),
            item(304, 1008, 1002, &[1, 2, 4]),
        ],
    };
    let only =
        InputPacket { ack_tick: Tick(1003), ack_bits: 0b101, clock_ms: 123_490, inputs: vec![] };
    for (packet, name) in [(packet, "inputs.bin"), (only, "acknowledgement.bin")] {
        let mut out = Vec::new();
        packet.encode(&mut out);
        assert_eq!(out, golden(name, &out), "{name}");
        assert_eq!(InputPacket::decode(&out, 64).as_ref(), Ok(&packet), "{name}");
    }
}

#[test]
fn client_messages_of_version_1() {
    let hello = |role, credential, match_id| {
        ClientMessage::Hello(Hello { protocol: PROTOCOL, role, credential, match_id })
    };
    let samples = [
        ("hello.bin", hello(Role::Player, Credential::Ticket("v4.public.sample".into()), None)),
        (
            "hello-resume.bin",
            hello(
                Role::Player,
                Credential::Resume("v4.public.sample".into()),
                Some(MatchId(0x7f3a_91c2_0000_0001)),
            ),
        ),
        ("command.bin", ClientMessage::Command { seq: 1, payload: Bytes::from_static(&[2, 1]) }),
        ("bye.bin", ClientMessage::Bye),
    ];
    for (name, message) in samples {
        let bytes = encode_client(&message);
        assert_eq!(bytes, golden(name, &bytes), "{name}");
        let mut decoder = StreamDecoder::of_client(4096);
        decoder.push(&bytes);
        assert_eq!(decoder.next_message().expect(name), Some(message), "{name}");
    }
}

#[test]
fn the_first_message_of_version_2() {
    let credential = Credential::Resume("v4.public.sample".into());
    let hello = Hello {
        protocol: PROTOCOL_2,
        role: Role::Player,
        credential,
        match_id: Some(MatchId(0x7f3a_91c2_0000_0001)),
    };
    let beats = vec![Beat { tick: Tick(990), hash: StateHash([0x5a; 32]) }];
    let stood = Stood { epoch: Epoch(2), tick: Tick(1003), beats };
    let message =
        ClientMessage::Enter(Enter { hello, game: Some("arena".into()), stood: Some(stood) });
    let bytes = encode_client(&message);
    assert_eq!(bytes, golden("enter.bin", &bytes));
    let mut decoder = StreamDecoder::of_client(4096);
    decoder.push(&bytes);
    assert_eq!(decoder.next_message().expect("it is one"), Some(message));
}

#[test]
fn messages_of_version_3() {
    let hello = Hello {
        protocol: PROTOCOL_3,
        role: Role::Player,
        credential: Credential::Resume("v4.public.sample".into()),
        match_id: Some(MatchId(0x7f3a_91c2_0000_0001)),
    };
    let beats = vec![Beat { tick: Tick(990), hash: StateHash([0x5a; 32]) }];
    let stood = Some(Stood { epoch: Epoch(2), tick: Tick(1003), beats });
    let enter = Enter { hello, game: Some("arena".into()), stood };
    let heard = Some(Heard { tick: Tick(991), ordinal: 2 });
    let message = ClientMessage::Arrive(Arrive { enter, heard, redirects: 1 });
    let bytes = encode_client(&message);
    assert_eq!(bytes, golden("arrive.bin", &bytes));
    let mut decoder = StreamDecoder::of_client(4096);
    decoder.push(&bytes);
    assert_eq!(decoder.next_message().expect("it is one"), Some(message));
    let addrs = vec!["192.0.2.7:4433".into(), "192.0.2.8:4433".into()];
    for (name, message) in [
        ("nodes.bin", ServerMessage::Nodes { addrs }),
        ("events-missed.bin", ServerMessage::EventsMissed { from: Tick(991), to: Tick(1003) }),
    ] {
        let bytes = encode_server(&message);
        assert_eq!(bytes, golden(name, &bytes), "{name}");
        let mut decoder = StreamDecoder::of_server();
        decoder.push(&bytes);
        assert_eq!(decoder.next_message().expect(name), Some(message), "{name}");
    }
}

#[test]
fn messages_of_version_4() {
    let match_id = MatchId(0x7f3a_91c2_0000_0001);
    let message = ClientMessage::Wait(Hello {
        protocol: PROTOCOL_4,
        role: Role::Player,
        credential: Credential::Resume("v4.public.sample".into()),
        match_id: Some(match_id),
    });
    let bytes = encode_client(&message);
    assert_eq!(bytes, golden("wait.bin", &bytes));
    let mut decoder = StreamDecoder::of_client(4096);
    decoder.push(&bytes);
    assert_eq!(decoder.next_message().expect("it is one"), Some(message));
    for (name, message) in [
        ("standby.bin", ServerMessage::Standby { addr: Some("192.0.2.8:4433".into()) }),
        ("here.bin", ServerMessage::Here { match_id, epoch: Epoch(3) }),
    ] {
        let bytes = encode_server(&message);
        assert_eq!(bytes, golden(name, &bytes), "{name}");
        let mut decoder = StreamDecoder::of_server();
        decoder.push(&bytes);
        assert_eq!(decoder.next_message().expect(name), Some(message), "{name}");
    }
}

#[test]
fn messages_of_version_6() {
    let hello = Hello {
        protocol: PROTOCOL_6,
        role: Role::Player,
        credential: Credential::Ticket("v4.public.sample".into()),
        match_id: None,
    };
    let enter = Enter { hello, game: Some("arena".into()), stood: None };
    let message = ClientMessage::Seek(Seek {
        arrive: Arrive { enter, heard: None, redirects: 1 },
        properties: vec![("map".into(), "old".into()), ("mode".into(), "duel".into())],
        create: true,
    });
    let bytes = encode_client(&message);
    assert_eq!(bytes, golden("seek.bin", &bytes));
    let mut decoder = StreamDecoder::of_client(4096);
    decoder.push(&bytes);
    assert_eq!(decoder.next_message().expect("it is one"), Some(message));

    let json = r#"{"calls":[{"action":"buy","key":"7","args":{"item":"hat","price":9}}]}"#;
    let asked = DocumentsAsked { id: 3, kind: "profile".into(), json: json.into() };
    let message = ClientMessage::Documents(asked);
    let bytes = encode_client(&message);
    assert_eq!(bytes, golden("documents.bin", &bytes));
    decoder.push(&bytes);
    assert_eq!(decoder.next_message().expect("it is one"), Some(message));

    let json = r#"{"done":[{"key":"7","version":5}]}"#;
    let message = ServerMessage::Documents { id: 3, done: true, json: json.into() };
    let bytes = encode_server(&message);
    assert_eq!(bytes, golden("documents-done.bin", &bytes));
    let mut decoder = StreamDecoder::of_server();
    decoder.push(&bytes);
    assert_eq!(decoder.next_message().expect("it is one"), Some(message));
}

#[test]
fn server_messages_of_version_1() {
    let welcome = Welcome {
        match_id: MatchId(0x7f3a_91c2_0000_0001),
        game: "arena".into(),
        epoch: Epoch(2),
        tick: Tick(1000),
        tick_rate: 30,
        player: PlayerId(7),
        session: SessionId(0xabcd_ef01_2345_6789),
        resumed: true,
        resume_token: "v4.public.sample".into(),
        next_input: 41,
        next_command: 3,
        schema: schema(),
        config: Bytes::from_static(&[9, 9]),
    };
    let samples = [
        ("welcome.bin", ServerMessage::Welcome(Box::new(welcome))),
        (
            "refused.bin",
            ServerMessage::Refused {
                code: RefuseCode::Full,
                message: "the match has no room".into(),
            },
        ),
        (
            "command-done.bin",
            ServerMessage::CommandDone { seq: 3, tick: Tick(1004), accepted: true },
        ),
        ("beat.bin", ServerMessage::Beat { tick: Tick(1020), hash: StateHash([0x5a; 32]) }),
        (
            "event.bin",
            ServerMessage::Event {
                tick: Tick(1003),
                ordinal: 0,
                kind: "kill".into(),
                payload: Bytes::from_static(&[7, 9]),
            },
        ),
        ("rewound.bin", ServerMessage::Rewound { epoch: Epoch(3), to: Tick(990) }),
        ("redirect.bin", ServerMessage::Redirect { addr: "192.0.2.7:4433".into() }),
        ("ended.bin", ServerMessage::Ended { reason: "time is up".into() }),
    ];
    for (name, message) in samples {
        let bytes = encode_server(&message);
        assert_eq!(bytes, golden(name, &bytes), "{name}");
        let mut decoder = StreamDecoder::of_server();
        decoder.push(&bytes);
        assert_eq!(decoder.next_message().expect(name), Some(message), "{name}");
    }
}

#[test]
fn the_numbers_of_refusals_are_as_documented() {
    let document = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    for (number, code) in RefuseCode::ALL.into_iter().enumerate() {
        let line = format!("| {number} | {code:?} | {:#x} |", code.close_code());
        assert!(document.contains(&line), "docs/PROTOCOL.md lacks `{line}`");
        assert_eq!(code as usize, number);
    }
}

#[test]
fn the_document_shows_the_sample_files() {
    let document = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("```hex ") {
            let hex = lines
                .by_ref()
                .take_while(|line| *line != "```")
                .flat_map(|line| line.split_whitespace().map(str::to_owned))
                .collect();
            shown.insert(name.to_owned(), hex);
        }
    }
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("schema/golden/protocol")).unwrap() {
        let path = entry.unwrap().path();
        let hex = std::fs::read(&path).unwrap().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        files.insert(path.file_name().unwrap().to_string_lossy().into_owned(), hex);
    }
    assert!(files.len() >= 16);
    assert_eq!(
        shown, files,
        "the samples of docs/PROTOCOL.md and the files in schema/golden/protocol"
    );
}
