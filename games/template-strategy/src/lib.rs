//! A small strategy game: two sides of 120 units each in six groups. A player orders a group to a
//! place; units fight whoever is near. The side that has units left wins the round.
//!
//! Players act by *commands*: each is granted or refused, applied once, and answered when it is
//! durable, so that an order that a player was told about is carried out also after a crash. The
//! units do the rest by themselves, tick by tick.
//!
//! Read it from `impl Game` on: `build` lists what the game is made of, and the systems below do
//! the work of a tick. Everything is in the world, so a match goes on after a crash as if nothing
//! had happened.

use rekindle_sim::sketch::{Ink, Shape, Sketch};
use rekindle_sim::{
    Commands, Component, Const, Entity, Event, Game, GameBuilder, IntoSystems as _, LeaveReason,
    Output, Place, PlayerId, Players, Query, Spatial, Stage, Tick, Time, Value, View, World,
};
use serde::{Deserialize, Serialize};

/// The map reaches so far in each direction, metres.
const HALF: f32 = 50.0;
/// Groups of each side.
const GROUPS: u8 = 6;
/// Units of a group when a round begins.
const UNITS: u8 = 20;
/// How fast units march, metres a second.
const SPEED: f32 = 4.0;
/// Who is so near is fought, metres.
const RANGE: f32 = 4.0;
/// What a unit can take.
const HEALTH: u8 = 10;

/// Told to everybody: `rekindle events --type won` lists them.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "won")]
pub struct Won {
    /// The side that has units left.
    pub side: u8,
}

/// Where a unit is. `#[net]` says that clients see it, and how exactly.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-strategy.position")]
pub struct Position {
    /// To the right of the middle, metres.
    #[net(min = -50.0, max = 50.0, bits = 11)]
    #[value(range = -50.0..=50.0)]
    pub x: f32,
    /// Above the middle, metres.
    #[net(min = -50.0, max = 50.0, bits = 11)]
    #[value(range = -50.0..=50.0)]
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

/// One of many.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-strategy.unit")]
pub struct Unit {
    /// 0 or 1.
    #[net(bits = 1)]
    pub side: u8,
    /// Which group of its side.
    #[net(bits = 3)]
    pub group: u8,
    /// What it can still take.
    #[net(bits = 4)]
    pub health: u8,
    /// Where it was ordered.
    pub target: Position,
}

/// A player, who commands a side. It is what the player's avatar is.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-strategy.commander")]
pub struct Commander {
    /// 0 or 1.
    #[net(bits = 1)]
    pub side: u8,
}

/// What a player asks for: a group of the player's side goes there.
#[derive(Debug, Clone, PartialEq, Value)]
pub struct March {
    /// 0 to 5.
    pub group: u8,
    /// Where to.
    pub target: Position,
}

/// How a match is set up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Whether the next round follows. Without it the match ends with the first.
    pub rematch: bool,
}

/// The game.
#[derive(Debug)]
pub struct TemplateStrategy;

