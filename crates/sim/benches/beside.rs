//! What systems side by side give, and cost. `cargo bench -p rekindle-sim --bench beside`
//!
//! 10,000 entities and four systems, each of which computes a bearing by one `atan2` or by eight
//! (about 100 µs and 1 ms), or just adds (a few microseconds). They read one column that all of
//! them share, which is copied for three of them, or each has a column of its own. Ticks of three
//! worlds in turns: one after the other; declared side by side, with one thread; with two. Wall
//! time, since it is spread over threads: two cores must be free (`chrt -f 50` makes them so).
#![expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]

use std::sync::Arc;
use std::time::Instant;

use rekindle_schema::PlayerId;
use rekindle_schema::record::{LeaveReason, Step};
use rekindle_sim::{
    Component, Game, GameBuilder, IntoSystems as _, Match, Query, Simulation, Stage, Typed,
    Workers, World, math,
};
use rekindle_workers::Pool;

/// Of each world.
const TICKS: usize = 300;
/// Those that are not counted.
const WARM: usize = 20;

/// Where all are.
#[derive(Clone, Component)]
#[component(id = "place")]
struct Place {
    x: f32,
    y: f32,
}

macro_rules! surveyors {
    ($($bearing:ident $bearing_id:literal, $spot:ident $spot_id:literal,
       $shared:ident $own:ident;)*) => {$(
        #[derive(Clone, Component)]
        #[component(id = $bearing_id)]
        struct $bearing(f32);

        /// Where one system thinks that it is.
        #[derive(Clone, Component)]
        #[component(id = $spot_id)]
        struct $spot {
            x: f32,
            y: f32,
        }

        fn $shared<const ROUNDS: usize>(mut all: Query<(&Place, &mut $bearing)>) {
            for (at, mut bearing) in &mut all {
                bearing.0 = look::<ROUNDS>(at.x, at.y);
            }
        }

        fn $own<const ROUNDS: usize>(mut all: Query<(&$spot, &mut $bearing)>) {
            for (at, mut bearing) in &mut all {
                bearing.0 = look::<ROUNDS>(at.x, at.y);
            }
        }
    )*};
}

surveyors! {
    Bearing0 "bearing-0", Spot0 "spot-0", share_0 own_0;
    Bearing1 "bearing-1", Spot1 "spot-1", share_1 own_1;
    Bearing2 "bearing-2", Spot2 "spot-2", share_2 own_2;
    Bearing3 "bearing-3", Spot3 "spot-3", share_3 own_3;
}

#[inline]
fn look<const ROUNDS: usize>(x: f32, y: f32) -> f32 {
    (0..ROUNDS).fold(x, |bearing, _| math::atan2(y, bearing) + x)
}

struct Survey<const ROUNDS: usize, const BESIDE: bool, const SHARED: bool>;

impl<const R: usize, const BESIDE: bool, const SHARED: bool> Game for Survey<R, BESIDE, SHARED> {
    const NAME: &'static str = "survey";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Place>();
        game.component::<Spot0>().component::<Spot1>().component::<Spot2>().component::<Spot3>();
        game.component::<Bearing0>().component::<Bearing1>();
        game.component::<Bearing2>().component::<Bearing3>();
        let systems = if SHARED {
            (share_0::<R>, share_1::<R>, share_2::<R>, share_3::<R>).chain()
        } else {
            (own_0::<R>, own_1::<R>, own_2::<R>, own_3::<R>).chain()
        };
        game.add_systems(Stage::Update, if BESIDE { systems.side_by_side() } else { systems });
    }

    fn max_players((): &()) -> usize {
        1
    }

    fn setup(world: &mut World, (): &()) {
        let mut rng = world.rng(0);
        for _ in 0..10_000 {
            let (x, y) = (rng.range(-90.0, 90.0), rng.range(-90.0, 90.0));
            let bearings = (Bearing0(0.0), Bearing1(0.0), Bearing2(0.0), Bearing3(0.0));
            let entity = world.spawn((Place { x, y }, bearings));
            let spots = (Spot0 { x, y }, Spot1 { x, y }, Spot2 { x, y }, Spot3 { x, y });
            world.insert(entity, spots);
        }
    }

    fn join(_: &mut World, _: PlayerId) {}

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn made<G: Game<Config = ()>>(threads: usize) -> Match<G> {
    let game = Typed::<G>::new().expect("the game is right");
    let mut made = game.create(b"", 1).expect("the configuration is right");
    if threads > 1 {
        let pool: Arc<dyn Workers> = Arc::new(Pool::new(threads).expect("threads start"));
        made.set_workers(Some(pool));
    }
    made
}

/// Microseconds of the next tick.
fn tick(running: &mut impl Simulation) -> f64 {
    let step = Step { tick: running.tick().next(), ..Step::default() };
    let start = Instant::now();
    running.step(&step).expect("no system panics");
    start.elapsed().as_secs_f64() * 1e6
}

fn compare<const ROUNDS: usize, const SHARED: bool>(name: &str) {
    let mut in_turn = made::<Survey<ROUNDS, false, SHARED>>(1);
    let mut alone = made::<Survey<ROUNDS, true, SHARED>>(1);
    let mut beside = made::<Survey<ROUNDS, true, SHARED>>(2);
    let mut taken = [const { Vec::new() }; 3];
    for round in 0..TICKS + WARM {
        let ticks = [tick(&mut in_turn), tick(&mut alone), tick(&mut beside)];
        if round >= WARM {
            taken.iter_mut().zip(ticks).for_each(|(taken, tick)| taken.push(tick));
        }
    }
    let [in_turn, alone, beside] = taken.map(|mut taken| {
        taken.sort_by(f64::total_cmp);
        taken[TICKS / 2]
    });
    println!(
        "{name}: {in_turn:.0} us one after the other; side by side {alone:.0} us with one thread, \
         {beside:.0} us with two (x{:.2})",
        in_turn / beside
    );
}

fn main() {
    for _ in 0..3 {
        compare::<0, true>("a few us each, one column shared");
        compare::<0, false>("a few us each, columns of their own");
        compare::<1, true>("100 us each, one column shared");
        compare::<1, false>("100 us each, columns of their own");
        compare::<8, true>("1 ms each, one column shared");
        compare::<8, false>("1 ms each, columns of their own");
    }
}
