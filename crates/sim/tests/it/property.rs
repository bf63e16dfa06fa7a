//! Matches by chance: games with a seeded bug, and the few acts of players that trigger it.

use std::cell::Cell;

use rekindle_schema::batch::{Frame, FrameHeader};
use rekindle_schema::bugreport::BugReport;
use rekindle_schema::lease::{DEFAULT_REGION, MatchLease, MatchSpec, MatchState};
use rekindle_schema::record::{Beat, Flush};
use rekindle_schema::{BuildId, Epoch, Incarnation, MatchId, Seq};
use rekindle_sim::{
    Component, Deed, Game, GameBuilder, GameType as _, Harness, Inputs, LeaveReason, Move,
    PlayerId, Players, Property, Query, Res, Resource, Stage, Tick, Typed, Value, World,
};

/// A safe that players turn a dial of. It has a bug for each test.
struct Safe;

#[derive(Debug, Clone, Resource)]
#[resource(id = "dial")]
struct Dial {
    armed: bool,
    turned: u64,
}

#[derive(Debug, Clone, Component)]
#[component(id = "hand")]
struct Hand {
    player: PlayerId,
    at: f32,
}

#[derive(Debug, Clone, PartialEq, Value)]
enum Ask {
    Arm,
    Open { number: u8 },
    Sum { of: Vec<u8> },
}

/// What of the safe is broken.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Broken {
    /// Opening it with a number above 200 panics once it is armed, after 500 ticks.
    opens: bool,
    /// It counts on the side.
    counts: bool,
}

thread_local! {
    /// What no checkpoint has.
    static ASIDE: Cell<u64> = const { Cell::new(0) };
}

impl Game for Safe {
    const NAME: &'static str = "safe";
    type Config = Broken;
    type Input = f32;
    type Command = Ask;
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Hand>().resource::<Dial>().add_systems(Stage::Update, turn);
    }

    fn max_players(_: &Broken) -> usize {
        8
    }

    fn setup(_: &mut World, _: &Broken) {}

    fn join(world: &mut World, player: PlayerId) {
        let hand = world.spawn(Hand { player, at: 0.0 });
        world.resource_mut::<Players>().set_avatar(player, hand);
    }

    fn leave(world: &mut World, player: PlayerId, _: LeaveReason) {
        let hand = world.resource::<Players>().avatar(player);
        if let Some(hand) = hand {
            world.despawn(hand);
        }
    }

    fn command(world: &mut World, _: PlayerId, command: Ask) -> bool {
        let broken = world.constant::<Broken>();
        match command {
            Ask::Arm => world.resource_mut::<Dial>().armed = true,
            Ask::Open { number } => {
                let armed = world.resource::<Dial>().armed;
                let late = world.tick() > Tick(500) && armed && number > 200;
                assert!(!(broken.opens && late), "the safe blew up at {number}");
            }
            Ask::Sum { of } if broken.counts && !of.is_empty() => {
                world.resource_mut::<Dial>().turned += ASIDE.replace(ASIDE.get() + 1);
            }
            Ask::Sum { .. } => {}
        }
        true
    }
}

fn turn(inputs: Inputs<Safe>, players: Res<Players>, mut hands: Query<&mut Hand>) {
    for input in &inputs {
        let hand = players.avatar(input.player).unwrap_or_default();
        if let Some(mut hand) = hands.get_mut(hand) {
            hand.at = input.input;
        }
    }
}

/// Nobody turns further than 900.
fn within(world: &World) -> Result<(), String> {
    match world.all::<Hand>().find(|(_, hand)| hand.at > 900.0 && hand.at < 1e9) {
        Some((_, hand)) => Err(format!("player {} turned to {}", hand.player, hand.at)),
        None => Ok(()),
    }
}

