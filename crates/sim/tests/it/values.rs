//! Values of a world by name against naive counts, validations that warn and that stop, and a
//! shadow that is restored all the time.

use std::collections::BTreeMap;

use rekindle_schema::record::{LeaveReason, Step};
use rekindle_sim::{
    Broken, Commands, Component, Entity, EventReader, Game, GameBuilder, GameType as _, Harness,
    IfBroken, Inputs, Local, Match, PlayerId, Query, RemovedComponents, Res, ResMut, Resource, Rng,
    SimError, Simulation as _, Stage, Tick, Typed, World,
};
use serde_json::json;

use crate::family::shadowed;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "purse")]
pub struct Purse {
    pub team: u8,
    pub coins: i64,
}

/// What the purses should have, and what systems were told of it.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "bank")]
pub struct Bank {
    pub coins: i64,
    pub told: u64,
    pub richest: i64,
}

fn adds_up(bank: Res<Bank>, purses: Query<&Purse>) -> Result<(), String> {
    let sum: i64 = purses.iter().map(|purse| purse.coins).sum();
    if sum == bank.coins { Ok(()) } else { Err(format!("{sum} of {} coins", bank.coins)) }
}

fn no_debts(purses: Query<(Entity, &Purse)>) -> Result<(), String> {
    let poor = purses.iter().find(|(_, purse)| purse.coins < -100);
    poor.map_or(Ok(()), |(entity, purse)| Err(format!("{entity:?} has {}", purse.coins)))
}

/// Purses come, go and get coins; now and then one is lost on the way to the bank's book.
fn trade(
    mut rng: Rng,
    mut commands: Commands,
    mut bank: ResMut<Bank>,
    mut purses: Query<(Entity, &mut Purse)>,
) {
    for (entity, mut purse) in &mut purses {
        if rng.one_in(9) {
            let coins = i64::from(rng.below(20)) - 8;
            purse.coins += coins;
            bank.coins += coins - i64::from(rng.one_in(50));
        } else if rng.one_in(90) {
            bank.coins -= purse.coins;
            commands.despawn(entity);
        }
    }
    if rng.one_in(6) {
        let (team, coins) = (rng.below(3) as u8, i64::from(rng.below(5)));
        commands.spawn(Purse { team, coins });
        bank.coins += coins;
    }
}

/// The books are put right: what was told of the tick before is true then.
fn audit(
    broken: EventReader<Broken>,
    mut commands: Commands,
    mut bank: ResMut<Bank>,
    purses: Query<&Purse>,
) {
    for broken in broken.read() {
        assert_eq!(broken.validation, "adds_up");
        bank.told += 1;
        bank.coins = purses.iter().map(|purse| purse.coins).sum();
    }
    commands.add(|world| {
        let richest = world.value::<Option<f64>>("richest").unwrap_or_default() as i64;
        world.resource_mut::<Bank>().richest = richest;
    });
}

