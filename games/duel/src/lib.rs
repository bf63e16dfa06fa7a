//! A game for two: they run on a line after a ball, and whoever reaches it scores. The smallest
//! game that a studio could ship, with an executable of its own in `main.rs`; the tests run that
//! executable as strangers would. A game to learn from is `games/arena`.

use std::ops::RangeInclusive;

use rekindle_sim::{
    Component, Event, Game, GameBuilder, Inputs, IntoSystems as _, LeaveReason, Output, PlayerId,
    Players, Query, Res, ResMut, Resource, Rng, Stage, Time, Value, View, World,
};
use serde::{Deserialize, Serialize};

/// Half the length of the line, metres.
const HALF: f32 = 20.0;
/// How fast players run, metres a second.
const SPEED: f32 = 8.0;
/// Who is this near to the ball has it, metres.
const REACH: f32 = 0.5;

/// Where something is, in metres from the middle.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "duel.place")]
pub struct Place {
    /// Along the line.
    #[net(min = -20.0, max = 20.0, bits = 12)]
    #[value(range = -20.0..=20.0)]
    pub x: f32,
    /// Beside it: for display.
    #[net(min = -20.0, max = 20.0, bits = 6)]
    pub y: f32,
}

/// A player's figure.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "duel.runner")]
pub struct Runner {
    /// The player who steers it.
    pub player: PlayerId,
    /// Where it runs: -1, 0 or 1.
    #[value(range = -1.0..=1.0)]
    pub towards: f32,
}

/// The goals of the match.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "duel.goals")]
pub struct Goals {
    /// Of both together.
    pub scored: u64,
}

/// Somebody has the ball. Players are told, and so is a function of the executable.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "goal")]
pub struct Goal {
    /// Who has it.
    pub player: PlayerId,
}

/// What a player wants.
#[derive(Debug, Clone, PartialEq, Value)]
pub enum Run {
    /// Stand still.
    Stay,
    /// Towards negative x.
    Left,
    /// Towards positive x.
    Right,
}

/// How a match is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// How many may run after the ball.
    pub players: u8,
}

impl Default for Rules {
    fn default() -> Self {
        Self { players: 2 }
    }
}

/// The game.
#[derive(Debug)]
pub struct Duel;

impl Game for Duel {
    const NAME: &'static str = "duel";
    // Runners go by `Time`.
    const TICK_RATES: RangeInclusive<u16> = 1..=60;
    type Config = Rules;
    type Input = Run;
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Place>()
            .component::<Runner>()
            .resource::<Goals>()
            .position::<Place>("x", "y")
            .delivers::<Goal>();
        game.add_systems(Stage::Update, (steer, run, score).chain());
    }

    fn validate(config: &Rules) -> Result<(), String> {
        if config.players == 0 { Err("`players` must be at least 1".to_owned()) } else { Ok(()) }
    }

    fn max_players(config: &Rules) -> usize {
        config.players.into()
    }

    fn setup(world: &mut World, _config: &Rules) {
        world.spawn((Place { x: 0.0, y: 0.0 },));
    }

    fn join(world: &mut World, player: PlayerId) {
        let runner = world.spawn((Place { x: 0.0, y: 1.0 }, Runner { player, towards: 0.0 }));
        world.resource_mut::<Players>().set_avatar(player, runner);
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let runner = world.resource::<Players>().avatar(player);
        if let Some(runner) = runner {
            world.despawn(runner);
        }
    }

    fn bot(player: PlayerId, view: &View<'_>, _config: &Rules, (): &mut ()) -> Option<Run> {
        let own = view.avatar(player)?;
        let ball = view
            .entities()
            .filter(|entity| entity.slot != own.slot)
            .filter_map(|entity| entity.get::<Place>());
        // The ball lies on the line, players stand beside it.
        let ball = ball.min_by(|a, b| a.y.abs().total_cmp(&b.y.abs()))?;
        Some(if ball.x > own.get::<Place>()?.x { Run::Right } else { Run::Left })
    }
}

fn steer(inputs: Inputs<Duel>, players: Res<Players>, mut runners: Query<&mut Runner>) {
    for input in &inputs {
        if let Some(mut runner) =
            players.avatar(input.player).and_then(|avatar| runners.get_mut(avatar))
        {
            runner.towards = match input.input {
                Run::Stay => 0.0,
                Run::Left => -1.0,
                Run::Right => 1.0,
            };
        }
    }
}

fn run(time: Time, mut runners: Query<(&mut Place, &Runner)>) {
    for (mut place, runner) in &mut runners {
        let x = place.x + runner.towards * SPEED * time.delta;
        place.x = x.clamp(-HALF, HALF);
    }
}

fn score(
    mut goals: ResMut<Goals>,
    mut rng: Rng,
    mut output: Output,
    mut all: Query<(&mut Place, Option<&Runner>)>,
) {
    let runners: Vec<(PlayerId, f32)> = all
        .iter()
        .filter_map(|(place, runner)| runner.map(|runner| (runner.player, place.x)))
        .collect();
    for (mut place, runner) in &mut all {
        if runner.is_some() {
            continue;
        }
        let near = runners.iter().find(|(_, x)| (x - place.x).abs() < REACH);
        if let Some((player, _)) = near {
            place.x = rng.range(-HALF, HALF);
            goals.scored += 1;
            output.publish(&Goal { player: *player });
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_sim::Harness;

    use super::{Duel, Place, PlayerId, Players, Run, SPEED};

    #[test]
    fn a_duel_is_the_same_when_it_is_replayed() {
        Harness::<Duel>::new(7).bots(2).run(300).assert_replay_identical();
    }

    #[test]
    fn runners_are_as_fast_at_any_rate_and_each_is_replayed_at_its_own() {
        let places = [5u16, 10, 30, 60].map(|rate| {
            let mut duel = Harness::<Duel>::with_rate(7, "{}", rate);
            let player = PlayerId(3);
            duel.join(player);
            for _ in 0..2 * rate {
                duel.input(player, &Run::Right);
                duel.tick();
            }
            duel.assert_replay_identical();
            let world = duel.world();
            let avatar = world.resource::<Players>().avatar(player).expect("it is in");
            world.get::<Place>(avatar).expect("a runner is somewhere").x
        });
        for place in places {
            assert!((place - 2.0 * SPEED).abs() < 1.7, "{places:?}");
        }
    }
}
