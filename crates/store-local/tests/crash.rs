//! Processes that die and power that fails at random moments: whatever was acknowledged is there
//! afterwards.
//!
//! A child process recovers the match as a new incarnation, checks its history, and goes on
//! writing; it prints what was acknowledged. The parent kills it, or shuts its file system down,
//! and compares. `REKINDLE_KILLS`, `REKINDLE_POWER_CUTS` and `REKINDLE_SEED` ask for more.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::lease::{Lineage, NodeState};
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::{BatchNo, Incarnation, MatchId, Seq, Tick};
use rekindle_store::history::{self, History, LoadOptions, Start};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Scribe, checkpoint, match_lease, register};
use rekindle_store_local::disk::SystemDisk;
use rekindle_store_local::{LocalOptions, LocalStore};
use support::{Cheat, CheatingDisk, Dice, number};

const A: MatchId = MatchId(1);
const B: MatchId = MatchId(2);

fn payload(seq: u64) -> Vec<u8> {
    (0..seq % 900 + 8).map(|i| (i * 7 + seq) as u8).collect()
}

fn open(dir: &Path, cheat: Cheat) -> Result<Store, StoreError> {
    let disk = Arc::new(CheatingDisk { disk: Arc::new(SystemDisk), cheat });
    LocalStore::open(dir, LocalOptions { disk, segment_bytes: 20_000, ..LocalOptions::default() })
}

/// What a node does at its start: rules 1 to 5 of a takeover for every dead owner, then the
/// history.
async fn recover(store: &Store, me: Incarnation) -> Result<(History, u64), String> {
    let text = |error: StoreError| error.to_string();
    for dead in store
        .leases
        .nodes()
        .await
        .map_err(text)?
        .into_iter()
        .filter(|lease| lease.incarnation != me)
    {
        if dead.state != NodeState::Fenced || dead.seal.is_none() {
            store.leases.fence(dead.incarnation).await.map_err(text)?;
            let tail = store.journal.tail(dead.incarnation).await.map_err(text)?;
            store.journal.settle(dead.incarnation, tail.last).await.map_err(text)?;
            store.leases.seal(dead.incarnation, tail.last).await.map_err(text)?;
        }
    }
    let Some(mut lease) = store.leases.get(A).await.map_err(text)? else {
        store.leases.create(match_lease(A, &[(me, 1)])).await.map_err(text)?;
        return Ok((History::default(), 1));
    };
    let history = history::load(store, &lease, &LoadOptions::default())
        .await
        .map_err(|error| error.to_string())?;
    lease.version += 1;
    lease.epoch = lease.epoch.next();
    lease.incarnation = me;
    let first_seq = history.last_seq().next();
    lease.lineage.push(Lineage {
        epoch: lease.epoch,
        incarnation: me,
        first_batch: BatchNo(1),
        first_seq,
    });
    let epoch = lease.epoch.0;
    store
        .leases
        .compare_and_set(lease)
        .await
        .map_err(text)?
        .map_err(|_| "another owner".to_owned())?;
    Ok((history, epoch))
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// Run as a child by the tests below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child process of other tests"]
async fn child_recovers_and_writes() {
    let Ok(dir) = std::env::var("REKINDLE_CHILD_DIR") else { return };
    let cheat = Cheat::named(&std::env::var("REKINDLE_CHILD_CHEAT").unwrap_or_default());
    let me = Incarnation(number("REKINDLE_CHILD_INCARNATION", 1));
    let store = open(Path::new(&dir), cheat).unwrap();
    register(&store, me).await;
    let (history, epoch) = recover(&store, me).await.unwrap();
    let mut seq = history.last_seq().0;
    say(&format!("recovered {seq}"));
    let mut scribe = Scribe::new(me);
    scribe.own(A, epoch, seq + 1);
    scribe.own(B, me.0, 1);
    for batch_no in 1.. {
        let (first, second) = (payload(seq + 1), payload(seq + 2));
        let batch = scribe.batch(&[(A, &first), (B, b"noise"), (A, &second)]);
        store.journal.append(batch).await.unwrap();
        seq += 2;
        say(&format!("acknowledged {seq}"));
        if batch_no % 13 == 0 {
            let (meta, state) = checkpoint(A, epoch, me, seq, batch_no, 30_000);
            store.checkpoints.put(meta, state).await.unwrap();
            say(&format!("checkpoint {seq}"));
        }
        if batch_no % 17 == 0 {
            let id = EffectId { tick: Tick(seq), ordinal: 0 };
            let effect = Effect { id, kind: "result".to_owned(), payload: payload(seq).into() };
            assert!(store.effects.deliver(A, effect).await.unwrap());
            say(&format!("effect {seq}"));
        }
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug, Default)]
struct Promises {
    acknowledged: u64,
    checkpoint: u64,
    effects: Vec<u64>,
    recoveries: u64,
}

impl Promises {
    /// Notes what a child said.
    fn note(&mut self, line: &str) {
        let Some((word, value)) = line.split_once(' ') else { return };
        let Ok(value) = value.parse::<u64>() else { return };
        match word {
            "recovered" => {
                self.recoveries += 1;
                assert!(
                    value >= self.acknowledged,
                    "recovered {value}, but {} was acknowledged",
                    self.acknowledged
                );
            }
            "acknowledged" => self.acknowledged = value,
            "checkpoint" => self.checkpoint = value,
            "effect" => self.effects.push(value),
            _ => {}
        }
    }
}

/// When a child is to end.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// This long after it was started: perhaps before it has recovered.
    Started(Duration),
    /// This long after it has recovered.
    Recovered(Duration),
}

