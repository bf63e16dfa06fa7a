//! State machines: transitions, guards, hooks, timeouts, wrong declarations, charts, and a shadow
//! that is restored all the time.

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::{
    EventReader, Game, GameBuilder, GameType, Harness, IntoSystems, Refused, Res, ResMut, Resource,
    Rng, Stage, State, TransitionError, Transitions, Typed, World, in_state,
};

use crate::family::shadowed;

#[derive(Debug, Clone, Copy, PartialEq, Resource)]
#[resource(id = "light")]
pub enum Light {
    Red,
    Green,
    Amber,
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Resource)]
#[resource(id = "walk.ers")]
pub enum Walkers {
    Wait,
    Go,
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "log")]
pub struct Log {
    pub lines: Vec<String>,
    pub greens: u64,
    pub refused: u64,
    pub repairs: u64,
    pub driven: u64,
}

fn log(world: &mut World, line: &str) {
    let line = format!("{} {line}", world.tick().0);
    let mut log = world.resource_mut::<Log>();
    log.lines.push(line);
    if log.lines.len() > 30 {
        log.lines.clear();
    }
}

fn machines<G: Game>(game: &mut GameBuilder<G>) {
    game.resource::<Log>();
    game.states::<Light>(|light| {
        light
            .timeout(Light::Red, Light::Green, |_| 10)
            .timeout(Light::Green, Light::Amber, |world| 4 + world.tick().0 % 3)
            .timeout(Light::Amber, Light::Red, |_| 2)
            .allow(Light::Green, Light::Broken)
            .allow(Light::Amber, Light::Broken)
            .allow_if(Light::Broken, Light::Red, "three repairs", |world| {
                world.resource::<Log>().repairs >= 3
            })
            .on_enter(Light::Green, |world| {
                world.resource_mut::<Log>().greens += 1;
                log(world, "green");
            })
            .on_exit(Light::Green, |world| log(world, "no longer green"))
            .on_enter(Light::Broken, |world| world.resource_mut::<Log>().repairs = 0)
            // One machine sets off the other, in the next round.
            .on_enter(Light::Red, |world| {
                log(world, "red");
                world.go(Walkers::Go).expect("they wait");
            })
            .on_exit(Light::Red, |world| world.go(Walkers::Wait).expect("they walk"));
    });
    game.states::<Walkers>(|walkers| {
        walkers.allow(Walkers::Wait, Walkers::Go).allow(Walkers::Go, Walkers::Wait);
        walkers.on_enter(Walkers::Go, |world| log(world, "walk"));
    });
}

macro_rules! crossing {
    ($type:ident, |$game:ident| $systems:expr) => {
        impl Game for $type {
            const NAME: &'static str = "crossing";
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $systems;
            }
            fn max_players((): &()) -> usize {
                1
            }
            fn setup(world: &mut World, (): &()) {
                world.go(Walkers::Go).expect("they wait at first");
            }
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

pub struct Crossing;
crossing!(Crossing, |game| {
    machines(game);
    game.add_systems(Stage::First, hear.on_event::<Refused>())
        .add_systems(Stage::Update, (wear, repair.run_if(in_state(Light::Broken))).chain())
        .add_systems(Stage::PostUpdate, drive.run_if(in_state(Light::Green)));
});

fn wear(mut rng: Rng, mut light: Transitions<Light>) {
    if rng.one_in(25) {
        let broken = light.go(Light::Broken);
        assert_eq!(broken.is_ok(), light.is(Light::Green) || light.is(Light::Amber));
    }
}

fn repair(mut rng: Rng, mut log: ResMut<Log>, mut light: Transitions<Light>) {
    log.repairs += u64::from(rng.one_in(2));
    light.go(Light::Red).expect("Broken leads to Red");
    let twice = light.go(Light::Red).unwrap_err().to_string();
    assert_eq!(twice, "RK-SIM-009: `light` is on its way from `Broken` to `Red` already");
}

fn drive(mut log: ResMut<Log>, light: Res<State<Light>>) {
    log.driven += 1 + light.since().0 % 2;
}

fn hear(refused: EventReader<Refused>, mut log: ResMut<Log>) {
    for refusal in refused.read() {
        assert_eq!((refusal.from.as_str(), refusal.guard.as_str()), ("Broken", "three repairs"));
        log.refused += 1;
    }
}

#[test]
fn a_world_with_state_machines_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let live = shadowed::<Crossing>(seed, 800);
        let log = live.world().resource::<Log>().clone();
        assert!(log.greens > 10 && log.refused > 10 && log.driven > 50, "{log:?}");
    }
    Harness::<Crossing>::new(9).run(300).assert_replay_identical();
}

