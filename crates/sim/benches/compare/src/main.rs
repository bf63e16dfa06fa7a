//! The same game on rekindle-sim, bevy_ecs and hecs, in one run: `cargo xtask ecs`.
//!
//! Entities with a position, a velocity, health and a weapon; every sixth has a pilot. What is
//! measured: a loop over positions and velocities (*query*), a tick of one system that does the
//! same (*move*), and a tick of six systems of an ordinary game (*six*).
//!
//! *Hot*: the same world again and again. *Cold*: one world after the other, as a node with many
//! matches ticks them, so that each finds little of itself in the near caches. CPU time of the
//! thread, the three in turns, the median of the rounds. In bevy a world has a schedule of its own,
//! run on one thread; in hecs a tick is six functions. In rekindle a tick is what a node calls:
//! `Simulation::step`, with the end of its stages and canonical values.
//!
//! Words behind the command choose rows: `rekindle-ecs-compare move 1000 hot`.

mod bevy;
mod hecs_game;
mod memory;
mod sim;

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Each is measured so often, in turns.
const ROUNDS: usize = 9;
/// A measurement takes about so long.
const MEASURED: Duration = Duration::from_millis(40);

/// Where an entity begins, by its number: the same in all three.
pub(crate) fn start(number: u32) -> [f32; 4] {
    let part = |by: u32| (number.wrapping_mul(by) >> 8 & 0xff) as f32 / 255.0 - 0.5;
    [part(2_654_435_761) * 180.0, part(2_246_822_519) * 180.0, part(3_266_489_917) * 18.0, 3.0]
}

/// Seconds of a tick.
pub(crate) const DELTA: f32 = 1.0 / 30.0;

/// A world.
pub(crate) trait Game {
    /// Makes a tick.
    fn tick(&mut self);
    /// Moves all, without a tick.
    fn query(&mut self);
    /// What the positions sum up to.
    fn sum(&mut self) -> f32;
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds that it takes, over these worlds in turn.
fn measure(worlds: &mut [Box<dyn Game>], body: fn(&mut dyn Game)) -> f64 {
    // Reading the clock takes as long as a small tick.
    let turns = 100usize.div_ceil(worlds.len());
    let (start, mut ticks) = (cpu_time(), 0u32);
    loop {
        for _ in 0..turns {
            worlds.iter_mut().for_each(|world| body(&mut **world));
        }
        ticks += (turns * worlds.len()) as u32;
        let spent = cpu_time() - start;
        if spent >= MEASURED {
            return spent.as_nanos() as f64 / f64::from(ticks);
        }
    }
}

type Make = fn(u32) -> Box<dyn Game>;

/// The three, by name.
fn makers(systems: &str) -> [(&'static str, Make); 3] {
    match systems {
        "query" | "move" => [
            ("rekindle", |count| Box::new(sim::Flock::<false>::new(count))),
            ("bevy_ecs", |count| Box::new(bevy::Flock::new(count, false))),
            ("hecs", |count| Box::new(hecs_game::Flock::new(count, false))),
        ],
        _ => [
            ("rekindle", |count| Box::new(sim::Flock::<true>::new(count))),
            ("bevy_ecs", |count| Box::new(bevy::Flock::new(count, true))),
            ("hecs", |count| Box::new(hecs_game::Flock::new(count, true))),
        ],
    }
}

fn compare(systems: &str, entities: u32, worlds: usize) {
    let mut all: Vec<(&str, Vec<Box<dyn Game>>)> = makers(systems)
        .into_iter()
        .map(|(name, make)| (name, (0..worlds).map(|_| make(entities)).collect()))
        .collect();
    // The same game: after ten ticks the same places.
    let sums: Vec<f32> = all
        .iter_mut()
        .map(|(_, worlds)| {
            (0..10).for_each(|_| worlds[0].tick());
            worlds[0].sum()
        })
        .collect();
    assert!(sums.iter().all(|sum| (sum - sums[0]).abs() < 0.01 * entities as f32), "{sums:?}");
    let body: fn(&mut dyn Game) = match systems {
        "query" => |world| world.query(),
        _ => |world| world.tick(),
    };
    let mut times = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for ((_, worlds), times) in all.iter_mut().zip(&mut times) {
            times.push(black_box(measure(worlds, body)));
        }
    }
    let medians: Vec<String> = times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            format!("{:.2}", times[ROUNDS / 2] / 1_000.0)
        })
        .collect();
    println!("| {systems} | {entities} | {} | {} |", heat(worlds), medians.join(" | "));
}

fn heat(worlds: usize) -> String {
    if worlds == 1 { "hot".to_owned() } else { format!("cold, {worlds} worlds") }
}

/// KiB of memory that a world of 100 entities takes, of 1,000 of them.
fn weigh() {
    let weights: Vec<String> = makers("six")
        .into_iter()
        .map(|(_, make)| {
            drop(make(100));
            let before = memory::held();
            let mut worlds: Vec<_> = (0..1_000).map(|_| make(100)).collect();
            worlds.iter_mut().for_each(|world| (0..3).for_each(|_| world.tick()));
            format!("{:.1}", (memory::held() - before) as f64 / 1_000.0 / 1_024.0)
        })
        .collect();
    println!("| KiB of a world | 100 | of 1,000 | {} |", weights.join(" | "));
}

fn main() {
    let only: Vec<String> = std::env::args().skip(1).collect();
    println!("| what | entities | | rekindle, µs | bevy_ecs, µs | hecs, µs |");
    println!("|---|---|---|---|---|---|");
    for systems in ["query", "move", "six"] {
        for (entities, cold) in [(100, 1_000), (1_000, 1_000), (10_000, 100)] {
            for worlds in [1, cold] {
                let row = [systems, &entities.to_string(), &heat(worlds)].join(" ");
                if only.iter().all(|part| row.split([' ', ',']).any(|word| word == part)) {
                    compare(systems, entities, worlds);
                }
            }
        }
    }
    if only.is_empty() {
        weigh();
    }
}
