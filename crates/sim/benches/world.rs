//! What a tick, a checkpoint, a restore and a hash cost. `cargo bench -p rekindle-sim`
//!
//! The world: 100 moving entities with five components, ten systems of an ordinary game, 16 players
//! who send an input every tick. *Cold* means round-robin over 1,000 such worlds, as a node with
//! 1,000 matches does it: each tick finds nothing of its world in the near caches.
#![expect(missing_docs, reason = "criterion makes the functions")]
#![expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rekindle_schema::net::NetView;
use rekindle_schema::record::{AppliedInput, Join, LeaveReason, Step};
use rekindle_schema::{PlayerId, SessionId, Tick, delta, digest};
use rekindle_sim::{
    Changed, Commands, Component, Entity, Event, EventReader, EventWriter, Game, GameBuilder,
    GameType, Inputs, IntoSystems, Match, Players, Query, Res, ResMut, Resource, Rng, Simulation,
    Stage, Time, Typed, Value, With, World, value,
};

#[derive(Clone, Component)]
#[component(id = "position")]
struct Position {
    #[net(min = -100.0, max = 100.0, bits = 16, rate = "velocity.x")]
    x: f32,
    #[net(min = -100.0, max = 100.0, bits = 16, rate = "velocity.y")]
    y: f32,
}

#[derive(Clone, Component)]
#[component(id = "velocity")]
struct Velocity {
    #[net(min = -10.0, max = 10.0, bits = 11)]
    x: f32,
    #[net(min = -10.0, max = 10.0, bits = 11)]
    y: f32,
}

#[derive(Clone, Component)]
#[component(id = "health")]
struct Health {
    #[net(bits = 7)]
    #[value(default = 100, range = 0..=100)]
    points: u16,
}

#[derive(Clone, Component)]
#[component(id = "weapon")]
struct Weapon {
    ready_at: Tick,
    ammunition: u16,
}

#[derive(Clone, Component)]
#[component(id = "pilot")]
struct Pilot {
    player: PlayerId,
}

#[derive(Clone, Resource)]
#[resource(id = "score")]
struct Score {
    hits: u64,
    steps: u64,
}

#[derive(Clone, Event)]
#[event(id = "hit")]
struct Hit {
    who: Entity,
    damage: u16,
}

#[derive(Clone, Value)]
struct Steer {
    x: f32,
    y: f32,
}

struct Skirmish;

