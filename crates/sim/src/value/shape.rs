//! Schemas of values, and reading, converting and printing values by their schema alone.
//!
//! A checkpoint carries the [`Shape`] of everything in it. If the running build has another shape
//! for the same id, the old bytes are read into a [`Datum`] by the old shape, brought into the new
//! shape by field name, and encoded again.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::PlayerId;

use crate::value::{DecodeError, Reader, Value};

/// How a value is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the primitives are named like their Rust types")]
pub enum Shape {
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    Bool,
    Entity,
    String,
    /// Absent or there.
    Option(Box<Shape>),
    /// An array: the number of its elements, and the shape of each.
    Array(u32, Box<Shape>),
    /// A count, then so many of them.
    List(Box<Shape>),
    /// A count, then keys and values, ascending.
    Map(Box<Shape>, Box<Shape>),
    /// One after the other.
    Tuple(Vec<Shape>),
    /// Named fields.
    Struct(Vec<Field>),
    /// One of the variants, each with its fields.
    Enum(Vec<(String, Vec<Field>)>),
}

/// A named field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its layout.
    pub shape: Shape,
    /// Canonical bytes of what the field has if nobody set it. Known for types of the running build
    /// only: it is in no checkpoint.
    pub default: Vec<u8>,
    /// Names that the field had in earlier builds, the newest first. Known for types of the running
    /// build only, like the default.
    pub former: Vec<String>,
    /// It is a player, or players. Known for types of the running build only, like the default.
    pub player: bool,
}

impl Field {
    /// A field of the running build. Called by derived code.
    pub fn new<T: Value>(name: &str, default: &T) -> Self {
        Self {
            name: name.to_owned(),
            shape: T::shape(),
            default: crate::value::to_bytes(default),
            former: Vec::new(),
            player: is_of_players::<T>(),
        }
    }

    /// The field had these names in earlier builds. Called by derived code.
    #[must_use]
    pub fn formerly(mut self, names: &[&str]) -> Self {
        self.former = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// What an old value says of this field, under its own name or a former one.
    fn find<'d>(&self, data: &'d BTreeMap<String, Datum>) -> Option<(&'d String, &'d Datum)> {
        let mut names = std::iter::once(&self.name).chain(&self.former);
        names.find_map(|name| data.get_key_value(name))
    }
}

/// Whether a type is that of a player, or of players.
fn is_of_players<T: 'static>() -> bool {
    let players = [
        TypeId::of::<PlayerId>(),
        TypeId::of::<Option<PlayerId>>(),
        TypeId::of::<Vec<PlayerId>>(),
        TypeId::of::<[PlayerId; 2]>(),
    ];
    players.contains(&TypeId::of::<T>())
}

/// A value without its Rust type.
///
/// ```
/// use rekindle_sim::Value;
/// use rekindle_sim::value::shape::Datum;
/// use rekindle_sim::value::{Reader, to_bytes};
///
/// #[derive(Clone, Value)]
/// struct Old { ammo: u8 }
/// #[derive(Clone, Value)]
/// struct New { ammo: u32, #[value(default = 5)] armour: u8 }
///
/// // What an old build wrote is read by its shape alone, and converted by field name.
/// let bytes = to_bytes(&Old { ammo: 7 });
/// let datum = Old::shape().read(&mut Reader::new(&bytes)).unwrap();
/// assert_eq!(datum, Datum::Struct([("ammo".to_owned(), Datum::Int(7))].into()));
/// let mut converted = Vec::new();
/// New::shape().convert(&datum, &mut converted)?;
/// assert_eq!(converted, to_bytes(&New { ammo: 7, armour: 5 }));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// Any whole number.
    Int(i128),
    /// Any floating-point number, as `f64`.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// Slot and generation.
    Entity(u32, u32),
    /// A text.
    String(String),
    /// Absent or there.
    Option(Option<Box<Datum>>),
    /// Elements of an array, a list or a tuple.
    List(Vec<Datum>),
    /// Keys and values, ascending.
    Map(Vec<(Datum, Datum)>),
    /// Fields by name.
    Struct(BTreeMap<String, Datum>),
    /// A variant's name and its fields.
    Enum(String, BTreeMap<String, Datum>),
}

/// Schemas nest at most this deep, so that a made-up one cannot exhaust the stack.
const MAX_DEPTH: usize = 16;

const PRIMITIVES: [Shape; 13] = [
    Shape::U8,
    Shape::U16,
    Shape::U32,
    Shape::U64,
    Shape::I8,
    Shape::I16,
    Shape::I32,
    Shape::I64,
    Shape::F32,
    Shape::F64,
    Shape::Bool,
    Shape::Entity,
    Shape::String,
];

