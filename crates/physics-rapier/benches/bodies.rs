//! What moving bodies costs. `cargo bench -p rekindle-physics-rapier --features rapier`
//!
//! 100 and 1,000 circles and boxes in a room with four walls and a few pillars, all on their way at
//! up to eight metres a second, bouncing, four square metres of room a body, 30 ticks a second:
//! a tick, a checkpoint and a restore of the same world moved by rapier and by the built-in
//! kinematics. And what stands still: a circle that is swept against 100, 1,000 and 10,000 solids
//! by the tree of `Scenery` and by a loop over them. CPU time of the thread, for other work may run
//! on the machine.
#![expect(missing_docs, reason = "criterion makes the functions")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use rekindle_physics_rapier::{Rapier, RapierTuning};
use rekindle_schema::record::{LeaveReason, Step};
use rekindle_sim::geometry::{Aabb, Vec2, vec2};
use rekindle_sim::{
    Collider, Component, Form, Game, GameBuilder, GameType as _, Kinematics, Match, Moving, Place,
    PlayerId, Response, Rng, Scenery, Simulation as _, Solid, Tick, Typed, World,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "at")]
struct At(Vec2);

impl Place for At {
    fn place(&self) -> [f32; 2] {
        self.0.into()
    }
    fn set_place(&mut self, place: [f32; 2]) {
        self.0 = place.into();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "speed")]
struct Speed(Vec2);

