//! Battles in one process, without a node: orders are carried out, somebody wins, and what happened
//! is the same when it is replayed, or restored at any tick.

use rekindle_schema::delta;
use rekindle_schema::record::Effect;
use rekindle_sim::{Entity, GameType as _, Harness, PlayerId, Simulation as _, Typed};
use rekindle_skirmish::rules::{HALF, HOMES, SQUADS};
use rekindle_skirmish::{Order, Orders, Position, Round, Skirmish, Unit};

const ANNE: PlayerId = PlayerId(1);
const BERT: PlayerId = PlayerId(2);
const MIDDLE: Position = Position { x: 0.0, y: 0.0 };

fn battle(rules: &str) -> Harness<Skirmish> {
    let mut battle = Harness::with_config(7, rules);
    battle.join(ANNE);
    battle.join(BERT);
    battle.tick();
    battle
}

fn orders(squads: &[u8], order: Order, target: Position) -> Orders {
    Orders { squads: squads.to_vec(), order, target }
}

/// All units of a side, with their places.
fn units(battle: &mut Harness<Skirmish>, side: u8) -> Vec<(Entity, Unit, Position)> {
    battle.world_mut().query::<(Entity, &Unit, &Position), (), _>(|units| {
        let own = units.iter().filter(|(_, unit, _)| unit.side == side);
        own.map(|(entity, unit, at)| (entity, unit.clone(), *at)).collect()
    })
}

/// Plays until the match ends, as a node does, but for so many ticks at most.
fn to_the_end(mut battle: Harness<Skirmish>, ticks: u64) -> Harness<Skirmish> {
    for _ in 0..ticks {
        if battle.ended().is_none() {
            battle.tick();
        }
    }
    battle
}

fn results(battle: &Harness<Skirmish>) -> Vec<serde_json::Value> {
    let results = battle.effects().filter(|effect: &&Effect| effect.kind == "result");
    results.map(|effect| serde_json::from_slice(&effect.payload).unwrap()).collect()
}

