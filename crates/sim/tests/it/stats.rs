//! Statistics against a naive count over the list of all events, with a shadow that is restored all
//! the time; and told events by their fields.

use std::collections::BTreeSet;

use rekindle_schema::PlayerId;
use rekindle_schema::record::{Event as Fact, LeaveReason, Step};
use rekindle_sim::{
    Event, EventWriter, Game, GameBuilder, GameType, Harness, IntoSystems as _, Output, Res,
    ResMut, Resource, Rng, Simulation, Stage, Statistic, Stats, Tally, Tick, Time, Typed, Value,
    World, delivery_kind, value,
};

use crate::family::shadowed;

/// A hit for so many points.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "hit")]
pub struct Hit {
    pub by: PlayerId,
    pub points: i16,
}

/// Told only, to one player or to all.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "fall")]
pub struct Fall {
    pub who: Option<PlayerId>,
    pub helpers: Vec<PlayerId>,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq, Value)]
pub enum How {
    Slipped,
    Pushed { by: PlayerId, force: f32 },
}

/// What systems saw of the statistics.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "seen")]
pub struct Seen {
    pub digest: i64,
    pub rounds: u64,
}

macro_rules! statistics {
    ($($name:ident $id:literal $window:expr;)*) => {$(
        pub struct $name;
        impl Statistic for $name {
            const NAME: &'static str = $id;
            const WINDOW: Option<u64> = $window;
            type Of = Hit;
            fn value(hit: &Hit) -> i64 {
                hit.points.into()
            }
            fn player(hit: &Hit) -> Option<PlayerId> {
                (hit.by.0 > 0).then_some(hit.by)
            }
        }
    )*};
}

statistics! {
    Exact "exact" Some(60);
    One "one" Some(1);
    Coarse "coarse" Some(100);
    Whole "whole" None;
}

/// The events that were sent by hand, without values and players.
pub struct Round;
impl Statistic for Round {
    const NAME: &'static str = "round";
    const WINDOW: Option<u64> = Some(10);
    type Of = Hit;
}

pub struct Fights;

impl Game for Fights {
    const NAME: &'static str = "fights";
    type Config = ();
    type Input = ();
    type Command = Hit;
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.resource::<Seen>().tells::<Hit>().delivers::<Fall>();
        game.statistic::<Exact>().statistic::<One>().statistic::<Coarse>();
        game.statistic::<Whole>().statistic::<Round>().statistic::<Round>();
        game.add_systems(Stage::Update, (fight, look).chain());
        game.add_systems(Stage::PostUpdate, late);
        game.add_systems(Stage::Last, next_round.every(97));
    }
    fn max_players((): &()) -> usize {
        4
    }
    fn setup(world: &mut World, (): &()) {
        world.send(Hit { by: PlayerId(1), points: 7 });
    }
    fn join(world: &mut World, player: PlayerId) {
        world.send(Hit { by: player, points: 1 });
    }
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
    fn command(world: &mut World, _: PlayerId, hit: Hit) -> bool {
        world.send(hit.clone());
        world.output().publish(&hit);
        true
    }
}

/// Few hits for a while, then many at once: also of the match alone, and below zero.
fn fight(mut rng: Rng, time: Time, mut hits: EventWriter<Hit>, mut output: Output) {
    let count = if time.tick.0 % 150 < 20 { rng.below(4) } else { u32::from(rng.one_in(12)) };
    for _ in 0..count {
        let hit = Hit { by: PlayerId(rng.below(4).into()), points: rng.below(50) as i16 - 20 };
        output.publish(&hit);
        hits.send(hit);
    }
    if rng.one_in(40) {
        let by = PlayerId(3);
        let how = if rng.one_in(2) { How::Slipped } else { How::Pushed { by, force: 0.5 } };
        output.publish(&Fall { who: Some(PlayerId(9)), helpers: vec![PlayerId(5)], how });
    }
}

fn late(mut rng: Rng, mut hits: EventWriter<Hit>, mut output: Output) {
    if rng.one_in(30) {
        let hit = Hit { by: PlayerId(2), points: 1 };
        output.publish(&hit);
        hits.send(hit);
    }
}

fn look(coarse: Stats<Coarse>, whole: Stats<Whole>, mut seen: ResMut<Seen>) {
    for (player, total) in whole.players() {
        let recent = coarse.recent_of(player);
        seen.digest = seen.digest.wrapping_mul(31) ^ total.sum ^ recent.max ^ recent.count as i64;
    }
}

fn next_round(mut commands: rekindle_sim::Commands, seen: Res<Seen>) {
    let _ = seen.rounds;
    commands.add(|world| {
        world.restart_stats::<Round>();
        world.resource_mut::<Seen>().rounds += 1;
    });
}

/// All hits so far, each with its tick.
type Hits = Vec<(u64, Hit)>;

