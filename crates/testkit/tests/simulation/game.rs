//! A small game that makes a match do everything a match can do: inputs, commands, events to all
//! and to one, effects, entities that come and go.

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::{
    Commands, Component, Entity, Game, GameBuilder, Inputs, Output, Players, Query, Res, Resource,
    Rng, Stage, Time, Value, World,
};
use serde::{Deserialize, Serialize};

/// Sparks live so many ticks.
const SPARK_TICKS: u16 = 40;
/// An effect is asked for so often, in ticks.
const TALLY_EVERY: u64 = 50;

/// Where something is and how it moves.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "sparks.body")]
pub(crate) struct Body {
    #[net(min = -64.0, max = 64.0, bits = 14, rate = "sparks.body.vx")]
    x: f32,
    #[net(min = -64.0, max = 64.0, bits = 14, rate = "sparks.body.vy")]
    y: f32,
    #[net(min = -16.0, max = 16.0, bits = 12)]
    vx: f32,
    #[net(min = -16.0, max = 16.0, bits = 12)]
    vy: f32,
}

/// Who steers an entity, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "sparks.pilot")]
pub(crate) struct Pilot {
    player: PlayerId,
    #[net(bits = 16)]
    moves: u16,
    #[net(bits = 8)]
    cheers: u8,
}

/// Something that flies about for a while.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "sparks.spark")]
pub(crate) struct Spark {
    #[net(bits = 6)]
    left: u16,
}

/// How many inputs were ever applied.
#[derive(Debug, Clone, Copy, PartialEq, Resource)]
#[resource(id = "sparks.tally")]
pub(crate) struct Tally {
    inputs: u64,
}

/// Where to: a direction, and whether to throw a spark.
#[derive(Debug, Clone, Copy, PartialEq, Value)]
pub(crate) struct Move {
    pub dx: i8,
    pub dy: i8,
    pub throw: bool,
    /// The system panics.
    pub poison: bool,
}

/// A cheer; odd ones are not granted.
#[derive(Debug, Clone, Copy, PartialEq, Value)]
pub(crate) struct Cheer {
    pub number: u32,
}

/// What a match can be configured with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {}

/// The game.
pub(crate) struct Sparks;

impl Game for Sparks {
    const NAME: &'static str = "sparks";
    type Config = Config;
    type Input = Move;
    type Command = Cheer;
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Body>()
            .component::<Pilot>()
            .component::<Spark>()
            .resource::<Tally>()
            .position::<Body>("x", "y");
        game.add_systems(Stage::PreUpdate, steer);
        game.add_systems(Stage::Update, fly);
        game.add_systems(Stage::PostUpdate, tally);
    }

    fn max_players(_: &Config) -> usize {
        8
    }

    fn setup(_: &mut World, _: &Config) {}

    fn join(world: &mut World, player: PlayerId) {
        let mut rng = world.rng(player.0);
        let body = Body { x: rng.range(-32.0, 32.0), y: rng.range(-32.0, 32.0), vx: 0.0, vy: 0.0 };
        let avatar = world.spawn((body, Pilot { player, moves: 0, cheers: 0 }));
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(world: &mut World, player: PlayerId, _: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        avatar.map(|avatar| world.despawn(avatar));
    }

    fn command(world: &mut World, player: PlayerId, cheer: Cheer) -> bool {
        let avatar = world.resource::<Players>().avatar(player);
        let granted = cheer.number.is_multiple_of(2);
        if let Some(mut pilot) =
            avatar.filter(|_| granted).and_then(|avatar| world.get_mut::<Pilot>(avatar))
        {
            pilot.cheers = pilot.cheers.wrapping_add(1);
        }
        granted
    }
}

fn steer(
    inputs: Inputs<Sparks>,
    players: Res<Players>,
    mut tally: rekindle_sim::ResMut<Tally>,
    mut bodies: Query<(&mut Body, &mut Pilot)>,
    mut commands: Commands,
    mut output: Output,
) {
    for input in &inputs {
        if input.input.poison {
            // As a panic, without the words that a panic writes to the terminal.
            std::panic::resume_unwind(Box::new("poison"));
        }
        tally.inputs += 1;
        let avatar = players.avatar(input.player).unwrap_or(Entity::NONE);
        let Some((mut body, mut pilot)) = bodies.get_mut(avatar) else { continue };
        body.vx = f32::from(input.input.dx) / 8.0;
        body.vy = f32::from(input.input.dy) / 8.0;
        pilot.moves = pilot.moves.wrapping_add(1);
        if input.input.throw {
            let spark = Body { vx: -body.vy, vy: body.vx, ..*body };
            commands.spawn((spark, Spark { left: SPARK_TICKS }));
            output.announce("thrown", &pilot.moves);
        } else if pilot.moves.is_multiple_of(16) {
            output.tell(pilot.player, "moves", &pilot.moves);
        }
    }
}

fn fly(
    time: Time,
    mut rng: Rng,
    mut bodies: Query<(Entity, &mut Body, Option<&mut Spark>)>,
    mut commands: Commands,
) {
    for (entity, mut body, spark) in &mut bodies {
        body.x = (body.x + body.vx * time.delta).clamp(-64.0, 64.0);
        body.y = (body.y + body.vy * time.delta).clamp(-64.0, 64.0);
        if let Some(mut spark) = spark {
            spark.left -= 1;
            body.vx = (body.vx + rng.range(-0.2, 0.2)).clamp(-16.0, 16.0);
            if spark.left == 0 {
                commands.despawn(entity);
            }
        }
    }
}

fn tally(time: Time, tally: Res<Tally>, mut output: Output) {
    if time.tick.0.is_multiple_of(TALLY_EVERY) {
        output.effect_json(
            "result",
            &serde_json::json!({ "tick": time.tick.0, "inputs": tally.inputs }),
        );
    }
}