#[test]
fn of_a_thousand_acts_the_three_that_make_it_panic_are_left() {
    let safe = Property::<Safe>::new(3).config(r#"{"opens":true}"#).players(8).ticks(2_000);
    let found = safe.find().expect("it is found");
    assert!(found.problem.contains("RK-SIM-005: system `command` panicked"), "{}", found.problem);
    let deeds: Vec<&Deed> = found.acts.iter().map(|act| &act.deed).collect();
    assert!(matches!(deeds[..], [Deed::Join, Deed::Command(_), Deed::Command(_)]), "{deeds:?}");
    assert!(found.of > 1000 && found.complete, "of {}, all: {}", found.of, found.complete);
    assert_eq!(found.tick, Tick(501), "the ticks between are as few as they can be");
    // Whoever reads the test sees what was done, and it begins where the match began.
    for line in [
        "fn found_with_seed_3() {",
        "Safe>::with_config(3, r#\"{\"opens\":true}\"#);",
        ", r#\"\"Arm\"\"#);",
        ", r#\"{\"Open\":{\"number\":2",
    ] {
        assert!(found.test.contains(line), "{line} is not in {}", found.test);
    }
}

#[test]
#[should_panic(expected = "system `command` panicked at tick 501: the safe blew up at 255")]
fn what_is_printed_fails_as_it_was_found() {
    let mut game = Harness::<Safe>::with_config(3, r#"{"opens":true}"#);
    game.join(PlayerId(5));
    game.run_to(Tick(499));
    game.command_json(PlayerId(5), r#""Arm""#);
    game.run_to(Tick(500));
    game.command_json(PlayerId(5), r#"{"Open":{"number":255}}"#);
    game.run_to(Tick(501));
}

#[test]
fn what_no_checkpoint_has_and_what_breaks_a_rule_are_found_in_two_acts() {
    let found = Property::<Safe>::new(1).config(r#"{"counts":true}"#).find().expect("it differs");
    let problem = &found.problem;
    assert!(problem.contains("RK-SIM-012") && problem.contains("dial"), "{problem}");
    assert!(found.acts.len() == 2 && found.of > 2, "{:?} of {}", found.acts, found.of);

    let found = Property::<Safe>::new(1).holds(within).find().expect("somebody turns that far");
    assert!(found.problem.contains("within` does not hold after tick"), "{}", found.problem);
    let deeds: Vec<&Deed> = found.acts.iter().map(|act| &act.deed).collect();
    assert!(matches!(deeds[..], [Deed::Join, Deed::Input(_)]), "{deeds:?}");
    assert!(found.test.contains("within(game.world()).unwrap();"), "{}", found.test);
}

#[test]
fn a_game_without_such_a_bug_passes() {
    let aside = |_: &World| Ok(());
    assert!(Property::<Safe>::new(1).holds(aside).without_bots().cases(3).find().is_none());
}

#[test]
fn a_scripted_client_acts_when_it_says_and_is_asked_no_more_when_it_left() {
    let script = |tick: Tick, _: &rekindle_sim::View<'_>| match tick.0 {
        3 => vec![Move::Input(1.5), Move::Command(Ask::Arm)],
        5 => vec![Move::Leave],
        6.. => vec![Move::Input(9.0)],
        _ => vec![],
    };
    let game = Harness::<Safe>::new(1).client(PlayerId(4), script).run(8);
    let busy: Vec<u64> =
        game.steps().iter().filter(|step| !step.is_empty()).map(|step| step.tick.0).collect();
    assert_eq!(busy, [1, 3, 5]);
    assert!(game.world().resource::<Dial>().armed && game.world().is_empty());
}

/// The bug report of a match, as a node records it: two records, a beat in each.
fn report(played: &Harness<Safe>, config: &str) -> BugReport {
    let spec = MatchSpec {
        game: "safe".into(),
        config: Typed::<Safe>::new().unwrap().config_from_json(config).unwrap(),
        seed: 3,
        tick_rate: 30,
        house_bots: 0,
        created_ms: 0,
    };
    let half = played.steps().len() / 2;
    let frame = |seq: u64, (from, to): (usize, usize)| {
        let steps = &played.steps()[from..to];
        let (first, last) = (steps[0].tick, steps[steps.len() - 1].tick);
        let beats = vec![Beat { tick: last, hash: played.hashes()[to - 1] }];
        let steps = steps.iter().filter(|step| !step.is_empty()).cloned().collect();
        let header = FrameHeader {
            match_id: MatchId(1),
            epoch: Epoch(1),
            seq: Seq(seq),
            first_tick: first,
            last_tick: last,
            build: BuildId(1),
            time_ms: 0,
            prev_crc: 0,
        };
        let payload = Flush { first, last, steps, beats, ..Flush::default() }.encode();
        let mut bytes = Vec::new();
        Frame::encode(&header, &payload, &mut bytes);
        Frame::decode(&bytes.into()).unwrap().0
    };
    let lease = MatchLease {
        match_id: MatchId(1),
        version: 1,
        epoch: Epoch(1),
        incarnation: Incarnation(1),
        state: MatchState::Running,
        attempts: 0,
        lineage: Vec::new(),
        spec,
        region: DEFAULT_REGION.into(),
    };
    BugReport {
        release: "0.1.0".into(),
        build: BuildId(1),
        made_ms: 0,
        lease,
        settings: Vec::new(),
        notes: Vec::new(),
        start: None,
        frames: vec![frame(1, (0, half)), frame(2, (half, played.steps().len()))],
    }
}

#[test]
fn a_bug_report_is_played_again_and_goes_on() {
    let mut played = Harness::<Safe>::with_config(3, "{}");
    played.join(PlayerId(7));
    played.run_to(Tick(4));
    played.command(PlayerId(7), &Ask::Arm);
    played.run_to(Tick(20));
    let file = report(&played, "{}").encode();
    let again = Harness::<Safe>::from_bugreport(&file).replay_to(Tick(4));
    assert!(!again.world().resource::<Dial>().armed);
    let mut again = again.replay();
    assert_eq!((again.hashes(), again.steps()), (played.hashes(), played.steps()));
    again.command(PlayerId(7), &Ask::Open { number: 1 });
    assert_eq!(again.tick().commands, [true], "the session is as it was");
    again.assert_each_tick_restored_identical();
}

#[test]
#[should_panic(expected = "RK-SIM-013: after tick 5 the state is not what was recorded")]
fn a_bug_report_that_this_build_plays_otherwise_is_refused() {
    let mut played = Harness::<Safe>::with_config(3, "{}");
    played.run_to(Tick(10));
    let mut wrong = report(&played, "{}");
    wrong.lease.spec.seed = 4;
    let _ = Harness::<Safe>::from_bugreport(&wrong.encode()).replay();
}

#[test]
#[should_panic(expected = "RK-SIM-010: this is no bug report of `safe`: its checksum is")]
fn a_damaged_bug_report_is_refused() {
    let mut played = Harness::<Safe>::with_config(3, "{}");
    played.run_to(Tick(10));
    let mut file = report(&played, "{}").encode();
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let _ = Harness::<Safe>::from_bugreport(&file);
}
