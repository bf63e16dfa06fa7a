//! The physics that comes with the engine: bodies go where their velocities lead, and slide,
//! bounce or stop at what they meet on the way.
//!
//! Called by [`crate::space::physics`] in each tick. Bodies move one after the other, ascending by
//! slot, each from its place along its whole way (*swept*), so that nothing that is fast passes
//! through a wall. Nobody is pushed: what a body meets stays where it is. It remembers nothing
//! from tick to tick.

use crate::Resource;
use crate::space::geometry::{Aabb, Vec2, vec2};
use crate::space::physics::{Body, Met, Physics, PhysicsStep, Response};
use crate::space::scenery::{Scenery, Solid};

/// Turns on the way of a body in one tick, at most. In a corner it stands still then.
const TURNS: usize = 4;
/// A body goes into what it touches if this part of its way points there; less is rounding.
const INTO: f32 = 1e-4;

/// Moves bodies along their velocities, a second's way in each second, and stops them at scenery
/// and at other bodies: see [`Response`]. Its tuning is `()`.
///
/// Costs a sort of the bodies along the x axis, and a sweep for each pair that may meet in the
/// tick.
///
/// ```
/// use rekindle_sim::doc_game::Duel;
/// use rekindle_sim::geometry::{Aabb, vec2};
/// use rekindle_sim::{
///     Collider, Component, Game, GameBuilder, Harness, Kinematics, LeaveReason, Moving, Place,
///     PlayerId, Response, Solid, World,
/// };
///
/// #[derive(Clone, Component)]
/// #[component(id = "at")]
/// struct At { x: f32, y: f32 }
/// impl Place for At {
///     fn place(&self) -> [f32; 2] { [self.x, self.y] }
///     fn set_place(&mut self, [x, y]: [f32; 2]) { (self.x, self.y) = (x, y); }
/// }
/// #[derive(Clone, Component)]
/// #[component(id = "speed")]
/// struct Speed { x: f32, y: f32 }
/// impl Moving for Speed {
///     fn velocity(&self) -> [f32; 2] { [self.x, self.y] }
///     fn set_velocity(&mut self, [x, y]: [f32; 2]) { (self.x, self.y) = (x, y); }
/// }
///
/// struct Pong;
/// impl Game for Pong {
///     const NAME: &'static str = "pong";
///     const TICK_RATE: u16 = 10;
///     type Config = ();
///     type Input = ();
///     type Command = ();
///     type Bot = ();
///     fn build(game: &mut GameBuilder<Self>) {
///         game.component::<At>().component::<Speed>();
///         game.scenery(|()| vec![Solid::Box(Aabb::around(vec2(10.0, 0.0), 2.0, 20.0))]);
///         game.physics::<Kinematics, At, Speed>(|()| ());
///     }
///     fn max_players((): &()) -> usize { 1 }
///     fn setup(world: &mut World, (): &()) {
///         let ball = Collider::circle(0.5).responding(Response::Bounce);
///         world.spawn((At { x: 0.0, y: 0.0 }, Speed { x: 60.0, y: 0.0 }, ball));
///     }
///     fn join(_: &mut World, _: PlayerId) {}
///     fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
/// }
///
/// // 6 metres in a tick. The wall begins at 9, so the ball turns when its middle is at 8.5.
/// let mut pong = Harness::<Pong>::new(1).run(2);
/// pong.world_mut().query::<(&At, &Speed), (), _>(|balls| {
///     let (at, speed) = balls.iter().next().unwrap();
///     assert!((at.x - 5.0).abs() < 1e-5 && speed.x == -60.0);
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Resource)]
#[resource(id = "rekindle.kinematics")]
pub struct Kinematics;

impl Physics for Kinematics {
    type Tuning = ();

    fn advance(&mut self, (): &(), scenery: &Scenery, step: &mut PhysicsStep) {
        let pairs = pairs(&step.bodies, step.delta);
        let mut rest = pairs.as_slice();
        for mover in 0..step.bodies.len() {
            let own = rest.partition_point(|(first, _)| *first == mover as u32);
            let (near, later) = rest.split_at(own);
            rest = later;
            advance(step, scenery, mover, near);
        }
    }
}

/// How far a body can come from its place in a tick, with all of it.
fn reach(body: &Body, delta: f32) -> Aabb {
    let way = body.velocity.length() * delta;
    let reach = body.collider.form.extent() + vec2(way, way);
    Aabb { min: body.at - reach, max: body.at + reach }
}

