//! Components that are put on an entity together.

use crate::ecs::world::World;
use crate::value::component::Component;
use crate::value::entity::Entity;

/// Components that are inserted together: a component, a tuple of bundles, or a struct of them that
/// derives it.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Duel, Position};
/// use rekindle_sim::{Bundle, Harness};
///
/// #[derive(Bundle)]
/// struct LyingCoin {
///     place: Position,
///     coin: Coin,
/// }
///
/// let mut duel = Harness::<Duel>::with_config(7, r#"{"coins": 0}"#);
/// let world = duel.world_mut();
/// let lying = LyingCoin { place: Position { x: 1.0, y: 0.0 }, coin: Coin { worth: 3 } };
/// let entity = world.spawn(lying);
/// assert_eq!(world.get::<Coin>(entity), Some(Coin { worth: 3 }));
/// ```
pub trait Bundle: Send + 'static {
    /// Puts the parts into the world.
    fn insert(self, world: &mut World, entity: Entity);
}

impl<T: Component> Bundle for T {
    fn insert(self, world: &mut World, entity: Entity) {
        world.insert_one(entity, self);
    }
}

macro_rules! bundles {
    ($($name:ident),*) => {
        impl<$($name: Bundle),*> Bundle for ($($name,)*) {
            #[expect(non_snake_case, reason = "the elements are named like their types")]
            fn insert(self, world: &mut World, entity: Entity) {
                let ($($name,)*) = self;
                $($name.insert(world, entity);)*
            }
        }
    };
}

/// An entity without components.
impl Bundle for () {
    fn insert(self, _world: &mut World, _entity: Entity) {}
}

bundles!(A);
bundles!(A, B);
bundles!(A, B, C);
bundles!(A, B, C, D);
bundles!(A, B, C, D, E);
bundles!(A, B, C, D, E, F);
bundles!(A, B, C, D, E, F, G);
bundles!(A, B, C, D, E, F, G, H);
bundles!(A, B, C, D, E, F, G, H, I);
bundles!(A, B, C, D, E, F, G, H, I, J);
bundles!(A, B, C, D, E, F, G, H, I, J, K);
bundles!(A, B, C, D, E, F, G, H, I, J, K, L);
