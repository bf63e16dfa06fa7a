//! What bits of residuals are foreseen by: a [`Chance`] for each kind of bit, of each family of
//! columns, for each set of components.
//!
//! Both ends make the same ones from the schema at the start of each body, so that no body depends
//! on another. Called by [`super::ranged`].

use crate::layout::{Column, Layout, Phase};
use crate::range::Chance;

/// Kinds of bits of how large a residual is: how many digits it has, then the digit behind the
/// first one by that number.
const DIGITS: usize = 16;
const SIZE: usize = 2 * DIGITS;
/// Residuals of a rate up to this are small: the column that it moves is off by little.
const SMALL: u32 = 4;
/// Whether a moving column's residual is not 0, by phase if its rate is as expected, and else by
/// whether that is off by little or more; each by whether its neighbour's residual is not 0.
const MOVING_CHANGES: usize = 20;
const MOVING_SIGNS: usize = 3;
const STEADY_CHANGES: usize = 2;

/// Most sets of chances in a body: so many component masks less one have their own, all others
/// share the last. It bounds what a body can make a receiver hold.
const MAX_SETS: usize = 32;

/// Where the chances of one residual stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Whether it is not 0.
    pub(super) changes: usize,
    /// Whether it is negative.
    pub(super) negative: usize,
    /// How large it is: the first of [`SIZE`].
    size: usize,
}

impl Place {
    /// Whether it has more than `digits` digits behind the first.
    #[inline]
    pub(super) fn longer(self, digits: u32) -> usize {
        self.size + (digits as usize).min(DIGITS - 1)
    }

    /// The first of `digits` digits behind the leading 1.
    #[inline]
    pub(super) fn digit(self, digits: u32) -> usize {
        self.size + DIGITS + (digits as usize).min(DIGITS - 1)
    }
}

/// The chances of a set of components before any residual was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Template {
    /// By column, where the chances of its family begin.
    blocks: Vec<u32>,
    chances: Vec<Chance>,
}

impl Template {
    pub(crate) fn new(columns: &[Column]) -> Self {
        let mut template = Self::default();
        for (at, column) in columns.iter().enumerate() {
            if column.family < at {
                template.blocks.push(template.blocks[column.family]);
                continue;
            }
            template.blocks.push(template.chances.len() as u32);
            template.push_block(column);
        }
        template
    }

    fn push_block(&mut self, column: &Column) {
        let chances = &mut self.chances;
        let mut push = |one: u16, times: usize| {
            chances.extend(std::iter::repeat_n(Chance::new(one), times));
        };
        if column.steady {
            let (first, again) = if column.lively { (30_000, 45_000) } else { (4_000, 16_000) };
            push(first, 1);
            push(again, 1);
            push(32_768, 1);
        } else {
            // A sum that is moved by less than its distance from the edge rounds the same.
            for _again in 0..2 {
                (0..8).for_each(|edge| push(3_072 + 4_096 * edge, 1));
            }
            push(40_000, MOVING_CHANGES - 16);
            push(62_000, 1);
            push(3_500, 1);
            push(32_768, 1);
        }
        for _ in 0..if column.steady { 1 } else { 2 } {
            push(40_000, 4);
            push(24_000, DIGITS - 4);
            push(29_000, DIGITS);
        }
    }

    /// Where the chances of a steady column stand. `again`: the residual before was of the same
    /// component and not 0.
    #[inline]
    pub(super) fn steady(&self, at: usize, again: bool) -> Place {
        let block = self.blocks[at] as usize;
        let negative = block + STEADY_CHANGES;
        Place { changes: block + usize::from(again), negative, size: negative + 1 }
    }

    /// Where the chances of a moving column stand, whose rate has the residual `rate`.
    #[inline]
    pub(super) fn moving(&self, at: usize, again: bool, rate: u32, phase: Phase) -> Place {
        let (block, again) = (self.blocks[at] as usize, usize::from(again));
        let (off, large) = (rate != 0, usize::from(rate > SMALL));
        let changes = if off { 16 + large * 2 + again } else { again * 8 + phase.edge() };
        let sign = if off { 2 } else { phase.side() };
        Place {
            changes: block + changes,
            negative: block + MOVING_CHANGES + sign,
            size: block + MOVING_CHANGES + MOVING_SIGNS + large * SIZE,
        }
    }
}

/// One column of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) at: usize,
    pub(super) component: u32,
}

/// One column that moves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moving {
    pub(super) turn: Turn,
    /// Its index among the moving columns of the layout.
    pub(super) index: usize,
    /// The column of its rate.
    pub(super) rate: usize,
}

/// The chances of one set of components.
#[derive(Debug, Clone)]
pub(super) struct Set {
    components: u32,
    /// The columns that are present and steady, ascending: they are coded first.
    pub(super) steady: Vec<Turn>,
    /// Those that move, ascending.
    pub(super) moving: Vec<Moving>,
    pub(super) chances: Vec<Chance>,
}

/// The chances of one body.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sets {
    /// The first `used` are of this body, the others wait to be used again.
    list: Vec<Set>,
    used: usize,
}

impl Sets {
    /// A new body: nothing was seen yet.
    pub(super) fn start(&mut self) {
        self.used = 0;
    }

    /// Those for `components`, as they are or new.
    #[inline]
    pub(super) fn find(&mut self, layout: &Layout, components: u32) -> &mut Set {
        let known = self.list[..self.used].iter().position(|set| set.components == components);
        let index = known.unwrap_or_else(|| self.make(layout, components));
        &mut self.list[index]
    }

    #[cold]
    fn make(&mut self, layout: &Layout, components: u32) -> usize {
        if self.used == MAX_SETS {
            self.list[MAX_SETS - 1].turn_to(layout, components);
            return MAX_SETS - 1;
        }
        match self.list.get_mut(self.used) {
            Some(set) => {
                set.turn_to(layout, components);
                set.chances.clone_from(&layout.template.chances);
            }
            None => self.list.push(Set::new(layout, components)),
        }
        self.used += 1;
        self.used - 1
    }
}

impl Set {
    fn new(layout: &Layout, components: u32) -> Self {
        let chances = layout.template.chances.clone();
        let mut set = Self { components: 0, steady: Vec::new(), moving: Vec::new(), chances };
        set.turn_to(layout, components);
        set
    }

    /// It is used for `components` from here on; its chances stay.
    fn turn_to(&mut self, layout: &Layout, components: u32) {
        if self.components == components {
            return;
        }
        self.components = components;
        let present = layout.present(components);
        let turn = |at: usize| {
            let component = layout.columns[at].component;
            (present & (1 << at) != 0).then_some(Turn { at, component })
        };
        let moving = |(index, (at, rate))| Some(Moving { turn: turn(at)?, index, rate });
        self.steady.clear();
        let steady = (0..layout.stride()).filter(|&at| layout.columns[at].steady);
        self.steady.extend(steady.filter_map(turn));
        self.moving.clear();
        self.moving.extend(layout.moving().enumerate().filter_map(moving));
    }
}
