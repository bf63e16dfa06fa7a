//! The game in one process, without a node: its rules, and that it is the same when it is replayed.

use rekindle_sim::{Harness, PlayerId};

use template_turns::{Seat, Take, TemplateTurns};

const ANNE: PlayerId = PlayerId(1);
const BERT: PlayerId = PlayerId(2);

fn two(rules: &str) -> Harness<TemplateTurns> {
    let mut game = Harness::with_config(7, rules);
    game.join(ANNE);
    game.join(BERT);
    game.tick();
    game
}

#[test]
fn a_match_of_bots_is_the_same_when_it_is_replayed() {
    let played = Harness::<TemplateTurns>::with_config(7, r#"{"rematch": true, "seats": 3}"#)
        .bots(3)
        .run(200);
    assert!(played.effects().count() > 1, "several rounds were played");
    played.assert_replay_identical();
}

#[test]
fn moves_are_granted_in_turn_and_by_the_rules_alone() {
    let mut game = two("{}");
    let asked = [(BERT, 1), (ANNE, 4), (ANNE, 0), (ANNE, 2), (ANNE, 1), (BERT, 3)];
    let mut granted: Vec<bool> = Vec::new();
    for (player, stones) in asked {
        game.command(player, &Take { stones });
        granted.extend(&game.tick().commands);
    }
    assert_eq!(granted, [false, false, false, true, false, true]);
    game.assert_replay_identical();
}

#[test]
fn who_takes_too_long_has_one_stone_taken() {
    let game = two(r#"{"turn_s": 1}"#).run(11);
    let mut bert = game;
    bert.command(BERT, &Take { stones: 1 });
    assert_eq!(bert.tick().commands, [true], "it is the other one's turn");
    bert.assert_replay_identical();
}

#[test]
fn a_player_who_comes_back_has_the_seat_again() {
    let mut game = two("{}");
    game.leave(ANNE);
    game.tick();
    game.join(ANNE);
    game.tick();
    game.command(ANNE, &Take { stones: 1 });
    assert_eq!(game.tick().commands, [true]);
    let own = game.world().resource::<rekindle_sim::Players>().avatar(ANNE).unwrap();
    assert_eq!(game.world().get::<Seat>(own).unwrap().number, 1);
    game.assert_replay_identical();
}
