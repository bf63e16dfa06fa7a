//! Maps: walls, where pickups lie, where fighters enter. A map is a pure function of the
//! configuration, so clients build the same one.

use crate::components::PickupKind;
use crate::geometry::{Aabb, Vec2, vec2};

/// Names that a configuration may use.
pub const NAMES: [&str; 3] = ["pillars", "crossing", "open"];
/// Smallest width and height, metres.
pub const MIN_SIZE: f32 = 24.0;
/// Largest width and height, metres: positions must lie within what snapshots can say.
pub const MAX_SIZE: f32 = 120.0;

/// Spawn points keep this far from walls, metres.
const SPAWN_CLEARANCE: f32 = 1.5;
/// Distance between neighbouring spawn points, metres.
const SPAWN_SPACING: f32 = 3.0;

/// Where a pickup lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PickupSpot {
    /// Its place.
    pub at: Vec2,
    /// What lies there.
    pub kind: PickupKind,
}

/// What stands still in a match. The origin is the middle.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map {
    /// Half of width and height: the arena reaches from `-half` to `half`.
    pub half: Vec2,
    /// Nothing passes them.
    pub walls: Vec<Aabb>,
    /// Where pickups lie.
    pub pickups: Vec<PickupSpot>,
}

/// One wall: centre and size, as parts of `half` and of width and height.
type Block = (f32, f32, f32, f32);

const PILLARS: &[Block] = &[
    (0.0, 0.0, 0.10, 0.14),
    (-0.5, 0.5, 0.08, 0.16),
    (0.5, 0.5, 0.08, 0.16),
    (-0.5, -0.5, 0.08, 0.16),
    (0.5, -0.5, 0.08, 0.16),
    (0.0, 0.62, 0.16, 0.05),
    (0.0, -0.62, 0.16, 0.05),
    (-0.76, 0.0, 0.05, 0.12),
    (0.76, 0.0, 0.05, 0.12),
];

const CROSSING: &[Block] = &[
    (-0.55, 0.0, 0.22, 0.05),
    (0.55, 0.0, 0.22, 0.05),
    (0.0, -0.55, 0.05, 0.22),
    (0.0, 0.55, 0.05, 0.22),
    (-0.5, 0.6, 0.1, 0.06),
    (0.5, 0.6, 0.1, 0.06),
    (-0.5, -0.6, 0.1, 0.06),
    (0.5, -0.6, 0.1, 0.06),
];

/// Places of pickups, as parts of `half`.
const PICKUPS: &[(f32, f32, PickupKind)] = &[
    (-0.22, 0.0, PickupKind::Launcher),
    (0.22, 0.0, PickupKind::Launcher),
    (0.0, -0.235, PickupKind::Shotgun),
    (0.0, 0.235, PickupKind::Shotgun),
    (-0.88, 0.8, PickupKind::Shotgun),
    (0.88, -0.8, PickupKind::Shotgun),
    (-0.88, -0.8, PickupKind::Health),
    (0.88, 0.8, PickupKind::Health),
    (0.0, 0.88, PickupKind::Health),
    (0.0, -0.88, PickupKind::Health),
];

impl Map {
    /// The map `name` in a size in metres. `None` for a name that is not one of [`NAMES`].
    pub fn named(name: &str, width: f32, height: f32) -> Option<Self> {
        let blocks = match name {
            "pillars" => PILLARS,
            "crossing" => CROSSING,
            "open" => &[],
            _ => return None,
        };
        let half = vec2(width / 2.0, height / 2.0);
        let place = |x: f32, y: f32| vec2(x * half.x, y * half.y);
        let walls: Vec<Aabb> = blocks
            .iter()
            .map(|&(x, y, w, h)| Aabb::around(place(x, y), w * width, h * height))
            .collect();
        let pickups =
            PICKUPS.iter().map(|&(x, y, kind)| PickupSpot { at: place(x, y), kind }).collect();
        Some(Self { half, walls, pickups })
    }

    /// How far a circle gets on its way before it touches a wall or the edge: a part of the way,
    /// `0..=1`.
    pub fn reach(&self, from: Vec2, way: Vec2, radius: f32) -> f32 {
        let edge = |from: f32, way: f32, half: f32| {
            let limit = half - radius;
            if way > 0.0 {
                (limit - from) / way
            } else if way < 0.0 {
                (-limit - from) / way
            } else {
                1.0
            }
        };
        let free =
            edge(from.x, way.x, self.half.x).min(edge(from.y, way.y, self.half.y)).clamp(0.0, 1.0);
        self.walls.iter().filter_map(|wall| wall.sweep(from, way, radius)).fold(free, f32::min)
    }

    /// Whether a circle gets all the way.
    pub fn is_clear(&self, from: Vec2, to: Vec2, radius: f32) -> bool {
        let way = to - from;
        self.walls.iter().all(|wall| wall.sweep(from, way, radius).is_none())
    }

