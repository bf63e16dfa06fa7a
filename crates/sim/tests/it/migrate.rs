//! Checkpoints of other builds of a game: fields come and go, types change, components are renamed
//! or retired.

use std::collections::BTreeMap;

use rekindle_schema::PlayerId;
use rekindle_schema::record::{LeaveReason, Step};
use rekindle_sim::value::shape::Datum;
use rekindle_sim::{
    Component, Event, Game, GameBuilder, Resource, SimError, Simulation, Typed, Value, World,
};

/// Implements a build of the game `evolving`.
macro_rules! build {
    ($name:ident, |$game:ident| $build:expr, |$world:ident| $setup:expr) => {
        pub struct $name;
        impl Game for $name {
            const NAME: &'static str = "evolving";
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

mod old {
    use super::*;

    #[derive(Clone, Value)]
    pub struct Item {
        pub kind: Kind,
        pub count: u8,
    }

    #[derive(Clone, Value)]
    pub enum Kind {
        Sword,
        Potion { strength: u8 },
    }

    #[derive(Clone, Component)]
    #[component(id = "hero")]
    pub struct Hero {
        pub level: u8,
        pub gone: [u16; 3],
        pub items: Vec<Item>,
        pub home: (i16, i16),
        pub nick: String,
    }

    #[derive(Clone, Component)]
    #[component(id = "speed")]
    pub struct Speed {
        pub kmh: f32,
    }

    #[derive(Clone, Component)]
    #[component(id = "same")]
    pub struct Same(pub u32);

    #[derive(Clone, Component)]
    #[component(id = "dropped")]
    pub struct Dropped(pub String);

    #[derive(Clone, Resource)]
    #[resource(id = "totals")]
    pub struct Totals {
        pub table: BTreeMap<u16, i32>,
    }

    #[derive(Clone, Event)]
    #[event(id = "news")]
    pub struct News {
        pub number: u8,
    }

    build!(
        Build,
        |game| game
            .component::<Hero>()
            .component::<Speed>()
            .component::<Same>()
            .component::<Dropped>()
            .resource::<Totals>()
            .event::<News>(),
        |world| {
            let items = vec![
                Item { kind: Kind::Potion { strength: 3 }, count: 2 },
                Item { kind: Kind::Sword, count: 1 },
            ];
            world.spawn((
                Hero { level: 9, gone: [1, 2, 3], items, home: (-4, 5), nick: "bo".to_owned() },
                Speed { kmh: 36.0 },
                Same(77),
            ));
            world.spawn(Dropped("x".to_owned()));
            world.insert_resource(Totals { table: BTreeMap::from([(1, -1), (2, -2)]) });
            world.send(News { number: 200 });
        }
    );
}

mod new {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Value)]
    pub struct Item {
        #[value(default = 11)]
        pub weight: u16,
        pub count: u64,
        pub kind: Kind,
    }

    #[derive(Debug, Clone, PartialEq, Value)]
    pub enum Kind {
        Bow,
        Potion {
            strength: Option<i16>,
            #[value(default = true)]
            fresh: bool,
        },
        Sword,
    }

    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "hero", version = 2)]
    pub struct Hero {
        pub nick: String,
        pub level: f32,
        #[value(default = Some(5))]
        pub luck: Option<u8>,
        pub items: Vec<Item>,
        pub home: (i64, i16),
    }

    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "speed", version = 2, migrate = from_kmh)]
    pub struct Speed {
        pub metres_per_second: f32,
    }

    fn from_kmh(from: u16, fields: &mut Datum) -> Result<(), String> {
        let Datum::Struct(fields) = fields else { return Err("not a struct".to_owned()) };
        match (from, fields.remove("kmh")) {
            (1, Some(Datum::Float(kmh))) => {
                fields.insert("metres_per_second".to_owned(), Datum::Float(kmh / 3.6))
            }
            other => return Err(format!("{other:?}")),
        };
        Ok(())
    }

    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "same")]
    pub struct Same(pub u32);

    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "brand-new")]
    pub struct BrandNew(u8);

    #[derive(Debug, Clone, PartialEq, Resource)]
    #[resource(id = "totals")]
    pub struct Totals {
        pub table: BTreeMap<u64, i64>,
        #[value(default = "none".to_owned())]
        pub note: String,
    }

    #[derive(Debug, Clone, PartialEq, Event)]
    #[event(id = "news")]
    pub struct News {
        pub number: u32,
    }

    build!(
        Build,
        |game| {
            game.component::<Hero>()
                .component::<Speed>()
                .component::<Same>()
                .component::<BrandNew>()
                .resource::<Totals>()
                .event::<News>();
            game.retired("dropped")
        },
        |_world| {}
    );

    build!(
        Forgetful,
        |game| game
            .component::<Hero>()
            .component::<Speed>()
            .component::<Same>()
            .resource::<Totals>()
            .event::<News>(),
        |_world| {}
    );
}