impl Moving for Speed {
    fn velocity(&self) -> [f32; 2] {
        self.0.into()
    }
    fn set_velocity(&mut self, velocity: [f32; 2]) {
        self.0 = velocity.into();
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Crowd {
    bodies: u32,
}

impl Crowd {
    /// From the middle to a wall.
    fn half(&self) -> f32 {
        (self.bodies as f32 * 4.0).sqrt() * 0.5
    }
}

fn room(crowd: &Crowd) -> Vec<Solid> {
    let half = crowd.half();
    let wall = |x, y, w, h| Solid::Box(Aabb::around(vec2(x, y), w, h));
    let long = half * 2.0 + 4.0;
    let mut solids = vec![
        wall(0.0, -half - 1.0, long, 2.0),
        wall(0.0, half + 1.0, long, 2.0),
        wall(-half - 1.0, 0.0, 2.0, long),
        wall(half + 1.0, 0.0, 2.0, long),
    ];
    let pillar = |x, y| Solid::Circle { at: vec2(half * x, half * y), radius: 0.8 };
    solids.extend([pillar(-0.5, 0.0), pillar(0.5, 0.0), pillar(0.0, 0.5), pillar(0.0, -0.5)]);
    solids
}

fn fill(world: &mut World, crowd: &Crowd) {
    let (mut rng, half) = (Rng::stream(7, Tick(0), 1), crowd.half() - 1.0);
    for number in 0..crowd.bodies {
        let at = vec2(rng.range(-half, half), rng.range(-half, half));
        let speed = vec2(rng.range(-8.0, 8.0), rng.range(-8.0, 8.0));
        let collider = match number % 2 {
            0 => Collider::circle(0.4),
            _ => Collider::rectangle(0.7, 0.7),
        };
        world.spawn((At(at), Speed(speed), collider.responding(Response::Bounce)));
    }
}

macro_rules! game {
    ($name:ident, $id:literal, $physics:ty, $tuning:expr) => {
        struct $name;
        impl Game for $name {
            const NAME: &'static str = $id;
            type Config = Crowd;
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build(game: &mut GameBuilder<Self>) {
                game.component::<At>().component::<Speed>().scenery(room);
                game.physics::<$physics, At, Speed>(|_| $tuning);
            }
            fn max_players(_: &Crowd) -> usize {
                1
            }
            fn setup(world: &mut World, crowd: &Crowd) {
                fill(world, crowd);
            }
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

game!(Pushed, "pushed", Rapier, RapierTuning { gravity: [0.0, 0.0] });
game!(Swept, "swept", Kinematics, ());

/// A match with so many bodies, ten seconds old.
fn played<G: Game>(game: &Typed<G>, bodies: u32) -> Match<G> {
    let config = game.config_from_json(&format!(r#"{{"bodies": {bodies}}}"#));
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let made = Typed::create(game, &config, 7);
    let mut made = made.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..300 {
        next(&mut made);
    }
    made
}

fn next<G: Game>(made: &mut Match<G>) {
    let step = Step { tick: made.tick().next(), ..Step::default() };
    let output = made.step(&step);
    black_box(output.unwrap_or_else(|error| panic!("{error}")));
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Measures the CPU time of `body`.
fn measure<R>(b: &mut Bencher<'_>, mut body: impl FnMut() -> R) {
    b.iter_custom(|rounds| {
        let start = cpu_time();
        for _ in 0..rounds {
            black_box(body());
        }
        cpu_time().saturating_sub(start)
    });
}

fn bodies_of<G: Game>(c: &mut Criterion) {
    let game = Typed::<G>::new().unwrap_or_else(|error| panic!("{error}"));
    let mut group = c.benchmark_group(G::NAME);
    for bodies in [100, 1_000] {
        let mut made = played(&game, bodies);
        let bytes = made.checkpoint();
        println!("{}: {bodies} bodies, checkpoint of {} bytes", G::NAME, bytes.len());
        group.bench_function(BenchmarkId::new("checkpoint", bodies), |b| {
            measure(b, || made.checkpoint());
        });
        group.bench_function(BenchmarkId::new("restore", bodies), |b| {
            measure(b, || Typed::restore(&game, &bytes).unwrap_or_else(|error| panic!("{error}")));
        });
        group.bench_function(BenchmarkId::new("tick", bodies), |b| measure(b, || next(&mut made)));
    }
    group.finish();
}

fn bodies(c: &mut Criterion) {
    bodies_of::<Pushed>(c);
    bodies_of::<Swept>(c);
}

/// Nine square metres a solid: boxes and circles of about a metre.
fn standing(count: u32) -> (Vec<Solid>, f32) {
    let (mut rng, half) = (Rng::stream(7, Tick(0), 2), (count as f32 * 9.0).sqrt() * 0.5);
    let solid = |number: u32| {
        let at = vec2(rng.range(-half, half), rng.range(-half, half));
        match number % 2 {
            0 => Solid::Circle { at, radius: rng.range(0.2, 0.8) },
            _ => Solid::Box(Aabb::around(at, rng.range(0.4, 1.6), rng.range(0.4, 1.6))),
        }
    };
    ((0..count).map(solid).collect(), half)
}

/// The first solid in the way, by looking at each: the nearest, of equals the first.
fn by_loop(solids: &[Solid], form: Form, from: Vec2, way: Vec2) -> Option<(usize, f32)> {
    let mut first: Option<(usize, f32)> = None;
    for (number, solid) in solids.iter().enumerate() {
        if let Some(at) = solid.sweep(form, from, way)
            && first.is_none_or(|(_, best)| at < best)
        {
            first = Some((number, at));
        }
    }
    first
}

fn scenery(c: &mut Criterion) {
    let mut group = c.benchmark_group("sweep");
    let form = Form::Circle { radius: 0.4 };
    for count in [10, 100, 1_000, 10_000] {
        let (solids, half) = standing(count);
        let tree = Scenery::new(solids.clone());
        let mut rng = Rng::stream(7, Tick(0), 3);
        // As far as something moves in a tick at eight metres a second.
        let mut way = || {
            let from = vec2(rng.range(-half, half), rng.range(-half, half));
            (from, vec2(rng.range(-0.27, 0.27), rng.range(-0.27, 0.27)))
        };
        let ways: Vec<_> = (0..256).map(|_| way()).collect();
        for (from, way) in &ways {
            let (found, other) =
                (tree.sweep(form, *from, *way), by_loop(&solids, form, *from, *way));
            assert_eq!(found.map(|found| found.solid), other.map(|(number, _)| number));
        }
        let mut turn = ways.iter().cycle();
        group.bench_function(BenchmarkId::new("tree", count), |b| {
            measure(b, || turn.next().map(|(from, way)| tree.sweep(form, *from, *way)));
        });
        let mut turn = ways.iter().cycle();
        group.bench_function(BenchmarkId::new("loop", count), |b| {
            measure(b, || turn.next().map(|(from, way)| by_loop(&solids, form, *from, *way)));
        });
    }
    group.finish();
}

criterion_group!(benches, bodies, scenery);
criterion_main!(benches);
