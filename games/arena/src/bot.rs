//! A bot: plays by what a client sees, and by nothing else. House bots, load tests and demos are
//! this function.
//!
//! Every few ticks it looks around and decides whom to fight and what to fetch; in each tick it
//! moves, aims and shoots accordingly.

use rekindle_sim::{PlayerId, Rng, Tick, Value, View, ViewEntity};

use crate::components::{
    Arms, Body, BodyKind, Clock, Health, PICKUP_RADIUS, Pickup, PickupKind, Position, Velocity,
};
use crate::config::Config;
use crate::geometry::{Vec2, turn, vec2};
use crate::input::Input;
use crate::map::Map;
use crate::movement::FIGHTER_RADIUS;
use crate::phases::Phase;
use crate::weapons::{Shot, WeaponKind};

/// What a bot remembers from tick to tick.
#[derive(Debug, Clone, PartialEq, Value)]
pub struct Memory {
    /// When to look around again.
    look_at: Tick,
    /// The slot of the opponent, if there is one.
    opponent: Option<u32>,
    /// Where to go for something.
    errand: Option<Vec2>,
    /// On which side to pass opponents and walls.
    #[value(default = 1.0)]
    side: f32,
    /// Where it looks, radians.
    aim: f32,
    /// By how much it misses, radians.
    error: f32,
}

/// Most that a bot turns in a tick, radians.
const TURN: f32 = 0.3;
/// How its hand shakes, radians per tick.
const SHAKE: f32 = 0.035;
/// It pulls the trigger if it looks no further past its opponent than this, radians.
const TRIGGER: f32 = 0.12;
/// How far ahead it looks for walls, metres.
const FEELER: f32 = 2.2;
/// With less health it looks for help.
const HURT: u8 = 45;
/// It goes this far for a weapon, metres.
const WEAPON_ERRAND: f32 = 18.0;

/// Directions that it tries when a wall is ahead, turned by 0, 35, 70, 105 and 140 degrees.
const FEELERS: [Vec2; 5] = [
    vec2(1.0, 0.0),
    vec2(0.819_152, 0.573_576),
    vec2(0.342_02, 0.939_693),
    vec2(-0.258_819, 0.965_926),
    vec2(-0.766_044, 0.642_788),
];

/// The bot's own fighter.
struct Me {
    slot: u32,
    at: Vec2,
    health: u8,
    arms: Arms,
}

/// Somebody to fight.
struct Opponent {
    at: Vec2,
    velocity: Vec2,
}

/// What `player` does in this tick. `None` without a fighter.
pub fn decide(
    player: PlayerId,
    view: &View<'_>,
    config: &Config,
    memory: &mut Memory,
) -> Option<Input> {
    let avatar = view.avatar(player)?;
    let me = Me {
        slot: avatar.slot,
        at: avatar.get::<Position>()?.vec(),
        health: avatar.get::<Health>()?.points,
        arms: avatar.get::<Arms>()?,
    };
    if me.health == 0 {
        *memory = Memory { aim: memory.aim, ..Memory::initial() };
        return Some(Input::new(Vec2::ZERO, memory.aim, false));
    }
    let map = config.map();
    let mut rng = Rng::stream(player.0, view.tick(), u64::from(me.slot));
    let mut opponent = memory.opponent.and_then(|slot| opponent(&view.entity(slot)?));
    if view.tick() >= memory.look_at || (memory.opponent.is_some() && opponent.is_none()) {
        let live = look_around(&me, view, &map, &mut rng, memory);
        opponent =
            memory.opponent.filter(|_| live).and_then(|slot| self::opponent(&view.entity(slot)?));
    }
    if memory.errand.is_some_and(|errand| errand.distance(me.at) < PICKUP_RADIUS) {
        memory.errand = None;
    }
    let seen = opponent.as_ref().filter(|opponent| map.is_clear(me.at, opponent.at, 0.1));
    let direction = walk(&me, opponent.as_ref(), seen.is_some(), &map, memory);
    let fire = aim(&me, seen, direction, &mut rng, memory);
    Some(Input::new(direction, memory.aim, fire))
}

/// What there is to know of an opponent; `None` if it is none, or down.
fn opponent(entity: &ViewEntity<'_>) -> Option<Opponent> {
    let alive = entity.get::<Health>()?.points > 0;
    alive.then_some(Opponent {
        at: entity.get::<Position>()?.vec(),
        velocity: entity.get::<Velocity>()?.vec(),
    })
}

