//! Resources that clients see.

use crate::ecs::params::Commands;
use crate::ecs::query::Query;
use crate::ecs::resources::Res;
use crate::ecs::schedule::declare::{IntoSystems, Stage};
use crate::game::builder::{Game, GameBuilder};
use crate::value::component::{Component, Resource};

/// Most networked fields of a game.
const MOST: usize = 128;

impl<G: Game> GameBuilder<G> {
    /// The world has a `T`, and clients see its networked fields: as a component of one entity that
    /// nothing else has, which a system `shows(id)` keeps at the end of [`Stage::Last`]. They read
    /// it with [`View::resource`](crate::View::resource).
    ///
    /// ```
    /// use rekindle_schema::net::NetView;
    /// use rekindle_sim::{
    ///     Game, GameBuilder, GameType as _, Harness, LeaveReason, PlayerId, Resource,
    ///     Simulation as _, Typed, View, World,
    /// };
    ///
    /// #[derive(Debug, Clone, PartialEq, Resource)]
    /// #[resource(id = "clock")]
    /// struct Clock {
    ///     #[net(bits = 10)]
    ///     seconds: u32,
    ///     stopped: bool, // the node alone knows it
    /// }
    ///
    /// struct Race;
    ///
    /// impl Game for Race {
    ///     const NAME: &'static str = "race";
    ///     type Config = ();
    ///     type Input = ();
    ///     type Command = ();
    ///     type Bot = ();
    ///     fn build(game: &mut GameBuilder<Self>) {
    ///         game.shows::<Clock>();
    ///     }
    ///     fn max_players((): &()) -> usize {
    ///         4
    ///     }
    ///     fn setup(world: &mut World, (): &()) {
    ///         world.insert_resource(Clock { seconds: 90, stopped: true });
    ///     }
    ///     fn join(_: &mut World, _: PlayerId) {}
    ///     fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
    /// }
    ///
    /// let mut race = Harness::<Race>::new(1);
    /// let game = Typed::<Race>::new().unwrap();
    /// let mut seen = || {
    ///     race.tick();
    ///     let mut view = NetView::default();
    ///     race.simulation().extract(&mut view);
    ///     View::new(game.net_schema(), &view).resource::<Clock>()
    /// };
    /// assert_eq!(seen(), Some(Clock { seconds: 90, stopped: false }));
    /// ```
    pub fn shows<T: Resource + Component>(&mut self) -> &mut Self {
        self.resource::<T>().component::<T>();
        let system = show::<T>.named(&format!("shows({})", T::ID));
        self.add_systems(Stage::Last, system.priority(i32::MIN))
    }
}

/// Keeps what clients see of a resource. What they do not see does not change the entity.
fn show<T: Resource + Component>(
    resource: Res<T>,
    mut shown: Query<&mut T>,
    mut commands: Commands,
) {
    let Some(mut shown) = shown.iter_mut().next() else {
        commands.spawn(T::clone(&resource));
        return;
    };
    let (mut now, mut before) = ([0; MOST], [0; MOST]);
    resource.to_quanta(&mut now);
    shown.to_quanta(&mut before);
    if now != before {
        *shown = T::clone(&resource);
    }
}
