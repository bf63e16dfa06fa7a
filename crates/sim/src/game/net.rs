//! The networked part of a world: its schema, extracting it, and reading it typed.

mod fit;

use rekindle_schema::net::{NetComponent, NetEntity, NetField, NetSchema, NetView};
use rekindle_schema::{PlayerId, Tick};

pub use self::fit::Fit;
pub use rekindle_schema::net::FieldKind;

use crate::ecs::registry::Registry;
use crate::ecs::world::World;
use crate::game::players::Players;
use crate::storage::column::{PAGE, bits};
use crate::value::component::{Component, NetFieldDef, Resource};

/// Networked components of a game: (index, number of fields), in schema order.
pub(crate) fn networked(registry: &Registry) -> Vec<(usize, usize)> {
    let kinds = registry.components.list.iter().enumerate();
    kinds
        .filter(|(_, kind)| !kind.net.is_empty())
        .map(|(index, kind)| (index, kind.net.len()))
        .collect()
}

/// The schema of a game's snapshots, or what is wrong with its declarations.
pub(crate) fn schema(
    registry: &Registry,
    position: Option<&(String, String)>,
) -> Result<NetSchema, Vec<String>> {
    let components =
        || registry.networked.iter().map(|(index, _)| &registry.components.list[*index]);
    let columns: Vec<(String, &NetFieldDef)> = components()
        .flat_map(|kind| {
            kind.net.iter().map(|field| (format!("{}.{}", kind.id, field.name), field))
        })
        .collect();
    let column = |name: &str| {
        columns.iter().position(|(known, _)| known == name).map(|column| column as u16)
    };
    let mut errors = Vec::new();
    if components().count() > 32 || columns.len() > 128 {
        errors.push(format!(
            "{} networked components with {} fields: at most 32 with 128",
            components().count(),
            columns.len()
        ));
    }
    for (name, field) in &columns {
        let Some(rate) = field.rate else { continue };
        match column(rate).map(|column| columns[usize::from(column)].1.kind) {
            Some(FieldKind::Float { .. }) => {}
            Some(_) => errors.push(format!(
                "the rate `{rate}` of networked field `{name}` is not a \
                float"
            )),
            None => errors.push(format!(
                "the rate `{rate}` of networked field `{name}` is no \
                networked field: write `component-id.field`"
            )),
        }
    }
    let place = position.map(|(x, y)| {
        if let (Some(x), Some(y)) = (column(x), column(y)) {
            (x, y)
        } else {
            errors.push(format!("the position `{x}`, `{y}` is not made of networked fields"));
            (0, 0)
        }
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let field = |field: &NetFieldDef| NetField {
        name: field.name.to_owned(),
        kind: field.kind,
        rate: field.rate.and_then(column),
    };
    let component = |id: &str, fields: &[NetFieldDef]| NetComponent {
        name: id.to_owned(),
        fields: fields.iter().map(field).collect(),
    };
    Ok(NetSchema {
        components: components().map(|kind| component(kind.id, kind.net)).collect(),
        position: place,
    })
}

/// Writes the networked part of `world` into `view`.
pub(crate) fn extract(world: &World, stride: usize, view: &mut NetView) {
    view.tick = world.tick();
    view.entities.clear();
    view.avatars.clear();
    view.values.clear();
    let networked = &world.registry.networked;
    for page in 0..world.entities.words().len() {
        let word = |index: usize| world.columns[index].present().get(page).copied().unwrap_or(0);
        let any = networked.iter().fold(0, |any, (index, _)| any | word(*index));
        for bit in bits(any) {
            let slot = page * PAGE + bit;
            let components = networked.iter().enumerate().fold(0, |set, (place, (index, _))| {
                set | ((word(*index) >> bit & 1) as u32) << place
            });
            view.entities.push(NetEntity {
                slot: slot as u32,
                generation: world.entities.in_slot(slot).generation(),
                components,
            });
        }
    }
    view.values.resize(view.entities.len() * stride, 0);
    let mut offset = 0;
    for (place, (index, fields)) in networked.iter().enumerate() {
        world.columns[*index].extract(&view.entities, place, stride, offset, &mut view.values);
        offset += fields;
    }
    debug_assert_eq!(offset, stride, "the columns of a row are those of the networked components");
    let alive = |player: &crate::Player| {
        world.contains(player.avatar).then_some((player.id, player.avatar.slot()))
    };
    view.avatars.extend(world.resource::<Players>().iter().filter_map(alive));
}

/// A snapshot with typed access: what bots and clients see of a match.
///
/// ```
/// use rekindle_schema::net::NetView;
/// use rekindle_sim::doc_game::{Coin, Duel, Position};
/// use rekindle_sim::{GameType as _, Simulation as _, Typed, View};
///
/// let game = Typed::<Duel>::new()?;
/// let duel = game.create(br#"{"coins": 3}"#, 7)?;
/// let mut networked = NetView::default();
/// duel.extract(&mut networked);
/// let view = View::new(game.net_schema(), &networked);
/// assert_eq!(view.entities().filter(|entity| entity.has::<Coin>()).count(), 3);
/// // Positions are as coarse as `#[net]` says: 200 metres in 16 bits.
/// let coin = view.entity(0).and_then(|entity| entity.get::<Position>()).unwrap();
/// assert!(coin.x.abs() <= 50.01);
/// # Ok::<(), rekindle_sim::SimError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    schema: &'a NetSchema,
    view: &'a NetView,
}

/// One entity of a [`View`].
#[derive(Debug, Clone, Copy)]
pub struct ViewEntity<'a> {
    /// Its place in the world: at most one live entity has it.
    pub slot: u32,
    /// Tells apart the entities that have had this slot.
    pub generation: u32,
    components: u32,
    row: &'a [u32],
    schema: &'a NetSchema,
}

