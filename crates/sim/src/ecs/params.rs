//! Parameters of systems besides queries, resources and events.

use std::any::TypeId;
use std::ops::Deref;

use rekindle_schema::{PlayerId, Tick};

use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::game::builder::Game;
use crate::storage::entities::Entity;
use crate::storage::stamp::Run;
use crate::value::component::{Bundle, Component};

/// A change that waits for the end of the stage.
pub(crate) type Command = Box<dyn FnOnce(&mut World) + Send>;

/// Changes which entities and components there are. They are made at the end of the stage, in the
/// order of the systems that asked for them; those for an entity that is gone by then are left out.
pub struct Commands<'w> {
    world: &'w World,
}

impl Commands<'_> {
    /// A new entity. Its name is valid at once, its components are there from the next stage on.
    pub fn spawn(&mut self, bundle: impl Bundle) -> Entity {
        let entity = self.world.entities().reserve();
        self.insert(entity, bundle);
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
        self.world.commands.borrow_mut().push(Box::new(apply));
    }
}

impl SystemParam for Commands<'_> {
    type State = ();
    type Item<'w> = Commands<'w>;
    fn init(_registry: &Registry, _access: &mut Access) {}
    fn get<'w>(_state: &'w (), world: &'w World, _run: &Run) -> Option<Commands<'w>> {
        Some(Commands { world })
    }
}

/// The time of the match.
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

/// The input of one player in this tick.
#[derive(Debug, Clone, PartialEq)]
pub struct PlayerInput<I> {
    /// Whose.
    pub player: PlayerId,
    /// The tick that the player was looking at when making it.
    pub view_tick: Tick,
    /// What the player wants.
    pub input: I,
}

/// The decoded inputs of a tick.
pub(crate) struct InputSet<I>(pub(crate) Vec<PlayerInput<I>>);

/// The inputs of this tick: at most one for each player, none from a player who sent nothing.
pub struct Inputs<'w, G: Game> {
    inputs: &'w [PlayerInput<G::Input>],
}

impl<G: Game> Inputs<'_, G> {
    /// Ascending by player.
    pub fn iter(&self) -> std::slice::Iter<'_, PlayerInput<G::Input>> {
        self.inputs.iter()
    }

    /// The input of one player.
    pub fn get(&self, player: PlayerId) -> Option<&PlayerInput<G::Input>> {
        self.inputs
            .binary_search_by_key(&player, |input| input.player)
            .ok()
            .map(|index| &self.inputs[index])
    }
}

impl<'a, G: Game> IntoIterator for &'a Inputs<'_, G> {
    type Item = &'a PlayerInput<G::Input>;
    type IntoIter = std::slice::Iter<'a, PlayerInput<G::Input>>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<G: Game> SystemParam for Inputs<'_, G> {
    type State = ();
    type Item<'w> = Inputs<'w, G>;
    fn init(_registry: &Registry, _access: &mut Access) {}
    fn get<'w>(_state: &'w (), world: &'w World, _run: &Run) -> Option<Inputs<'w, G>> {
        let inputs =
            world.inputs.downcast_ref::<InputSet<G::Input>>().map_or(&[][..], |set| &set.0);
        Some(Inputs { inputs })
    }
}

/// A value computed from the configuration (`game.constant(…)`); the configuration itself is
/// `Const<MyConfig>`.
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
