//! Space: where things are, which are near, and where the world ends.
//!
//! Called by games. [`grid`] finds entities by place, [`scenery`] what stands still; [`bounds`]
//! keeps entities inside; [`physics`] moves them, and [`past`] knows where they were; [`geometry`]
//! has vectors, boxes and what moves along them. Everything is made of `+ - * / sqrt`, so the
//! results are the same on every machine, and their order depends on places and entities alone.

pub(crate) mod bounds;
pub mod geometry;
pub(crate) mod grid;
pub(crate) mod kinematics;
pub(crate) mod past;
pub(crate) mod physics;
pub(crate) mod scenery;

use crate::value::component::Component;

/// A component that says where an entity is, in a plane.
///
/// ```
/// use rekindle_sim::{Component, Place};
///
/// #[derive(Clone, Component)]
/// #[component(id = "at")]
/// struct At { x: f32, y: f32 }
///
/// impl Place for At {
///     fn place(&self) -> [f32; 2] {
///         [self.x, self.y]
///     }
///     fn set_place(&mut self, [x, y]: [f32; 2]) {
///         (self.x, self.y) = (x, y);
///     }
/// }
/// ```
pub trait Place: Component {
    /// Where it is.
    fn place(&self) -> [f32; 2];
    /// Puts it somewhere else.
    fn set_place(&mut self, place: [f32; 2]);
}

/// A component that says how fast an entity moves: what turns back at an edge that
/// [bounces](crate::AtEdge::Bounce).
pub trait Moving: Component {
    /// Change of place, in whatever unit of time the game has.
    fn velocity(&self) -> [f32; 2];
    /// Moves it otherwise.
    fn set_velocity(&mut self, velocity: [f32; 2]);
}
