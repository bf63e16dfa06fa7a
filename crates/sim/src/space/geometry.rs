//! Plane geometry: vectors, boxes, rays and moving circles. Pure; called by games, and by
//! [`Scenery`](crate::Scenery) and [`Kinematics`](crate::Kinematics).
//!
//! Lengths are in whatever unit a game has, mostly metres. Only `+ - * /` and `sqrt` on `f32`, and
//! [`math`](crate::math) for angles, so that every machine computes the same bits.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

use crate::{Value, math};

/// A point or a direction.
#[derive(Debug, Clone, Copy, PartialEq, Default, Value)]
pub struct Vec2 {
    /// To the right.
    pub x: f32,
    /// Upwards.
    pub y: f32,
}

/// Short for [`Vec2`].
#[inline]
pub const fn vec2(x: f32, y: f32) -> Vec2 {
    Vec2 { x, y }
}

impl Vec2 {
    /// The origin.
    pub const ZERO: Self = vec2(0.0, 0.0);

    /// The direction of an angle in radians, counter-clockwise from the x axis.
    pub fn from_angle(radians: f32) -> Self {
        vec2(math::cos(radians), math::sin(radians))
    }

    /// The angle of a direction in radians, `-pi..=pi`.
    pub fn angle(self) -> f32 {
        math::atan2(self.y, self.x)
    }

    /// Inner product.
    #[inline]
    pub fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y
    }

    /// Length squared.
    #[inline]
    pub fn length_squared(self) -> f32 {
        self.dot(self)
    }

    /// Length.
    #[inline]
    pub fn length(self) -> f32 {
        self.length_squared().sqrt()
    }

    /// Distance to another point.
    #[inline]
    pub fn distance(self, other: Self) -> f32 {
        (other - self).length()
    }

    /// The same direction with length 1; the zero vector stays.
    #[must_use]
    #[inline]
    pub fn normalised(self) -> Self {
        let length = self.length();
        if length > 0.0 { self * (1.0 / length) } else { Self::ZERO }
    }

    /// The same direction, no longer than `most`.
    #[must_use]
    #[inline]
    pub fn clamped(self, most: f32) -> Self {
        let length = self.length();
        if length > most { self * (most / length) } else { self }
    }

    /// Turned left by a quarter.
    #[must_use]
    #[inline]
    pub fn perpendicular(self) -> Self {
        vec2(-self.y, self.x)
    }

    /// Turned counter-clockwise by the angle of `by`, a vector of length 1.
    #[must_use]
    #[inline]
    pub fn rotated(self, by: Self) -> Self {
        vec2(self.x * by.x - self.y * by.y, self.x * by.y + self.y * by.x)
    }
}

impl From<[f32; 2]> for Vec2 {
    #[inline]
    fn from([x, y]: [f32; 2]) -> Self {
        vec2(x, y)
    }
}

impl From<Vec2> for [f32; 2] {
    #[inline]
    fn from(at: Vec2) -> Self {
        [at.x, at.y]
    }
}

impl Add for Vec2 {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        vec2(self.x + other.x, self.y + other.y)
    }
}

impl AddAssign for Vec2 {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Vec2 {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        vec2(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Vec2 {
    type Output = Self;
    #[inline]
    fn mul(self, factor: f32) -> Self {
        vec2(self.x * factor, self.y * factor)
    }
}

impl Neg for Vec2 {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        vec2(-self.x, -self.y)
    }
}

/// A box with sides along the axes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Aabb {
    /// Lower left corner.
    pub min: Vec2,
    /// Upper right corner.
    pub max: Vec2,
}

impl Aabb {
    /// A box of `width` by `height` around `centre`.
    #[inline]
    pub fn around(centre: Vec2, width: f32, height: f32) -> Self {
        let half = vec2(width / 2.0, height / 2.0);
        Self { min: centre - half, max: centre + half }
    }

