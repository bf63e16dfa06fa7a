//! The hook for physics: what moves the bodies of a world, and by which rules.
//!
//! A game gives entities a [`Collider`], a place and a velocity, and names what moves them with
//! [`GameBuilder::physics`](crate::GameBuilder::physics). In each tick [`advance`], the system that
//! this adds, shows the bodies to the [`Physics`], writes back what it changed, and sends a
//! [`Contact`] for what met.

use crate::ecs::events::EventWriter;
use crate::ecs::params::{Const, Time};
use crate::ecs::query::Query;
use crate::ecs::resources::ResMut;
use crate::space::geometry::{Vec2, vec2};
use crate::space::scenery::{Form, Scenery};
use crate::space::{Moving, Place};
use crate::value::component::Resource;
use crate::value::entity::Entity;
use crate::{Component, Event, Value};

/// What becomes of a body that meets something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum Response {
    /// It goes on along the surface.
    Slide,
    /// It is thrown back.
    Bounce,
    /// It stays there.
    Stop,
    /// It goes through, and nothing is stopped by it; [`Contact`]s tell what it met.
    Pass,
}

/// Makes an entity with a place and a velocity a body that the [`Physics`] of its game moves.
///
/// Values that are no sizes (less than 0, not finite) are rejected: see
/// [`Rejected`](crate::Rejected).
///
/// ```
/// use rekindle_sim::{Collider, Response};
///
/// const PLAYERS: u32 = 1;
/// const GHOSTS: u32 = 2;
/// // A ball that bounces off everything, and a ghost that meets scenery and players only.
/// let ball = Collider::circle(0.25).responding(Response::Bounce);
/// let ghost = Collider::rectangle(0.8, 1.6)
///     .in_layers(GHOSTS)
///     .meeting(PLAYERS | Collider::SCENERY);
/// assert!(!ghost.meets(&ghost) && ball.meets(&ball.in_layers(PLAYERS)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "rekindle.collider", validate = has_a_size)]
pub struct Collider {
    /// Its outline.
    pub form: Form,
    /// What becomes of it when it meets something.
    pub response: Response,
    /// Bits of the layers that it is in.
    #[value(default = 1)]
    pub layers: u32,
    /// Bits of the layers that it meets. Two bodies meet if each meets a layer of the other.
    #[value(default = u32::MAX)]
    pub meets: u32,
}

fn has_a_size(collider: &Collider) -> Result<(), String> {
    let Vec2 { x, y } = collider.form.extent();
    if x >= 0.0 && y >= 0.0 && x.is_finite() && y.is_finite() {
        Ok(())
    } else {
        Err(format!("`form` is {:?}: sizes are finite and not negative", collider.form))
    }
}

impl Collider {
    /// The layer of all [`Scenery`].
    pub const SCENERY: u32 = 1 << 31;

    /// In layer 1, meeting everything, sliding.
    fn new(form: Form) -> Self {
        Self { form, response: Response::Slide, layers: 1, meets: u32::MAX }
    }

    /// A circle that slides along what it meets.
    pub fn circle(radius: f32) -> Self {
        Self::new(Form::Circle { radius })
    }

    /// A box with sides along the axes that slides along what it meets.
    pub fn rectangle(width: f32, height: f32) -> Self {
        Self::new(Form::Box { half: vec2(width / 2.0, height / 2.0) })
    }

    /// With another response.
    #[must_use]
    pub fn responding(self, response: Response) -> Self {
        Self { response, ..self }
    }

    /// In these layers: a sum of bits.
    #[must_use]
    pub fn in_layers(self, layers: u32) -> Self {
        Self { layers, ..self }
    }

    /// Meeting these layers: a sum of bits.
    #[must_use]
    pub fn meeting(self, meets: u32) -> Self {
        Self { meets, ..self }
    }

    /// Whether two bodies meet.
    pub fn meets(&self, other: &Self) -> bool {
        self.meets & other.layers != 0 && other.meets & self.layers != 0
    }

    /// Whether it meets the scenery.
    pub fn meets_scenery(&self) -> bool {
        self.meets & Self::SCENERY != 0
    }
}

/// What a body met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Value)]
pub enum Met {
    /// Another body.
    Body {
        /// Its entity.
        entity: Entity,
    },
    /// What stands still.
    Scenery {
        /// Its number in the [`Scenery`].
        solid: u32,
    },
}

/// A body met something in this tick. Sent in each tick in which it does, once for a pair: a body
/// that is pressed against a wall meets it in every tick.
#[derive(Debug, Clone, Copy, PartialEq, Event)]
#[event(id = "rekindle.contact")]
pub struct Contact {
    /// The body; of two the one with the lower slot.
    pub entity: Entity,
    /// What it met.
    pub with: Met,
    /// The direction of length 1 from what was met to the body.
    pub normal: Vec2,
}

