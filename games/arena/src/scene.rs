//! A match as shapes to draw: a pure function of what a client sees. Terminals and consoles draw
//! it.

use rekindle_sim::sketch::{Ink, Shape, Sketch};
use rekindle_sim::{PlayerId, View};

use crate::components::{
    Aim, Arms, Body, BodyKind, Clock, Fighter, Health, PICKUP_RADIUS, Pickup, PickupKind, Position,
    Score, Velocity,
};
use crate::config::Config;
use crate::geometry::Vec2;
use crate::map::Map;
use crate::movement::TICK_RATE;
use crate::phases::Phase;
use crate::weapons::{Shot, WeaponKind};

/// What drones are drawn with.
pub const DRONES: Ink = Ink::Kind(0);
/// What rockets and the sparks of shots are drawn with.
pub const SHOTS: Ink = Ink::Kind(1);
/// What weapons that lie about are drawn with.
pub const WEAPONS: Ink = Ink::Kind(2);
/// What health that lies about is drawn with.
pub const HELP: Ink = Ink::Kind(3);

/// Of how many dots the way of a shot is made.
const TRACER: u8 = 12;

/// Draws a view of a match with this configuration.
pub fn sketch(view: &View<'_>, config: &Config) -> Sketch {
    let map = config.map();
    let (mut clock, mut below, mut above, mut board) = (None, Vec::new(), Vec::new(), Vec::new());
    for entity in view.entities() {
        clock = entity.get::<Clock>().or(clock);
        let (Some(body), Some(at)) =
            (entity.get::<Body>(), entity.get::<Position>().map(Position::vec))
        else {
            continue;
        };
        match body.kind {
            BodyKind::Pickup => below.extend(
                entity
                    .get::<Pickup>()
                    .filter(|pickup| pickup.there)
                    .map(|pickup| diamond(at, pickup.kind))
                    .into_iter()
                    .flatten(),
            ),
            BodyKind::Drone if entity.get::<Health>().is_some_and(|health| health.points > 0) => {
                below.push(Shape::Circle { at: point(at), radius: body.radius(), ink: DRONES });
            }
            BodyKind::Drone => {}
            BodyKind::Rocket => {
                let velocity = entity.get::<Velocity>().map_or(Vec2::ZERO, Velocity::vec);
                above.push(Shape::Line {
                    from: point(at),
                    to: point(at - velocity * (2.0 / f32::from(TICK_RATE))),
                    ink: SHOTS,
                });
            }
            BodyKind::Fighter => {
                let (Some(fighter), Some(health)) =
                    (entity.get::<Fighter>(), entity.get::<Health>())
                else {
                    continue;
                };
                let player = fighter.player();
                let (aim, arms) = (entity.get::<Aim>(), entity.get::<Arms>());
                draw_fighter(
                    &map,
                    at,
                    player,
                    health,
                    aim,
                    arms.map(|arms| arms.weapon),
                    &mut above,
                );
                board.extend(entity.get::<Score>().map(|score| (score, player, health)));
            }
        }
    }
    board.sort_by_key(|(score, player, _)| (u16::MAX - score.kills, score.deaths, *player));
    let walls = map.walls.iter().map(|wall| Shape::Rectangle {
        min: point(wall.min),
        max: point(wall.max),
        ink: Ink::Still,
    });
    let edge = Shape::Rectangle { min: point(-map.half), max: point(map.half), ink: Ink::Still };
    Sketch {
        x: [-map.half.x, map.half.x],
        y: [-map.half.y, map.half.y],
        title: clock.map_or_else(String::new, title),
        shapes: walls.chain([edge]).chain(below).chain(above).collect(),
        board: board.into_iter().map(standing).collect(),
    }
}

/// A line of the board.
fn standing((score, player, health): (Score, PlayerId, Health)) -> (PlayerId, String) {
    let text = format!(
        "kills {:>2}  deaths {:>2}  health {:>3}",
        score.kills, score.deaths, health.points
    );
    (player, text)
}

fn point(at: Vec2) -> [f32; 2] {
    [at.x, at.y]
}

fn title(clock: Clock) -> String {
    let phase = match clock.phase {
        Phase::Lobby => "lobby",
        Phase::Countdown => "get ready",
        Phase::Live => "live",
        Phase::Podium => "it is decided",
    };
    if clock.seconds == 0 {
        phase.to_owned()
    } else {
        format!("{phase}, {}:{:02}", clock.seconds / 60, clock.seconds % 60)
    }
}

fn diamond(at: Vec2, kind: PickupKind) -> [Shape; 4] {
    let ink = if kind == PickupKind::Health { HELP } else { WEAPONS };
    let corner = |x: f32, y: f32| [at.x + x * PICKUP_RADIUS, at.y + y * PICKUP_RADIUS];
    let corners = [corner(1.0, 0.0), corner(0.0, 1.0), corner(-1.0, 0.0), corner(0.0, -1.0)];
    std::array::from_fn(|side| Shape::Line {
        from: corners[side],
        to: corners[(side + 1) % 4],
        ink,
    })
}

/// A circle with a barrel, and its shots; a cross for one that fell.
fn draw_fighter(
    map: &Map,
    at: Vec2,
    player: PlayerId,
    health: Health,
    aim: Option<Aim>,
    weapon: Option<WeaponKind>,
    shapes: &mut Vec<Shape>,
) {
    let radius = Body { kind: BodyKind::Fighter }.radius();
    if health.points == 0 {
        for slope in [-radius, radius] {
            shapes.push(Shape::Line {
                from: [at.x - radius, at.y - slope],
                to: [at.x + radius, at.y + slope],
                ink: Ink::Still,
            });
        }
        return;
    }
    shapes.push(Shape::Circle { at: point(at), radius, ink: Ink::Player(player) });
    let Some(aim) = aim else { return };
    let looks = Vec2::from_angle(aim.angle);
    shapes.push(Shape::Line {
        from: point(at),
        to: point(at + looks * (radius * 2.2)),
        ink: Ink::Player(player),
    });
    if let (true, Some(Shot::Hitscan { range, .. })) =
        (aim.firing, weapon.map(|weapon| weapon.stats().shot))
    {
        let way = looks * range;
        let reached = way * map.reach(at, way, 0.0);
        shapes.extend((2..=TRACER).map(|step| Shape::Point {
            at: point(at + reached * (f32::from(step) / f32::from(TRACER))),
            ink: SHOTS,
        }));
    }
}
