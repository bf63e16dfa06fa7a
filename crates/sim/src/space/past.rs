//! Where things were: what lag compensation looks at.
//!
//! A player aims at what a snapshot showed, which is some ticks old when the shot arrives. A
//! component that implements [`Past`] keeps the places of its entity for the last ticks;
//! [`GameBuilder::rewind`](crate::GameBuilder::rewind) has the engine write it, and [`Rewound`]
//! looks back for systems. The past is a component like others, so it is in the checkpoint: a match
//! that goes on elsewhere judges the next shot as it would have here.

use rekindle_schema::Tick;

use crate::ecs::params::Time;
use crate::ecs::query::Query;
use crate::ecs::query::filter::QueryFilter;
use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::space::geometry::{Vec2, ray_circle};
use crate::space::grid::Near;
use crate::space::{Place, grid};
use crate::storage::stamp::Run;
use crate::value::component::Component;
use crate::value::entity::Entity;

/// A component that remembers where its entity was: mostly a [`Rewind`](crate::Rewind) of places.
///
/// ```
/// use rekindle_sim::geometry::Vec2;
/// use rekindle_sim::{Component, Past, Place, Rewind, Tick};
///
/// #[derive(Clone, Component)]
/// #[component(id = "at")]
/// struct At { x: f32, y: f32 }
/// impl Place for At {
///     fn place(&self) -> [f32; 2] { [self.x, self.y] }
///     fn set_place(&mut self, [x, y]: [f32; 2]) { (self.x, self.y) = (x, y); }
/// }
///
/// /// The places after the last eight ticks. New entities get `Trail(Rewind::filled(place))`.
/// #[derive(Clone, Component)]
/// #[component(id = "trail")]
/// struct Trail(Rewind<Vec2, 8>);
///
/// impl Past for Trail {
///     type Of = At;
///     const BACK: u64 = 7; // the tick that is over and seven before it: eight
///     fn record(&mut self, tick: Tick, place: [f32; 2]) {
///         self.0.record(tick, place.into());
///     }
///     fn after(&self, tick: Tick) -> [f32; 2] {
///         (*self.0.after(tick)).into()
///     }
/// }
/// ```
pub trait Past: Component {
    /// What says where the entity is now.
    type Of: Place;
    /// How many ticks behind the one that is over it reaches.
    const BACK: u64;
    /// Notes the place after `tick`.
    fn record(&mut self, tick: Tick, place: [f32; 2]);
    /// The place after `tick`, which is at most [`Past::BACK`] ticks behind the one that was
    /// recorded last.
    fn after(&self, tick: Tick) -> [f32; 2];
}

/// Writes the past of all entities that have one: the system that
/// [`GameBuilder::rewind`](crate::GameBuilder::rewind) adds. A game that wants it at another place
/// in its order adds it itself, in place of that.
pub fn record_past<T: Past>(time: Time, mut bodies: Query<(&T::Of, &mut T)>) {
    for (place, mut past) in &mut bodies {
        past.record(time.tick, place.place());
    }
}

/// The tick to judge something by that is done in tick `now` by a player who saw `seen`: at most
/// `back` ticks ago, never ahead.
///
/// ```
/// use rekindle_sim::{Tick, judged_by};
///
/// assert_eq!(judged_by(Tick(95), Tick(100), 7), Tick(95));
/// assert_eq!(judged_by(Tick(10), Tick(100), 7), Tick(93)); // too far back
/// assert_eq!(judged_by(Tick(200), Tick(100), 7), Tick(100)); // nobody sees the future
/// ```
#[inline]
pub fn judged_by(seen: Tick, now: Tick, back: u64) -> Tick {
    seen.clamp(Tick(now.0.saturating_sub(back)), now)
}

