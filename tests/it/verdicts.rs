//! Damage, another build and a difference in play are three verdicts; and whatever makes ticks
//! again compares them with what was recorded.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rekindle::inspect::reading::Reading;
use rekindle::inspect::report::Report;
use rekindle::inspect::verify::verify;
use rekindle::node::build;
use rekindle_arena::Arena;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Encoding};
use rekindle_schema::batch::{Batch, BatchView, Frame};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::record::{Effect, Flush, Step};
use rekindle_schema::{BatchNo, BuildId, PlayerId, StateHash, Tick};
use rekindle_sim::simulation::Probe;
use rekindle_sim::{GameType, Marks, SessionState, SimError, Simulation, StepOutput, Typed};
use rekindle_store::Store;
use rekindle_store_conformance::match_lease;
use rekindle_store_open::address::StoreAddress;

use crate::support::{Node, eventually, rekindle};

/// What a crafted chunk says that it holds, in bytes.
const PROMISED: u32 = 256 << 20;

/// The arena as a build has it that gave a component one more field: it reads every checkpoint, and
/// gets other hashes.
struct Altered(Arc<dyn GameType>);

struct AlteredSim(Box<dyn Simulation>);

impl Simulation for AlteredSim {
    fn tick(&self) -> Tick {
        self.0.tick()
    }
    fn step(&mut self, step: &Step) -> Result<StepOutput, SimError> {
        self.0.step(step)
    }
    fn state_hash(&self) -> StateHash {
        let StateHash(mut hash) = self.0.state_hash();
        hash[0] ^= 1;
        StateHash(hash)
    }
    fn checkpoint(&self) -> Bytes {
        self.0.checkpoint()
    }
    fn capture(&self) -> (Bytes, Marks) {
        self.0.capture()
    }
    fn changes(&self, base: &[u8], marks: &Marks, limit: usize) -> Option<(Vec<u8>, Marks)> {
        self.0.changes(base, marks, limit)
    }
    fn extract(&self, view: &mut NetView) {
        self.0.extract(view);
    }
    fn sessions(&self) -> Vec<SessionState> {
        self.0.sessions()
    }
    fn open_effects(&self) -> Vec<Effect> {
        self.0.open_effects()
    }
    fn probe(&self) -> Arc<Probe> {
        self.0.probe()
    }
    fn describe(&self) -> serde_json::Value {
        self.0.describe()
    }
}

impl GameType for Altered {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn net_schema(&self) -> &NetSchema {
        self.0.net_schema()
    }
    fn tick_rate(&self) -> u16 {
        self.0.tick_rate()
    }
    fn max_players(&self, config: &[u8]) -> usize {
        self.0.max_players(config)
    }
    fn config_from_json(&self, json: &str) -> Result<Bytes, SimError> {
        self.0.config_from_json(json)
    }
    fn create_at(
        &self,
        config: &[u8],
        seed: u64,
        rate: u16,
    ) -> Result<Box<dyn Simulation>, SimError> {
        Ok(Box::new(AlteredSim(self.0.create_at(config, seed, rate)?)))
    }
    fn restore(&self, checkpoint: &[u8]) -> Result<Box<dyn Simulation>, SimError> {
        Ok(Box::new(AlteredSim(self.0.restore(checkpoint)?)))
    }
    fn checkpoint_hash(&self, checkpoint: &[u8]) -> Option<StateHash> {
        self.0.checkpoint_hash(checkpoint)
    }
    fn accepts_input(&self, payload: &[u8]) -> bool {
        self.0.accepts_input(payload)
    }
    fn accepts_command(&self, payload: &[u8]) -> bool {
        self.0.accepts_command(payload)
    }
    fn bot(
        &self,
        player: PlayerId,
        view: &NetView,
        config: &[u8],
        state: &mut Vec<u8>,
    ) -> Option<Bytes> {
        self.0.bot(player, view, config, state)
    }
}

fn arena() -> Arc<dyn GameType> {
    Arc::new(Typed::<Arena>::new().unwrap())
}

/// A directory that a killed node left: a match with two bots, several checkpoints, a few seconds.
fn remains(dir: &Path) -> String {
    let node = Node::start(dir, &["--set", "checkpoint.every_s=1"]);
    let id = rekindle(dir, &["match", "create", "--bots", "2", "--json"]).expect(0).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("the tick", || {
        let view = rekindle(dir, &["match", "show", &id, "--json"]).expect(0).json();
        (view["tick"].as_u64()? >= 130).then_some(())
    });
    node.kill();
    id
}

async fn look(data: &Path, game: Arc<dyn GameType>, build: BuildId) -> Report {
    let reading = Reading::of(&StoreAddress::Local(data.to_owned()))
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    verify(&reading, &[("arena".to_owned(), game)].into(), build, &|_| ()).await.unwrap()
}