impl Game for Skirmish {
    const NAME: &'static str = "skirmish";
    type Config = ();
    type Input = Steer;
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>()
            .component::<Velocity>()
            .component::<Health>()
            .component::<Weapon>()
            .component::<Pilot>();
        game.resource::<Score>().event::<Hit>().position::<Position>("x", "y");
        game.add_systems(Stage::PreUpdate, steer);
        game.add_systems(Stage::Update, (drag, movement, walls, fire, hurt).chain());
        game.add_systems(Stage::PostUpdate, (regenerate.every(30), notice, deaths).chain());
        game.add_systems(Stage::Last, count);
    }

    fn max_players((): &()) -> usize {
        16
    }

    fn setup(world: &mut World, (): &()) {
        let mut rng = world.rng(0);
        for _ in 0..84 {
            spawn(world, &mut rng);
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let avatar = spawn(world, &mut world.rng(player.0));
        world.insert(avatar, Pilot { player });
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn spawn(world: &mut World, rng: &mut Rng) -> Entity {
    world.spawn((
        Position { x: rng.range(-90.0, 90.0), y: rng.range(-90.0, 90.0) },
        Velocity { x: rng.range(-9.0, 9.0), y: rng.range(-9.0, 9.0) },
        Health { points: 100 },
        Weapon { ready_at: Tick(u64::from(rng.below(200))), ammunition: 1000 },
    ))
}

fn steer(
    inputs: Inputs<Skirmish>,
    players: Res<Players>,
    mut velocities: Query<&mut Velocity, With<Pilot>>,
) {
    for input in &inputs {
        if let Some(mut velocity) =
            velocities.get_mut(players.avatar(input.player).unwrap_or_default())
        {
            velocity.x += input.input.x;
            velocity.y += input.input.y;
        }
    }
}

fn drag(mut velocities: Query<&mut Velocity, With<Pilot>>) {
    for mut velocity in &mut velocities {
        velocity.x *= 0.98;
        velocity.y *= 0.98;
    }
}

fn movement(time: Time, mut moving: Query<(&mut Position, &Velocity)>) {
    for (mut position, velocity) in &mut moving {
        position.x += velocity.x * time.delta;
        position.y += velocity.y * time.delta;
    }
}

fn walls(mut moving: Query<(&Position, &mut Velocity)>) {
    for (position, mut velocity) in &mut moving {
        if position.x.abs() > 99.0 {
            velocity.x = -velocity.x;
        }
        if position.y.abs() > 99.0 {
            velocity.y = -velocity.y;
        }
    }
}

fn fire(
    time: Time,
    mut rng: Rng,
    mut weapons: Query<(Entity, &mut Weapon, &Position)>,
    mut hits: EventWriter<Hit>,
) {
    for (entity, mut weapon, position) in &mut weapons {
        if weapon.ready_at <= time.tick && position.x > 0.0 {
            weapon.ready_at = Tick(time.tick.0 + 30 + u64::from(rng.below(200)));
            weapon.ammunition = weapon.ammunition.saturating_sub(1);
            hits.send(Hit { who: entity, damage: 5 });
        }
    }
}

fn hurt(hits: EventReader<Hit>, mut healths: Query<&mut Health>, mut score: ResMut<Score>) {
    for hit in hits.read() {
        if let Some(mut health) = healths.get_mut(hit.who) {
            health.points = health.points.saturating_sub(hit.damage);
            score.hits += 1;
        }
    }
}

fn regenerate(mut healths: Query<&mut Health>) {
    for mut health in &mut healths {
        if health.points < 100 {
            health.points += 2;
        }
    }
}

fn notice(changed: Query<&Health, Changed<Health>>, mut score: ResMut<Score>) {
    score.steps += changed.iter().count() as u64;
}

fn deaths(mut commands: Commands, healths: Query<(Entity, &Health)>) {
    for (entity, health) in &healths {
        if health.points == 0 {
            commands.insert(entity, Health { points: 100 });
        }
    }
}

fn count(pilots: Query<&Pilot>, mut score: ResMut<Score>) {
    score.steps += pilots.iter().map(|pilot| pilot.player.0).sum::<u64>();
}

fn step(tick: u64) -> Step {
    let payload: Bytes = value::to_bytes(&Steer { x: 0.1, y: -0.1 }).into();
    let input = |player| AppliedInput {
        player: PlayerId(player),
        session: SessionId(player),
        seq: tick,
        view_tick: Tick(tick.saturating_sub(3)),
        payload: payload.clone(),
    };
    Step { tick: Tick(tick), inputs: (1..=16).map(input).collect(), ..Step::default() }
}

fn worlds(game: &Typed<Skirmish>, count: u64) -> Vec<Match<Skirmish>> {
    let make = |seed| {
        let mut made = Typed::create(game, b"", seed).expect("the configuration is right");
        let join = |player| Join {
            player: PlayerId(player),
            session: SessionId(player),
            name: format!("player {player}"),
        };
        let first = Step { tick: Tick(1), joins: (1..=16).map(join).collect(), ..Step::default() };
        made.step(&first).expect("no system panics");
        for tick in 2..60 {
            made.step(&step(tick)).expect("no system panics");
        }
        made
    };
    (0..count).map(make).collect()
}

/// Time that this thread was on a processor, so that other load on the machine counts as little as
/// possible. Wall time where there is no `/proc`.
struct CpuTime(Instant);

impl CpuTime {
    fn now(&self) -> f64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let on_cpu = text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
        on_cpu.unwrap_or_else(|| self.0.elapsed().as_nanos() as f64)
    }
}

impl Measurement for CpuTime {
    type Intermediate = f64;
    type Value = f64;
    fn start(&self) -> f64 {
        self.now()
    }
    fn end(&self, start: f64) -> f64 {
        self.now() - start
    }
    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }
    fn zero(&self) -> f64 {
        0.0
    }
    fn to_f64(&self, value: &f64) -> f64 {
        value.max(1.0)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn ticks(c: &mut Criterion<CpuTime>) {
    let game = Typed::<Skirmish>::new().expect("the game is right");
    let mut group = c.benchmark_group("tick");
    for (name, count) in [("hot, 1 world", 1), ("cold, 1000 worlds", 1000)] {
        let mut worlds = worlds(&game, count);
        let (mut index, mut next) = (0, step(60));
        group.bench_function(name, |b| {
            b.iter(|| {
                black_box(worlds[index].step(&next)).expect("no system panics");
                index += 1;
                if index == worlds.len() {
                    index = 0;
                    next.tick = next.tick.next();
                    next.inputs.iter_mut().for_each(|input| input.seq += 1);
                }
            });
        });
    }
    group.finish();
}

fn states(c: &mut Criterion<CpuTime>) {
    let game = Typed::<Skirmish>::new().expect("the game is right");
    let worlds = worlds(&game, 1000);
    let bytes: Vec<Bytes> = worlds.iter().map(Simulation::checkpoint).collect();
    let mut group = c.benchmark_group("state, cold");
    group.throughput(Throughput::Bytes(bytes[0].len() as u64));
    let mut next = {
        let mut index = 0;
        move || {
            index = (index + 1) % 1000;
            index
        }
    };
    group.bench_function("checkpoint", |b| b.iter(|| black_box(worlds[next()].checkpoint())));
    group.bench_function("hash", |b| b.iter(|| black_box(worlds[next()].state_hash())));
    group.bench_function("hash with sums of parts", |b| {
        b.iter(|| black_box(worlds[next()].beat()));
    });
    // The floor: what a restore of these bytes cannot do without.
    group.bench_function("floor: memcpy, crc32c, blake3", |b| {
        b.iter(|| {
            let copy = bytes[next()].to_vec();
            black_box((crc32c::crc32c(&copy), blake3::hash(&copy)))
        });
    });
    group.bench_function("restore", |b| {
        b.iter_batched(
            || &bytes[next()],
            |bytes| black_box(game.restore(bytes)),
            BatchSize::NumIterations(100),
        );
    });
    group.bench_function("restore with crc32c and blake3", |b| {
        let restore = |bytes: &Bytes| {
            (crc32c::crc32c(bytes), blake3::hash(bytes), GameType::restore(&game, bytes))
        };
        b.iter_batched(
            || &bytes[next()],
            |bytes| black_box(restore(bytes)),
            BatchSize::NumIterations(100),
        );
    });
    let mut view = NetView::default();
    group.bench_function("extract", |b| b.iter(|| worlds[next()].extract(black_box(&mut view))));
    group.bench_function("extract and digest", |b| {
        b.iter(|| {
            worlds[next()].extract(black_box(&mut view));
            black_box(digest::of_shown(&view, &[]))
        });
    });
    group.finish();
    println!("bytes of a checkpoint: {}", bytes[0].len());
}

/// 10,000 entities, of which `TOUCHED` are hurt and moved in a tick.
struct Field<const TOUCHED: u32>;

impl<const TOUCHED: u32> Game for Field<TOUCHED> {
    const NAME: &'static str = "field";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>()
            .component::<Velocity>()
            .component::<Health>()
            .component::<Weapon>();
        game.add_systems(Stage::Update, touch::<TOUCHED>);
    }

    fn max_players((): &()) -> usize {
        1
    }

    fn setup(world: &mut World, (): &()) {
        let mut rng = world.rng(0);
        for _ in 0..10_000 {
            spawn(world, &mut rng);
        }
    }

    fn join(_: &mut World, _: PlayerId) {}

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn touch<const TOUCHED: u32>(
    mut rng: Rng,
    all: Query<Entity>,
    mut touched: Query<(&mut Position, &mut Health)>,
) {
    let entities: Vec<Entity> = if TOUCHED > 0 { all.iter().collect() } else { Vec::new() };
    for _ in 0..TOUCHED {
        if let Some((mut position, mut health)) =
            touched.get_mut(entities[rng.below(entities.len() as u32) as usize])
        {
            position.x += 0.25;
            health.points = health.points.saturating_sub(1);
        }
    }
}

/// What a full checkpoint of a match takes on its shard, and what the delta to one taken `ticks`
/// earlier does.
fn full_and_delta<G: Game>(
    c: &mut Criterion<CpuTime>,
    name: &str,
    mut made: Match<G>,
    ticks: u64,
    mut next: impl FnMut(Tick) -> Step,
) {
    let (base, marks) = made.capture();
    for _ in 0..ticks {
        let step = next(made.tick().next());
        made.step(&step).expect("no system panics");
    }
    let (state, _) = made.capture();
    let (operations, _) = made.changes(&base, &marks, usize::MAX).expect("stamps tell");
    let (delta, sealed) =
        delta::seal(&base, &operations).expect("operations that were just written");
    assert!(sealed == state);
    println!(
        "{name}: full {} bytes, delta {} bytes ({:.1} %), marks {} bytes",
        state.len(),
        delta.len(),
        delta.len() as f64 * 100.0 / state.len() as f64,
        marks.size()
    );
    let mut group = c.benchmark_group(name);
    group.bench_function("full", |b| b.iter(|| black_box(made.capture())));
    group
        .bench_function("delta", |b| b.iter(|| black_box(made.changes(&base, &marks, usize::MAX))));
    group.bench_function("off the shard: seal", |b| {
        b.iter(|| black_box(delta::seal(&base, &operations)));
    });
    group.bench_function("apply", |b| b.iter(|| black_box(delta::apply(&base, &delta))));
    group.finish();
}

fn chains(c: &mut Criterion<CpuTime>) {
    let idle = |tick| Step { tick, ..Step::default() };
    let still = Typed::<Field<0>>::new().expect("the game is right");
    full_and_delta(c, "10,000 entities, still", still.create(b"", 1).expect("set up"), 30, idle);
    let game = Typed::<Field<100>>::new().expect("the game is right");
    full_and_delta(
        c,
        "10,000 entities, 1 % touched",
        game.create(b"", 1).expect("set up"),
        1,
        idle,
    );
    full_and_delta(
        c,
        "10,000 entities, 1 % touched a tick, after 30",
        game.create(b"", 1).expect("set up"),
        30,
        idle,
    );
    let game = Typed::<Skirmish>::new().expect("the game is right");
    for ticks in [1, 300] {
        let made = worlds(&game, 1).remove(0);
        full_and_delta(c, &format!("100 moving entities, after {ticks}"), made, ticks, |tick| {
            step(tick.0)
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .without_plots()
        .with_measurement(CpuTime(Instant::now()));
    targets = ticks, states, chains
}
criterion_main!(benches);
