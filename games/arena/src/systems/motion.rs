//! Bodies move.

use rekindle_sim::{Const, Query, Rng, Time, Without};

use crate::components::{Dead, Drone, Intent, Position, Velocity};
use crate::geometry::Vec2;
use crate::map::Map;
use crate::movement::{
    DRONE_ACCELERATION, DRONE_RADIUS, DRONE_SPEED, FIGHTER_ACCELERATION, FIGHTER_RADIUS,
    FIGHTER_SPEED, accelerate, advance,
};

/// Fighters go where their players want.
pub fn run(
    map: Const<Map>,
    time: Time,
    mut fighters: Query<(&Intent, &mut Velocity, &mut Position), Without<Dead>>,
) {
    for (intent, mut velocity, mut position) in &mut fighters {
        let wanted =
            if intent.is_fresh(time.tick) { intent.direction * FIGHTER_SPEED } else { Vec2::ZERO };
        let speed = accelerate(velocity.vec(), wanted, FIGHTER_ACCELERATION);
        let (at, speed) = advance(&map, position.vec(), speed, FIGHTER_RADIUS);
        velocity.set_if_neq(speed.into());
        position.set_if_neq(at.into());
    }
}

/// Drones wander about: now and then, and at walls, they take another course.
pub fn drift(
    map: Const<Map>,
    time: Time,
    mut rng: Rng,
    mut drones: Query<(&mut Drone, &mut Velocity, &mut Position), Without<Dead>>,
) {
    for (mut drone, mut velocity, mut position) in &mut drones {
        if time.tick >= drone.turns_at {
            let speed = rng.range(DRONE_SPEED / 2.0, DRONE_SPEED);
            drone.course =
                Vec2::from_angle(rng.range(-std::f32::consts::PI, std::f32::consts::PI)) * speed;
            drone.turns_at.0 = time.tick.0 + 45 + u64::from(rng.below(90));
        }
        let wanted = accelerate(velocity.vec(), drone.course, DRONE_ACCELERATION);
        let (at, speed) = advance(&map, position.vec(), wanted, DRONE_RADIUS);
        if speed != wanted {
            drone.turns_at = time.tick;
        }
        velocity.set_if_neq(speed.into());
        position.set_if_neq(at.into());
    }
}
