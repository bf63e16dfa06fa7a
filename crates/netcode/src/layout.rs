//! A [`NetSchema`] made ready for coding: widths, and what a column's value is expected to be after
//! some ticks.
//!
//! Both ends compute expectations with the same integers, made from the schema by the same few IEEE
//! double operations, so that a delta means the same on any machine.

use rekindle_schema::net::{FieldKind, NetField, NetSchema};

use crate::body::Template;

/// Most columns of a row.
pub const MAX_COLUMNS: usize = 128;
/// Most components of a schema.
pub const MAX_COMPONENTS: usize = 32;
/// Expectations reach no further than this many ticks; behind that a column is expected to have
/// stayed.
pub(crate) const MAX_EXTRAPOLATION: u64 = 64;
// Masks of columns are `u128`, masks of components `u32`.
const _: () = assert!(MAX_COLUMNS == u128::BITS as usize);
const _: () = assert!(MAX_COMPONENTS == u32::BITS as usize);
const _: () = assert!(MAX_EXTRAPOLATION <= crate::history::HISTORY);

/// Fraction bits of a rate in quanta per tick.
const FRACTION: u32 = 16;
/// An eighth of a quantum per tick: what is slower counts as at rest.
const MOVES: i64 = 1 << (FRACTION - 3);

/// Why snapshots cannot be made of a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// More components than a snapshot's masks have bits.
    #[error(
        "RK-NET-001: the schema has {0} networked components, at most {MAX_COMPONENTS} fit: merge \
         or drop some"
    )]
    TooManyComponents(usize),
    /// More columns than a snapshot's masks have bits.
    #[error(
        "RK-NET-002: the schema has {0} networked fields, at most {MAX_COLUMNS} fit: merge or drop \
         some"
    )]
    TooManyColumns(usize),
    /// A width that no quantum has.
    #[error(
        "RK-NET-003: field `{field}` has {bits} bits: floats and angles take 1 to 24, unsigned \
         integers 1 to 32"
    )]
    Width {
        /// The field's name.
        field: String,
        /// What the schema says.
        bits: u8,
    },
    /// A range that is empty or not finite.
    #[error("RK-NET-004: the range of field `{field}` is empty or not finite")]
    Range {
        /// The field's name.
        field: String,
    },
    /// Position columns that do not exist or hold no floats.
    #[error(
        "RK-NET-005: the position names column {column}, which is not a float column of this schema"
    )]
    Position {
        /// The column.
        column: u16,
    },
}

/// How a column moves by its rate column: `base + quantum * scale` position quanta per tick, in
/// 1/65536.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Column with the rate.
    column: usize,
    /// Component of that column.
    component: u32,
    base: i64,
    scale: i64,
}

impl Rate {
    fn speed(self, row: &[u32]) -> i64 {
        self.base + i64::from(row[self.column]) * self.scale
    }
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Width of a quantum, 1 to 32.
    pub(crate) bits: u32,
    /// `2^bits - 1`.
    pub(crate) mask: u32,
    /// Which component it belongs to.
    pub(crate) component: u32,
    wraps: bool,
    /// Its expected value is the old one.
    pub(crate) steady: bool,
    /// Floats and angles change more often than numbers and bools.
    pub(crate) lively: bool,
    /// The first column of the same component that is of the same kind: statistics of both are kept
    /// together.
    pub(crate) family: usize,
}

/// Where within a quantum an expected sum lay before it was rounded, in sixteenths from the lower
/// edge: 7 and 8 are in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phase(pub(crate) u32);

impl Phase {
    /// Of what is not expected to move.
    const STILL: Self = Self(7);

    /// 0 to 7: how near the sum was to an edge of the quantum.
    #[inline]
    pub(crate) fn edge(self) -> usize {
        (if self.0 < 8 { 7 - self.0 } else { self.0 - 8 }) as usize
    }

    /// 1 if the edge to the next higher quantum was nearer, else 0.
    #[inline]
    pub(crate) fn side(self) -> usize {
        (self.0 / 8) as usize
    }
}

/// What a column is expected to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    value: u32,
    pub(crate) phase: Phase,
}

