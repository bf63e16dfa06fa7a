//! Rounds in one process, without a node: the zone shrinks onto those who stay, somebody wins, and
//! what happened is the same when it is replayed, or restored at any tick.

use rekindle_royale::{Course, Fighter, Out, Position, Royale};
use rekindle_schema::record::Effect;
use rekindle_sim::{
    Entity, GameType as _, Harness, Place as _, PlayerId, Simulation as _, State, Typed, Without,
};
use rekindle_zone::{Circle, Doing};

fn circle(round: &Harness<Royale>) -> Circle {
    round.world().resource::<Circle>().clone()
}

/// All who stand: their places and health.
fn standing(round: &mut Harness<Royale>) -> Vec<([f32; 2], u8)> {
    round.world_mut().query::<(&Position, &Fighter), Without<Out>, _>(|fighters| {
        fighters.iter().map(|(at, fighter)| (at.place(), fighter.health)).collect()
    })
}

fn played(rules: &str, bots: usize, ticks: u64) -> Harness<Royale> {
    let mut round = Harness::<Royale>::with_config(7, rules).bots(bots);
    for _ in 0..ticks {
        if round.ended().is_none() {
            round.tick();
        }
    }
    round
}

#[test]
fn a_round_of_bots_has_one_winner_and_is_the_same_when_it_is_replayed() {
    let round = played(r#"{"gather_s": 1}"#, 12, 4_000);
    assert_eq!(round.ended(), Some("one is left"));
    let results: Vec<&Effect> = round.effects().filter(|it| it.kind == "result").collect();
    let result: serde_json::Value = serde_json::from_slice(&results[0].payload).unwrap();
    assert!(results.len() == 1 && result["winner"].is_string(), "{result}");
    let felled = round.events().filter(|event| event.kind == "felled").count();
    assert_eq!(felled, 11, "all but the winner");
    round.assert_replay_identical();
}

#[test]
fn rounds_follow_each_other_and_each_begins_with_everybody_and_the_whole_zone() {
    let rules = r#"{"gather_s": 1, "rematch": true}"#;
    let mut round = Harness::<Royale>::with_config(3, rules).bots(6);
    let (mut begun, mut before) = (0, Course::Gathering);
    for _ in 0..8_000 {
        round.tick();
        let now = round.world().resource::<State<Course>>().now();
        if now == Course::Fight && before != now {
            begun += 1;
            round.tick();
            let (zone, all) = (circle(&round), standing(&mut round));
            assert_eq!((zone.doing, zone.radius, all.len()), (Doing::Stands, 56.0, 6));
        }
        before = now;
    }
    assert!(begun >= 3, "{begun} rounds");
    round.assert_replay_identical();
}

#[test]
fn who_stays_outside_of_the_zone_is_out() {
    // Two who do nothing at all, on an island whose zone is gone within two seconds.
    let rules = r#"{"gather_s": 0, "zone": {"middle": [60.0, 60.0], "radius": 1.0, "steps": [
        {"wait_s": 0.5, "shrink_s": 0.5, "radius": 0.0}]}}"#;
    let mut round = Harness::<Royale>::with_config(7, rules);
    round.join(PlayerId(1));
    round.join(PlayerId(2));
    // 100 of health at 12 a second last for nine seconds.
    for _ in 0..8 * 30 {
        round.tick();
    }
    assert_eq!(standing(&mut round).len(), 2);
    for _ in 0..3 * 30 {
        round.tick();
    }
    assert_eq!(standing(&mut round).len(), 0);
    let won: Vec<_> = round.events().filter(|event| event.kind == "won").collect();
    assert_eq!(won.len(), 1, "nobody won, and that is told");
    round.assert_replay_identical();
}