#[test]
fn a_battle_of_bots_has_a_winner_and_is_the_same_when_it_is_replayed() {
    for sides in 2..=4 {
        let rules = format!(r#"{{"sides": {sides}, "units": 120}}"#);
        let played = Harness::<Skirmish>::with_config(7, &rules).bots(sides);
        let played = to_the_end(played, 4_000);
        assert_eq!(played.ended(), Some("one side is left"), "{sides} sides");
        let results = results(&played);
        let left = results[0]["left"].as_array().unwrap();
        assert_eq!((results.len(), left.len()), (1, sides), "{results:?}");
        assert_eq!(left.iter().filter(|units| units.as_u64() > Some(0)).count(), 1, "{left:?}");
        assert!(results[0]["player"].as_u64() >= Some(1_000_000), "{results:?}");
        played.assert_replay_identical();
    }
}

#[test]
fn a_thousand_units_fight_and_round_follows_round() {
    let rules = r#"{"sides": 4, "rematch": true}"#;
    let mut played = Harness::<Skirmish>::with_config(3, rules).bots(4);
    played = played.run(1);
    let all: usize = (0..4).map(|side| units(&mut played, side).len()).sum();
    assert_eq!(all, 1_000);
    played = played.run(200);
    let all: usize = (0..4).map(|side| units(&mut played, side).len()).sum();
    assert!(all < 980, "{all} are left");
    played.assert_replay_identical();

    let rules = r#"{"units": 80, "rematch": true}"#;
    let played = Harness::<Skirmish>::with_config(3, rules).bots(2).run(2_000);
    let rounds = played.world().resource::<Round>().number;
    assert!(rounds >= 2 && results(&played).len() == rounds as usize && played.ended().is_none());
    played.assert_replay_identical();
}

#[test]
fn a_battle_that_is_restored_all_the_time_stays_identical() {
    let rules = r#"{"units": 120, "rematch": true}"#;
    let played = Harness::<Skirmish>::with_config(5, rules).bots(2).run(600);
    let game = Typed::<Skirmish>::new().unwrap();
    let mut live = game.create(rules.as_bytes(), 5).unwrap();
    let mut shadow = game.restore(&live.checkpoint()).unwrap();
    let (mut base, mut marks) = live.capture();
    for (tick, step) in (1u64..).zip(played.steps()) {
        assert_eq!(live.step(step).unwrap(), shadow.step(step).unwrap(), "tick {tick}");
        let bytes = live.checkpoint();
        assert!(bytes == shadow.checkpoint(), "tick {tick}: bytes differ");
        if tick % 3 == 0 {
            shadow = game.restore(&bytes).unwrap();
        }
        if tick % 7 == 0 {
            let (operations, _) = live.changes(&base, &marks, usize::MAX).unwrap();
            let (_, state) = delta::seal(&base, &operations).unwrap();
            assert!(state == bytes, "tick {tick}: a chain comes to other bytes");
            (base, marks) = live.capture();
        }
    }
}

#[test]
fn squads_go_where_they_are_ordered_and_stand_when_they_are_stopped() {
    let mut battle = battle(r#"{"units": 80}"#);
    battle.command(ANNE, &orders(&[0, 1], Order::Move, MIDDLE));
    battle.command(ANNE, &orders(&[2], Order::Move, MIDDLE));
    assert_eq!(battle.tick().commands, [true, true]);
    battle = battle.run(40);
    battle.command(ANNE, &orders(&[2], Order::Stop, MIDDLE));
    battle.tick();
    let stopped = units(&mut battle, 0);
    battle = battle.run(100);
    for ((_, unit, at), (_, _, before)) in units(&mut battle, 0).into_iter().zip(stopped) {
        match unit.squad {
            0 | 1 => assert_eq!(at, unit.post(MIDDLE)),
            2 => assert!(at == before && at.distance(unit.post(MIDDLE)) > 10.0, "{at:?}"),
            _ => assert!(at.distance(HOMES[0]) < 40.0 && at == before, "{at:?}"),
        }
    }
    battle.assert_replay_identical();
}

#[test]
fn who_is_to_move_does_not_fight_and_who_attacks_does() {
    let rules = r#"{"units": 80}"#;
    let fallen = |order| {
        let mut battle = battle(rules);
        let all: Vec<u8> = (0..SQUADS).collect();
        battle.command(ANNE, &orders(&all, order, HOMES[1]));
        assert_eq!(battle.tick().commands, [true]);
        battle = battle.run(500);
        [0, 1].map(|side| 40 - units(&mut battle, side).len())
    };
    // Where they have arrived they stand, and fight.
    let [own, enemies] = fallen(Order::Attack);
    assert!(own > 5 && enemies > 5, "{own}, {enemies}");
    let mut battle = battle(rules);
    battle.command(ANNE, &orders(&[0], Order::Move, HOMES[1]));
    battle = battle.run(300);
    assert_eq!(units(&mut battle, 1).len(), 40, "they run into their end");
    assert!(units(&mut battle, 0).len() < 40);
}

#[test]
fn orders_are_refused_that_nobody_can_carry_out() {
    let mut battle = battle(r#"{"units": 80}"#);
    let refused = [
        (ANNE, orders(&[0, SQUADS], Order::Move, MIDDLE)),
        (ANNE, orders(&[], Order::Move, MIDDLE)),
        (PlayerId(9), orders(&[0], Order::Move, MIDDLE)),
    ];
    for (player, wanted) in &refused {
        battle.command(*player, wanted);
    }
    assert_eq!(battle.tick().commands, [false; 3]);
    // A place that is not on the map is brought there.
    for (squad, far) in [(8, f32::INFINITY), (9, f32::NAN)] {
        let target = Position { x: far, y: 0.0 };
        battle.command(BERT, &orders(&[squad], Order::Attack, target));
        assert_eq!(battle.tick().commands, [true]);
    }
    battle = battle.run(50);
    let all = units(&mut battle, 1);
    assert!(all.iter().all(|(_, _, at)| at.x.abs() <= HALF && at.y.abs() <= HALF));
    battle.assert_replay_identical();
}

#[test]
fn a_side_waits_for_its_next_player_and_time_ends_a_round() {
    let mut battle = battle(r#"{"units": 80, "round_s": 40}"#);
    battle.leave(ANNE);
    battle.tick();
    battle.join(PlayerId(3));
    battle.tick();
    battle.command(PlayerId(3), &orders(&[0], Order::Move, HOMES[1]));
    assert_eq!(battle.tick().commands, [true], "the side is the new player's");
    let battle = to_the_end(battle, 450);
    assert_eq!(battle.ended(), Some("the time is over"));
    let played = results(&battle);
    assert_eq!(played[0]["side"], 1, "the others lost a squad: {played:?}");
    battle.assert_replay_identical();
}

#[test]
fn rules_that_make_no_sense_are_refused_by_name() {
    let game = Typed::<Skirmish>::new().unwrap();
    for (rules, wrong) in [
        (r#"{"sides": 5}"#, "`sides`"),
        (r#"{"units": 39}"#, "`units`"),
        (r#"{"round_s": 0}"#, "`round_s`"),
        (r#"{"unit": 100}"#, "`unit`"),
    ] {
        let refused = game.config_from_json(rules).unwrap_err().to_string();
        assert!(refused.contains(wrong), "{rules}: {refused}");
    }
}