/// Entities as they stood when a player saw them: a parameter of systems. `F` filters, as for a
/// [`Query`].
///
/// A tick that is further back than [`Past::BACK`] is judged by the oldest that is kept; the
/// present, and what is said to be ahead of it, by where entities are now. Needs a component that
/// implements [`Past`], and [`GameBuilder::rewind`](crate::GameBuilder::rewind).
///
/// ```
/// # use rekindle_sim::doc_game::Duel;
/// use rekindle_sim::{Inputs, Past, Players, Res, Rewound};
///
/// fn shoot<Trail: Past>(
///     inputs: Inputs<Duel>,
///     players: Res<Players>,
///     targets: Rewound<Trail>,
/// ) {
///     for given in &inputs {
///         let Some(shooter) = players.avatar(given.player) else { continue };
///         let Some(from) = targets.place(shooter, given.view_tick) else { continue };
///         // Bodies are circles of half a metre, a shot goes 30 metres to the right.
///         let hits = targets.ray(from, [1.0, 0.0], 30.0, given.view_tick, |body| {
///             (body != shooter).then_some(0.5)
///         });
///         let _ = hits.first(); // the nearest
///     }
/// }
/// ```
pub struct Rewound<'w, T: Past, F: QueryFilter + 'static = ()> {
    bodies: Bodies<'w, T, F>,
    now: Tick,
}

type Bodies<'w, T, F> = Query<'w, (Entity, &'static <T as Past>::Of, &'static T), F>;

impl<T: Past, F: QueryFilter + 'static> Rewound<'_, T, F> {
    /// The tick that is looked at for a player who saw `seen`.
    pub fn tick(&self, seen: Tick) -> Tick {
        judged_by(seen, self.now, T::BACK)
    }

    /// Where an entity was; `None` if it is gone, has no past or is not of the filter.
    pub fn place(&self, entity: Entity, seen: Tick) -> Option<[f32; 2]> {
        let (_, place, past) = self.bodies.get(entity)?;
        Some(self.then(place, past, seen))
    }

    /// All entities and where they were, ascending by slot.
    pub fn places(&self, seen: Tick) -> impl Iterator<Item = (Entity, [f32; 2])> {
        let places = self.bodies.iter();
        places.map(move |(entity, place, past)| (entity, self.then(place, past, seen)))
    }

    /// The entities that were in a circle, its edge included: ascending by distance, those as far
    /// as each other by slot.
    pub fn within(&self, center: [f32; 2], radius: f32, seen: Tick) -> Vec<Near> {
        let center = Vec2::from(center);
        let near = self
            .places(seen)
            .map(|(entity, at)| Near { entity, distance: center.distance(at.into()) });
        let mut near: Vec<Near> = near.filter(|near| near.distance <= radius).collect();
        grid::by_distance(&mut near);
        near
    }

    /// The entities that a ray of `length` met as circles of the radius that `size` says; it leaves
    /// out those for which it says `None`. Ascending by the distance to where the ray entered them
    /// (0 if it began inside), those as far as each other by slot. `direction` need not be of
    /// length 1; nothing is met without one.
    pub fn ray(
        &self,
        from: [f32; 2],
        direction: [f32; 2],
        length: f32,
        seen: Tick,
        mut size: impl FnMut(Entity) -> Option<f32>,
    ) -> Vec<Near> {
        let (from, way) = (Vec2::from(from), Vec2::from(direction).normalised() * length);
        if way == Vec2::ZERO || !way.length().is_finite() {
            return Vec::new();
        }
        let hit = |(entity, at): (Entity, [f32; 2])| {
            let part = ray_circle(from, way, at.into(), size(entity)?)?;
            Some(Near { entity, distance: part * length })
        };
        let mut hits: Vec<Near> = self.places(seen).filter_map(hit).collect();
        grid::by_distance(&mut hits);
        hits
    }

    fn then(&self, place: &T::Of, past: &T, seen: Tick) -> [f32; 2] {
        // The past of this tick is written when it ends.
        let tick = self.tick(seen);
        if tick == self.now { place.place() } else { past.after(tick) }
    }
}

impl<T: Past, F: QueryFilter + 'static> SystemParam for Rewound<'_, T, F> {
    type State = <Bodies<'static, T, F> as SystemParam>::State;
    type Item<'w> = Rewound<'w, T, F>;
    fn init(registry: &Registry, access: &mut Access) -> Self::State {
        <Bodies<'static, T, F> as SystemParam>::init(registry, access)
    }
    fn get<'w>(state: &'w Self::State, world: &'w World, run: &Run) -> Option<Rewound<'w, T, F>> {
        Some(Rewound { bodies: Query::new(state, world, run)?, now: run.tick })
    }
}
