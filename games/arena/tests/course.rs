//! The course of a match: from the lobby to its one result.

use rekindle_arena::Arena;
use rekindle_arena::components::{Arms, Clock, Position, Score};
use rekindle_arena::events::{PhaseChange, Reason};
use rekindle_arena::geometry::vec2;
use rekindle_arena::input::{Command, Input};
use rekindle_arena::phases::Phase;
use rekindle_arena::weapons::WeaponKind;
use rekindle_sim::value::from_bytes;
use rekindle_sim::{GameType, Harness, PlayerId, Players, Simulation, State, Typed};
use serde_json::Value;

type Fight = Harness<Arena>;

fn phases(fight: &Fight) -> Vec<(Phase, Reason)> {
    let changes = fight.events().filter(|event| event.kind == "phase");
    changes
        .map(|event| from_bytes::<PhaseChange>(&event.payload).unwrap())
        .map(|change| (change.phase, change.reason))
        .collect()
}

fn results(fight: &Fight) -> Vec<Value> {
    fight
        .effects()
        .map(|effect| {
            (assert_eq!(effect.kind, "result"), serde_json::from_slice(&effect.payload).unwrap()).1
        })
        .collect()
}

fn run_until(fight: &mut Fight, most: u64, done: impl Fn(&Fight) -> bool) {
    for _ in 0..most {
        if done(fight) {
            return;
        }
        fight.tick();
    }
    panic!("not within {most} ticks: {:?}", phases(fight));
}

fn phase(fight: &Fight) -> Phase {
    fight.world().resource::<State<Phase>>().now()
}

