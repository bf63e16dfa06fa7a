//! Rockets fly and burst.

use rekindle_sim::{Commands, Const, Entity, EventWriter, Query, Time, With, Without};

use crate::components::{Body, Dead, Health, Position, Projectile, Velocity};
use crate::events::Hit;
use crate::geometry::{Vec2, ray_circle};
use crate::map::Map;
use crate::movement::TICK;
use crate::weapons::Shot;

/// A body that a rocket can meet.
struct Target {
    entity: Entity,
    at: Vec2,
    radius: f32,
}

/// Moves rockets; those that meet a wall or somebody, or have flown for long enough, burst.
pub fn fly(
    map: Const<Map>,
    time: Time,
    rockets: Query<(Entity, &Body, &Velocity, &Projectile)>,
    bodies: Query<(Entity, &Body), (With<Health>, Without<Dead>)>,
    mut positions: Query<&mut Position>,
    mut hits: EventWriter<Hit>,
    mut commands: Commands,
) {
    if rockets.is_empty() {
        return;
    }
    let place = |entity: Entity, positions: &Query<&mut Position>| {
        positions.get(entity).map(|position| position.vec())
    };
    let targets: Vec<Target> = bodies
        .iter()
        .filter_map(|(entity, body)| {
            Some(Target { entity, at: place(entity, &positions)?, radius: body.radius() })
        })
        .collect();
    for (entity, body, velocity, rocket) in &rockets {
        let Some(from) = place(entity, &positions) else { continue };
        let (way, radius) = (velocity.vec() * TICK, body.radius());
        let others = targets.iter().filter(|target| target.entity != rocket.shooter);
        let met = others
            .filter_map(|target| ray_circle(from, way, target.at, radius + target.radius))
            .fold(1.0, f32::min);
        let part = map.reach(from, way, radius).min(met);
        let at = from + way * part;
        if part < 1.0 || time.tick >= rocket.expires {
            burst(&map, at, rocket, &targets, &mut hits);
            commands.despawn(entity);
        } else if let Some(mut position) = positions.get_mut(entity) {
            *position = at.into();
        }
    }
}

/// Hits everybody in reach of a burst, less with distance, and the shooter half as hard.
fn burst(
    map: &Map,
    at: Vec2,
    rocket: &Projectile,
    targets: &[Target],
    hits: &mut EventWriter<Hit>,
) {
    let weapon = rocket.weapon.stats();
    let Shot::Projectile { blast, knockback, .. } = weapon.shot else { return };
    for target in targets {
        let away = target.at - at;
        let strength = 1.0 - (away.length() - target.radius).max(0.0) / blast;
        if strength <= 0.0 || !map.is_clear(at, target.at, 0.0) {
            continue;
        }
        let own = if target.entity == rocket.shooter { 0.5 } else { 1.0 };
        hits.send(Hit {
            target: target.entity,
            shooter: rocket.shooter,
            player: rocket.player,
            weapon: rocket.weapon,
            damage: (f32::from(weapon.damage) * strength * own + 0.5) as u8,
            push: away.normalised() * (knockback * strength),
        });
    }
}