/// Runs a child until `end` ends it; notes what it had promised before `end` was called. What it
/// says after that counts only if `late`: a killed process has said it before it died, but one
/// whose file system is shut down under it may get wrong answers.
fn run_child(
    dir: &Path,
    incarnation: u64,
    cheat: Cheat,
    moment: Moment,
    late: bool,
    promises: &mut Promises,
    end: impl FnOnce(&mut Child),
) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_recovers_and_writes", "--ignored", "--nocapture"])
        .env("REKINDLE_CHILD_DIR", dir)
        .env("REKINDLE_CHILD_CHEAT", cheat.name())
        .env("REKINDLE_CHILD_INCARNATION", incarnation.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let said = Arc::new(Mutex::new(Vec::new()));
    let (recovered, awaited) = std::sync::mpsc::channel();
    let reader = std::thread::spawn({
        let said = Arc::clone(&said);
        move || {
            for line in lines.map_while(Result::ok) {
                if line.starts_with("recovered") {
                    let _ = recovered.send(());
                }
                said.lock().push(line);
            }
        }
    });
    match moment {
        Moment::Started(delay) => std::thread::sleep(delay),
        Moment::Recovered(delay) => {
            awaited
                .recv_timeout(Duration::from_mins(1))
                .expect("the child recovers within a minute");
            std::thread::sleep(delay);
        }
    }
    let before = said.lock().len();
    end(&mut child.0);
    drop(child);
    reader.join().unwrap();
    let said = said.lock();
    let counts = if late { said.len() } else { before };
    said[..counts].iter().for_each(|line| promises.note(line));
}