#[tokio::test]
async fn an_upgrade_is_no_damage_and_neither_is_a_difference_in_play() {
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path());
    let data = dir.path().join("rekindle-data");
    let me = build::of_this_executable().unwrap();
    let made = {
        let reading = Reading::of(&StoreAddress::Local(data.clone()))
            .unwrap_or_else(|failure| panic!("{failure:?}"));
        let store = reading.store().await.unwrap();
        let lease = store.leases.matches().await.unwrap().remove(0);
        store.checkpoints.list(lease.match_id).await.unwrap().0[0].build
    };
    assert_ne!(made, me, "the node is another executable than this test");

    let same = look(&data, arena(), made).await;
    assert!(
        same.is_clean() && same.matches[0].beats >= 4 && same.matches[0].checkpoints >= 2,
        "{same:#?}"
    );
    let repeated = look(&data, arena(), me).await;
    assert!(
        repeated.is_clean() && repeated.notes.iter().any(|note| note.contains("by build")),
        "it repeats all of it: {repeated:#?}"
    );

    let upgraded = look(&data, Arc::new(Altered(arena())), me).await;
    assert!(upgraded.faults.is_empty() && upgraded.differs.is_empty(), "{upgraded:#?}");
    let [line] = &upgraded.other_build[..] else { panic!("one line for the match: {upgraded:#?}") };
    assert!(
        line.contains("RK-VERIFY-150") && line.contains(&made.to_string()) && line.contains("more"),
        "{line}"
    );

    let differs = look(&data, Arc::new(Altered(arena())), made).await;
    assert!(differs.faults.is_empty() && differs.other_build.is_empty(), "{differs:#?}");
    assert!(
        differs.differs.len() == 1 && differs.differs[0].contains("RK-VERIFY-151"),
        "{differs:#?}"
    );
}

async fn open(data: &Path) -> (Store, MatchLease) {
    let store = StoreAddress::Local(data.to_owned()).open().await.unwrap();
    let lease = store.leases.matches().await.unwrap().remove(0);
    (store, lease)
}

/// All records of a match with the batches that they lie in.
async fn records(store: &Store, lease: &MatchLease) -> Vec<(BatchNo, Frame, Flush)> {
    let mut found = Vec::new();
    let mut next = BatchNo(1);
    loop {
        let batches: Vec<Batch> =
            store.journal.read(lease.incarnation, next, 1 << 20).await.unwrap();
        let Some(last) = batches.last() else { return found };
        next = last.number.next();
        for batch in &batches {
            for frame in BatchView::parse(&batch.bytes).unwrap().frames(lease.match_id, lease.epoch)
            {
                found.push((batch.number, frame.clone(), Flush::decode(&frame.payload).unwrap()));
            }
        }
    }
}

