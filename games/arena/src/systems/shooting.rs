//! Weapons are fired.

use rekindle_sim::{
    Commands, Const, Entity, EventWriter, Past as _, Query, Res, Rng, State, Tick, Time, Without,
};

use crate::components::{Aim, Arms, Body, Dead, Fighter, Intent, Position, Trail};
use crate::events::Hit;
use crate::geometry::{Vec2, ray_circle};
use crate::map::Map;
use crate::movement::FIGHTER_RADIUS;
use crate::phases::Phase;
use crate::spawn;
use crate::weapons::Shot;

/// What can be hit.
type Targets<'w> =
    Query<'w, (Entity, &'static Body, &'static Position, &'static Trail), Without<Dead>>;

/// Fighters who pull the trigger shoot, if their weapon is ready.
///
/// Rays hit what the shooter saw: targets stand where they were at the tick that the player was
/// looking at.
pub fn fire(
    map: Const<Map>,
    phase: Res<State<Phase>>,
    time: Time,
    mut rng: Rng,
    mut shooters: Query<(Entity, &Fighter, &Intent, &Aim, &Position, &mut Arms), Without<Dead>>,
    targets: Targets,
    mut hits: EventWriter<Hit>,
    mut commands: Commands,
) {
    if !phase.is(Phase::Live) {
        return;
    }
    for (shooter, fighter, intent, aim, position, mut arms) in &mut shooters {
        if !intent.fire || !intent.is_fresh(time.tick) || time.tick < arms.ready_at {
            continue;
        }
        let kind = arms.weapon;
        let (weapon, from) = (kind.stats(), position.vec());
        match weapon.shot {
            Shot::Hitscan { range, rays, spread } => {
                let seen = (intent.behind > 0)
                    .then(|| Tick(time.tick.0.saturating_sub(u64::from(intent.behind))));
                for _ in 0..rays {
                    let way = Vec2::from_angle(aim.angle + rng.range(-spread, spread)) * range;
                    if let Some(target) = first_hit(&map, &targets, shooter, from, way, seen) {
                        hits.send(Hit {
                            target,
                            shooter,
                            player: fighter.player(),
                            weapon: kind,
                            damage: weapon.damage,
                            push: Vec2::ZERO,
                        });
                    }
                }
            }
            Shot::Projectile { speed, radius, lifetime, .. } => {
                let direction = Vec2::from_angle(aim.angle);
                let muzzle = direction * FIGHTER_RADIUS;
                let at = from + muzzle * map.reach(from, muzzle, radius);
                let expires = Tick(time.tick.0 + u64::from(lifetime));
                commands.spawn(spawn::rocket(
                    shooter,
                    fighter.player(),
                    at,
                    direction * speed,
                    expires,
                ));
            }
        }
        arms.ready_at = Tick(time.tick.0 + u64::from(weapon.cooldown));
        arms.spend();
    }
}

/// Whom a ray hits first: nobody if a wall is nearer. `seen` is the tick to judge by, `None` for
/// now.
fn first_hit(
    map: &Map,
    targets: &Targets<'_>,
    shooter: Entity,
    from: Vec2,
    way: Vec2,
    seen: Option<Tick>,
) -> Option<Entity> {
    let mut nearest = (map.reach(from, way, 0.0), None);
    for (target, body, position, trail) in targets {
        let at = seen.map_or(position.vec(), |tick| trail.after(tick).into());
        if let Some(part) = ray_circle(from, way, at, body.radius())
            && part < nearest.0
            && target != shooter
        {
            nearest = (part, Some(target));
        }
    }
    nearest.1
}
