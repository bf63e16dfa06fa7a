//! Which fields of an entity somebody sees who sees the entity.

use rekindle_schema::net::NetEntity;

use crate::ecs::registry::Registry;
use crate::value::component::SeenBy;

/// All levels, from the one that sees least.
pub(crate) const LEVELS: [SeenBy; 3] = [SeenBy::Everyone, SeenBy::Team, SeenBy::Owner];

/// For whom the networked fields of a game are.
pub(crate) struct Levels {
    /// By level: the components that have a field for just this one.
    layer: [u32; 3],
    /// By level: the components of which it sees any field.
    components: [u32; 3],
    /// By level: the columns that it does not see.
    hidden: [Vec<usize>; 3],
}

impl Levels {
    pub(crate) fn of(registry: &Registry) -> Self {
        let mut levels = Self { layer: [0; 3], components: [0; 3], hidden: Default::default() };
        let mut column = 0;
        for (place, (index, _)) in registry.networked.iter().enumerate() {
            for field in registry.components.list[*index].net {
                levels.layer[field.seen_by as usize] |= 1 << place;
                for level in LEVELS {
                    if field.seen_by <= level {
                        levels.components[level as usize] |= 1 << place;
                    } else {
                        levels.hidden[level as usize].push(column);
                    }
                }
                column += 1;
            }
        }
        levels
    }

    /// Whether any field is for this level only.
    pub(crate) fn has(&self, level: SeenBy) -> bool {
        self.layer[level as usize] != 0
    }

    /// The level whose entry of an entity is also that of `level`: the highest one that sees no
    /// more of it.
    pub(crate) fn top(&self, components: u32, level: SeenBy) -> SeenBy {
        let more = |above: SeenBy| self.layer[above as usize] & components != 0;
        match level {
            SeenBy::Everyone if more(SeenBy::Team) => SeenBy::Everyone,
            SeenBy::Everyone | SeenBy::Team if more(SeenBy::Owner) => SeenBy::Team,
            _ => SeenBy::Owner,
        }
    }

    /// Whether a level sees any component of an entity.
    pub(crate) fn sees(&self, level: SeenBy, components: u32) -> bool {
        self.components[level as usize] & components != 0
    }

    /// What a level sees of an entity.
    pub(crate) fn entity(&self, level: SeenBy, entity: NetEntity) -> NetEntity {
        NetEntity { components: entity.components & self.components[level as usize], ..entity }
    }

    /// Appends what a level sees of a row.
    pub(crate) fn row(&self, level: SeenBy, row: &[u32], values: &mut Vec<u32>) {
        let start = values.len();
        values.extend_from_slice(row);
        for &column in &self.hidden[level as usize] {
            values[start + column] = 0;
        }
    }
}