/// Puts a checkpoint of a world that was never played into a directory, whole in itself, where the
/// record of `tick` ends.
async fn forge(data: &Path, wanted: impl Fn(Tick) -> bool) -> Option<Tick> {
    let (store, lease) = open(data).await;
    let records = records(&store, &lease).await;
    // A checkpoint that is stored already is not stored again, and one a tick later would be taken
    // by the replay to that tick instead of the forged one.
    let (stored, _) = store.checkpoints.list(lease.match_id).await.unwrap();
    let fits = |(_, frame, _): &&(BatchNo, Frame, Flush)| {
        frame.header.last_tick.0 > 25
            && wanted(frame.header.last_tick)
            && stored.iter().all(|meta| {
                meta.seq != frame.header.seq && meta.tick != frame.header.last_tick.next()
            })
    };
    let (batch, last, _) = records.iter().rev().skip(5).find(fits)?;
    let mut sim = arena().create(&lease.spec.config, lease.spec.seed ^ 1).unwrap();
    for (_, frame, flush) in
        records.iter().filter(|(_, frame, _)| frame.header.seq <= last.header.seq)
    {
        for tick in (frame.header.first_tick.0..=frame.header.last_tick.0).map(Tick) {
            let empty = Step { tick, ..Step::default() };
            sim.step(flush.steps.iter().find(|step| step.tick == tick).unwrap_or(&empty)).unwrap();
        }
    }
    let state = sim.checkpoint();
    let meta = CheckpointMeta {
        match_id: lease.match_id,
        epoch: lease.epoch,
        seq: last.header.seq,
        tick: sim.tick(),
        log: lease.incarnation,
        batch: *batch,
        build: last.header.build,
        hash: sim.state_hash(),
        time_ms: last.header.time_ms,
        len: state.len() as u64,
        crc: crc32c(&state),
        base: None,
    };
    store.checkpoints.put(meta, state).await.unwrap();
    Some(sim.tick())
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_from_a_forged_checkpoint_says_that_its_state_is_wrong() {
    // With a beat at its tick, and between two beats.
    for on_beat in [true, false] {
        // A record may hold several ticks, and none of those here may end on a beat.
        let (dir, id, tick) = loop {
            let dir = tempfile::tempdir().unwrap();
            let id = remains(dir.path());
            rekindle(dir.path(), &["replay", &id, "--json"]).expect(0);
            if let Some(tick) = forge(&dir.path().join("rekindle-data"), |tick| {
                tick.0.is_multiple_of(30) == on_beat
            })
            .await
            {
                break (dir, id, tick.0);
            }
        };
        for to in [tick, tick + 1] {
            let done = rekindle(dir.path(), &["replay", &id, "--json", "--to", &to.to_string()]);
            // The checkpoint contradicts the journal; between beats that may show only at the next
            // one.
            assert!(done.code == 5 || done.code == 11 && !on_beat, "{done:?}");
            assert!(done.stderr.contains("RK-VERIFY-15"), "{done:?}");
        }
        // Before it, another state is taken.
        rekindle(dir.path(), &["replay", &id, "--to", &(tick - 1).to_string(), "--json"]).expect(0);
        let done = rekindle(dir.path(), &["verify", "--json"]).expect(5);
        let report = done.json();
        assert!(report["faults"].to_string().contains("RK-VERIFY-015"), "{report}");
        assert_eq!(
            (report["differs"].to_string(), report["other_build"].to_string()),
            ("[]".to_owned(), "[]".to_owned()),
            "{report}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_that_this_build_does_not_have_is_another_builds_affair() {
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path());
    let data = dir.path().join("rekindle-data");
    let (store, lease) = open(&data).await;
    let mut other =
        match_lease(rekindle_schema::MatchId(lease.match_id.0 ^ 1), &[(lease.incarnation, 1)]);
    other.spec.game = "chess".to_owned();
    store.leases.create(other).await.unwrap();
    drop(store);
    let done = rekindle(dir.path(), &["verify"]).expect(10);
    let last = done.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("another build:") && done.stdout.matches("OTHER BUILD").count() == 1,
        "{done:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_of_damaged_things_says_so_by_its_code() {
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path());
    let data = dir.path().join("rekindle-data");
    let target = |name: &str| format!("local:{}", dir.path().join(name).display());
    rekindle(
        dir.path(),
        &["store", "restore", "rekindle-data", "--store", &target("whole"), "--json"],
    )
    .expect(0);
    rekindle(dir.path(), &["store", "backup", "saved", "--json"]).expect(0);

    // A damaged checkpoint with others behind it.
    let folder =
        std::fs::read_dir(data.join("checkpoints")).unwrap().next().unwrap().unwrap().path();
    let segment = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[600] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let done = rekindle(
        dir.path(),
        &["store", "restore", "rekindle-data", "--store", &target("lacking"), "--json"],
    )
    .expect(5);
    assert!(
        done.json()["copied"]["left_out"].as_u64() >= Some(1)
            && done.json()["copied"]["matches"] == 1,
        "it is made all the same: {done:?}"
    );
    let done = rekindle(dir.path(), &["store", "backup", "lacking-too"]).expect(5);
    assert!(done.stdout.contains("RK-CLI-151"), "{done:?}");
    rekindle(dir.path(), &["verify", "lacking-too"]).expect(0);
    std::fs::write(&segment, &whole).unwrap();

    // A chunk whose checksum is right, and which promises 256 MiB.
    let (store, lease) = open(&data).await;
    let (_, first, _) = records(&store, &lease).await.swap_remove(0);
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    bomb.extend_from_slice(&PROMISED.to_le_bytes());
    let blocks = PROMISED / (128 << 10);
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(0);
    }
    for kind in [ChunkKind::Records, ChunkKind::State] {
        let meta = ChunkMeta {
            match_id: lease.match_id,
            kind,
            first_epoch: lease.epoch,
            last_epoch: lease.epoch,
            first_seq: first.header.seq,
            last_seq: first.header.seq,
            first_tick: first.header.first_tick,
            last_tick: first.header.last_tick,
            first_ms: first.header.time_ms,
            last_ms: first.header.time_ms,
            log: lease.incarnation,
            batch: BatchNo(1),
            records: 1,
            last_crc: first.crc,
            encoding: Encoding::Zstd,
            len: bomb.len() as u64,
            crc: crc32c(&bomb),
            raw_len: u64::from(PROMISED),
        };
        store.archive.put(meta.clone(), bomb.clone().into()).await.unwrap();
        let peak = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = peak();
        assert!(rekindle_store::archive::check(&meta, &bomb.clone().into()).is_err());
        if kind == ChunkKind::Records {
            assert!(
                peak() - before < 64 << 10,
                "memory grows with what there is, not with what is promised"
            );
        }
        let done = rekindle(
            dir.path(),
            &[
                "store",
                "restore",
                "rekindle-data",
                "--store",
                &target(&format!("bomb-{kind:?}")),
                "--json",
            ],
        )
        .expect(5);
        assert!(done.stderr.contains("RK-STORE-052"), "{done:?}");
        rekindle(dir.path(), &["store", "backup", &format!("bombed-{kind:?}"), "--json"]).expect(5);
        rekindle(dir.path(), &["verify", "--json"]).expect(5);
        store.archive.remove(&meta).await.unwrap();
    }
    drop(store);
    rekindle(dir.path(), &["verify", "--json"]).expect(0);
}
