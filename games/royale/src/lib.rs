//! A small battle royale: fighters on an island strike whoever is near, pick up bandages, and flee
//! from a zone that shrinks. The last one standing wins the round.
//!
//! The zone is not of this game: it is an extension ([`rekindle_zone::Zone`]), which any game can
//! have whose figures have a place. What is left to the game: when a round begins ([`Course`]), and
//! what becomes of those outside (`burn`).

mod course;
mod scene;

use rekindle_sim::sketch::Sketch;
use rekindle_sim::{
    AtEdge, Bounds, Commands, Component, Entity, Event, EventReader, EventWriter, Game,
    GameBuilder, Inputs, IntoSystems as _, LeaveReason, Output, Place, PlayerId, Players, Query,
    Res, Rng, Spatial, Stage, State, Statistic, Time, Value, View, ViewEntity, Without, World,
};
use rekindle_zone::{Circle, Doing, Outside, Settings, Zone};
use serde::{Deserialize, Serialize};

pub use crate::course::{Course, Won};

/// The island reaches so far in each direction, metres.
pub const HALF: f32 = 64.0;
/// How fast fighters run, metres a second.
const SPEED: f32 = 6.0;
/// Who is this near is struck, metres.
const REACH: f32 = 3.0;
/// What a strike costs, once a second.
const STRIKE: u8 = 9;
/// What a second outside of the zone costs.
const BURN: u8 = 12;
/// What a fighter begins with.
const HEALTH: u8 = 100;
/// Bandages on the island, and what one gives back.
const BANDAGES: u32 = 24;
const BANDAGE: u8 = 40;

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "royale.position")]
pub struct Position {
    /// To the right of the middle, metres.
    #[net(min = -64.0, max = 64.0, bits = 12)]
    pub x: f32,
    /// Above the middle, metres.
    #[net(min = -64.0, max = 64.0, bits = 12)]
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
#[component(id = "royale.fighter")]
pub struct Fighter {
    /// Who steers it.
    #[net(bits = 64)]
    pub player: PlayerId,
    /// Where it runs.
    pub towards: Steer,
    /// What it can still take.
    #[net(bits = 7)]
    pub health: u8,
    /// Opponents that it brought down in this round.
    #[net(bits = 6)]
    pub felled: u8,
    /// Who struck it last.
    pub struck_by: Option<PlayerId>,
}

/// It lies on the ground until the next round.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "royale.out")]
pub struct Out {
    /// As how many were still standing.
    #[net(bits = 6)]
    pub place: u8,
}

/// Lies about until a wounded fighter takes it.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "royale.bandage")]
pub struct Bandage {
    /// What it gives back.
    #[net(bits = 7)]
    pub health: u8,
}

/// Somebody is out: told to everybody.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "felled")]
pub struct Felled {
    /// Whose fighter it was.
    pub player: PlayerId,
    /// Who did it; nobody if it was the zone.
    pub by: Option<PlayerId>,
}

/// How many each player has felled: `rekindle match stats`.
#[derive(Debug)]
pub struct Feats;

impl Statistic for Feats {
    const NAME: &'static str = "felled";
    const WINDOW: Option<u64> = None;
    type Of = Felled;
    fn value(_: &Felled) -> i64 {
        1
    }
    fn player(event: &Felled) -> Option<PlayerId> {
        event.by
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

/// How a match is set up: `match create --game royale --game-config '{"gather_s": 20}'`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Most players: 2 to 60.
    pub players: u8,
    /// How long others are waited for once two are there, seconds.
    pub gather_s: u8,
    /// Whether the next round follows. Without it the match ends with the first.
    pub rematch: bool,
    /// How the zone shrinks.
    pub zone: Settings,
}

impl Default for Rules {
    fn default() -> Self {
        Self { players: 32, gather_s: 5, rematch: false, zone: Settings::default() }
    }
}

/// The game.
#[derive(Debug)]
pub struct Royale;

impl Game for Royale {
    const NAME: &'static str = "royale";
    type Config = Rules;
    type Input = Steer;
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>().component::<Fighter>().component::<Out>();
        game.component::<Bandage>().position::<Position>("x", "y").spatial::<Position>(8.0);
        game.bounds::<Position>(|_| Bounds::new([-HALF, -HALF], [HALF, HALF], AtEdge::Clamp));
        game.extend(Zone::<Position, Fighter, Rules>::new(|rules| rules.zone.clone()));
        game.event::<Felled>().statistic::<Feats>().tells::<Felled>().tells::<Won>();
        game.states(course::declare);
        game.aggregates::<Out>(|out| {
            out.count("out", |_| true);
        });
        let fight = (strike.run_if(is_fought), burn.on_event::<Outside>(), bandage, fall).chain();
        game.add_systems(Stage::PreUpdate, steer);
        game.add_systems(Stage::Update, (run, fight).chain());
        game.add_systems(Stage::PostUpdate, course::advance);
    }

