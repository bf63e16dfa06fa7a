//! Bytes that earlier releases wrote are read, and what is read is written as the same bytes.
//!
//! A file in `golden/` is never changed. A new format version gets a new file:
//! `REKINDLE_GOLDEN=new cargo test -p rekindle-schema --test golden` writes those that are missing.

use std::fmt::Debug;
use std::path::PathBuf;

use rekindle_schema::archive::{CHUNK_META_TAG, ChunkKind, ChunkMeta, Encoding, PIN_TAG, Pin};
use rekindle_schema::audit::{AUDIT_ENTRY_TAG, AuditEntry, Stage};
use rekindle_schema::batch::{BatchBuilder, BatchView, Frame, FrameHeader, MAX_BATCH};
use rekindle_schema::browsers::{BROWSERS_TAG, BrowserCertificate, BrowserCertificates};
use rekindle_schema::bugreport::{BUG_REPORT_HEAD, BUG_REPORT_MAGIC, BugReport, BugReportError};
use rekindle_schema::checkpoint::{CheckpointBase, CheckpointMeta};
use rekindle_schema::codec::{self, FormatTag};
use rekindle_schema::delta::{self, DeltaWriter};
use rekindle_schema::hello::{HELLO_ANSWER_TAG, HELLO_TAG, Hello, HelloAnswer};
use rekindle_schema::job::{JOB_TAG, Job, JobState, Unique};
use rekindle_schema::keyring::{KEPT_TAG, KEYRING_TAG, KeptKeyring, KeySet, Keyring};
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState, Reached,
    StoredCheckpoint,
};
use rekindle_schema::peer::Purpose;
use rekindle_schema::posting::{POSTING_TAG, Posted, Posting};
use rekindle_schema::record::{
    AppliedCommand, AppliedInput, Beat, Decision, EFFECT_TAG, Effect, EffectId, Event,
    FLUSH_SLOWED_TAG, FLUSH_TAG, Flush, Grounds, Join, Leave, LeaveReason, PartSums, Shown, Step,
};
use rekindle_schema::standby::{
    FOLLOW_REPORT_TAG, FollowReport, FollowState, FollowedMatch, STANDBY_WISH_TAG, StandbyWish,
};
use rekindle_schema::wish::{DRAIN_PROGRESS_TAG, DrainProgress, NODE_WISH_TAG, NodeWish, Wanted};
use rekindle_schema::{
    ActionId, BatchNo, BuildId, Epoch, Incarnation, JobId, MatchId, PlayerId, Seq, SessionId,
    StateHash, Tick,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a golden file; writes `new` if the file is missing and that was asked for.
fn golden(name: &str, new: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if !path.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        std::fs::write(&path, new).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    name: &str,
    tag: FormatTag,
    value: &T,
) {
    let bytes = golden(name, &codec::encode(tag, value));
    assert_eq!(codec::decode::<T>(tag, &bytes).as_ref(), Ok(value), "{name}");
    assert_eq!(codec::encode(tag, value), bytes, "{name}");
}

fn effect() -> Effect {
    Effect {
        id: EffectId { tick: Tick(60), ordinal: 1 },
        kind: "result".to_owned(),
        payload: b"{\"winner\":7}".to_vec().into(),
    }
}

fn flush() -> Flush {
    let (player, session) = (PlayerId(7), SessionId(0xabcd_ef01_2345_6789));
    let step = Step {
        tick: Tick(60),
        joins: vec![Join { player, session, name: "Ada".to_owned() }],
        leaves: vec![Leave {
            player: PlayerId(9),
            session: SessionId(1),
            reason: LeaveReason::TimedOut,
        }],
        inputs: vec![AppliedInput {
            player,
            session,
            seq: 300,
            view_tick: Tick(54),
            payload: vec![1, 2, 3].into(),
        }],
        commands: vec![AppliedCommand { player, session, seq: 2, payload: vec![0xff].into() }],
        effects_done: vec![EffectId { tick: Tick(30), ordinal: 0 }],
    };
    Flush {
        first: Tick(59),
        last: Tick(61),
        steps: vec![step],
        beats: vec![Beat { tick: Tick(60), hash: StateHash([0x5a; 32]) }],
        events: vec![Event {
            tick: Tick(60),
            ordinal: 0,
            kind: "kill".to_owned(),
            player: Some(player),
            payload: vec![9].into(),
        }],
        effects: vec![effect()],
        decisions: vec![
            Decision::Quarantine {
                tick: Tick(61),
                player,
                seq: 301,
                reason: "division by zero".to_owned(),
            },
            Decision::End { tick: Tick(61), reason: "stopped".to_owned() },
        ],
        parts: Vec::new(),
        shown: None,
    }
}

fn flush_2() -> Flush {
    let grounds = [Grounds::Equal, Grounds::Accepted, Grounds::Rewound(Tick(75))];
    let decision = |grounds| Decision::OtherBuild { tick: Tick(59), build: BuildId(7), grounds };
    let mut flush = flush();
    flush.decisions.extend(grounds.map(decision));
    flush.parts = vec![PartSums { tick: Tick(60), sums: vec![1, 0xdead_beef] }];
    let shown = |tick| Shown { tick: Tick(tick), digest: u64::MAX - tick };
    flush.shown = Some(vec![shown(59), shown(61)]);
    flush
}

fn flush_3() -> Flush {
    let mut flush = flush_2();
    flush.decisions.push(Decision::Slowdown { tick: Tick(60), periods: 3 });
    flush
}

fn check_flush(name: &str, flush: &Flush) {
    let bytes = golden(name, &flush.encode());
    assert_eq!(Flush::decode(&bytes).as_ref(), Ok(flush), "{name}");
    assert_eq!(flush.encode(), bytes, "{name}");
}

#[test]
fn records_of_versions_1_to_3() {
    check_flush("flush-1.bin", &flush());
    check_flush("flush-2.bin", &flush_2());
    check_flush("flush-3.bin", &flush_3());
    assert!(FLUSH_TAG.is_of(&flush_2().encode()) && FLUSH_SLOWED_TAG.is_of(&flush_3().encode()));
    let silent = Flush { shown: Some(Vec::new()), ..flush() };
    assert_eq!(Flush::decode(&silent.encode()), Ok(silent), "nobody looked, and it says so");
    check("effect-1.bin", EFFECT_TAG, &effect());
}

#[test]
fn rows() {
    let node = NodeLease {
        incarnation: Incarnation(0x1122_3344_5566_7788),
        name: "alpha".to_owned(),
        state: NodeState::Fenced,
        pid: 4711,
        pid_start: 123_456,
        deadline_ms: 1_700_000_000_000,
        seal: Some(BatchNo(42)),
        host: "5b2c/4026531836".to_owned(),
        region: "eu".to_owned(),
        reached: Some(Reached {
            batch: BatchNo(41),
            crc: 0xdead_beef,
            at_ms: 1_699_999_999_000,
            checkpoint: Some(StoredCheckpoint {
                match_id: MatchId(0x7f3a_0000_0000_0001),
                name: CheckpointBase { epoch: Epoch(2), seq: Seq(1_000) },
            }),
        }),
        loss_accepted_ms: Some(1_700_000_100_000),
    };
    assert_eq!(golden("node-lease-3.bin", &node.encode()), node.encode());
    assert_eq!(NodeLease::decode(&node.encode()).as_ref(), Ok(&node));
    assert_eq!(node.known_end(), Some(BatchNo(42)));
    let second = NodeLease { reached: None, loss_accepted_ms: None, ..node };
    assert_eq!(NodeLease::decode(&golden("node-lease-2.bin", b"")).as_ref(), Ok(&second));
    let first = NodeLease { host: String::new(), region: DEFAULT_REGION.to_owned(), ..second };
    assert_eq!(NodeLease::decode(&golden("node-lease-1.bin", b"")), Ok(first));
    let line = |epoch, incarnation, first_batch, first_seq| Lineage {
        epoch: Epoch(epoch),
        incarnation: Incarnation(incarnation),
        first_batch: BatchNo(first_batch),
        first_seq: Seq(first_seq),
    };
    let lease = MatchLease {
        match_id: MatchId(0x7f3a_0000_0000_0001),
        version: 5,
        epoch: Epoch(2),
        incarnation: Incarnation(0xbb),
        state: MatchState::Parked { report: "system `aim`".to_owned() },
        attempts: 1,
        lineage: vec![line(1, 0xaa, 1, 1), line(2, 0xbb, 3, 900)],
        spec: MatchSpec {
            game: "arena".to_owned(),
            config: vec![1, 0].into(),
            seed: u64::MAX,
            tick_rate: 30,
            house_bots: 8,
            created_ms: 1_700_000_000_000,
        },
        region: "eu".to_owned(),
    };
    assert_eq!(golden("match-lease-2.bin", &lease.encode()), lease.encode());
    assert_eq!(MatchLease::decode(&lease.encode()).as_ref(), Ok(&lease));
    let first = MatchLease { region: DEFAULT_REGION.to_owned(), ..lease };
    assert_eq!(MatchLease::decode(&golden("match-lease-1.bin", b"")), Ok(first));
    let meta = CheckpointMeta {
        match_id: MatchId(0x7f3a_0000_0000_0001),
        epoch: Epoch(2),
        seq: Seq(950),
        tick: Tick(28_500),
        log: Incarnation(0xbb),
        batch: BatchNo(51),
        build: BuildId(0xb01d),
        hash: StateHash([0xa5; 32]),
        time_ms: 1_700_000_000_123,
        len: 17_000,
        crc: 0xdead_beef,
        base: None,
    };
    assert_eq!(golden("checkpoint-meta-1.bin", &meta.encode()), meta.encode());
    assert_eq!(CheckpointMeta::decode(&meta.encode()).as_ref(), Ok(&meta));
    let based =
        CheckpointMeta { base: Some(CheckpointBase { epoch: Epoch(2), seq: Seq(900) }), ..meta };
    assert_eq!(golden("checkpoint-meta-2.bin", &based.encode()), based.encode());
    assert_eq!(CheckpointMeta::decode(&based.encode()).as_ref(), Ok(&based));
}

#[test]
fn keyrings_of_version_1() {
    let set = |id: u8, accepted_until_ms| KeySet {
        id: u64::from(id),
        made_ms: 1_700_000_000_000,
        signs_from_ms: 1_700_000_010_000,
        accepted_until_ms,
        signing: [id; 32],
        tls: [id + 1; 32],
        certificate: b"a certificate".to_vec().into(),
        reset: [id + 2; 32],
    };
    let mut ring = Keyring::new(set(10, None));
    ring.rotate(set(20, None), 86_400_000, 1_700_000_000_000).unwrap();
    check("keyring-1.bin", KEYRING_TAG, &ring);
    let open = KeptKeyring::Open(ring.encode().into());
    check("keyring-kept-open-1.bin", KEPT_TAG, &open);
    let sealed = b"sealed bytes".to_vec().into();
    let sealed = KeptKeyring::Sealed { salt: [1; 32], nonce: [2; 12], sealed };
    check("keyring-kept-sealed-1.bin", KEPT_TAG, &sealed);
}

#[test]
fn browser_certificates_of_version_1() {
    let certificate = |shown_from_ms: u64| BrowserCertificate {
        shown_from_ms,
        certificate: b"a certificate".to_vec().into(),
        key: b"its key".to_vec().into(),
    };
    let (present, next) = (certificate(1_700_000_000_000), certificate(1_700_561_600_000));
    let both = BrowserCertificates { present, next };
    check("browser-certificates-1.bin", BROWSERS_TAG, &both);
}

#[test]
fn standbys_of_version_1() {
    check("standby-wish-1.bin", STANDBY_WISH_TAG, &StandbyWish { standbys: 1 });
    let states = [
        FollowState::Starting,
        FollowState::Follows { tick: Tick(900), lag: 2 },
        FollowState::Stopped("RK-RECOVERY-002: another build".to_owned()),
        FollowState::Differs("component `position`".to_owned()),
    ];
    let purposes = [Purpose::Standby, Purpose::Audit, Purpose::Standby, Purpose::Standby];
    let matches = states.into_iter().zip(purposes).zip(1..).map(|((state, purpose), id)| {
        FollowedMatch { match_id: MatchId(id), epoch: Epoch(3), purpose, state }
    });
    let report = FollowReport {
        incarnation: Incarnation(0x1122_3344_5566_7788),
        at_ms: 1_700_000_000_000,
        matches: matches.collect(),
    };
    check("follow-report-1.bin", FOLLOW_REPORT_TAG, &report);
}

#[test]
fn wishes_about_nodes_of_version_1() {
    let wish = |wanted| NodeWish {
        node: "n2".to_owned(),
        wanted,
        since_ms: 1_700_000_000_000,
        who: "rekindle-cli (ada)".to_owned(),
    };
    check("node-wish-drained-1.bin", NODE_WISH_TAG, &wish(Wanted::Drained));
    check("node-wish-decommissioned-1.bin", NODE_WISH_TAG, &wish(Wanted::Decommissioned));
    let progress = DrainProgress {
        node: "n2".to_owned(),
        incarnation: Incarnation(0x0018_bcfe_5680_0001),
        moved: 300,
        left: 1,
        stuck: vec![(MatchId(0xaa), "no other node takes it".to_owned())],
        worst_pause_ms: 21,
    };
    check("drain-progress-1.bin", DRAIN_PROGRESS_TAG, &progress);
}

#[test]
fn postings_of_version_1() {
    let posting = Posting {
        effect: effect(),
        by: Incarnation(0x0018_bcfe_5680_0001),
        entered_ms: 1_700_000_000_000,
        attempts: 2,
        due_ms: 1_700_000_004_000,
        last: "503 Service Unavailable".to_owned(),
        given_up: false,
    };
    check("posting-1.bin", POSTING_TAG, &posting);
    let (webhook, match_id) = ("results".to_owned(), MatchId(0xaa));
    let place = Posted { webhook, match_id, id: effect().id };
    assert_eq!(place.name(), "webhook/results/00000000000000aa/000000000000003c-00000001");
    assert_eq!(Posted::parse(&place.name()), Some(place));
    assert_eq!(Posted::parse("webhook/results/00000000000000aa"), None);
}

#[test]
fn jobs_and_audit_entries_of_version_1() {
    let job = |name: &str, unique, state| {
        let job = Job {
            id: JobId::at(1_700_000_000_000, 77),
            version: 3,
            queue: "house".to_owned(),
            kind: "keep-house".to_owned(),
            payload: vec![1, 2, 3].into(),
            unique,
            attempt: 2,
            max_attempts: 5,
            created_ms: 1_700_000_000_000,
            last_error: Some("disk full".to_owned()),
            state,
        };
        check(name, JOB_TAG, &job);
    };
    job("job-ready-1.bin", None, JobState::Ready { run_at_ms: 1_700_000_000_500 });
    let running = JobState::Running {
        by: Incarnation(0xbb),
        since_ms: 1_700_000_000_600,
        until_ms: 1_700_000_015_600,
    };
    job("job-running-1.bin", Some(Unique::WhileOpen("nightly".to_owned())), running);
    let once = Some(Unique::Once("cron:keep-house:1700000000".to_owned()));
    job(
        "job-done-1.bin",
        once.clone(),
        JobState::Done { at_ms: 1_700_000_001_000, note: "3 logs trimmed".to_owned() },
    );
    job(
        "job-dead-1.bin",
        once,
        JobState::Dead { at_ms: 1_700_000_001_000, error: "disk full".to_owned() },
    );
    job("job-cancelled-1.bin", None, JobState::Cancelled { at_ms: 1_700_000_001_000 });
    let entry = |name: &str, stage| {
        let entry = AuditEntry {
            time_ms: 1_700_000_000_000,
            action_id: ActionId::at(1_700_000_000_000, 78),
            stage,
            node: Incarnation(0xbb),
            who: "rekindle-cli (ada) from 127.0.0.1:50312".to_owned(),
            action: "match.stop".to_owned(),
            target: "7f3a000000000001".to_owned(),
            detail: "reason=enough".to_owned(),
        };
        check(name, AUDIT_ENTRY_TAG, &entry);
    };
    entry("audit-begun-1.bin", Stage::Begun);
    entry("audit-done-1.bin", Stage::Done);
    entry("audit-failed-1.bin", Stage::Failed { error: "it is over".to_owned() });
}

#[test]
fn deltas_of_version_1() {
    let base: Vec<u8> = (0..1_000u32).map(|place| (place * place % 251) as u8).collect();
    let mut new = base.clone();
    new[300..308].fill(0xee);
    new.splice(700..720, *b"something longer than what stood there before");
    let mut writer = DeltaWriter::new(&base);
    writer.replace(0..600, &new[..600]);
    writer.replace(650..1_000, &new[650..]);
    let (delta, state) = delta::seal(&base, &writer.finish()).unwrap();
    assert_eq!(state, [&new[..600], &new[650..]].concat());
    // Another writer may make another delta; what this one made must go on leading to the same
    // bytes.
    let written = golden("delta-1.bin", &delta);
    assert_eq!(delta::apply(&base, &written).as_ref(), Ok(&state));
    assert!(written.len() < 200, "{}", written.len());
}

#[test]
fn batches_of_version_1() {
    let header = |match_id, seq, prev_crc| FrameHeader {
        match_id: MatchId(match_id),
        epoch: Epoch(2),
        seq: Seq(seq),
        first_tick: Tick(59),
        last_tick: Tick(61),
        build: BuildId(0xb01d),
        time_ms: 1_700_000_000_000,
        prev_crc,
    };
    let payload = flush().encode();
    let build = || {
        let mut builder = BatchBuilder::new(Incarnation(0xbb), BatchNo(51), 0x0102_0304, MAX_BATCH);
        let crc = builder.push(&header(2, 10, 0xfeed), &payload).unwrap();
        builder.push(&header(1, 1, 0), b"").unwrap();
        builder.push(&header(2, 11, crc), b"second").unwrap();
        builder.finish()
    };
    let bytes = golden("batch-1.bin", &build().bytes);
    assert_eq!(build().bytes, bytes);
    let view = BatchView::parse(&bytes.into()).unwrap();
    assert_eq!(
        (view.incarnation(), view.number(), view.prev_crc()),
        (Incarnation(0xbb), BatchNo(51), 0x0102_0304)
    );
    let frames = view.frames(MatchId(2), Epoch(2));
    assert_eq!(frames[0].header, header(2, 10, 0xfeed));
    assert_eq!(Flush::decode(&frames[0].payload), Ok(flush()));
    assert_eq!(frames[1].header.prev_crc, frames[0].crc);

    let mut frame = Vec::new();
    Frame::encode(&header(1, 1, 0), b"payload", &mut frame);
    let bytes = golden("frame-1.bin", &frame);
    assert_eq!(frame, bytes);
    let (decoded, len) = Frame::decode(&bytes.into()).unwrap();
    assert_eq!(
        (decoded.header, &decoded.payload[..], len),
        (header(1, 1, 0), &b"payload"[..], frame.len())
    );
}

#[test]
fn archive_of_version_1() {
    let meta = ChunkMeta {
        match_id: MatchId(0x7f3a_0000_0000_0001),
        kind: ChunkKind::Records,
        first_epoch: Epoch(1),
        last_epoch: Epoch(2),
        first_seq: Seq(900),
        last_seq: Seq(1_899),
        first_tick: Tick(1_801),
        last_tick: Tick(3_800),
        first_ms: 1_700_000_000_000,
        last_ms: 1_700_000_060_000,
        log: Incarnation(0xbb),
        batch: BatchNo(51),
        records: 1_000,
        last_crc: 0xfeed_f00d,
        encoding: Encoding::Zstd,
        len: 17_000,
        crc: 0xdead_beef,
        raw_len: 262_200,
    };
    check("chunk-meta-1.bin", CHUNK_META_TAG, &meta);
    let state = ChunkMeta {
        kind: ChunkKind::State,
        encoding: Encoding::Plain,
        records: 0,
        last_crc: 0,
        ..meta
    };
    check("chunk-meta-state-1.bin", CHUNK_META_TAG, &state);
    let pin = Pin {
        match_id: MatchId(0x7f3a_0000_0000_0001),
        from: Tick(300),
        to: Some(Tick(900)),
        created_ms: 1_700_000_000_000,
    };
    check("pin-1.bin", PIN_TAG, &pin);
    assert_eq!(ChunkMeta::decode(&codec::encode(CHUNK_META_TAG, &state)), Ok(state));
    assert_eq!(Pin::decode(&pin.encode()), Ok(pin));
}

#[test]
fn hello_of_version_1() {
    let hello = Hello {
        speaks: (1, 2),
        store: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        from: Incarnation(0xbb),
        name: "n1".to_owned(),
        to: Some(Incarnation(0xaa)),
    };
    check("hello-1.bin", HELLO_TAG, &hello);
    assert_eq!(Hello::decode(&hello.encode()), Ok(hello.clone()));
    let welcome = HelloAnswer::Welcome(hello);
    check("hello-welcome-1.bin", HELLO_ANSWER_TAG, &welcome);
    let refused = HelloAnswer::Refused { words: "RK-PEER-005: another store".to_owned() };
    check("hello-refused-1.bin", HELLO_ANSWER_TAG, &refused);
    assert_eq!(HelloAnswer::decode(&refused.encode()), Ok(refused));
}

fn bug_report() -> BugReport {
    let match_id = MatchId(0x7f3a_0000_0000_0001);
    let frame = |seq: u64, prev_crc| {
        let header = FrameHeader {
            match_id,
            epoch: Epoch(2),
            seq: Seq(seq),
            first_tick: Tick(59),
            last_tick: Tick(61),
            build: BuildId(0xb01d),
            time_ms: 1_700_000_000_000,
            prev_crc,
        };
        let mut bytes = Vec::new();
        Frame::encode(&header, &flush_2().encode(), &mut bytes);
        Frame::decode(&bytes.into()).unwrap().0
    };
    let first = frame(10, 0);
    let meta = CheckpointMeta {
        match_id,
        epoch: Epoch(2),
        seq: Seq(9),
        tick: Tick(58),
        log: Incarnation(0xaa),
        batch: BatchNo(51),
        build: BuildId(0xb01d),
        hash: StateHash([7; 32]),
        time_ms: 1_700_000_000_000,
        len: 5,
        crc: 6,
        base: None,
    };
    let spec = MatchSpec {
        game: "arena".into(),
        config: b"{}"[..].into(),
        seed: 42,
        tick_rate: 30,
        house_bots: 2,
        created_ms: 1_700_000_000_000,
    };
    let lease = MatchLease {
        match_id,
        version: 3,
        epoch: Epoch(2),
        incarnation: Incarnation(0xaa),
        state: MatchState::Parked { report: "RK-SIM-005: tick 62".into() },
        attempts: 1,
        lineage: Vec::new(),
        spec,
        region: DEFAULT_REGION.into(),
    };
    BugReport {
        release: "0.1.0".into(),
        build: BuildId(0xb01e),
        made_ms: 1_700_000_000_001,
        lease,
        settings: vec![("shards".into(), "2".into())],
        notes: vec!["a note".into()],
        start: Some((meta, b"state"[..].into())),
        frames: vec![first.clone(), frame(11, first.crc)],
    }
}

#[test]
fn bug_reports_of_version_1_are_read() {
    let report = bug_report();
    let bytes = golden("bug-report-1.bin", &[]);
    assert_eq!(BugReport::decode(&bytes), Ok(report));
    damage_is_noticed(&bytes);
}

#[test]
fn bug_reports_of_version_2() {
    let report = bug_report();
    // Another release of the compressor may write other bytes for the same value.
    let bytes = golden("bug-report-2.bin", &report.encode());
    assert_eq!(BugReport::decode(&bytes), Ok(report.clone()));
    assert_eq!(BugReport::decode(&report.encode()), Ok(report.clone()));
    damage_is_noticed(&bytes);

    // What repeats itself takes little room.
    let frames = vec![report.frames[0].clone(); 200];
    let long = BugReport { frames, ..report };
    let (packed, plain) = (long.encode().len(), 200 * flush_2().encode().len());
    assert!(packed * 4 < plain, "{packed} of {plain}");
    assert_eq!(BugReport::decode(&long.encode()), Ok(long));
}

/// A file of version 2 with these bytes behind its head, which is right.
fn packed_report(value: &[u8]) -> Vec<u8> {
    let mut file = BUG_REPORT_MAGIC.to_vec();
    file.extend([2, 0, 0, 0]);
    file.extend(crc32c::crc32c(value).to_le_bytes());
    file.extend((value.len() as u64).to_le_bytes());
    file.extend(value);
    file
}

#[test]
fn a_bug_report_that_cannot_be_decompressed_is_refused_without_much_memory() {
    let promises = |len: u64, packed: &[u8]| {
        let value = [&len.to_le_bytes()[..], packed].concat();
        BugReport::decode(&packed_report(&value))
    };
    let whole = bug_report().encode();
    let (len, packed) = whole[BUG_REPORT_HEAD..].split_first_chunk::<8>().unwrap();
    let len = u64::from_le_bytes(*len);
    assert_eq!(promises(len, packed), Ok(bug_report()));
    for (len, packed) in [(u64::MAX, packed), (1 << 40, packed), (len + 1, packed), (7, packed)] {
        let refused = promises(len, packed);
        assert!(matches!(refused, Err(BugReportError::Compression(_))), "{len}: {refused:?}");
    }
    let noise = [0xff; 64];
    assert!(matches!(promises(99, &noise), Err(BugReportError::Compression(_))));
    let nothing = BugReport::decode(&packed_report(&[1, 2]));
    assert!(matches!(nothing, Err(BugReportError::Compression(_))), "{nothing:?}");
}

/// Whatever is changed or cut off is noticed, and nothing panics.
fn damage_is_noticed(bytes: &[u8]) {
    assert_eq!(BugReport::decode(b"PK"), Err(BugReportError::Foreign));
    for len in 0..bytes.len() {
        assert!(BugReport::decode(&bytes[..len]).is_err(), "{len}");
    }
    for place in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[place] ^= 0x40;
        let padding = (10..12).contains(&place);
        assert_eq!(BugReport::decode(&bad).is_ok(), padding, "{place}");
    }
    let mut newer = bytes.to_vec();
    newer[8] = 3;
    assert_eq!(BugReport::decode(&newer), Err(BugReportError::Version(3)));
    assert!(newer.len() > BUG_REPORT_HEAD);
}