fn checkpoint() -> bytes::Bytes {
    Typed::<old::Build>::new().unwrap().create(b"", 3).unwrap().checkpoint()
}

#[test]
fn old_state_is_brought_up_to_date_by_field_name() {
    let game = Typed::<new::Build>::new().unwrap();
    let mut made = game.restore(&checkpoint()).unwrap();
    let world = made.world_mut();
    let hero = world.query::<(&new::Hero, &new::Speed, &new::Same), (), _>(|q| {
        q.iter().map(|(h, s, t)| (h.clone(), s.clone(), t.clone())).next()
    });
    let items = vec![
        new::Item {
            weight: 11,
            count: 2,
            kind: new::Kind::Potion { strength: Some(3), fresh: true },
        },
        new::Item { weight: 11, count: 1, kind: new::Kind::Sword },
    ];
    let expected =
        new::Hero { nick: "bo".to_owned(), level: 9.0, luck: Some(5), items, home: (-4, 5) };
    assert_eq!(hero, Some((expected, new::Speed { metres_per_second: 10.0 }, new::Same(77))));
    assert_eq!(world.len(), 2, "an entity whose components are gone stays");
    let totals = world.resource::<new::Totals>().clone();
    assert_eq!(
        totals,
        new::Totals { table: BTreeMap::from([(1, -1), (2, -2)]), note: "none".to_owned() }
    );

    let again = game.restore(&made.checkpoint()).unwrap();
    assert_eq!(again.state_hash(), made.state_hash());
    made.step(&Step { tick: rekindle_schema::Tick(1), ..Step::default() }).unwrap();
}

#[test]
fn what_this_build_does_not_know_is_refused_by_name() {
    let problem = |result: Result<(), SimError>| result.unwrap_err().to_string();
    let forgetful = Typed::<new::Forgetful>::new().unwrap();
    assert_eq!(
        problem(forgetful.restore(&checkpoint()).map(|_| ())),
        "RK-SIM-002: checkpoint of game `evolving`: component `dropped`: this build has no such \
         component: \
         if it was dropped on purpose, say so with `game.retired(\"…\")`"
    );
    let newer = Typed::<new::Build>::new().unwrap().create(b"", 1).unwrap().checkpoint();
    let old = Typed::<old::Build>::new().unwrap();
    let problem = problem(old.restore(&newer).map(|_| ()));
    assert!(
        problem.contains("component `hero`: its version 2 is newer than version 1 of this build"),
        "{problem}"
    );
}

#[test]
fn every_truncation_and_flipped_bit_of_an_old_state_is_survived() {
    let game = Typed::<new::Build>::new().unwrap();
    let mut bytes = checkpoint().to_vec();
    for len in 0..bytes.len() {
        assert!(game.restore(&bytes[..len]).is_err());
    }
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(made) = game.restore(&bytes) {
            assert!(game.restore(&made.checkpoint()).is_ok());
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

mod configured {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Map {
        pub width: u32,
    }

    #[derive(Default, Serialize, Deserialize)]
    pub struct Old {
        pub size: u32,
        pub fog: bool,
    }

    #[derive(Default, Serialize, Deserialize)]
    pub struct New {
        pub map: Map,
        pub lives: u8,
    }

    macro_rules! build {
        ($name:ident, $config:ident, |$game:ident| $build:expr) => {
            pub struct $name;
            impl Game for $name {
                const NAME: &'static str = "configured";
                type Config = $config;
                type Input = ();
                type Command = ();
                type Bot = ();
                fn build($game: &mut GameBuilder<Self>) {
                    let _built: &mut GameBuilder<Self> = $build;
                }
                fn max_players(_: &$config) -> usize {
                    1
                }
                fn setup(_: &mut World, _: &$config) {}
                fn join(_: &mut World, _: PlayerId) {}
                fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
            }
        };
    }

    build!(Before, Old, |game| game);
    build!(Careless, New, |game| game);
    build!(After, New, |game| game.config_renamed("size", "map.width").config_retired("fog"));
    build!(Confused, New, |game| game.config_renamed("size", "map.height").config_retired("lives"));
}

/// A build in which one component came to require two others, of which one is new.
mod required {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "shield")]
    pub struct Shield {
        #[value(default = 30, within = 1..=90)]
        pub points: u8,
    }

    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "aura")]
    pub struct Aura(#[value(default = 2)] pub u8);

    pub mod before {
        #[derive(Debug, Clone, PartialEq, rekindle_sim::Component)]
        #[component(id = "knight")]
        pub struct Knight;
    }

    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "knight", requires(Shield, Aura))]
    pub struct Knight;

    build!(Before, |game| game.component::<before::Knight>().component::<Shield>(), |world| {
        for points in 1..=5 {
            let knight = world.spawn(before::Knight);
            if points > 3 {
                world.insert(knight, Shield { points });
            }
        }
        world.spawn(());
    });
    build!(
        After,
        |game| game.component::<Knight>().component::<Shield>().component::<Aura>(),
        |_world| {}
    );
}

