//! The fog of war: which places each side sees. What a player's side does not see is sent to that
//! player in no byte (`is_visible`).

use rekindle_sim::{Const, Query, ResMut, Resource};

use crate::rules::{HALF, Rules, SIGHT};
use crate::{Position, Unit};

/// Squares of the map in a row, and rows: one bit each of a `u64`.
const SQUARES: usize = 64;
/// Their edge, metres.
const SQUARE: f32 = 2.0 * HALF / SQUARES as f32;
/// How far units see, squares.
const REACH: isize = (SIGHT / SQUARE) as isize;

/// What each side sees: a bit for each square of the map, row by row, side by side.
#[derive(Debug, Clone, Default, PartialEq, Resource)]
#[resource(id = "skirmish.fog")]
pub struct Fog {
    lit: Vec<u64>,
}

/// In which row and column a place is.
fn square(at: Position) -> (usize, usize) {
    let place = |metres: f32| (((metres + HALF) / SQUARE) as usize).min(SQUARES - 1);
    (place(at.y), place(at.x))
}

/// A unit sees the squares of a disc: how far to the left and to the right, by row from its middle.
const fn half_width(row: isize) -> isize {
    let mut width = 0;
    while (width + 1) * (width + 1) + row * row <= REACH * REACH {
        width += 1;
    }
    width
}

/// The bits of a row from a column on, as far to both sides; what is beyond the map is cut off.
fn bits(column: usize, half: isize) -> u64 {
    let from = column.saturating_sub(half as usize);
    let to = (column + half as usize).min(SQUARES - 1);
    (u64::MAX >> (SQUARES - 1 - (to - from))) << from
}

impl Fog {
    /// Whether a side sees what stands there.
    pub fn is_lit(&self, side: u8, at: Position) -> bool {
        let (row, column) = square(at);
        self.lit.get(usize::from(side) * SQUARES + row).is_some_and(|row| row >> column & 1 == 1)
    }
}

/// Makes out what each side sees now.
pub fn lift(rules: Const<Rules>, units: Query<(&Position, &Unit)>, mut fog: ResMut<Fog>) {
    let mut lit = vec![0; usize::from(rules.sides) * SQUARES];
    for (at, unit) in &units {
        let (row, column) = square(*at);
        let side = usize::from(unit.side) * SQUARES;
        for away in -REACH..=REACH {
            let Some(row) = row.checked_add_signed(away).filter(|row| *row < SQUARES) else {
                continue;
            };
            lit[side + row] |= bits(column, WIDTHS[away.unsigned_abs()]);
        }
    }
    if fog.lit != lit {
        fog.lit = lit;
    }
}

/// [`half_width`] of each row of the disc.
const WIDTHS: [isize; REACH as usize + 1] = {
    let mut widths = [0; REACH as usize + 1];
    let mut row = 0;
    while row <= REACH {
        widths[row as usize] = half_width(row);
        row += 1;
    }
    widths
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_disc_is_cut_off_at_the_edges_of_the_map() {
        assert_eq!(bits(0, 2), 0b111);
        assert_eq!(bits(3, 1), 0b11100);
        assert_eq!(bits(63, 1), 0b11 << 62);
        assert_eq!(bits(31, 63), u64::MAX);
        assert_eq!((WIDTHS[0], WIDTHS[REACH as usize]), (REACH, 0));
    }

    #[test]
    fn places_at_the_edge_of_the_map_are_on_it() {
        assert_eq!(square(Position { x: -HALF, y: HALF }), (SQUARES - 1, 0));
        assert_eq!(square(Position { x: HALF, y: -HALF }), (0, SQUARES - 1));
    }
}
