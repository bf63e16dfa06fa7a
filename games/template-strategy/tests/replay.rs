//! The game in one process, without a node: orders are carried out, and what happened is the same
//! when it is replayed.

use rekindle_sim::{Harness, PlayerId};

use template_strategy::{March, Position, TemplateStrategy};

#[test]
fn a_match_of_bots_is_the_same_when_it_is_replayed() {
    let played = Harness::<TemplateStrategy>::new(7).bots(2).run(1_500);
    assert_eq!(played.ended(), Some("a side has no units left"));
    assert!(played.world().len() < 242, "units fell");
    played.assert_replay_identical();
}

#[test]
fn a_round_follows_the_other_if_the_match_says_so() {
    let rules = r#"{"rematch": true}"#;
    let played = Harness::<TemplateStrategy>::with_config(7, rules).bots(2).run(1_500);
    assert!(played.ended().is_none() && played.effects().count() > 0);
    played.assert_replay_identical();
}

#[test]
fn orders_are_granted_for_groups_that_there_are() {
    let mut game = Harness::<TemplateStrategy>::new(7);
    game.join(PlayerId(1));
    game.tick();
    for group in [0, 5, 6] {
        game.command(PlayerId(1), &March { group, target: Position { x: 0.0, y: 0.0 } });
    }
    game.command(PlayerId(2), &March { group: 0, target: Position { x: 0.0, y: 0.0 } });
    assert_eq!(game.tick().commands, [true, true, false, false]);
    game.assert_replay_identical();
}
