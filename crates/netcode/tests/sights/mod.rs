//! Views of which players see only what is near. Shared by the tests and the benchmarks.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "each user takes its own part"
)]

use std::sync::Arc;

use rekindle_schema::PlayerId;
use rekindle_schema::net::{NetSchema, NetView, Restricted, Sight};

/// What comes into view at the radius leaves it at this factor of it.
pub const LEAVE: f32 = 1.1;

/// Where an entity of the view is, if it has a position.
pub fn place(schema: &NetSchema, view: &NetView, index: usize) -> Option<(f32, f32)> {
    let (x, y) = schema.position?;
    let (mut offset, mut holder) = (0, 0);
    for (number, component) in schema.components.iter().enumerate() {
        if (offset..offset + component.fields.len()).contains(&usize::from(x)) {
            holder = number;
        }
        offset += component.fields.len();
    }
    let row = view.row(index, schema.stride());
    let at = |column: u16| {
        let column = usize::from(column);
        schema.columns().nth(column).expect("a column").kind.dequantise(row[column])
    };
    (view.entities[index].components >> holder & 1 == 1).then(|| (at(x), at(y)))
}

/// The distance of an entity from the one in slot `eye`; none without a position.
pub fn distance(schema: &NetSchema, view: &NetView, eye: u32, index: usize) -> Option<f32> {
    let (x, y) = place(schema, view, index)?;
    let (eye_x, eye_y) = place(schema, view, view.index_of(eye)?)?;
    Some((x - eye_x).hypot(y - eye_y))
}

/// The same view, of which each of these players sees what is within the radius around the entity
/// in the player's slot; everybody else sees all of it.
pub fn near(
    schema: &NetSchema,
    view: &Arc<NetView>,
    players: &[(PlayerId, u32)],
    radius: f32,
) -> Arc<NetView> {
    let mut restricted = Restricted::default();
    for (number, &(player, eye)) in (0..).zip(players) {
        let mut sight = Sight::default();
        for index in 0..view.entities.len() {
            let distance = distance(schema, view, eye, index).unwrap_or(0.0);
            if distance <= radius * LEAVE {
                sight.entries.push(index as u32);
            }
            if distance > radius && distance <= radius * LEAVE {
                sight.margin.push(index as u32);
            }
        }
        restricted.sights.push(sight);
        restricted.viewers.push((player, number));
    }
    Arc::new(NetView { restricted: Some(Box::new(restricted)), ..NetView::clone(view) })
}
