//! A small game in real time: runners collect gems on a field, and the first to have enough wins
//! the round.
//!
//! Players act by *inputs*: in each tick a client says where it wants to run. Inputs are small,
//! sent several times, and the newest one counts. What has to arrive (buying, casting, giving up)
//! would be a *command*: see `Game::command`.
//!
//! Read it from `impl Game` on: `build` lists what the game is made of, and the systems below do
//! the work of a tick. Everything is in the world, so a match goes on after a crash as if nothing
//! had happened.

use rekindle_sim::{
    AtEdge, Bounds, Commands, Component, Const, Event, EventWriter, Game, GameBuilder, IfBroken,
    Inputs, IntoSystems as _, LeaveReason, Output, Place, PlayerId, Players, Query, Res, Rng,
    Spatial, Stage, Statistic, Stats, Time, Value, View, ViewEntity, World,
};
use serde::{Deserialize, Serialize};

/// The field reaches so far in each direction, metres.
const HALF: f32 = 20.0;
/// How fast runners run, metres a second.
const SPEED: f32 = 6.0;
/// How near a gem has to be, metres.
const REACH: f32 = 1.0;
/// Gems on the field.
const GEMS: u32 = 24;

/// Where something is. `#[net]` says that clients see it, and how exactly.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-arena.position")]
pub struct Position {
    /// To the right of the middle, metres.
    #[net(min = -20.0, max = 20.0, bits = 12)]
    pub x: f32,
    /// Above the middle, metres.
    #[net(min = -20.0, max = 20.0, bits = 12)]
    pub y: f32,
}

impl Place for Position {
    fn place(&self) -> [f32; 2] {
        [self.x, self.y]
    }
    fn set_place(&mut self, [x, y]: [f32; 2]) {
        (self.x, self.y) = (x, y);
    }
}

/// A player's figure.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-arena.runner")]
pub struct Runner {
    /// Who steers it.
    pub player: PlayerId,
    /// Where it runs.
    pub towards: Steer,
    /// Gems collected in this round.
    #[net(bits = 8)]
    pub gems: u8,
    /// Gems collected in the last minute, for the scoreboard.
    #[net(bits = 8)]
    pub lately: u8,
}

/// Lies about until somebody takes it.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-arena.gem")]
pub struct Gem {
    /// How many gems it counts for.
    #[net(bits = 2)]
    pub worth: u8,
}

/// Somebody has a gem.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "collected")]
pub struct Collected {
    /// Whose runner it was.
    pub player: PlayerId,
    /// How many gems it counts for.
    pub worth: u8,
}

/// Told to everybody: `rekindle events --type won` lists them.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "won")]
pub struct Won {
    /// Who has enough gems.
    pub player: PlayerId,
}

/// The gems of each player, in all and in the last minute: `rekindle match stats`.
#[derive(Debug)]
pub struct Gems;

impl Statistic for Gems {
    const NAME: &'static str = "gems";
    const WINDOW: Option<u64> = Some(60 * 30);
    type Of = Collected;
    fn value(event: &Collected) -> i64 {
        event.worth.into()
    }
    fn player(event: &Collected) -> Option<PlayerId> {
        Some(event.player)
    }
}

/// What a player wants: a direction.
#[derive(Debug, Clone, PartialEq, Value)]
pub struct Steer {
    /// To the right.
    #[value(range = -1.0..=1.0)]
    pub x: f32,
    /// Upwards.
    #[value(range = -1.0..=1.0)]
    pub y: f32,
}

/// How a match is set up: `match create --game-config '{"goal": 30}'`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Who has so many gems wins the round.
    pub goal: u8,
    /// Whether the next round follows. Without it the match ends with the first.
    pub rematch: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { goal: 20, rematch: false }
    }
}

/// There are always as many gems as there should be: `rekindle match values`.
fn gems_are_complete(gems: Query<&Gem>) -> Result<(), String> {
    let count = gems.iter().count();
    if count == GEMS as usize { Ok(()) } else { Err(format!("{count} gems of {GEMS}")) }
}

/// The game.
#[derive(Debug)]
pub struct TemplateArena;