impl<'a> View<'a> {
    /// Reads `view` by the schema it was made with.
    pub fn new(schema: &'a NetSchema, view: &'a NetView) -> Self {
        Self { schema, view }
    }

    /// The tick after which the world was so.
    pub fn tick(&self) -> Tick {
        self.view.tick
    }

    /// All networked entities, ascending by slot.
    pub fn entities(&self) -> impl Iterator<Item = ViewEntity<'a>> + use<'a> {
        let this = *self;
        (0..this.view.entities.len()).map(move |index| this.at(index))
    }

    /// The entity in a slot.
    pub fn entity(&self, slot: u32) -> Option<ViewEntity<'a>> {
        self.view.index_of(slot).map(|index| self.at(index))
    }

    /// The entity that a player steers.
    pub fn avatar(&self, player: PlayerId) -> Option<ViewEntity<'a>> {
        self.entity(self.view.avatar(player)?)
    }

    /// A resource that the game [shows](crate::GameBuilder::shows): networked fields quantised, the
    /// others at their defaults. `None` before the first tick, and if the game shows none.
    pub fn resource<T: Resource + Component>(&self) -> Option<T> {
        self.entities().find_map(|entity| entity.get::<T>())
    }

    fn at(&self, index: usize) -> ViewEntity<'a> {
        let NetEntity { slot, generation, components } = self.view.entities[index];
        ViewEntity {
            slot,
            generation,
            components,
            row: self.view.row(index, self.schema.stride()),
            schema: self.schema,
        }
    }
}

impl ViewEntity<'_> {
    /// A component as the snapshot has it: networked fields quantised, the others at their
    /// defaults. `None` if the entity has none.
    pub fn get<T: Component>(&self) -> Option<T> {
        let mut offset = 0;
        for (place, component) in self.schema.components.iter().enumerate() {
            if component.name == T::ID {
                let quanta = self.row.get(offset..offset + component.fields.len())?;
                return (self.components >> place & 1 == 1).then(|| T::from_quanta(quanta));
            }
            offset += component.fields.len();
        }
        None
    }

    /// Whether the entity has a component.
    pub fn has<T: Component>(&self) -> bool {
        let place = self.schema.components.iter().position(|component| component.name == T::ID);
        place.is_some_and(|place| self.components >> place & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Typed;
    use crate::game::doc_game::Duel;

    #[test]
    #[should_panic(expected = "the columns of a row are those of the networked components")]
    fn a_row_of_another_schema_is_noticed() {
        let duel = Typed::<Duel>::new().unwrap().create(b"", 7).unwrap();
        extract(duel.world(), 5, &mut NetView::default());
    }
}
