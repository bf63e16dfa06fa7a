//! A battle as shapes to draw: a pure function of what a client sees.

use rekindle_sim::View;
use rekindle_sim::sketch::{Ink, Shape, Sketch};

use crate::rules::{HALF, HOMES, Kind, Rules};
use crate::{Position, Unit};

/// What the sides are called.
const NAMES: [&str; 4] = ["south-west", "north-east", "south-east", "north-west"];

/// Draws a view of a match with these rules: a dot for each unit in the colour of its side, a small
/// circle for an archer, and a square around the home of each side. The title counts what is seen.
pub fn sketch(view: &View<'_>, rules: &Rules) -> Sketch {
    let sides = usize::from(rules.sides);
    let mut seen = vec![0u32; sides];
    let mut shapes: Vec<Shape> = HOMES[..sides]
        .iter()
        .map(|home| Shape::Rectangle {
            min: [home.x - 3.0, home.y - 3.0],
            max: [home.x + 3.0, home.y + 3.0],
            ink: Ink::Still,
        })
        .collect();
    for entity in view.entities() {
        let (Some(unit), Some(at)) = (entity.get::<Unit>(), entity.get::<Position>()) else {
            continue;
        };
        let Some(count) = seen.get_mut(usize::from(unit.side)) else { continue };
        *count += 1;
        let (at, ink) = ([at.x, at.y], Ink::Kind(unit.side));
        shapes.push(match unit.kind {
            Kind::Spearman => Shape::Point { at, ink },
            Kind::Archer => Shape::Circle { at, radius: 0.5, ink },
        });
    }
    let title = if seen.iter().all(|units| *units == 0) {
        "fog: spectators see the battle if `spectators` is set".to_owned()
    } else {
        let counts = NAMES.iter().zip(&seen).map(|(name, units)| format!("{name} {units}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    Sketch { x: [-HALF, HALF], y: [-HALF, HALF], title, shapes, board: Vec::new() }
}