    /// The point of the box that is closest to `point`.
    #[inline]
    pub fn closest(&self, point: Vec2) -> Vec2 {
        vec2(point.x.max(self.min.x).min(self.max.x), point.y.max(self.min.y).min(self.max.y))
    }

    /// Distance from `point`; 0 inside.
    #[inline]
    pub fn distance(&self, point: Vec2) -> f32 {
        self.closest(point).distance(point)
    }

    /// Whether `point` lies in the box or on its edge.
    #[inline]
    pub fn contains(&self, point: Vec2) -> bool {
        self.closest(point) == point
    }

    /// The box with `by` added on every side.
    #[must_use]
    #[inline]
    pub fn grown(&self, by: f32) -> Self {
        let by = vec2(by, by);
        Self { min: self.min - by, max: self.max + by }
    }

    /// Where a circle at `centre` has to go so that it no longer overlaps the box: the shift, and 0
    /// if it does not.
    #[expect(clippy::float_cmp, reason = "the smallest of four is one of them, bit for bit")]
    #[inline]
    pub fn push_out(&self, centre: Vec2, radius: f32) -> Vec2 {
        let away = centre - self.closest(centre);
        let squared = away.length_squared();
        if squared >= radius * radius {
            return Vec2::ZERO;
        }
        if squared > 0.0 {
            let distance = squared.sqrt();
            return away * ((radius - distance) / distance);
        }
        // The centre is inside: leave by the nearest side.
        let (left, right) = (centre.x - self.min.x, self.max.x - centre.x);
        let (down, up) = (centre.y - self.min.y, self.max.y - centre.y);
        let nearest = left.min(right).min(down).min(up);
        if nearest == left {
            vec2(-left - radius, 0.0)
        } else if nearest == right {
            vec2(right + radius, 0.0)
        } else if nearest == down {
            vec2(0.0, -down - radius)
        } else {
            vec2(0.0, up + radius)
        }
    }

    /// Where the way from `from` by `way` enters the box: the part of the way before it, `0..=1`. A
    /// start inside is 0.
    #[inline]
    pub fn entry(&self, from: Vec2, way: Vec2) -> Option<f32> {
        let (mut enter, mut leave) = (0.0f32, 1.0f32);
        for (from, way, min, max) in
            [(from.x, way.x, self.min.x, self.max.x), (from.y, way.y, self.min.y, self.max.y)]
        {
            if way == 0.0 {
                if from < min || from > max {
                    return None;
                }
            } else {
                let (a, b) = ((min - from) / way, (max - from) / way);
                enter = enter.max(a.min(b));
                leave = leave.min(a.max(b));
            }
        }
        (enter <= leave).then_some(enter)
    }