/// Decides whom to fight and what to fetch; whether there is a fight at all.
fn look_around(me: &Me, view: &View<'_>, map: &Map, rng: &mut Rng, memory: &mut Memory) -> bool {
    memory.look_at.0 = view.tick().0 + 8 + u64::from(rng.below(10));
    if rng.one_in(3) {
        memory.side = -memory.side;
    }
    let mut live = false;
    let mut best_opponent = (f32::INFINITY, None);
    let mut best_errand = (f32::INFINITY, None);
    for entity in view.entities() {
        let Some(body) = entity.get::<Body>() else {
            live |= entity.get::<Clock>().is_some_and(|clock| clock.phase == Phase::Live);
            continue;
        };
        let Some(at) = entity.get::<Position>().map(Position::vec) else { continue };
        let distance = at.distance(me.at);
        match body.kind {
            BodyKind::Fighter | BodyKind::Drone
                if entity.slot != me.slot && opponent(&entity).is_some() =>
            {
                let hidden = if map.is_clear(me.at, at, 0.1) { 0.0 } else { 25.0 };
                let dull = if body.kind == BodyKind::Drone { 12.0 } else { 0.0 };
                let loyal = if memory.opponent == Some(entity.slot) { -4.0 } else { 0.0 };
                let cost = distance + hidden + dull + loyal;
                if cost < best_opponent.0 {
                    best_opponent = (cost, Some(entity.slot));
                }
            }
            BodyKind::Pickup => {
                let wanted = entity
                    .get::<Pickup>()
                    .is_some_and(|pickup| pickup.there && wants(me, pickup.kind, distance));
                if wanted && distance < best_errand.0 {
                    best_errand = (distance, Some(at));
                }
            }
            _ => {}
        }
    }
    memory.opponent = best_opponent.1.filter(|_| live);
    memory.errand = best_errand.1;
    if memory.opponent.is_none() && memory.errand.is_none() {
        memory.errand = rng.pick(&map.pickups).map(|spot| spot.at);
    }
    live
}

/// Whether to go for a pickup.
fn wants(me: &Me, kind: PickupKind, distance: f32) -> bool {
    match kind {
        PickupKind::Health => me.health < HURT,
        PickupKind::Shotgun => {
            me.health >= HURT && me.arms.weapon == WeaponKind::Blaster && distance < WEAPON_ERRAND
        }
        PickupKind::Launcher => {
            me.health >= HURT && me.arms.rockets == 0 && distance < WEAPON_ERRAND
        }
    }
}

/// Where to go.
fn walk(me: &Me, opponent: Option<&Opponent>, seen: bool, map: &Map, memory: &Memory) -> Vec2 {
    let wanted = match (memory.errand, opponent) {
        (Some(errand), _) => errand - me.at,
        (None, Some(opponent)) if seen => {
            let towards = opponent.at - me.at;
            let (near, far) = match me.arms.weapon {
                WeaponKind::Blaster => (5.0, 11.0),
                WeaponKind::Shotgun => (1.5, 4.0),
                WeaponKind::Launcher => (6.0, 12.0),
            };
            let (distance, towards) = (towards.length(), towards.normalised());
            let closer = if distance > far {
                0.8
            } else if distance < near {
                -0.8
            } else {
                0.0
            };
            towards.perpendicular() * memory.side + towards * closer
        }
        (None, Some(opponent)) => opponent.at - me.at,
        (None, None) => return Vec2::ZERO,
    };
    avoid_walls(me.at, wanted.normalised(), memory.side, map)
}

/// The direction nearest to `wanted` in which no wall is near.
fn avoid_walls(at: Vec2, wanted: Vec2, side: f32, map: &Map) -> Vec2 {
    for feeler in FEELERS {
        for side in [side, -side] {
            let direction = wanted.rotated(vec2(feeler.x, feeler.y * side));
            if map.reach(at, direction * FEELER, FIGHTER_RADIUS * 0.9) >= 1.0 {
                return direction;
            }
        }
    }
    wanted
}

/// Turns towards the opponent; whether to shoot.
fn aim(me: &Me, seen: Option<&Opponent>, ahead: Vec2, rng: &mut Rng, memory: &mut Memory) -> bool {
    memory.error = memory.error * 0.9 + rng.range(-SHAKE, SHAKE);
    let Some(opponent) = seen else {
        if ahead != Vec2::ZERO {
            memory.aim += turn(memory.aim, ahead.angle()).clamp(-TURN, TURN);
        }
        return false;
    };
    let distance = opponent.at.distance(me.at);
    let (lead, reach) = match me.arms.weapon.stats().shot {
        Shot::Hitscan { range, .. } => (0.0, range),
        Shot::Projectile { speed, .. } => (distance / speed, 25.0),
    };
    let to = opponent.at + opponent.velocity * lead - me.at;
    let off = turn(memory.aim, to.angle() + memory.error);
    memory.aim = turn(0.0, memory.aim + off.clamp(-TURN, TURN));
    let safe = me.arms.weapon != WeaponKind::Launcher || distance > 2.5;
    safe && distance < reach && off.abs() < TRIGGER
}