#[test]
fn entities_of_an_older_build_get_what_their_components_came_to_require() {
    use required::{After, Aura, Before, Shield};
    let old = Typed::<Before>::new().unwrap().create(b"", 1).unwrap().checkpoint();
    let after = Typed::<After>::new().unwrap();
    let mut made = after.restore(&old).unwrap();
    assert_eq!(made.filled(), ["aura (5)", "shield (3)"]);
    let shields = |made: &rekindle_sim::Match<After>| -> Vec<u8> {
        made.world().all::<Shield>().map(|(_, shield)| shield.points).collect()
    };
    assert_eq!(shields(&made), [30, 30, 30, 4, 5]);
    assert!(made.world().all::<Aura>().map(|(_, aura)| aura.0).eq([2; 5]));
    // It goes on as the one that is restored once more, of which nothing lacks.
    let mut again = after.restore(&made.checkpoint()).unwrap();
    assert!(again.filled().is_empty());
    for tick in 1..=3 {
        let step = Step { tick: rekindle_schema::Tick(tick), ..Step::default() };
        assert_eq!(made.step(&step).unwrap(), again.step(&step).unwrap());
        assert_eq!(made.checkpoint(), again.checkpoint());
    }
    // What a default was accepted for is what a write that is not falls back to.
    let (knight, _) = made.world().all::<Shield>().next().unwrap();
    made.world_mut().insert(knight, Shield { points: 99 });
    made.step(&Step { tick: rekindle_schema::Tick(4), ..Step::default() }).unwrap();
    assert_eq!(shields(&made), [30, 30, 30, 4, 5]);
}

#[test]
fn keys_of_a_configuration_are_renamed_retired_and_defaulted() {
    use configured::{After, Before, Careless, Confused};
    let old = Typed::<Before>::new()
        .unwrap()
        .create(br#"{"size":9,"fog":true}"#, 1)
        .unwrap()
        .checkpoint();
    let Err(refused) = Typed::<Careless>::new().unwrap().restore(&old) else {
        panic!("it cannot know `size`")
    };
    assert!(
        matches!(&refused, SimError::Config { problem, .. } if problem.starts_with("unknown key \
            `fog`")),
        "{refused}"
    );

    let after = Typed::<After>::new().unwrap();
    let restored = after.restore(&old).unwrap();
    let again = after.restore(&restored.checkpoint()).unwrap();
    assert_eq!(again.checkpoint(), restored.checkpoint());
    let config = |json: &str| {
        rekindle_sim::GameType::config_from_json(&after, json)
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    };
    assert_eq!(config(r#"{"size":9,"fog":true}"#).unwrap(), r#"{"lives":0,"map":{"width":9}}"#);
    assert!(
        config(r#"{"size":9,"map":{"width":8}}"#)
            .unwrap_err()
            .to_string()
            .contains("`size` is called `map.width` now")
    );
    assert!(config(r#"{"sise":9}"#).is_err(), "what never was a key is none");

    let Err(confused) = Typed::<Confused>::new() else { panic!("its declarations are wrong") };
    let confused = confused.to_string();
    for words in ["`lives` is a key of the configuration", "no such key"] {
        assert!(confused.contains(words), "{confused}");
    }
}

mod phases {
    use rekindle_schema::Tick;
    use rekindle_sim::{Simulation, State, Typed};

    use super::*;

    mod old {
        use super::*;

        #[derive(Clone, Copy, Value)]
        pub enum Phase {
            Lobby,
            Live,
        }

        #[derive(Clone, Resource)]
        #[resource(id = "course")]
        pub struct Course {
            pub phase: Phase,
            pub since: Tick,
            pub round: u32,
        }

        build!(Build, |game| game.resource::<Course>(), |world| {
            assert!(matches!(world.resource::<Course>().phase, Phase::Lobby));
            world.insert_resource(Course { phase: Phase::Live, since: Tick(12), round: 3 });
        });
    }

    #[derive(Debug, Clone, Copy, PartialEq, Resource)]
    #[resource(id = "course", version = 2)]
    enum Phase {
        Lobby,
        Live,
    }

    build!(
        Build,
        |game| game.states::<Phase>(|phase| {
            phase.allow(Phase::Lobby, Phase::Live);
        }),
        |_world| {}
    );

    #[test]
    fn a_resource_with_a_phase_becomes_a_machine_that_stands_where_it_stood() {
        let before = Typed::<old::Build>::new().unwrap().create(b"", 3).unwrap().checkpoint();
        let made = Typed::<Build>::new().unwrap().restore(&before).unwrap();
        let state = made.world().resource::<State<Phase>>().clone();
        assert_eq!((state.now(), state.since(), state.until()), (Phase::Live, Tick(12), None));
        let dropped = made.dropped().join("\n");
        assert!(dropped.contains("round"), "what has no place is said: {dropped}");
    }
}