#[test]
fn each_circle_lies_within_the_one_before_and_is_known_before_it_comes() {
    // Each of four circles takes 1.5 s, and whoever is outside stands for nine.
    let step = |radius| format!(r#"{{"wait_s": 0.5, "shrink_s": 1.0, "radius": {radius}.0}}"#);
    let steps = [60, 30, 10, 0].map(step).join(", ");
    let rules = &format!(r#"{{"gather_s": 0, "zone": {{"radius": 91.0, "steps": [{steps}]}}}}"#);
    let mut steps = 0;
    for seed in 0..20 {
        let mut round = Harness::<Royale>::with_config(seed, rules);
        round.join(PlayerId(1));
        round.join(PlayerId(2));
        let mut before = circle(&round);
        for _ in 0..8 * 30 {
            round.tick();
            let now = circle(&round);
            if now.doing == Doing::Off {
                continue;
            }
            let (x, y) = (now.next_x - now.x, now.next_y - now.y);
            let reach = (x * x + y * y).sqrt() + now.next_radius;
            assert!(reach <= now.radius + 0.01, "seed {seed}: {now:?}");
            if before.doing == Doing::Shrinks && now.doing != before.doing {
                let (came, said) = ((now.x, now.y), (before.next_x, before.next_y));
                assert_eq!((came, now.radius), (said, before.next_radius));
                steps += 1;
            }
            before = now;
        }
    }
    assert!(steps >= 60, "{steps} circles came");
}

#[test]
fn a_round_that_is_restored_all_the_time_stays_identical() {
    let game = Typed::<Royale>::new().unwrap();
    let rules = r#"{"gather_s": 1, "rematch": true}"#;
    let played = played(rules, 8, 1_500);
    let mut live = Typed::create(&game, &game.config_from_json(rules).unwrap(), 7).unwrap();
    let mut shadow = Typed::restore(&game, &live.checkpoint()).unwrap();
    for step in played.steps() {
        assert_eq!(live.step(step).unwrap(), shadow.step(step).unwrap(), "tick {}", step.tick);
        let bytes = live.checkpoint();
        assert!(bytes == shadow.checkpoint(), "tick {}", step.tick);
        if step.tick.0.is_multiple_of(7) {
            shadow = Typed::restore(&game, &bytes).unwrap();
        }
    }
    assert_eq!(live.state_hash(), played.simulation().state_hash());
}

#[test]
fn settings_that_make_no_sense_are_refused_and_say_whose_they_are() {
    let game = Typed::<Royale>::new().unwrap();
    for (rules, words) in [
        (r#"{"players": 1}"#, "`players` must be from 2 to 60"),
        (r#"{"zone": {"radius": 300.0}}"#, "`zone` must begin on the island"),
        (
            r#"{"zone": {"steps": [{"wait_s": 1.0, "shrink_s": 1.0, "radius": 99.0}]}}"#,
            "extension `zone`: step 0 shrinks from 56 to 99",
        ),
        (
            r#"{"zone": {"steps": [{"wait_s": -1.0, "shrink_s": 1.0, "radius": 9.0}]}}"#,
            "extension `zone`: step 0 takes no time from 0 to 3600 seconds",
        ),
        (r#"{"zone": {"radios": 3.0}}"#, "unknown key `zone.radios`"),
    ] {
        let problem = game.config_from_json(rules).unwrap_err().to_string();
        assert!(problem.contains(words), "{words}\nis missing in: {problem}");
    }
}

#[test]
fn who_comes_into_a_fight_looks_on_until_the_next_round() {
    let mut round = Harness::<Royale>::with_config(7, r#"{"gather_s": 0}"#);
    round.join(PlayerId(1));
    round.join(PlayerId(2));
    while round.world().resource::<State<Course>>().now() != Course::Fight {
        round.tick();
    }
    round.join(PlayerId(3));
    round.tick();
    let late = round.world().resource::<rekindle_sim::Players>().avatar(PlayerId(3)).unwrap();
    assert!(late != Entity::default() && round.world().get::<Out>(late).is_some());
    assert_eq!(standing(&mut round).len(), 2);
}