impl Game for TemplateArena {
    const NAME: &'static str = "template-arena";
    type Config = Rules;
    type Input = Steer;
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>().component::<Runner>().component::<Gem>();
        game.position::<Position>("x", "y").spatial::<Position>(4.0);
        game.bounds::<Position>(|_| Bounds::new([-HALF, -HALF], [HALF, HALF], AtEdge::Clamp));
        game.add_systems(Stage::PreUpdate, steer);
        game.event::<Collected>().statistic::<Gems>().tells::<Won>();
        game.aggregates::<Gem>(|gems| {
            gems.count("gems", |_| true).sum("worth_of_gems", |gem| gem.worth.into());
        });
        game.validation("gems_are_complete", 30, IfBroken::Warn, gems_are_complete);
        game.add_systems(Stage::Update, (run, collect, decide, rank.every(30)).chain());
    }

    fn validate(rules: &Rules) -> Result<(), String> {
        if rules.goal == 0 { Err("`goal` must be at least 1".to_owned()) } else { Ok(()) }
    }

    fn max_players(_rules: &Rules) -> usize {
        16
    }

    fn setup(world: &mut World, _rules: &Rules) {
        let mut rng = world.rng(0);
        for _ in 0..GEMS {
            world.spawn((somewhere(&mut rng), Gem { worth: 1 + rng.below(3) as u8 }));
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let place = somewhere(&mut world.rng(player.0));
        let runner = Runner { player, towards: Steer { x: 0.0, y: 0.0 }, gems: 0, lately: 0 };
        let avatar = world.spawn((place, runner));
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        world.despawn(avatar.unwrap_or_default());
    }

    /// Runs to the nearest gem. A bot sees what a client sees, and nothing else.
    fn bot(player: PlayerId, view: &View<'_>, _rules: &Rules, (): &mut ()) -> Option<Steer> {
        let Position { x, y } = view.avatar(player)?.get()?;
        let gems = view.entities().filter(ViewEntity::has::<Gem>);
        let ways = gems.filter_map(|gem| gem.get::<Position>()).map(|gem| (gem.x - x, gem.y - y));
        let length = |(x, y): (f32, f32)| (x * x + y * y).sqrt();
        let way = ways.min_by(|a, b| length(*a).total_cmp(&length(*b)))?;
        let full = length(way).max(0.1);
        Some(Steer { x: way.0 / full, y: way.1 / full })
    }
}

fn somewhere(rng: &mut Rng) -> Position {
    Position { x: rng.range(-HALF, HALF), y: rng.range(-HALF, HALF) }
}

/// Inputs become what the runners want.
fn steer(inputs: Inputs<TemplateArena>, players: Res<Players>, mut runners: Query<&mut Runner>) {
    for input in &inputs {
        let avatar = players.avatar(input.player).unwrap_or_default();
        let Some(mut runner) = runners.get_mut(avatar) else { continue };
        let Steer { x, y } = input.input;
        // Nobody runs faster by running askew.
        let length = (x * x + y * y).sqrt().max(1.0);
        runner.towards = Steer { x: x / length, y: y / length };
    }
}

fn run(time: Time, mut runners: Query<(&mut Position, &Runner)>) {
    for (mut position, runner) in &mut runners {
        position.x += runner.towards.x * SPEED * time.delta;
        position.y += runner.towards.y * SPEED * time.delta;
    }
}

/// Who is near a gem has it, and it lies somewhere else from then on.
fn collect(
    grid: Spatial<Position>,
    gems: Query<&Gem>,
    mut runners: Query<(&Position, &mut Runner)>,
    mut rng: Rng,
    mut collected: EventWriter<Collected>,
    mut commands: Commands,
) {
    let mut taken = Vec::new();
    for (position, mut runner) in &mut runners {
        for entity in grid.within(position.place(), REACH) {
            let Some(gem) = gems.get(entity).filter(|_| !taken.contains(&entity)) else { continue };
            runner.gems = runner.gems.saturating_add(gem.worth);
            collected.send(Collected { player: runner.player, worth: gem.worth });
            taken.push(entity);
            commands.insert(entity, somewhere(&mut rng));
        }
    }
}

/// Ends the round when somebody has enough. The effect `result` leaves the node once, whatever
/// happens to the node.
fn decide(rules: Const<Rules>, mut runners: Query<&mut Runner>, mut output: Output) {
    let mut all = runners.iter().map(|runner| (runner.player, runner.gems));
    let Some((winner, _)) = all.find(|(_, gems)| *gems >= rules.goal) else { return };
    output.publish(&Won { player: winner });
    output.effect_json("result", &winner.0);
    if !rules.rematch {
        output.end_match("somebody has enough gems");
    }
    for mut runner in &mut runners {
        runner.gems = 0;
    }
}

/// Brings the scoreboard up to date.
fn rank(gems: Stats<Gems>, mut runners: Query<&mut Runner>) {
    for mut runner in &mut runners {
        let lately = u8::try_from(gems.recent_of(runner.player).sum).unwrap_or(u8::MAX);
        if runner.lately != lately {
            runner.lately = lately;
        }
    }
}
