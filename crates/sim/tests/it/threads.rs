//! Queries on several threads: what a world computes does not depend on how many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Changed, Commands, Component, Entity, Event, EventReader, EventWriter, Game, GameBuilder,
    GameType, IntoSystems, Output, Query, ResMut, Resource, Rng, SimError, Simulation, Stage,
    StepOutput, Time, Typed, Without, Workers, World,
};
use rekindle_workers::Pool;
use serde::{Deserialize, Serialize};

use crate::family::shadowed;
use crate::zoo::{Keeper, Zoo};

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "spot")]
struct Spot {
    x: f32,
    y: f32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "speed")]
struct Speed {
    x: f32,
    y: f32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "age")]
struct Age(u32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "mark")]
struct Mark(u32);

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "book")]
struct Book {
    digest: u64,
    sum: f32,
    marked: u64,
    spawned: u64,
}

impl Book {
    fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
    }
}

#[derive(Debug, Clone, Event)]
#[event(id = "turned")]
struct Turned(Entity);

/// How big the world is, and when something goes wrong in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Size {
    animals: u32,
    /// In this tick, animals that are so old make the function panic.
    panic_at: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { animals: 1_400, panic_at: 0 }
    }
}

/// Animals that are moved, marked, born and ended by parallel queries.
struct Herd;

impl Game for Herd {
    const NAME: &'static str = "herd";
    type Config = Size;
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Spot>()
            .component::<Speed>()
            .component::<Age>()
            .component::<Mark>()
            .resource::<Book>()
            .event::<Turned>()
            .add_systems(Stage::First, stumble)
            .add_systems(Stage::Update, (roam, turn, mark).chain())
            .add_systems(Stage::PostUpdate, (notice, live).chain());
    }

    fn max_players(_: &Size) -> usize {
        1
    }

    fn setup(world: &mut World, size: &Size) {
        let mut rng = world.rng(0);
        for _ in 0..size.animals {
            let born = animal(&mut rng);
            world.spawn(born);
        }
    }

    fn join(_: &mut World, _: PlayerId) {}

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn animal(rng: &mut Rng) -> (Spot, Speed, Age) {
    (
        Spot { x: rng.range(-50.0, 50.0), y: rng.range(-50.0, 50.0) },
        Speed { x: rng.range(-3.0, 3.0), y: rng.range(-3.0, 3.0) },
        Age(rng.below(500)),
    )
}

fn stumble(
    time: Time,
    size: rekindle_sim::Const<Size>,
    mut ages: Query<(Entity, &mut Age), Without<Mark>>,
) {
    let cursed = time.tick.0 == size.panic_at;
    ages.par_for_each(|(entity, mut age)| {
        age.0 += 1;
        assert!(!cursed || entity.slot() % 97 != 70, "a stone in the way");
    });
}

/// Work that takes longer for some, so that lots are done in another order than they are taken.
fn ponder(entity: Entity) -> f32 {
    if entity.slot().is_multiple_of(192) {
        (0..4).for_each(|_| std::thread::yield_now());
    }
    (0..(entity.slot() / 64 * 37 % 11) * 40).fold(0.0, |sum, n| (sum + n as f32).sqrt())
}

fn roam(time: Time, mut animals: Query<(Entity, &mut Spot, &Speed)>) {
    animals.par_for_each(|(entity, mut spot, speed)| {
        // Only some are written: the others keep their stamps.
        if ponder(entity) >= 0.0 && !(u64::from(entity.slot()) + time.tick.0).is_multiple_of(3) {
            spot.x += speed.x * time.delta;
            spot.y += speed.y * time.delta;
        }
    });
}

fn turn(
    mut animals: Query<(Entity, &Spot, &mut Speed), Changed<Spot>>,
    mut turned: EventWriter<Turned>,
    mut book: ResMut<Book>,
) {
    let out = animals.par_map(|(entity, spot, mut speed)| {
        let out = spot.x.abs() > 40.0 && spot.x * speed.x > 0.0;
        if out {
            speed.x = -speed.x + ponder(entity).min(0.0);
        }
        (entity, spot.x, out)
    });
    for (entity, x, out) in out {
        // The order in which floats are added up decides the sum.
        book.sum = book.sum * 0.5 + x;
        if out {
            turned.send(Turned(entity));
        }
    }
}

fn mark(mut animals: Query<(Entity, Option<&mut Mark>, &Age)>, mut commands: Commands) {
    let wanted = animals.par_map(|(entity, mark, age)| match mark {
        Some(mut mark) => {
            mark.set_if_neq(Mark(age.0 / 50));
            None
        }
        None => (age.0 % 40 == entity.slot() % 40).then_some((entity, age.0)),
    });
    for (entity, age) in wanted.into_iter().flatten() {
        commands.insert(entity, Mark(age));
    }
}

fn notice(
    turned: EventReader<Turned>,
    marks: Query<(Entity, &Mark), Changed<Mark>>,
    moved: Query<Entity, Changed<Spot>>,
    mut book: ResMut<Book>,
    mut output: Output,
) {
    for Turned(entity) in turned.read() {
        book.note(u64::from(entity.slot()) << 8);
        output.announce("turned", &entity.slot());
    }
    for (entity, mark) in &marks {
        book.marked += 1;
        book.note(u64::from(entity.slot()) ^ u64::from(mark.0) << 32);
    }
    for entity in &moved {
        book.note(u64::from(entity.slot()) + 1);
    }
}

