//! What can be stored in a world: components, resources, events. All three are derived.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use rekindle_schema::net::FieldKind;
use rekindle_schema::{PlayerId, SessionId, Tick};

use crate::value::Value;
use crate::value::entity::Entity;
use crate::value::shape::Datum;

/// A value that stands in checkpoints under a stable name.
///
/// A field that has another unit than in version 1:
///
/// ```
/// use rekindle_sim::Component;
/// use rekindle_sim::value::component::Stored as _;
/// use rekindle_sim::value::shape::Datum;
///
/// /// Version 1 kept seconds.
/// fn in_ticks(version: u16, fields: &mut Datum) -> Result<(), String> {
///     if let (1, Datum::Struct(fields)) = (version, fields)
///         && let Some(Datum::Int(seconds)) = fields.get_mut("left")
///     {
///         *seconds *= 30;
///     }
///     Ok(())
/// }
///
/// #[derive(Clone, Component)]
/// #[component(id = "fuse", version = 2, migrate = in_ticks)]
/// struct Fuse {
///     left: u32,
/// }
///
/// let mut old = Datum::Struct([("left".to_owned(), Datum::Int(2))].into());
/// Fuse::migrate(1, &mut old)?;
/// assert_eq!(old, Datum::Struct([("left".to_owned(), Datum::Int(60))].into()));
/// # Ok::<(), String>(())
/// ```
pub trait Stored: Value {
    /// The name in checkpoints and snapshots. It stays when the Rust type is renamed.
    const ID: &'static str;
    /// Raised when the meaning of the fields changes.
    const VERSION: u16;

    /// Brings a value of an older version, or of other fields, up to date: fields that are missing
    /// afterwards get their defaults, fields that are unknown are left out, numbers are converted
    /// if they fit.
    fn migrate(from_version: u16, fields: &mut Datum) -> Result<(), String> {
        let _ = (from_version, fields);
        Ok(())
    }
}

/// For whom a networked field is, of those who see its entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SeenBy {
    /// Everybody.
    #[default]
    Everyone,
    /// Players of the entity's team, and its owner: `#[net(team)]`.
    Team,
    /// The player to whom the entity belongs: `#[net(owner)]`.
    Owner,
}

/// A networked field as declared: the `rate` names another field of the same game,
/// `component-id.field`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NetFieldDef {
    /// Name of the field.
    pub name: &'static str,
    /// Its quantisation.
    pub kind: FieldKind,
    /// The field that holds its rate of change per second.
    pub rate: Option<&'static str>,
    /// For whom it is.
    pub seen_by: SeenBy,
}

/// Fields of an old value by name.
pub type OldFields = BTreeMap<String, Datum>;

/// One step of a migration: brings the fields that version `from` has to the next version.
/// Called by derived code.
pub fn migrate_step(
    from: u16,
    value: &mut Datum,
    step: impl FnOnce(&mut OldFields) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Datum::Struct(fields) | Datum::Enum(_, fields) => {
            step(fields).map_err(|problem| format!("migration from version {from}: {problem}"))
        }
        other => Err(format!("migration from version {from}: {other:?} has no fields")),
    }
}

/// Refuses a field's value outside of `low..=high`. Called by derived code.
pub fn within<T: PartialOrd + Debug>(name: &str, value: &T, low: T, high: T) -> Result<(), String> {
    if *value >= low && *value <= high {
        Ok(())
    } else {
        Err(format!("`{name}` is {value:?}, outside of {low:?}..={high:?}"))
    }
}

/// What happens to an entity with a relation when the entity that it names is despawned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDespawn {
    /// It is despawned as well: a child goes with its parent.
    Despawn,
    /// It loses the relation.
    Remove,
    /// It keeps the relation, which names nobody from then on.
    Keep,
}

/// Data of an entity. `#[derive(Component)]`, see [`crate::Component`](macro@crate::Component).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no component",
    note = "derive `rekindle_sim::Component` for it"
)]
pub trait Component: Stored {
    /// The fields that snapshots carry; empty if the component stays on the server.
    const NET: &'static [NetFieldDef];
    /// Ids of the components that an entity gets with this one, at their defaults, unless it has
    /// them: `#[component(requires(Other))]`.
    const REQUIRES: &'static [&'static str] = &[];
    /// Set if the component is a relation, which names another entity:
    /// `#[component(relation = "despawn")]`.
    const RELATION: Option<OnDespawn> = None;

    /// Whether [`Component::validate`] refuses anything.
    const VALIDATES: bool = false;

    /// Whether the component may have this value; the problem, if not. Asked at the end of each
    /// stage for what was changed in it: see [`Rejected`](crate::Rejected).
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
    /// Whom a relation names.
    fn target(&self) -> Option<Entity> {
        None
    }

    /// Writes one quantum for each networked field.
    fn to_quanta(&self, quanta: &mut [u32]);
    /// What a snapshot says of the component: networked fields from quanta, the others at their
    /// defaults.
    fn from_quanta(quanta: &[u32]) -> Self;
}

/// Data that the world has once. It always exists, at first with its defaults.
/// `#[derive(Resource)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no resource",
    note = "derive `rekindle_sim::Resource` for it"
)]
pub trait Resource: Stored {}

/// Something that systems tell each other. `#[derive(Event)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event",
    note = "derive `rekindle_sim::Event` for it"
)]
pub trait Event: Stored {}

