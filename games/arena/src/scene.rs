//! A match as shapes to draw: a pure function of what a client sees. For terminals and consoles.

use rekindle_sim::{PlayerId, View};

use crate::components::*;
use crate::config::Config;
use crate::geometry::{Aabb, Vec2};
use crate::movement::TICK_RATE;
use crate::phases::Phase;
use crate::weapons::{Shot, WeaponKind};

/// One thing to draw. Coordinates are metres, the origin is the middle of the arena, y grows upwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A wall.
    Wall(Aabb),
    /// A fighter.
    Fighter {
        /// Who steers it.
        player: Option<PlayerId>,
        /// Its middle.
        at: Vec2,
        /// Its radius.
        radius: f32,
        /// Of length 1: where it looks.
        looks: Vec2,
        /// 0 to 100; 0 lies on the ground.
        health: u8,
        /// In hand.
        weapon: WeaponKind,
    },
    /// A shot that is being fired: from a muzzle to where the wall is, or the end of its range.
    Shot {
        /// Who shoots.
        player: Option<PlayerId>,
        /// The muzzle.
        from: Vec2,
        /// Where it ends.
        to: Vec2,
    },
    /// A drone.
    Drone {
        /// Its middle.
        at: Vec2,
        /// Its radius.
        radius: f32,
    },
    /// A rocket.
    Rocket {
        /// Its middle.
        at: Vec2,
        /// Where it was two ticks ago: its trail.
        from: Vec2,
    },
    /// A pickup that is there.
    Pickup {
        /// Its place.
        at: Vec2,
        /// What it gives.
        kind: PickupKind,
    },
}

/// A line of the scoreboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Who.
    pub player: PlayerId,
    /// Kills and deaths.
    pub score: Score,
    /// 0 to 100.
    pub health: u8,
}

/// All there is to draw of a match.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Half of width and height: the arena reaches from `-half` to `half`.
    pub half: Vec2,
    /// What goes on.
    pub phase: Phase,
    /// Seconds until it ends; 0 if nothing is set.
    pub seconds: u16,
    /// Back to front.
    pub shapes: Vec<Shape>,
    /// Best first.
    pub board: Vec<Line>,
}

impl Scene {
    /// The scene of a view of a match with this configuration.
    pub fn of(view: &View<'_>, config: &Config) -> Self {
        let map = config.map();
        let mut scene = Self { half: map.half, phase: Phase::Lobby, seconds: 0, shapes: Vec::new(), board: Vec::new() };
        scene.shapes.extend(map.walls.iter().copied().map(Shape::Wall));
        let mut above = Vec::new();
        for entity in view.entities() {
            if let Some(clock) = entity.get::<Clock>() {
                (scene.phase, scene.seconds) = (clock.phase, clock.seconds);
            }
            let (Some(body), Some(at)) = (entity.get::<Body>(), entity.get::<Position>().map(Position::vec)) else { continue };
            let radius = body.radius();
            let health = entity.get::<Health>().map_or(0, |health| health.points);
            match body.kind {
                BodyKind::Pickup => {
                    let there = entity.get::<Pickup>().filter(|pickup| pickup.there);
                    scene.shapes.extend(there.map(|pickup| Shape::Pickup { at, kind: pickup.kind }));
                }
                BodyKind::Drone if health > 0 => scene.shapes.push(Shape::Drone { at, radius }),
                BodyKind::Drone => {}
                BodyKind::Rocket => {
                    let velocity = entity.get::<Velocity>().map_or(Vec2::ZERO, Velocity::vec);
                    above.push(Shape::Rocket { at, from: at - velocity * (2.0 / f32::from(TICK_RATE)) });
                }
                BodyKind::Fighter => {
                    let player = entity.get::<Fighter>().map(Fighter::player);
                    let aim = entity.get::<Aim>().unwrap_or(Aim { angle: 0.0, firing: false });
                    let weapon = entity.get::<Arms>().map_or(WeaponKind::Blaster, |arms| arms.weapon);
                    let looks = Vec2::from_angle(aim.angle);
                    above.push(Shape::Fighter { player, at, radius, looks, health, weapon });
                    if let Shot::Hitscan { range, .. } = weapon.stats().shot
                        && aim.firing
                        && health > 0
                        && scene.phase == Phase::Live
                    {
                        let (from, way) = (at + looks * radius, looks * range);
                        above.push(Shape::Shot { player, from, to: from + way * map.reach(from, way, 0.0) });
                    }
                    if let (Some(player), Some(score)) = (player, entity.get::<Score>()) {
                        scene.board.push(Line { player, score, health });
                    }
                }
            }
        }
        scene.shapes.append(&mut above);
        scene
            .board
            .sort_by(|a, b| b.score.kills.cmp(&a.score.kills).then(a.score.deaths.cmp(&b.score.deaths)).then(a.player.cmp(&b.player)));
        scene
    }
}
