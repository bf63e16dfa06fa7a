//! History across log and archive: whatever is appended, archived, trimmed and cut off in between,
//! what the policy keeps can be read without a gap.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_cluster::retention::{self, Keep, Policy};
use rekindle_schema::archive::{ChunkKind, Pin};
use rekindle_schema::batch::{Batch, BatchBuilder, FrameHeader};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState,
};
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};
use rekindle_store::history::{self, End, HistoryError, LoadOptions, Start};
use rekindle_store::{Store, StoreError};
use rekindle_store_memory::{Fate, MemoryStore, Op};

const MATCHES: [MatchId; 2] = [MatchId(1), MatchId(2)];
const SECOND: u64 = 1_000;

/// `SplitMix64`.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// One match as its owner knows it.
struct Line {
    match_id: MatchId,
    epoch: Epoch,
    next: Seq,
    prev_crc: u32,
    /// Payload and wall clock of every record from the first.
    written: Vec<(Bytes, u64)>,
}

/// A node that writes records of all matches, one batch a second, and moves to a new incarnation
/// when it dies.
struct World {
    memory: MemoryStore,
    node: Incarnation,
    batch: BatchNo,
    batch_crc: u32,
    now: u64,
    lines: Vec<Line>,
    /// Bytes of each payload.
    size: usize,
}

impl World {
    async fn new(size: usize) -> Self {
        let memory = MemoryStore::new();
        let node = Incarnation(1);
        register(&memory.store(), node).await;
        let now = 1_700_000_000_000;
        let mut lines = Vec::new();
        for match_id in MATCHES {
            memory.store().leases.create(row(match_id, node, now)).await.unwrap();
            lines.push(Line {
                match_id,
                epoch: Epoch(1),
                next: Seq(1),
                prev_crc: 0,
                written: Vec::new(),
            });
        }
        Self { memory, node, batch: BatchNo(1), batch_crc: 0, now, lines, size }
    }

    fn store(&self) -> Store {
        self.memory.store()
    }

    /// A second goes by. Record n covers ticks 2n-1 and 2n.
    async fn write(&mut self) {
        self.now += SECOND;
        let mut builder = BatchBuilder::new(self.node, self.batch, self.batch_crc, 8 << 20);
        for line in &mut self.lines {
            let seq = line.next;
            let payload: Bytes = (0..self.size)
                .map(|i| (i as u64 ^ seq.0.wrapping_mul(line.match_id.0 + 7)) as u8)
                .collect::<Vec<u8>>()
                .into();
            let header = FrameHeader {
                match_id: line.match_id,
                epoch: line.epoch,
                seq,
                first_tick: Tick(seq.0 * 2 - 1),
                last_tick: Tick(seq.0 * 2),
                build: BuildId(1),
                time_ms: self.now,
                prev_crc: line.prev_crc,
            };
            line.prev_crc = builder.push(&header, &payload).unwrap();
            line.next = seq.next();
            line.written.push((payload, self.now));
        }
        let batch: Batch = builder.finish();
        self.batch_crc = batch.crc();
        self.batch = self.batch.next();
        self.store().journal.append(batch).await.unwrap();
    }

    /// Takes a checkpoint of every match and drops all but the newest two, as the owner does.
    async fn checkpoint(&self) {
        for line in &self.lines {
            let store = self.store();
            let state: Bytes = vec![line.next.0 as u8; 300].into();
            let meta = CheckpointMeta {
                match_id: line.match_id,
                epoch: line.epoch,
                seq: Seq(line.next.0 - 1),
                tick: Tick((line.next.0 - 1) * 2),
                log: self.node,
                batch: self.batch,
                build: BuildId(1),
                hash: StateHash([line.next.0 as u8; 32]),
                time_ms: self.now,
                len: state.len() as u64,
                crc: crc32c::crc32c(&state),
                base: None,
            };
            store.checkpoints.put(meta, state).await.unwrap();
            let (all, _) = store.checkpoints.list(line.match_id).await.unwrap();
            if let Some(second) = all.get(1) {
                store.checkpoints.trim(line.match_id, second.seq).await.unwrap();
            }
        }
    }

