//! Systems side by side that ask for what there is once (relations, indexes, grids, removals,
//! inputs, components that data defines, new entities), and schedules by chance: none of them runs
//! beside one that it conflicts with, and the world is the same as on one thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Changed, Commands, Component, Custom, CustomMut, Entity, Game, GameBuilder, Harness, Hashed,
    Index, Indexed, Inputs, IntoSystems, Match, Place, Query, Related, RemovedComponents, ResMut,
    Resource, Rng, Simulation, Spatial, Stage, Systems, Typed, With, Without, World,
};

use crate::beside::Asked;
use crate::family::shadowed;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "stand")]
struct Stand(f32);

impl Place for Stand {
    fn place(&self) -> [f32; 2] {
        [self.0, 0.0]
    }
    fn set_place(&mut self, [x, _]: [f32; 2]) {
        self.0 = x;
    }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "ware")]
struct Ware(u32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "sold-at", relation = "despawn")]
struct SoldAt(Entity);

struct ByWare;
impl Index for ByWare {
    type Of = Ware;
    type Key = u32;
    type Map = Hashed<u32>;
    fn keys(ware: &Ware) -> impl IntoIterator<Item = u32> {
        [ware.0 % 5]
    }
}

macro_rules! ledgers {
    ($($name:ident $id:literal),*) => {$(
        /// What one system has seen.
        #[derive(Debug, Clone, PartialEq, Resource)]
        #[resource(id = $id)]
        struct $name(u64);

        impl $name {
            fn note(&mut self, what: impl Into<u64>) {
                self.0 = (self.0 ^ what.into()).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
            }
        }
    )*};
}

ledgers!(
    OfSellers "sellers", OfWares "wares", OfPlaces "places", OfLosses "losses", OfCalls "calls"
);

const PRICE: &str = r#"{"id": "price", "fields": [{"name": "coins", "type": "u16"}]}"#;

/// Stands with wares, and eight systems that all run side by side.
struct Fair;

impl Game for Fair {
    const NAME: &'static str = "fair";
    type Config = ();
    type Input = u32;
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Stand>().component::<Ware>().component::<SoldAt>();
        game.resource::<OfSellers>().resource::<OfWares>().resource::<OfPlaces>();
        game.resource::<OfLosses>().resource::<OfCalls>();
        game.index::<ByWare>().spatial::<Stand>(4.0);
        let all = (sell, sort, look_around, mourn, listen, price, stock, stroll);
        game.add_systems(Stage::Update, all.chain().side_by_side());
        game.add_systems(Stage::PostUpdate, label);
    }
    fn max_players((): &()) -> usize {
        2
    }
    fn setup(world: &mut World, (): &()) {
        let definition = serde_json::from_str(PRICE).unwrap();
        let price = world.define(&definition).unwrap();
        for place in 0..150 {
            let stand = world.spawn(Stand(place as f32));
            let ware = world.spawn((Ware(place), SoldAt(stand)));
            world.insert_custom(ware, price, &[("coins", place.into())]).unwrap();
        }
    }
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn sell(sold: Related<SoldAt>, stands: Query<Entity, With<Stand>>, mut seen: ResMut<OfSellers>) {
    for stand in &stands {
        sold.of(stand).for_each(|ware| seen.note(ware.slot()));
    }
}

fn sort(of: Indexed<ByWare>, mut seen: ResMut<OfWares>) {
    for key in 0..5 {
        of.of(&key).for_each(|ware| seen.note(ware.slot()));
    }
}

fn look_around(near: Spatial<Stand>, mut rng: Rng, mut seen: ResMut<OfPlaces>) {
    let center = [rng.range(0.0, 150.0), 0.0];
    near.within(center, 9.0).into_iter().for_each(|stand| seen.note(stand.slot()));
}

fn mourn(gone: RemovedComponents<Ware>, mut seen: ResMut<OfLosses>) {
    gone.read().for_each(|ware| seen.note(ware.slot()));
}

fn listen(inputs: Inputs<Fair>, mut seen: ResMut<OfCalls>) {
    inputs.iter().for_each(|call| seen.note(call.input));
}

fn price(mut custom: CustomMut, mut rng: Rng) {
    let coins = custom.id("price").unwrap();
    for ware in custom.with(&[coins]).collect::<Vec<_>>() {
        if rng.one_in(9) {
            custom.set(ware, coins, "coins", rng.below(900)).unwrap();
        }
    }
}

/// New wares come and old ones go, also stands with all that is sold there.
fn stock(mut commands: Commands, mut rng: Rng, wares: Query<Entity, With<Ware>>) {
    for ware in &wares {
        if rng.one_in(40) {
            commands.despawn(ware);
            let stand = commands.spawn(Stand(rng.range(0.0, 150.0)));
            commands.spawn((Ware(rng.below(99)), SoldAt(stand)));
        }
        if rng.one_in(400) {
            commands.add(move |world| {
                let stand = world.get::<SoldAt>(ware).map(|sold| sold.0);
                stand.map(|stand| world.despawn(stand));
            });
        }
    }
}

/// Moves stands, while others look at the grid that they are in, and ask which there are.
fn stroll(mut stands: Query<&mut Stand, Without<Ware>>, mut rng: Rng) {
    for mut stand in &mut stands {
        if rng.one_in(3) {
            stand.0 = (stand.0 + rng.unit()) % 150.0;
        }
    }
}

