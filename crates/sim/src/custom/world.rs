//! Definitions and rows in a world: what `setup`, `join`, `command`, hooks and tests do with
//! components that data defines. Systems have [`crate::custom::systems`].

use std::sync::Arc;

use crate::custom::define::{CustomDefinition, CustomError, Defined, MOST, Row};
use crate::ecs::registry::did_you_mean;
use crate::ecs::world::World;
use crate::storage::column::{Column, PAGE, bits, slots};
use crate::storage::stamp::{Stamp, StampOf};
use crate::value::entity::Entity;
use crate::value::shape::{Datum, Shape};

/// A component that data defines, found by its id with [`World::custom_id`] or
/// [`Custom::id`](crate::Custom::id). It stays the same for as long as the match lives, also on
/// other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomId(pub(crate) u16);

impl World {
    /// Entities can have this component from now on. In `setup`, for what a configuration defines;
    /// in `command`, for what an operator or a designer adds to a match that is played.
    ///
    /// A definition that the match has already is left alone. One with a higher version replaces
    /// it: rows keep the values of fields that both have, by name.
    ///
    /// ```
    /// use rekindle_sim::doc_game::Duel;
    /// use rekindle_sim::value::shape::Datum;
    /// use rekindle_sim::{CustomDefinition, Harness};
    ///
    /// let stamina: CustomDefinition = serde_json::from_str(
    ///     r#"{"id": "stamina", "fields": [{"name": "points", "type": "u16", "max": 120}]}"#,
    /// ).unwrap();
    /// let mut duel = Harness::<Duel>::new(7);
    /// let world = duel.world_mut();
    /// let (runner, stamina) = (world.spawn(()), world.define(&stamina)?);
    /// world.insert_custom(runner, stamina, &[("points", 90.into())])?;
    /// assert_eq!(world.custom(runner, stamina, "points")?, Datum::Int(90));
    /// let problem = world.set_custom(runner, stamina, "points", 200).unwrap_err().to_string();
    /// assert!(problem.contains("200 is more than 120"));
    /// assert_eq!(world.with_custom(&[stamina]).collect::<Vec<_>>(), [runner]);
    /// # Ok::<(), rekindle_sim::CustomError>(())
    /// ```
    ///
    /// # Errors
    /// If the definition makes no sense, if a component of the game has the id, if the match has 64
    /// definitions, or another one of this id that is not older, or whose values do not fit into
    /// the new fields.
    pub fn define(&mut self, definition: &CustomDefinition) -> Result<CustomId, CustomError> {
        self.add_defined(Defined::new(definition)?)
    }

    fn add_defined(&mut self, new: Defined) -> Result<CustomId, CustomError> {
        let fail = |problem: String| CustomError::Definition { component: new.id.clone(), problem };
        let Some(place) = self.custom.iter().position(|known| known.id == new.id) else {
            if self.custom.len() >= MOST {
                return Err(fail(format!("the match has {MOST} definitions, which is the most")));
            }
            self.refuse_id(&new.id).map_err(fail)?;
            self.push_custom(new);
            return Ok(CustomId(self.custom.len() as u16 - 1));
        };
        let id = CustomId(place as u16);
        let known = Arc::clone(&self.custom[place]);
        if *known == new {
            return Ok(id);
        }
        if known.version >= new.version {
            let (component, has, given) = (new.id, known.version, new.version);
            return Err(CustomError::Version { component, has, given });
        }
        // All rows are converted before any is written.
        let mut rows = Vec::new();
        if let Some(column) = self.custom_column(id) {
            let values = column.values.borrow();
            for slot in slots(&column.present) {
                if let Some(row) = column.place(slot).and_then(|at| values.get(at)) {
                    rows.push((slot, new.adopt(&known, row)?));
                }
            }
        }
        self.custom[place] = Arc::new(new);
        let now = self.now.stamp;
        if let Some(column) = self.custom_column_mut(id) {
            for (slot, row) in rows {
                column.insert(slot, row, now);
            }
        }
        Ok(id)
    }

