//! The sets of rapier, as one value of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rapier2d::prelude::{
    CCDSolver, CoefficientCombineRule, ColliderBuilder, ColliderHandle, ColliderSet,
    DefaultBroadPhase, Group, ImpulseJointSet, IntegrationParameters, InteractionGroups,
    InteractionTestMode, IslandManager, MultibodyJointSet, NarrowPhase, PhysicsPipeline, RigidBody,
    RigidBodyBuilder, RigidBodyHandle, RigidBodySet, SoftBodySet, Vector,
};
use rekindle_schema::codec::{FormatTag, decode, encode};
use rekindle_sim::value::shape::Shape;
use rekindle_sim::value::{DecodeError, Reader, from_bytes};
use rekindle_sim::{Body, Collider, Entity, Form, Met, Response, Scenery, Solid, Value};
use serde::{Deserialize, Serialize};

/// The sets of rapier 0.36 with its bodies by entity. Another rapier has other bytes: raise it
/// with the version.
const SETS_TAG: FormatTag = FormatTag(0x9001);

/// What a collider of rapier was made of: another one is made when it changes.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Made {
    round: bool,
    size: [f32; 2],
    response: u8,
    layers: u32,
    meets: u32,
}

/// A body, and what the world knows of it since the last tick: what is different was changed by the
/// game.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    body: RigidBodyHandle,
    made: Made,
    at: [f32; 2],
    velocity: [f32; 2],
}

/// All that rapier remembers.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sets {
    islands: IslandManager,
    broad_phase: DefaultBroadPhase,
    narrow_phase: NarrowPhase,
    bodies: RigidBodySet,
    colliders: ColliderSet,
    impulse_joints: ImpulseJointSet,
    multibody_joints: MultibodyJointSet,
    soft_bodies: SoftBodySet,
    /// The bodies by slot and generation of their entities.
    known: BTreeMap<(u32, u32), Known>,
    /// Whether the scenery stands.
    standing: bool,
}

impl fmt::Debug for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sets").field("bodies", &self.known.len()).finish_non_exhaustive()
    }
}

impl Value for Sets {
    const MIN_SIZE: usize = 4;
    fn initial() -> Self {
        Self::default()
    }
    fn shape() -> Shape {
        Vec::<u8>::shape()
    }
    fn encode(&self, out: &mut Vec<u8>) {
        let bytes = encode(SETS_TAG, self);
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count(1)?;
        let bytes = input.slice(count)?;
        if bytes.is_empty() {
            return Ok(Self::default()); // what a list is without a value
        }
        let problem = "the state of rapier is damaged, or written with another version of rapier";
        decode(SETS_TAG, bytes).map_err(|_| DecodeError::Invalid(problem))
    }
}

/// What a collider belongs to, as the number that rapier keeps with it.
fn name_of(met: Met) -> u128 {
    match met {
        Met::Body { entity } => {
            1 << 64 | u128::from(entity.generation()) << 32 | u128::from(entity.slot())
        }
        Met::Scenery { solid } => u128::from(solid),
    }
}

fn named(name: u128) -> Met {
    if name >> 64 == 0 {
        Met::Scenery { solid: name as u32 }
    } else {
        // Slot, then generation: as an entity is encoded.
        let entity = from_bytes(&(name as u64).to_le_bytes()).unwrap_or(Entity::NONE);
        Met::Body { entity }
    }
}

fn made(collider: &Collider) -> Made {
    let (round, size) = match collider.form {
        Form::Circle { radius } => (true, [radius, radius]),
        Form::Box { half } => (false, half.into()),
    };
    Made {
        round,
        size,
        response: collider.response as u8,
        layers: collider.layers,
        meets: collider.meets,
    }
}

fn outline(round: bool, [x, y]: [f32; 2]) -> ColliderBuilder {
    if round { ColliderBuilder::ball(x) } else { ColliderBuilder::cuboid(x, y) }
}

fn meeting(layers: u32, meets: u32) -> InteractionGroups {
    let group = Group::from_bits_retain;
    InteractionGroups::new(group(layers), group(meets), InteractionTestMode::And)
}

fn vector([x, y]: [f32; 2]) -> Vector {
    Vector::new(x, y)
}

fn same(a: [f32; 2], b: [f32; 2]) -> bool {
    a.map(f32::to_bits) == b.map(f32::to_bits)
}

fn place(body: &RigidBody) -> [f32; 2] {
    let at = body.translation();
    [at.x, at.y]
}

fn velocity(body: &RigidBody) -> [f32; 2] {
    let velocity = body.linvel();
    [velocity.x, velocity.y]
}