impl Shape {
    /// Appends the shape: one byte for the kind (0 to 12 the primitives in the order of the enum),
    /// then what the kind needs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fields = |fields: &[Field], out: &mut Vec<u8>| {
            (fields.len() as u32).encode(out);
            for Field { name, shape, .. } in fields {
                name.encode(out);
                shape.encode(out);
            }
        };
        match self {
            Self::Option(of) => {
                out.push(13);
                of.encode(out);
            }
            Self::Array(count, of) => {
                out.push(14);
                count.encode(out);
                of.encode(out);
            }
            Self::List(of) => {
                out.push(15);
                of.encode(out);
            }
            Self::Map(key, value) => {
                out.push(16);
                key.encode(out);
                value.encode(out);
            }
            Self::Tuple(of) => {
                out.push(17);
                (of.len() as u32).encode(out);
                for shape in of {
                    shape.encode(out);
                }
            }
            Self::Struct(of) => {
                out.push(18);
                fields(of, out);
            }
            Self::Enum(variants) => {
                out.push(19);
                (variants.len() as u32).encode(out);
                for (name, of) in variants {
                    name.encode(out);
                    fields(of, out);
                }
            }
            primitive => {
                out.push(PRIMITIVES.iter().position(|shape| shape == primitive).unwrap_or(0) as u8);
            }
        }
    }

    /// Reads what [`Shape::encode`] wrote.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_at(input, MAX_DEPTH)
    }

    fn decode_at(input: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        let depth =
            depth.checked_sub(1).ok_or(DecodeError::Invalid("the schema nests too deep"))?;
        let boxed = |input: &mut Reader<'_>| Self::decode_at(input, depth).map(Box::new);
        let fields = |input: &mut Reader<'_>| -> Result<Vec<Field>, DecodeError> {
            let count = input.count(5)?;
            let field = |_| {
                Ok(Field {
                    name: String::decode(input)?,
                    shape: Self::decode_at(input, depth)?,
                    default: Vec::new(),
                    former: Vec::new(),
                    player: false,
                })
            };
            (0..count).map(field).collect()
        };
        let [kind] = input.array()?;
        Ok(match kind {
            13 => Self::Option(boxed(input)?),
            14 => {
                let count = u32::decode(input)?;
                if count > 65_535 {
                    return Err(DecodeError::Invalid(
                        "the schema has an array of more than 65,535 elements",
                    ));
                }
                Self::Array(count, boxed(input)?)
            }
            15 => Self::List(boxed(input)?),
            16 => Self::Map(boxed(input)?, boxed(input)?),
            17 => {
                let count = input.count(1)?;
                Self::Tuple(
                    (0..count).map(|_| Self::decode_at(input, depth)).collect::<Result<_, _>>()?,
                )
            }
            18 => Self::Struct(fields(input)?),
            19 => {
                let count = input.count(8)?;
                Self::Enum(
                    (0..count)
                        .map(|_| Ok((String::decode(input)?, fields(input)?)))
                        .collect::<Result<_, DecodeError>>()?,
                )
            }
            primitive => PRIMITIVES
                .get(usize::from(primitive))
                .cloned()
                .ok_or(DecodeError::Invalid("the schema has an unknown kind of field"))?,
        })
    }

    /// The fewest bytes that a value of this shape takes.
    fn min_size(&self) -> usize {
        let fields = |fields: &[Field]| {
            fields.iter().fold(0usize, |sum, field| sum.saturating_add(field.shape.min_size()))
        };
        match self {
            Self::U8 | Self::I8 | Self::Bool | Self::Option(_) => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 | Self::String | Self::List(_) | Self::Map(..) => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Entity => 8,
            Self::Array(count, of) => (*count as usize).saturating_mul(of.min_size()),
            Self::Tuple(of) => {
                of.iter().fold(0usize, |sum, shape| sum.saturating_add(shape.min_size()))
            }
            Self::Struct(of) => fields(of),
            Self::Enum(variants) => {
                1 + variants.iter().map(|(_, of)| fields(of)).min().unwrap_or(0)
            }
        }
    }

    /// How many bytes every value of this shape takes, if all take as many.
    pub(crate) fn size(&self) -> Option<usize> {
        let fields = |fields: &[Field]| {
            fields.iter().try_fold(0usize, |sum, field| sum.checked_add(field.shape.size()?))
        };
        match self {
            Self::Option(_) | Self::String | Self::List(_) | Self::Map(..) => None,
            Self::Array(count, of) => of.size()?.checked_mul(*count as usize),
            Self::Tuple(of) => {
                of.iter().try_fold(0usize, |sum, shape| sum.checked_add(shape.size()?))
            }
            Self::Struct(of) => fields(of),
            Self::Enum(variants) => {
                let mut sizes = variants.iter().map(|(_, of)| fields(of));
                let first = sizes.next()??;
                sizes.all(|size| size == Some(first)).then_some(first + 1)
            }
            primitive => Some(primitive.min_size()),
        }
    }

    /// Refuses `count` elements that cannot be there: each needs at least one byte, or a few bytes
    /// could ask for any number of them.
    fn check(&self, count: usize, input: &Reader<'_>) -> Result<(), DecodeError> {
        match self.min_size() {
            0 if count > 0 => Err(DecodeError::Invalid("a list of values without content")),
            size if count.saturating_mul(size) > input.remaining() => Err(DecodeError::Short),
            _ => Ok(()),
        }
    }

    /// Reads a value of this shape.
    pub fn read(&self, input: &mut Reader<'_>) -> Result<Datum, DecodeError> {
        let fields = |fields: &[Field], input: &mut Reader<'_>| {
            fields
                .iter()
                .map(|field| Ok((field.name.clone(), field.shape.read(input)?)))
                .collect::<Result<BTreeMap<_, _>, DecodeError>>()
        };
        let list = |of: &Self, count: usize, input: &mut Reader<'_>| {
            of.check(count, input)?;
            Ok(Datum::List((0..count).map(|_| of.read(input)).collect::<Result<_, DecodeError>>()?))
        };
        Ok(match self {
            Self::U8 => Datum::Int(u8::decode(input)?.into()),
            Self::U16 => Datum::Int(u16::decode(input)?.into()),
            Self::U32 => Datum::Int(u32::decode(input)?.into()),
            Self::U64 => Datum::Int(u64::decode(input)?.into()),
            Self::I8 => Datum::Int(i8::decode(input)?.into()),
            Self::I16 => Datum::Int(i16::decode(input)?.into()),
            Self::I32 => Datum::Int(i32::decode(input)?.into()),
            Self::I64 => Datum::Int(i64::decode(input)?.into()),
            Self::F32 => Datum::Float(f32::decode(input)?.into()),
            Self::F64 => Datum::Float(f64::decode(input)?),
            Self::Bool => Datum::Bool(bool::decode(input)?),
            Self::Entity => Datum::Entity(u32::decode(input)?, u32::decode(input)?),
            Self::String => Datum::String(String::decode(input)?),
            Self::Option(of) => Datum::Option(if bool::decode(input)? {
                Some(Box::new(of.read(input)?))
            } else {
                None
            }),
            Self::Array(count, of) => list(of, *count as usize, input)?,
            Self::List(of) => {
                let count = u32::decode(input)? as usize;
                list(of, count, input)?
            }
            Self::Map(key, value) => {
                let count = u32::decode(input)? as usize;
                key.check(count, input)?;
                Datum::Map(
                    (0..count)
                        .map(|_| Ok((key.read(input)?, value.read(input)?)))
                        .collect::<Result<_, DecodeError>>()?,
                )
            }
            Self::Tuple(of) => {
                Datum::List(of.iter().map(|shape| shape.read(input)).collect::<Result<_, _>>()?)
            }
            Self::Struct(of) => Datum::Struct(fields(of, input)?),
            Self::Enum(variants) => {
                let [index] = input.array()?;
                let (name, of) = variants
                    .get(usize::from(index))
                    .ok_or(DecodeError::Invalid("an enum has no such variant"))?;
                Datum::Enum(name.clone(), fields(of, input)?)
            }
        })
    }

    /// Appends the canonical bytes of `datum` in this shape, which must be one of the running
    /// build: fields by name, with their defaults if they are missing; numbers if they fit; what
    /// was not optional becomes so. Says where it fails.
    pub fn convert(&self, datum: &Datum, out: &mut Vec<u8>) -> Result<(), String> {
        match (self, datum) {
            (Self::Option(_), Datum::Option(None)) => out.push(0),
            (Self::Option(of), Datum::Option(Some(datum))) => {
                out.push(1);
                of.convert(datum, out)?;
            }
            (Self::Option(of), datum) => {
                out.push(1);
                of.convert(datum, out)?;
            }
            (Self::Bool, Datum::Bool(flag)) => flag.encode(out),
            (Self::Entity, Datum::Entity(slot, generation)) => {
                slot.encode(out);
                generation.encode(out);
            }
            (Self::String, Datum::String(text)) => text.encode(out),
            (Self::Array(count, of), Datum::List(data)) if data.len() == *count as usize => {
                convert_all(of, data, out)?;
            }
            (Self::List(of), Datum::List(data)) => {
                (data.len() as u32).encode(out);
                convert_all(of, data, out)?;
            }
            (Self::Map(key, value), Datum::Map(data)) => {
                (data.len() as u32).encode(out);
                for (old_key, old_value) in data {
                    key.convert(old_key, out)?;
                    value.convert(old_value, out)?;
                }
            }
            (Self::Tuple(of), Datum::List(data)) if data.len() == of.len() => {
                of.iter().zip(data).try_for_each(|(shape, datum)| shape.convert(datum, out))?;
            }
            (Self::Struct(of), Datum::Struct(data)) => convert_fields(of, data, out)?,
            (Self::Enum(variants), Datum::Enum(name, data)) => {
                let index = variants
                    .iter()
                    .position(|(known, _)| known == name)
                    .ok_or_else(|| format!("there is no variant `{name}` any more"))?;
                out.push(index as u8);
                convert_fields(&variants[index].1, data, out)?;
            }
            (number, Datum::Int(value)) => number.convert_int(*value, out)?,
            (Self::F32, Datum::Float(value)) => (*value as f32).encode(out),
            (Self::F64, Datum::Float(value)) => value.encode(out),
            (number, Datum::Float(value)) if value.fract() == 0.0 => {
                number.convert_int(*value as i128, out)?;
            }
            (shape, datum) => return Err(format!("{datum:?} cannot become {shape:?}")),
        }
        Ok(())
    }

    /// Adds the paths (`items.weight`) of those fields of `datum` that [`Shape::convert`] leaves
    /// out, because this shape has no field of that name and none that had it. `path` stands in
    /// front of each.
    pub(crate) fn unread(&self, datum: &Datum, path: &str, unread: &mut BTreeSet<String>) {
        match (self, datum) {
            (Self::Option(of), Datum::Option(Some(datum))) => of.unread(datum, path, unread),
            (Self::Option(_), Datum::Option(None)) => {}
            (Self::Option(of), datum) => of.unread(datum, path, unread),
            (Self::Array(_, of) | Self::List(of), Datum::List(data)) => {
                for datum in data {
                    of.unread(datum, path, unread);
                }
            }
            (Self::Map(key, value), Datum::Map(data)) => {
                for (old_key, old_value) in data {
                    key.unread(old_key, path, unread);
                    value.unread(old_value, path, unread);
                }
            }
            (Self::Tuple(of), Datum::List(data)) => {
                of.iter().zip(data).for_each(|(shape, datum)| shape.unread(datum, path, unread));
            }
            (Self::Struct(of), Datum::Struct(data)) => unread_fields(of, data, path, unread),
            (Self::Enum(variants), Datum::Enum(name, data)) => {
                if let Some((_, of)) = variants.iter().find(|(known, _)| known == name) {
                    unread_fields(of, data, path, unread);
                }
            }
            _ => {}
        }
    }

    fn convert_int(&self, value: i128, out: &mut Vec<u8>) -> Result<(), String> {
        fn fit<T: Value + TryFrom<i128>>(value: i128, out: &mut Vec<u8>) -> Option<()> {
            T::try_from(value).ok().map(|value| value.encode(out))
        }
        let fits = match self {
            Self::U8 => fit::<u8>(value, out),
            Self::U16 => fit::<u16>(value, out),
            Self::U32 => fit::<u32>(value, out),
            Self::U64 => fit::<u64>(value, out),
            Self::I8 => fit::<i8>(value, out),
            Self::I16 => fit::<i16>(value, out),
            Self::I32 => fit::<i32>(value, out),
            Self::I64 => fit::<i64>(value, out),
            Self::F32 => Some(value as f32).map(|value| value.encode(out)),
            Self::F64 => Some(value as f64).map(|value| value.encode(out)),
            _ => None,
        };
        fits.ok_or_else(|| format!("{value} cannot become {self:?}"))
    }
}

fn convert_all(of: &Shape, data: &[Datum], out: &mut Vec<u8>) -> Result<(), String> {
    data.iter().try_for_each(|datum| of.convert(datum, out))
}

fn convert_fields(
    fields: &[Field],
    data: &BTreeMap<String, Datum>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    for field in fields {
        let Field { name, shape, default, .. } = field;
        match field.find(data) {
            Some((_, datum)) => {
                shape.convert(datum, out).map_err(|error| format!("field `{name}`: {error}"))?;
            }
            None => out.extend_from_slice(default),
        }
    }
    Ok(())
}

/// Adds the paths of what [`convert_fields`] leaves out.
fn unread_fields(
    fields: &[Field],
    data: &BTreeMap<String, Datum>,
    path: &str,
    unread: &mut BTreeSet<String>,
) {
    let mut left: BTreeMap<&String, &Datum> = data.iter().collect();
    for field in fields {
        if let Some((name, datum)) = field.find(data) {
            left.remove(name);
            field.shape.unread(datum, &format!("{path}{name}."), unread);
        }
    }
    unread.extend(left.keys().map(|name| format!("{path}{name}")));
}
