//! The cost of a tick of a fighting arena, and of what a node does with it.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(missing_docs, reason = "criterion's macros write public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rekindle_arena::Arena;
use rekindle_arena::config::Config;
use rekindle_schema::net::NetView;
use rekindle_schema::record::Step;
use rekindle_sim::{GameType, Harness, PlayerId, Simulation, Typed};

const PLAYERS: usize = 16;
const MOVERS: u16 = 84;

/// The steps of half a minute of a fight of 16 bots among 84 drones.
fn recorded() -> (String, Vec<Step>) {
    let config =
        Config { movers: MOVERS, endless: true, lobby_s: 0, countdown_s: 0, ..Config::default() };
    let config = serde_json::to_string(&config).expect("a configuration is JSON");
    let fight = Harness::<Arena>::with_config(5, &config).bots(PLAYERS).run(900);
    (config, fight.steps().to_vec())
}

fn benches(criterion: &mut Criterion) {
    let game = Typed::<Arena>::new().expect("the game is sound");
    let (config, steps) = recorded();
    let mut group = criterion.benchmark_group("arena, 16 fighters, 84 drones");

    // Ticks are counted one by one, over and over through the same half minute.
    group.bench_function("tick", |bencher| {
        bencher.iter_custom(|ticks| {
            let mut spent = std::time::Duration::ZERO;
            let mut left = ticks as usize;
            while left > 0 {
                let mut running = game.create(config.as_bytes(), 5).expect("a valid configuration");
                let part = left.min(steps.len());
                let start = std::time::Instant::now();
                for step in &steps[..part] {
                    black_box(running.step(step).expect("recorded steps run"));
                }
                spent += start.elapsed();
                left -= part;
            }
            spent
        });
    });

    let mut running = game.create(config.as_bytes(), 5).expect("a valid configuration");
    for step in &steps {
        running.step(step).expect("recorded steps run");
    }
    let mut view = NetView::default();
    running.extract(&mut view);
    group.bench_function("extract", |bencher| {
        bencher.iter(|| running.extract(black_box(&mut view)));
    });
    group.bench_function("state hash", |bencher| bencher.iter(|| running.state_hash()));
    group.bench_function("checkpoint", |bencher| bencher.iter(|| running.checkpoint()));
    let checkpoint = running.checkpoint();
    println!("checkpoint: {} bytes", checkpoint.len());
    // What a checkpoint takes on the shard, full with what a later delta needs, and as the delta to
    // the one of so many ticks before.
    group.bench_function("full", |bencher| bencher.iter(|| running.capture()));
    for ticks in [1, 30, 300] {
        let mut made = game.create(config.as_bytes(), 5).expect("a valid configuration");
        let (before, after) = steps.split_at(steps.len() - ticks);
        for step in before {
            drop(made.step(step).expect("recorded steps run"));
        }
        let (base, marks) = made.capture();
        for step in after {
            drop(made.step(step).expect("recorded steps run"));
        }
        let (operations, _) = made.changes(&base, &marks, usize::MAX).expect("stamps tell");
        println!(
            "delta after {ticks} ticks: {} of {} bytes",
            operations.len(),
            made.checkpoint().len()
        );
        group.bench_function(format!("delta after {ticks}"), |bencher| {
            bencher.iter(|| made.changes(&base, &marks, usize::MAX));
        });
    }
    group.bench_function("restore", |bencher| {
        bencher.iter(|| game.restore(black_box(&checkpoint)).expect("just saved"));
    });

    let config = game.config_from_json(&config).expect("a valid configuration");
    let mut memory = Vec::new();
    group.bench_function("bot", |bencher| {
        bencher.iter(|| {
            view.tick = view.tick.next();
            game.bot(PlayerId(1_000_003), &view, &config, &mut memory)
        });
    });
}

criterion_group!(tick, benches);
criterion_main!(tick);
