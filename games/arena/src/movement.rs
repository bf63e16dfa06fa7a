//! How bodies move: acceleration, walls. Pure; called by the systems, and by clients that predict
//! their own fighter.

use crate::geometry::{Vec2, vec2};
use crate::map::Map;

/// Ticks per second.
pub const TICK_RATE: u16 = 30;
/// Seconds per tick.
pub const TICK: f32 = 1.0 / TICK_RATE as f32;

/// Radius of a fighter, metres.
pub const FIGHTER_RADIUS: f32 = 0.5;
/// Radius of a drone, metres.
pub const DRONE_RADIUS: f32 = 0.4;
/// How fast a fighter runs, metres per second.
pub const FIGHTER_SPEED: f32 = 7.0;
/// How fast a fighter gets there, metres per second squared.
pub const FIGHTER_ACCELERATION: f32 = 45.0;
/// How fast a drone floats.
pub const DRONE_SPEED: f32 = 3.0;
/// How fast a drone turns.
pub const DRONE_ACCELERATION: f32 = 8.0;
/// No knockback makes a body faster than this.
pub const MAX_SPEED: f32 = 11.0;

/// Velocities are multiples of this, metres per second: it is also the quantum of velocities in
/// snapshots, so that what a client extrapolates is exact.
pub const VELOCITY_STEP: f32 = 0.125;

// What moves less than its radius in a tick cannot pass a wall between two ticks; `Map::confine`
// relies on it.
const _: () = assert!(MAX_SPEED * TICK < DRONE_RADIUS && DRONE_RADIUS < FIGHTER_RADIUS);

/// The nearest velocity that is a multiple of [`VELOCITY_STEP`] on both axes.
pub fn snap(velocity: Vec2) -> Vec2 {
    let snap = |v: f32| (v / VELOCITY_STEP + 0.5).floor() * VELOCITY_STEP;
    vec2(snap(velocity.x), snap(velocity.y))
}

/// The velocity after one tick of wanting to go at `wanted`, with an acceleration of at most
/// `most`.
pub fn accelerate(velocity: Vec2, wanted: Vec2, most: f32) -> Vec2 {
    snap(velocity + (wanted - velocity).clamped(most * TICK))
}

/// Place and velocity after one tick.
pub fn advance(map: &Map, at: Vec2, velocity: Vec2, radius: f32) -> (Vec2, Vec2) {
    let (at, stopped) = map.confine(at + velocity * TICK, velocity, radius);
    (at, if stopped == velocity { velocity } else { snap(stopped) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fighter_reaches_its_speed_and_stops_again() {
        let wanted = vec2(FIGHTER_SPEED, 0.0);
        let run = |mut velocity, wanted, ticks| {
            for _ in 0..ticks {
                velocity = accelerate(velocity, wanted, FIGHTER_ACCELERATION);
            }
            velocity
        };
        let running = run(Vec2::ZERO, wanted, 6);
        assert_eq!(running, wanted);
        assert_eq!(run(running, Vec2::ZERO, 6), Vec2::ZERO);
        assert!(run(Vec2::ZERO, wanted, 1).x < FIGHTER_SPEED / 3.0, "not at once");
    }

    #[test]
    fn a_fighter_slides_along_a_wall() {
        let map = Map::named("pillars", 48.0, 32.0).unwrap();
        let (mut at, mut velocity) = (vec2(-3.5, 2.0), Vec2::ZERO);
        for _ in 0..20 {
            velocity = accelerate(velocity, vec2(5.0, -5.0), FIGHTER_ACCELERATION);
            (at, velocity) = advance(&map, at, velocity, FIGHTER_RADIUS);
        }
        assert!(
            at.y < 0.0 && (at.x + 2.4 + FIGHTER_RADIUS).abs() < 0.01,
            "held by the middle pillar on the way right, not on the way down: {at:?}"
        );
    }

    proptest! {
        #[test]
        fn no_wall_is_ever_crossed(
            seed in 0usize..400,
            turns in proptest::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..60),
        ) {
            let map = Map::named(["pillars", "crossing"][seed % 2], 40.0, 28.0).unwrap();
            let spawns = crate::map::Spawns::of(&map).points;
            let mut at = spawns[seed % spawns.len()];
            let mut velocity = Vec2::ZERO;
            for (x, y) in turns {
                for _ in 0..7 {
                    let from = at;
                    let wished = vec2(x, y) * MAX_SPEED;
                    velocity = accelerate(velocity, wished, 300.0).clamped(MAX_SPEED);
                    (at, velocity) = advance(&map, at, velocity, FIGHTER_RADIUS);
                    prop_assert!(map.is_free(at, FIGHTER_RADIUS, 1e-3));
                    prop_assert!(map.is_clear(from, at, 0.0), "went through a wall from {from:?} \
                        to {at:?}");
                }
            }
        }
    }
}