fn live(
    mut animals: Query<(Entity, &Age)>,
    mut commands: Commands,
    mut rng: Rng,
    mut output: Output,
    mut book: ResMut<Book>,
) {
    let old = animals.par_map(|(entity, age)| (age.0 >= 500).then_some(entity));
    for entity in old.into_iter().flatten() {
        commands.despawn(entity);
        output.effect("died", entity.slot().to_le_bytes().to_vec());
        for _ in 0..rng.below(3) {
            let child = animal(&mut rng);
            let child = commands.spawn(child);
            book.spawned += 1;
            book.note(u64::from(child.slot()) << 3);
        }
    }
}

/// A pool for small worlds that counts how often it was asked.
struct Counted {
    pool: Pool,
    asked: AtomicUsize,
}

impl Counted {
    fn new(threads: usize) -> Arc<Self> {
        let pool = Pool::new(threads).unwrap().with_grain(1);
        Arc::new(Self { pool, asked: AtomicUsize::new(0) })
    }
}

impl Workers for Counted {
    fn everywhere(&self, work: &(dyn Fn() + Sync)) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.pool.everywhere(work);
    }
    fn grain(&self) -> usize {
        self.pool.grain()
    }
}

/// Runs a match on one thread and the same one on 2 and on 8, and compares outputs and bytes after
/// each tick. How often the threads were asked for.
fn alike<G: Game>(
    seed: u64,
    config: &str,
    ticks: u64,
    mut step: impl FnMut(u64, &rekindle_sim::Match<G>) -> Step,
) -> (rekindle_sim::Match<G>, usize) {
    let game = Typed::<G>::new().unwrap();
    let config = game.config_from_json(config).unwrap();
    let mut alone = Typed::create(&game, &config, seed).unwrap();
    let counts = [Counted::new(2), Counted::new(8)];
    let mut others = counts.clone().map(|workers| {
        let mut made = Typed::create(&game, &config, seed).unwrap();
        made.set_workers(Some(workers));
        made
    });
    for tick in 1..=ticks {
        let step = step(tick, &alone);
        let expected: StepOutput = alone.step(&step).unwrap();
        let bytes = alone.checkpoint();
        for (other, threads) in others.iter_mut().zip([2, 8]) {
            let output = other.step(&step).unwrap();
            assert_eq!(output, expected, "seed {seed}, tick {tick}: {threads} threads say else");
            assert!(
                other.checkpoint() == bytes,
                "seed {seed}, tick {tick}: {threads} threads make another world"
            );
        }
    }
    let asked = counts.iter().map(|count| count.asked.load(Ordering::Relaxed)).min();
    (alone, asked.unwrap_or(0))
}

fn idle<G: Game>(tick: u64, _: &rekindle_sim::Match<G>) -> Step {
    Step { tick: Tick(tick), ..Step::default() }
}

#[test]
fn one_two_and_eight_threads_make_the_same_world_in_every_tick() {
    for seed in 1..=4 {
        let (alone, asked) = alike::<Herd>(seed, "{}", 120, idle);
        let book = alone.world().resource::<Book>().clone();
        assert!(asked > 500, "the threads were asked {asked} times");
        assert!(book.marked > 1_000 && book.spawned > 20 && book.sum != 0.0, "{book:?}");
    }
    let (_, asked) = alike::<Herd>(5, r#"{"animals": 6000}"#, 20, idle);
    assert!(asked >= 100);
}

#[test]
fn a_game_without_parallel_queries_is_the_same_with_threads_and_asks_for_none() {
    let mut keeper = Keeper::new(3);
    let (_, asked) =
        alike::<Zoo>(3, r#"{"animals": 2000, "churn": 50}"#, 60, |_, zoo| keeper.step(zoo));
    assert_eq!(asked, 0);
}

#[test]
fn a_world_of_parallel_queries_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=2 {
        let live = shadowed::<Herd>(seed, 200);
        assert!(live.world().resource::<Book>().marked > 1_000);
    }
}

#[test]
fn of_several_panics_the_one_at_the_lowest_slot_is_told_with_its_entity_and_system() {
    let game = Typed::<Herd>::new().unwrap();
    let config = game.config_from_json(r#"{"animals": 3000, "panic_at": 3}"#).unwrap();
    let mut errors = Vec::new();
    for workers in [None, Some(Counted::new(2)), Some(Counted::new(8))] {
        let mut made = Typed::create(&game, &config, 1).unwrap();
        made.set_workers(workers.map(|workers| workers as Arc<dyn Workers>));
        for tick in 1..=2 {
            made.step(&Step { tick: Tick(tick), ..Step::default() }).unwrap();
        }
        errors.push(made.step(&Step { tick: Tick(3), ..Step::default() }).unwrap_err());
    }
    let SimError::Panicked { system, tick, message } = &errors[0] else {
        panic!("{:?}", errors[0]);
    };
    assert_eq!((system.as_str(), *tick), ("stumble", Tick(3)));
    assert!(message.starts_with("a stone in the way, at entity "), "{message}");
    let slot: u32 = message.rsplit(' ').next().unwrap().split('v').next().unwrap().parse().unwrap();
    assert_eq!(slot % 97, 70);
    assert!(slot < 300, "it is one of the first: {message}");
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:#?}");
}

#[test]
fn a_small_world_stays_on_its_thread() {
    let game = Typed::<Herd>::new().unwrap();
    let config = game.config_from_json(r#"{"animals": 50}"#).unwrap();
    let mut made = Typed::create(&game, &config, 1).unwrap();
    let workers = Counted::new(2);
    made.set_workers(Some(Arc::clone(&workers) as Arc<dyn Workers>));
    for tick in 1..=5 {
        made.step(&Step { tick: Tick(tick), ..Step::default() }).unwrap();
    }
    assert_eq!(workers.asked.load(Ordering::Relaxed), 0);
}