/// A field type that can be networked. Called by derived code.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be networked",
    note = "networked are `f32`, `bool`, `u8` to `u64`, enums without fields that derive \
        `rekindle_sim::Value`, `PlayerId` and `Tick` with `bits = 33` to `64`, and lists of the \
        others with `list = 8`"
)]
pub trait Quantised: Value {
    /// The fewest bits that tell apart all values that must be: an enum's variants.
    const MIN_BITS: u8 = 1;
    /// The quantum of the value.
    fn to_quantum(&self, kind: FieldKind) -> u32;
    /// The value of a quantum.
    fn from_quantum(quantum: u32, kind: FieldKind) -> Self;
}

impl Quantised for f32 {
    #[inline]
    fn to_quantum(&self, kind: FieldKind) -> u32 {
        kind.quantise(*self)
    }
    #[inline]
    fn from_quantum(quantum: u32, kind: FieldKind) -> Self {
        kind.dequantise(quantum)
    }
}

impl Quantised for bool {
    #[inline]
    fn to_quantum(&self, _kind: FieldKind) -> u32 {
        u32::from(*self)
    }
    #[inline]
    fn from_quantum(quantum: u32, _kind: FieldKind) -> Self {
        quantum != 0
    }
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl Quantised for $type {
            #[inline]
            fn to_quantum(&self, kind: FieldKind) -> u32 {
                kind.clamp_unsigned(u64::from(*self))
            }
            #[inline]
            fn from_quantum(quantum: u32, _kind: FieldKind) -> Self {
                Self::try_from(quantum).unwrap_or(Self::MAX)
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64);

/// A field type that can be networked in two columns: `#[net(bits = 33..=64)]`. Called by derived
/// code.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` has no more than 32 bits",
    note = "`bits = 33` to `64` is for `u64`, `PlayerId`, `SessionId` and `Tick`"
)]
pub trait Wide: Value {
    /// The value as a number.
    fn to_wide(&self) -> u64;
    /// The value of a number.
    fn from_wide(number: u64) -> Self;
}

impl Wide for u64 {
    fn to_wide(&self) -> u64 {
        *self
    }
    fn from_wide(number: u64) -> Self {
        number
    }
}

macro_rules! wide {
    ($($type:ident),*) => {$(
        impl Wide for $type {
            fn to_wide(&self) -> u64 {
                self.0
            }
            fn from_wide(number: u64) -> Self {
                Self(number)
            }
        }
    )*};
}

wide!(PlayerId, SessionId, Tick);

/// The low and the high half of a number, clamped to what the kind of the high one can hold. Called
/// by derived code.
pub fn wide_to_quanta<T: Wide>(value: &T, high: FieldKind) -> [u32; 2] {
    let number = value.to_wide();
    let most = u64::from(high.max_quantum());
    if number >> 32 > most {
        return [u32::MAX, high.max_quantum()];
    }
    [number as u32, (number >> 32) as u32]
}

/// A field type of which snapshots can carry the first few elements: `#[net(list = 8, ...)]`.
/// Called by derived code.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` is no list that can be networked",
    note = "`list` is for a `Vec`, a `VecDeque` or an array of `f32`, `bool`, `u8` to `u64` or \
        enums without fields"
)]
pub trait Listed: Value {
    /// What it is a list of.
    type Element: Quantised;
    /// Its elements in order.
    fn elements(&self) -> impl ExactSizeIterator<Item = &Self::Element>;
    /// A list of these. An array has defaults behind them.
    fn of(elements: impl Iterator<Item = Self::Element>) -> Self;
}

macro_rules! listed {
    ($($list:ident),*) => {$(
        impl<T: Quantised> Listed for $list<T> {
            type Element = T;
            fn elements(&self) -> impl ExactSizeIterator<Item = &T> {
                self.iter()
            }
            fn of(elements: impl Iterator<Item = T>) -> Self {
                elements.collect()
            }
        }
    )*};
}

listed!(Vec, VecDeque);

impl<T: Quantised, const N: usize> Listed for [T; N] {
    type Element = T;
    fn elements(&self) -> impl ExactSizeIterator<Item = &T> {
        self.iter()
    }
    fn of(elements: impl Iterator<Item = T>) -> Self {
        let mut all = Self::initial();
        all.iter_mut().zip(elements).for_each(|(place, element)| *place = element);
        all
    }
}

/// Writes how many elements there are, then the elements; those that do not fit are left out.
/// `quanta` has one place for each column. Called by derived code.
pub fn list_to_quanta<T: Listed>(list: &T, kind: FieldKind, quanta: &mut [u32]) {
    let Some((len, places)) = quanta.split_first_mut() else { return };
    let elements = list.elements();
    *len = elements.len().min(places.len()) as u32;
    places.fill(0);
    for (place, element) in places.iter_mut().zip(elements) {
        *place = element.to_quantum(kind);
    }
}

/// What [`list_to_quanta`] wrote. Called by derived code.
pub fn list_from_quanta<T: Listed>(kind: FieldKind, quanta: &[u32]) -> T {
    let Some((len, places)) = quanta.split_first() else { return T::of(std::iter::empty()) };
    let there = places.iter().take(*len as usize);
    T::of(there.map(|quantum| T::Element::from_quantum(*quantum, kind)))
}
