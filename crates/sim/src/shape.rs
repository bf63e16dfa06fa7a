//! Schemas of values, and reading, converting and printing values by their schema alone.
//!
//! A checkpoint carries the [`Shape`] of everything in it. If the running build has another shape for the same id, the old bytes are
//! read into a [`Datum`] by the old shape, brought into the new shape by field name, and encoded again.

use std::collections::BTreeMap;

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
    /// So many of them.
    Array(u32, Box<Shape>),
    /// A count, then so many of them.
    List(Box<Shape>),
    /// A count, then keys and values, ascending.
    Map(Box<Shape>, Box<Shape>),
    /// One after the other.
    Tuple(Vec<Shape>),
    /// Named fields.
    Struct(Vec<(String, Shape)>),
    /// One of the variants, each with its fields.
    Enum(Vec<(String, Vec<(String, Shape)>)>),
}

/// A value without its Rust type.
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
    /// Appends the shape: one byte for the kind (0 to 12 the primitives in the order of the enum), then what the kind needs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fields = |fields: &[(String, Shape)], out: &mut Vec<u8>| {
            (fields.len() as u32).encode(out);
            for (name, shape) in fields {
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
                of.iter().for_each(|shape| shape.encode(out));
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
            primitive => out.push(PRIMITIVES.iter().position(|shape| shape == primitive).unwrap_or(0) as u8),
        }
    }

    /// Reads what [`Shape::encode`] wrote.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_at(input, MAX_DEPTH)
    }

    fn decode_at(input: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::Invalid("the schema nests too deep"))?;
        let boxed = |input: &mut Reader<'_>| Self::decode_at(input, depth).map(Box::new);
        let fields = |input: &mut Reader<'_>| -> Result<Vec<(String, Self)>, DecodeError> {
            let count = input.count(5)?;
            (0..count).map(|_| Ok((String::decode(input)?, Self::decode_at(input, depth)?))).collect()
        };
        let [kind] = input.array()?;
        Ok(match kind {
            13 => Self::Option(boxed(input)?),
            14 => {
                let count = u32::decode(input)?;
                if count > 65_535 {
                    return Err(DecodeError::Invalid("the schema has an array of more than 65,535 elements"));
                }
                Self::Array(count, boxed(input)?)
            }
            15 => Self::List(boxed(input)?),
            16 => Self::Map(boxed(input)?, boxed(input)?),
            17 => {
                let count = input.count(1)?;
                Self::Tuple((0..count).map(|_| Self::decode_at(input, depth)).collect::<Result<_, _>>()?)
            }
            18 => Self::Struct(fields(input)?),
            19 => {
                let count = input.count(8)?;
                Self::Enum((0..count).map(|_| Ok((String::decode(input)?, fields(input)?))).collect::<Result<_, DecodeError>>()?)
            }
            primitive => {
                PRIMITIVES.get(usize::from(primitive)).cloned().ok_or(DecodeError::Invalid("the schema has an unknown kind of field"))?
            }
        })
    }

    /// The fewest bytes that a value of this shape takes, at least 1 so that counts stay bounded by bytes.
    fn min_size(&self) -> usize {
        match self {
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 | Self::String | Self::List(_) | Self::Map(..) => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Entity => 8,
            _ => 1,
        }
    }

    /// Reads a value of this shape.
    pub fn read(&self, input: &mut Reader<'_>) -> Result<Datum, DecodeError> {
        let fields = |fields: &[(String, Shape)], input: &mut Reader<'_>| {
            fields.iter().map(|(name, shape)| Ok((name.clone(), shape.read(input)?))).collect::<Result<BTreeMap<_, _>, DecodeError>>()
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
            Self::Option(of) => Datum::Option(if bool::decode(input)? { Some(Box::new(of.read(input)?)) } else { None }),
            Self::Array(count, of) => {
                if input.remaining() < of.min_size() * *count as usize
                    && !matches!(**of, Self::Tuple(_) | Self::Struct(_) | Self::Array(..))
                {
                    return Err(DecodeError::Short);
                }
                Datum::List((0..*count).map(|_| of.read(input)).collect::<Result<_, _>>()?)
            }
            Self::List(of) => {
                let count = input.count(of.min_size())?;
                Datum::List((0..count).map(|_| of.read(input)).collect::<Result<_, _>>()?)
            }
            Self::Map(key, value) => {
                let count = input.count(key.min_size())?;
                Datum::Map((0..count).map(|_| Ok((key.read(input)?, value.read(input)?))).collect::<Result<_, DecodeError>>()?)
            }
            Self::Tuple(of) => Datum::List(of.iter().map(|shape| shape.read(input)).collect::<Result<_, _>>()?),
            Self::Struct(of) => Datum::Struct(fields(of, input)?),
            Self::Enum(variants) => {
                let [index] = input.array()?;
                let (name, of) = variants.get(usize::from(index)).ok_or(DecodeError::Invalid("an enum has no such variant"))?;
                Datum::Enum(name.clone(), fields(of, input)?)
            }
        })
    }
}
