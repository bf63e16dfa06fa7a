//! Extensions: parts that several games have, what they do together, and which do not go together.

use rekindle_schema::record::{Join, Leave, LeaveReason, Step};
use rekindle_sim::{
    Component, Const, Extension, Game, GameBuilder, GameType as _, Harness, Inputs,
    IntoSystems as _, Match, PlayerId, Query, ResMut, Resource, SessionId, Simulation as _, Stage,
    Tick, Typed, World,
};
use serde::{Deserialize, Serialize};

use crate::family::shadowed;

/// What a player has.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "farm.field")]
struct Field {
    player: PlayerId,
    corn: u32,
    burnt: u32,
}

/// Who was called, in order.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "farm.book")]
struct Book {
    lines: Vec<String>,
}

fn note(world: &mut World, line: impl Into<String>) {
    world.resource_mut::<Book>().lines.push(line.into());
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Weather {
    fires: u32,
    rain: u32,
}

impl Default for Weather {
    fn default() -> Self {
        Self { fires: 3, rain: 7 }
    }
}

/// Burns what grows.
struct Fire<C> {
    every: fn(&C) -> u32,
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "fire.left")]
struct FireLeft {
    ticks: u32,
    every: u32,
}

impl<G: Game> Extension<G> for Fire<G::Config> {
    fn name(&self) -> &'static str {
        "fire"
    }
    fn build(&self, game: &mut GameBuilder<G>) {
        // The game has the component as well: they share it.
        game.component::<Field>().resource::<FireLeft>().add_systems(Stage::Update, burn);
    }
    fn validate(&self, config: &G::Config) -> Result<(), String> {
        if (self.every)(config) == 0 { Err("a fire every 0 ticks".to_owned()) } else { Ok(()) }
    }
    fn setup(&self, world: &mut World, config: &G::Config) {
        let every = (self.every)(config);
        world.insert_resource(FireLeft { ticks: every, every });
        note(world, "setup(fire)");
    }
    fn join(&self, world: &mut World, player: PlayerId) {
        let fields = world.resource::<rekindle_sim::Players>().avatar(player).is_some();
        note(world, format!("join(fire) of {player}, with a field: {fields}"));
    }
    fn leave(&self, world: &mut World, player: PlayerId, _: LeaveReason) {
        let avatar = world.resource::<rekindle_sim::Players>().avatar(player);
        let field = avatar.and_then(|avatar| world.get::<Field>(avatar)).is_some();
        note(world, format!("leave(fire) of {player}, with a field: {field}"));
        assert!(player != PlayerId(666), "the devil does not leave");
    }
}

fn burn(mut left: ResMut<FireLeft>, mut fields: Query<&mut Field>) {
    left.ticks -= 1;
    if left.ticks == 0 {
        left.ticks = left.every;
        for mut field in &mut fields {
            field.burnt += field.corn;
            field.corn = 0;
        }
    }
}

/// Lets more grow; nothing without fire.
struct Rain;

impl Extension<Farm> for Rain {
    fn name(&self) -> &'static str {
        "rain"
    }
    fn requires(&self) -> &'static [&'static str] {
        &["fire"]
    }
    fn build(&self, game: &mut GameBuilder<Farm>) {
        game.add_systems(Stage::Update, rain.after("burn"));
    }
    fn join(&self, world: &mut World, player: PlayerId) {
        note(world, format!("join(rain) of {player}"));
    }
}

fn rain(weather: Const<Weather>, mut fields: Query<&mut Field>) {
    for mut field in &mut fields {
        field.corn += weather.rain;
    }
}

/// Fields of corn, with weather from two extensions.
struct Farm;

impl Game for Farm {
    const NAME: &'static str = "farm";
    type Config = Weather;
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Field>().resource::<Book>();
        game.extend(Fire { every: |weather: &Weather| weather.fires }).extend(Rain);
    }
    fn max_players(_: &Weather) -> usize {
        9
    }
    fn setup(world: &mut World, _: &Weather) {
        world.insert_resource(Book { lines: Vec::new() });
        world.spawn(Field { player: PlayerId(0), corn: 0, burnt: 0 });
        note(world, "setup");
    }
    fn join(world: &mut World, player: PlayerId) {
        let field = world.spawn(Field { player, corn: 1, burnt: 0 });
        world.resource_mut::<rekindle_sim::Players>().set_avatar(player, field);
        note(world, format!("join of {player}"));
    }
    fn leave(world: &mut World, player: PlayerId, _: LeaveReason) {
        let field = world.resource::<rekindle_sim::Players>().avatar(player);
        world.despawn(field.unwrap_or_default());
        note(world, format!("leave of {player}"));
    }
}

