//! Values that components refuse, state of systems, and conditions: through the public doors, and
//! with a shadow that is restored all the time.

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::{
    Aggregate, Commands, Component, Entity, EventReader, Game, GameBuilder, Harness, IntoSystems,
    Local, Query, Rejected, Res, ResMut, Resource, Rng, Simulation, Stage, Time, Typed, With,
    World,
};

use crate::family::shadowed;

fn whole(tank: &Tank) -> Result<(), String> {
    if tank.level <= tank.size { Ok(()) } else { Err("more in it than its size".to_owned()) }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "tank", validate = whole)]
pub struct Tank {
    #[value(default = 10, within = 1..=20)]
    pub size: u8,
    pub level: u8,
    #[value(within = -1.0..=1.0)]
    pub tilt: f32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "leak")]
pub struct Leak;

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "book")]
pub struct Book {
    pub rejected: u64,
    pub by_commands: u64,
    pub digest: u64,
    pub floods: u64,
    pub ticks: u64,
}

impl Book {
    fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
    }
}

pub struct Works;

macro_rules! works {
    ($type:ident, |$game:ident| $systems:expr) => {
        impl Game for $type {
            const NAME: &'static str = "works";
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $game.component::<Tank>().component::<Leak>().resource::<Book>();
                $systems;
            }
            fn max_players((): &()) -> usize {
                1
            }
            fn setup(world: &mut World, (): &()) {
                for level in 0..30 {
                    world.spawn(Tank { size: 10, level, tilt: 0.0 });
                }
            }
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

works!(Works, |game| game
    .add_systems(Stage::First, write_down.on_event::<Rejected>())
    .add_systems(
        Stage::Update,
        (pour, build.run_if(few).run_if(|time: Time| time.tick.0.is_multiple_of(3)), survey)
            .chain()
    )
    .add_systems(Stage::Last, flooded.run_if(full)));

/// Writes what may be refused: levels above the size, tilts out of range, a NaN.
fn pour(mut rng: Rng, mut tanks: Query<&mut Tank>, mut poured: Local<u64>) {
    for mut tank in &mut tanks {
        match rng.below(12) {
            0..6 => tank.level = tank.level.saturating_add(rng.below(3) as u8),
            6 => tank.level = 0,
            7 => tank.tilt += rng.range(-0.8, 0.8),
            8 => tank.tilt = f32::NAN,
            9 => tank.size = rng.below(30) as u8,
            _ => {}
        }
        *poured += u64::from(tank.level);
    }
}

fn few(tanks: Query<Entity, With<Tank>>) -> bool {
    tanks.iter().count() < 25
}

fn build(mut commands: Commands, mut rng: Rng, tanks: Query<Entity>) {
    let entity = commands.spawn(Tank { size: 8, level: rng.below(11) as u8, tilt: 0.0 });
    commands.insert(entity, Leak);
    if let Some(other) = tanks.iter().nth(rng.below(40) as usize) {
        commands.insert(other, Tank { size: rng.below(25) as u8, level: 3, tilt: 0.5 });
        if rng.one_in(3) {
            commands.despawn(other);
        }
    }
}

/// Counts in its own state, and sums up.
fn survey(
    tanks: Query<(Entity, &Tank)>,
    mut memory: Local<(u32, Vec<u8>)>,
    mut book: ResMut<Book>,
) {
    memory.0 += 1;
    let (count, fullest) = (memory.0, tanks.iter().greatest_by(|(_, tank)| f32::from(tank.level)));
    if let Some((entity, tank)) = fullest
        && memory.1.last() != Some(&tank.level)
    {
        memory.1.push(tank.level);
        book.note(u64::from(entity.slot()));
    }
    if memory.1.len() > 9 {
        memory.1.clear();
    }
    book.note(u64::from(count));
    for (size, level) in
        tanks.iter().sum_by(|(_, tank)| tank.size, |(_, tank)| u64::from(tank.level))
    {
        book.note(u64::from(size) << 32 | level);
    }
}

fn full(tanks: Query<&Tank>) -> bool {
    tanks.iter().filter(|tank| tank.level == tank.size).count() > 3
}

fn flooded(mut book: ResMut<Book>) {
    book.floods += 1;
}

fn write_down(rejected: EventReader<Rejected>, mut book: ResMut<Book>) {
    for write in rejected.read() {
        book.rejected += 1;
        book.by_commands += u64::from(write.system == "commands");
        book.note(u64::from(write.entity.slot()) << 8 | write.problem.len() as u64);
    }
}

#[test]
fn a_world_with_refused_writes_and_state_of_systems_stays_identical_when_restored() {
    for seed in 1..=3 {
        let live = shadowed::<Works>(seed, 800);
        let book = live.world().resource::<Book>().clone();
        assert!(book.rejected > 1_000 && book.by_commands > 10, "{book:?}");
        assert!(book.floods > 10 && book.floods < 800, "a condition holds now and then: {book:?}");
    }
    Harness::<Works>::new(9).run(300).assert_replay_identical();
}

#[test]
fn no_tick_ends_with_a_value_that_is_not_accepted() {
    let mut harness = Harness::<Works>::new(4);
    for _ in 0..300 {
        harness.tick();
        harness.world_mut().query::<&Tank, (), _>(|tanks| {
            for tank in &tanks {
                assert_eq!(tank.validate(), Ok(()), "{tank:?}");
            }
        });
    }
}

fn overfill(mut tanks: Query<&mut Tank>, time: Time) {
    for mut tank in &mut tanks {
        if time.tick.0 == 2 {
            tank.size = 99;
        } else if time.tick.0 == 3 {
            tank.level = 7;
        }
    }
}

struct Quiet;
works!(Quiet, |game| game
    .add_systems(Stage::First, write_down.on_event::<Rejected>())
    .add_systems(Stage::PostUpdate, overfill));

#[test]
fn a_refused_write_is_undone_and_told_with_system_entity_and_problem() {
    let mut harness = Harness::<Quiet>::new(1);
    let world = harness.world_mut();
    // Of the thirty tanks of `setup`, those that hold more than their size never came to be.
    let tanks = world.query::<Entity, With<Tank>, _>(|tanks| tanks.iter().collect::<Vec<_>>());
    assert_eq!((tanks.len(), world.len()), (11, 30));
    harness.tick();
    assert_eq!(harness.world().resource::<Book>().rejected, 19, "the first tick is told of them");
    let rejected = |harness: &Harness<Quiet>| {
        let described = harness.simulation().describe();
        described["resources"]["book"]["rejected"].as_u64()
    };
    harness.tick();
    let tank = harness.world().get::<Tank>(tanks[4]).unwrap();
    assert_eq!(tank, Tank { size: 10, level: 4, tilt: 0.0 }, "as it was before the tick");
    harness.tick();
    assert_eq!(rejected(&harness), Some(19 + 11));
    let tank = harness.world().get::<Tank>(tanks[4]).unwrap();
    assert_eq!(tank.level, 7, "what is accepted stays");
}

#[test]
fn a_refusal_names_the_system_and_the_problem() {
    #[derive(Clone, Resource)]
    #[resource(id = "told")]
    struct Told(Vec<String>);
    struct Telling;
    fn tell(rejected: EventReader<Rejected>, mut told: ResMut<Told>) {
        let line = |it: &Rejected| format!("{} {}: {}", it.component, it.system, it.problem);
        told.0 = rejected.read().map(line).collect();
    }
    fn stretch(mut tanks: Query<&mut Tank>) {
        for mut tank in tanks.iter_mut().take(1) {
            tank.size = 21;
        }
    }
    works!(Telling, |game| game
        .resource::<Told>()
        .add_systems(Stage::First, tell)
        .add_systems(Stage::Update, stretch));
    let mut harness = Harness::<Telling>::new(1);
    harness.tick();
    let told = harness.world().resource::<Told>().0.clone();
    assert_eq!((told.len(), told[0].as_str()), (19, "tank commands: more in it than its size"));
    harness.tick();
    let told = harness.world().resource::<Told>().0.clone();
    assert_eq!(told, ["tank stretch: `size` is 21, outside of 1..=20"]);
}

struct Renamed;
works!(Renamed, |game| game.add_systems(Stage::Update, survey));

#[test]
fn state_of_a_system_that_is_gone_is_dropped_by_name() {
    let old = Harness::<Works>::new(3).run(20);
    let described = old.simulation().describe();
    assert_eq!(described["resources"]["~survey#00"][0], 20, "{described}");
    let game = Typed::<Renamed>::new().unwrap();
    let made = Typed::restore(&game, &old.simulation().checkpoint()).unwrap();
    assert_eq!(made.dropped(), ["~pour#00"]);
    assert_eq!(made.describe()["resources"]["~survey#00"][0], 20, "the other one keeps its own");
    assert!(game.restore(&made.checkpoint()).is_ok());
}

struct Broken;
works!(Broken, |game| game.add_systems(
    Stage::Update,
    (
        flooded.run_if(|mut book: ResMut<Book>| {
            book.ticks += 1;
            true
        }),
        survey.after("flooodd"),
    )
));

#[test]
fn conditions_only_look_and_misspelt_systems_are_told_what_is_near() {
    fn looks(book: Res<Book>) -> bool {
        book.ticks > 0
    }
    let _ = flooded.run_if(looks);
    let problem = Typed::<Broken>::new().err().unwrap().to_string();
    for words in ["system `flooded`: a condition changes `book`", "did you mean `flooded`?"] {
        assert!(problem.contains(words), "{problem}");
    }
}
