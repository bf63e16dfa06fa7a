//! A game in which hardly anybody sees everything, with whatever rules a test asks for, and what
//! each viewer may see of it, worked out from the world in the plainest way. Shared by the tests.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "each user takes its own part"
)]

pub mod oracle;

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::{
    Commands, Component, Const, Entity, Game, GameBuilder, Interest, IntoSystems, Players, Query,
    ResMut, Resource, Rng, Stage, Viewer, World,
};
use serde::{Deserialize, Serialize};

/// Somebody's gold: 32 bits that occur nowhere else, so that they are found in any bytes.
pub fn gold_of(player: PlayerId) -> u32 {
    0xa5c3_96e1u32.wrapping_add((player.0 as u32).wrapping_mul(0x1357_9bdf))
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "place")]
pub struct Place {
    #[net(min = -64.0, max = 64.0, bits = 14)]
    pub x: f32,
    #[net(min = -64.0, max = 64.0, bits = 14)]
    pub y: f32,
}

/// Belongs to a player, is on a team, and has a field for each of them.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "unit")]
pub struct Unit {
    pub player: PlayerId,
    #[net(bits = 3)]
    pub team: u8,
    #[net(bits = 9, team)]
    pub plan: u16,
    #[net(bits = 9, owner)]
    pub ammo: u16,
    #[net]
    pub cloaked: bool,
}

/// All of it is for the owner: for others it is not there.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "purse")]
pub struct Purse {
    #[net(bits = 32, owner)]
    pub gold: u32,
}

/// Seen by its owner alone.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "trap")]
pub struct Trap {
    pub player: PlayerId,
    #[net(bits = 8)]
    pub damage: u8,
}

/// Seen by a team.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "signal")]
pub struct Signal {
    pub team: u8,
    #[net(bits = 8)]
    pub colour: u8,
}

/// Seen at any distance.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "flag")]
pub struct Flag {
    #[net(bits = 4)]
    pub height: u8,
}

/// Which team sees who is cloaked; what a filter looks up.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "detectors")]
pub struct Detectors {
    pub team: u8,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub things: u32,
    pub radius: f32,
    pub margin: f32,
    /// How often something is spawned, despawned or changed in a tick, in percent.
    pub unrest: u32,
    /// How far something goes in a tick.
    pub stride: f32,
    /// Every player has a purse.
    pub purses: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { things: 40, radius: 30.0, margin: 6.0, unrest: 30, stride: 1.5, purses: false }
    }
}

/// Which rules are declared besides owners, teams and their fields.
pub const INTEREST: u8 = 1;
pub const FILTER: u8 = 2;
pub const SPECTATORS: u8 = 4;

pub struct Veil<const RULES: u8>;

fn detected(viewer: &Viewer<'_>, _unit: Entity, unit: &Unit) -> bool {
    let detectors = viewer.world().resource::<Detectors>().team;
    !unit.cloaked || viewer.team() == Some(u32::from(detectors))
}