#[test]
fn a_world_of_extensions_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let mut live = shadowed::<Farm>(seed, 200);
        let burnt = live.world_mut().query::<&Field, (), Vec<u32>>(|fields| {
            fields.iter().map(|field| field.burnt).collect()
        });
        // 66 fires; rain falls behind a fire of the same tick, and three times before the next.
        assert_eq!(burnt, [65 * 21 + 14]);
    }
    Harness::<Farm>::new(9).run(100).assert_replay_identical();
}

fn step(tick: u64) -> Step {
    Step { tick: Tick(tick), ..Step::default() }
}

fn joined(player: u64) -> (Match<Farm>, Leave) {
    let mut farm = Typed::create(&Typed::<Farm>::new().unwrap(), b"", 1).unwrap();
    let (player, session) = (PlayerId(player), SessionId(1));
    let join = Join { player, session, name: "a farmer".to_owned() };
    farm.step(&Step { joins: vec![join], ..step(1) }).unwrap();
    (farm, Leave { player, session, reason: LeaveReason::Left })
}

#[test]
fn extensions_are_called_behind_the_game_and_before_it_when_a_player_leaves() {
    let (mut farm, leave) = joined(5);
    farm.step(&Step { leaves: vec![leave], ..step(2) }).unwrap();
    let called = [
        "setup",
        "setup(fire)",
        "join of 5",
        "join(fire) of 5, with a field: true",
        "join(rain) of 5",
        "leave(fire) of 5, with a field: true",
        "leave of 5",
    ];
    assert_eq!(farm.world().resource::<Book>().lines, called);
}

#[test]
fn a_panic_of_an_extension_names_it() {
    let (mut farm, leave) = joined(666);
    let error = farm.step(&Step { leaves: vec![leave], ..step(2) }).unwrap_err().to_string();
    let words = "system `leave(fire)` panicked at tick 2: the devil does not leave";
    assert!(error.contains(words), "{error}");
}

#[test]
fn an_extension_refuses_a_configuration_in_its_name() {
    let farm = Typed::<Farm>::new().unwrap();
    assert!(farm.config_from_json(r#"{"fires": 1}"#).is_ok());
    let problem = farm.config_from_json(r#"{"fires": 0}"#).unwrap_err().to_string();
    assert!(problem.contains("extension `fire`: a fire every 0 ticks"), "{problem}");
}

/// Another type with the id that `fire` has.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "fire.left")]
struct Wood {
    logs: u32,
}

mod other {
    pub fn burn() {}
}

/// Claims what `fire` and the game have.
struct Stove;

impl<G: Game> Extension<G> for Stove {
    fn name(&self) -> &'static str {
        "stove"
    }
    fn requires(&self) -> &'static [&'static str] {
        &["fir"]
    }
    fn build(&self, game: &mut GameBuilder<G>) {
        game.resource::<Wood>().add_systems(Stage::Last, other::burn);
        game.template("field", |_| ())
            .calculation("fields", |fields: Query<&Field>| fields.iter().count());
        game.constant(|_| 5u8).aggregates::<Field>(|fields| {
            fields.sum("corn", |field| field.corn.into());
        });
        game.position::<Field>("corn", "burnt");
    }
}

struct Clash;

impl Game for Clash {
    const NAME: &'static str = "clash";
    type Config = Weather;
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Field>().resource::<Book>();
        game.template("field", |_| ()).constant(|_| 4u8);
        game.aggregates::<Field>(|fields| {
            fields.count("fields", |_| true).sum("corn", |field| field.corn.into());
        });
        game.position::<Field>("burnt", "corn");
        game.extend(Fire { every: |weather: &Weather| weather.fires }).extend(Stove).extend(Stove);
        game.add_systems(Stage::First, (|_inputs: Inputs<Clash>| ()).named("burn"));
    }
    fn max_players(_: &Weather) -> usize {
        1
    }
    fn setup(_: &mut World, _: &Weather) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn extensions_that_claim_one_name_do_not_go_together_and_all_is_said_at_once() {
    let problem = Typed::<Clash>::new().err().unwrap().to_string();
    for words in [
        "extension `fire` and extension `stove` do not go together: both have the resource \
         `fire.left`; give one of them another name, or leave one out",
        "extension `fire` and extension `stove` do not go together: both have the system `burn`",
        "extension `fire` and the game do not go together: both have the system `burn`",
        "the game and extension `stove` do not go together: both have the template `field`",
        "the game and extension `stove` do not go together: both have the value `fields`",
        "the game and extension `stove` do not go together: both have the value `corn`",
        "the game and extension `stove` do not go together: both have the constant `u8`",
        "`position` is said twice, as `farm.field.burnt`, `farm.field.corn` and as",
        "extension `stove` is added twice",
        "extension `stove` requires extension `fir`, did you mean `fire`?",
    ] {
        assert!(problem.contains(words), "{words}\nis missing in: {problem}");
    }
}