    /// As [`Aabb::entry`], for a circle that moves: when it first touches the box.
    #[expect(clippy::float_cmp, reason = "`closest` clamps a coordinate or gives it back")]
    #[inline]
    pub fn sweep(&self, from: Vec2, way: Vec2, radius: f32) -> Option<f32> {
        let enter = self.grown(radius).entry(from, way)?;
        let at = from + way * enter;
        let corner = self.closest(at);
        if at.x != corner.x && at.y != corner.y {
            // Beside a corner of the grown box the true outline is round.
            ray_circle(from, way, corner, radius)
        } else {
            Some(enter)
        }
    }
}

/// Where the way from `from` by `way` enters a circle: the part of the way before it, `0..=1`. A
/// start inside is 0.
#[inline]
pub fn ray_circle(from: Vec2, way: Vec2, centre: Vec2, radius: f32) -> Option<f32> {
    let offset = from - centre;
    let outside = offset.length_squared() - radius * radius;
    if outside <= 0.0 {
        return Some(0.0);
    }
    let length_squared = way.length_squared();
    let towards = -offset.dot(way);
    if towards <= 0.0 || length_squared == 0.0 {
        return None;
    }
    let discriminant = towards * towards - length_squared * outside;
    if discriminant < 0.0 {
        return None;
    }
    let part = (towards - discriminant.sqrt()) / length_squared;
    (part <= 1.0).then_some(part.max(0.0))
}

/// The difference `to - from` of two angles, `-pi..=pi`.
pub fn turn(from: f32, to: f32) -> f32 {
    math::wrap_angle(to - from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOX: Aabb = Aabb { min: vec2(-2.0, -1.0), max: vec2(2.0, 1.0) };

    #[test]
    fn a_ray_enters_a_box_where_it_should() {
        assert_eq!(BOX.entry(vec2(-6.0, 0.0), vec2(8.0, 0.0)), Some(0.5));
        assert_eq!(BOX.entry(vec2(-6.0, 0.0), vec2(3.0, 0.0)), None, "too short");
        assert_eq!(BOX.entry(vec2(-6.0, 1.5), vec2(8.0, 0.0)), None, "passes above");
        assert_eq!(BOX.entry(vec2(-6.0, 0.0), vec2(-8.0, 0.0)), None, "goes away");
        assert_eq!(BOX.entry(vec2(0.0, 0.0), vec2(1.0, 0.0)), Some(0.0), "starts inside");
    }

    #[test]
    fn a_moving_circle_passes_a_corner_that_its_square_would_touch() {
        // Along a diagonal at distance 0.75 from the corner (2, 1): a square of half side 0.7 would
        // touch.
        let (from, way) = (vec2(2.0 + 0.53 + 3.0, 1.0 + 0.53 - 3.0), vec2(-6.0, 6.0));
        assert!(BOX.grown(0.7).entry(from, way).is_some());
        assert_eq!(BOX.sweep(from, way, 0.7), None);
        assert!(BOX.sweep(from, way, 0.76).is_some());
    }

    #[test]
    fn a_ray_enters_a_circle_where_it_should() {
        assert_eq!(ray_circle(vec2(-5.0, 0.0), vec2(10.0, 0.0), Vec2::ZERO, 1.0), Some(0.4));
        assert_eq!(ray_circle(vec2(-5.0, 2.0), vec2(10.0, 0.0), Vec2::ZERO, 1.0), None);
        assert_eq!(ray_circle(vec2(5.0, 0.0), vec2(10.0, 0.0), Vec2::ZERO, 1.0), None);
        assert_eq!(ray_circle(vec2(0.5, 0.0), vec2(10.0, 0.0), Vec2::ZERO, 1.0), Some(0.0));
    }

    fn point() -> impl Strategy<Value = Vec2> {
        (-8.0f32..8.0, -8.0f32..8.0).prop_map(|(x, y)| vec2(x, y))
    }

    proptest! {
        #[test]
        fn pushing_out_ends_the_overlap(centre in point(), radius in 0.1f32..2.0) {
            let freed = centre + BOX.push_out(centre, radius);
            prop_assert!(BOX.distance(freed) >= radius - 1e-4);
        }

        #[test]
        fn a_swept_circle_stops_at_first_touch(
            from in point(),
            way in point(),
            radius in 0.1f32..2.0,
        ) {
            prop_assume!(BOX.distance(from) > radius);
            let reached = BOX.sweep(from, way, radius).unwrap_or(1.0);
            for i in 0u8..=50 {
                let at = from + way * (reached * f32::from(i) / 50.0);
                prop_assert!(BOX.distance(at) >= radius - 1e-3, "overlaps at {at:?}");
            }
            if reached < 1.0 {
                let at = from + way * reached;
                prop_assert!((BOX.distance(at) - radius).abs() < 1e-3, "stopped before it touched");
            }
        }

        #[test]
        fn turning_there_arrives(from in -9.0f32..9.0, to in -9.0f32..9.0) {
            let by = turn(from, to);
            prop_assert!(by.abs() <= std::f32::consts::PI + 1e-3);
            prop_assert!(Vec2::from_angle(from + by).distance(Vec2::from_angle(to)) < 1e-3);
        }
    }
}
