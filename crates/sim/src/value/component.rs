//! What can be stored in a world: components, resources, events. All three are derived.

use rekindle_schema::net::FieldKind;

use crate::value::Value;
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
}

/// Data of an entity. `#[derive(Component)]`, see [`crate::Component`](macro@crate::Component).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no component",
    note = "derive `rekindle_sim::Component` for it"
)]
pub trait Component: Stored {
    /// The fields that snapshots carry; empty if the component stays on the server.
    const NET: &'static [NetFieldDef];

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
    note = "networked are `f32`, `bool`, `u8` to `u64`, and enums without fields that derive \
        `rekindle_sim::Value`"
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