/// How to read a coordinate: `min + quantum * step`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) column: usize,
    pub(crate) component: u32,
    min: f32,
    step: f32,
}

impl Axis {
    pub(crate) fn at(self, row: &[u32]) -> f32 {
        self.min + row[self.column] as f32 * self.step
    }
}

/// A schema made ready for coding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) columns: Vec<Column>,
    /// Number of components.
    pub(crate) components: u32,
    /// For each component the mask of its columns.
    component_columns: Vec<u128>,
    /// Columns with a rate: they are computed after all others.
    moving: Vec<(usize, Rate)>,
    pub(crate) position: Option<(Axis, Axis)>,
    /// What residuals are foreseen by before any was seen.
    pub(crate) template: Template,
}

/// Refuses a schema that snapshots cannot be made of. Ask before using one that came over the
/// network.
pub fn check_schema(schema: &NetSchema) -> Result<(), SchemaError> {
    if schema.components.len() > MAX_COMPONENTS {
        return Err(SchemaError::TooManyComponents(schema.components.len()));
    }
    if schema.stride() > MAX_COLUMNS {
        return Err(SchemaError::TooManyColumns(schema.stride()));
    }
    for field in schema.columns() {
        let (most, finite) = match field.kind {
            FieldKind::Float { min, max, .. } => {
                (24, min.is_finite() && max.is_finite() && min < max)
            }
            FieldKind::Angle { .. } => (24, true),
            FieldKind::Unsigned { .. } | FieldKind::Bool => (32, true),
        };
        if field.kind.bits() == 0 || field.kind.bits() > most {
            return Err(SchemaError::Width { field: field.name.clone(), bits: field.kind.bits() });
        }
        if !finite {
            return Err(SchemaError::Range { field: field.name.clone() });
        }
    }
    if let Some((x, y)) = schema.position {
        for column in [x, y] {
            if !schema
                .columns()
                .nth(column as usize)
                .is_some_and(|field| matches!(field.kind, FieldKind::Float { .. }))
            {
                return Err(SchemaError::Position { column });
            }
        }
    }
    Ok(())
}

/// The size of a quantum in the field's unit.
fn quantum(kind: FieldKind) -> f64 {
    match kind {
        FieldKind::Float { min, max, bits } => {
            (f64::from(max) - f64::from(min)) / f64::from((1u32 << bits) - 1)
        }
        FieldKind::Angle { bits } => std::f64::consts::TAU / f64::from(1u32 << bits),
        FieldKind::Unsigned { .. } | FieldKind::Bool => 1.0,
    }
}

/// `owner` is the component of each field, `moving` has the fields with a rate.
fn columns(fields: &[&NetField], owner: &[u32], moving: &[(usize, Rate)]) -> Vec<Column> {
    let is_steady = |at: usize| moving.iter().all(|&(moving, _)| moving != at);
    let column = |(at, field): (usize, &&NetField)| {
        let bits = u32::from(field.kind.bits());
        let related = |&other: &usize| {
            owner[other] == owner[at]
                && fields[other].kind == field.kind
                && is_steady(other) == is_steady(at)
        };
        Column {
            bits,
            mask: u32::MAX >> (32 - bits),
            component: owner[at],
            wraps: matches!(field.kind, FieldKind::Angle { .. }),
            steady: is_steady(at),
            lively: matches!(field.kind, FieldKind::Angle { .. } | FieldKind::Float { .. }),
            family: (0..at).find(related).unwrap_or(at),
        }
    };
    fields.iter().enumerate().map(column).collect()
}

