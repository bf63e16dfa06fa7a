//! Components that data defines: from the configuration of a match and from commands, in queries,
//! checkpoints, deltas and on other builds; and a shadow that is restored all the time.

use std::collections::BTreeMap;

use rekindle_schema::delta;
use rekindle_schema::record::{AppliedCommand, Join, LeaveReason, Step};
use rekindle_schema::{PlayerId, SessionId, Tick};
use rekindle_sim::value::shape::Datum;
use rekindle_sim::{
    Commands, Component, Custom, CustomDefinition, CustomError, CustomMut, Entity, Game,
    GameBuilder, GameType, Harness, IntoSystems, Match, Query, ResMut, Resource, Rng, SimError,
    Simulation, Stage, Typed, Value, World, value,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "place")]
struct Place {
    x: i32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "marker")]
struct Marker;

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "seen")]
struct Seen {
    added: u64,
    changed: u64,
    together: u64,
    refused: u64,
}

/// A designer's wish: a definition as JSON.
#[derive(Debug, Clone, PartialEq, Value)]
struct Define(String);

#[derive(Default, Serialize, Deserialize)]
struct Setting {
    components: Vec<CustomDefinition>,
}

/// A game, and one that has a component more.
struct Mods<const MORE: bool>;

impl<const MORE: bool> Game for Mods<MORE> {
    const NAME: &'static str = "mods";
    type Config = Setting;
    type Input = ();
    type Command = Define;
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Place>().resource::<Seen>();
        if MORE {
            game.component::<Marker>();
        }
        game.add_systems(Stage::First, notice)
            .add_systems(Stage::Update, (tire, churn).chain())
            .add_systems(Stage::PostUpdate, meet);
    }

    fn max_players(_: &Setting) -> usize {
        4
    }

    fn setup(world: &mut World, setting: &Setting) {
        for definition in &setting.components {
            world.define(definition).unwrap_or_else(|error| panic!("{error}"));
        }
        for x in 0..90 {
            world.spawn(Place { x });
        }
    }

    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}

    fn command(world: &mut World, _: PlayerId, Define(json): Define) -> bool {
        let definition = serde_json::from_str::<CustomDefinition>(&json);
        definition.is_ok_and(|definition| world.define(&definition).is_ok())
    }
}

fn notice(custom: Custom, mut seen: ResMut<Seen>) {
    let Ok(stamina) = custom.id("stamina") else { return };
    seen.added += custom.added(stamina).count() as u64;
    seen.changed += custom.changed(stamina).map(|entity| u64::from(entity.slot())).sum::<u64>();
}

fn tire(mut custom: CustomMut, mut rng: Rng, mut seen: ResMut<Seen>) {
    let Ok(stamina) = custom.id("stamina") else { return };
    for entity in custom.with(&[stamina]).collect::<Vec<_>>() {
        let points = custom.get(entity, stamina, "points").unwrap().int().unwrap();
        let points = points + i64::from(rng.below(9)) - 4;
        if custom.set(entity, stamina, "points", points).is_err() {
            seen.refused += 1;
        }
        if rng.one_in(9) {
            let name = "x".repeat(rng.below(12) as usize);
            custom.set(entity, stamina, "names", vec![name.as_str(), "y"]).unwrap();
        }
    }
}

fn churn(mut commands: Commands, custom: Custom, mut rng: Rng, all: Query<Entity>) {
    let Ok(stamina) = custom.id("stamina") else { return };
    for entity in &all {
        match rng.below(60) {
            0 => commands.remove_custom(entity, stamina),
            1 => commands.despawn(entity),
            2 => drop(commands.spawn(Place { x: rng.below(9) as i32 })),
            3..6 => {
                let fields = [("points", rng.below(90).into()), ("of", entity.into())];
                // Version 2 has no such field.
                if commands.insert_custom(entity, stamina, &fields).is_err() {
                    commands.insert_custom(entity, stamina, &fields[..1]).unwrap();
                }
            }
            6 => {
                let others = ["burning", "chilled"].into_iter();
                for id in others.filter_map(|id| custom.id(id).ok()) {
                    commands.insert_custom(entity, id, &[]).unwrap();
                }
            }
            _ => {}
        }
    }
}

