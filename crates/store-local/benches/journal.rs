//! The local journal against a bare file that does the same writes and syncs, in the same run:
//! batches of 1, 100 and 1,000 records.
//!
//! `cargo bench -p rekindle-store` prints criterion's figures, then a table with throughput and
//! acknowledgement times of both sides, measured in turns so that the mood of the disk is shared.
//! `REKINDLE_BENCH_DIR` names a directory on the disk to measure (default: the target directory; a
//! tmpfs would say nothing).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use rekindle_schema::batch::Batch;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store::history::{self, LoadOptions};
use rekindle_store_conformance::{Scribe, match_lease, register};
use rekindle_store_local::{LocalOptions, LocalStore};
use tokio::runtime::Runtime;

const NODE: Incarnation = Incarnation(1);
const RECORD: [u8; 60] = [7; 60];

fn data_dir() -> tempfile::TempDir {
    let base = std::env::var_os("REKINDLE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&base)
        .and_then(|()| tempfile::tempdir_in(base))
        .expect("a directory to measure in")
}

/// A batch as a node with one match for each record writes it.
fn next(scribe: &mut Scribe, records: u64) -> Batch {
    let records: Vec<(MatchId, &[u8])> =
        (1..=records).map(|match_id| (MatchId(match_id), &RECORD[..])).collect();
    scribe.batch(&records)
}

struct Journal {
    runtime: Runtime,
    store: Store,
    scribe: Scribe,
    records: u64,
    _dir: tempfile::TempDir,
}

impl Journal {
    fn open(records: u64) -> Self {
        let dir = data_dir();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store =
            LocalStore::open(dir.path(), LocalOptions::default()).expect("a fresh directory opens");
        runtime.block_on(register(&store, NODE));
        Self { runtime, store, scribe: Scribe::new(NODE), records, _dir: dir }
    }

    /// Appends a batch; the time is that from the request to the acknowledgement.
    fn append(&mut self) -> Duration {
        let batch = next(&mut self.scribe, self.records);
        let start = Instant::now();
        self.runtime.block_on(self.store.journal.append(batch)).expect("a live node appends");
        start.elapsed()
    }
}

/// The same bytes, written by the same thread that asks: nothing else.
struct Bare {
    file: File,
    at: u64,
    scribe: Scribe,
    records: u64,
    _dir: tempfile::TempDir,
}

impl Bare {
    fn open(records: u64) -> Self {
        let dir = data_dir();
        let path: &Path = &dir.path().join("bare");
        let file =
            OpenOptions::new().write(true).create_new(true).open(path).expect("a fresh file");
        Self { file, at: 0, scribe: Scribe::new(NODE), records, _dir: dir }
    }

    fn append(&mut self) -> Duration {
        let batch = next(&mut self.scribe, self.records);
        let start = Instant::now();
        self.file
            .write_all_at(&batch.bytes, self.at)
            .and_then(|()| self.file.sync_data())
            .expect("the disk works");
        self.at += batch.bytes.len() as u64;
        start.elapsed()
    }
}

fn journal(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal");
    group
        .sample_size(30)
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_millis(500));
    for records in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(records));
        let mut log = Journal::open(records);
        group.bench_function(BenchmarkId::new("local", records), |b| {
            b.iter_custom(|n| (0..n).map(|_| log.append()).sum());
        });
        let mut bare = Bare::open(records);
        group.bench_function(BenchmarkId::new("bare file", records), |b| {
            b.iter_custom(|n| (0..n).map(|_| bare.append()).sum());
        });
    }
    group.finish();
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// Both sides in turns of 50 batches.
fn compare(records: u64) {
    const ROUNDS: usize = 40;
    const TURN: usize = 50;
    let (mut log, mut bare) = (Journal::open(records), Bare::open(records));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].extend((0..TURN).map(|_| log.append()));
        times[1].extend((0..TURN).map(|_| bare.append()));
    }
    let [log, bare] = times.map(|mut times| {
        times.sort_unstable();
        let rate =
            (times.len() as u64 * records) as f64 / times.iter().sum::<Duration>().as_secs_f64();
        (rate, percentile(&times, 50), percentile(&times, 99))
    });
    println!(
        "{records:>5} records: local {:>9.0} rec/s, p50 {:.2} ms, p99 {:.2} ms; bare {:>9.0} \
         rec/s, p50 {:.2} ms, p99 {:.2} ms; throughput {:.0} %, p99 x{:.2}",
        log.0,
        log.1,
        log.2,
        bare.0,
        bare.1,
        bare.2,
        100.0 * log.0 / bare.0,
        log.2 / bare.2
    );
}

/// A thousand matches recover from one log: what a takeover waits for before it can replay.
fn recover() {
    const MATCHES: u64 = 1_000;
    const BATCHES: u64 = 300;
    let mut log = Journal::open(MATCHES);
    let bytes: u64 = (0..BATCHES).map(|_| next_len(&mut log)).sum();
    let leases: Vec<MatchLease> =
        (1..=MATCHES).map(|match_id| match_lease(MatchId(match_id), &[(NODE, 1)])).collect();
    let start = Instant::now();
    let histories =
        log.runtime.block_on(history::load_many(&log.store, &leases, &LoadOptions::default()));
    let took = start.elapsed();
    assert!(histories.iter().all(|history| {
        history.as_ref().is_ok_and(|history| history.frames.len() as u64 == BATCHES)
    }));
    println!(
        "{MATCHES} histories of {BATCHES} records out of one log of {} MiB: {:.0} ms",
        bytes >> 20,
        took.as_secs_f64() * 1e3
    );
}

fn next_len(log: &mut Journal) -> u64 {
    let batch = next(&mut log.scribe, log.records);
    let len = batch.bytes.len() as u64;
    log.runtime.block_on(log.store.journal.append(batch)).expect("a live node appends");
    len
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    journal(&mut criterion);
    criterion.final_summary();
    println!();
    for records in [1, 100, 1_000] {
        compare(records);
    }
    recover();
}