impl Layout {
    /// `tick_rate` in ticks per second, at least 1.
    pub(crate) fn new(schema: &NetSchema, tick_rate: u16) -> Result<Self, SchemaError> {
        check_schema(schema)?;
        let owner: Vec<u32> = schema
            .components
            .iter()
            .zip(0..)
            .flat_map(|(component, index)| component.fields.iter().map(move |_| index))
            .collect();
        let fields: Vec<_> = schema.columns().collect();
        let rate = |at: usize| {
            let (field, column) = (fields[at], usize::from(fields[at].rate?));
            let of = fields.get(column)?;
            let FieldKind::Float { min, .. } = of.kind else { return None };
            if of.rate.is_some() || column == at || field.kind == FieldKind::Bool {
                return None;
            }
            let per_tick =
                f64::from(1u32 << FRACTION) / (quantum(field.kind) * f64::from(tick_rate.max(1)));
            let fixed = |value: f64, most: i64| {
                ((value * per_tick + 0.5).floor() as i64).clamp(-most, most)
            };
            Some(Rate {
                column,
                component: owner[column],
                base: fixed(f64::from(min), 1 << 40),
                scale: fixed(quantum(of.kind), 1 << 30),
            })
        };
        let moving: Vec<(usize, Rate)> =
            (0..fields.len()).filter_map(|at| Some((at, rate(at)?))).collect();
        let columns = columns(&fields, &owner, &moving);
        let template = Template::new(&columns);
        let mut component_columns = vec![0; schema.components.len()];
        for (at, column) in columns.iter().enumerate() {
            component_columns[column.component as usize] |= 1 << at;
        }
        let axis = |column: u16| {
            let column = column as usize;
            let FieldKind::Float { min, .. } = fields[column].kind else { return None };
            Some(Axis {
                column,
                component: owner[column],
                min,
                step: quantum(fields[column].kind) as f32,
            })
        };
        let position = schema.position.and_then(|(x, y)| Some((axis(x)?, axis(y)?)));
        Ok(Self {
            columns,
            components: schema.components.len() as u32,
            component_columns,
            moving,
            position,
            template,
        })
    }

    pub(crate) fn stride(&self) -> usize {
        self.columns.len()
    }

    /// Width of a row of residuals: one for each column, then the phase of each moving one.
    pub(crate) fn width(&self) -> usize {
        self.columns.len() + self.moving.len()
    }

    /// Columns with a rate, ascending, each with the column of its rate.
    pub(crate) fn moving(&self) -> impl ExactSizeIterator<Item = (usize, usize)> {
        self.moving.iter().map(|&(at, rate)| (at, rate.column))
    }

    /// Whether an entity with these values moves: a rate is at least an eighth of a quantum a tick.
    pub(crate) fn moves(&self, components: u32, row: &[u32]) -> bool {
        self.moving.iter().any(|&(at, rate)| {
            let both = 1 << rate.component | 1 << self.columns[at].component;
            components & both == both && rate.speed(row).abs() >= MOVES
        })
    }

    /// All components that a mask may name.
    pub(crate) fn component_mask(&self) -> u32 {
        u32::MAX.checked_shr(32 - self.components).unwrap_or(0)
    }

    /// The columns that an entity with `components` has.
    #[inline]
    pub(crate) fn present(&self, components: u32) -> u128 {
        self.component_columns
            .iter()
            .enumerate()
            .filter(|(index, _)| components & (1 << index) != 0)
            .fold(0, |mask, (_, columns)| mask | columns)
    }

    /// Whether any column of an entity with `components` is expected to have moved within `ticks`
    /// ticks, or in more.
    pub(crate) fn expects(&self, components: u32, ticks: u64) -> bool {
        let both = |at: usize, rate: Rate| 1 << rate.component | 1 << self.columns[at].component;
        ticks < MAX_EXTRAPOLATION
            && self.moving.iter().any(|&(at, rate)| components & both(at, rate) == both(at, rate))
    }

    /// What column `at` of an entity is expected to hold `ticks` ticks after `old`, if its rate
    /// then is as in `new`.
    #[expect(clippy::inline_always, reason = "measured: part of the cost of every client tick")]
    #[inline(always)]
    fn expected(
        &self,
        at: usize,
        rate: Rate,
        components: u32,
        ticks: u64,
        old: &[u32],
        new: &[u32],
    ) -> Expected {
        let both = 1 << rate.component | 1 << self.columns[at].component;
        if ticks >= MAX_EXTRAPOLATION || components & both != both {
            return Expected { value: old[at], phase: Phase::STILL };
        }
        let column = &self.columns[at];
        // The rate went evenly from old to new, and each tick moves by the rate it ends with: the
        // usual order of a game's integrator.
        let speed = |row: &[u32]| rate.base + i64::from(row[rate.column]) * rate.scale;
        let twice = (ticks as i64 - 1) * speed(old) + (ticks as i64 + 1) * speed(new);
        let twice = twice + (1 << FRACTION);
        let moved = i64::from(old[at]) + (twice >> (FRACTION + 1));
        let value = if column.wraps {
            moved as u32 & column.mask
        } else {
            moved.clamp(0, i64::from(column.mask)) as u32
        };
        Expected { value, phase: Phase((twice >> (FRACTION + 1 - 4)) as u32 & 15) }
    }