fn label(custom: Custom, wares: Query<Entity, With<Ware>>, mut commands: Commands) {
    let coins = custom.id("price").unwrap();
    for ware in wares.iter().filter(|ware| !custom.has(*ware, coins)) {
        commands.insert_custom(ware, coins, &[("coins", 7.into())]).unwrap();
    }
}

#[test]
fn what_there_is_once_goes_to_the_system_that_asks_for_it() {
    shadowed::<Fair>(1, 300);
    let played = |workers: Option<_>| {
        let mut fair = Harness::<Fair>::new(3);
        if let Some(workers) = workers {
            fair = fair.workers(workers);
        }
        fair.join(PlayerId(1));
        for tick in 0..200 {
            fair.input(PlayerId(1), &tick);
            fair.tick();
        }
        fair
    };
    let alone = played(None);
    let world = alone.world();
    let seen = [
        world.resource::<OfSellers>().0,
        world.resource::<OfWares>().0,
        world.resource::<OfPlaces>().0,
        world.resource::<OfLosses>().0,
        world.resource::<OfCalls>().0,
    ];
    assert!(seen.iter().all(|seen| *seen != 0), "{seen:?}");
    for threads in [2, 8] {
        let workers = Asked::new(threads, false);
        let beside = played(Some(workers.clone() as _));
        assert_eq!(workers.times(), 200, "all eight are one batch, in each tick");
        for (tick, hashes) in alone.hashes().iter().zip(beside.hashes()).enumerate() {
            assert_eq!(hashes.0, hashes.1, "{threads} threads, tick {}", tick + 1);
        }
    }
}

/// Of each component of the game by chance: how many read it now, or -1 for one who writes.
static IN_USE: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];
/// The systems of the game that is built next: each by its number, and whether it may run beside
/// others.
static DRAWN: Mutex<Vec<(usize, bool)>> = Mutex::new(Vec::new());

/// Says that a component is read or written as long as it lives.
struct Use(usize, i32);

impl Use {
    fn of(component: usize, write: bool) -> Self {
        let before = IN_USE[component].fetch_add(if write { -1_000 } else { 1 }, Ordering::AcqRel);
        let free = if write { before == 0 } else { before >= 0 };
        assert!(free, "component {component} is used by two at the same time");
        Self(component, if write { 1_000 } else { -1 })
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        IN_USE[self.0].fetch_add(self.1, Ordering::AcqRel);
    }
}

macro_rules! chance {
    (
        $($component:ident $number:literal $id:literal),*;
        $($place:literal $system:ident $from:ident $to:ident),*
    ) => {
        $(
            #[derive(Debug, Clone, PartialEq, Component)]
            #[component(id = $id)]
            struct $component(u32);
            impl $component {
                const NUMBER: usize = $number;
            }
        )*
        $(
            fn $system(mut all: Query<(&$from, &mut $to), Changed<$from>>, mut rng: Rng) {
                let _uses = (Use::of($from::NUMBER, false), Use::of($to::NUMBER, true));
                for (from, mut to) in &mut all {
                    if rng.one_in(2) {
                        to.0 = to.0.wrapping_mul(31).wrapping_add(from.0);
                    }
                }
                std::thread::yield_now();
            }
        )*
        /// A system by its number.
        fn numbered(number: usize) -> Systems {
            match number {
                $($place => $system.into_systems(),)*
                _ => unreachable!("there are six"),
            }
        }
    };
}

chance! {
    North 0 "north", East 1 "east", South 2 "south", West 3 "west";
    0 to_east North East, 1 to_south North South, 2 to_west North West,
    3 to_north East North, 4 from_south South West, 5 from_west West South
}

/// A game whose systems are drawn.
struct Drawn;

impl Game for Drawn {
    const NAME: &'static str = "drawn";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<North>().component::<East>().component::<South>().component::<West>();
        for (place, (number, beside)) in DRAWN.lock().unwrap().iter().enumerate() {
            let system = numbered(*number).named(&format!("s{place}"));
            let system = if *beside { system.side_by_side() } else { system };
            let before = place.checked_sub(1).map(|before| format!("s{before}"));
            game.add_systems(
                Stage::Update,
                match before {
                    Some(before) => system.after(before.as_str()),
                    None => system,
                },
            );
        }
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(world: &mut World, (): &()) {
        for place in 0..70 {
            world.spawn((North(place), East(place), South(place), West(place)));
        }
    }
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn systems_of_any_schedule_never_run_beside_one_that_they_conflict_with() {
    let mut rng = Rng::stream(1, Tick(0), 0);
    let made = |game: &Typed<Drawn>| -> Match<Drawn> { Typed::create(game, b"", 1).unwrap() };
    let mut times = 0;
    for round in 0..60 {
        let drawn: Vec<_> = (0..8).map(|_| (rng.below(6) as usize, !rng.one_in(4))).collect();
        DRAWN.lock().unwrap().clone_from(&drawn);
        let game = Typed::<Drawn>::new().unwrap();
        let (mut alone, mut beside) = (made(&game), made(&game));
        let workers = Asked::new(3, round % 3 == 0);
        beside.set_workers(Some(workers.clone() as _));
        for tick in 1..=20 {
            let step = Step { tick: Tick(tick), ..Step::default() };
            alone.step(&step).unwrap();
            beside.step(&step).unwrap_or_else(|error| panic!("{drawn:?}: {error}"));
            assert_eq!(alone.state_hash(), beside.state_hash(), "{drawn:?}, tick {tick}");
        }
        times += workers.times();
    }
    assert!(times > 1_000, "{times} batches");
}
