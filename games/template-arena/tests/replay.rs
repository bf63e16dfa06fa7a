//! The game in one process, without a node: what happened is the same when it is replayed.

use rekindle_sim::{Harness, PlayerId};

use template_arena::{Runner, Steer, TemplateArena};

#[test]
fn a_match_of_bots_is_the_same_when_it_is_replayed() {
    let played = Harness::<TemplateArena>::with_config(7, r#"{"rematch": true}"#).bots(4).run(600);
    assert!(played.effects().count() > 0, "somebody won a round");
    played.assert_replay_identical();
}

#[test]
fn without_a_rematch_the_match_ends_with_the_first_round() {
    let played = Harness::<TemplateArena>::with_config(7, r#"{"goal": 3}"#).bots(2).run(300);
    assert_eq!(played.ended(), Some("somebody has enough gems"));
}

#[test]
fn a_runner_goes_where_its_player_steers() {
    let mut game = Harness::<TemplateArena>::new(7);
    game.join(PlayerId(1));
    game.tick();
    game.input(PlayerId(1), &Steer { x: 1.0, y: 0.0 });
    game.tick();
    let towards = game.world().resource::<rekindle_sim::Players>().avatar(PlayerId(1));
    let runner = game.world().get::<Runner>(towards.unwrap()).unwrap();
    assert_eq!(runner.towards, Steer { x: 1.0, y: 0.0 });
    game.assert_replay_identical();
}
