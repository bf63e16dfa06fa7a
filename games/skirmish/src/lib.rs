//! Skirmish: a small real-time strategy game. Two to four sides of spearmen and archers, 1,000
//! units in all; a player orders squads of one side about, and sees what the units of that side
//! see. The last side that has units wins.
//!
//! What it shows, beside `games/arena`, is in `docs/SKIRMISH.md`. Read it from `impl Game` on:
//! `build` lists what the game is made of. [`rules`] has every number; [`battle`] is what units do
//! in a tick, [`fog`] what a side sees, [`bot`] a player that is none, [`scene`] what `watch`
//! draws.

pub mod battle;
pub mod bot;
pub mod fog;
pub mod rules;
pub mod scene;

use rekindle_sim::sketch::Sketch;
use rekindle_sim::{
    Component, Const, Entity, Event, Game, GameBuilder, IfBroken, IntoSystems as _, LeaveReason,
    Place, PlayerId, Players, Query, Resource, Stage, Statistic, Tick, Value, View, Viewer, World,
};

use crate::fog::Fog;
use crate::rules::{Kind, Rules, SQUADS};

/// Where a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "skirmish.position")]
pub struct Position {
    /// To the right of the middle, metres.
    #[net(min = -64.0, max = 64.0, bits = 11)]
    #[value(range = -64.0..=64.0)]
    pub x: f32,
    /// Above the middle, metres.
    #[net(min = -64.0, max = 64.0, bits = 11)]
    #[value(range = -64.0..=64.0)]
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

impl Position {
    /// How far it is to another place, metres.
    pub fn distance(self, other: Self) -> f32 {
        let (x, y) = (other.x - self.x, other.y - self.y);
        (x * x + y * y).sqrt()
    }
}

/// One of many.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "skirmish.unit")]
pub struct Unit {
    /// Whose side it is on: 0 to 3.
    #[net(bits = 2)]
    pub side: u8,
    /// In which squad of its side: 0 to 9.
    #[net(bits = 4)]
    pub squad: u8,
    /// Which of its squad, in which each has its place.
    pub number: u8,
    /// How it moves and fights.
    #[net(bits = 1)]
    pub kind: Kind,
    /// What it can still take.
    #[net(bits = 4)]
    pub health: u8,
}

/// What units are ordered to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum Order {
    /// Stand, and hit who comes in range.
    Stop,
    /// Go there without a fight, and stand there.
    Move,
    /// Go there, and fight whoever is met on the way and there.
    Attack,
}

/// What a unit does. Its own side alone sees it.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "skirmish.duty")]
pub struct Duty {
    /// What it was ordered to do.
    #[net(bits = 2, team)]
    pub order: Order,
    /// Where it is to go: its own place in the squad.
    pub goal: Position,
    /// Whom it fights.
    pub foe: Option<Foe>,
}

/// An enemy, as it was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Value)]
pub struct Foe {
    /// Who.
    pub entity: Entity,
    /// Where it was.
    pub at: Position,
}

/// A player, who commands a side. It is what the player's avatar is.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "skirmish.commander")]
pub struct Commander {
    /// Which.
    pub player: PlayerId,
    /// Of which side: 0 to 3.
    #[net(bits = 2)]
    pub side: u8,
}

/// The round that is played.
#[derive(Debug, Clone, Default, PartialEq, Resource)]
#[resource(id = "skirmish.round")]
pub struct Round {
    /// Before its first tick.
    pub began: Tick,
    /// How many were played before it, in the same match.
    pub number: u32,
}

/// What a player asks for: these squads of the player's side do that.
#[derive(Debug, Clone, PartialEq, Value)]
pub struct Orders {
    /// Numbers of squads, 0 to 9. Those that have no units any more do not count.
    pub squads: Vec<u8>,
    /// What they are to do.
    pub order: Order,
    /// Where: the middle of each squad. It means nothing with [`Order::Stop`].
    pub target: Position,
}

/// Sent to systems: a unit fell.
#[derive(Debug, Clone, PartialEq, Eq, Event)]
#[event(id = "felled")]
pub struct Felled {
    /// Whose units felled it.
    pub by: PlayerId,
}

/// How many units each player's units felled: `rekindle match stats`.
#[derive(Debug)]
pub struct Kills;

impl Statistic for Kills {
    const NAME: &'static str = "kills";
    type Of = Felled;
    fn player(event: &Felled) -> Option<PlayerId> {
        Some(event.by)
    }
}

/// Told to everybody: `rekindle events --type won` lists them.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "won")]
pub struct Won {
    /// The side that won the round; none in a draw.
    pub side: Option<u8>,
    /// Who commanded it, if somebody did.
    pub player: Option<PlayerId>,
}