impl Sets {
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Puts up the scenery, once: it is the same for as long as the match runs.
    pub(crate) fn stand(&mut self, scenery: &Scenery) {
        if std::mem::replace(&mut self.standing, true) {
            return;
        }
        for (number, solid) in scenery.solids().iter().enumerate() {
            let (at, outline) = match *solid {
                Solid::Circle { at, radius } => (at, outline(true, [radius, radius])),
                Solid::Box(bounds) => {
                    let half = (bounds.max - bounds.min) * 0.5;
                    (bounds.min + half, outline(false, half.into()))
                }
            };
            let solid = outline
                .translation(vector(at.into()))
                .friction(0.0)
                .restitution(0.0)
                .collision_groups(meeting(Collider::SCENERY, u32::MAX))
                .user_data(name_of(Met::Scenery { solid: number as u32 }));
            self.colliders.insert(solid);
        }
    }

    /// Takes over what the game did since the last tick: bodies that are new, gone or changed.
    pub(crate) fn take(&mut self, bodies: &[Body]) {
        let key = |entity: Entity| (entity.slot(), entity.generation());
        let alive: BTreeSet<_> = bodies.iter().map(|body| key(body.entity)).collect();
        let gone: Vec<_> = self.known.keys().filter(|key| !alive.contains(key)).copied().collect();
        for key in gone {
            self.remove(key);
        }
        for body in bodies {
            let key = key(body.entity);
            let made = made(&body.collider);
            if self.known.get(&key).is_some_and(|known| known.made != made) {
                self.remove(key);
            }
            let (at, velocity) = (body.at.into(), body.velocity.into());
            let Some(known) = self.known.get(&key) else {
                let handle = self.insert(body, made);
                self.known.insert(key, Known { body: handle, made, at, velocity });
                continue;
            };
            let Some(rigid) = self.bodies.get_mut(known.body) else { continue };
            if !same(known.at, at) {
                rigid.set_translation(vector(at), true);
            }
            if !same(known.velocity, velocity) {
                rigid.set_linvel(vector(velocity), true);
            }
        }
    }

    fn remove(&mut self, key: (u32, u32)) {
        let Some(known) = self.known.remove(&key) else { return };
        self.bodies.remove(
            known.body,
            &mut self.islands,
            &mut self.colliders,
            &mut self.impulse_joints,
            &mut self.multibody_joints,
            &mut self.soft_bodies,
            true,
        );
    }

    fn insert(&mut self, body: &Body, made: Made) -> RigidBodyHandle {
        let rigid = RigidBodyBuilder::dynamic()
            .translation(vector(body.at.into()))
            .linvel(vector(body.velocity.into()))
            .lock_rotations()
            .ccd_enabled(true);
        let handle = self.bodies.insert(rigid);
        let response = body.collider.response;
        let collider = outline(made.round, made.size)
            .sensor(response == Response::Pass)
            .friction(if response == Response::Stop { 1.0 } else { 0.0 })
            .friction_combine_rule(CoefficientCombineRule::Max)
            .restitution(if response == Response::Bounce { 1.0 } else { 0.0 })
            .restitution_combine_rule(CoefficientCombineRule::Max)
            .collision_groups(meeting(made.layers, made.meets))
            .user_data(name_of(Met::Body { entity: body.entity }));
        self.colliders.insert_with_parent(collider, handle, &mut self.bodies);
        handle
    }

    /// Makes a tick. What works on the sets is made anew each time: it remembers nothing, and so
    /// a world that was restored has nothing less.
    pub(crate) fn advance(&mut self, gravity: [f32; 2], delta: f32) {
        let parameters = IntegrationParameters { dt: delta, ..IntegrationParameters::default() };
        PhysicsPipeline::new().step(
            vector(gravity),
            &parameters,
            &mut self.islands,
            &mut self.broad_phase,
            &mut self.narrow_phase,
            &mut self.bodies,
            &mut self.colliders,
            &mut self.impulse_joints,
            &mut self.multibody_joints,
            &mut self.soft_bodies,
            &mut CCDSolver::new(),
            &(),
            &(),
        );
    }

    /// Gives the world what became of its bodies, which are those that were taken.
    pub(crate) fn give(&mut self, bodies: &mut [Body]) {
        for body in bodies {
            let key = (body.entity.slot(), body.entity.generation());
            let Some(known) = self.known.get_mut(&key) else { continue };
            let Some(rigid) = self.bodies.get(known.body) else { continue };
            (known.at, known.velocity) = (place(rigid), velocity(rigid));
            (body.at, body.velocity) = (known.at.into(), known.velocity.into());
        }
    }

    /// The pairs that touch, bodies first.
    pub(crate) fn touching(&self) -> Vec<(Met, Met)> {
        let contacts = self.narrow_phase.contact_pairs();
        let contacts = contacts.filter(|pair| pair.has_any_active_contact());
        let contacts = contacts.map(|pair| (pair.collider1, pair.collider2));
        let inside = self.narrow_phase.intersection_pairs();
        let inside = inside.filter(|(.., touch)| *touch).map(|(one, other, _)| (one, other));
        let name = |handle: ColliderHandle| Some(named(self.colliders.get(handle)?.user_data));
        let pairs = contacts.chain(inside).filter_map(|(one, other)| {
            let (one, other) = (name(one)?, name(other)?);
            // Bodies are before scenery.
            Some((one.min(other), one.max(other)))
        });
        pairs.collect()
    }
}
