//! What systems do with components that data defines.

use std::sync::Arc;

use crate::custom::define::CustomError;
use crate::custom::world::{CustomId, up_to_date};
use crate::ecs::params::Commands;
use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::stamp::{Run, StampOf};
use crate::value::entity::Entity;
use crate::value::shape::Datum;

/// What conflicts are told by.
const NAME: &str = "custom components";

/// Reads the components that data defines, of this match. All of them are one thing for the order
/// of systems: one that has [`CustomMut`] is put in order with all that have either.
///
/// ```
/// use rekindle_sim::doc_game::Position;
/// use rekindle_sim::{Custom, Entity, IntoSystems as _, Query};
///
/// /// Whatever has stamina and a position, and no shield.
/// fn look(custom: Custom, positions: Query<(Entity, &Position)>) {
///     let Ok(stamina) = custom.id("stamina") else { return }; // this match defines none
///     for (entity, position) in positions.iter_many(custom.with(&[stamina])) {
///         let shielded = custom.id("shield").is_ok_and(|shield| custom.has(entity, shield));
///         let points = custom.get(entity, stamina, "points").unwrap().int().unwrap_or(0);
///         let _ = (position.x, points, shielded);
///     }
/// }
/// let system = look.every(30);
/// ```
#[derive(Clone, Copy)]
pub struct Custom<'w> {
    world: &'w World,
    run: Run,
}

impl<'w> Custom<'w> {
    /// As [`World::custom_id`].
    ///
    /// # Errors
    /// If the match defines none of this id.
    pub fn id(&self, id: &str) -> Result<CustomId, CustomError> {
        self.world.custom_id(id)
    }

    /// As [`World::custom`].
    ///
    /// # Errors
    /// If the entity has no such component, or that has no such field.
    pub fn get(&self, entity: Entity, id: CustomId, field: &str) -> Result<Datum, CustomError> {
        self.world.custom(entity, id, field)
    }

    /// Whether an entity has the component.
    pub fn has(&self, entity: Entity, id: CustomId) -> bool {
        let column = self.world.custom_column(id);
        self.world.contains(entity)
            && column.is_some_and(|column| column.has(entity.slot() as usize))
    }

    /// The entities that have all of these components, ascending by slot: for
    /// [`Query::iter_many`](crate::Query::iter_many), or as they are.
    pub fn with<'i>(&self, ids: &'i [CustomId]) -> impl Iterator<Item = Entity> + use<'w, 'i> {
        self.world.with_custom(ids)
    }

    /// The entities that got the component since this system last ran, ascending by slot.
    pub fn added(&self, id: CustomId) -> impl Iterator<Item = Entity> + use<'w> {
        self.world.custom_newer(id, self.run.last, StampOf::Addition)
    }

    /// The entities whose component was added or changed since this system last ran, ascending by
    /// slot.
    pub fn changed(&self, id: CustomId) -> impl Iterator<Item = Entity> + use<'w> {
        self.world.custom_newer(id, self.run.last, StampOf::Change)
    }
}

impl SystemParam for Custom<'_> {
    type State = ();
    type Item<'w> = Custom<'w>;
    fn init(_registry: &Registry, access: &mut Access) {
        access.read(Touched::Custom, NAME);
        access.named.insert(Touched::Custom);
    }
    fn get<'w>(_state: &'w (), world: &'w World, run: &Run) -> Option<Custom<'w>> {
        Some(Custom { world, run: *run })
    }
}

/// Reads and changes the components that data defines: as [`Custom`], and [`CustomMut::set`]. They
/// are inserted and removed by [`Commands`].
///
/// ```
/// use rekindle_sim::{CustomMut, IntoSystems as _};
///
/// fn recover(mut custom: CustomMut) {
///     let Ok(stamina) = custom.id("stamina") else { return };
///     for entity in custom.with(&[stamina]).collect::<Vec<_>>() {
///         let points = custom.get(entity, stamina, "points").unwrap().int().unwrap_or(0);
///         // More than the definition allows is an error, and changes nothing.
///         let _ = custom.set(entity, stamina, "points", points + 1);
///     }
/// }
/// let system = recover.every(30);
/// ```
pub struct CustomMut<'w> {
    read: Custom<'w>,
}

impl<'w> std::ops::Deref for CustomMut<'w> {
    type Target = Custom<'w>;
    fn deref(&self) -> &Custom<'w> {
        &self.read
    }
}

impl CustomMut<'_> {
    /// As [`World::set_custom`].
    ///
    /// # Errors
    /// If the entity has no such component, that has no such field, or the value is not of its type
    /// or range.
    pub fn set(
        &mut self,
        entity: Entity,
        id: CustomId,
        field: &str,
        value: impl Into<Datum>,
    ) -> Result<(), CustomError> {
        let Custom { world, run } = self.read;
        world.write_custom(entity, id, field, &value.into(), run.stamp)
    }
}

impl SystemParam for CustomMut<'_> {
    type State = ();
    type Item<'w> = CustomMut<'w>;
    fn init(_registry: &Registry, access: &mut Access) {
        access.write(Touched::Custom, NAME);
        access.named.insert(Touched::Custom);
    }
    fn get<'w>(_state: &'w (), world: &'w World, run: &Run) -> Option<CustomMut<'w>> {
        Some(CustomMut { read: Custom { world, run: *run } })
    }
}

impl Commands<'_> {
    /// Gives an entity a component that data defines, at the end of the stage: these fields, and
    /// the defaults of the others.
    ///
    /// # Errors
    /// At once, if a field is unknown or a value is not of its type or range.
    pub fn insert_custom(
        &mut self,
        entity: Entity,
        id: CustomId,
        fields: &[(&str, Datum)],
    ) -> Result<(), CustomError> {
        let defined = Arc::clone(self.world().defined(id)?);
        let row = defined.row(fields)?;
        self.add(move |world| {
            if let Some(row) = up_to_date(world, id, &defined, row) {
                world.put_custom(entity, id, row);
            }
        });
        Ok(())
    }

    /// Takes such a component away, at the end of the stage.
    pub fn remove_custom(&mut self, entity: Entity, id: CustomId) {
        self.add(move |world| {
            world.remove_custom(entity, id);
        });
    }
}