fn tally<'h>(hits: impl Iterator<Item = &'h Hit>) -> Tally {
    let points: Vec<i64> = hits.map(|hit| hit.points.into()).collect();
    Tally {
        count: points.len() as u64,
        sum: points.iter().sum(),
        min: points.iter().min().copied().unwrap_or(0),
        max: points.iter().max().copied().unwrap_or(0),
    }
}

/// The first tick of a window of `buckets` times `step` ticks, the newest of which is cut off.
fn window_from(tick: u64, step: u64, buckets: u64) -> u64 {
    (tick / step + 1).saturating_sub(buckets) * step
}

fn compare<S: Statistic>(world: &World, hits: &Hits, tick: u64, from: u64) {
    let stats = world.stats::<S>();
    let of = |player: Option<u64>, from: u64| {
        let wanted =
            |(at, hit): &&(u64, Hit)| *at >= from && player.is_none_or(|player| hit.by.0 == player);
        tally(hits.iter().filter(wanted).map(|(_, hit)| hit))
    };
    let name = S::NAME;
    assert_eq!(stats.total(), of(None, 0), "{name}, tick {tick}");
    assert_eq!(stats.recent(), of(None, from), "{name}, tick {tick}, from {from}");
    for player in 1..4 {
        let (total, recent) = (stats.of(PlayerId(player)), stats.recent_of(PlayerId(player)));
        assert_eq!(total, of(Some(player), 0), "{name}, tick {tick}, player {player}");
        assert_eq!(recent, of(Some(player), from), "{name}, tick {tick}, player {player}");
    }
    assert_eq!(stats.of(PlayerId(0)), Tally::default(), "a hit of nobody is nobody's");
}

#[test]
fn statistics_are_what_a_naive_count_over_all_events_gives() {
    for seed in 1..=4 {
        let mut fights = Harness::<Fights>::new(seed);
        let mut hits: Hits = vec![(0, Hit { by: PlayerId(1), points: 7 })];
        let mut fullest = 0;
        for tick in 1..=700 {
            if tick == 300 {
                fights.join(PlayerId(3));
                hits.push((300, Hit { by: PlayerId(3), points: 1 }));
            }
            if tick % 50 == 1 && tick > 300 {
                fights.command(PlayerId(3), &Hit { by: PlayerId(3), points: 1000 });
            }
            for event in fights.tick().events.iter().filter(|event| event.kind == "hit") {
                hits.push((tick, value::from_bytes(&event.payload).unwrap()));
            }
            let world = fights.world();
            compare::<Exact>(world, &hits, tick, window_from(tick, 1, 60));
            compare::<One>(world, &hits, tick, tick);
            compare::<Coarse>(world, &hits, tick, window_from(tick, 2, 50));
            compare::<Whole>(world, &hits, tick, u64::MAX);
            let round = world.stats::<Round>();
            let since = tick / 97 * 97;
            let in_round = hits.iter().filter(|(at, _)| *at >= since).count() as u64;
            assert_eq!((round.total().count, round.total().sum), (in_round, in_round as i64));
            assert_eq!(round.players().count(), 0);
            fullest = fullest.max(world.stats::<Exact>().recent().count);
        }
        assert!(hits.len() > 150 && fullest > 15, "{} hits, {fullest} in a window", hits.len());
        fights.assert_replay_identical();
    }
}

#[test]
fn statistics_survive_restores_byte_by_byte() {
    for seed in 0..3 {
        let live = shadowed::<Fights>(seed, 600);
        assert!(live.world().stats::<Whole>().total().count > 100);
        assert!(live.world().resource::<Seen>().digest != 0);
    }
}

#[test]
fn operators_see_each_statistic_with_its_window() {
    let mut fights = Harness::<Fights>::new(5);
    for _ in 0..130 {
        fights.tick();
    }
    let all = fights.simulation().statistics();
    let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["exact", "one", "coarse", "whole", "round"]);
    let coarse = &all[2];
    assert_eq!((coarse.of.as_str(), coarse.window), ("hit", Some(100)));
    assert_eq!(coarse.window_from, Some(Tick(window_from(130, 2, 50))));
    assert_eq!(coarse.recent, Some(fights.world().stats::<Coarse>().recent()));
    assert_eq!((all[3].window, all[3].recent), (None, None));
    let players: BTreeSet<u64> = coarse.players.iter().map(|found| found.player.0).collect();
    assert_eq!(players, BTreeSet::from([1, 2, 3]));
    assert!(all[4].players.is_empty());
}

#[test]
fn of_too_many_players_the_one_without_events_for_longest_goes() {
    let mut fights = Harness::<Fights>::new(1);
    fights.join(PlayerId(3));
    fights.tick();
    for player in 10..1_200 {
        fights.command(PlayerId(3), &Hit { by: PlayerId(player), points: 1 });
        fights.tick();
    }
    let view = fights.simulation().statistics().swap_remove(3);
    assert_eq!((view.players.len(), view.total.count > 1_190), (1024, true));
    assert!(view.forgotten > 160 && fights.world().stats::<Whole>().of(PlayerId(10)).count == 0);
    assert_eq!(fights.world().stats::<Whole>().of(PlayerId(1_199)).count, 1);
}

