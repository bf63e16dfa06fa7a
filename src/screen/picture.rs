//! From a networked view to points on a plane. Knows no game: it goes by the schema's position columns and by which components an entity has.

use std::collections::BTreeMap;

use rekindle_schema::net::{FieldKind, NetSchema, NetView};
use rekindle_schema::{PlayerId, Tick};

/// One entity to be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    /// Where.
    pub x: f64,
    /// Where.
    pub y: f64,
    /// Entities with the same components have the same kind: 0, 1, 2 in order of appearance.
    pub kind: usize,
    /// The player who steers it.
    pub player: Option<PlayerId>,
}

/// All that is drawn of a match.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Of which tick.
    pub tick: Tick,
    /// Left and right edge of the plane.
    pub x: [f64; 2],
    /// Lower and upper edge.
    pub y: [f64; 2],
    /// The entities that have a position.
    pub dots: Vec<Dot>,
    /// The names of the components of each kind.
    pub kinds: Vec<String>,
    /// How many players steer something.
    pub players: usize,
}

impl Picture {
    /// Draws nothing that is not in `view`. `None` if the game has no positions.
    pub fn of(schema: &NetSchema, view: &NetView) -> Option<Self> {
        let (x, y) = schema.position?;
        let kinds: Vec<FieldKind> = schema.columns().map(|field| field.kind).collect();
        let (x_kind, y_kind) = (*kinds.get(usize::from(x))?, *kinds.get(usize::from(y))?);
        let holder = component_of(schema, usize::from(x))?;
        let stride = kinds.len();
        let players: BTreeMap<u32, PlayerId> = view.avatars.iter().map(|&(player, slot)| (slot, player)).collect();
        let mut masks: Vec<u32> = Vec::new();
        let mut dots = Vec::with_capacity(view.entities.len());
        for (index, entity) in view.entities.iter().enumerate().filter(|(_, entity)| entity.components & (1 << holder) != 0) {
            let row = view.row(index, stride);
            let kind = masks.iter().position(|&mask| mask == entity.components).unwrap_or_else(|| {
                masks.push(entity.components);
                masks.len() - 1
            });
            let (x, y) = (value(x_kind, row[usize::from(x)]), value(y_kind, row[usize::from(y)]));
            dots.push(Dot { x, y, kind, player: players.get(&entity.slot).copied() });
        }
        let kinds = masks.iter().map(|mask| name(schema, *mask)).collect();
        Some(Self { tick: view.tick, x: range(x_kind), y: range(y_kind), dots, kinds, players: players.len() })
    }
}

/// Which component column `column` belongs to.
fn component_of(schema: &NetSchema, column: usize) -> Option<usize> {
    let mut end = 0;
    schema.components.iter().position(|component| {
        end += component.fields.len();
        column < end
    })
}

fn name(schema: &NetSchema, mask: u32) -> String {
    let has = |index: &usize| mask & (1 << index) != 0;
    let names: Vec<&str> = (0..schema.components.len()).filter(has).map(|index| schema.components[index].name.as_str()).collect();
    names.join("+")
}

fn range(kind: FieldKind) -> [f64; 2] {
    match kind {
        FieldKind::Float { min, max, .. } => [f64::from(min), f64::from(max)],
        FieldKind::Angle { .. } => [-std::f64::consts::PI, std::f64::consts::PI],
        FieldKind::Unsigned { bits } => [0.0, 2f64.powi(i32::from(bits))],
        FieldKind::Bool => [0.0, 1.0],
    }
}

fn value(kind: FieldKind, quantum: u32) -> f64 {
    let [low, high] = range(kind);
    let steps = match kind {
        FieldKind::Float { bits, .. } => 2f64.powi(i32::from(bits)) - 1.0,
        FieldKind::Angle { bits } | FieldKind::Unsigned { bits } => 2f64.powi(i32::from(bits)),
        FieldKind::Bool => 1.0,
    };
    low + f64::from(quantum) / steps * (high - low)
}

#[cfg(test)]
mod tests {
    use rekindle_schema::net::{NetComponent, NetEntity, NetField};

    use super::*;

    #[test]
    fn entities_stand_where_the_schema_says() {
        let float = |name: &str| NetField { name: name.into(), kind: FieldKind::Float { min: -10.0, max: 10.0, bits: 8 }, rate: None };
        let flag = NetField { name: "on".into(), kind: FieldKind::Bool, rate: None };
        let component = |name: &str, fields| NetComponent { name: name.into(), fields };
        let schema = NetSchema {
            components: vec![component("lit", vec![flag]), component("place", vec![float("x"), float("y")])],
            position: Some((1, 2)),
        };
        let entity = |slot, components| NetEntity { slot, generation: 0, components };
        let view = NetView {
            tick: Tick(3),
            entities: vec![entity(0, 0b11), entity(4, 0b01), entity(5, 0b10)],
            values: vec![1, 0, 255, 1, 9, 9, 0, 255, 0],
            avatars: vec![(PlayerId(8), 5)],
        };
        let picture = Picture::of(&schema, &view).unwrap();
        assert_eq!(picture.x, [-10.0, 10.0]);
        assert_eq!(picture.kinds, ["lit+place", "place"]);
        assert_eq!(
            picture.dots,
            [Dot { x: -10.0, y: 10.0, kind: 0, player: None }, Dot { x: 10.0, y: -10.0, kind: 1, player: Some(PlayerId(8)) }]
        );
        assert_eq!(Picture::of(&NetSchema::default(), &view), None);
    }
}
