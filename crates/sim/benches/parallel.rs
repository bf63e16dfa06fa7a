//! What threads give a parallel query. `cargo bench -p rekindle-sim --bench parallel`
//!
//! 10,000 entities with position, velocity and health, one system a tick: *light* moves them
//! (a few nanoseconds an entity), *heavy* has each look at eight others and turn (about half a
//! microsecond). The same with `iter_mut`, with `par_for_each` on the thread of the step, and with
//! it on two threads. Wall time, since it is spread over threads: an idle machine is needed.
#![expect(missing_docs, reason = "criterion makes the functions")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Component, Game, GameBuilder, Match, Query, Simulation, Stage, Time, Typed, Workers, World,
    math,
};
use rekindle_workers::Pool;

#[derive(Clone, Component)]
#[component(id = "position")]
struct Position {
    x: f32,
    y: f32,
}

#[derive(Clone, Component)]
#[component(id = "velocity")]
struct Velocity {
    x: f32,
    y: f32,
}

/// How a system goes over the entities.
const IN_TURN: u8 = 0;
const PARALLEL: u8 = 1;

struct Crowd<const HOW: u8, const HEAVY: bool>;

impl<const HOW: u8, const HEAVY: bool> Game for Crowd<HOW, HEAVY> {
    const NAME: &'static str = "crowd";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>().component::<Velocity>();
        game.add_systems(Stage::Update, walk::<HOW, HEAVY>);
    }

    fn max_players((): &()) -> usize {
        1
    }

    fn setup(world: &mut World, (): &()) {
        let mut rng = world.rng(0);
        for _ in 0..10_000 {
            world.spawn((
                Position { x: rng.range(-90.0, 90.0), y: rng.range(-90.0, 90.0) },
                Velocity { x: rng.range(-9.0, 9.0), y: rng.range(-9.0, 9.0) },
            ));
        }
    }

    fn join(_: &mut World, _: PlayerId) {}

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn walk<const HOW: u8, const HEAVY: bool>(
    time: Time,
    mut walkers: Query<(&mut Position, &mut Velocity)>,
) {
    let step = |position: &mut Position, velocity: &mut Velocity| {
        if HEAVY {
            for other in 0..8_u8 {
                let bearing = math::atan2(velocity.y + f32::from(other), velocity.x);
                velocity.x += 0.01 * math::cos(bearing);
                velocity.y += 0.01 * math::sin(bearing);
            }
        }
        position.x += velocity.x * time.delta;
        position.y += velocity.y * time.delta;
    };
    if HOW == IN_TURN {
        for (mut position, mut velocity) in &mut walkers {
            step(&mut position, &mut velocity);
        }
    } else {
        walkers.par_for_each(|(mut position, mut velocity)| step(&mut position, &mut velocity));
    }
}

fn made<const HOW: u8, const HEAVY: bool>(threads: usize) -> Match<Crowd<HOW, HEAVY>> {
    let game = Typed::<Crowd<HOW, HEAVY>>::new().expect("the game is right");
    let mut made = game.create(b"", 1).expect("the configuration is right");
    if threads > 1 {
        let pool: Arc<dyn Workers> = Arc::new(Pool::new(threads).expect("threads start"));
        made.set_workers(Some(pool));
    }
    made
}

fn crowd<const HEAVY: bool>(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(name);
    let mut in_turn = made::<IN_TURN, HEAVY>(1);
    group.bench_function("iter_mut", |b| b.iter(|| tick(&mut in_turn)));
    for threads in [1, 2] {
        let mut parallel = made::<PARALLEL, HEAVY>(threads);
        group.bench_function(format!("par_for_each, {threads} threads"), |b| {
            b.iter(|| tick(&mut parallel));
        });
    }
    group.finish();
}

fn tick<G: Game>(running: &mut Match<G>) {
    let step = Step { tick: Tick(running.tick().0 + 1), ..Step::default() };
    black_box(running.step(&step)).expect("no system panics");
}

/// CPU time of the threads of this process so far, that of the calling one and all, in seconds.
/// Nothing where there is no `/proc`.
fn cpu() -> (f64, f64) {
    let seconds = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').next().and_then(|on| on.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let all = tasks.map(|task| seconds(&format!("{}/schedstat", task.path().display()))).sum();
    (seconds("/proc/thread-self/schedstat"), all)
}

/// CPU time of a tick: on a machine with other work, wall time says little of what threads give.
fn shared<const HOW: u8, const HEAVY: bool>(name: &str, threads: usize) {
    let mut running = made::<HOW, HEAVY>(threads);
    (0..50).for_each(|_| tick(&mut running));
    let before = cpu();
    (0..1_000).for_each(|_| tick(&mut running));
    let after = cpu();
    println!(
        "{name}, {threads} threads: {:.0} us on the thread of the step, {:.0} us on all",
        (after.0 - before.0) * 1e3,
        (after.1 - before.1) * 1e3
    );
}

fn parallel(c: &mut Criterion) {
    shared::<IN_TURN, false>("light, iter_mut", 1);
    shared::<PARALLEL, false>("light, par_for_each", 1);
    shared::<PARALLEL, false>("light, par_for_each", 2);
    shared::<IN_TURN, true>("heavy, iter_mut", 1);
    shared::<PARALLEL, true>("heavy, par_for_each", 1);
    shared::<PARALLEL, true>("heavy, par_for_each", 2);
    crowd::<false>(c, "light, 10,000 entities");
    crowd::<true>(c, "heavy, 10,000 entities");
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).without_plots();
    targets = parallel
}
criterion_main!(benches);
