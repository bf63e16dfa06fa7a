//! A round as shapes to draw: a pure function of what a client sees.

use rekindle_sim::View;
use rekindle_sim::sketch::{Ink, Shape, Sketch};
use rekindle_zone::{Circle, Doing};

use crate::{Bandage, Fighter, HALF, Out, Position};

/// Draws a view: the zone and the circle that it becomes, bandages, fighters, and who has felled
/// how many.
pub(crate) fn sketch(view: &View<'_>) -> Sketch {
    let mut shapes = Vec::new();
    let zone = view.resource::<Circle>().filter(|zone| zone.doing != Doing::Off);
    if let Some(zone) = &zone {
        let (at, next) = ([zone.x, zone.y], [zone.next_x, zone.next_y]);
        shapes.push(Shape::Circle { at, radius: zone.radius, ink: Ink::Kind(1) });
        shapes.push(Shape::Circle { at: next, radius: zone.next_radius, ink: Ink::Still });
    }
    let mut board = Vec::new();
    let mut standing = 0;
    for entity in view.entities() {
        let Some(Position { x, y }) = entity.get() else { continue };
        let at = [x, y];
        let Some(fighter) = entity.get::<Fighter>() else {
            if entity.has::<Bandage>() {
                shapes.push(Shape::Point { at, ink: Ink::Kind(2) });
            }
            continue;
        };
        if entity.has::<Out>() {
            shapes.push(Shape::Point { at, ink: Ink::Still });
            continue;
        }
        standing += 1;
        shapes.push(Shape::Circle { at, radius: 1.0, ink: Ink::Player(fighter.player) });
        board.push((fighter.felled, fighter.health, fighter.player));
    }
    board.sort_unstable_by(|a, b| b.cmp(a));
    let line = |(felled, health, player)| (player, format!("{felled} felled, {health} left"));
    let board = board.into_iter().map(line).collect();
    let title = match zone {
        None => format!("{standing} gather"),
        Some(Circle { doing: Doing::Stands, seconds, .. }) => {
            format!("{standing} stand, the zone shrinks in {seconds} s")
        }
        Some(Circle { doing: Doing::Shrinks, seconds, .. }) => {
            format!("{standing} stand, the zone shrinks for {seconds} s")
        }
        Some(_) => format!("{standing} stand"),
    };
    Sketch { x: [-HALF, HALF], y: [-HALF, HALF], title, shapes, board }
}