impl Game for TemplateStrategy {
    const NAME: &'static str = "template-strategy";
    const TICK_RATE: u16 = 10;
    type Config = Rules;
    type Input = ();
    type Command = March;
    /// When the bot orders again.
    type Bot = Tick;

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>().component::<Unit>().component::<Commander>().tells::<Won>();
        game.position::<Position>("x", "y").spatial::<Position>(RANGE);
        game.add_systems(Stage::Update, (march, fight.every(5), decide.every(5)).chain());
    }

    fn max_players(_rules: &Rules) -> usize {
        2
    }

    fn setup(world: &mut World, _rules: &Rules) {
        array(world);
    }

    fn join(world: &mut World, player: PlayerId) {
        let taken = world.query::<&Commander, (), _>(|commanders| {
            commanders.iter().map(|commander| commander.side).collect::<Vec<_>>()
        });
        let side = u8::from(taken.contains(&0));
        let avatar = world.spawn(Commander { side });
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        // The units carry out the last orders.
        let avatar = world.resource::<Players>().avatar(player);
        world.despawn(avatar.unwrap_or_default());
    }

    fn command(world: &mut World, player: PlayerId, March { group, target }: March) -> bool {
        let avatar = world.resource::<Players>().avatar(player).unwrap_or_default();
        let Some(Commander { side }) = world.get(avatar) else { return false };
        world.query::<&mut Unit, (), _>(|mut units| {
            let mut own = 0;
            for mut unit in &mut units {
                if unit.side == side && unit.group == group {
                    unit.target = target.clone();
                    own += 1;
                }
            }
            own > 0
        })
    }

    /// Each second it sends one of its groups to the enemy that is nearest to it. A bot sees what a
    /// client sees, and nothing else.
    fn bot_command(
        player: PlayerId,
        view: &View<'_>,
        _rules: &Rules,
        due: &mut Tick,
    ) -> Option<March> {
        let Commander { side } = view.avatar(player)?.get()?;
        if view.tick() < *due {
            return None;
        }
        let units =
            || view.entities().filter_map(|entity| Some((entity.get::<Unit>()?, entity.get()?)));
        // One after the other, and past those that are gone.
        let groups = (0..GROUPS).map(|next| (view.tick().0 / 10 + u64::from(next)) as u8 % GROUPS);
        let own = |group| {
            let mut all = units();
            all.find(|(unit, _)| unit.side == side && unit.group == group)
                .map(|(_, at): (_, Position)| (group, at))
        };
        let (group, from) = groups.into_iter().find_map(own)?;
        let distance =
            |at: &Position| (at.x - from.x) * (at.x - from.x) + (at.y - from.y) * (at.y - from.y);
        let enemies = units().filter(|(unit, _)| unit.side != side).map(|(_, at)| at);
        let target = enemies.min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        *due = Tick(view.tick().0 + 10);
        Some(March { group, target })
    }

    /// What `watch` draws: a dot for each unit, in the colour of its side.
    fn sketch(view: &View<'_>, _rules: &Rules) -> Option<Sketch> {
        let mut left = [0u32; 2];
        let mut shapes = Vec::new();
        for entity in view.entities() {
            let (Some(unit), Some(at)) = (entity.get::<Unit>(), entity.get::<Position>()) else {
                continue;
            };
            left[usize::from(unit.side % 2)] += 1;
            shapes.push(Shape::Point { at: at.place(), ink: Ink::Kind(unit.side) });
        }
        let title = format!("{} against {}", left[0], left[1]);
        Some(Sketch { x: [-HALF, HALF], y: [-HALF, HALF], title, shapes, board: Vec::new() })
    }
}

/// Puts all units where they begin: the sides face each other, group by group.
fn array(world: &mut World) {
    for side in 0..2u8 {
        for group in 0..GROUPS {
            for number in 0..UNITS {
                let (row, column) = (f32::from(number % 5), f32::from(number / 5));
                let x = (20.0 + 2.0 * column) * if side == 0 { -1.0 } else { 1.0 };
                let y = -HALF + 10.0 + 14.0 * f32::from(group) + 2.0 * row;
                let target = Position { x, y };
                world.spawn((target.clone(), Unit { side, group, health: HEALTH, target }));
            }
        }
    }
}

/// Units go where they were ordered. Each goes by itself, so a node with `match_threads` moves
/// thousands of them on several threads; the world is the same with one.
fn march(time: Time, mut units: Query<(&mut Position, &Unit)>) {
    let step = SPEED * time.delta;
    units.par_for_each(|(mut position, Unit { target, .. })| {
        let (x, y) = (target.x - position.x, target.y - position.y);
        let length = (x * x + y * y).sqrt();
        // Only what moves is written: what is written costs in checkpoints and snapshots.
        if length > step {
            position.x += x / length * step;
            position.y += y / length * step;
        }
    });
}

/// Each unit hits the nearest enemy in range. All hit at once: the order of units decides nothing.
fn fight(
    grid: Spatial<Position>,
    mut units: Query<(Entity, &Position, &mut Unit)>,
    mut commands: Commands,
) {
    let mut hits = Vec::new();
    for (_, position, unit) in &units {
        let mut near = grid.within(position.place(), RANGE).into_iter();
        hits.extend(
            near.find(|other| {
                units.get(*other).is_some_and(|(_, _, other)| other.side != unit.side)
            }),
        );
    }
    for hit in hits {
        let Some((entity, _, mut unit)) = units.get_mut(hit) else { continue };
        unit.health = unit.health.saturating_sub(1);
        if unit.health == 0 {
            commands.despawn(entity);
        }
    }
}

/// Ends the round when a side has no units. The effect `result` leaves the node once, whatever
/// happens to the node.
fn decide(
    rules: Const<Rules>,
    units: Query<(Entity, &Unit)>,
    mut commands: Commands,
    mut output: Output,
) {
    let left = [0, 1].map(|side| units.iter().filter(|(_, unit)| unit.side == side).count());
    if left[0] > 0 && left[1] > 0 {
        return;
    }
    let winner = usize::from(left[0] == 0);
    output.publish(&Won { side: winner as u8 });
    output.effect_json("result", &serde_json::json!({ "side": winner, "left": left[winner] }));
    if !rules.rematch {
        output.end_match("a side has no units left");
        return;
    }
    for (entity, _) in &units {
        commands.despawn(entity);
    }
    commands.add(array);
}