    /// The node dies; the next one takes over and forgets the lineage that the policy does not
    /// need.
    async fn take_over(&mut self, policy: &Policy) {
        let store = self.store();
        let dead = self.node;
        store.leases.fence(dead).await.unwrap();
        let tail = store.journal.tail(dead).await.unwrap();
        store.journal.settle(dead, tail.last).await.unwrap();
        store.leases.seal(dead, tail.last).await.unwrap();
        self.node = Incarnation(dead.0 + 1);
        (self.batch, self.batch_crc) = (BatchNo(1), 0);
        register(&store, self.node).await;
        for line in &mut self.lines {
            line.epoch = line.epoch.next();
            line.prev_crc = 0;
            let (node, epoch, first_seq) = (self.node, line.epoch, line.next);
            rekindle_cluster::ownership::directory::update(&*store.leases, line.match_id, |row| {
                (row.epoch, row.incarnation) = (epoch, node);
                row.lineage.push(Lineage {
                    epoch,
                    incarnation: node,
                    first_batch: BatchNo(1),
                    first_seq,
                });
                true
            })
            .await
            .unwrap();
            let keep_from = retention::lineage_needed(&store, policy, line.match_id).await.unwrap();
            rekindle_cluster::ownership::takeover::mark_healthy(
                &store,
                node,
                line.match_id,
                keep_from,
            )
            .await
            .unwrap();
        }
    }

    async fn end(&self, match_id: MatchId) {
        let ended = MatchState::Ended { reason: "over".into() };
        rekindle_cluster::ownership::directory::update(&*self.store().leases, match_id, |row| {
            row.state = ended.clone();
            true
        })
        .await
        .unwrap();
    }

    async fn load(
        &self,
        match_id: MatchId,
        start: Start,
        end: End,
    ) -> Result<history::History, HistoryError> {
        let store = self.store();
        let lease = store.leases.get(match_id).await.unwrap().unwrap();
        history::load(&store, &lease, &LoadOptions { start, end }).await
    }

    /// All that was ever written is there, in order, with the bytes that were written.
    async fn assert_complete(&self, context: &str) {
        for line in &self.lines {
            let history = self
                .load(line.match_id, Start::Beginning, End::Newest)
                .await
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(history.notes.is_empty(), "{context}: {:?}", history.notes);
            let found: Vec<&[u8]> = history.frames.iter().map(|frame| &frame.payload[..]).collect();
            let expected: Vec<&[u8]> =
                line.written.iter().map(|(payload, _)| &payload[..]).collect();
            assert_eq!(found.len(), expected.len(), "{context}: match {}", line.match_id);
            assert!(found == expected, "{context}: match {}: other bytes", line.match_id);
        }
    }
}

async fn register(store: &Store, incarnation: Incarnation) {
    let lease = NodeLease {
        incarnation,
        name: "test".into(),
        state: NodeState::Live,
        pid: 0,
        pid_start: 0,
        deadline_ms: 0,
        seal: None,
        host: String::new(),
        region: DEFAULT_REGION.into(),
        reached: None,
        loss_accepted_ms: None,
    };
    store.leases.register(lease).await.unwrap();
}

fn row(match_id: MatchId, incarnation: Incarnation, created_ms: u64) -> MatchLease {
    MatchLease {
        match_id,
        version: 1,
        epoch: Epoch(1),
        incarnation,
        state: MatchState::Running,
        attempts: 0,
        lineage: vec![Lineage {
            epoch: Epoch(1),
            incarnation,
            first_batch: BatchNo(1),
            first_seq: Seq(1),
        }],
        spec: MatchSpec {
            game: "test".into(),
            config: Bytes::new(),
            seed: 1,
            tick_rate: 30,
            house_bots: 0,
            created_ms,
        },
        region: DEFAULT_REGION.into(),
    }
}

fn keeping(archive: Keep) -> Policy {
    Policy { archive, chunk_every: Duration::from_secs(5), ..Policy::default() }
}

async fn first_batches(store: &Store) -> Vec<(Incarnation, u64)> {
    store.journal.logs().await.unwrap().into_iter().map(|info| (info.log, info.first.0)).collect()
}

