//! A 2D arena shooter, and the game to read before writing one.
//!
//! A tour, in the order in which a new game would be made:
//!
//! 1. [`config`]: what a match can be configured with.
//! 2. [`input`]: what players send: an input in each tick, and reliable commands.
//! 3. [`components`]: what entities are made of, and how their fields are quantised in snapshots;
//!    [`events`]: what happens to them.
//! 4. Pure rules that know nothing of worlds and are tested by themselves: [`geometry`], [`map`],
//!    [`movement`], [`weapons`], [`phases`].
//! 5. [`systems`]: plain functions that apply the rules to the world; [`spawn`]: what new entities
//!    are made of.
//! 6. [`Arena`], below: the [`Game`] that puts it together.
//! 7. [`bot`]: plays by what a client sees; [`scene`]: the same view, as shapes to draw.
//!
//! Nothing in here can see a clock, a socket or a store: a match is a function of configuration,
//! seed and inputs. Lag compensation ([`components::Trail`]), timers and pending events are
//! components and resources, so they are in the checkpoint, and a match that is restored on another
//! node goes on in the middle of a shot.

pub mod bot;
pub mod components;
pub mod config;
mod departed;
pub mod events;
pub mod input;
pub mod map;
pub mod movement;
pub mod phases;
pub mod scene;
pub mod spawn;
pub mod systems;
pub mod weapons;

pub use config::Config;
pub use rekindle_sim::geometry;
use rekindle_sim::sketch::Sketch;
use rekindle_sim::{
    Game, GameBuilder, IfBroken, IntoSystems, LeaveReason, PlayerId, Players, Query, Res, Stage,
    State, View, With, Without, World, record_past,
};

use crate::bot::Memory;
use crate::components::{
    Aim, Arms, Body, Clock, Dead, Drone, Fighter, Health, Intent, Pickup, Position, Projectile,
    Score, Trail, Velocity,
};
use crate::departed::Departed;
use crate::events::{Began, Hit, Kill, PhaseChange, Respawn, Taken};
use crate::geometry::Vec2;
use crate::input::{Command, Input};
use crate::map::{Map, Spawns};
use crate::phases::{Phase, Rounds};
use crate::systems::{control, course, health, motion, pickups, rockets, shooting};

/// Everybody in the match has a fighter, dead or alive.
fn players_have_fighters(players: Res<Players>, fighters: Query<&Fighter>) -> Result<(), String> {
    let lost = players.iter().find(|player| fighters.get(player.avatar).is_none());
    lost.map_or(Ok(()), |player| Err(format!("player {} has no fighter", player.id)))
}

/// The game.
#[derive(Debug)]
pub struct Arena;

impl Game for Arena {
    const NAME: &'static str = "arena";
    const TICK_RATE: u16 = movement::TICK_RATE;
    type Config = Config;
    type Input = Input;
    type Command = Command;
    type Bot = Memory;

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Body>()
            .component::<Position>()
            .component::<Velocity>()
            .component::<Health>()
            .component::<Trail>();
        game.component::<Fighter>()
            .component::<Intent>()
            .component::<Aim>()
            .component::<Arms>()
            .component::<Score>()
            .component::<Dead>();
        game.component::<Drone>()
            .component::<Projectile>()
            .component::<Pickup>()
            .component::<Clock>();
        game.resource::<Rounds>().resource::<Departed>().states(phases::declare);
        game.event::<Hit>().event::<Began>();
        game.tells::<PhaseChange>().tells::<Kill>().tells::<Respawn>().tells::<Taken>();
        game.constant(Config::map).constant(|config: &Config| Spawns::of(&config.map()));
        game.position::<Position>("x", "y");
        game.calculation("alive", |living: Query<&Fighter, Without<Dead>>| living.iter().count())
            .aggregates::<Score>(|scores| {
                scores.sum("kills", |score| score.kills.into());
            })
            .validation("players_have_fighters", 300, IfBroken::Warn, players_have_fighters);

        let turns = (course::begin_fight, course::conclude)
            .chain()
            .on_event::<Began>()
            .after(course::advance);
        game.add_systems(Stage::First, (course::advance, turns));
        game.add_systems(Stage::PreUpdate, control::steer);
        game.add_systems(
            Stage::Update,
            (motion::run, motion::drift, shooting::fire, rockets::fly).chain(),
        );
        game.add_systems(Stage::PostUpdate, (health::wound, health::revive, pickups::take).chain());
        game.add_systems(Stage::Last, (record_past::<Trail>.named("record"), course::show_clock));
    }

    fn validate(config: &Config) -> Result<(), String> {
        config.validate()
    }

    fn max_players(config: &Config) -> usize {
        usize::from(config.max_players)
    }

    fn setup(world: &mut World, config: &Config) {
        world.spawn(spawn::clock());
        for spot in &world.constant::<Map>().pickups {
            world.spawn(spawn::pickup(*spot));
        }
        let (spawns, mut rng) = (world.constant::<Spawns>(), world.rng(0));
        for _ in 0..config.movers {
            let at = spawn::place(&spawns, &mut rng, &[]);
            world.spawn(spawn::drone(at));
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let opponents: Vec<Vec2> =
            world.query::<&Position, (With<Fighter>, Without<Dead>), _>(|living| {
                living.iter().map(|at| at.vec()).collect()
            });
        let mut rng = world.rng(player.0);
        let at = spawn::place(&world.constant::<Spawns>(), &mut rng, &opponents);
        let score = world.resource_mut::<Departed>().take(player);
        let tick = world.tick();
        let fighter = world.spawn(spawn::fighter(player, at, score, tick));
        world.resource_mut::<Players>().set_avatar(player, fighter);
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let Some(fighter) = world.resource::<Players>().avatar(player) else { return };
        let name = world
            .resource::<Players>()
            .get(player)
            .map_or_else(String::new, |player| player.name.clone());
        if let Some(score) = world.get::<Score>(fighter)
            && world.resource::<State<Phase>>().is(Phase::Live)
        {
            world.resource_mut::<Departed>().note(player, name, score);
        }
        world.despawn(fighter);
    }

    fn command(world: &mut World, player: PlayerId, command: Command) -> bool {
        let Some(fighter) = world.resource::<Players>().avatar(player) else { return false };
        match command {
            Command::Ready => {
                let lobby = world.resource::<State<Phase>>().is(Phase::Lobby);
                match world.get_mut::<Fighter>(fighter) {
                    Some(mut fighter) if lobby => fighter.ready = true,
                    _ => return false,
                }
            }
            Command::Switch(weapon) => match world.get_mut::<Arms>(fighter) {
                Some(mut arms) if arms.has(weapon) => arms.weapon = weapon,
                _ => return false,
            },
        }
        true
    }

    fn bot(
        player: PlayerId,
        view: &View<'_>,
        config: &Config,
        memory: &mut Memory,
    ) -> Option<Input> {
        bot::decide(player, view, config, memory)
    }

    fn sketch(view: &View<'_>, config: &Config) -> Option<Sketch> {
        Some(scene::sketch(view, config))
    }
}
