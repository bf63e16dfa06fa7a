//! Systems side by side: what a world computes, and says, does not depend on how many threads there
//! are, nor on which system is done first.
#![expect(clippy::disallowed_methods, reason = "systems wait for each other, up to a limit")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Commands, Component, Entity, Event, EventReader, EventWriter, Game, GameBuilder, GameType,
    IntoSystems, Local, Match, Output, Query, Res, ResMut, Resource, Rng, Simulation, Stage,
    StepOutput, StepPart, StepWatch, Time, Typed, Without, Workers, World,
};
use rekindle_workers::Pool;

use crate::family::shadowed;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "spot")]
struct Spot(i32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "heat")]
struct Heat(f32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "age")]
struct Age(u32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "mark")]
struct Mark(u32);

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "book")]
struct Book(u64);

#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "burnt")]
struct Burnt(u32);

/// Things that move, glow and grow old, each by a system of its own.
struct Kiln;

impl Game for Kiln {
    const NAME: &'static str = "kiln";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Spot>().component::<Heat>().component::<Age>().component::<Mark>();
        game.resource::<Book>().event::<Burnt>();
        let side_by_side = (drift, glow, grow.every(2), count.on_event::<Burnt>());
        game.add_systems(Stage::Update, side_by_side.side_by_side().chain());
        game.add_systems(Stage::PostUpdate, (shuffle, brand).chain().side_by_side());
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(world: &mut World, (): &()) {
        let mut rng = world.rng(0);
        for place in 0..500 {
            world.spawn((Spot(place), Heat(rng.unit()), Age(rng.below(90))));
        }
    }
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

/// Changes places; looks at what `glow` and `count` look at too.
fn drift(
    mut rng: Rng,
    mut out: Output,
    mut all: Query<(&mut Spot, &Age), Without<Mark>>,
    mut runs: Local<u64>,
) {
    *runs += 1;
    for (mut spot, age) in &mut all {
        if rng.one_in(3) {
            spot.0 += age.0 as i32 % 7 - 3;
        }
    }
    out.announce("drifted", &*runs);
    if (*runs).is_multiple_of(5) {
        out.effect("drift", b"d".to_vec());
    }
}

fn glow(
    mut rng: Rng,
    mut all: Query<(&mut Heat, &Age)>,
    mut burnt: EventWriter<Burnt>,
    mut out: Output,
) {
    for (mut heat, age) in &mut all {
        heat.0 = (heat.0 + rng.unit()) * 0.5;
        if heat.0 > 0.93 {
            burnt.send(Burnt(age.0));
        }
    }
    out.announce("glowed", &1u8);
    out.effect("glow", b"g".to_vec());
}

/// Changes what `drift` and `glow` look at: it must not run with them.
fn grow(mut ages: Query<&mut Age>) {
    for mut age in &mut ages {
        age.0 += 1;
    }
}

fn count(
    burnt: EventReader<Burnt>,
    ages: Query<&Age>,
    mut book: ResMut<Book>,
    mut out: Output,
    mut commands: Commands,
) {
    let sum: u64 = burnt.read().map(|burnt| u64::from(burnt.0)).sum();
    book.0 = book.0.wrapping_mul(31) ^ sum ^ ages.iter().map(|age| u64::from(age.0)).sum::<u64>();
    out.announce("counted", &sum);
    let digest = book.0 as i32 % 400;
    commands.spawn((Spot(digest), Heat(0.5), Age(1)));
}

/// Ends and makes entities, while `brand` marks others.
fn shuffle(mut commands: Commands, mut rng: Rng, spots: Query<(Entity, &Spot)>, mut out: Output) {
    for (entity, spot) in &spots {
        if rng.one_in(400) {
            commands.despawn(entity);
            let new = commands.spawn((Spot(spot.0 + 1), Heat(0.1), Age(3)));
            commands.insert(new, Mark(spot.0 as u32));
        }
    }
    out.announce("shuffled", &2u8);
}

fn brand(mut marks: Query<(&mut Mark, &Spot)>, book: Res<Book>, mut out: Output) {
    for (mut mark, spot) in &mut marks {
        mark.0 = mark.0.wrapping_add(spot.0 as u32 ^ book.0 as u32);
    }
    out.announce("branded", &book.0);
}

/// A pool that counts how often it was asked, and may have all systems run side by side.
pub struct Asked {
    pool: Pool,
    times: AtomicUsize,
    all: bool,
}

impl Asked {
    pub fn new(threads: usize, all: bool) -> Arc<Self> {
        let pool = Pool::new(threads).unwrap().with_grain(1);
        Arc::new(Self { pool, times: AtomicUsize::new(0), all })
    }

