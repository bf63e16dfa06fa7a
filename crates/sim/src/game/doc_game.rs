//! The game of the crate's documentation: players run on a line and tag each other. Compiled,
//! tested, and short enough to read whole.

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use serde::{Deserialize, Serialize};

use crate::{
    Commands, Component, Const, Entity, Event, EventReader, EventWriter, Game, GameBuilder, Inputs,
    IntoSystems, Output, Players, Query, Res, ResMut, Resource, Rng, Stage, Time, Value, View,
    With, World,
};

/// Where something is. Snapshots carry it in 16 bits, and clients extrapolate it by the velocity.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "position")]
pub struct Position {
    /// Metres.
    #[net(min = -100.0, max = 100.0, bits = 16, rate = "velocity.x")]
    #[value(range = -100.0..=100.0)]
    pub x: f32,
    /// Metres.
    #[net(min = -100.0, max = 100.0, bits = 16)]
    pub y: f32,
}

/// How fast it moves.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "velocity")]
pub struct Velocity {
    /// Metres per second.
    #[net(min = -10.0, max = 10.0, bits = 11)]
    pub x: f32,
}

/// A player's figure. Only the server knows whose.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "runner", version = 2)]
pub struct Runner {
    /// The player who steers it.
    pub player: PlayerId,
    /// How long nobody can tag it again, in ticks. An older checkpoint without this field gets the
    /// default.
    #[value(default = 30)]
    pub safe: u32,
}

/// A coin that lies around.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "coin")]
pub struct Coin {
    /// What it is worth; snapshots carry 4 bits.
    #[net(bits = 4)]
    #[value(default = 1)]
    pub worth: u8,
}

/// Who holds a coin that does not lie around. It goes with its holder.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "held-by", relation = "despawn")]
pub struct HeldBy(pub Entity);

/// What has been collected in the match.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "score")]
pub struct Score {
    /// The worth of all coins that any player has taken.
    pub total: u64,
}

/// A runner took a coin.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "collected")]
pub struct Collected {
    /// The player whose runner took it.
    pub player: PlayerId,
    /// Its worth.
    pub worth: u8,
}

/// What a player wants: left, stay, right.
#[derive(Debug, Clone, PartialEq, Value)]
pub enum Run {
    /// Stand still.
    Stay,
    /// Towards negative x.
    Left,
    /// Towards positive x.
    Right,
}

/// What a player can ask for.
#[derive(Debug, Clone, PartialEq, Value)]
pub enum Ask {
    /// Go back to the middle.
    Home,
    /// Say something.
    Say {
        /// What to say, up to 80 bytes.
        text: String,
    },
}

/// How a match is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rules {
    /// The match ends when so much is collected.
    pub goal: u64,
    /// Coins on the ground.
    pub coins: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { goal: 50, coins: 8 }
    }
}

/// The game.
pub struct Duel;

impl Game for Duel {
    const NAME: &'static str = "duel";
    type Config = Rules;
    type Input = Run;
    type Command = Ask;
    type Bot = u32;

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>()
            .component::<Velocity>()
            .component::<Runner>()
            .component::<Coin>()
            .component::<HeldBy>()
            .resource::<Score>()
            .event::<Collected>()
            .tells::<Collected>()
            .position::<Position>("x", "y")
            .aggregates::<Coin>(|coins| {
                coins.count("coins", |_| true);
            })
            .add_systems(Stage::PreUpdate, steer)
            .add_systems(Stage::Update, (movement, collect).chain())
            .add_systems(Stage::PostUpdate, (tally.on_event::<Collected>(), scatter.every(30)));
    }

    fn validate(config: &Rules) -> Result<(), String> {
        if config.goal == 0 { Err("`goal` must be at least 1".to_owned()) } else { Ok(()) }
    }

    fn max_players(_config: &Rules) -> usize {
        16
    }

    fn setup(world: &mut World, config: &Rules) {
        let mut rng = world.rng(0);
        for _ in 0..config.coins {
            world.spawn((Position { x: rng.range(-50.0, 50.0), y: 0.0 }, Coin { worth: 1 }));
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let avatar = world.spawn((
            Position { x: 0.0, y: 0.0 },
            Velocity { x: 0.0 },
            Runner { player, safe: 30 },
        ));
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        if let Some(avatar) = avatar {
            world.despawn(avatar);
        }
    }

    fn command(world: &mut World, player: PlayerId, command: Ask) -> bool {
        let avatar = world.resource::<Players>().avatar(player);
        match (command, avatar) {
            (Ask::Home, Some(avatar)) => {
                world.get_mut::<Position>(avatar).map(|mut position| position.x = 0.0).is_some()
            }
            (Ask::Say { text }, _) if text.len() <= 80 => {
                world.output().announce("said", &(player, text));
                true
            }
            _ => false,
        }
    }

    fn bot(player: PlayerId, view: &View<'_>, _config: &Rules, seen: &mut u32) -> Option<Run> {
        *seen += 1;
        let own = view.avatar(player)?.get::<Position>()?.x;
        let coins = view
            .entities()
            .filter(super::net::ViewEntity::has::<Coin>)
            .filter_map(|entity| entity.get::<Position>());
        let nearest = coins.map(|coin| coin.x - own).min_by(|a, b| a.abs().total_cmp(&b.abs()))?;
        Some(if nearest > 0.0 { Run::Right } else { Run::Left })
    }
}

fn steer(
    inputs: Inputs<Duel>,
    players: Res<Players>,
    mut runners: Query<&mut Velocity, With<Runner>>,
) {
    for input in &inputs {
        let avatar = players.avatar(input.player).unwrap_or_default();
        if let Some(mut velocity) = runners.get_mut(avatar) {
            velocity.x = match input.input {
                Run::Stay => 0.0,
                Run::Left => -8.0,
                Run::Right => 8.0,
            };
        }
    }
}

fn movement(time: Time, mut moving: Query<(&mut Position, &Velocity)>) {
    for (mut position, velocity) in &mut moving {
        if velocity.x != 0.0 {
            position.x += velocity.x * time.delta;
        }
    }
}

fn collect(
    mut commands: Commands,
    mut collected: EventWriter<Collected>,
    runners: Query<(&Position, &Runner)>,
    coins: Query<(Entity, &Position, &Coin)>,
) {
    for (coin, place, Coin { worth }) in &coins {
        let near = runners.iter().find(|(position, _)| (position.x - place.x).abs() < 0.5);
        if let Some((_, runner)) = near {
            commands.despawn(coin);
            collected.send(Collected { player: runner.player, worth: *worth });
        }
    }
}

fn tally(
    events: EventReader<Collected>,
    mut score: ResMut<Score>,
    rules: Const<Rules>,
    mut output: Output,
) {
    for event in events.read() {
        score.total += u64::from(event.worth);
        output.publish_to(event.player, event);
    }
    if score.total >= rules.goal {
        output.effect_json("result", &score.total);
        output.end_match("all collected");
    }
}

fn scatter(mut commands: Commands, mut rng: Rng, rules: Const<Rules>, coins: Query<&Coin>) {
    for _ in coins.iter().count()..rules.coins as usize {
        commands.spawn((
            Position { x: rng.range(-50.0, 50.0), y: 0.0 },
            Coin { worth: 1 + rng.below(3) as u8 },
        ));
    }
}