struct Quiet;
crossing!(Quiet, |game| machines(game));

#[test]
fn timeouts_move_a_machine_and_its_hooks_run_in_order() {
    let mut harness = Harness::<Quiet>::new(1).run(19);
    let lines = harness.world().resource::<Log>().lines.clone();
    assert_eq!(
        lines,
        ["0 walk", "10 green", "15 no longer green", "17 red", "17 walk"],
        "red for 10 ticks, green for 4 + 10 % 3, amber for 2"
    );
    let light = harness.world().resource::<State<Light>>().clone();
    assert_eq!(
        (light.now(), light.since().0, light.until().map(|tick| tick.0)),
        (Light::Red, 17, Some(27))
    );
    let error = harness.world_mut().go(Light::Broken).unwrap_err();
    assert!(matches!(error, TransitionError::Undeclared { .. }));
    assert_eq!(
        error.to_string(),
        "RK-SIM-007: `light` cannot go from `Red` to `Broken`; from `Red` it goes to `Green`"
    );
    harness = harness.run(9);
    harness.world_mut().go(Light::Broken).expect("Green leads to Broken");
    harness.tick();
    let refused = harness.world_mut().go(Light::Red).unwrap_err().to_string();
    assert_eq!(refused, "RK-SIM-008: `light` does not go from `Broken` to `Red`: three repairs");
}

#[derive(Debug, Clone, Copy, PartialEq, Resource)]
#[resource(id = "odd")]
enum Odd {
    One,
    Two,
    Three,
}

#[derive(Debug, Clone, Copy, PartialEq, Resource)]
#[resource(id = "full")]
enum Full {
    Empty,
    Of { count: u8 },
}

fn ask(_: Transitions<Light>) {}

struct Wrong;
crossing!(Wrong, |game| {
    game.states::<Odd>(|odd| {
        odd.allow(Odd::One, Odd::Two).timeout(Odd::One, Odd::Two, |_| 1).timeout(
            Odd::One,
            Odd::One,
            |_| 1,
        );
    });
    game.states::<Full>(|full| {
        full.allow(Full::Empty, Full::Of { count: 1 });
    });
    game.add_systems(Stage::Update, ask);
});

#[test]
fn wrong_machines_are_all_told_when_the_game_is_built() {
    let problem = Typed::<Wrong>::new().err().unwrap().to_string();
    for words in [
        "state machine `odd` (`it::states::Odd`): the transition from `One` to `Two` is declared \
         twice",
        "`One` has two timeouts",
        "`Three` is never reached: add `.allow(…, Three)`",
        "state machine `full` (`it::states::Full`): states are an enum without fields",
        "system `ask`: there is no state machine of `it::states::Light`: add `game.states::<",
    ] {
        assert!(problem.contains(words), "{words} is missing in: {problem}");
    }
}

#[test]
fn machines_and_systems_are_drawn_as_mermaid() {
    let game = Typed::<Crossing>::new().unwrap();
    let chart = game.state_chart();
    for line in [
        "stateDiagram-v2\n    state \"light\" as light {\n",
        "        [*] --> light_Red\n",
        "        light_Red --> light_Green : timeout\n",
        "        light_Broken --> light_Red : three repairs\n",
        "        state \"Wait\" as walk_ers_Wait\n",
    ] {
        assert!(chart.contains(line), "{line} is missing in:\n{chart}");
    }
    let chart = game.system_chart();
    assert_eq!(
        chart,
        "flowchart LR\n    subgraph First\n        s0[\"hear\"]\n    end\n    \
         subgraph Update\n        s1[\"wear\"]\n        s2[\"repair\"]\n    end\n    \
         subgraph PostUpdate\n        s3[\"drive\"]\n    end\n    s1 --> s2\n"
    );
}
