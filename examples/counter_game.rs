//! A whole game in a few lines: each player has a counter, pushes it up, and the first to reach the
//! goal wins. `main` plays it with bots and proves that a replay makes the same match, bit for bit.
//!
//! ```console
//! $ cargo run --example counter_game
//! ```
//!
//! To serve it, a studio writes `rekindle::Node::new().game::<Counting>().run()` instead, as
//! `games/duel` does.

use rekindle_sim::{
    Component, Const, Game, GameBuilder, Harness, Inputs, LeaveReason, Output, PlayerId, Players,
    Query, Res, Stage, Value, View, World,
};
use serde::{Deserialize, Serialize};

/// How far a player has counted. Snapshots carry it in 10 bits.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "count")]
struct Count {
    #[net(bits = 10)]
    reached: u32,
}

/// What a player sends: how far to push the counter in this tick.
#[derive(Debug, Clone, PartialEq, Value)]
struct Push {
    #[value(range = 0..=3)]
    by: u32,
}

/// What a match is configured with, as JSON: `{"goal": 50}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rules {
    goal: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { goal: 100 }
    }
}

struct Counting;

impl Game for Counting {
    const NAME: &'static str = "counting";
    type Config = Rules;
    type Input = Push;
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Count>().add_systems(Stage::Update, count);
    }

    fn max_players(_rules: &Rules) -> usize {
        8
    }

    fn setup(_world: &mut World, _rules: &Rules) {}

    fn join(world: &mut World, player: PlayerId) {
        let avatar = world.spawn(Count { reached: 0 });
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        if let Some(avatar) = avatar {
            world.despawn(avatar);
        }
    }

    fn bot(player: PlayerId, view: &View<'_>, _rules: &Rules, _memory: &mut ()) -> Option<Push> {
        let reached = view.avatar(player)?.get::<Count>()?.reached;
        Some(Push { by: 1 + (reached + player.0 as u32) % 3 })
    }
}

/// The only system: inputs become counts, and a count that reaches the goal ends the match.
fn count(
    inputs: Inputs<Counting>,
    players: Res<Players>,
    rules: Const<Rules>,
    mut counts: Query<&mut Count>,
    mut output: Output,
) {
    for input in &inputs {
        let avatar = players.avatar(input.player).unwrap_or_default();
        let Some(mut count) = counts.get_mut(avatar) else { continue };
        count.reached += input.input.by;
        if count.reached >= rules.goal {
            output.effect_json("result", &input.player.0);
            output.end_match("somebody reached the goal");
        }
    }
}

/// Plays with three bots. The harness notes each step and the hash of the world after it.
fn play(seed: u64) -> Harness<Counting> {
    Harness::<Counting>::with_config(seed, r#"{"goal": 50}"#).bots(3).run(60)
}

fn main() {
    let played = play(7);
    // Plays the same steps again, saves and restores the world on the way, compares each hash.
    played.assert_replay_identical();
    println!("{} ticks, replayed with the same hashes", played.steps().len());
    println!("the match ended: {}", played.ended().unwrap_or("not yet"));
}

#[cfg(test)]
mod tests {
    #[test]
    fn somebody_wins_and_the_replay_is_the_same_match() {
        let played = super::play(7);
        played.assert_replay_identical();
        assert_eq!(played.ended(), Some("somebody reached the goal"));
    }
}