#[test]
fn a_finished_match_has_exactly_one_result_and_ends_after_the_podium() {
    let mut fight = Fight::with_config(5, r#"{"score_limit": 4, "podium_s": 2}"#).bots(6);
    run_until(&mut fight, 3000, |fight| phase(fight) == Phase::Podium);
    assert_eq!(fight.ended(), None, "the podium is shown first");
    run_until(&mut fight, 70, |fight| fight.ended().is_some());
    let mut fight = fight.run(100);
    let results = results(&fight);
    assert_eq!(results.len(), 1);
    let result = &results[0];
    assert_eq!(
        (&result["game"], &result["round"], &result["reason"]),
        (&"arena".into(), &1.into(), &"score limit".into())
    );
    let standings = result["standings"].as_array().unwrap();
    assert_eq!(standings.len(), 6);
    assert!(standings[0]["kills"].as_u64().unwrap() >= 4);
    assert_eq!(standings[0]["name"], format!("player {}", standings[0]["player"]).as_str());
    assert!(standings.is_sorted_by_key(|line| std::cmp::Reverse(line["kills"].as_u64())));
    let order = [Phase::Countdown, Phase::Live, Phase::Podium];
    assert_eq!(phases(&fight).iter().map(|(phase, _)| *phase).collect::<Vec<_>>(), order);
    fight.assert_replay_identical();
    fight.tick();
}

#[test]
fn time_ends_a_match_in_which_nobody_scores() {
    let mut fight = Fight::with_config(1, r#"{"time_limit_s": 3, "countdown_s": 0, "lobby_s": 0}"#);
    fight.join(PlayerId(1));
    fight.join(PlayerId(2));
    run_until(&mut fight, 110, |fight| phase(fight) == Phase::Podium);
    let result = &results(&fight)[0];
    assert_eq!(
        (&result["reason"], &result["winner"], &result["ticks"]),
        (&"time limit".into(), &Value::Null, &90.into())
    );
}

#[test]
fn a_rematch_has_a_result_for_each_round_and_starts_from_nothing() {
    let mut fight =
        Fight::with_config(8, r#"{"score_limit": 2, "podium_s": 1, "rematch": true}"#).bots(6);
    run_until(&mut fight, 6000, |fight| results(fight).len() == 2);
    assert_eq!(fight.ended(), None);
    let results = results(&fight);
    assert_eq!((&results[0]["round"], &results[1]["round"]), (&1.into(), &2.into()));
    let kills: u64 = results[1]["standings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["kills"].as_u64().unwrap())
        .sum();
    assert!((2..=12).contains(&kills), "scores of the first round are gone: {kills}");
    assert!(phases(&fight).contains(&(Phase::Lobby, Reason::Rematch)));
    fight.assert_replay_identical();
}

#[test]
fn an_endless_match_goes_on() {
    let fight = Fight::with_config(2, r#"{"endless": true, "score_limit": 1, "time_limit_s": 1}"#)
        .bots(4)
        .run(900);
    assert_eq!((phase(&fight), fight.ended(), results(&fight).len()), (Phase::Live, None, 0));
}

#[test]
fn ready_players_do_not_wait_and_too_few_go_back_to_the_lobby() {
    let mut fight = Fight::with_config(1, r#"{"lobby_s": 60, "countdown_s": 5}"#);
    fight.join(PlayerId(1));
    fight.join(PlayerId(2));
    fight.tick();
    fight.command(PlayerId(1), &Command::Ready);
    fight.tick();
    assert_eq!(phase(&fight), Phase::Lobby, "one of two is ready");
    fight.command(PlayerId(2), &Command::Ready);
    assert_eq!(fight.tick().commands, [true]);
    fight.tick();
    assert_eq!(phase(&fight), Phase::Countdown);
    fight.command(PlayerId(2), &Command::Ready);
    assert_eq!(fight.tick().commands, [false], "there is no lobby to wait in");
    fight.leave(PlayerId(2));
    fight.tick();
    fight.tick();
    assert_eq!(phases(&fight).last(), Some(&(Phase::Lobby, Reason::TooFewPlayers)));
}

#[test]
fn players_come_and_go_and_keep_what_they_earned() {
    let mut fight =
        Fight::with_config(4, r#"{"score_limit": 0, "time_limit_s": 60, "podium_s": 0}"#).bots(5);
    let bot = PlayerId(1_000_000);
    let score = |fight: &Fight, player| {
        let avatar = fight.world().resource::<Players>().avatar(player)?;
        fight.world().get::<Score>(avatar)
    };
    run_until(&mut fight, 1200, |fight| {
        score(fight, bot).is_some_and(|score| score.kills > 0 && score.deaths > 0)
    });
    let earned = score(&fight, bot).unwrap();
    fight.leave(bot);
    fight.join(PlayerId(7));
    fight.tick();
    assert_eq!(score(&fight, bot), None);
    assert_eq!(score(&fight, PlayerId(7)), Some(Score::default()));
    fight.join(bot);
    fight.tick();
    assert_eq!(score(&fight, bot), Some(earned), "back again");
    fight.leave(bot);
    run_until(&mut fight, 2000, |fight| !results(fight).is_empty());
    let result = &results(&fight)[0];
    let line = result["standings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["player"] == bot.0)
        .unwrap();
    assert_eq!((&line["left"], &line["kills"]), (&true.into(), &earned.kills.into()));
    assert_eq!(result["standings"].as_array().unwrap().len(), 6);
    fight.assert_replay_identical();
}

#[test]
fn when_everybody_has_left_the_match_is_over() {
    let mut fight = Fight::with_config(4, r#"{"podium_s": 0}"#).bots(2);
    run_until(&mut fight, 200, |fight| phase(fight) == Phase::Live);
    fight.leave(PlayerId(1_000_000));
    fight.leave(PlayerId(1_000_001));
    run_until(&mut fight, 5, |fight| fight.ended().is_some());
    assert_eq!(results(&fight)[0]["reason"], "everybody left");
}

#[test]
fn a_weapon_is_taken_in_hand_only_with_ammunition() {
    let mut fight = Fight::with_config(1, "{}");
    fight.join(PlayerId(1));
    fight.tick();
    fight.command(PlayerId(1), &Command::Switch(WeaponKind::Launcher));
    assert_eq!(fight.tick().commands, [false]);
    let avatar = fight.world().resource::<Players>().avatar(PlayerId(1)).unwrap();
    fight.world_mut().get_mut::<Arms>(avatar).unwrap().load(WeaponKind::Launcher, 2);
    fight.command(PlayerId(1), &Command::Switch(WeaponKind::Launcher));
    assert_eq!(fight.tick().commands, [true]);
    assert_eq!(fight.world().get::<Arms>(avatar).unwrap().weapon, WeaponKind::Launcher);
}

#[test]
fn a_fighter_whose_player_falls_silent_stops_and_holds_fire() {
    let mut fight = Fight::with_config(
        1,
        r#"{"endless": true, "lobby_s": 0, "countdown_s": 0, "map": "open"}"#,
    );
    fight.join(PlayerId(1));
    fight.join(PlayerId(2));
    let mut fight = fight.run(5);
    let avatar = fight.world().resource::<Players>().avatar(PlayerId(1)).unwrap();
    fight.input(PlayerId(1), &Input::new(vec2(0.0, 1.0), 0.0, true));
    fight.tick();
    let fired = |fight: &Fight| fight.world().get::<Arms>(avatar).unwrap().ready_at;
    assert!(fired(&fight) > fight.simulation().tick(), "it shot");
    let fight = fight.run(30);
    assert!(fired(&fight) < fight.simulation().tick(), "the trigger was let go");
    let place = |fight: &Fight| fight.world().get::<Position>(avatar).unwrap();
    let stopped = place(&fight);
    assert_eq!(place(&fight.run(30)), stopped);
}

#[test]
fn the_clock_of_the_display_counts_down() {
    let mut fight =
        Fight::with_config(1, r#"{"time_limit_s": 10, "countdown_s": 3, "lobby_s": 0}"#).bots(2);
    let clock = |fight: &mut Fight| {
        fight.world_mut().query::<&Clock, (), _>(|clocks| *clocks.iter().next().unwrap())
    };
    run_until(&mut fight, 5, |fight| phase(fight) == Phase::Countdown);
    assert_eq!(clock(&mut fight), Clock { phase: Phase::Countdown, seconds: 3 });
    let mut fight = fight.run(61);
    assert_eq!(clock(&mut fight), Clock { phase: Phase::Countdown, seconds: 1 });
    let mut fight = fight.run(60);
    assert_eq!(clock(&mut fight).phase, Phase::Live);
}

#[test]
fn a_wrong_configuration_is_refused_with_what_would_be_right() {
    let game = Typed::<Arena>::new().unwrap();
    for (json, expected) in [
        (r#"{"maps": "pillars"}"#, "maps"),
        (r#"{"map": "moon"}"#, "pillars, crossing, open"),
        (r#"{"max_players": 1000}"#, "2 to 64"),
        (r#"{"width": "wide"}"#, "`width`: expected a number, found the text"),
        ("[]", "object"),
    ] {
        let error = game.config_from_json(json).unwrap_err().to_string();
        assert!(error.starts_with("RK-SIM-001") && error.contains(expected), "{json}: {error}");
    }
    assert_eq!(game.max_players(&game.config_from_json(r#"{"max_players": 12}"#).unwrap()), 12);
}