/// Every unit is of a side that plays, or the match stops: nobody could order it about or see it.
fn units_have_sides(units: Query<&Unit>, rules: Const<Rules>) -> Result<(), String> {
    let stray = units.iter().find(|unit| unit.side >= rules.sides);
    stray.map_or(Ok(()), |unit| Err(format!("a unit of side {} of {}", unit.side, rules.sides)))
}

/// The game.
#[derive(Debug)]
pub struct Skirmish;

impl Game for Skirmish {
    const NAME: &'static str = "skirmish";
    const TICK_RATE: u16 = 10;
    type Config = Rules;
    type Input = ();
    type Command = Orders;
    type Bot = bot::Mind;

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>().component::<Unit>().component::<Duty>();
        game.component::<Commander>().resource::<Round>().resource::<Fog>();
        game.event::<Felled>().statistic::<Kills>().tells::<Won>();
        game.aggregates::<Unit>(|units| {
            units.count_by("units_by_side", |unit| unit.side);
        });
        game.validation("units_have_sides", 100, IfBroken::Stop, units_have_sides);
        game.position::<Position>("x", "y");
        let fight = (battle::aim, battle::strike).chain().every(battle::EVERY);
        game.add_systems(Stage::PreUpdate, fight);
        game.add_systems(Stage::Update, (battle::march, battle::decide.every(10)).chain());
        // After units have moved, fallen and come: nobody sees from where it was.
        game.add_systems(Stage::PostUpdate, fog::lift);
        game.visibility(|see| {
            see.team(|unit: &Unit| u32::from(unit.side))
                .team(|commander: &Commander| u32::from(commander.side))
                .visible_if(|viewer, _, at: &Position| is_visible(viewer, *at));
        });
    }

    fn validate(rules: &Rules) -> Result<(), String> {
        rules.check()
    }

    fn max_players(rules: &Rules) -> usize {
        rules.sides.into()
    }

    fn setup(world: &mut World, rules: &Rules) {
        battle::array(world, rules);
    }

    /// A player gets the first side that nobody commands. Until then its units stand.
    fn join(world: &mut World, player: PlayerId) {
        let taken: Vec<u8> = commanders(world).into_iter().map(|one| one.side).collect();
        let sides = world.constant::<Rules>().sides;
        let Some(side) = (0..sides).find(|side| !taken.contains(side)) else { return };
        let avatar = world.spawn(Commander { player, side });
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    /// The side is free for whoever joins next; its units carry out the last orders.
    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        world.despawn(avatar.unwrap_or_default());
    }

    /// Granted if all of the squads exist, and one has units left. A target beyond the map was
    /// brought to its edge when the command was decoded: see the ranges of [`Position`].
    fn command(world: &mut World, player: PlayerId, orders: Orders) -> bool {
        let avatar = world.resource::<Players>().avatar(player).unwrap_or_default();
        let Some(Commander { side, .. }) = world.get(avatar) else { return false };
        let Orders { squads, order, target } = orders;
        if squads.iter().any(|squad| *squad >= SQUADS) {
            return false;
        }
        world.query::<(&Position, &Unit, &mut Duty), (), _>(|mut units| {
            let mut ordered = false;
            for (at, unit, mut duty) in &mut units {
                if unit.side == side && squads.contains(&unit.squad) {
                    let goal = if order == Order::Stop { *at } else { unit.post(target) };
                    *duty = Duty { order, goal, foe: None };
                    ordered = true;
                }
            }
            ordered
        })
    }

    fn bot_command(
        player: PlayerId,
        view: &View<'_>,
        rules: &Rules,
        mind: &mut bot::Mind,
    ) -> Option<Orders> {
        bot::command(player, view, rules, mind)
    }

    fn sketch(view: &View<'_>, rules: &Rules) -> Option<Sketch> {
        Some(scene::sketch(view, rules))
    }
}

/// Who commands which side.
fn commanders(world: &mut World) -> Vec<Commander> {
    world.query::<&Commander, (), _>(|all| all.iter().cloned().collect())
}

/// Whether a viewer sees what stands there. A player sees what the units of the own side see;
/// others see all of the battle if its rules let them, and nothing of it otherwise.
fn is_visible(viewer: &Viewer<'_>, at: Position) -> bool {
    let world = viewer.world();
    match viewer.team() {
        Some(side) => world.resource::<Fog>().is_lit(side as u8, at),
        None => viewer.player().is_none() && world.constant::<Rules>().spectators,
    }
}