/// Errors of the archive, of reading and of trimming, lost answers, by chance.
fn faulty(world: &World, seed: u64) -> Store {
    let draw = Mutex::new(Draw(seed));
    let plan = move |op: Op| {
        let mut draw = draw.lock();
        let failing = matches!(
            op,
            Op::PutChunk(_) | Op::ReadChunk(_) | Op::Read(_) | Op::Maintain | Op::ReadCheckpoint(_)
        );
        let fail =
            (failing && draw.below(25) == 0).then(|| StoreError::Unavailable("by chance".into()));
        Fate {
            before: Duration::from_millis(draw.below(5)),
            sync: Duration::from_millis(draw.below(5)),
            fail,
            lose_answer: failing && draw.below(25) == 0,
            ..Fate::default()
        }
    };
    world.memory.with_faults(Arc::new(plan)).store()
}

/// Seeds: appends, checkpoints, takeovers, runs of retention on one or two nodes with faults, runs
/// that are abandoned in the middle as by a crash, power cuts. History from the beginning is always
/// complete.
#[tokio::test(start_paused = true)]
async fn nothing_that_is_kept_is_ever_missing() {
    let (mut trimmed, mut abandoned) = (0, 0);
    for seed in 0..24 {
        let mut draw = Draw(seed);
        let policy = keeping(Keep::All);
        // Some worlds fill chunks by size, others by time.
        let mut world = World::new([40, 3_000, 60_000][(seed % 3) as usize]).await;
        for step in 0..60 {
            match draw.below(10) {
                0..=4 => {
                    for _ in 0..=draw.below(6) {
                        world.write().await;
                    }
                }
                5 | 6 => world.checkpoint().await,
                7 if draw.below(3) == 0 => world.take_over(&policy).await,
                7 | 8 => {
                    let nodes = [faulty(&world, draw.0), faulty(&world, draw.0 ^ 1)];
                    let runs = nodes
                        .iter()
                        .take(1 + draw.below(2) as usize)
                        .map(|store| retention::run(store, &policy, world.now));
                    let patience = Duration::from_millis(draw.below(400));
                    let cut = draw.below(4) == 0;
                    let all = futures::future::join_all(runs);
                    if tokio::time::timeout(patience, all).await.is_err() {
                        abandoned += 1;
                        if cut {
                            world.memory.power_cut();
                        }
                    }
                }
                _ => _ = retention::run(&world.store(), &policy, world.now).await.unwrap(),
            }
            if step % 7 == 0 {
                world.assert_complete(&format!("seed {seed}, step {step}")).await;
            }
        }
        world.end(MATCHES[0]).await;
        for _ in 0..2 {
            retention::run(&world.store(), &policy, world.now).await.unwrap();
        }
        world.assert_complete(&format!("seed {seed}, at the end")).await;
        trimmed +=
            first_batches(&world.store()).await.iter().filter(|(_, first)| *first > 1).count();
    }
    assert!(
        trimmed > 8 && abandoned > 8,
        "{trimmed} logs were trimmed, {abandoned} runs abandoned: the test tests nothing"
    );
}

/// Builds a world whose log is trimmed and whose archive reaches back to the first record.
async fn archived(policy: &Policy, seconds: u64) -> World {
    let mut world = World::new(50).await;
    for second in 1..=seconds {
        world.write().await;
        if second % 4 == 0 {
            world.checkpoint().await;
            retention::run(&world.store(), policy, world.now).await.unwrap();
        }
    }
    world
}

#[tokio::test]
async fn without_a_policy_nothing_is_archived_and_the_beginning_is_trimmed() {
    let world = archived(&Policy::default(), 40).await;
    assert!(world.store().archive.matches().await.unwrap().is_empty());
    assert!(first_batches(&world.store()).await[0].1 > 30);
    let lost = world.load(MATCHES[0], Start::Beginning, End::Newest).await.unwrap_err();
    assert!(matches!(lost, HistoryError::Damaged { .. } | HistoryError::Gap { .. }), "{lost}");
}