    /// Residuals of `new` against what is expected from `old`, zigzag coded, and the phases of
    /// moving columns, into `out`; returns the mask of the residuals that are not 0. Both rows have
    /// `components`, and 0 in the columns of other ones. `None` if the rows are equal.
    // Not inlined: measured, a quarter slower within its caller.
    #[inline(never)]
    pub(crate) fn residuals(
        &self,
        components: u32,
        ticks: u64,
        old: &[u32],
        new: &[u32],
        out: &mut [u32],
    ) -> Option<u128> {
        let mut changed = 0;
        // Without branches first: most columns of most rows are equal.
        for (part, (old, new)) in old.chunks(64).zip(new.chunks(64)).enumerate() {
            let differing = old
                .iter()
                .zip(new)
                .enumerate()
                .fold(0u64, |mask, (at, (old, new))| mask | u64::from(old != new) << at);
            changed |= u128::from(differing) << (part * 64);
        }
        if changed == 0 {
            return None;
        }
        out[..self.stride()].fill(0);
        let mut left = changed;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            out[at] = zigzag(new[at].wrapping_sub(old[at]), self.columns[at].bits);
        }
        for (index, &(at, rate)) in self.moving.iter().enumerate() {
            let expected = self.expected(at, rate, components, ticks, old, new);
            out[at] = zigzag(new[at].wrapping_sub(expected.value), self.columns[at].bits);
            out[self.columns.len() + index] = expected.phase.0;
            changed = changed & !(1 << at) | u128::from(out[at] != 0) << at;
        }
        Some(changed)
    }

    /// The reverse of [`Self::residuals`]: `new` holds residuals and becomes the row.
    pub(crate) fn apply(&self, components: u32, ticks: u64, old: &[u32], new: &mut [u32]) {
        self.apply_steady(old, new);
        for index in 0..self.moving.len() {
            let expected = self.expect(index, components, ticks, old, new);
            self.apply_moving(index, expected, new);
        }
    }

    /// The first half of [`Self::apply`]: the columns without a rate.
    pub(crate) fn apply_steady(&self, old: &[u32], new: &mut [u32]) {
        for (column, (new, &old)) in self.columns.iter().zip(new.iter_mut().zip(old)) {
            let value = old.wrapping_add(unzigzag(*new)) & column.mask;
            *new = if column.steady { value } else { *new };
        }
    }

    /// What the `index`th moving column is expected to hold, once [`Self::apply_steady`] is done.
    pub(crate) fn expect(
        &self,
        index: usize,
        components: u32,
        ticks: u64,
        old: &[u32],
        new: &[u32],
    ) -> Expected {
        let (at, rate) = self.moving[index];
        self.expected(at, rate, components, ticks, old, new)
    }

    /// The `index`th moving column of `new` holds a residual and becomes the value.
    pub(crate) fn apply_moving(&self, index: usize, expected: Expected, new: &mut [u32]) {
        let at = self.moving[index].0;
        new[at] = expected.value.wrapping_add(unzigzag(new[at])) & self.columns[at].mask;
    }
}

/// A difference modulo `2^bits` as the nearest signed number, zigzag coded into `bits` bits.
#[inline]
fn zigzag(difference: u32, bits: u32) -> u32 {
    let signed = (difference << (32 - bits)) as i32 >> (32 - bits);
    ((signed << 1) ^ (signed >> 31)) as u32
}

#[inline]
fn unzigzag(value: u32) -> u32 {
    (value >> 1) ^ 0u32.wrapping_sub(value & 1)
}