/// Compares a data directory with what was promised.
async fn check(dir: &Path, incarnation: u64, promises: &Promises) -> Result<(), String> {
    let text = |error: StoreError| error.to_string();
    let store = open(dir, Cheat::Honest).map_err(text)?;
    let me = Incarnation(incarnation);
    register(&store, me).await;
    let (history, _) = recover(&store, me).await?;
    if history.last_seq().0 < promises.acknowledged {
        return Err(format!(
            "the journal ends with {}, {} was acknowledged",
            history.last_seq(),
            promises.acknowledged
        ));
    }
    let checkpointed = history.checkpoint.as_ref().map_or(0, |(meta, _)| meta.seq.0);
    if checkpointed < promises.checkpoint {
        return Err(format!(
            "the newest checkpoint covers {checkpointed}, one of {} was put",
            promises.checkpoint
        ));
    }
    if let Some(lease) = store.leases.get(A).await.map_err(text)? {
        let beginning = LoadOptions { start: Start::Beginning, ..LoadOptions::default() };
        let all =
            history::load(&store, &lease, &beginning).await.map_err(|error| error.to_string())?;
        for (frame, seq) in all.frames.iter().zip(1..) {
            if frame.header.seq != Seq(seq) || frame.payload != payload(seq) {
                return Err(format!("record {seq} is not what was written"));
            }
        }
    }
    let delivered = store.effects.delivered().await.map_err(text)?;
    let missing = promises
        .effects
        .iter()
        .find(|&&seq| !delivered.iter().any(|(_, effect)| effect.id.tick == Tick(seq)));
    if let Some(missing) = missing {
        return Err(format!("effect {missing} is missing"));
    }
    drop(store);
    let audit = LocalStore::audit(dir).map_err(text)?;
    if audit.is_clean() { Ok(()) } else { Err(format!("{:?}", audit.findings)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_lose_nothing_that_was_acknowledged() {
    let (kills, seed) = (number("REKINDLE_KILLS", 20), number("REKINDLE_SEED", 1));
    let mut dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(seed);
    let mut promises = Promises::default();
    let (mut acknowledged, mut recoveries) = (0, 0);
    for round in 1..=kills {
        if round % 25 == 0 {
            (acknowledged, recoveries) =
                (acknowledged + promises.acknowledged, recoveries + promises.recoveries);
            (dir, promises) = (tempfile::tempdir().unwrap(), Promises::default());
        }
        // A third of the kills hit the start of the process, with recovery and the takeover.
        let moment = match round % 3 {
            0 => Moment::Started(Duration::from_micros(dice.roll(100_000))),
            _ => Moment::Recovered(Duration::from_micros(dice.roll(150_000))),
        };
        run_child(dir.path(), round * 2, Cheat::Honest, moment, true, &mut promises, |child| {
            child.kill().unwrap();
        });
        let result = check(dir.path(), round * 2 + 1, &promises).await;
        assert!(
            result.is_ok(),
            "round {round}: {result:?}; REKINDLE_SEED={seed} REKINDLE_KILLS={kills} cargo test -p \
             rekindle-store-local --test crash killed"
        );
    }
    (acknowledged, recoveries) =
        (acknowledged + promises.acknowledged, recoveries + promises.recoveries);
    println!(
        "{kills} kills: {acknowledged} records acknowledged, {recoveries} recoveries, nothing lost"
    );
    assert!(
        acknowledged > kills && recoveries > kills / 2,
        "too little happened: {acknowledged} records, {recoveries} recoveries"
    );
}

/// A file system of its own, whose power can be cut.
struct LoopMount {
    dir: tempfile::TempDir,
}

impl LoopMount {
    fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = dir.path().join("image");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(96 << 20))
            .map_err(|error| error.to_string())?;
        std::fs::create_dir(dir.path().join("mount")).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let this = Self { dir };
        this.mount()?;
        Ok(this)
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("mount")
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(self.dir.path().join("image"))
            .arg(self.path()))
    }

    /// Everything that is not on the disk is gone: `EXT4_IOC_SHUTDOWN` with
    /// `EXT4_GOING_FLAGS_NOLOGFLUSH`.
    fn power_switch(&self) -> Result<Switch, String> {
        let script = "import fcntl, os, struct, sys\nfd = os.open(sys.argv[1], \
                      os.O_RDONLY)\nprint('ready', flush=True)\n\
            sys.stdin.readline()\nfcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))";
        let child = Command::new("python3")
            .args(["-c", script])
            .arg(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("python3: {error}"))?;
        let mut child = Killed(child);
        let mut ready = String::new();
        BufReader::new(child.0.stdout.take().unwrap())
            .read_line(&mut ready)
            .map_err(|error| error.to_string())?;
        if ready.trim() == "ready" {
            Ok(Switch(child))
        } else {
            Err("the mount cannot be opened".to_owned())
        }
    }

    fn remount(&self) -> Result<(), String> {
        // The kernel may hold the mount for a moment after the last process is gone.
        let mut result = Ok(());
        for _ in 0..50 {
            result = run(Command::new("umount").arg(self.path()));
            if result.is_ok() {
                return self.mount();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        result
    }
}

/// A process that is ready to shut the file system down at once.
struct Switch(Killed);

impl Switch {
    fn cut(mut self) -> Result<(), String> {
        self.0.0.stdin.take().unwrap().write_all(b"\n").map_err(|error| error.to_string())?;
        let status = self.0.0.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err("the ioctl was refused".to_owned()) }
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Cuts the power `cuts` times; the first thing that is lost is the error. `None` if there is no
/// power that could be cut here.
async fn cut_power(cheat: Cheat, cuts: u64, seed: u64) -> Option<Result<Promises, String>> {
    let disk = match LoopMount::new()
        .and_then(|disk| disk.power_switch()?.cut().and_then(|()| disk.remount()).map(|()| disk))
    {
        Ok(disk) => disk,
        Err(error) => {
            println!(
                "SKIPPED: power cuts need a loop-mounted ext4, python3 and the rights to use them: \
                 {error}"
            );
            return None;
        }
    };
    let mut dice = Dice::new(seed);
    let mut promises = Promises::default();
    for round in 1..=cuts {
        let moment = Moment::Recovered(Duration::from_micros(20_000 + dice.roll(400_000)));
        let switch = disk.power_switch().unwrap();
        run_child(&disk.path(), round * 2, cheat, moment, false, &mut promises, |_| {
            switch.cut().unwrap();
        });
        disk.remount().unwrap();
        if let Err(error) = check(&disk.path(), round * 2 + 1, &promises).await {
            return Some(Err(format!("power cut {round}: {error}; {promises:?}")));
        }
    }
    Some(Ok(promises))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_lose_nothing_that_was_acknowledged() {
    let (cuts, seed) = (number("REKINDLE_POWER_CUTS", 3), number("REKINDLE_SEED", 1));
    let Some(result) = cut_power(Cheat::Honest, cuts, seed).await else { return };
    let again = format!(
        "REKINDLE_SEED={seed} REKINDLE_POWER_CUTS={cuts} cargo test -p \
         rekindle-store-local --test crash power_cuts"
    );
    let promises = result.unwrap_or_else(|error| panic!("{error}; {again}"));
    println!("{cuts} power cuts, {promises:?}");
    assert!(promises.acknowledged > cuts, "too little happened: {promises:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_catch_a_store_that_does_not_sync() {
    let Some(result) = cut_power(Cheat::NoSync, 5, 1).await else { return };
    println!(
        "caught: {}",
        result.expect_err("five power cuts did not show that nothing is synced")
    );
}
