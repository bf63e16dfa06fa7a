//! The canonical form of values: what components, resources, events, inputs and commands are made
//! of.
//!
//! A [`Value`] encodes itself: fixed little-endian, no padding, no pointers, equal values as equal
//! bytes. The derives write the implementation for structs and enums; this file has it for the
//! types they are made of.
//!
//! | type | bytes |
//! |---|---|
//! | `u8..u64`, `i8..i64` | little-endian |
//! | `f32`, `f64` | bits, little-endian; every NaN as the one quiet NaN `0x7fc00000` (`0x7ff8000000000000`) |
//! | `bool` | one byte, 0 or 1 |
//! | [`Entity`](crate::Entity) | slot, then generation, `u32` each |
//! | `Option<T>` | one byte, 0 or 1, then the value |
//! | `[T; N]`, tuples | the elements |
//! | `Vec<T>`, `VecDeque<T>`, `String` | count as `u32`, then the elements or UTF-8 bytes |
//! | `BTreeMap<K, V>` | count as `u32`, then key and value, ascending by key |
//! | struct | its fields in order |
//! | enum | one byte, the variant's place, then its fields |
//!
//! Decoding never panics and never allocates more than a constant (of the type) times the bytes
//! that are there.

pub mod component;
mod datum;
pub(crate) mod entity;
pub(crate) mod history;
pub mod shape;
pub(crate) mod timer;

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use rekindle_schema::{PlayerId, SessionId, Tick};

use self::shape::Shape;

/// Why bytes are not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a value.
    #[error("the bytes end within a value")]
    Short,
    /// A byte sequence that no value has.
    #[error("{0}")]
    Invalid(&'static str),
    /// There are bytes behind the value.
    #[error("there are bytes behind the value")]
    Trailing,
}

/// What decoding reads from.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.bytes = tail;
        Ok(*head)
    }

    /// The next `len` bytes.
    #[inline]
    pub fn slice(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.bytes = tail;
        Ok(head)
    }

    /// A count of things that take at least `min_size` bytes each: refused if so many cannot be
    /// there.
    #[inline]
    pub fn count(&mut self, min_size: usize) -> Result<usize, DecodeError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > self.remaining() / min_size.max(1) { Err(DecodeError::Short) } else { Ok(count) }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Something that a world can hold: it has a canonical form, a schema, and a value to start from.
///
/// Derive it (`#[derive(Value)]`, or through `Component`, `Resource`, `Event`); write it by hand
/// only for a primitive.
///
/// ```
/// use rekindle_sim::Value;
/// use rekindle_sim::value::{from_bytes, to_bytes};
///
/// #[derive(Debug, Clone, PartialEq, Value)]
/// enum Order { Wait, Fire { at: f32 } }
///
/// assert_eq!(to_bytes(&Order::Wait), [0]);
/// assert_eq!(to_bytes(&Order::Fire { at: 0.5 }), [1, 0, 0, 0, 63]);
/// assert_eq!(from_bytes(&[1, 0, 0, 0, 63]), Ok(Order::Fire { at: 0.5 }));
/// assert!(from_bytes::<Order>(&[2]).is_err()); // no such variant
/// // Every NaN has one form.
/// assert_eq!(to_bytes(&f32::from_bits(0xffc0_0001)), to_bytes(&f32::NAN));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a world",
    note = "derive `rekindle_sim::Value` for a type of your own; for a map use `BTreeMap`, for a \
        set `Vec`, for `usize` a number of fixed width"
)]
pub trait Value: Sized + Clone + Send + Sync + 'static {
    /// The fewest bytes that an encoded value takes.
    const MIN_SIZE: usize;
    /// Whether [`Value::canonicalise`] does anything.
    const CANONICALISES: bool = false;

    /// What a field has that nobody set: the fields' defaults.
    fn initial() -> Self;
    /// The schema: enough to read encoded values without this type.
    fn shape() -> Shape;
    /// Appends the canonical bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads what [`Value::encode`] wrote. The result is in canonical form.
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Brings the value into the form that encoding and decoding would give it: one NaN, ranges
    /// kept. Runs at the end of each tick on what changed.
    #[inline]
    fn canonicalise(&mut self) {}
    /// Whether the value surely has that form; one of which this says no may have it too. A look at
    /// many values is cheaper than to write them all again.
    #[inline]
    fn is_canonical(&self) -> bool {
        !Self::CANONICALISES
    }
}