#[tokio::test]
async fn a_point_in_time_is_found_by_wall_clock() {
    let world = archived(&keeping(Keep::All), 60).await;
    assert!(first_batches(&world.store()).await[0].1 > 40, "most of it is in the archive");
    let written = &world.lines[0].written;
    for (ms, expected) in [
        (written[0].1 - 1, 0),
        (written[0].1, 1),
        (written[9].1 + 999, 10),
        (written[30].1, 31),
        (written[58].1 - 1, 58),
        (written[59].1 + 1_000_000, 60),
    ] {
        let history = world.load(MATCHES[0], Start::Newest, End::Time(ms)).await.unwrap();
        assert_eq!(history.last_seq(), Seq(expected), "at {ms}");
        let all = world.load(MATCHES[0], Start::Beginning, End::Time(ms)).await.unwrap();
        assert_eq!((all.last_seq(), all.frames.len() as u64), (Seq(expected), expected), "at {ms}");
    }
    // By tick, from the newest state that is not behind it.
    for tick in [1, 2, 19, 80, 119] {
        let history = world.load(MATCHES[0], Start::Newest, End::Tick(Tick(tick))).await.unwrap();
        assert_eq!(history.last_seq(), Seq(tick.div_ceil(2)), "tick {tick}");
    }
    let late = world.load(MATCHES[0], Start::Newest, End::Tick(Tick(80))).await.unwrap();
    assert!(
        late.checkpoint.is_some_and(|(meta, _)| meta.seq > Seq(10)),
        "an archived state shortens the replay"
    );
}

/// An owner whose clock is behind: what was recorded before a moment is all that precedes the last
/// record of that moment.
#[tokio::test]
async fn a_clock_that_steps_back_leaves_nothing_out() {
    let mut world = World::new(50).await;
    for _ in 0..20 {
        world.write().await;
    }
    let moment = world.now;
    world.take_over(&Policy::default()).await;
    world.now -= 8 * SECOND;
    for _ in 0..20 {
        world.write().await;
    }
    let history = world.load(MATCHES[0], Start::Newest, End::Time(moment)).await.unwrap();
    assert_eq!(
        history.last_seq(),
        Seq(28),
        "eight records of the second owner carry times up to the moment"
    );
    let history =
        world.load(MATCHES[0], Start::Newest, End::Time(moment - 7 * SECOND)).await.unwrap();
    assert_eq!(
        history.last_seq(),
        Seq(21),
        "the second owner's first record is the last with such a time; all before it count"
    );
}

#[tokio::test]
async fn an_archive_for_a_time_keeps_what_can_be_replayed_and_what_is_pinned() {
    let policy = keeping(Keep::For(Duration::from_mins(1)));
    let mut world = World::new(50).await;
    for second in 1..=300 {
        world.write().await;
        if second % 4 == 0 {
            world.checkpoint().await;
        }
        if second == 40 {
            let pin = Pin {
                match_id: MATCHES[1],
                from: Tick(120),
                to: Some(Tick(160)),
                created_ms: world.now,
            };
            world.store().archive.pin(pin).await.unwrap();
        }
        if second % 4 == 0 {
            retention::run(&world.store(), &policy, world.now).await.unwrap();
        }
    }
    let store = world.store();
    let plain = store.archive.list(MATCHES[0]).await.unwrap().0;
    let oldest = plain
        .iter()
        .filter(|meta| meta.kind == ChunkKind::Records)
        .map(|meta| meta.last_ms)
        .min()
        .unwrap();
    let age = (world.now - oldest) / SECOND;
    assert!((50..130).contains(&age), "the oldest chunk is {age} s old");
    let base = plain.first().unwrap();
    assert_eq!(base.kind, ChunkKind::State, "what is left begins with a state");
    let tick = Tick(base.last_tick.0 + 5);
    assert_eq!(
        world.load(MATCHES[0], Start::Newest, End::Tick(tick)).await.unwrap().last_seq(),
        Seq(tick.0.div_ceil(2))
    );
    assert!(
        world.load(MATCHES[0], Start::Newest, End::Tick(Tick(140))).await.is_err(),
        "not pinned, so it is gone"
    );

    for tick in [120, 140, 160] {
        let history = world.load(MATCHES[1], Start::Newest, End::Tick(Tick(tick))).await.unwrap();
        assert_eq!(history.last_seq(), Seq(tick / 2), "tick {tick} is pinned");
    }
    assert!(
        world.load(MATCHES[1], Start::Newest, End::Tick(Tick(400))).await.is_err(),
        "what lies between is not pinned"
    );
    store.archive.unpin(MATCHES[1]).await.unwrap();
    retention::run(&store, &policy, world.now).await.unwrap();
    assert!(
        world.load(MATCHES[1], Start::Newest, End::Tick(Tick(140))).await.is_err(),
        "it is pinned no longer"
    );
}

