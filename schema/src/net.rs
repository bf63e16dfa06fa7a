//! Networked fields and the view of a world that snapshots are made from.
//!
//! A simulation extracts a [`NetView`] after a tick: every networked entity as a row of quantised
//! integers, columns as the [`NetSchema`] says. All sessions of a match share the view; each
//! encodes its own delta from what its viewer may see of it ([`NetView::sight`]).

mod sight;

use serde::{Deserialize, Serialize};

pub use self::sight::{Restricted, Sight};
use crate::ids::{PlayerId, Tick};

/// How one field is quantised. A quantum is an integer of `bits` bits, held in the low bits of a
/// `u32`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum FieldKind {
    /// A float in `min..=max`, clamped; quantum = round((v - min) / (max - min) * (2^bits - 1)).
    /// Error at most half a quantum.
    Float {
        /// Smallest value.
        min: f32,
        /// Largest value.
        max: f32,
        /// Width of a quantum in bits, 1 to 24.
        bits: u8,
    },
    /// An angle in radians, wrapped to `-pi..pi`; quantum = round((v + pi) / 2pi * 2^bits) modulo
    /// 2^bits.
    Angle {
        /// Width of a quantum in bits, 1 to 24.
        bits: u8,
    },
    /// An unsigned integer, clamped to `bits` bits.
    Unsigned {
        /// Width of a quantum in bits, 1 to 32.
        bits: u8,
    },
    /// One bit.
    Bool,
}

impl FieldKind {
    /// The width of a quantum in bits.
    pub fn bits(self) -> u8 {
        match self {
            Self::Float { bits, .. } | Self::Angle { bits } | Self::Unsigned { bits } => bits,
            Self::Bool => 1,
        }
    }

    /// The largest quantum: `bits` ones.
    pub fn max_quantum(self) -> u32 {
        u32::MAX >> (32 - u32::from(self.bits().clamp(1, 32)))
    }

    /// The quantum of a value. A NaN counts as the smallest value (as 0 for an angle).
    ///
    /// What [`FieldKind::dequantise`] makes of it differs by at most half a quantum plus rounding:
    /// for a float in `min..=max` by `(max - min) / (2^bits - 1) / 2 + 2 ulp`, with ulp that of the
    /// larger bound; for an angle by `pi / 2^bits + 1e-6 * (1 + |v|)` along the circle; for whole
    /// numbers that fit, and flags, by nothing.
    pub fn quantise(self, value: f32) -> u32 {
        let value = f64::from(value);
        match self {
            Self::Float { min, max, .. } => {
                let (min, max) = (f64::from(min), f64::from(max));
                let part = if max > min { (value - min) / (max - min) } else { 0.0 };
                // The cast takes a NaN to 0 and clamps the rest.
                ((part * f64::from(self.max_quantum()) + 0.5) as u32).min(self.max_quantum())
            }
            Self::Angle { .. } => {
                let turns =
                    if value.is_finite() { value / std::f64::consts::TAU + 0.5 } else { 0.5 };
                let part = turns - turns.floor();
                (part * (f64::from(self.max_quantum()) + 1.0) + 0.5) as u32 & self.max_quantum()
            }
            Self::Unsigned { .. } => self.clamp_unsigned((value + 0.5) as u64),
            Self::Bool => u32::from(value != 0.0 && !value.is_nan()),
        }
    }

    /// The value of a quantum; bits above `bits` are ignored. See [`FieldKind::quantise`] for the
    /// error.
    pub fn dequantise(self, quantum: u32) -> f32 {
        let quantum = f64::from(quantum & self.max_quantum());
        match self {
            Self::Float { min, max, .. } => {
                let (low, high) = (f64::from(min), f64::from(max));
                (low + quantum / f64::from(self.max_quantum()) * (high - low)) as f32
            }
            Self::Angle { .. } => ((quantum / (f64::from(self.max_quantum()) + 1.0) - 0.5)
                * std::f64::consts::TAU)
                .max(-f64::from(std::f32::consts::PI)) as f32,
            Self::Unsigned { .. } | Self::Bool => quantum as f32,
        }
    }

    /// A whole number, clamped to `bits` bits.
    pub fn clamp_unsigned(self, value: u64) -> u32 {
        value.min(u64::from(self.max_quantum())) as u32
    }
}

/// One networked field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetField {
    /// Its name in the component.
    pub name: String,
    /// Its quantisation.
    pub kind: FieldKind,
    /// The column of this schema that holds this field's rate of change per second, quantised as a
    /// float, if there is one: a decoder extrapolates by it and the delta carries only what differs
    /// from that.
    pub rate: Option<u16>,
}

/// One networked component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetComponent {
    /// The component's stable name.
    pub name: String,
    /// Its networked fields: they take consecutive columns.
    pub fields: Vec<NetField>,
}

/// All networked components of a game, in column order. At most 32 components and 128 columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetSchema {
    /// In the order of their bits in [`NetEntity::components`].
    pub components: Vec<NetComponent>,
    /// The columns that hold x and y in the world, for interest and priority.
    pub position: Option<(u16, u16)>,
}

impl NetSchema {
    /// The number of columns of a row.
    pub fn stride(&self) -> usize {
        self.components.iter().map(|component| component.fields.len()).sum()
    }

    /// All fields in column order.
    pub fn columns(&self) -> impl Iterator<Item = &NetField> {
        self.components.iter().flat_map(|component| &component.fields)
    }
}

/// One networked entity of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetEntity {
    /// Its slot in the world: at most one live entity has it.
    pub slot: u32,
    /// Tells apart the entities that have had this slot.
    pub generation: u32,
    /// Bit `i`: it has component `i` of the schema. Columns of absent components are 0.
    pub components: u32,
}

/// The networked part of a world after a tick.
///
/// `entities` with their rows are what everybody may see. A game that declares who sees what has
/// the rest in `restricted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetView {
    /// The tick after which the world was so.
    pub tick: Tick,
    /// Ascending by slot.
    pub entities: Vec<NetEntity>,
    /// Row by row, `stride` quanta each: those of `entities`, then those of the restricted entries.
    pub values: Vec<u32>,
    /// The entity that each player steers, ascending by player: (player, slot).
    pub avatars: Vec<(PlayerId, u32)>,
    /// What not everybody may see, and who sees what; none if everybody sees everything.
    pub restricted: Option<Box<Restricted>>,
}

impl NetView {
    /// Whether its parts fit together: entities and avatars ascend, each once, there is a row of
    /// `stride` quanta for each entry, and sights name entries that are there.
    pub fn is_consistent(&self, stride: usize) -> bool {
        let restricted = self.restricted.as_ref();
        self.entities.is_sorted_by(|a, b| a.slot < b.slot)
            && self.avatars.is_sorted_by(|a, b| a.0 < b.0)
            && self.values.len() == self.entries() * stride
            && restricted.is_none_or(|restricted| restricted.is_consistent(&self.entities))
    }

    /// The quanta of the `index`th entity, or of the entry with this number.
    pub fn row(&self, index: usize, stride: usize) -> &[u32] {
        &self.values[index * stride..(index + 1) * stride]
    }

    /// The slot of the entity that `player` steers.
    pub fn avatar(&self, player: PlayerId) -> Option<u32> {
        self.avatars
            .binary_search_by_key(&player, |&(player, _)| player)
            .ok()
            .map(|index| self.avatars[index].1)
    }

    /// Where the entity in `slot` stands in the view.
    pub fn index_of(&self, slot: u32) -> Option<usize> {
        self.entities.binary_search_by_key(&slot, |entity| entity.slot).ok()
    }
}
