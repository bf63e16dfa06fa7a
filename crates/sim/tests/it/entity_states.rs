//! State machines of entities: each has its own. Transitions, guards, hooks, timeouts, wrong
//! declarations, charts, and a shadow that is restored all the time.

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::{
    Commands, Component, Entity, EntityRefused, EntityTransitions, EventReader, Game, GameBuilder,
    GameType, Harness, IntoSystems, Query, ResMut, Resource, Rng, Stage, State, TransitionError,
    Transitions, Typed, World,
};

use crate::family::shadowed;

#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "gait")]
pub enum Gait {
    Graze,
    Flee,
    Rest,
    Lost,
}

/// Each sheep has a gait, also if nothing is said of it.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "sheep", requires(Gait))]
pub struct Sheep {
    pub breath: u8,
}

/// What a second machine of the same entity says.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "wool")]
pub enum Wool {
    Short,
    Long,
}

#[derive(Debug, Clone, Copy, PartialEq, Resource)]
#[resource(id = "weather")]
pub enum Weather {
    Fair,
    Storm,
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "log")]
pub struct Log {
    pub lines: Vec<String>,
    pub entered: u64,
    pub left: u64,
    pub refused: u64,
    pub lost: u64,
    pub shorn: u64,
    pub changed: u64,
}

fn log(world: &mut World, line: &str, entity: Entity) {
    let line = format!("{} {line} {entity:?}", world.tick().0);
    let mut log = world.resource_mut::<Log>();
    log.lines.push(line);
    if log.lines.len() > 30 {
        log.lines.clear();
    }
}

fn breath(world: &World, sheep: Entity) -> u8 {
    world.get::<Sheep>(sheep).map_or(0, |sheep| sheep.breath)
}

fn machines<G: Game>(game: &mut GameBuilder<G>) {
    game.component::<Sheep>().resource::<Log>();
    game.entity_states::<Gait>(|gait| {
        gait.allow_if(Gait::Graze, Gait::Flee, "breath", |world, sheep| breath(world, sheep) > 0)
            // How long it runs depends on the sheep.
            .timeout(Gait::Flee, Gait::Rest, |world, sheep| u64::from(breath(world, sheep)))
            .timeout(Gait::Rest, Gait::Graze, |_, _| 6)
            .allow(Gait::Flee, Gait::Lost)
            .on_enter(Gait::Flee, |world, sheep| {
                world.resource_mut::<Log>().entered += 1;
                log(world, "flees", sheep);
            })
            .on_exit(Gait::Flee, |world, sheep| {
                world.resource_mut::<Log>().left += 1;
                log(world, "stops", sheep);
            })
            .on_exit(Gait::Rest, |world, sheep| {
                if let Some(mut sheep) = world.get_mut::<Sheep>(sheep) {
                    sheep.breath = sheep.breath % 7 + 1;
                }
            })
            .on_enter(Gait::Lost, |world, sheep| {
                world.resource_mut::<Log>().lost += 1;
                world.despawn(sheep);
            });
    });
    game.entity_states::<Wool>(|wool| {
        wool.timeout(Wool::Short, Wool::Long, |_, _| 20);
        wool.allow(Wool::Long, Wool::Short);
        wool.on_enter(Wool::Short, |world, _| world.resource_mut::<Log>().shorn += 1);
    });
}

