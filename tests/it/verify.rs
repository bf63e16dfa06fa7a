//! Damage is found, or changes nothing: bits of a small data directory are flipped one at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Node, eventually, rekindle};
use rekindle::inspect::reading::Reading;
use rekindle::inspect::report::Report;
use rekindle::inspect::verify::verify;
use rekindle::node::build;
use rekindle_arena::Arena;
use rekindle_schema::BuildId;
use rekindle_sim::{GameType, Typed};
use rekindle_store::chains;
use rekindle_store_open::address::StoreAddress;

/// A directory that a killed node left: one match, two bots, a second or so.
fn remains(dir: &Path) -> PathBuf {
    let node = Node::start(dir, &[]);
    let created = rekindle(dir, &["match", "create", "--bots", "2", "--json"]).expect(0).json();
    let id = created["id"].as_str().unwrap().to_owned();
    eventually("the tick", || {
        let view = rekindle(dir, &["match", "show", &id, "--json"]).expect(0).json();
        (view["tick"].as_u64()? >= 32).then_some(())
    });
    node.kill();
    dir.join("rekindle-data")
}

/// What `verify` finds in a directory.
struct Inspector {
    games: BTreeMap<String, Arc<dyn GameType>>,
    build: BuildId,
}

impl Inspector {
    fn new() -> Self {
        let arena: Arc<dyn GameType> = Arc::new(Typed::<Arena>::new().unwrap());
        Self {
            games: [("arena".to_owned(), arena)].into(),
            build: build::of_this_executable().unwrap(),
        }
    }

    async fn look(&self, data: &Path) -> Report {
        let reading = Reading::of(&StoreAddress::Local(data.to_owned()))
            .unwrap_or_else(|failure| panic!("{failure:?}"));
        verify(&reading, &self.games, self.build, &|_| ()).await.unwrap()
    }
}

/// The files that hold anything durable.
fn files(data: &Path) -> Vec<PathBuf> {
    let mut found = vec![data.join("format"), data.join("node.db")];
    if data.join("node.db-wal").exists() {
        found.push(data.join("node.db-wal"));
    }
    for kind in ["logs", "checkpoints"] {
        for log in std::fs::read_dir(data.join(kind)).unwrap() {
            found.extend(
                std::fs::read_dir(log.unwrap().path())
                    .unwrap()
                    .map(|segment| segment.unwrap().path()),
            );
        }
    }
    found
}

/// Which bits are flipped: every nth of each file, or a few of each, spread evenly.
#[derive(Clone, Copy)]
enum Choice {
    Every(usize),
    PerFile(usize),
}

impl Choice {
    /// What the environment asks for: `REKINDLE_FLIP_STEP=1` is every bit, and takes long
    /// (`cargo xtask bits`).
    fn asked() -> Self {
        let step = std::env::var("REKINDLE_FLIP_STEP").ok().and_then(|step| step.parse().ok());
        step.map_or(Self::PerFile(60), |step: usize| Self::Every(step.max(1)))
    }

    fn bits(self, bits: usize) -> Vec<usize> {
        match self {
            Self::Every(step) => (0..bits).step_by(step).collect(),
            Self::PerFile(count) if count >= bits => (0..bits).collect(),
            Self::PerFile(count) => {
                (0..count).map(|flip| (bits - 1) * flip / (count - 1).max(1)).collect()
            }
        }
    }
}