/// Static components beside those that data defines.
fn meet(custom: Custom, places: Query<(Entity, &Place)>, mut seen: ResMut<Seen>) {
    let (Ok(stamina), Ok(burning)) = (custom.id("stamina"), custom.id("burning")) else { return };
    for (entity, place) in places.iter_many(custom.with(&[stamina, burning])) {
        assert!(custom.has(entity, stamina) && custom.has(entity, burning));
        seen.together += place.x as u64;
    }
}

const STAMINA: &str = r#"{"id": "stamina", "fields": [
    {"name": "points", "type": "u16", "default": 50, "max": 99},
    {"name": "names", "type": "[text]", "default": ["a"]},
    {"name": "of", "type": "entity?"}
]}"#;
const STAMINA_2: &str = r#"{"id": "stamina", "version": 2, "fields": [
    {"name": "rate", "type": "f32", "default": 0.5},
    {"name": "points", "type": "i32", "min": -5, "max": 120},
    {"name": "names", "type": "[text]"}
]}"#;
const BURNING: &str = r#"{"id": "burning"}"#;
const CHILLED: &str = r#"{"id": "chilled", "fields": [{"name": "by", "type": "f64"}]}"#;

fn config() -> String {
    format!(r#"{{"components": [{STAMINA}, {BURNING}]}}"#)
}

fn definition(json: &str) -> CustomDefinition {
    serde_json::from_str(json).unwrap()
}

/// A step; in some ticks a player joins, or says what is to be defined.
fn step(tick: u64, wishes: &BTreeMap<u64, &str>) -> Step {
    let (player, session) = (PlayerId(1), SessionId(7));
    let mut step = Step { tick: Tick(tick), ..Step::default() };
    if tick == 1 {
        step.joins.push(Join { player, session, name: "designer".to_owned() });
    }
    if let Some(json) = wishes.get(&tick) {
        let payload = value::to_bytes(&Define((*json).to_owned())).into();
        step.commands.push(AppliedCommand { player, session, seq: tick, payload });
    }
    step
}

/// Runs a match beside a shadow that is restored every few ticks, from full checkpoints and from
/// deltas, by a game that may have another schema.
fn shadowed<G: Game, H: Game>(seed: u64, ticks: u64, wishes: &BTreeMap<u64, &str>) -> Match<G> {
    let (game, other) = (Typed::<G>::new().unwrap(), Typed::<H>::new().unwrap());
    let config = game.config_from_json(&config()).unwrap();
    let mut live = Typed::create(&game, &config, seed).unwrap();
    let mut shadow = Typed::restore(&other, &live.checkpoint()).unwrap();
    let (mut base, mut marks) = live.capture();
    let mut deltas = 0;
    for tick in 1..=ticks {
        let step = step(tick, wishes);
        let (a, b) = (live.step(&step).unwrap(), shadow.step(&step).unwrap());
        assert_eq!(a, b, "tick {tick}");
        assert_eq!(a.commands, vec![true; step.commands.len()], "tick {tick}");
        assert_eq!(live.describe(), shadow.describe(), "tick {tick}");
        if tick % 5 != seed % 5 {
            continue;
        }
        let (state, places) = live.capture();
        if let Some((operations, now)) = live.changes(&base, &marks, usize::MAX) {
            let (_, made) = delta::seal(&base, &operations).unwrap();
            assert!(made == state, "tick {tick}: a delta leads to other bytes");
            assert_eq!(now, places);
            deltas += 1;
        }
        (base, marks) = (state, places);
        shadow = Typed::restore(&other, &base).unwrap();
        if G::NAME == H::NAME && std::any::TypeId::of::<G>() == std::any::TypeId::of::<H>() {
            assert_eq!(shadow.checkpoint(), base, "tick {tick}: a restored world has other bytes");
            assert_eq!(shadow.state_hash(), live.state_hash());
        }
    }
    assert!(deltas > ticks / 10, "{deltas} deltas");
    live
}

fn wishes() -> BTreeMap<u64, &'static str> {
    // An equal definition is left alone; a newer one converts what there is.
    BTreeMap::from([(40, CHILLED), (90, STAMINA), (120, STAMINA_2)])
}