macro_rules! pasture {
    ($type:ident, |$game:ident| $build:expr, |$world:ident| $setup:expr) => {
        impl Game for $type {
            const NAME: &'static str = "pasture";
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $build;
            }
            fn max_players((): &()) -> usize {
                1
            }
            fn setup($world: &mut World, (): &()) {
                $setup
            }
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

pub struct Pasture;
pasture!(
    Pasture,
    |game| {
        machines(game);
        game.template("lamb", |lamb| {
            lamb.with(Sheep { breath: 2 })
                .with(State::new(Gait::Rest))
                .with(State::new(Wool::Long));
        });
        // A machine of the match sets off those of entities, in the next round.
        game.states::<Weather>(|weather| {
            weather.timeout(Weather::Fair, Weather::Storm, |_| 40);
            weather.timeout(Weather::Storm, Weather::Fair, |_| 3);
            weather.on_enter(Weather::Storm, |world| {
                let all: Vec<_> = world.all::<State<Gait>>().collect();
                for (sheep, gait) in all {
                    let went = world.go_entity(sheep, Gait::Flee);
                    assert!(went.is_err() || gait.is(Gait::Graze));
                }
            });
        });
        game.on_change::<State<Gait>>(|world, _| world.resource_mut::<Log>().changed += 1);
        game.add_systems(Stage::First, hear.on_event::<EntityRefused>())
            .add_systems(Stage::Update, (bark, shear).chain())
            .add_systems(Stage::PostUpdate, lamb);
    },
    |world| for breath in 0..70 {
        world.spawn((Sheep { breath: breath % 4 }, State::new(Wool::Short)));
    }
);

fn bark(
    mut rng: Rng,
    gaits: EntityTransitions<Gait>,
    mut all: Query<(Entity, &Sheep, &mut State<Gait>)>,
    mut weather: Transitions<Weather>,
) {
    for (entity, _, mut gait) in &mut all {
        if rng.one_in(30) {
            let asked = gaits.go(entity, &mut gait, Gait::Flee);
            assert_eq!(asked.is_ok(), gait.is(Gait::Graze));
            if asked.is_ok() {
                let twice = gaits.go(entity, &mut gait, Gait::Flee).unwrap_err();
                assert!(matches!(twice, TransitionError::Underway { .. }), "{twice}");
            }
        } else if rng.one_in(60) {
            assert_eq!(gaits.go(entity, &mut gait, Gait::Lost).is_ok(), gait.is(Gait::Flee));
        }
    }
    assert!(weather.go(Weather::Fair).is_ok() == weather.is(Weather::Storm));
}

fn shear(
    mut rng: Rng,
    wools: EntityTransitions<Wool>,
    mut all: Query<(Entity, &mut State<Wool>)>,
    mut commands: Commands,
) {
    for (entity, mut wool) in &mut all {
        if wool.is(Wool::Long) && rng.one_in(10) {
            wools.go(entity, &mut wool, Wool::Short).expect("Long leads to Short");
            continue;
        }
        // One that starts over, and one that loses its machine.
        match rng.below(200) {
            0 => commands.insert(entity, State::new(Wool::Long)),
            1 => commands.remove::<State<Wool>>(entity),
            _ => {}
        }
    }
}

fn lamb(mut rng: Rng, all: Query<&Sheep>, mut commands: Commands) {
    if all.iter().count() < 100 {
        commands.spawn_template("lamb", ());
        commands.spawn(Sheep { breath: rng.below(4) as u8 });
    }
}

fn hear(refused: EventReader<EntityRefused>, mut log: ResMut<Log>) {
    for refusal in refused.read() {
        assert_eq!(
            (refusal.machine.as_str(), refusal.from.as_str(), refusal.to.as_str()),
            ("gait", "Graze", "Flee")
        );
        assert_eq!(refusal.guard, "breath");
        log.refused += 1;
    }
}

#[test]
fn a_world_whose_entities_have_state_machines_and_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let live = shadowed::<Pasture>(seed, 500);
        let log = live.world().resource::<Log>().clone();
        assert!(log.entered > 200 && log.left > 200 && log.refused > 20, "{log:?}");
        assert!(log.lost > 20 && log.shorn > 50 && log.changed > 500, "{log:?}");
    }
    Harness::<Pasture>::new(9).run(200).assert_replay_identical();
}

struct Quiet;
pasture!(Quiet, |game| machines(game), |world| for breath in [3, 0, 2] {
    world.spawn(Sheep { breath });
});

fn sheep(harness: &Harness<Quiet>) -> Vec<Entity> {
    harness.world().all::<Sheep>().map(|(entity, _)| entity).collect()
}