/// The canonical bytes of `value`.
pub fn to_bytes<T: Value>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(T::MIN_SIZE);
    value.encode(&mut out);
    out
}

/// The value that `bytes`, all of them, are the canonical form of.
pub fn from_bytes<T: Value>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Keeps `value` in `low..=high`; what compares with nothing (a NaN) becomes `low`. Called by
/// derived code.
#[inline]
pub fn clamp<T: PartialOrd>(value: &mut T, low: T, high: T) {
    match (*value).partial_cmp(&low) {
        None | Some(Ordering::Less) => *value = low,
        Some(_) if *value > high => *value = high,
        Some(_) => {}
    }
}

/// Whether [`clamp`] leaves `value` as it is. Called by derived code.
#[inline]
pub fn within<T: PartialOrd>(value: &T, low: T, high: T) -> bool {
    (low..=high).contains(value)
}

macro_rules! integers {
    ($($type:ident $shape:ident),*) => {$(
        impl Value for $type {
            const MIN_SIZE: usize = size_of::<$type>();
            fn initial() -> Self {
                0
            }
            fn shape() -> Shape {
                Shape::$shape
            }
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_le_bytes(input.array()?))
            }
        }
    )*};
}

integers!(u8 U8, u16 U16, u32 U32, u64 U64, i8 I8, i16 I16, i32 I32, i64 I64);

macro_rules! floats {
    ($($type:ident $shape:ident $nan:literal),*) => {$(
        impl Value for $type {
            const MIN_SIZE: usize = size_of::<$type>();
            const CANONICALISES: bool = true;
            fn initial() -> Self {
                0.0
            }
            fn shape() -> Shape {
                Shape::$shape
            }
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                let bits = if self.is_nan() { $nan } else { self.to_bits() };
                out.extend_from_slice(&bits.to_le_bytes());
            }
            #[inline]
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let mut value = Self::from_le_bytes(input.array()?);
                value.canonicalise();
                Ok(value)
            }
            #[inline]
            fn canonicalise(&mut self) {
                // Without a branch, so that the compiler can do several at once.
                *self = if self.is_nan() { Self::from_bits($nan) } else { *self };
            }
            #[inline]
            fn is_canonical(&self) -> bool {
                !self.is_nan()
            }
        }
    )*};
}

floats!(f32 F32 0x7fc0_0000, f64 F64 0x7ff8_0000_0000_0000);

impl Value for bool {
    const MIN_SIZE: usize = 1;
    fn initial() -> Self {
        false
    }
    fn shape() -> Shape {
        Shape::Bool
    }
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    #[inline]
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DecodeError::Invalid("a flag is neither 0 nor 1")),
        }
    }
}

impl Value for () {
    const MIN_SIZE: usize = 0;
    fn initial() -> Self {}
    fn shape() -> Shape {
        Shape::Tuple(Vec::new())
    }
    fn encode(&self, _out: &mut Vec<u8>) {}
    fn decode(_input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

macro_rules! numbers {
    ($($type:ident),*) => {$(
        impl Value for $type {
            const MIN_SIZE: usize = 8;
            fn initial() -> Self {
                Self(0)
            }
            fn shape() -> Shape {
                Shape::U64
            }
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
            #[inline]
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                u64::decode(input).map(Self)
            }
        }
    )*};
}

numbers!(Tick, PlayerId, SessionId);

impl<T: Value> Value for Option<T> {
    const MIN_SIZE: usize = 1;
    const CANONICALISES: bool = T::CANONICALISES;
    fn initial() -> Self {
        None
    }
    fn shape() -> Shape {
        Shape::Option(Box::new(T::shape()))
    }
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::decode(input)? { Some(T::decode(input)?) } else { None })
    }
    fn canonicalise(&mut self) {
        self.iter_mut().for_each(T::canonicalise);
    }
    #[inline]
    fn is_canonical(&self) -> bool {
        self.as_ref().is_none_or(T::is_canonical)
    }
}

