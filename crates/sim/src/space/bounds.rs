//! Where the world ends, and what happens to what goes beyond.
//!
//! The rules are pure functions of a place; [`keep_inside`] and [`bounce`] are the systems that
//! [`GameBuilder::bounds`](crate::GameBuilder::bounds) adds.

use std::marker::PhantomData;

use crate::ecs::params::{Commands, Const};
use crate::ecs::query::Query;
use crate::ecs::query::filter::Changed;
use crate::space::{Moving, Place};
use crate::value::entity::Entity;

/// What happens at the edge of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEdge {
    /// It comes in again at the opposite side.
    Wrap,
    /// It stays at the edge.
    Clamp,
    /// It is thrown back as far as it was beyond, and its velocity, if the game gave one, turns.
    Bounce,
    /// It is despawned.
    Despawn,
}

/// The rectangle in which entities are, and what happens at its edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    min: [f32; 2],
    max: [f32; 2],
    edge: AtEdge,
}

/// What became of a coordinate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kept {
    at: f32,
    /// Its velocity turns.
    turned: bool,
}

impl Bounds {
    /// From `min` to `max`.
    ///
    /// # Panics
    /// If they are not finite, or if `min` is not less than `max` in both directions: the
    /// configuration is refused with these words.
    pub fn new(min: [f32; 2], max: [f32; 2], edge: AtEdge) -> Self {
        let fine =
            |axis: usize| min[axis] < max[axis] && min[axis].is_finite() && max[axis].is_finite();
        assert!(fine(0) && fine(1), "bounds from {min:?} to {max:?}: give finite ones, min < max");
        Self { min, max, edge }
    }

    /// Whether a place is inside. One that is no number is not.
    pub fn contains(&self, place: [f32; 2]) -> bool {
        (0..2).all(|axis| place[axis] >= self.min[axis] && place[axis] <= self.max[axis])
    }

    /// The place inside that becomes of one that may be beyond, and the velocity there; `None` if
    /// the entity ends.
    pub fn keep(&self, place: [f32; 2], velocity: [f32; 2]) -> Option<([f32; 2], [f32; 2])> {
        if self.contains(place) {
            return Some((place, velocity));
        }
        if self.edge == AtEdge::Despawn {
            return None;
        }
        let (mut at, mut moves) = (place, velocity);
        for axis in 0..2 {
            let kept = self.keep_axis(place[axis], self.min[axis], self.max[axis]);
            at[axis] = kept.at;
            // It turns towards the inside; one that is on its way there already goes on.
            let outwards = (place[axis] > self.max[axis]) == (velocity[axis] > 0.0);
            if kept.turned && outwards {
                moves[axis] = -velocity[axis];
            }
        }
        Some((at, moves))
    }

    fn keep_axis(&self, at: f32, min: f32, max: f32) -> Kept {
        let still = |at| Kept { at, turned: false };
        if at >= min && at <= max {
            return still(at);
        }
        if at.is_nan() {
            return still(min);
        }
        let nearest = if at < min { min } else { max };
        let beyond = if at < min { min - at } else { at - max };
        let size = max - min;
        match self.edge {
            AtEdge::Wrap if beyond.is_finite() && size.is_finite() => {
                let into = beyond % size;
                let at = if at < min { max - into } else { min + into };
                still(at.clamp(min, max))
            }
            // Further beyond than the world is wide: it stays at the edge.
            AtEdge::Bounce if beyond <= size => {
                let at = if at < min { min + beyond } else { max - beyond };
                Kept { at: at.clamp(min, max), turned: true }
            }
            AtEdge::Bounce => Kept { at: nearest, turned: true },
            AtEdge::Wrap | AtEdge::Clamp | AtEdge::Despawn => still(nearest),
        }
    }
}

/// The bounds for one kind of place, as a constant of a match.
pub(crate) struct BoundsOf<P>(pub(crate) Bounds, pub(crate) PhantomData<fn(P)>);

/// Keeps inside what was written since it last ran.
pub(crate) fn keep_inside<P: Place>(
    bounds: Const<BoundsOf<P>>,
    mut commands: Commands,
    mut places: Query<(Entity, &mut P), Changed<P>>,
) {
    for (entity, mut place) in &mut places {
        let at = place.place();
        if !bounds.0.contains(at) {
            match bounds.0.keep(at, [0.0; 2]) {
                Some((at, _)) => place.set_place(at),
                None => commands.despawn(entity),
            }
        }
    }
}

/// As [`keep_inside`], and turns velocities.
pub(crate) fn bounce<P: Place, V: Moving>(
    bounds: Const<BoundsOf<P>>,
    mut commands: Commands,
    mut places: Query<(Entity, &mut P, Option<&mut V>), Changed<P>>,
) {
    for (entity, mut place, velocity) in &mut places {
        let at = place.place();
        if bounds.0.contains(at) {
            continue;
        }
        let moves = velocity.as_ref().map_or([0.0; 2], |velocity| velocity.velocity());
        match bounds.0.keep(at, moves) {
            Some((at, turned)) => {
                place.set_place(at);
                // An unchanged velocity is not written: that would count as a change.
                if let Some(mut velocity) = velocity
                    && turned.map(f32::to_bits) != moves.map(f32::to_bits)
                {
                    velocity.set_velocity(turned);
                }
            }
            None => commands.despawn(entity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(edge: AtEdge) -> Bounds {
        Bounds::new([-10.0, 0.0], [10.0, 5.0], edge)
    }

    fn at(edge: AtEdge, place: [f32; 2]) -> Option<[f32; 2]> {
        Some(bounds(edge).keep(place, [0.0; 2])?.0)
    }

    #[test]
    fn what_is_beyond_comes_inside_as_the_edge_says() {
        let beyond = [13.0, -1.0];
        assert_eq!(at(AtEdge::Clamp, beyond), Some([10.0, 0.0]));
        assert_eq!(at(AtEdge::Wrap, beyond), Some([-7.0, 4.0]));
        assert_eq!(at(AtEdge::Bounce, beyond), Some([7.0, 1.0]));
        assert_eq!(at(AtEdge::Despawn, beyond), None);
        assert_eq!(at(AtEdge::Wrap, [10.0, 5.0]), Some([10.0, 5.0]), "the edge is inside");
    }

    #[test]
    fn nothing_stays_outside_whatever_it_is() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e9, -0.0, 10.1];
        for edge in [AtEdge::Clamp, AtEdge::Wrap, AtEdge::Bounce] {
            for x in odd {
                for y in odd {
                    let kept = at(edge, [x, y]).unwrap();
                    assert!(bounds(edge).contains(kept), "{edge:?} {x} {y}: {kept:?}");
                }
            }
        }
    }

    #[test]
    fn a_velocity_turns_towards_the_inside_only() {
        let kept = bounds(AtEdge::Bounce).keep([11.0, 2.0], [3.0, 1.0]);
        assert_eq!(kept, Some(([9.0, 2.0], [-3.0, 1.0])));
        let kept = bounds(AtEdge::Bounce).keep([11.0, -2.0], [-3.0, -1.0]);
        assert_eq!(kept, Some(([9.0, 2.0], [-3.0, 1.0])));
    }

    #[test]
    #[should_panic(expected = "give finite ones, min < max")]
    fn bounds_the_wrong_way_round_are_refused() {
        Bounds::new([1.0, 0.0], [0.0, 1.0], AtEdge::Clamp);
    }
}
