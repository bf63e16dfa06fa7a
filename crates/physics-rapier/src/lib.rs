//! Bodies of a world moved by [rapier](https://rapier.rs): masses that push each other, gravity,
//! stacks that come to rest.
//!
//! A `Physics` of `rekindle-sim`: `Rapier`. A game names it in place of
//! `Kinematics`, which needs neither this crate nor rapier.
//!
//! **All that rapier remembers is in the world**: bodies, colliders, islands, both phases of
//! collision detection. It is the resource `Rapier`, so it stands in checkpoints, and a match
//! that is restored goes on with the same bits; `tests/shadow.rs` restores one all the time. Rapier
//! runs with `enhanced-determinism` and on one thread. It takes about 500 to 900 bytes for a body.
//!
//! What the responses of a `Collider` mean here: `Slide` has neither
//! friction nor bounce, `Bounce` gives back all, `Stop` has friction, `Pass` is a sensor. A body's
//! mass is its area. Bodies do not turn: a place is a point, and boxes keep their sides along the
//! axes.
//!
//! Everything is behind the feature `rapier`: without it the crate is empty, so that building the
//! workspace does not compile rapier. `cargo xtask physics` runs its tests.
#![cfg(feature = "rapier")]

mod sets;

use rekindle_sim::{Body, Met, Physics, PhysicsStep, Resource, Scenery};

use crate::sets::Sets;

/// What rapier can be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RapierTuning {
    /// How fast things fall, in units of length a second each second.
    pub gravity: [f32; 2],
}

/// Rapier, with all that it remembers from tick to tick.
///
/// ```
/// use rekindle_physics_rapier::{Rapier, RapierTuning};
/// # use rekindle_sim::{Game, GameBuilder, Moving, Place};
/// # fn build<G: Game, At: Place, Speed: Moving>(game: &mut GameBuilder<G>) {
/// game.physics::<Rapier, At, Speed>(|_config| RapierTuning { gravity: [0.0, -9.81] });
/// # }
/// ```
#[derive(Debug, Clone, Resource)]
#[resource(id = "rekindle.rapier")]
pub struct Rapier {
    sets: Sets,
}

impl Rapier {
    /// How many bodies it has.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Physics for Rapier {
    type Tuning = RapierTuning;

    fn advance(&mut self, tuning: &RapierTuning, scenery: &Scenery, step: &mut PhysicsStep) {
        self.sets.stand(scenery);
        self.sets.take(&step.bodies);
        self.sets.advance(tuning.gravity, step.delta);
        self.sets.give(&mut step.bodies);
        for (one, other) in self.sets.touching() {
            // Scenery is never the first of a pair.
            let Some(body) = find(&step.bodies, one) else { continue };
            let (entity, form) = (body.entity, body.collider.form);
            let met = match other {
                Met::Body { entity } => find(&step.bodies, Met::Body { entity })
                    .map(|other| other.collider.form.at(other.at)),
                Met::Scenery { solid } => scenery.solids().get(solid as usize).copied(),
            };
            if let Some(met) = met {
                let (_, normal) = met.gap(form, body.at);
                step.met(entity, other, normal);
            }
        }
    }
}

/// The body that was met; `None` if that is scenery.
fn find(bodies: &[Body], met: Met) -> Option<&Body> {
    let Met::Body { entity } = met else { return None };
    let place = bodies.binary_search_by_key(&entity.slot(), |body| body.entity.slot()).ok()?;
    Some(&bodies[place])
}
