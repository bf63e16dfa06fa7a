//! Values without their types, from Rust's and back: what is written into and read from
//! [components that data defines](crate::Custom).

use std::fmt;

use crate::value::entity::Entity;
use crate::value::shape::Datum;

macro_rules! from {
    ($($type:ty => |$value:ident| $datum:expr;)*) => {$(
        impl From<$type> for Datum {
            fn from($value: $type) -> Self {
                $datum
            }
        }
    )*};
}

from! {
    u8 => |value| Self::Int(value.into());
    u16 => |value| Self::Int(value.into());
    u32 => |value| Self::Int(value.into());
    u64 => |value| Self::Int(value.into());
    i8 => |value| Self::Int(value.into());
    i16 => |value| Self::Int(value.into());
    i32 => |value| Self::Int(value.into());
    i64 => |value| Self::Int(value.into());
    i128 => |value| Self::Int(value);
    f32 => |value| Self::Float(value.into());
    f64 => |value| Self::Float(value);
    bool => |value| Self::Bool(value);
    &str => |value| Self::String(value.to_owned());
    String => |value| Self::String(value);
    Entity => |value| Self::Entity(value.slot(), value.generation());
}

impl<T: Into<Datum>> From<Option<T>> for Datum {
    fn from(value: Option<T>) -> Self {
        Self::Option(value.map(|value| Box::new(value.into())))
    }
}

impl<T: Into<Datum>> From<Vec<T>> for Datum {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl Datum {
    /// The whole number that it is.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number that it is.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The flag that it is.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text that it is.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entity that it names.
    pub fn entity(&self) -> Option<Entity> {
        match self {
            Self::Entity(slot, generation) => Some(Entity::from_parts(*slot, *generation)),
            _ => None,
        }
    }
}

/// For people.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::String(text) => text.fmt(f),
            other => write!(f, "{other:?}"),
        }
    }
}