#[test]
fn a_match_with_components_of_its_own_stays_identical_through_restores_and_deltas() {
    for seed in [1, 2, 3] {
        let live = shadowed::<Mods<false>, Mods<false>>(seed, 300, &wishes());
        let seen = live.world().resource::<Seen>().clone();
        let all = [seen.added, seen.changed, seen.together, seen.refused];
        assert!(all.iter().all(|count| *count > 50), "{seen:?}");
        let world = live.world();
        assert_eq!(world.customs().count(), 3);
        let stamina = world.custom_id("stamina").unwrap();
        let someone = world.with_custom(&[stamina]).next().unwrap();
        assert_eq!(world.custom(someone, stamina, "rate"), Ok(Datum::Float(0.5)));
        assert!(world.custom(someone, stamina, "of").is_err(), "version 2 has no such field");
    }
}

#[test]
fn a_build_with_another_schema_goes_on_with_what_a_match_defined() {
    shadowed::<Mods<false>, Mods<true>>(4, 200, &wishes());
}

#[test]
fn what_a_match_defines_is_shown_and_compared_by_its_names() {
    let game = Typed::<Mods<false>>::new().unwrap();
    let config = game.config_from_json(&config()).unwrap();
    let made = || Typed::create(&game, &config, 1).unwrap();
    let (mut one, mut other) = (made(), made());
    for (running, points) in [(&mut one, 7_i32), (&mut other, 8)] {
        let world = running.world_mut();
        let (stamina, who) = (world.custom_id("stamina").unwrap(), world.spawn(()));
        world.insert_custom(who, stamina, &[("points", points.into())]).unwrap();
    }
    let shown = one.describe().to_string();
    assert!(shown.contains(r#""stamina":{"names":["a"],"of":null,"points":7}"#), "{shown}");
    let parts = game.differing_parts(&one.checkpoint(), &other.checkpoint());
    assert_eq!(parts, ["component `stamina`"]);
    let plain = game.create(b"{}", 1).unwrap();
    let parts = game.differing_parts(&one.checkpoint(), &plain.checkpoint());
    assert_eq!(parts, ["the components that the match defines"]);
    let (_, sums) = one.beat();
    assert_eq!(sums.len(), other.beat().1.len());
    let found = other.explain(&sums, Tick(0));
    assert_eq!(found, ["component `stamina`"]);
}

fn problem(json: &str) -> String {
    let mut mods = Harness::<Mods<false>>::with_config(1, &config());
    let before = mods.world().customs().count();
    let error = mods.world_mut().define(&definition(json)).unwrap_err();
    assert_eq!(mods.world().customs().count(), before, "{error}");
    error.to_string()
}

#[test]
fn definitions_that_make_no_sense_are_errors_that_name_the_culprit() {
    for (json, words) in [
        (r#"{"id": "Stamina"}"#, "an id is 1 to 64 characters of"),
        (r#"{"id": "place"}"#, "the game has a component of this id"),
        (r#"{"id": "x", "version": 0}"#, "versions begin with 1"),
        (r#"{"id": "x", "fields": [{"name": "a", "type": "u12"}]}"#, "did you mean `u16`?"),
        (r#"{"id": "x", "fields": [{"name": "a", "type": "[[[u8]]]"}]}"#, "there is no type"),
        (r#"{"id": "x", "fields": [{"name": "A", "type": "u8"}]}"#, "a name is 1 to 64"),
        (
            r#"{"id": "x", "fields": [{"name": "a", "type": "u8"}, {"name": "a", "type": "u8"}]}"#,
            "field `a`: there are two",
        ),
        (r#"{"id": "x", "fields": [{"name": "a", "type": "u8", "default": 256}]}"#, "256"),
        (r#"{"id": "x", "fields": [{"name": "a", "type": "u8", "default": "b"}]}"#, "is no u8"),
        (
            r#"{"id": "x", "fields": [{"name": "a", "type": "u8", "min": 2}]}"#,
            "its default does not fit: 0 is less than 2",
        ),
        (
            r#"{"id": "x", "fields": [{"name": "a", "type": "i8", "min": 2, "max": 1}]}"#,
            "`min` is greater than `max`",
        ),
        (
            r#"{"id": "x", "fields": [{"name": "a", "type": "text", "min": "b"}]}"#,
            "only numbers have",
        ),
        (r#"{"id": "stamina", "fields": []}"#, "version 1 does not replace it"),
    ] {
        let found = problem(json);
        assert!(found.contains(words) && found.starts_with("RK-SIM-03"), "{json}: {found}");
    }
    assert!(serde_json::from_str::<CustomDefinition>(r#"{"id": "x", "size": 1}"#).is_err());
    let many: Vec<_> = (0..33).map(|n| format!(r#"{{"name": "f{n}", "type": "u8"}}"#)).collect();
    let many = format!(r#"{{"id": "x", "fields": [{}]}}"#, many.join(","));
    assert!(problem(&many).contains("more than 32 fields"));
    let long = "y".repeat(1_100);
    let long = format!(
        r#"{{"id": "x", "fields": [{{"name": "a", "type": "text", "default": "{long}"}}]}}"#
    );
    assert!(problem(&long).contains("at most 1024"));
}

#[test]
fn a_match_defines_at_most_64_components() {
    let mut mods = Harness::<Mods<false>>::with_config(1, "{}");
    for number in 0..64 {
        let json = format!(r#"{{"id": "c{number}"}}"#);
        mods.world_mut().define(&definition(&json)).unwrap();
    }
    let more = mods.world_mut().define(&definition(r#"{"id": "c64"}"#)).unwrap_err();
    assert!(more.to_string().contains("64 definitions, which is the most"), "{more}");
    mods.tick();
}

#[test]
fn wrong_writes_are_typed_errors_and_change_nothing() {
    let mut mods = Harness::<Mods<false>>::with_config(1, &config());
    let world = mods.world_mut();
    let who = world.spawn(());
    let stamina = world.custom_id("stamina").unwrap();
    let absent = world.custom(who, stamina, "points").unwrap_err();
    assert_eq!(absent, CustomError::Absent { component: "stamina".to_owned(), entity: who });
    world.insert_custom(who, stamina, &[("points", 9.into())]).unwrap();
    let before = world.custom(who, stamina, "names");
    for (field, value, words) in [
        ("points", Datum::from(100), "100 is more than 99"),
        ("points", Datum::from(-1), "-1 cannot become U16"),
        ("points", Datum::from("many"), "cannot become U16"),
        ("pionts", Datum::from(1), "did you mean `points`?"),
        ("names", Datum::from("a"), "cannot become"),
        ("names", Datum::from(vec!["z".repeat(1_030)]), "at most 1024"),
        ("of", Datum::from(true), "cannot become"),
    ] {
        let error = world.set_custom(who, stamina, field, value).unwrap_err().to_string();
        assert!(error.contains(words), "{field}: {error}");
    }
    assert_eq!(world.custom(who, stamina, "points"), Ok(Datum::Int(9)));
    assert_eq!(world.custom(who, stamina, "names"), before);
    assert!(
        world.custom_id("stamnia").unwrap_err().to_string().contains("did you mean `stamina`?")
    );
    assert!(world.remove_custom(who, stamina) && !world.remove_custom(who, stamina));
    world.despawn(who);
    assert!(world.insert_custom(who, stamina, &[]).is_err());
}

#[test]
fn rows_that_do_not_fit_a_newer_definition_leave_the_older_one() {
    let mut mods = Harness::<Mods<false>>::with_config(1, &config());
    let world = mods.world_mut();
    let (who, stamina) = (world.spawn(()), world.custom_id("stamina").unwrap());
    world.insert_custom(who, stamina, &[("points", 90.into())]).unwrap();
    let narrow = r#"{"id": "stamina", "version": 2, "fields": [
        {"name": "points", "type": "u8", "max": 80}
    ]}"#;
    let error = world.define(&definition(narrow)).unwrap_err().to_string();
    assert!(error.contains("90 is more than 80"), "{error}");
    assert_eq!(world.custom(who, stamina, "points"), Ok(Datum::Int(90)));
    world.set_custom(who, stamina, "points", 80).unwrap();
    assert_eq!(world.define(&definition(narrow)), Ok(stamina));
    let old = world.define(&definition(STAMINA)).unwrap_err().to_string();
    assert!(old.contains("defined in version 2") && old.contains("version 1"), "{old}");
}

fn refused(game: &Typed<Mods<false>>, bytes: &[u8]) -> String {
    match Typed::restore(game, bytes) {
        Err(SimError::Checkpoint { problem, .. }) => problem,
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn a_checkpoint_whose_definitions_are_of_a_newer_form_is_refused_by_both_numbers() {
    let game = Typed::<Mods<false>>::new().unwrap();
    let config = game.config_from_json(&config()).unwrap();
    let bytes = Typed::create(&game, &config, 1).unwrap().checkpoint().to_vec();
    // Tag, name, schema; then the form.
    let schema = 2 + 4 + "mods".len();
    let length = u32::from_le_bytes(bytes[schema..schema + 4].try_into().unwrap()) as usize;
    let form = schema + 4 + length;
    let mut newer = bytes.clone();
    newer[form] = 9;
    let problem = refused(&game, &newer);
    assert!(problem.contains("have form 9") && problem.contains("reads form 1"), "{problem}");
    // Each byte of the definitions may be wrong: an error, or another match, and never a panic.
    for place in form..form + 220 {
        for value in [0, 1, 255] {
            let mut broken = bytes.clone();
            broken[place] = value;
            let _ = Typed::restore(&game, &broken);
        }
    }
    for end in (form..bytes.len()).step_by(7) {
        assert!(Typed::restore(&game, &bytes[..end]).is_err(), "cut off at {end}");
    }
}

/// A build that has a component of an id that the match defined itself.
struct Clash;
impl Game for Clash {
    const NAME: &'static str = "mods";
    type Config = Setting;
    type Input = ();
    type Command = Define;
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        #[derive(Clone, Component)]
        #[component(id = "stamina")]
        struct Stamina;
        game.component::<Stamina>().component::<Place>().resource::<Seen>();
    }
    fn max_players(_: &Setting) -> usize {
        4
    }
    fn setup(_: &mut World, _: &Setting) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn a_build_that_took_the_id_for_a_component_of_its_own_is_told_so() {
    let game = Typed::<Mods<false>>::new().unwrap();
    let config = game.config_from_json(&config()).unwrap();
    let bytes = Typed::create(&game, &config, 1).unwrap().checkpoint();
    let clash = Typed::<Clash>::new().unwrap();
    let problem = Typed::restore(&clash, &bytes).err().unwrap().to_string();
    assert!(
        problem.contains("`stamina`") && problem.contains("a component of this id"),
        "{problem}"
    );
}

#[test]
fn systems_that_change_custom_components_are_put_in_order() {
    struct Unordered;
    impl Game for Unordered {
        const NAME: &'static str = "unordered";
        type Config = ();
        type Input = ();
        type Command = ();
        type Bot = ();
        fn build(game: &mut GameBuilder<Self>) {
            fn write(_: CustomMut) {}
            fn read(_: Custom) {}
            game.add_systems(Stage::Update, (write, read));
        }
        fn max_players((): &()) -> usize {
            1
        }
        fn setup(_: &mut World, (): &()) {}
        fn join(_: &mut World, _: PlayerId) {}
        fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
    }
    let problem = Typed::<Unordered>::new().err().unwrap().to_string();
    assert!(problem.contains("custom components"), "{problem}");
}

/// The match of the golden file: its definitions, and a row for each.
fn golden_match() -> Match<Mods<false>> {
    let game = Typed::<Mods<false>>::new().unwrap();
    let config = game.config_from_json(&config()).unwrap();
    let mut made = Typed::create(&game, &config, 9).unwrap();
    for tick in 1..=130 {
        made.step(&step(tick, &wishes())).unwrap();
    }
    made
}

fn golden_path(place: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(place)
}

const GOLDEN: [&str; 2] =
    ["../../schema/golden/state-custom-1.bin", "tests/golden/state-custom-1.txt"];

#[test]
fn golden_state_with_definitions_is_still_read() {
    let [state, hash] = GOLDEN.map(|place| std::fs::read(golden_path(place)).unwrap());
    let game = Typed::<Mods<false>>::new().unwrap();
    let mut made = Typed::restore(&game, &state).unwrap();
    assert_eq!(format!("{}\n", made.state_hash()).as_bytes(), hash);
    let ids: Vec<_> = made.world().customs().map(|(id, _)| id.to_owned()).collect();
    assert_eq!(ids, ["stamina", "burning", "chilled"]);
    let stamina = made.world().custom_id("stamina").unwrap();
    assert!(made.world().with_custom(&[stamina]).count() > 5);
    for tick in 131..200 {
        made.step(&step(tick, &wishes())).unwrap();
    }
}

#[test]
#[ignore = "writes the golden file: only for a new format"]
fn write_the_golden_file() {
    let made = golden_match();
    let hash = format!("{}\n", made.state_hash());
    std::fs::write(golden_path(GOLDEN[0]), made.checkpoint()).unwrap();
    std::fs::write(golden_path(GOLDEN[1]), hash).unwrap();
}