    /// How often it was asked so far.
    pub fn times(&self) -> usize {
        self.times.load(Ordering::Relaxed)
    }
}

impl Workers for Asked {
    fn everywhere(&self, work: &(dyn Fn() + Sync)) {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.pool.everywhere(work);
    }
    fn grain(&self) -> usize {
        self.pool.grain()
    }
    fn all_side_by_side(&self) -> bool {
        self.all
    }
}

/// No other thread, but all systems that can run side by side have worlds of their own: what one
/// of them looks at without saying so is missing there.
pub struct Apart;

impl Workers for Apart {
    fn everywhere(&self, work: &(dyn Fn() + Sync)) {
        work();
    }
    fn grain(&self) -> usize {
        usize::MAX
    }
    fn all_side_by_side(&self) -> bool {
        true
    }
}

fn made<G: Game>(seed: u64) -> Match<G> {
    Typed::create(&Typed::<G>::new().unwrap(), b"", seed).unwrap()
}

#[test]
fn a_world_is_the_same_in_every_tick_with_any_number_of_threads() {
    shadowed::<Kiln>(2, 200);
    for (threads, all) in [(2, false), (8, false), (2, true), (8, true)] {
        let (mut alone, mut beside) = (made::<Kiln>(7), made::<Kiln>(7));
        let workers = Asked::new(threads, all);
        beside.set_workers(Some(Arc::clone(&workers) as _));
        let mut said = 0;
        for tick in 1..=300 {
            let step = Step { tick: Tick(tick), ..Step::default() };
            let (one, other) = (alone.step(&step).unwrap(), beside.step(&step).unwrap());
            assert_eq!(one, other, "{threads} threads, tick {tick}");
            assert!(alone.checkpoint() == beside.checkpoint(), "{threads} threads, tick {tick}");
            said += one.events.len();
        }
        assert!(said > 1_000, "{said}");
        // Of each tick: drift with glow, and shuffle with brand.
        assert_eq!(workers.times(), 600, "{threads} threads");
    }
}

/// Whether the second of two systems is done.
static SECOND_IS_DONE: AtomicBool = AtomicBool::new(false);
/// Whether the first one waits for it.
static FIRST_WAITS: AtomicBool = AtomicBool::new(false);

fn first(mut out: Output, mut spots: Query<&mut Spot>) {
    let patience = Instant::now() + Duration::from_secs(20);
    while FIRST_WAITS.load(Ordering::Acquire) && !SECOND_IS_DONE.load(Ordering::Acquire) {
        assert!(Instant::now() < patience, "the second system does not run beside the first");
        std::thread::yield_now();
    }
    for mut spot in &mut spots {
        spot.0 += 1;
    }
    out.announce("first", &1u8);
    out.effect("first", b"1".to_vec());
    out.end_match("the first says so");
}

fn second(mut out: Output, mut ages: Query<&mut Age>, mut commands: Commands) {
    for mut age in &mut ages {
        age.0 += 1;
    }
    out.announce("second", &2u8);
    out.effect("second", b"2".to_vec());
    out.end_match("the second says so");
    commands.spawn(Age(7));
    SECOND_IS_DONE.store(true, Ordering::Release);
}

macro_rules! game {
    ($name:ident, $systems:expr) => {
        struct $name;
        impl Game for $name {
            const NAME: &'static str = "pair";
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build(game: &mut GameBuilder<Self>) {
                game.component::<Spot>().component::<Age>().component::<Mark>();
                game.add_systems(Stage::Update, $systems);
            }
            fn max_players((): &()) -> usize {
                1
            }
            fn setup(world: &mut World, (): &()) {
                world.spawn((Spot(0), Age(0)));
            }
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

game!(Pair, (first, second).chain().side_by_side());

#[test]
fn what_systems_say_is_in_their_order_also_if_the_second_is_done_first() {
    let step = Step { tick: Tick(1), ..Step::default() };
    let alone: StepOutput = made::<Pair>(1).step(&step).unwrap();
    let mut beside = made::<Pair>(1);
    beside.set_workers(Some(Asked::new(2, false) as _));
    SECOND_IS_DONE.store(false, Ordering::Release);
    FIRST_WAITS.store(true, Ordering::Release);
    let output = beside.step(&step).unwrap();
    FIRST_WAITS.store(false, Ordering::Release);
    assert_eq!(output, alone);
    let kinds: Vec<_> = output.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["first", "second"]);
    assert_eq!(output.ended.as_deref(), Some("the first says so"));
}

fn fine(mut spots: Query<&mut Spot>) {
    for mut spot in &mut spots {
        spot.0 += 1;
    }
}

fn fails(time: Time, mut ages: Query<&mut Age>) {
    for mut age in &mut ages {
        age.0 += 1;
        assert!(time.tick.0 < 3, "an age of {}", age.0);
    }
}

fn fails_too(time: Time, _marks: Query<&mut Mark>) {
    assert!(time.tick.0 < 3, "marks");
}

game!(Failing, (fine, fails, fails_too).chain().side_by_side());

#[test]
fn a_panic_on_another_thread_names_the_first_system_and_the_tick() {
    for threads in [1, 2, 8] {
        let mut failing = made::<Failing>(1);
        if threads > 1 {
            failing.set_workers(Some(Asked::new(threads, false) as _));
        }
        let step = |tick| Step { tick: Tick(tick), ..Step::default() };
        failing.step(&step(1)).unwrap();
        failing.step(&step(2)).unwrap();
        let error = failing.step(&step(3)).unwrap_err().to_string();
        assert_eq!(error, "RK-SIM-005: system `fails` panicked at tick 3: an age of 3");
    }
}

/// The parts of a step, in the order in which they began.
#[derive(Default)]
struct Parts(Vec<usize>);

impl StepWatch for Parts {
    fn begins(&mut self, part: usize) {
        self.0.push(part);
    }
    fn skipped(&mut self) {}
}

#[test]
fn a_step_that_is_measured_has_each_system_by_itself_and_is_the_same() {
    let (mut alone, mut beside) = (made::<Kiln>(3), made::<Kiln>(3));
    let workers = Asked::new(2, false);
    beside.set_workers(Some(Arc::clone(&workers) as _));
    let step = Step { tick: Tick(1), ..Step::default() };
    let (mut one, mut other) = (Parts::default(), Parts::default());
    let said = alone.step_watched(&step, &mut one).unwrap();
    assert_eq!(said, beside.step_watched(&step, &mut other).unwrap());
    assert_eq!((&one.0, workers.times()), (&other.0, 0));
    let parts: Arc<[StepPart]> = beside.step_parts();
    let systems = one.0.iter().filter(|part| parts[**part].system).count();
    assert_eq!(systems, 6, "all systems of the game");
}

/// Whether the system that is slow may end.
static SLOW_MAY_END: AtomicBool = AtomicBool::new(false);
/// How often the other one has run.
static QUICK_RUNS: AtomicUsize = AtomicUsize::new(0);

fn slow(mut spots: Query<&mut Spot>) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !SLOW_MAY_END.load(Ordering::Acquire) && Instant::now() < patience {
        std::thread::yield_now();
    }
    for mut spot in &mut spots {
        spot.0 += 1;
    }
}

fn quick(mut ages: Query<&mut Age>) {
    for mut age in &mut ages {
        age.0 += 1;
    }
    QUICK_RUNS.fetch_add(1, Ordering::Release);
}

game!(Hanging, (slow, quick).chain().side_by_side());

#[test]
fn a_system_that_hangs_is_named_also_when_the_one_beside_it_is_done() {
    let mut hanging = made::<Hanging>(1);
    hanging.set_workers(Some(Asked::new(2, false) as _));
    let probe = hanging.probe();
    let step = Step { tick: Tick(1), ..Step::default() };
    let named = std::thread::scope(|scope| {
        let running = scope.spawn(move || hanging.step(&step).map(|_| ()));
        let patience = Instant::now() + Duration::from_secs(15);
        let named = || {
            let quick_is_done = QUICK_RUNS.load(Ordering::Acquire) > 0;
            quick_is_done && probe.running() == Some((Tick(1), "slow"))
        };
        while !named() && Instant::now() < patience {
            std::thread::yield_now();
        }
        let found = named();
        SLOW_MAY_END.store(true, Ordering::Release);
        running.join().unwrap().unwrap();
        found
    });
    assert!(named, "the watchdog is not told of the system that still runs");
}

#[test]
fn a_chart_shows_what_runs_side_by_side() {
    let chart = Typed::<Kiln>::new().unwrap().system_chart();
    let boxes =
        "    subgraph Update\n        subgraph b0[side by side]\n            s0[\"drift\"]\n";
    assert!(chart.contains(boxes), "{chart}");
    assert!(chart.contains("            s1[\"glow\"]\n        end\n        s2[\"grow"), "{chart}");
    assert_eq!(chart.matches("[side by side]").count(), 2, "{chart}");
}