/// Flips one bit at a time of what a node left, and returns how many were flipped and how many of
/// them were noticed.
fn flip_bits(choice: Choice) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let data = remains(dir.path());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = std::thread::scope(|scope| {
        let data = &data;
        let working: Vec<_> = (0..workers)
            .map(|worker| scope.spawn(move || flip_share(data, choice, worker, workers)))
            .collect();
        working.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    counts.into_iter().fold((0, 0), |sum, share| (sum.0 + share.0, sum.1 + share.1))
}

/// One worker's share of the bits, on a copy of its own.
fn flip_share(original: &Path, choice: Choice, worker: usize, workers: usize) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("rekindle-data");
    for file in files(original) {
        let target = data.join(file.strip_prefix(original).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
    let inspector = Inspector::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let look = || runtime.block_on(inspector.look(&data));
    let whole = look();
    assert!(whole.is_clean(), "{whole:#?}");
    let truth = (whole.matches[0].to_tick, whole.matches[0].hash.clone());
    let (mut flipped, mut noticed) = (0, 0);
    for path in files(&data) {
        let bytes = std::fs::read(&path).unwrap();
        for bit in choice.bits(bytes.len() * 8).into_iter().skip(worker).step_by(workers) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).unwrap();
            let report = look();
            let seen = !report.is_clean() || report.notes.len() > whole.notes.len();
            let same = report.matches.first().map(|found| (found.to_tick, found.hash.clone()))
                == Some(truth.clone());
            assert!(seen || same, "bit {bit} of {}: {report:#?}", path.display());
            flipped += 1;
            noticed += usize::from(seen);
            if flipped % 20_000 == 0 {
                println!("{}: {flipped} bits flipped, {noticed} noticed", path.display());
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(look().is_clean(), "looking changes nothing");
    (flipped, noticed)
}

#[test]
fn no_flipped_bit_goes_on_in_silence() {
    let (flipped, noticed) = flip_bits(Choice::asked());
    println!(
        "{flipped} bits of a data directory flipped, {noticed} noticed by verify; the others \
         changed nothing"
    );
    assert!(noticed > 100, "only {noticed} of {flipped} flips were noticed at all");
}

#[test]
fn the_command_says_where_the_damage_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = remains(dir.path());
    let before = snapshot(&data);
    rekindle(dir.path(), &["verify"]).expect(0);
    assert!(before == snapshot(&data), "verify writes nothing");
    let log =
        files(&data).into_iter().find(|path| path.to_string_lossy().contains("/logs/")).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&log, bytes).unwrap();
    let done = rekindle(dir.path(), &["verify", "--json"]).expect(5);
    let faults = done.json()["faults"].to_string();
    assert!(faults.contains(log.file_name().unwrap().to_str().unwrap()), "{faults}");
    rekindle(dir.path(), &["verify", "nowhere"]).expect(4);
}

/// A real node writes chains; one that is killed in mid-chain goes on from there; and when a link
/// is damaged, `verify` says which, and the match goes on from the links before it, at the same
/// tick with the same world.
#[tokio::test]
async fn chains_of_checkpoints_are_verified_and_their_damage_costs_no_tick() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        ["--set", "checkpoint.every_s=1", "--set", "log.filter=info,rekindle_actors=debug"];
    let mut node = Node::start(dir.path(), &settings);
    let created =
        rekindle(dir.path(), &["match", "create", "--bots", "4", "--json"]).expect(0).json();
    let id = created["id"].as_str().unwrap().to_owned();
    // Each is written when the next is taken.
    let mut deltas = 0;
    while deltas < 3 {
        deltas += usize::from(node.wait_for("RK-HOST-038")["kind"] == "delta");
    }
    node.kill();
    let data = dir.path().join("rekindle-data");
    let inspector = Inspector::new();
    let whole = inspector.look(&data).await;
    assert!(whole.is_clean(), "{whole:#?}");
    let reading = Reading::of(&StoreAddress::Local(data.clone()))
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    let store = reading.store().await.unwrap();
    let lease = store.leases.matches().await.unwrap().remove(0);
    let (list, _) = store.checkpoints.list(lease.match_id).await.unwrap();
    assert_eq!(whole.matches[0].checkpoints, list.len());
    let newest = chains::restore_points(&list).0.unwrap();
    assert!(newest.links().len() > 2, "{list:?}");

    let broken = newest.links()[1];
    let stored = store.checkpoints.get(broken).await.unwrap();
    let holding = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(stored.len()).position(|window| window == stored)?;
        Some((path, bytes, at))
    };
    let (path, mut bytes, at) = files(&data).into_iter().find_map(holding).unwrap();
    bytes[at + stored.len() / 2] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = inspector.look(&data).await;
    assert!(
        !damaged.is_clean()
            && damaged.faults[0].contains(path.file_name().unwrap().to_str().unwrap()),
        "{damaged:#?}"
    );
    assert_eq!(damaged.matches[0].hash, whole.matches[0].hash);
    assert_eq!(
        damaged.matches[0].checkpoints,
        list.len() - 2,
        "the damaged one, and the one on it"
    );

    let mut node = Node::start(dir.path(), &settings);
    let resumed = node.said("RK-NODE-010");
    assert!(resumed.to_string().contains(&id) && resumed["hash_ok"] == true, "{resumed}");
    let said = node.seen.iter().any(|event| {
        event["code"] == "RK-NODE-013" && event["note"].to_string().contains("passed over")
    });
    assert!(said, "{:#?}", node.seen);
    eventually("the next tick", || {
        let view = rekindle(dir.path(), &["match", "show", &id, "--json"]).expect(0).json();
        (view["tick"].as_u64()? > whole.matches[0].to_tick).then_some(())
    });
}

fn snapshot(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(data).into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}
