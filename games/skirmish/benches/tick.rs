//! The cost of a tick of a battle of 1,000 units, and of what a node does with it, in CPU time of
//! the thread.

#![expect(missing_docs, reason = "criterion's macros write public functions")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use rekindle_netcode::{SnapshotHeader, SnapshotSender, ViewHistory};
use rekindle_schema::net::NetView;
use rekindle_schema::record::Step;
use rekindle_sim::{GameType, Harness, PlayerId, Simulation, Typed};
use rekindle_skirmish::Skirmish;
use rustix::time::{ClockId, clock_gettime};

const FIRST_BOT: PlayerId = PlayerId(1_000_000);
/// A minute. The sides meet after ten seconds and fight from then on.
const TICKS: u64 = 600;

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of doing it so often.
fn times<R>(count: u64, mut body: impl FnMut() -> R) -> Duration {
    let start = cpu_time();
    for _ in 0..count {
        black_box(body());
    }
    cpu_time().saturating_sub(start)
}

/// The steps of a minute of a battle of so many bots.
fn recorded(config: &str, bots: usize) -> Vec<Step> {
    let mut battle = Harness::<Skirmish>::with_config(5, config).bots(bots);
    let (mut units, mut longest) = (0, Duration::ZERO);
    for _ in 0..TICKS {
        let start = cpu_time();
        battle.tick();
        longest = longest.max(cpu_time().saturating_sub(start));
        units += battle.world().len() - bots;
    }
    let mean = units as u64 / TICKS;
    println!("{mean} units on average; the longest tick with its bots and hash: {longest:?}");
    battle.steps().to_vec()
}

fn benches(criterion: &mut Criterion) {
    for sides in [2, 4] {
        battle(criterion, sides);
    }
}

fn battle(criterion: &mut Criterion, sides: usize) {
    let game = Typed::<Skirmish>::new().expect("the game is sound");
    let config = format!(r#"{{"sides": {sides}, "units": 1000, "rematch": true}}"#);
    let steps = recorded(&config, sides);
    let mut group = criterion.benchmark_group(format!("skirmish, 1,000 units, {sides} sides"));
    // Ticks are counted one by one, over and over through the same minute.
    group.bench_function("tick", |bencher| {
        bencher.iter_custom(|ticks| {
            let (mut spent, mut left) = (Duration::ZERO, ticks as usize);
            while left > 0 {
                let mut running = game.create(config.as_bytes(), 5).expect("a valid configuration");
                let part = left.min(steps.len());
                let start = cpu_time();
                for step in &steps[..part] {
                    black_box(running.step(step).expect("recorded steps run"));
                }
                spent += cpu_time().saturating_sub(start);
                left -= part;
            }
            spent
        });
    });
    let mut running = game.create(config.as_bytes(), 5).expect("a valid configuration");
    // In the middle of the first fight.
    for step in &steps[..150] {
        running.step(step).expect("recorded steps run");
    }
    let mut views = Vec::new();
    for step in &steps[150..160] {
        running.step(step).expect("recorded steps run");
        let mut view = NetView::default();
        running.extract(&mut view);
        views.push(Arc::new(view));
    }
    let mut view = NetView::default();
    group.bench_function("extract", |bencher| {
        bencher.iter_custom(|count| times(count, || running.extract(black_box(&mut view))));
    });
    group.bench_function("state hash", |bencher| {
        bencher.iter_custom(|count| times(count, || running.state_hash()));
    });
    group.bench_function("checkpoint", |bencher| {
        bencher.iter_custom(|count| times(count, || running.checkpoint()));
    });
    println!("checkpoint: {} bytes", running.checkpoint().len());
    let json = game.config_from_json(&config).expect("a valid configuration");
    let seen = view.seen_by(FIRST_BOT);
    println!("one side sees {} of {} units", seen.entities.len(), running.world().len());
    group.bench_function("bot", |bencher| {
        let decide = || game.bot_command(FIRST_BOT, &seen, &json, &mut Vec::new());
        bencher.iter_custom(|count| times(count, decide));
    });
    snapshots(&mut group, &game, &views);
}

/// Snapshots of these ticks, one after the other, for a client that acknowledges each at once.
fn snapshots(
    group: &mut BenchmarkGroup<'_, WallTime>,
    game: &Typed<Skirmish>,
    views: &[Arc<NetView>],
) {
    let schema = Arc::new(game.net_schema().clone());
    let mut history = ViewHistory::new();
    for view in views {
        history.push(Arc::clone(view));
    }
    let (mut out, mut bytes, mut made) = (Vec::new(), 0, 0);
    group.bench_function("snapshot", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count.div_ceil(9) {
                let mut sender = SnapshotSender::new(Arc::clone(&schema));
                for (place, view) in views.iter().enumerate() {
                    let header = SnapshotHeader {
                        tick: view.tick,
                        durable: view.tick,
                        avatar: view.avatar(FIRST_BOT),
                        ..SnapshotHeader::default()
                    };
                    let start = cpu_time();
                    sender.encode(&header, view, &history, Some(FIRST_BOT), 16_000, &mut out);
                    // The first one has no baseline.
                    if place > 0 {
                        spent += cpu_time().saturating_sub(start);
                        (bytes, made) = (bytes + out.len(), made + 1);
                    }
                    sender.acknowledge(view.tick, 0);
                }
            }
            spent.mul_f64(count as f64 / (9 * count.div_ceil(9)) as f64)
        });
    });
    println!("a snapshot: {} bytes", bytes / made.max(1));
}

criterion_group!(tick, benches);
criterion_main!(tick);
