//! What new entities are made of, and where they enter.

use rekindle_sim::{Bundle, Entity, PlayerId, Rng, Tick};

use crate::components::{
    Aim, Arms, Body, BodyKind, Clock, DRONE_HEALTH, Drone, FULL_HEALTH, Fighter, Health, Intent,
    Pickup, Position, Projectile, Score, Trail, Velocity,
};
use crate::geometry::{Vec2, vec2};
use crate::map::{PickupSpot, Spawns};
use crate::movement::snap;
use crate::phases::Phase;
use crate::weapons::WeaponKind;

/// How many spawn points are looked at to find one that is far from opponents.
const CHOICES: usize = 6;

/// A player's fighter.
pub fn fighter(player: PlayerId, at: Vec2, score: Score, tick: Tick) -> impl Bundle {
    (
        Body { kind: BodyKind::Fighter },
        Fighter::of(player),
        Aim { angle: 0.0, firing: false },
        score,
        fresh_fighter(at, tick),
    )
}

/// What a fighter has anew each time it enters.
pub fn fresh_fighter(at: Vec2, tick: Tick) -> impl Bundle {
    let body = (Position::from(at), Velocity::from(Vec2::ZERO), Trail::at(at));
    let intent = Intent { direction: Vec2::ZERO, fire: false, behind: 0, since: tick };
    (body, Health { points: FULL_HEALTH }, Arms::new(), intent)
}

/// A drone.
pub fn drone(at: Vec2) -> impl Bundle {
    let body = (
        Body { kind: BodyKind::Drone },
        Position::from(at),
        Velocity::from(Vec2::ZERO),
        Trail::at(at),
    );
    (body, Health { points: DRONE_HEALTH }, Drone { course: Vec2::ZERO, turns_at: Tick(0) })
}

/// A rocket on its way.
pub fn rocket(
    shooter: Entity,
    player: PlayerId,
    at: Vec2,
    velocity: Vec2,
    expires: Tick,
) -> impl Bundle {
    let projectile = Projectile { shooter, player, weapon: WeaponKind::Launcher, expires };
    (
        Body { kind: BodyKind::Rocket },
        Position::from(at),
        Velocity::from(snap(velocity)),
        projectile,
    )
}

/// A pickup that is there.
pub fn pickup(spot: PickupSpot) -> impl Bundle {
    (
        Body { kind: BodyKind::Pickup },
        Position::from(spot.at),
        Pickup { kind: spot.kind, there: true, back_at: Tick(0) },
    )
}

/// The match itself.
pub fn clock() -> impl Bundle {
    Clock { phase: Phase::Lobby, seconds: 0 }
}

/// Where to enter: of some spawn points the one whose nearest opponent is furthest away.
pub fn place(spawns: &Spawns, rng: &mut Rng, opponents: &[Vec2]) -> Vec2 {
    let nearest = |at: Vec2| {
        opponents.iter().map(|other| (*other - at).length_squared()).fold(f32::INFINITY, f32::min)
    };
    let mut best = (vec2(0.0, 0.0), -1.0);
    for _ in 0..CHOICES {
        let at = rng.pick(&spawns.points).copied().unwrap_or_default();
        let distance = nearest(at);
        if distance > best.1 {
            best = (at, distance);
        }
    }
    best.0
}
