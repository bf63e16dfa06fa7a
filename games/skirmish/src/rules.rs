//! Every number of the game, and how a match is set up. Change them: `docs/SKIRMISH.md` says how.

use rekindle_sim::Value;
use serde::{Deserialize, Serialize};

use crate::{Position, Unit};

/// The map reaches so far in each direction, metres.
pub const HALF: f32 = 64.0;
/// Squads of each side. The first six are spearmen, the others archers.
pub const SQUADS: u8 = 10;
/// Squads of spearmen.
const SPEARMEN: u8 = 6;
/// How far units see, metres.
pub const SIGHT: f32 = 14.0;
/// Enemies who are so near are fought by units that may, metres.
pub const AGGRO: f32 = 12.0;
/// From one unit of a squad to the next, metres.
const SPACING: f32 = 1.2;
/// Units in a row of a squad.
const ROW: u8 = 10;
/// Where the sides begin, from the middle of the map: opposite corners first.
pub const HOMES: [Position; 4] = [
    Position { x: -44.0, y: -44.0 },
    Position { x: 44.0, y: 44.0 },
    Position { x: 44.0, y: -44.0 },
    Position { x: -44.0, y: 44.0 },
];

/// Kinds of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum Kind {
    /// Strong and quick, and has to come near.
    Spearman,
    /// Weak, and hits from afar.
    Archer,
}

impl Kind {
    /// What a squad is made of.
    pub fn of_squad(squad: u8) -> Self {
        if squad < SPEARMEN { Self::Spearman } else { Self::Archer }
    }

    /// What it can take: at most 15.
    pub fn health(self) -> u8 {
        match self {
            Self::Spearman => 12,
            Self::Archer => 6,
        }
    }

    /// What a hit takes.
    pub fn damage(self) -> u8 {
        match self {
            Self::Spearman => 2,
            Self::Archer => 1,
        }
    }

    /// How far it hits, metres.
    pub fn range(self) -> f32 {
        match self {
            Self::Spearman => 2.0,
            Self::Archer => 9.0,
        }
    }

    /// How fast it goes, metres a second.
    pub fn speed(self) -> f32 {
        match self {
            Self::Spearman => 6.0,
            Self::Archer => 5.0,
        }
    }
}

impl Unit {
    /// Its place when the middle of its squad is there.
    pub fn post(&self, middle: Position) -> Position {
        let (column, row) = (f32::from(self.number % ROW), f32::from(self.number / ROW));
        Position {
            x: (middle.x + (column - f32::from(ROW - 1) / 2.0) * SPACING).clamp(-HALF, HALF),
            y: (middle.y + (row - 2.0) * SPACING).clamp(-HALF, HALF),
        }
    }
}

/// Where the middle of a squad is when a round begins: around the home of its side.
pub fn muster(side: u8, squad: u8) -> Position {
    let home = HOMES[usize::from(side) % HOMES.len()];
    let (column, row) = (f32::from(squad % 2), f32::from(squad / 2));
    Position { x: home.x + 14.0 * (column - 0.5), y: home.y + 7.0 * (row - 2.0) }
}

/// How a match is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// How many sides there are, one for each player: 2 to 4.
    pub sides: u8,
    /// Units of all sides together, 40 to 4,000. Each side has as many as the others, and so has
    /// each squad of it.
    pub units: u16,
    /// How long a round lasts at most, seconds. Then the side with most units wins.
    pub round_s: u32,
    /// Whether the next round follows. Without it the match ends with the first.
    pub rematch: bool,
    /// Whether spectators see the whole battle. Players may watch their own match on a second
    /// connection, so then there is no fog for those who cheat.
    pub spectators: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { sides: 2, units: 1_000, round_s: 600, rematch: false, spectators: false }
    }
}

impl Rules {
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        if !(2..=4).contains(&self.sides) {
            return Err("`sides` must be 2 to 4".to_owned());
        }
        if !(40..=4_000).contains(&self.units) {
            return Err("`units` must be 40 to 4000".to_owned());
        }
        if self.round_s == 0 {
            return Err("`round_s` must be at least 1".to_owned());
        }
        Ok(())
    }

    /// Units of a squad when a round begins.
    pub fn squad(&self) -> u8 {
        (self.units / (u16::from(self.sides) * u16::from(SQUADS))) as u8
    }
}