/// The pairs of bodies that may meet in this tick, each both ways, ascending.
fn pairs(bodies: &[Body], delta: f32) -> Vec<(u32, u32)> {
    let reaches: Vec<Aabb> = bodies.iter().map(|body| reach(body, delta)).collect();
    let mut order: Vec<u32> = (0..bodies.len() as u32).collect();
    let left = |index: u32| reaches[index as usize].min.x;
    order.sort_unstable_by(|a, b| left(*a).total_cmp(&left(*b)).then(a.cmp(b)));
    let mut pairs = Vec::new();
    for (place, &first) in order.iter().enumerate() {
        let own = &reaches[first as usize];
        let may = order[place + 1..].iter().take_while(|other| left(**other) <= own.max.x);
        for &other in may {
            let its = &reaches[other as usize];
            let (a, b) = (&bodies[first as usize].collider, &bodies[other as usize].collider);
            if own.min.y <= its.max.y && own.max.y >= its.min.y && a.meets(b) {
                pairs.extend([(first, other), (other, first)]);
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

/// What a body runs into: after which part of its way, what, and in which direction it is away
/// from it.
#[derive(Clone, Copy)]
struct Hit {
    part: f32,
    met: Met,
    normal: Vec2,
}

/// Moves one body by a tick. `near` are the pairs of it with those that it may meet.
fn advance(step: &mut PhysicsStep, scenery: &Scenery, mover: usize, near: &[(u32, u32)]) {
    let entity = step.bodies[mover].entity;
    let mut way = step.bodies[mover].velocity * step.delta;
    if step.bodies[mover].collider.response == Response::Pass {
        pass(step, scenery, mover, near, way);
        step.bodies[mover].at += way;
        return;
    }
    let start = step.bodies[mover].at;
    for _ in 0..TURNS {
        let Some(hit) = first_hit(step, scenery, mover, near, way) else {
            step.bodies[mover].at += way;
            break;
        };
        let body = &mut step.bodies[mover];
        body.at += way * hit.part;
        let left = way * (1.0 - hit.part);
        (body.velocity, way) = match body.collider.response {
            Response::Bounce => (mirrored(body.velocity, hit.normal), mirrored(left, hit.normal)),
            Response::Slide | Response::Pass => {
                (along(body.velocity, hit.normal), along(left, hit.normal))
            }
            Response::Stop => (Vec2::ZERO, Vec2::ZERO),
        };
        step.met(entity, hit.met, hit.normal);
        if way == Vec2::ZERO {
            break;
        }
    }
    free(step, scenery, mover, near);
    let Body { collider, at, .. } = step.bodies[mover];
    for &(_, other) in near {
        let other = step.bodies[other as usize];
        let solid = other.collider.form.at(other.at);
        if other.collider.response == Response::Pass
            && solid.sweep(collider.form, start, at - start).is_some()
        {
            let (_, normal) = solid.gap(collider.form, at);
            step.met(entity, Met::Body { entity: other.entity }, normal);
        }
    }
}

/// What is left of a motion along a surface.
fn along(motion: Vec2, normal: Vec2) -> Vec2 {
    let into = motion.dot(normal);
    if into < 0.0 { motion - normal * into } else { motion }
}

/// A motion that is thrown back by a surface.
fn mirrored(motion: Vec2, normal: Vec2) -> Vec2 {
    let into = motion.dot(normal);
    if into < 0.0 { motion - normal * (2.0 * into) } else { motion }
}

/// The box around a body on its way.
fn path(body: &Body, way: Vec2) -> Aabb {
    let extent = body.collider.form.extent();
    let to = body.at + way;
    Aabb {
        min: vec2(body.at.x.min(to.x), body.at.y.min(to.y)) - extent,
        max: vec2(body.at.x.max(to.x), body.at.y.max(to.y)) + extent,
    }
}

/// What a body runs into first on its way; of several at once bodies before scenery, each ascending
/// by slot or number.
fn first_hit(
    step: &PhysicsStep,
    scenery: &Scenery,
    mover: usize,
    near: &[(u32, u32)],
    way: Vec2,
) -> Option<Hit> {
    let body = &step.bodies[mover];
    let form = body.collider.form;
    let length = way.length();
    let mut first: Option<Hit> = None;
    let mut consider = |met: Met, solid: &Solid| {
        let Some(part) = solid.sweep(form, body.at, way) else { return };
        let sooner =
            |hit: &Hit| part < hit.part || part.to_bits() == hit.part.to_bits() && met < hit.met;
        if !first.as_ref().is_none_or(sooner) {
            return;
        }
        let (_, normal) = solid.gap(form, body.at + way * part);
        // Who leaves what it touches, or goes along it, does not run into it.
        if way.dot(normal) < -INTO * length {
            first = Some(Hit { part, met, normal });
        }
    };
    for &(_, other) in near {
        let other = &step.bodies[other as usize];
        if other.collider.response != Response::Pass {
            consider(Met::Body { entity: other.entity }, &other.collider.form.at(other.at));
        }
    }
    if body.collider.meets_scenery() {
        scenery.near(&path(body, way), |number, solid| {
            consider(Met::Scenery { solid: number as u32 }, solid);
        });
    }
    first
}

/// Notes all that a body meets that goes through everything.
fn pass(step: &mut PhysicsStep, scenery: &Scenery, mover: usize, near: &[(u32, u32)], way: Vec2) {
    let body = step.bodies[mover];
    let form = body.collider.form;
    let meet = |solid: &Solid| {
        let part = solid.sweep(form, body.at, way)?;
        Some(solid.gap(form, body.at + way * part).1)
    };
    for &(_, other) in near {
        let other = step.bodies[other as usize];
        if let Some(normal) = meet(&other.collider.form.at(other.at)) {
            step.met(body.entity, Met::Body { entity: other.entity }, normal);
        }
    }
    if body.collider.meets_scenery() {
        scenery.near(&path(&body, way), |number, solid| {
            if let Some(normal) = meet(solid) {
                step.met(body.entity, Met::Scenery { solid: number as u32 }, normal);
            }
        });
    }
}

/// Takes a body out of what it overlaps: bodies first, so that it never ends in a wall for them.
fn free(step: &mut PhysicsStep, scenery: &Scenery, mover: usize, near: &[(u32, u32)]) {
    let Body { collider, mut at, .. } = step.bodies[mover];
    let out = |at: Vec2, solid: &Solid| {
        let (gap, away) = solid.gap(collider.form, at);
        if gap < 0.0 { at + away * -gap } else { at }
    };
    for &(_, other) in near {
        let other = &step.bodies[other as usize];
        if other.collider.response != Response::Pass {
            at = out(at, &other.collider.form.at(other.at));
        }
    }
    if collider.meets_scenery() {
        let extent = collider.form.extent();
        scenery.near(&Aabb { min: at - extent, max: at + extent }, |_, solid| {
            at = out(at, solid);
        });
    }
    step.bodies[mover].at = at;
}