macro_rules! fights_like {
    ($type:ident, |$game:ident| $parts:expr) => {
        struct $type;
        impl Game for $type {
            const NAME: &'static str = "fights";
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $parts;
            }
            fn max_players((): &()) -> usize {
                1
            }
            fn setup(_: &mut World, (): &()) {}
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

fn reader(_exact: Stats<Exact>) {}

statistics! {
    Empty "empty" Some(0);
    Twin "exact" None;
    Loud "Loud" None;
}

/// Another event with the id of [`Fall`].
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "fall")]
struct OtherFall {
    who: u8,
}

fights_like!(Wrong, |game| {
    game.statistic::<Empty>().statistic::<Exact>().statistic::<Twin>().statistic::<Loud>();
    game.tells::<Fall>().tells::<OtherFall>();
});
fights_like!(Undeclared, |game| game.add_systems(Stage::Update, reader));

#[test]
fn wrong_declarations_are_refused_with_their_names() {
    let problem = Typed::<Wrong>::new().map(drop).unwrap_err().to_string();
    for words in [
        "statistic `empty` has a window of 0 ticks",
        "statistic `Loud`: a name is",
        "have the same id `statistic(exact)`",
        "two types are told as `fall`",
    ] {
        assert!(problem.contains(words), "{words}: {problem}");
    }
    let problem = Typed::<Undeclared>::new().map(drop).unwrap_err().to_string();
    assert!(problem.contains("add `game.statistic::<…>()`"), "{problem}");
}

// As a later build of `Fights` would declare it: a statistic is gone, another has another window.
statistics! { Wider "coarse" Some(600); }
fights_like!(Later, |game| game.resource::<Seen>().event::<Hit>().statistic::<Wider>());

#[test]
fn another_window_begins_anew_and_what_is_gone_is_said() {
    let fights = Harness::<Fights>::new(2).run(200);
    let before = fights.world().stats::<Coarse>().total();
    let later = Typed::<Later>::new().unwrap();
    let mut later = Typed::restore(&later, &fights.simulation().checkpoint()).unwrap();
    let dropped: Vec<_> = later.dropped().iter().filter(|id| id.contains("statistic")).collect();
    assert!(dropped.len() == 4 && dropped[0] == "statistic(exact)", "{dropped:?}");
    assert_eq!(later.world().stats::<Wider>().recent(), Tally::default());
    later.step(&Step { tick: Tick(201), ..Step::default() }).unwrap();
    let wider = later.world().stats::<Wider>();
    assert_eq!((wider.total(), wider.recent()), (before, Tally::default()));
}

#[test]
fn told_events_inputs_and_commands_are_read_by_their_fields() {
    let game = Typed::<Fights>::new().unwrap();
    let payloads = game.payloads();
    assert_eq!(payloads.kinds().collect::<Vec<_>>(), ["fall", "hit"]);
    let how = How::Pushed { by: PlayerId(3), force: 0.5 };
    let fall = Fall { who: None, helpers: vec![PlayerId(5), PlayerId(6)], how };
    let bytes = value::to_bytes(&fall);
    let read = payloads.event("fall", &bytes).unwrap().to_string();
    assert_eq!(read, r#"{"helpers":[5,6],"how":{"Pushed":{"by":3,"force":0.5}},"who":null}"#);
    let command = value::to_bytes(&Hit { by: PlayerId(1), points: -3 });
    assert_eq!(payloads.command(&command).unwrap().to_string(), r#"{"by":1,"points":-3}"#);
    assert!(payloads.command(&command[1..]).is_err() && payloads.input(&command).is_err());
    assert!(payloads.event("fall", &[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
    let fact = |player: Option<u64>| Fact {
        tick: Tick(1),
        ordinal: 0,
        kind: "fall".to_owned(),
        player: player.map(PlayerId),
        payload: bytes.clone().into(),
    };
    let concerned = |fact: &Fact| {
        (0..10).filter(|player| payloads.concerns(fact, PlayerId(*player))).collect::<Vec<_>>()
    };
    assert_eq!(concerned(&fact(None)), [3, 5, 6]);
    assert_eq!(concerned(&fact(Some(8))), [3, 5, 6, 8]);
}

#[test]
fn delivered_events_are_effects_with_the_same_payload() {
    let mut fights = Harness::<Fights>::new(3);
    let mut falls = 0;
    for _ in 0..400 {
        let output = fights.tick();
        let told: Vec<_> = output.events.iter().filter(|event| event.kind == "fall").collect();
        assert_eq!(told.len(), output.effects.len());
        for (event, effect) in told.iter().zip(&output.effects) {
            assert_eq!(effect.kind, delivery_kind("fall"));
            assert_eq!((effect.id.tick, &effect.payload), (event.tick, &event.payload));
        }
        falls += told.len();
    }
    assert!(falls > 3 && fights.simulation().open_effects().len() == falls, "{falls}");
    fights.assert_replay_identical();
}