    fn validate(rules: &Rules) -> Result<(), String> {
        if !(2..=60).contains(&rules.players) {
            return Err("`players` must be from 2 to 60".to_owned());
        }
        let zone = &rules.zone;
        if zone.middle.iter().any(|at| at.abs() > HALF) || zone.radius > 2.0 * HALF {
            return Err(format!("`zone` must begin on the island, which reaches {HALF} metres"));
        }
        Ok(())
    }

    fn max_players(rules: &Rules) -> usize {
        rules.players.into()
    }

    fn setup(world: &mut World, _rules: &Rules) {
        let mut rng = world.rng(0);
        for _ in 0..BANDAGES {
            world.spawn((somewhere(&mut rng), Bandage { health: BANDAGE }));
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let place = somewhere(&mut world.rng(player.0));
        let avatar = world.spawn((place, Fighter::fresh(player)));
        world.resource_mut::<Players>().set_avatar(player, avatar);
        // Who comes into a round that is fought looks on until the next one.
        if world.resource::<State<Course>>().now() != Course::Gathering {
            world.insert(avatar, Out { place: 0 });
        }
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        world.despawn(avatar.unwrap_or_default());
    }

    /// Runs into the next circle, else for a bandage if wounded, else after the nearest opponent.
    fn bot(player: PlayerId, view: &View<'_>, _rules: &Rules, (): &mut ()) -> Option<Steer> {
        let own = view.avatar(player)?;
        let (at, fighter) = (own.get::<Position>()?, own.get::<Fighter>()?);
        let zone = view.resource::<Circle>().filter(|zone| zone.doing != Doing::Off);
        let way_in = zone.and_then(|zone| {
            let (x, y) = (zone.next_x - at.x, zone.next_y - at.y);
            let outside = length(x, y) > (zone.next_radius - 2.0).max(1.0);
            outside.then_some((x, y))
        });
        let nearest = |wanted: &dyn Fn(&ViewEntity<'_>) -> bool| {
            let others = view.entities().filter(|it| it.slot != own.slot && wanted(it));
            let ways = others.filter_map(|it| it.get::<Position>());
            let ways = ways.map(|it| (it.x - at.x, it.y - at.y));
            ways.min_by(|a, b| length(a.0, a.1).total_cmp(&length(b.0, b.1)))
        };
        let wounded = fighter.health < HEALTH / 2;
        let bandage = wounded.then(|| nearest(&|it| it.has::<Bandage>())).flatten();
        let foe = || nearest(&|it| it.has::<Fighter>() && !it.has::<Out>());
        let (x, y) = way_in.or(bandage).or_else(foe)?;
        let full = length(x, y).max(0.1);
        Some(Steer { x: x / full, y: y / full })
    }

    fn sketch(view: &View<'_>, _rules: &Rules) -> Option<Sketch> {
        Some(scene::sketch(view))
    }
}

impl Fighter {
    fn fresh(player: PlayerId) -> Self {
        let towards = Steer { x: 0.0, y: 0.0 };
        Self { player, towards, health: HEALTH, felled: 0, struck_by: None }
    }
}

fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

fn somewhere(rng: &mut Rng) -> Position {
    Position { x: rng.range(-HALF, HALF), y: rng.range(-HALF, HALF) }
}

fn is_fought(course: Res<State<Course>>) -> bool {
    course.now() == Course::Fight
}

/// Inputs become what the fighters want.
fn steer(inputs: Inputs<Royale>, players: Res<Players>, mut fighters: Query<&mut Fighter>) {
    for input in &inputs {
        let avatar = players.avatar(input.player).unwrap_or_default();
        let Some(mut fighter) = fighters.get_mut(avatar) else { continue };
        let Steer { x, y } = input.input;
        // Nobody runs faster by running askew.
        let full = length(x, y).max(1.0);
        fighter.towards = Steer { x: x / full, y: y / full };
    }
}

fn run(time: Time, mut fighters: Query<(&mut Position, &Fighter), Without<Out>>) {
    for (mut at, fighter) in &mut fighters {
        if fighter.towards != (Steer { x: 0.0, y: 0.0 }) {
            at.x += fighter.towards.x * SPEED * time.delta;
            at.y += fighter.towards.y * SPEED * time.delta;
        }
    }
}

/// Once a second each fighter strikes the nearest opponent in reach, all at once.
fn strike(
    time: Time,
    grid: Spatial<Position>,
    mut standing: Query<(Entity, &Position, &mut Fighter), Without<Out>>,
) {
    if !time.tick.0.is_multiple_of(u64::from(time.rate.max(1))) {
        return;
    }
    let mut strikes: Vec<(Entity, PlayerId)> = Vec::new();
    for (entity, at, fighter) in &standing {
        let near = grid.within(at.place(), REACH).into_iter().filter(|other| *other != entity);
        let foes = near.filter_map(|other| standing.get(other));
        let far = |it: &Position| length(it.x - at.x, it.y - at.y);
        let foe = foes.min_by(|(_, a, _), (_, b, _)| far(a).total_cmp(&far(b)));
        strikes.extend(foe.map(|(foe, ..)| (foe, fighter.player)));
    }
    for (foe, player) in strikes {
        if let Some((.., mut fighter)) = standing.get_mut(foe) {
            fighter.health = fighter.health.saturating_sub(STRIKE);
            fighter.struck_by = Some(player);
        }
    }
}

/// What the zone costs those outside.
fn burn(outside: EventReader<Outside>, mut fighters: Query<&mut Fighter, Without<Out>>) {
    for outside in outside.read() {
        if let Some(mut fighter) = fighters.get_mut(outside.entity) {
            fighter.health = fighter.health.saturating_sub(BURN);
        }
    }
}

/// Who is wounded and near a bandage has it, and it lies somewhere else from then on.
fn bandage(
    grid: Spatial<Position>,
    bandages: Query<&Bandage>,
    mut fighters: Query<(&Position, &mut Fighter), Without<Out>>,
    mut rng: Rng,
    mut commands: Commands,
) {
    let mut taken = Vec::new();
    for (at, mut fighter) in &mut fighters {
        if fighter.health == 0 || fighter.health > HEALTH - BANDAGE {
            continue;
        }
        let near = grid.within(at.place(), 1.0).into_iter();
        let found =
            near.filter(|it| !taken.contains(it)).find_map(|it| Some((it, bandages.get(it)?)));
        if let Some((entity, bandage)) = found {
            fighter.health += bandage.health;
            taken.push(entity);
            commands.insert(entity, somewhere(&mut rng));
        }
    }
}

/// Who has no health left is out, as the place among those who stood says.
fn fall(
    players: Res<Players>,
    mut fighters: Query<(Entity, &mut Fighter, Option<&Out>)>,
    mut felled: EventWriter<Felled>,
    mut commands: Commands,
    mut output: Output,
) {
    let standing = || fighters.iter().filter(|(.., out)| out.is_none());
    let place = standing().count().min(63) as u8;
    let fallen: Vec<(Entity, PlayerId, Option<PlayerId>)> = standing()
        .filter(|(_, fighter, _)| fighter.health == 0)
        .map(|(entity, fighter, _)| (entity, fighter.player, fighter.struck_by))
        .collect();
    for (entity, player, by) in fallen {
        commands.insert(entity, Out { place });
        let event = Felled { player, by };
        output.publish(&event);
        felled.send(event);
        let striker = by.and_then(|by| players.avatar(by));
        if let Some((_, mut striker, _)) = striker.and_then(|it| fighters.get_mut(it)) {
            striker.felled = (striker.felled + 1).min(63);
        }
    }
}