    /// Takes a circle out of walls and back over the edge, and the part of its velocity that went
    /// in.
    ///
    /// For circles that move less than their radius in a tick, so that none is ever on the far side
    /// of a wall.
    pub fn confine(&self, mut centre: Vec2, mut velocity: Vec2, radius: f32) -> (Vec2, Vec2) {
        let mut stop = |push: Vec2| {
            let normal = push.normalised();
            let inwards = velocity.dot(normal);
            if inwards < 0.0 {
                velocity = velocity - normal * inwards;
            }
        };
        for wall in &self.walls {
            let push = wall.push_out(centre, radius);
            if push != Vec2::ZERO {
                centre += push;
                stop(push);
            }
        }
        let limit = self.half - vec2(radius, radius);
        let inside = vec2(centre.x.clamp(-limit.x, limit.x), centre.y.clamp(-limit.y, limit.y));
        let push = inside - centre;
        if push != Vec2::ZERO {
            centre = inside;
            stop(push);
        }
        (centre, velocity)
    }

    /// Whether a circle overlaps no wall and does not stand out of the arena, but for `slack`
    /// metres of rounding.
    pub fn is_free(&self, centre: Vec2, radius: f32, slack: f32) -> bool {
        let limit = self.half - vec2(radius - slack, radius - slack);
        centre.x.abs() <= limit.x
            && centre.y.abs() <= limit.y
            && self.walls.iter().all(|wall| wall.distance(centre) >= radius - slack)
    }
}

/// Where fighters and drones enter. Takes longer to compute than a map, and only the server needs
/// it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spawns {
    /// All points, row by row.
    pub points: Vec<Vec2>,
}

impl Spawns {
    /// A grid of points that keep clear of all walls.
    pub fn of(map: &Map) -> Self {
        let steps = |half: f32| ((half - SPAWN_CLEARANCE) / SPAWN_SPACING) as i32;
        let (columns, rows) = (steps(map.half.x), steps(map.half.y));
        let grid =
            (-rows..=rows).flat_map(|row| (-columns..=columns).map(move |column| (column, row)));
        let points = grid
            .map(|(column, row)| vec2(column as f32 * SPAWN_SPACING, row as f32 * SPAWN_SPACING))
            .filter(|point| {
                !map.walls.iter().any(|wall| wall.grown(SPAWN_CLEARANCE).contains(*point))
            })
            .collect();
        Self { points }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::movement::FIGHTER_RADIUS;

    fn maps() -> impl Iterator<Item = Map> {
        let sizes =
            [(MIN_SIZE, MIN_SIZE), (MIN_SIZE, MAX_SIZE), (48.0, 32.0), (MAX_SIZE, MAX_SIZE)];
        NAMES.into_iter().flat_map(move |name| {
            sizes.into_iter().filter_map(move |(width, height)| Map::named(name, width, height))
        })
    }

    #[test]
    fn everything_stands_free_in_every_map_and_size() {
        for map in maps() {
            let spawns = Spawns::of(&map).points;
            assert!(spawns.len() >= 8, "{} spawn points", spawns.len());
            let places = spawns.into_iter().chain(map.pickups.iter().map(|spot| spot.at));
            for place in places {
                assert!(map.is_free(place, 2.0 * FIGHTER_RADIUS, 0.0), "{place:?} in {map:?}");
            }
        }
    }

    #[test]
    fn no_gap_is_too_narrow_to_pass() {
        for map in maps() {
            for (index, wall) in map.walls.iter().enumerate() {
                let grown = wall.grown(2.0 * FIGHTER_RADIUS + 0.1);
                let edge = map.half - vec2(0.1, 0.1);
                assert!(
                    grown.min.x > -edge.x
                        && grown.max.x < edge.x
                        && grown.min.y > -edge.y
                        && grown.max.y < edge.y,
                    "{wall:?} at the edge"
                );
                for other in &map.walls[index + 1..] {
                    let apart = grown.max.x < other.min.x
                        || other.max.x < grown.min.x
                        || grown.max.y < other.min.y
                        || other.max.y < grown.min.y;
                    assert!(apart, "{wall:?} and {other:?}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_map_is_none() {
        assert_eq!(Map::named("moon", 40.0, 40.0), None);
    }

    proptest! {
        #[test]
        fn what_is_confined_is_free_and_goes_no_further_in(
            x in -30.0f32..30.0, y in -20.0f32..20.0, vx in -9.0f32..9.0, vy in -9.0f32..9.0,
        ) {
            let map = Map::named("pillars", 48.0, 32.0).unwrap();
            let (at, velocity) = map.confine(vec2(x, y), vec2(vx, vy), FIGHTER_RADIUS);
            prop_assert!(map.is_free(at, FIGHTER_RADIUS, 1e-4));
            prop_assert!(velocity.length() <= vec2(vx, vy).length() + 1e-4);
            let (again, _) = map.confine(at, velocity, FIGHTER_RADIUS);
            prop_assert!(again.distance(at) < 1e-4, "confining twice moves no further");
        }

        #[test]
        fn a_circle_reaches_only_free_places(
            x in -23.0f32..23.0,
            y in -15.0f32..15.0,
            dx in -40.0f32..40.0,
            dy in -40.0f32..40.0,
        ) {
            let map = Map::named("crossing", 48.0, 32.0).unwrap();
            let from = vec2(x, y);
            prop_assume!(map.is_free(from, 0.25, 0.0));
            let part = map.reach(from, vec2(dx, dy), 0.25);
            prop_assert!((0.0..=1.0).contains(&part));
            prop_assert!(map.is_free(from + vec2(dx, dy) * part, 0.25, 2e-3));
        }
    }
}