#[test]
fn each_entity_moves_by_itself_and_entities_take_their_turns_by_slot() {
    let mut harness = Harness::<Quiet>::new(1).run(4);
    let [long, none, short] = sheep(&harness)[..] else { panic!("three sheep") };
    // Asked in another order than that of their slots.
    for runner in [short, long] {
        harness.world_mut().go_entity(runner, Gait::Flee).expect("it has breath");
    }
    harness = harness.run(4);
    assert_eq!(
        harness.world().resource::<Log>().lines,
        [
            "5 flees Entity(0v0)",
            "5 flees Entity(2v0)",
            "7 stops Entity(2v0)",
            "8 stops Entity(0v0)"
        ],
        "one runs for 3 ticks, the other for 2"
    );
    let at = |entity| {
        let state = harness.world().get::<State<Gait>>(entity).expect("it has a gait");
        (state.now(), state.since().0, state.until().map(|tick| tick.0))
    };
    assert_eq!(at(long), (Gait::Rest, 8, Some(14)));
    assert_eq!(at(short), (Gait::Rest, 7, Some(13)));
    assert_eq!(at(none), (Gait::Graze, 0, None), "what another one does is not its business");
}

#[test]
fn a_transition_that_is_not_possible_names_the_entity_and_both_states() {
    let mut harness = Harness::<Quiet>::new(1).run(2);
    let [first, second, third] = sheep(&harness)[..] else { panic!("three sheep") };
    let world = harness.world_mut();
    let mut problem = |entity, to| world.go_entity(entity, to).unwrap_err().to_string();
    assert_eq!(
        problem(first, Gait::Lost),
        "RK-SIM-007: `gait` of Entity(0v0) cannot go from `Graze` to `Lost`; from `Graze` it goes \
         to `Flee`"
    );
    assert_eq!(
        problem(second, Gait::Flee),
        "RK-SIM-008: `gait` of Entity(1v0) does not go from `Graze` to `Flee`: breath"
    );
    world.go_entity(third, Gait::Flee).expect("it has breath");
    let twice = world.go_entity(third, Gait::Flee).unwrap_err().to_string();
    assert_eq!(
        twice,
        "RK-SIM-009: `gait` of Entity(2v0) is on its way from `Graze` to `Flee` already"
    );
    world.despawn(first);
    let gone = world.go_entity(first, Gait::Flee).unwrap_err();
    assert_eq!(gone, TransitionError::Absent { machine: "gait", entity: first });
    assert!(gone.to_string().starts_with("RK-SIM-014: Entity(0v0) has no `gait`, or is gone"));
    let none = world.go_entity(second, Wool::Long).unwrap_err();
    assert_eq!(none, TransitionError::Absent { machine: "wool", entity: second });
}

#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "odd")]
enum Odd {
    One,
    Two,
    Three,
    Four,
}

fn ask(_: EntityTransitions<Wool>) {}

struct Wrong;
pasture!(
    Wrong,
    |game| {
        // Entities can begin in `Three`, which can be left.
        game.entity_states::<Odd>(|odd| {
            odd.allow(Odd::One, Odd::Two).allow(Odd::One, Odd::Two).allow(Odd::Three, Odd::Two);
        });
        game.states::<Odd>(|odd| {
            odd.allow(Odd::One, Odd::Two);
        });
        game.add_systems(Stage::Update, ask);
    },
    |_world| ()
);

#[test]
fn wrong_machines_of_entities_are_all_told_when_the_game_is_built() {
    let problem = Typed::<Wrong>::new().err().unwrap().to_string();
    for words in [
        "state machine `odd` (`it::entity_states::Odd`): the transition from `One` to `Two` is \
         declared twice",
        "`Four` is never reached",
        "two state machines have the id `odd`",
        "system `ask`: there is no state machine of entities with `it::entity_states::Wool`: add \
         `game.entity_states::<",
    ] {
        assert!(problem.contains(words), "{words} is missing in: {problem}");
    }
    assert_eq!(problem.matches("`Three` is never reached").count(), 1, "of the match: {problem}");
}

#[test]
fn machines_of_entities_are_drawn_as_such() {
    let chart = Typed::<Pasture>::new().unwrap().state_chart();
    for line in [
        "    state \"gait of entities\" as gait {\n",
        "        gait_Graze --> gait_Flee : breath\n",
        "        gait_Flee --> gait_Rest : timeout\n",
        "        gait_Lost --> [*]\n",
        "    state \"weather\" as weather {\n",
    ] {
        assert!(chart.contains(line), "{line} is missing in:\n{chart}");
    }
}
