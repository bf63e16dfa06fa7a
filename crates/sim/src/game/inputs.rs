//! The inputs of a tick, as systems get them.

use rekindle_schema::{PlayerId, Tick};

use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::game::builder::Game;
use crate::storage::stamp::Run;

/// The input of one player in this tick.
#[derive(Debug, Clone, PartialEq)]
pub struct PlayerInput<I> {
    /// The player who sent it.
    pub player: PlayerId,
    /// The tick that the player was looking at when making it.
    pub view_tick: Tick,
    /// What the player wants.
    pub input: I,
}

/// The decoded inputs of a tick.
pub(crate) struct InputSet<I>(pub(crate) Vec<PlayerInput<I>>);

/// The inputs of this tick: at most one for each player, none from a player who sent nothing.
///
/// ```
/// use rekindle_sim::doc_game::{Duel, Run, Runner, Velocity};
/// use rekindle_sim::{Harness, Inputs, IntoSystems as _, PlayerId, Players, Query, Res};
///
/// fn steer(inputs: Inputs<Duel>, players: Res<Players>, mut runners: Query<&mut Velocity>) {
///     for input in &inputs {
///         let avatar = players.avatar(input.player).unwrap_or_default();
///         if let Some(mut velocity) = runners.get_mut(avatar) {
///             velocity.x = if input.input == Run::Left { -8.0 } else { 8.0 };
///         }
///     }
/// }
/// let system = steer.before("movement");
///
/// let mut duel = Harness::<Duel>::new(7);
/// duel.join(PlayerId(1));
/// duel.tick();
/// duel.input(PlayerId(1), &Run::Left);
/// duel.tick();
/// let avatar = duel.world().resource::<Players>().avatar(PlayerId(1)).unwrap();
/// assert_eq!(duel.world().get::<Velocity>(avatar), Some(Velocity { x: -8.0 }));
/// ```
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
    fn init(_registry: &Registry, access: &mut Access) {
        access.inputs = true;
        access.named.insert(Touched::Inputs);
    }
    fn get<'w>(_state: &'w (), world: &'w World, _run: &Run) -> Option<Inputs<'w, G>> {
        let inputs =
            world.inputs.downcast_ref::<InputSet<G::Input>>().map_or(&[][..], |set| &set.0);
        Some(Inputs { inputs })
    }
}