impl<const RULES: u8> Game for Veil<RULES> {
    const NAME: &'static str = "veil";
    type Config = Config;
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Place>()
            .component::<Unit>()
            .component::<Purse>()
            .component::<Trap>()
            .component::<Signal>()
            .component::<Flag>()
            .resource::<Detectors>()
            .position::<Place>("x", "y")
            .add_systems(Stage::Update, (wander, churn, steer).chain())
            .visibility(|see| {
                see.owned_by(|unit: &Unit| (unit.player.0 != 0).then_some(unit.player))
                    .owned_by(|trap: &Trap| trap.player)
                    .team(|unit: &Unit| u32::from(unit.team))
                    .team(|signal: &Signal| u32::from(signal.team))
                    .owner_only::<Trap>()
                    .team_only::<Signal>();
            });
        if RULES & INTEREST != 0 {
            game.interest(|config| Interest::new(config.radius, config.margin)).visibility(|see| {
                see.always_relevant::<Flag>();
            });
        }
        if RULES & FILTER != 0 {
            game.visibility(|see| {
                see.visible_if(detected);
            });
        }
        if RULES & SPECTATORS != 0 {
            game.visibility(|see| {
                see.spectators_see_all();
            });
        }
    }

    fn max_players(_: &Config) -> usize {
        8
    }

    fn setup(world: &mut World, config: &Config) {
        let mut rng = world.rng(1);
        for _ in 0..config.things {
            let place = somewhere(&mut rng);
            match rng.below(8) {
                0 => world.spawn((place, Flag { height: 3 })),
                1 => world.spawn((place, signal(&mut rng))),
                2 => world.spawn((place, trap(&mut rng))),
                3 => world.spawn(Flag { height: 5 }),
                // Nobody owns it, so nobody sees anything of it.
                4 => world.spawn(Purse { gold: 1 }),
                _ => world.spawn((place, unit(&mut rng))),
            };
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let mut rng = world.rng(player.0);
        let unit = Unit { player, ..unit(&mut rng) };
        let avatar = world.spawn((somewhere(&mut rng), unit));
        if world.constant::<Config>().purses {
            world.insert(avatar, Purse { gold: gold_of(player) });
        }
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn somewhere(rng: &mut Rng) -> Place {
    Place { x: rng.range(-60.0, 60.0), y: rng.range(-60.0, 60.0) }
}

fn unit(rng: &mut Rng) -> Unit {
    Unit {
        player: PlayerId(u64::from(rng.below(7))),
        team: rng.below(3) as u8,
        plan: rng.below(500) as u16,
        ammo: rng.below(500) as u16,
        cloaked: rng.below(2) == 1,
    }
}

fn signal(rng: &mut Rng) -> Signal {
    Signal { team: rng.below(3) as u8, colour: rng.below(200) as u8 }
}

fn trap(rng: &mut Rng) -> Trap {
    Trap { player: PlayerId(u64::from(1 + rng.below(6))), damage: rng.below(200) as u8 }
}

/// Everything moves a little, so that it crosses the borders of sight again and again.
fn wander(config: Const<Config>, mut rng: Rng, mut places: Query<&mut Place>) {
    for mut place in &mut places {
        let step = config.stride;
        place.x = (place.x + rng.range(-step, step)).clamp(-63.0, 63.0);
        place.y = (place.y + rng.range(-step, step)).clamp(-63.0, 63.0);
    }
}

/// Things come and go, change teams, owners and components.
fn churn(
    config: Const<Config>,
    mut rng: Rng,
    mut commands: Commands,
    mut detectors: ResMut<Detectors>,
    mut units: Query<(Entity, &mut Unit, Option<&Purse>)>,
) {
    let mut happens = || rng.below(100) < config.unrest;
    let (spawns, changes, turns) = (happens(), happens(), happens());
    if turns {
        detectors.team = rng.below(3) as u8;
    }
    if spawns {
        commands.spawn((somewhere(&mut rng), trap(&mut rng)));
        commands.spawn((somewhere(&mut rng), unit(&mut rng)));
    }
    for (entity, mut own, purse) in &mut units {
        if changes && rng.below(6) == 0 {
            let player = own.player;
            *own = Unit { player, ..unit(&mut rng) };
            match (purse, config.purses) {
                (None, _) => commands.insert(entity, Purse { gold: gold_of(player) }),
                (Some(_), false) => commands.remove::<Purse>(entity),
                (Some(_), true) => {}
            }
        }
        if changes && rng.below(40) == 0 {
            commands.despawn(entity);
        }
    }
}

/// A player whose avatar is gone gets another one at times, or has none.
fn steer(mut rng: Rng, mut players: ResMut<Players>, units: Query<(Entity, &Unit)>) {
    for id in players.iter().map(|player| player.id).collect::<Vec<_>>() {
        let lives = players.avatar(id).is_some_and(|avatar| units.get(avatar).is_some());
        if !lives && rng.below(8) == 0 {
            let own = units.iter().find(|(_, unit)| unit.player == id);
            players.set_avatar(id, own.map_or(Entity::NONE, |(entity, _)| entity));
        }
    }
}
