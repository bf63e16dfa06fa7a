//! A panic of the game's code is told with the entity at which it happened.

use rekindle_schema::record::Step;
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Changed, Component, Const, Entity, Game, GameBuilder, GameType as _, Harness, IntoSystems as _,
    LeaveReason, Query, SimError, Simulation as _, Stage, Typed, World,
};

/// Entities that make systems panic have the number 100.
const BAD: u32 = 100;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "number")]
struct Number(u32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "heard")]
struct Heard(u32);

/// Which system panics.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
struct Panics {
    part: String,
}

impl Panics {
    fn at(&self, part: &str, number: u32) {
        assert!(self.part != part || number != BAD, "a bad number");
    }
}

struct Rows;

impl Game for Rows {
    const NAME: &'static str = "rows";
    type Config = Panics;
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Number>().component::<Heard>();
        game.add_systems(Stage::Update, (plain, closure, mixed, pairs, alone, behind, fresh));
        game.add_systems(Stage::Last, (write, threads).chain());
        game.on_change::<Heard>(|world, entity| {
            let number = world.get::<Number>(entity).map_or(0, |number| number.0);
            world.constant::<Panics>().at("hook", number);
        });
    }

    fn setup(world: &mut World, _: &Panics) {
        for number in 0..300 {
            let entity = world.spawn(Number(number));
            if number % 3 == 1 {
                world.insert(entity, Heard(0));
            }
        }
    }

    fn max_players(_: &Panics) -> usize {
        1
    }

    fn join(_: &mut World, _: PlayerId) {}

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn plain(panics: Const<Panics>, numbers: Query<&Number>) {
    for number in &numbers {
        panics.at("plain", number.0);
    }
}

fn closure(panics: Const<Panics>, numbers: Query<&Number>) {
    numbers.iter().for_each(|number| panics.at("closure", number.0));
}

/// A query that fetches what entities may have or not.
fn mixed(panics: Const<Panics>, numbers: Query<(&Number, Option<&Heard>)>) {
    for (number, _) in &numbers {
        panics.at("mixed", number.0);
    }
}

/// A loop in a loop: of 60 entities of the outer one, each goes over the others.
fn pairs(panics: Const<Panics>, outer: Query<(Entity, &Number)>, inner: Query<&Number>) {
    for (_, one) in outer.iter().filter(|(entity, _)| entity.slot() < 60) {
        for other in &inner {
            panics.at("pairs", if one.0 == 50 { other.0 } else { 0 });
        }
    }
}

/// A loop in a loop, which is over when the outer one panics.
fn behind(panics: Const<Panics>, outer: Query<&Number>, inner: Query<&Heard>) {
    for one in outer.iter().take(101) {
        inner.iter().for_each(drop);
        panics.at("behind", one.0);
    }
}

/// Panics whatever its loop sees.
fn alone(panics: Const<Panics>, numbers: Query<&Number>) {
    numbers.iter().for_each(drop);
    panics.at("alone", BAD);
}

fn fresh(panics: Const<Panics>, numbers: Query<&Number, Changed<Heard>>) {
    for number in &numbers {
        panics.at("fresh", number.0);
    }
}

fn write(panics: Const<Panics>, mut heard: Query<(&Number, &mut Heard)>) {
    for (number, mut heard) in &mut heard {
        heard.0 = heard.0.wrapping_mul(31).wrapping_add(number.0);
        panics.at("write", number.0);
    }
}

fn threads(panics: Const<Panics>, mut numbers: Query<&Number>) {
    numbers.par_for_each(|number| panics.at("threads", number.0));
}

/// The system that makes a tick panic by `part`, and what is said: at first, and with the entity.
fn said(part: &str) -> (String, String, String) {
    let game = Typed::<Rows>::new().unwrap();
    let config = game.config_from_json(&format!(r#"{{"part": "{part}"}}"#)).unwrap();
    let mut rows = Typed::create(&game, &config, 1).unwrap();
    for tick in 1..=2 {
        let (before, step) = (rows.checkpoint(), Step { tick: Tick(tick), ..Step::default() });
        let Err(error) = rows.step(&step) else { continue };
        let SimError::Panicked { message: plain, .. } = &error else { panic!("{error:?}") };
        let plain = plain.clone();
        let SimError::Panicked { system, tick, message } = game.at_entity(&before, &step, error)
        else {
            panic!("it does not panic again")
        };
        assert_eq!(tick, step.tick);
        return (system, plain, message);
    }
    panic!("`{part}` makes nothing panic")
}

#[test]
fn a_panic_in_a_loop_over_a_query_is_told_with_its_entity() {
    for part in ["plain", "closure", "mixed", "fresh", "write", "behind", "pairs"] {
        let (system, plain, with_entity) = said(part);
        assert_eq!((system.as_str(), plain.as_str()), (part, "a bad number"));
        assert_eq!(with_entity, "a bad number, at entity 100v0", "{part}");
    }
}

#[test]
fn a_panic_of_a_hook_or_a_parallel_query_names_its_entity_at_once_and_once() {
    for (part, of) in [("hook", "on_change(heard)"), ("threads", "threads")] {
        let (system, plain, with_entity) = said(part);
        assert_eq!(system, of);
        assert_eq!(plain, "a bad number, at entity 100v0");
        assert_eq!(with_entity, plain);
    }
}

#[test]
fn a_panic_that_needs_no_entity_names_none() {
    let (system, _, with_entity) = said("alone");
    assert_eq!((system.as_str(), with_entity.as_str()), ("alone", "a bad number"));
}

#[test]
#[should_panic(
    expected = "seed 7: RK-SIM-005: system `plain` panicked at tick 1: a bad number, at \
                           entity 100v0"
)]
fn a_test_that_panics_says_at_which_entity() {
    let _ = Harness::<Rows>::with_config(7, r#"{"part": "plain"}"#).run(1);
}
