//! What a game declares about space: a grid, edges, scenery, the past, and what moves bodies.

use std::marker::PhantomData;

use crate::ecs::index::FollowerType;
use crate::ecs::schedule::declare::{IntoSystems, Stage};
use crate::game::builder::{Game, GameBuilder};
use crate::space::bounds::{self, Bounds, BoundsOf};
use crate::space::past::{Past, record_past};
use crate::space::physics::{self, Collider, Contact, Physics, TuningOf};
use crate::space::scenery::{Scenery, Solid};
use crate::space::{Moving, Place};

impl<G: Game> GameBuilder<G> {
    /// There is a [`Grid`](crate::Grid) of cells of this size over all entities with a `P`: see
    /// [`Spatial`](crate::Spatial).
    pub fn spatial<P: Place>(&mut self, cell: f32) -> &mut Self {
        if !(cell > 0.0 && cell.is_finite()) {
            self.registry.errors.push(format!(
                "the grid of `{}` has cells of size {cell}: give a positive one",
                P::ID
            ));
        }
        self.registry.add_follower(FollowerType::grid::<P>(cell));
        self
    }

    /// The world ends: what is written into a `P` and lies beyond comes inside, or ends, as the
    /// bounds say. Done by a system `bounds(id)` at the end of [`Stage::PostUpdate`].
    ///
    /// ```
    /// use rekindle_sim::{AtEdge, Bounds, Place};
    ///
    /// # fn build<G: rekindle_sim::Game, P: Place>(game: &mut rekindle_sim::GameBuilder<G>) {
    /// game.bounds::<P>(|_config| Bounds::new([-50.0, -50.0], [50.0, 50.0], AtEdge::Wrap));
    /// # }
    /// ```
    pub fn bounds<P: Place>(
        &mut self,
        make: impl Fn(&G::Config) -> Bounds + Send + Sync + 'static,
    ) -> &mut Self {
        self.constant(move |config| BoundsOf::<P>(make(config), PhantomData));
        let system = bounds::keep_inside::<P>.named(&format!("bounds({})", P::ID));
        self.add_systems(Stage::PostUpdate, system.priority(i32::MIN))
    }

    /// As [`GameBuilder::bounds`]; where they bounce, the `V` of the entity turns.
    pub fn bouncing_bounds<P: Place, V: Moving>(
        &mut self,
        make: impl Fn(&G::Config) -> Bounds + Send + Sync + 'static,
    ) -> &mut Self {
        self.constant(move |config| BoundsOf::<P>(make(config), PhantomData));
        let system = bounds::bounce::<P, V>.named(&format!("bounds({})", P::ID));
        self.add_systems(Stage::PostUpdate, system.priority(i32::MIN))
    }

    /// Entities with a `T` remember where they were, for systems that ask
    /// [`Rewound`](crate::Rewound): written by a
    /// system `rewind(id)` at the end of [`Stage::Last`].
    pub fn rewind<T: Past>(&mut self) -> &mut Self {
        let system = record_past::<T>.named(&format!("rewind({})", T::ID));
        self.add_systems(Stage::Last, system.priority(i32::MIN))
    }

    /// What stands still in a match, made of its configuration: systems read it as
    /// [`Const<Scenery>`](crate::Scenery).
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Position, Velocity};
    /// use rekindle_sim::geometry::{Aabb, vec2};
    /// use rekindle_sim::{Const, Form, IntoSystems as _, Place, Query, Scenery, Solid};
    ///
    /// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
    /// game.scenery(|_config| vec![Solid::Box(Aabb::around(vec2(5.0, 0.0), 1.0, 9.0))]);
    /// # }
    /// fn stop(scenery: Const<Scenery>, mut runners: Query<(&Position, &mut Velocity)>) {
    ///     for (position, mut velocity) in &mut runners {
    ///         let form = Form::Circle { radius: 0.5 };
    ///         if scenery.sweep(form, [position.x, position.y], [velocity.x, 0.0]).is_some() {
    ///             velocity.x = 0.0;
    ///         }
    ///     }
    /// }
    /// let system = stop.every(1);
    /// ```
    pub fn scenery(
        &mut self,
        make: impl Fn(&G::Config) -> Vec<Solid> + Send + Sync + 'static,
    ) -> &mut Self {
        self.constant(move |config| Scenery::new(make(config)))
    }

    /// `K` moves the entities with a [`Collider`], a `P` and a `V`, which is a velocity in units of
    /// length a second; `tune` says what `K` can be told. Done by a system `physics(id)` at the end
    /// of [`Stage::Update`], which sends a [`Contact`] for what met. What stands still is said by
    /// [`GameBuilder::scenery`]. A game has one physics.
    ///
    /// ```
    /// use rekindle_sim::geometry::{Aabb, vec2};
    /// use rekindle_sim::{
    ///     Commands, Contact, EventReader, IntoSystems as _, Kinematics, Met, Moving, Place, Solid,
    ///     Stage,
    /// };
    ///
    /// # fn build<G: rekindle_sim::Game, At: Place, Speed: Moving>(
    /// #     game: &mut rekindle_sim::GameBuilder<G>,
    /// # ) {
    /// game.physics::<Kinematics, At, Speed>(|_config| ());
    /// game.scenery(|_config| vec![Solid::Box(Aabb::around(vec2(0.0, -1.0), 100.0, 2.0))]);
    /// game.add_systems(Stage::PostUpdate, break_up.on_event::<Contact>());
    /// # }
    /// /// What touches the ground is gone.
    /// fn break_up(contacts: EventReader<Contact>, mut commands: Commands) {
    ///     for contact in contacts.read() {
    ///         if contact.with == (Met::Scenery { solid: 0 }) {
    ///             commands.despawn(contact.entity);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn physics<K: Physics, P: Place, V: Moving>(
        &mut self,
        tune: impl Fn(&G::Config) -> K::Tuning + Send + Sync + 'static,
    ) -> &mut Self {
        if std::mem::replace(&mut self.physics, true) {
            self.registry.errors.push("`physics` is said twice: keep one".to_owned());
            return self;
        }
        self.component::<Collider>().event::<Contact>().resource::<K>();
        self.constant(move |config| TuningOf::<K>(tune(config)));
        let system = physics::advance::<K, P, V>.named(&format!("physics({})", K::ID));
        self.add_systems(Stage::Update, system.priority(i32::MIN))
    }
}