impl<T: Value, const N: usize> Value for [T; N] {
    const MIN_SIZE: usize = T::MIN_SIZE * N;
    const CANONICALISES: bool = T::CANONICALISES;
    fn initial() -> Self {
        std::array::from_fn(|_| T::initial())
    }
    fn shape() -> Shape {
        const {
            assert!(N <= 65_535, "an array in a world has at most 65,535 elements: use a Vec");
        };
        Shape::Array(N as u32, Box::new(T::shape()))
    }
    fn encode(&self, out: &mut Vec<u8>) {
        for value in self {
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if input.remaining() < Self::MIN_SIZE {
            return Err(DecodeError::Short);
        }
        let mut values = Self::initial();
        for value in &mut values {
            *value = T::decode(input)?;
        }
        Ok(values)
    }
    fn canonicalise(&mut self) {
        self.iter_mut().for_each(T::canonicalise);
    }
    #[inline]
    fn is_canonical(&self) -> bool {
        self.iter().fold(true, |all, value| all & value.is_canonical())
    }
}

macro_rules! lists {
    ($($list:ident),*) => {$(
        impl<T: Value> Value for $list<T> {
            const MIN_SIZE: usize = 4;
            const CANONICALISES: bool = T::CANONICALISES;
            fn initial() -> Self {
                Self::new()
            }
            fn shape() -> Shape {
                const { assert!(T::MIN_SIZE > 0, "a list of values without content: keep its \
                    length as a number instead") };
                Shape::List(Box::new(T::shape()))
            }
            fn encode(&self, out: &mut Vec<u8>) {
                (self.len() as u32).encode(out);
                for value in self {
                    value.encode(out);
                }
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let count = input.count(T::MIN_SIZE)?;
                let mut values = Self::with_capacity(count);
                for _ in 0..count {
                    values.extend([T::decode(input)?]);
                }
                Ok(values)
            }
            fn canonicalise(&mut self) {
                self.iter_mut().for_each(T::canonicalise);
            }
        }
    )*};
}

lists!(Vec, VecDeque);

impl Value for String {
    const MIN_SIZE: usize = 4;
    fn initial() -> Self {
        Self::new()
    }
    fn shape() -> Shape {
        Shape::String
    }
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = input.count(1)?;
        let text = std::str::from_utf8(input.slice(len)?)
            .map_err(|_| DecodeError::Invalid("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

impl<K: Value + Ord, V: Value> Value for BTreeMap<K, V> {
    const MIN_SIZE: usize = 4;
    const CANONICALISES: bool = V::CANONICALISES;
    fn initial() -> Self {
        Self::new()
    }
    fn shape() -> Shape {
        const { assert!(K::MIN_SIZE > 0, "a map whose keys have no content") };
        Shape::Map(Box::new(K::shape()), Box::new(V::shape()))
    }
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count(K::MIN_SIZE + V::MIN_SIZE)?;
        let mut map = Self::new();
        for _ in 0..count {
            let key = K::decode(input)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::Invalid("the keys of a map do not ascend"));
            }
            map.insert(key, V::decode(input)?);
        }
        Ok(map)
    }
    fn canonicalise(&mut self) {
        self.values_mut().for_each(V::canonicalise);
    }
}

macro_rules! tuples {
    ($($name:ident),+) => {
        impl<$($name: Value),+> Value for ($($name,)+) {
            const MIN_SIZE: usize = 0 $(+ $name::MIN_SIZE)+;
            const CANONICALISES: bool = false $(|| $name::CANONICALISES)+;
            fn initial() -> Self {
                ($($name::initial(),)+)
            }
            fn shape() -> Shape {
                Shape::Tuple(vec![$($name::shape()),+])
            }
            #[expect(non_snake_case, reason = "the elements are named like their types")]
            fn encode(&self, out: &mut Vec<u8>) {
                let ($($name,)+) = self;
                $($name.encode(out);)+
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(($($name::decode(input)?,)+))
            }
            #[expect(non_snake_case, reason = "the elements are named like their types")]
            fn canonicalise(&mut self) {
                let ($($name,)+) = self;
                $($name.canonicalise();)+
            }
            #[inline]
            #[expect(non_snake_case, reason = "the elements are named like their types")]
            fn is_canonical(&self) -> bool {
                let ($($name,)+) = self;
                true $(& $name.is_canonical())+
            }
        }
    };
}

tuples!(A);
tuples!(A, B);
tuples!(A, B, C);
tuples!(A, B, C, D);