macro_rules! game {
    ($name:ident, $id:literal, |$game:ident| $build:expr) => {
        struct $name;
        impl Game for $name {
            const NAME: &'static str = $id;
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $game.component::<Purse>().resource::<Bank>();
                $build;
            }
            fn max_players((): &()) -> usize {
                4
            }
            fn setup(_: &mut World, (): &()) {}
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

game!(Market, "market", |game| {
    game.event::<Broken>()
        .add_systems(Stage::First, audit)
        .add_systems(Stage::Update, trade)
        .aggregates::<Purse>(|purses| {
            purses
                .count("debtors", |purse| purse.coins < 0)
                .sum("coins", |purse| purse.coins as f64)
                .min("poorest", |purse| purse.coins as f64)
                .max("richest", |purse| purse.coins as f64)
                .count_by("purses_by_team", |purse| purse.team)
                .sum_by("coins_by_team", |purse| purse.team, |purse| purse.coins as f64);
        })
        .calculation("missing", |bank: Res<Bank>, purses: Query<&Purse>| {
            bank.coins - purses.iter().map(|purse| purse.coins).sum::<i64>()
        })
        .validation("adds_up", 3, IfBroken::Warn, adds_up)
        .validation("no_debts", 1, IfBroken::Stop, no_debts);
});

// The same, by whose values nobody can tell it.
game!(Plain, "market", |game| {
    game.event::<Broken>().add_systems(Stage::First, audit).add_systems(Stage::Update, trade);
});

#[test]
fn values_are_what_a_naive_count_says_and_a_restored_world_says_the_same() {
    for seed in 1..=3 {
        let live = shadowed::<Market>(seed, 900);
        assert!(live.world().resource::<Bank>().told > 10, "{:?}", live.world().resource::<Bank>());
    }
    let mut market = Harness::<Market>::new(5);
    let mut debtors = 0;
    for _ in 0..300 {
        market.tick();
        let all: Vec<Purse> = market.world().all::<Purse>().map(|(_, purse)| purse).collect();
        let coins = |team: Option<u8>| -> f64 {
            let of = all.iter().filter(|purse| team.is_none_or(|team| purse.team == team));
            of.map(|purse| purse.coins as f64).sum()
        };
        let count = all.iter().filter(|purse| purse.coins < 0).count() as u64;
        debtors += count;
        assert_eq!(market.value::<u64>("debtors"), count);
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        assert!(same(market.value("coins"), coins(None) + 0.0));
        let all_coins = || all.iter().map(|purse| purse.coins);
        let found = (market.value("poorest"), market.value("richest"));
        let least = all_coins().min().map(|coins| coins as f64);
        assert_eq!(found, (least, all_coins().max().map(|coins| coins as f64)));
        let by_team: BTreeMap<u8, f64> = market.value("coins_by_team");
        assert!(
            by_team.iter().all(|(team, sum)| same(*sum, coins(Some(*team)) + 0.0)),
            "{by_team:?}"
        );
        let counts: BTreeMap<u8, u64> = market.value("purses_by_team");
        assert_eq!(counts.values().sum::<u64>(), all.len() as u64);
        assert!(counts.keys().eq(by_team.keys()));
        let missing: i64 = market.value("missing");
        assert_eq!(missing == 0, market.world().broken().is_empty(), "{missing}");
    }
    assert!(debtors > 100, "{debtors}");
    market.assert_replay_identical();
}

#[test]
fn values_and_validations_are_no_state_of_a_match() {
    let (market, plain) = (Typed::<Market>::new().unwrap(), Typed::<Plain>::new().unwrap());
    let without = Typed::create(&plain, b"", 7).unwrap();
    let with = Typed::create(&market, b"", 7).unwrap();
    assert_eq!(with.state_hash(), without.state_hash());
    let mut asked = Harness::<Market>::new(7).run(20);
    let hash = asked.simulation().state_hash();
    assert_eq!(asked.simulation().values().len(), 7);
    assert_eq!(asked.simulation().validations().len(), 2);
    assert_eq!(asked.simulation().state_hash(), hash);
    asked.tick();
    let unasked = Harness::<Market>::new(7).run(21);
    assert_eq!(asked.hashes(), unasked.hashes());
}

#[test]
fn a_warning_is_told_where_the_tick_is_made_and_to_systems_in_the_next_one() {
    let mut market = Harness::<Market>::new(1);
    market.world_mut().resource_mut::<Bank>().coins = -10_000;
    for tick in 1..=2 {
        assert!(market.tick().broken.is_empty(), "tick {tick} is not divided by 3");
    }
    let broken = market.tick().broken.clone();
    assert_eq!((broken.len(), broken[0].validation.as_str()), (1, "adds_up"));
    assert!(broken[0].problem.ends_with("coins"), "{broken:?}");
    assert_eq!(market.world().resource::<Bank>().told, 0);
    market.tick();
    let bank = market.world().resource::<Bank>().clone();
    assert!(bank.told == 1 && bank.coins > -10_000, "{bank:?}");
    market.assert_replay_identical();
}

/// A match whose next tick is not made: one owes too much.
fn indebted(game: &Typed<Market>) -> Match<Market> {
    let mut made = Typed::create(game, b"", 3).unwrap();
    made.step(&Step { tick: Tick(1), ..Step::default() }).unwrap();
    made.world_mut().spawn(Purse { team: 1, coins: -900 });
    made
}

#[test]
fn what_stops_a_match_stops_it_at_the_same_tick_wherever_it_is_made() {
    let game = Typed::<Market>::new().unwrap();
    let made = indebted(&game);
    let state = made.checkpoint();
    let step = Step { tick: Tick(2), ..Step::default() };
    for mut made in [made, Typed::restore(&game, &state).unwrap()] {
        let stopped = made.step(&step).unwrap_err();
        let SimError::Broken { validation, tick, problem } = &stopped else { panic!("{stopped}") };
        assert_eq!((validation.as_str(), *tick), ("no_debts", Tick(2)));
        assert!(problem.ends_with("has -900"), "{problem}");
        assert!(stopped.to_string().starts_with("RK-SIM-036: validation `no_debts`"), "{stopped}");
    }
}

#[test]
#[should_panic(expected = "seed 3, tick 1: [Broken { validation: \"no_debts\"")]
fn a_test_that_asks_for_a_valid_world_fails_with_what_is_broken() {
    let mut market = Harness::<Market>::new(3);
    market.tick();
    market.world_mut().spawn(Purse { team: 1, coins: -900 });
    market.world_mut().resource_mut::<Bank>().coins -= 900;
    market.assert_valid();
}

#[test]
fn operators_see_all_values_and_what_is_broken() {
    let game = Typed::<Market>::new().unwrap();
    let made = indebted(&game);
    let values: BTreeMap<_, _> =
        made.values().into_iter().map(|value| (value.name, value.value)).collect();
    assert_eq!(values["poorest"], Ok(json!(-900.0)));
    assert_eq!(values["coins_by_team"].as_ref().unwrap()["1"], json!(-900.0));
    let found = made.validations();
    let problem = |place: usize| found[place].problem.clone().unwrap_or_default();
    assert_eq!((found[0].name.as_str(), found[0].every), ("adds_up", 3));
    assert_eq!((found[1].name.as_str(), found[1].if_broken), ("no_debts", IfBroken::Stop));
    assert!(problem(0).contains("coins") && problem(1).ends_with("has -900"), "{found:?}");
}

game!(Faulty, "faulty", |game| {
    game.calculation("first", |purses: Query<&Purse>| purses.iter().next().unwrap().coins)
        .calculation("pairs", |purses: Query<&Purse>| {
            let pair = |purse: &Purse| ((purse.team, purse.team), 1);
            purses.iter().map(pair).collect::<BTreeMap<_, _>>()
        })
        .validation("first_is_rich", 2, IfBroken::Stop, |purses: Query<&Purse>| {
            assert!(purses.iter().next().unwrap().coins > 0);
            Ok(())
        });
});

#[test]
fn a_value_that_fails_says_so_and_harms_nothing() {
    let game = Typed::<Faulty>::new().unwrap();
    let mut made = Typed::create(&game, b"", 1).unwrap();
    let problem = |made: &Match<Faulty>, place: usize| made.values()[place].value.clone();
    assert!(problem(&made, 0).unwrap_err().contains("None"));
    assert_eq!(problem(&made, 1), Ok(json!({})));
    assert!(made.validations()[0].problem.as_ref().unwrap().contains("None"));
    made.world_mut().spawn(Purse { team: 1, coins: 4 });
    assert_eq!(problem(&made, 0), Ok(json!(4)));
    assert!(problem(&made, 1).unwrap_err().contains("key must be a string"));
    // In a tick it is a panic as that of a system, and is named.
    let mut made = Typed::create(&game, b"", 1).unwrap();
    made.step(&Step { tick: Tick(1), ..Step::default() }).unwrap();
    let error = made.step(&Step { tick: Tick(2), ..Step::default() }).unwrap_err().to_string();
    assert!(error.contains("system `validation(first_is_rich)` panicked at tick 2"), "{error}");
}

#[test]
#[should_panic(expected = "value `richst` is not declared, did you mean `richest`?")]
fn a_value_that_nobody_declared_is_an_error_with_a_suggestion() {
    Harness::<Market>::new(1).value::<Option<f64>>("richst");
}

#[test]
#[should_panic(expected = "value `debtors` is a `u64`, not a `i64`")]
fn a_value_of_another_type_is_an_error_with_both() {
    Harness::<Market>::new(1).value::<i64>("debtors");
}

#[derive(Debug, Clone, Component)]
#[component(id = "unknown")]
struct Unknown;

game!(Wrong, "wrong", |game| {
    game.aggregates::<Purse>(|purses| {
        purses.count("purses", |_| true).count("Team purses", |_| true);
    })
    .aggregates::<Unknown>(|all| {
        all.count("of_unknown", |_| true);
    })
    .calculation("writes", |mut bank: ResMut<Bank>| bank.told += 1)
    .calculation("acts", |_: Commands| ())
    .calculation("keeps", |_: Local<u32>| ())
    .calculation("waits", |_: Inputs<Wrong>| ())
    .calculation("mourns", |_: RemovedComponents<Purse>| ())
    .validation("purses", 0, IfBroken::Stop, |_: Query<&Purse>| Ok(()));
});

#[test]
fn all_that_is_wrong_with_values_is_said_at_the_start() {
    let problem = Typed::<Wrong>::new().err().unwrap().to_string();
    for words in [
        "validation `purses`: another value or validation has this name",
        "value `Team purses`: a name is 1 to 64 characters",
        "value `of_unknown`: component `",
        "is not registered: add `game.component::<…>()`",
        "value `writes`: it changes `bank`, and may only look",
        "value `acts`: it changes `Commands`, and may only look",
        "value `keeps`: it has a `Local`",
        "value `waits`: it reads `Inputs`",
        "value `mourns`: it reads `RemovedComponents`",
        "validation `purses`: it is checked every 0 ticks",
    ] {
        assert!(problem.contains(words), "{words}: {problem}");
    }
    assert_eq!(Typed::<Market>::new().unwrap().name(), "market");
}