    /// Refuses an id that a component of the game has.
    pub(crate) fn refuse_id(&self, id: &str) -> Result<(), String> {
        let list = &self.registry.components.list;
        match list.binary_search_by(|stored| stored.id.cmp(id)) {
            Ok(place) => Err(format!(
                "the game has a component of this id, `{}`: give it another one",
                list[place].type_name
            )),
            Err(_) => Ok(()),
        }
    }

    /// Adds a definition, which must be new, with an empty column.
    pub(crate) fn push_custom(&mut self, defined: Defined) {
        self.custom.push(Arc::new(defined));
        self.columns.push(Box::new(Column::<Row>::new()));
        self.removed.push(Vec::new());
    }

    /// The component with this id.
    ///
    /// # Errors
    /// If the match defines none. It names one that is near.
    pub fn custom_id(&self, id: &str) -> Result<CustomId, CustomError> {
        let place = self.custom.iter().position(|known| known.id == id);
        place.map(|place| CustomId(place as u16)).ok_or_else(|| CustomError::Unknown {
            what: "component that the match defines with the id".to_owned(),
            name: id.to_owned(),
            hint: did_you_mean(id, self.custom.iter().map(|known| known.id.as_str())),
        })
    }

    pub(crate) fn defined(&self, id: CustomId) -> Result<&Arc<Defined>, CustomError> {
        self.custom.get(usize::from(id.0)).ok_or_else(|| CustomError::Unknown {
            what: "component of this match with the number".to_owned(),
            name: id.0.to_string(),
            hint: String::new(),
        })
    }

    fn custom_place(&self, id: CustomId) -> usize {
        self.registry.components.list.len() + usize::from(id.0)
    }

    pub(crate) fn custom_column(&self, id: CustomId) -> Option<&Column<Row>> {
        self.column(self.custom_place(id))
    }

    pub(crate) fn custom_column_mut(&mut self, id: CustomId) -> Option<&mut Column<Row>> {
        let place = self.custom_place(id);
        self.columns.get_mut(place)?.as_any_mut().downcast_mut()
    }

    /// Gives an entity the component, replacing the one that it has: these fields, and the defaults
    /// of the others.
    ///
    /// # Errors
    /// If a field is unknown, a value is not of its type or range, or the entity is gone.
    pub fn insert_custom(
        &mut self,
        entity: Entity,
        id: CustomId,
        fields: &[(&str, Datum)],
    ) -> Result<(), CustomError> {
        let row = self.defined(id)?.row(fields)?;
        if self.put_custom(entity, id, row) { Ok(()) } else { Err(self.absent(entity, id)) }
    }

    /// Writes a row of the component's definition; whether the entity is alive.
    pub(crate) fn put_custom(&mut self, entity: Entity, id: CustomId, row: Row) -> bool {
        let (alive, now) = (self.contains(entity), self.now.stamp);
        if let Some(column) = self.custom_column_mut(id).filter(|_| alive) {
            column.insert(entity.slot() as usize, row, now);
        }
        alive
    }

    /// Takes the component away; whether it was there.
    pub fn remove_custom(&mut self, entity: Entity, id: CustomId) -> bool {
        self.contains(entity)
            && self.custom_column(id).is_some()
            && self.remove_index(entity, self.custom_place(id))
    }

    /// The value of a field.
    ///
    /// # Errors
    /// If the entity has no such component, or that has no such field.
    pub fn custom(&self, entity: Entity, id: CustomId, field: &str) -> Result<Datum, CustomError> {
        let defined = self.defined(id)?;
        let field = defined.field(field)?;
        let column = self.custom_column(id).filter(|_| self.contains(entity));
        let value = column
            .and_then(|column| column.with(entity.slot() as usize, |row| defined.get(row, field)));
        value.ok_or_else(|| self.absent(entity, id))
    }