/// A body in a step of its physics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Body {
    /// Which entity.
    pub entity: Entity,
    /// Its outline, and what becomes of it when it meets something.
    pub collider: Collider,
    /// Where it is.
    pub at: Vec2,
    /// How it moves, in units of length a second.
    pub velocity: Vec2,
}

/// What a [`Physics`] does in a tick: it changes places and velocities of bodies, and notes what
/// met.
#[derive(Debug, Clone, Default)]
pub struct PhysicsStep {
    /// Seconds of a tick.
    pub delta: f32,
    /// All bodies, ascending by slot. Those whose place or velocity is not finite are left out.
    pub bodies: Vec<Body>,
    /// Pairs that met, in any order that is the same each time; [`PhysicsStep::met`] adds one.
    pub contacts: Vec<Contact>,
}

impl PhysicsStep {
    /// Notes that a body met something. Of two bodies either may be the first.
    pub fn met(&mut self, entity: Entity, with: Met, normal: Vec2) {
        self.contacts.push(match with {
            Met::Body { entity: other } if other < entity => {
                Contact { entity: other, with: Met::Body { entity }, normal: -normal }
            }
            with => Contact { entity, with, normal },
        });
    }

    /// Puts the contacts in the order of their bodies, each pair once: the first that was noted.
    fn sort(&mut self) {
        self.contacts.sort_by_key(|contact| (contact.entity, contact.with));
        self.contacts.dedup_by(|a, b| (a.entity, a.with) == (b.entity, b.with));
    }
}

/// What moves bodies. It is a resource: what it remembers from tick to tick is part of the world,
/// stands in its checkpoints and goes on with the match. It must be a function of what it remembers
/// and is given: no clock, no threads whose order shows, no addresses.
///
/// [`Kinematics`](crate::Kinematics) comes with the engine; the crate `rekindle-physics-rapier` has
/// another one. Games can write their own:
///
/// ```
/// use rekindle_sim::{Physics, PhysicsStep, Resource, Scenery};
///
/// /// Bodies float through everything, and slow down.
/// #[derive(Clone, Resource)]
/// #[resource(id = "drifting")]
/// struct Drifting;
///
/// impl Physics for Drifting {
///     /// The part of its velocity that a body keeps in a tick.
///     type Tuning = f32;
///     fn advance(&mut self, keeps: &f32, _scenery: &Scenery, step: &mut PhysicsStep) {
///         for body in &mut step.bodies {
///             body.at += body.velocity * step.delta;
///             body.velocity = body.velocity * *keeps;
///         }
///     }
/// }
/// ```
pub trait Physics: Resource {
    /// What it can be told, made from the configuration of the match.
    type Tuning: Send + Sync + 'static;

    /// Moves the bodies by one tick.
    fn advance(&mut self, tuning: &Self::Tuning, scenery: &Scenery, step: &mut PhysicsStep);
}

/// What a physics was told, as a constant of a match that is not in the way of the game's own.
pub(crate) struct TuningOf<K: Physics>(pub(crate) K::Tuning);

/// Moves all bodies by one tick.
pub(crate) fn advance<K: Physics, P: Place, V: Moving>(
    time: Time,
    scenery: Const<Scenery>,
    tuning: Const<TuningOf<K>>,
    mut physics: ResMut<K>,
    mut bodies: Query<(Entity, &Collider, &mut P, &mut V)>,
    mut contacts: EventWriter<Contact>,
) {
    let all = bodies.iter().map(|(entity, collider, place, velocity)| Body {
        entity,
        collider: *collider,
        at: place.place().into(),
        velocity: velocity.velocity().into(),
    });
    let finite = |of: Vec2| of.x.is_finite() && of.y.is_finite();
    let before: Vec<Body> = all.filter(|body| finite(body.at) && finite(body.velocity)).collect();
    let mut step = PhysicsStep { delta: time.delta, bodies: before.clone(), contacts: Vec::new() };
    physics.advance(&tuning.0, &scenery, &mut step);
    step.sort();
    assert_eq!(before.len(), step.bodies.len(), "a physics moves bodies, it adds and ends none");
    for (before, after) in before.iter().zip(&step.bodies) {
        assert_eq!(before.entity, after.entity, "a physics keeps the order of bodies");
        let moved = !same(before.at, after.at);
        let turned = !same(before.velocity, after.velocity);
        // What is not written is no change, for checkpoints and snapshots.
        if (moved || turned)
            && let Some((_, _, mut place, mut velocity)) = bodies.get_mut(after.entity)
        {
            if moved {
                place.set_place(after.at.into());
            }
            if turned {
                velocity.set_velocity(after.velocity.into());
            }
        }
    }
    for contact in step.contacts {
        contacts.send(contact);
    }
}

fn same(a: Vec2, b: Vec2) -> bool {
    a.x.to_bits() == b.x.to_bits() && a.y.to_bits() == b.y.to_bits()
}
