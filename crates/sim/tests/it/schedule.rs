//! Games whose parts do not fit together are refused with words that say what is wrong.

use std::time::Duration;

use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Commands, Component, Game, GameBuilder, Harness, IntoSystems, Query, ResMut, Resource,
    Simulation, Stage, StepWatch, Typed, With, World,
};

#[derive(Clone, Component)]
#[component(id = "left")]
struct Left(#[net(min = 0.0, max = 1.0, bits = 4, rate = "right.0")] f32);

#[derive(Clone, Component)]
#[component(id = "right")]
struct Right(#[net(bits = 4)] u8);

#[derive(Clone, Component)]
#[component(id = "twin")]
struct TwinA(u8);

#[derive(Clone, Component)]
#[component(id = "twin")]
struct TwinB(u8);

#[derive(Clone, Resource)]
#[resource(id = "order")]
struct Order(Vec<String>);

fn read_left(_: Query<&TwinA>) {}
fn write_left(_: Query<&mut TwinA>) {}
fn twice(_: Query<&mut TwinA>, _: Query<&TwinA, With<TwinA>>) {}
fn unknown(_: Query<&TwinB>) {}
fn a() {}
fn b() {}
fn c() {}

/// Makes a game type around one `build`.
macro_rules! problem {
    (|$game:ident| $build:expr) => {{
        struct Broken;
        impl Game for Broken {
            const NAME: &'static str = "broken";
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
            fn setup(_: &mut World, (): &()) {}
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
        match Typed::<Broken>::new() {
            Ok(_) => String::new(),
            Err(error) => error.to_string().replace("RK-SIM-003: schedule of game `broken`: ", ""),
        }
    }};
}

#[test]
fn systems_that_wait_for_each_other_are_named() {
    let problem =
        problem!(|game| game.add_systems(Stage::Update, (a.after(b), b.after(c), c.after(a))));
    assert_eq!(
        problem,
        "systems wait for each other in stage Update: `a` after `b` after `c` after `a`"
    );
}

#[test]
fn systems_that_conflict_without_an_order_are_named_with_what_they_conflict_about() {
    let problem = problem!(|game| game
        .component::<TwinA>()
        .add_systems(Stage::Update, (write_left, read_left)));
    assert_eq!(
        problem,
        "systems `read_left` and `write_left` of stage Update both touch `twin` and one of them \
         changes it, but nothing says which runs first: \
         use `after`, `before`, `chain` or `priority`"
    );
}

#[test]
fn an_order_of_any_kind_settles_a_conflict() {
    let none = [
        problem!(|game| game
            .component::<TwinA>()
            .add_systems(Stage::Update, (write_left, read_left).chain())),
        problem!(|game| game
            .component::<TwinA>()
            .add_systems(Stage::Update, (write_left.before("read_left"), read_left))),
        problem!(|game| game
            .component::<TwinA>()
            .add_systems(Stage::Update, (write_left.priority(1), read_left))),
        problem!(|game| game
            .component::<TwinA>()
            .add_systems(Stage::Update, (write_left, a.after(write_left), read_left.after(a)))),
        problem!(|game| game
            .component::<TwinA>()
            .add_systems(Stage::Update, write_left)
            .add_systems(Stage::Last, read_left)),
        problem!(|game| game
            .component::<TwinA>()
            .add_systems(Stage::Update, (read_left, read_left.named("again")))),
    ];
    assert_eq!(none, [const { String::new() }; 6]);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let problem = problem!(|game| game
        .component::<TwinA>()
        .component::<TwinB>()
        .add_systems(Stage::Update, (twice, unknown, a, a.every(0))));
    for part in [
        "TwinA` and `",
        "have the same id `twin`",
        "system `twice`: two parameters ask for `twin` and one of them changes it",
        "TwinB` is not registered: add `game.component::<…>()` in `Game::build`",
        "two systems are named `a`",
        "system `a` runs every 0 ticks",
    ] {
        assert!(problem.contains(part), "{part}\nis not in\n{problem}");
    }
    let problem = problem!(|game| game
        .add_systems(Stage::Update, (a.after("nobody"), |_: Commands| {}))
        .add_systems(Stage::Last, b.after(a)));
    for part in [
        "system `a` is put in order with `nobody`, which is no system of this game",
        "a closure in stage Update has no name of its own: add `.named(\"…\")`",
        "system `b` in stage Last is put in order with `a`, which is in stage Update",
    ] {
        assert!(problem.contains(part), "{part}\nis not in\n{problem}");
    }
}

#[test]
fn networked_fields_must_point_at_networked_floats() {
    let problem =
        problem!(|game| game.component::<Left>().component::<Right>().position::<Left>("0", "y"));
    assert_eq!(
        problem,
        "the rate `right.0` of networked field `left.0` is not a float; the position `left.0`, \
         `left.y` is not made of networked fields"
    );
    let problem = problem!(|game| game.component::<Left>());
    assert_eq!(
        problem,
        "the rate `right.0` of networked field `left.0` is no networked field: write \
         `component-id.field`"
    );
}

/// Systems that write their names down, in every order that can be declared.
struct Ordered;

macro_rules! writers {
    ($($name:ident)*) => {$(
        fn $name(mut order: ResMut<Order>) {
            order.0.push(stringify!($name).to_owned());
        }
    )*};
}

writers!(s1 s2 s3 s4 s5 s6 s7);

impl Game for Ordered {
    const NAME: &'static str = "ordered";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.resource::<Order>();
        game.add_systems(Stage::Last, s7);
        game.add_systems(Stage::Update, (s5.priority(-1), s4, s3.priority(5)));
        game.add_systems(Stage::Update, s2.before(s3).priority(7));
        game.add_systems(Stage::Update, s1.priority(-9).before(s2));
        game.add_systems(Stage::First, s6);
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

/// Writes down what it is told.
#[derive(Default)]
struct Told(Vec<Option<usize>>);

impl StepWatch for Told {
    fn begins(&mut self, part: usize) {
        self.0.push(Some(part));
    }
    fn skipped(&mut self) {
        self.0.push(None);
    }
}

/// A game of which one system runs in every second tick.
struct Seldom;

impl Game for Seldom {
    const NAME: &'static str = "seldom";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.resource::<Order>();
        game.add_systems(Stage::First, s1.budget(Duration::from_micros(7)));
        game.add_systems(Stage::Update, (s2, s3.every(2)).chain());
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn a_step_that_is_watched_tells_its_parts_in_order_and_makes_the_same_world() {
    let game = Typed::<Seldom>::new().unwrap();
    let mut watched = game.create(b"", 1).unwrap();
    let mut alone = game.create(b"", 1).unwrap();
    let parts = watched.step_parts();
    let name = |index: usize| match &parts[index] {
        part if part.system => part.name.clone(),
        part => format!("{}|{}", part.stage, part.name),
    };
    for tick in 1..=2 {
        let step = Step { tick: Tick(tick), ..Step::default() };
        let mut told = Told::default();
        let output = watched.step_watched(&step, &mut told).unwrap();
        assert_eq!(output, alone.step(&step).unwrap());
        assert_eq!(watched.checkpoint(), alone.checkpoint());
        let told: Vec<_> =
            told.0.iter().map(|part| part.map_or("skipped".to_owned(), name)).collect();
        let end = |stage: &str| format!("{stage}|commands, hooks, indexes");
        let mut expected = vec!["|joins, commands, inputs".to_owned(), "s1".to_owned()];
        expected.extend([end("First"), "s2".to_owned(), "s3".to_owned()]);
        if tick == 1 {
            expected.push("skipped".to_owned());
        }
        expected.extend([end("Update"), "|canonical values, validations".to_owned()]);
        assert_eq!(told, expected, "tick {tick}");
    }
    let budgets: Vec<_> = parts.iter().filter_map(|part| part.budget).collect();
    assert_eq!(budgets, [Duration::from_micros(7)]);
}

#[test]
fn order_is_stage_then_edges_then_priority() {
    let harness = Harness::<Ordered>::new(1).run(1);
    // `s2` and `s3` would be first by their priorities, but wait for `s1`.
    assert_eq!(harness.world().resource::<Order>().0, ["s6", "s4", "s5", "s1", "s2", "s3", "s7"]);
}