#[tokio::test]
async fn a_pin_archives_without_a_policy_until_its_end() {
    let policy = Policy { chunk_every: Duration::from_secs(5), ..Policy::default() };
    let mut world = World::new(50).await;
    let pin =
        Pin { match_id: MATCHES[0], from: Tick(10), to: Some(Tick(60)), created_ms: world.now };
    world.store().archive.pin(pin).await.unwrap();
    for second in 1..=100 {
        world.write().await;
        if second % 4 == 0 {
            world.checkpoint().await;
            retention::run(&world.store(), &policy, world.now).await.unwrap();
        }
    }
    assert!(first_batches(&world.store()).await[0].1 > 80);
    assert_eq!(world.store().archive.matches().await.unwrap(), [MATCHES[0]]);
    assert_eq!(
        world.load(MATCHES[0], Start::Beginning, End::Tick(Tick(60))).await.unwrap().frames.len(),
        30
    );
    assert!(world.load(MATCHES[0], Start::Beginning, End::Tick(Tick(140))).await.is_err());
}

#[tokio::test]
async fn an_ended_match_goes_with_all_that_belongs_to_it() {
    let policy = Policy { ended: Keep::For(Duration::from_secs(30)), ..keeping(Keep::All) };
    let mut world = archived(&policy, 40).await;
    for match_id in MATCHES {
        world.end(match_id).await;
    }
    let store = world.store();
    store
        .archive
        .pin(Pin { match_id: MATCHES[1], from: Tick(1), to: None, created_ms: 0 })
        .await
        .unwrap();
    let done = retention::run(&store, &policy, world.now + 20 * SECOND).await.unwrap();
    assert!(done.matches_removed.is_empty());
    world.assert_complete("ended and archived to the end").await;
    world.now += 60 * SECOND;
    // A run that dies in the middle leaves a match that the next one removes.
    let dying = world.memory.with_faults(Arc::new(|op| Fate {
        fail: matches!(op, Op::ReadCheckpoint(MatchId(1)))
            .then(|| StoreError::Unavailable("dead".into())),
        ..Fate::default()
    }));
    assert!(retention::run(&dying.store(), &policy, world.now).await.is_err());
    assert!(store.leases.get(MATCHES[0]).await.unwrap().is_some());
    let done = retention::run(&store, &policy, world.now).await.unwrap();
    assert_eq!(done.matches_removed, [MATCHES[0]]);
    assert!(store.leases.get(MATCHES[0]).await.unwrap().is_none());
    assert!(
        store.archive.list(MATCHES[0]).await.unwrap().0.is_empty()
            && store.checkpoints.list(MATCHES[0]).await.unwrap().0.is_empty()
    );
    let pinned = world.load(MATCHES[1], Start::Beginning, End::Newest).await.unwrap();
    assert_eq!(pinned.frames.len(), 40, "a pinned match stays");
}

#[tokio::test]
async fn a_damaged_chunk_is_named_and_not_passed_over() {
    let world = archived(&keeping(Keep::All), 60).await;
    assert!(world.memory.flip_bit_in_chunk(MATCHES[0], Seq(12), 99));
    let error = world.load(MATCHES[0], Start::Beginning, End::Newest).await.unwrap_err();
    assert!(
        matches!(error, HistoryError::Archive { .. })
            && error.to_string().contains("archived records"),
        "{error}"
    );
    world.load(MATCHES[1], Start::Beginning, End::Newest).await.unwrap();
    let newest = world.load(MATCHES[0], Start::Newest, End::Newest).await.unwrap();
    assert_eq!(newest.last_seq(), Seq(60), "recovery does not need it");
}

/// With all checkpoints damaged a match is rebuilt from its first record, which only the archive
/// has.
#[tokio::test]
async fn the_archive_stands_in_for_lost_checkpoints() {
    let world = archived(&keeping(Keep::All), 40).await;
    world.store().checkpoints.trim(MATCHES[0], Seq(u64::MAX)).await.unwrap();
    let history = world.load(MATCHES[0], Start::Newest, End::Newest).await.unwrap();
    let (state, _) = history.checkpoint.as_ref().expect("an archived state");
    assert_eq!((state.seq.0 + history.frames.len() as u64, history.last_seq()), (40, Seq(40)));
}

