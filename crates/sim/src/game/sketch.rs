//! A match as shapes to draw. A game makes a sketch of what a client sees; displays (terminals,
//! consoles) draw it without knowing the game.

use rekindle_schema::PlayerId;
use serde::{Serialize, Serializer};

/// What a shape is drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// What stands still: walls, the dead.
    Still,
    /// One of the game's kinds of things; a display has a few colours for them and starts again
    /// behind the last.
    Kind(u8),
    /// What belongs to a player; a display gives each player a colour.
    Player(PlayerId),
}

/// As the other parts of a sketch, but players by their digits: their numbers are larger than what
/// JavaScript's numbers tell apart.
impl Serialize for Ink {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Still => to.serialize_unit_variant("Ink", 0, "still"),
            Self::Kind(kind) => to.serialize_newtype_variant("Ink", 1, "kind", kind),
            Self::Player(player) => {
                to.serialize_newtype_variant("Ink", 2, "player", &player.0.to_string())
            }
        }
    }
}

/// One shape, in the game's own units, y upwards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A dot.
    Point {
        /// Its place: x and y.
        at: [f32; 2],
        /// What it is drawn with.
        ink: Ink,
    },
    /// The outline of a circle.
    Circle {
        /// Its middle.
        at: [f32; 2],
        /// Its radius.
        radius: f32,
        /// What it is drawn with.
        ink: Ink,
    },
    /// A straight line.
    Line {
        /// One end: x and y.
        from: [f32; 2],
        /// The other end: x and y.
        to: [f32; 2],
        /// What it is drawn with.
        ink: Ink,
    },
    /// The outline of a rectangle.
    Rectangle {
        /// Lower left corner.
        min: [f32; 2],
        /// Upper right corner.
        max: [f32; 2],
        /// What it is drawn with.
        ink: Ink,
    },
}

/// A whole picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sketch {
    /// Left and right edge.
    pub x: [f32; 2],
    /// Lower and upper edge.
    pub y: [f32; 2],
    /// What goes on, in a few words.
    pub title: String,
    /// Back to front.
    pub shapes: Vec<Shape>,
    /// Who stands how, best first: player and text.
    #[serde(serialize_with = "board")]
    pub board: Vec<(PlayerId, String)>,
}

fn board<S: Serializer>(board: &[(PlayerId, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(board.iter().map(|(player, text)| (player.0.to_string(), text)))
}
