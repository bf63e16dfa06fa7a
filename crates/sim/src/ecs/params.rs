//! Parameters of systems besides queries, resources and events.

use std::any::TypeId;
use std::ops::Deref;

use rekindle_schema::Tick;

use crate::ecs::bundle::Bundle;
use crate::ecs::output::Output;
use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::rng::Rng;
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::stamp::Run;
use crate::value::component::Component;
use crate::value::entity::Entity;

/// Changes which entities and components there are. They are made at the end of the stage, in the
/// order of the systems that asked for them; those for an entity that is gone by then are left out.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Position};
/// use rekindle_sim::{Commands, Entity, IntoSystems as _, Query};
///
/// /// Coins that lie too far out are put back into the middle, as new ones.
/// fn recoin(mut commands: Commands, coins: Query<(Entity, &Position, &Coin)>) {
///     for (entity, position, coin) in &coins {
///         if position.x.abs() > 50.0 {
///             commands.despawn(entity);
///             let new = commands.spawn((Position { x: 0.0, y: 0.0 }, coin.clone()));
///             assert_ne!(new, entity); // its slot is free from the end of the stage on
///         }
///     }
/// }
/// let system = recoin.every(30);
/// ```
pub struct Commands<'w> {
    world: &'w World,
}

impl Commands<'_> {
    pub(crate) fn world(&self) -> &World {
        self.world
    }

    /// A new entity. Its name is valid at once, its components are there from the next stage on.
    pub fn spawn(&mut self, bundle: impl Bundle) -> Entity {
        let entity = self.world.entities().reserve();
        self.insert(entity, bundle);
        entity
    }

    /// A new entity as a [`Template`](crate::Template) says, with these components over it (`()`
    /// for none). The step fails if there is no such template.
    pub fn spawn_template(&mut self, template: &'static str, over: impl Bundle) -> Entity {
        let entity = self.world.entities().reserve();
        self.add(move |world| {
            world.insert_template(entity, template);
            world.insert(entity, over);
        });
        entity
    }

    /// Ends an entity.
    pub fn despawn(&mut self, entity: Entity) {
        self.add(move |world| {
            world.despawn(entity);
        });
    }

    /// Gives an entity components, replacing those it has.
    pub fn insert(&mut self, entity: Entity, bundle: impl Bundle) {
        self.add(move |world| {
            world.insert(entity, bundle);
        });
    }

    /// Takes a component away.
    pub fn remove<T: Component>(&mut self, entity: Entity) {
        self.add(move |world| {
            world.remove::<T>(entity);
        });
    }

    /// Any change of the world.
    pub fn add(&mut self, apply: impl FnOnce(&mut World) + Send + 'static) {
        self.world.commands.borrow_mut().push(apply);
    }
}

impl SystemParam for Commands<'_> {
    type State = ();
    type Item<'w> = Commands<'w>;
    fn init(_registry: &Registry, access: &mut Access) {
        access.acts.insert("Commands");
        access.named.insert(Touched::Commands);
    }
    fn get<'w>(_state: &'w (), world: &'w World, _run: &Run) -> Option<Commands<'w>> {
        Some(Commands { world })
    }
}

/// The time of the match.
///
/// ```
/// use rekindle_sim::{Tick, Time};
///
/// let time = Time { tick: Tick(90), rate: 30, delta: 1.0 / 30.0 };
/// assert_eq!(time.ticks(0.5), 15);
/// assert_eq!(time.ticks(0.0), 1);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// The tick that is being made.
    pub tick: Tick,
    /// Ticks per second.
    pub rate: u16,
    /// Seconds of a tick.
    pub delta: f32,
}

impl Time {
    /// How many ticks `seconds` take, rounded to the nearest, at least 1.
    pub fn ticks(&self, seconds: f32) -> u64 {
        ((seconds * f32::from(self.rate) + 0.5) as u64).max(1)
    }
}

impl SystemParam for Time {
    type State = ();
    type Item<'w> = Time;
    fn init(_registry: &Registry, _access: &mut Access) {}
    fn get<'w>(_state: &'w (), world: &'w World, run: &Run) -> Option<Time> {
        Some(Time {
            tick: run.tick,
            rate: world.tick_rate,
            delta: 1.0 / f32::from(world.tick_rate.max(1)),
        })
    }
}

/// The version of the rules that the match began with, see [`Game::RULES`](crate::Game::RULES); 1
/// of a match that says nothing. A parameter of systems and of run conditions.
///
/// ```
/// use rekindle_sim::doc_game::Score;
/// use rekindle_sim::{IntoSystems as _, ResMut, RulesVersion};
///
/// /// From version 2 on a tick is worth two.
/// fn reward(rules: RulesVersion, mut score: ResMut<Score>) {
///     score.total += if rules.0 >= 2 { 2 } else { 1 };
/// }
/// fn decay(mut score: ResMut<Score>) {
///     score.total /= 2;
/// }
/// // Matches that began with older rules never see this one.
/// let systems = (reward, decay.run_if(|rules: RulesVersion| rules.0 >= 3)).chain();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulesVersion(pub u32);

impl SystemParam for RulesVersion {
    type State = ();
    type Item<'w> = Self;
    fn init(_registry: &Registry, _access: &mut Access) {}
    fn get<'w>(_state: &'w (), world: &'w World, _run: &Run) -> Option<Self> {
        Some(world.rules())
    }
}

/// A value computed from the configuration (`game.constant(…)`); the configuration itself is
/// `Const<MyConfig>`.
///
/// ```
/// use rekindle_sim::doc_game::{Rules, Score};
/// use rekindle_sim::{Const, IntoSystems as _, Output, Res};
///
/// fn finish(score: Res<Score>, rules: Const<Rules>, mut output: Output) {
///     if score.total >= rules.goal {
///         output.end_match("all collected");
///     }
/// }
/// let system = finish.on_event::<rekindle_sim::doc_game::Collected>();
/// ```
pub struct Const<'w, T> {
    value: &'w T,
}

impl<T> Deref for Const<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: Send + Sync + 'static> SystemParam for Const<'_, T> {
    type State = ();
    type Item<'w> = Const<'w, T>;
    fn init(registry: &Registry, access: &mut Access) {
        registry.constant::<T>(access);
    }
    fn get<'w>(_state: &'w (), world: &'w World, _run: &Run) -> Option<Const<'w, T>> {
        let value = world.constants.get(&TypeId::of::<T>())?.downcast_ref()?;
        Some(Const { value })
    }
}

impl SystemParam for Output<'_> {
    type State = ();
    type Item<'w> = Output<'w>;
    fn init(_registry: &Registry, access: &mut Access) {
        access.acts.insert("Output");
    }
    fn get<'w>(_state: &'w (), world: &'w World, run: &Run) -> Option<Output<'w>> {
        Some(Output::new(&world.outbox, run.tick))
    }
}

impl SystemParam for Rng {
    type State = ();
    type Item<'w> = Rng;
    fn init(_registry: &Registry, _access: &mut Access) {}
    fn get<'w>(_state: &'w (), world: &'w World, run: &Run) -> Option<Rng> {
        Some(Rng::stream(world.seed, run.tick, run.stream))
    }
}