    /// Sets a field. A value that it has already is no change.
    ///
    /// # Errors
    /// If the entity has no such component, that has no such field, or the value is not of its type
    /// or range.
    pub fn set_custom(
        &mut self,
        entity: Entity,
        id: CustomId,
        field: &str,
        value: impl Into<Datum>,
    ) -> Result<(), CustomError> {
        self.write_custom(entity, id, field, &value.into(), self.now.stamp)
    }

    pub(crate) fn write_custom(
        &self,
        entity: Entity,
        id: CustomId,
        field: &str,
        value: &Datum,
        now: Stamp,
    ) -> Result<(), CustomError> {
        let defined = self.defined(id)?;
        let field = defined.field(field)?;
        let column = self.custom_column(id).filter(|_| self.contains(entity));
        let absent = || self.absent(entity, id);
        let column = column.ok_or_else(absent)?;
        let at = column.place(entity.slot() as usize).ok_or_else(absent)?;
        let mut values = column.values.borrow_mut();
        let (Some(row), Some(changed)) = (values.get_mut(at), column.changed.get(at)) else {
            return Err(absent());
        };
        if defined.set(row, field, value)? {
            debug_assert!(changed.get() <= now, "a change goes back to stamp {now}");
            changed.set(now);
        }
        Ok(())
    }

    pub(crate) fn absent(&self, entity: Entity, id: CustomId) -> CustomError {
        let known = self.custom.get(usize::from(id.0));
        let component = known.map_or_else(String::new, |known| known.id.clone());
        CustomError::Absent { component, entity }
    }

    /// The entities that have all of these components, ascending by slot; all entities, if there
    /// are none.
    pub fn with_custom(&self, ids: &[CustomId]) -> impl Iterator<Item = Entity> {
        self.custom_entities(move |page| {
            ids.iter().fold(u64::MAX, |mask, id| {
                mask & self.custom_column(*id).map_or(0, |column| column.presence(page))
            })
        })
    }

    /// The entities whose component has a stamp of this sort that is newer than `last`.
    pub(crate) fn custom_newer(
        &self,
        id: CustomId,
        last: Stamp,
        of: StampOf,
    ) -> impl Iterator<Item = Entity> {
        self.custom_entities(move |page| {
            self.custom_column(id).map_or(0, |column| column.newer(page, last, of))
        })
    }

    /// The entities that `mask` has, page by page.
    fn custom_entities(&self, mask: impl Fn(usize) -> u64) -> impl Iterator<Item = Entity> {
        let pages = self.entities.words().iter().enumerate();
        let found = pages.map(move |(page, alive)| (page, alive & mask(page)));
        let slots = found.flat_map(|(page, word)| bits(word).map(move |bit| page * PAGE + bit));
        slots.map(|slot| self.entities.in_slot(slot))
    }

    /// Ids and shapes of all components, in the order of their columns.
    pub(crate) fn components(&self) -> impl Iterator<Item = (&str, &Shape)> {
        let of_game = self.registry.components.list.iter();
        let of_game = of_game.map(|stored| (stored.id, &stored.shape));
        of_game.chain(self.custom.iter().map(|known| (known.id.as_str(), &known.shape)))
    }

    /// The ids of the components that the match defines, in the order in which it did.
    pub fn customs(&self) -> impl Iterator<Item = (&str, CustomId)> {
        let all = self.custom.iter().enumerate();
        all.map(|(place, known)| (known.id.as_str(), CustomId(place as u16)))
    }
}

/// What a row of another stage says, of a definition that was replaced meanwhile: by the names of
/// its fields; those whose values do not fit any more have their defaults.
pub(crate) fn up_to_date(world: &World, id: CustomId, of: &Arc<Defined>, row: Row) -> Option<Row> {
    let now = world.defined(id).ok()?;
    if Arc::ptr_eq(now, of) {
        return Some(row);
    }
    now.adopt(of, &row).or_else(|_| now.row(&[])).ok()
}