/// `journal = for`: batches that are younger than that stay in the log.
#[tokio::test]
async fn a_journal_for_a_time_keeps_young_batches() {
    for (seconds, kept) in [(10, 10), (25, 25), (1_000, 60)] {
        let policy =
            Policy { journal: Keep::For(Duration::from_secs(seconds)), ..Policy::default() };
        let world = archived(&policy, 60).await;
        let first = first_batches(&world.store()).await[0].1;
        assert_eq!(60 - first, kept.min(59), "journal = for:{seconds}s");
    }
}

/// A node's clock was wrong for five seconds, an hour or ten years: what is kept goes by the times
/// beside those.
#[tokio::test]
async fn a_clock_that_is_set_neither_keeps_a_journal_for_ever_nor_cuts_what_is_young() {
    const HOUR: i64 = 3_600 * SECOND as i64;
    let policy = Policy {
        journal: Keep::For(Duration::from_secs(20)),
        ended: Keep::For(Duration::from_secs(30)),
        ..Policy::default()
    };
    for by_ms in [HOUR, -HOUR, 10 * 365 * 24 * HOUR, -10 * 365 * 24 * HOUR] {
        let mut world = World::new(50).await;
        for second in 1..=60 {
            let wrong = (25..30).contains(&second);
            let now = world.now + SECOND;
            if wrong {
                world.now = world.now.saturating_add_signed(by_ms);
            }
            world.write().await;
            if second % 4 == 0 {
                world.checkpoint().await;
            }
            world.now = now;
            if second % 4 == 0 {
                retention::run(&world.store(), &policy, now).await.unwrap();
            }
        }
        let kept = 60 - first_batches(&world.store()).await[0].1;
        assert!((19..=24).contains(&kept), "{kept} seconds are kept after a step of {by_ms} ms");

        // Its last checkpoint has a time of its own; the others do not speak for it.
        world.now = world.now.saturating_add_signed(by_ms);
        world.write().await;
        world.checkpoint().await;
        world.now = world.now.saturating_add_signed(-by_ms);
        world.end(MATCHES[0]).await;
        let done = retention::run(&world.store(), &policy, world.now + 10 * SECOND).await.unwrap();
        assert!(done.matches_removed.is_empty(), "it ended ten seconds ago: {by_ms}");
        let behind =
            retention::run(&world.store(), &policy, world.now - 5 * 365 * 24 * HOUR as u64)
                .await
                .unwrap();
        assert!(
            behind.matches_removed.is_empty(),
            "a clock that is behind removes nothing: {by_ms}"
        );
        let done = retention::run(&world.store(), &policy, world.now + 60 * SECOND).await.unwrap();
        assert_eq!(done.matches_removed, [MATCHES[0]], "{by_ms}");
    }
}

/// `checkpoints = n`: the owner keeps more than two, and records from the oldest of them on.
#[tokio::test]
async fn more_checkpoints_keep_more_records() {
    let policy = Policy { checkpoints: 5, ..Policy::default() };
    let mut world = World::new(50).await;
    for second in 1..=80u64 {
        world.write().await;
        if second % 4 == 0 {
            let store = world.store();
            for line in &world.lines {
                let state: Bytes = vec![1; 30].into();
                let meta = CheckpointMeta {
                    match_id: line.match_id,
                    epoch: line.epoch,
                    seq: Seq(second),
                    tick: Tick(second * 2),
                    log: world.node,
                    batch: world.batch,
                    build: BuildId(1),
                    hash: StateHash::default(),
                    time_ms: world.now,
                    len: 30,
                    crc: crc32c::crc32c(&state),
                    base: None,
                };
                store.checkpoints.put(meta, state).await.unwrap();
            }
            retention::run(&store, &policy, world.now).await.unwrap();
        }
    }
    let (kept, _) = world.store().checkpoints.list(MATCHES[0]).await.unwrap();
    assert_eq!(kept.iter().map(|meta| meta.seq.0).collect::<Vec<_>>(), [80, 76, 72, 68, 64]);
    assert_eq!(
        world.load(MATCHES[0], Start::Newest, End::Tick(Tick(129))).await.unwrap().last_seq(),
        Seq(65)
    );
    assert_eq!(first_batches(&world.store()).await[0].1, 65);
}
