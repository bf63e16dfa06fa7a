//! Definitions of components, and the rows of bytes that they describe.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::Component;
use crate::ecs::registry::did_you_mean;
use crate::persist::spell;
use crate::value::component::{NetFieldDef, Stored};
use crate::value::entity::Entity;
use crate::value::shape::{Datum, Field, Shape};
use crate::value::{DecodeError, Reader, Value};

/// Definitions that a match has at most.
pub(crate) const MOST: usize = 64;
/// Fields of a definition, at most.
const MOST_FIELDS: usize = 32;
/// Bytes of a row, at most.
const MOST_BYTES: usize = 1024;
/// Characters of an id, of a field's name and of its type, at most.
const LONGEST: usize = 64;

/// A component that data defines. Part of a configuration, or read from JSON; given to
/// [`World::define`](crate::World::define).
///
/// ```
/// use rekindle_sim::CustomDefinition;
///
/// let stamina: CustomDefinition = serde_json::from_str(
///     r#"{
///         "id": "stamina",
///         "fields": [
///             {"name": "points", "type": "u16", "default": 100, "max": 120},
///             {"name": "tired", "type": "bool"},
///             {"name": "nicknames", "type": "[text]"}
///         ]
///     }"#,
/// ).unwrap();
/// assert_eq!((stamina.version, stamina.fields.len()), (1, 3));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomDefinition {
    /// Its id: `a-z`, `0-9`, `-`, `_` and `.`; no other component of the match has it.
    pub id: String,
    /// Raised when the fields change; 1 if it is left out.
    #[serde(default = "first_version")]
    pub version: u16,
    /// Its fields in order; none for a tag.
    #[serde(default)]
    pub fields: Vec<CustomField>,
}

/// A field of a component that data defines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomField {
    /// Its name: `a-z`, `0-9` and `_`.
    pub name: String,
    /// `bool`, `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, `text`, `entity`; with `?` behind it
    /// what may be absent, in brackets a list: `[u8]`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it has if nobody sets it; left out: 0, false, empty, absent, no entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
    /// The least value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Json>,
    /// The greatest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Json>,
}

fn first_version() -> u16 {
    1
}

/// Why a component that data defines is not defined, read or written. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CustomError {
    /// The definition makes no sense.
    #[error("RK-SIM-030: definition of component `{component}`: {problem}")]
    Definition {
        /// The id that it gives.
        component: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The match has another definition of this id, which is not older.
    #[error(
        "RK-SIM-031: component `{component}` is defined in version {has}, and otherwise: version \
         {given} does not replace it"
    )]
    Version {
        /// Its id.
        component: String,
        /// The version that the match has.
        has: u16,
        /// The version that was given.
        given: u16,
    },
    /// The match has no such component, or it has no such field.
    #[error("RK-SIM-032: there is no {what} `{name}`{hint}")]
    Unknown {
        /// What was looked for.
        what: String,
        /// By which name.
        name: String,
        /// A name that is near.
        hint: String,
    },
    /// A value is not of the field's type, or outside of its range.
    #[error("RK-SIM-033: field `{field}` of component `{component}`: {problem}")]
    Value {
        /// The component's id.
        component: String,
        /// The field's name.
        field: String,
        /// What is wrong with the value.
        problem: String,
    },
    /// The entity is gone, or has no such component.
    #[error("RK-SIM-034: {entity:?} has no component `{component}`")]
    Absent {
        /// The component's id.
        component: String,
        /// The entity.
        entity: Entity,
    },
}

/// The bytes of one entity's component. Which fields they are, its definition says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row(pub(crate) Vec<u8>);

impl Value for Row {
    const MIN_SIZE: usize = 0;
    fn initial() -> Self {
        Self(Vec::new())
    }
    fn shape() -> Shape {
        Shape::Tuple(Vec::new())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn decode(_input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::Invalid("a row cannot be read without its definition"))
    }
}

impl Stored for Row {
    const ID: &'static str = "custom";
    const VERSION: u16 = 1;
}

impl Component for Row {
    const NET: &'static [NetFieldDef] = &[];
    fn to_quanta(&self, _quanta: &mut [u32]) {}
    fn from_quanta(_quanta: &[u32]) -> Self {
        Self::initial()
    }
}

/// The least and the greatest value of a field.
#[derive(Debug, Clone, PartialEq, Default)]
struct Limits {
    least: Option<Datum>,
    greatest: Option<Datum>,
}

/// A definition that was checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Defined {
    pub(crate) id: String,
    pub(crate) version: u16,
    /// A struct, whose fields have their defaults.
    pub(crate) shape: Shape,
    /// Of each field.
    limits: Vec<Limits>,
}

impl Defined {
    /// Checks a definition.
    pub(crate) fn new(given: &CustomDefinition) -> Result<Self, CustomError> {
        let fail =
            |problem: String| CustomError::Definition { component: given.id.clone(), problem };
        let (mut fields, mut limits) = (Vec::new(), Vec::new());
        for field in &given.fields {
            let named = |problem: String| fail(format!("field `{}`: {problem}", field.name));
            let shape = kind(&field.kind).ok_or_else(|| named(unknown_kind(&field.kind)))?;
            let read = |json: &Json| {
                let bytes = spell::bytes(&shape, json).map_err(named)?;
                shape.read(&mut Reader::new(&bytes)).map_err(|error| named(error.to_string()))
            };
            let least = field.min.as_ref().map(read).transpose()?;
            let greatest = field.max.as_ref().map(read).transpose()?;
            let default = match &field.default {
                Some(json) => read(json)?,
                None => zero(&shape),
            };
            let mut bytes = Vec::new();
            shape.convert(&default, &mut bytes).map_err(named)?;
            fields.push(Field {
                name: field.name.clone(),
                shape,
                default: bytes,
                former: Vec::new(),
                player: false,
            });
            limits.push(Limits { least, greatest });
        }
        let (id, version) = (given.id.clone(), given.version);
        let defined = Self { id, version, shape: Shape::Struct(fields), limits };
        defined.check().map_err(fail)?;
        Ok(defined)
    }

    /// What is wrong with it, whether it was given or lay in a checkpoint.
    fn check(&self) -> Result<(), String> {
        let good = |name: &str, more: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
            (1..=LONGEST).contains(&name.len()) && name.chars().all(fits)
        };
        if !good(&self.id, "-_.") {
            return Err(format!(
                "an id is 1 to {LONGEST} characters of `a-z`, `0-9`, `-`, `_` and `.`"
            ));
        }
        if self.version == 0 {
            return Err("versions begin with 1".to_owned());
        }
        if self.fields().len() > MOST_FIELDS {
            return Err(format!("it has more than {MOST_FIELDS} fields"));
        }
        for (place, (field, limits)) in self.fields().iter().zip(&self.limits).enumerate() {
            let name = &field.name;
            let problem = if !good(name, "_") {
                format!("a name is 1 to {LONGEST} characters of `a-z`, `0-9` and `_`")
            } else if self.fields()[..place].iter().any(|other| other.name == *name) {
                "there are two of this name".to_owned()
            } else if let Err(problem) = limits.check(&field.shape) {
                problem
            } else if let Err(problem) = self.value(place, &field.default) {
                format!("its default does not fit: {problem}")
            } else {
                continue;
            };
            return Err(format!("field `{name}`: {problem}"));
        }
        let size: usize = self.fields().iter().map(|field| field.default.len()).sum();
        if size > MOST_BYTES {
            return Err(format!("its defaults take {size} bytes: at most {MOST_BYTES}"));
        }
        Ok(())
    }

    pub(crate) fn fields(&self) -> &[Field] {
        match &self.shape {
            Shape::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// Reads the canonical bytes of a field; the problem if they are none, or outside of its range.
    fn value(&self, field: usize, bytes: &[u8]) -> Result<Datum, String> {
        let mut input = Reader::new(bytes);
        let value = self.fields()[field].shape.read(&mut input);
        let value = value.map_err(|error| error.to_string())?;
        input.finish().map_err(|error| error.to_string())?;
        self.limits[field].admit(&value)?;
        Ok(value)
    }

    /// Canonical bytes of a value of a field.
    fn bytes(&self, field: usize, value: &Datum) -> Result<Vec<u8>, CustomError> {
        let of = &self.fields()[field];
        let mut bytes = Vec::new();
        let fits = of.shape.convert(value, &mut bytes);
        fits.and_then(|()| self.value(field, &bytes).map(drop)).map_err(|problem| {
            CustomError::Value { component: self.id.clone(), field: of.name.clone(), problem }
        })?;
        Ok(bytes)
    }

    /// The place of a field.
    pub(crate) fn field(&self, name: &str) -> Result<usize, CustomError> {
        let place = self.fields().iter().position(|field| field.name == name);
        place.ok_or_else(|| CustomError::Unknown {
            what: format!("field of component `{}` that is called", self.id),
            name: name.to_owned(),
            hint: did_you_mean(name, self.fields().iter().map(|field| field.name.as_str())),
        })
    }

    /// A row with these values, and the defaults of the fields that are left out.
    pub(crate) fn row(&self, given: &[(&str, Datum)]) -> Result<Row, CustomError> {
        let mut parts: Vec<Vec<u8>> =
            self.fields().iter().map(|field| field.default.clone()).collect();
        for (name, value) in given {
            let field = self.field(name)?;
            parts[field] = self.bytes(field, value)?;
        }
        let row = parts.concat();
        self.fits(row.len(), given.last().map_or("", |(name, _)| name))?;
        Ok(Row(row))
    }

    /// Refuses a row of so many bytes, for the sake of a field.
    fn fits(&self, bytes: usize, field: &str) -> Result<(), CustomError> {
        if bytes <= MOST_BYTES {
            return Ok(());
        }
        Err(CustomError::Value {
            component: self.id.clone(),
            field: field.to_owned(),
            problem: format!("with it the component takes {bytes} bytes: at most {MOST_BYTES}"),
        })
    }

    /// Where a field lies in a row.
    fn place(&self, row: &Row, field: usize) -> Range<usize> {
        let mut input = Reader::new(&row.0);
        let mut from = 0;
        for of in &self.fields()[..=field] {
            from = row.0.len() - input.remaining();
            let read = match of.shape.size() {
                Some(size) => input.slice(size).map(drop),
                None => of.shape.read(&mut input).map(drop),
            };
            assert!(read.is_ok(), "a row of `{}` has other fields than its definition", self.id);
        }
        from..row.0.len() - input.remaining()
    }

    /// The value of a field of a row.
    pub(crate) fn get(&self, row: &Row, field: usize) -> Datum {
        let bytes = &row.0[self.place(row, field)];
        let value = self.fields()[field].shape.read(&mut Reader::new(bytes));
        value.unwrap_or_else(|error| panic!("a row of `{}`: {error}", self.id))
    }

    /// Sets a field of a row; whether it had another value.
    pub(crate) fn set(
        &self,
        row: &mut Row,
        field: usize,
        value: &Datum,
    ) -> Result<bool, CustomError> {
        let (bytes, place) = (self.bytes(field, value)?, self.place(row, field));
        if row.0[place.clone()] == bytes[..] {
            return Ok(false);
        }
        self.fits(row.0.len() - place.len() + bytes.len(), &self.fields()[field].name)?;
        row.0.splice(place, bytes);
        Ok(true)
    }

    /// A row of an earlier definition of this component: fields that both have keep their values,
    /// others have their defaults.
    pub(crate) fn adopt(&self, former: &Self, row: &Row) -> Result<Row, CustomError> {
        let mut given = Vec::new();
        for (place, field) in former.fields().iter().enumerate() {
            if self.field(&field.name).is_ok() {
                given.push((field.name.as_str(), former.get(row, place)));
            }
        }
        self.row(&given)
    }

    /// Reads a row, and checks it as if it were written by a system.
    pub(crate) fn read(&self, input: &mut Reader<'_>) -> Result<Row, DecodeError> {
        let mut row = Vec::new();
        for (place, field) in self.fields().iter().enumerate() {
            let value = field.shape.read(input)?;
            let bytes = self.bytes(place, &value);
            row.extend(bytes.map_err(|_| DecodeError::Invalid("a value outside of its range"))?);
        }
        if row.len() > MOST_BYTES {
            return Err(DecodeError::Invalid("a row that is longer than a row can be"));
        }
        Ok(Row(row))
    }

    /// Id, version, then of each field name, shape, default, least and greatest value; values as
    /// their bytes, the last two as options.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.id.encode(out);
        self.version.encode(out);
        (self.fields().len() as u32).encode(out);
        for (field, limits) in self.fields().iter().zip(&self.limits) {
            field.name.encode(out);
            field.shape.encode(out);
            field.default.encode(out);
            for limit in [&limits.least, &limits.greatest] {
                let bytes = limit.as_ref().map(|limit| {
                    let mut bytes = Vec::new();
                    let fits = field.shape.convert(limit, &mut bytes);
                    assert!(fits.is_ok(), "a limit of `{}` is not of its type", self.id);
                    bytes
                });
                bytes.encode(out);
            }
        }
    }

    /// Reads what [`Defined::encode`] wrote.
    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, String> {
        let text = |error: DecodeError| error.to_string();
        let id = String::decode(input).map_err(text)?;
        let version = u16::decode(input).map_err(text)?;
        let (mut fields, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..input.count(11).map_err(text)? {
            let name = String::decode(input).map_err(text)?;
            let shape = Shape::decode(input).map_err(text)?;
            if !is_kind(&shape, DEEPEST) {
                return Err(format!("component `{id}`: field `{name}` has a type of no field"));
            }
            let default = Vec::<u8>::decode(input).map_err(text)?;
            let mut limit = || -> Result<Option<Datum>, String> {
                let bytes = Option::<Vec<u8>>::decode(input).map_err(text)?;
                let read = |bytes: Vec<u8>| shape.read(&mut Reader::new(&bytes)).map_err(text);
                bytes.map(read).transpose()
            };
            limits.push(Limits { least: limit()?, greatest: limit()? });
            let (former, player) = (Vec::new(), false);
            fields.push(Field { name, shape, default, former, player });
        }
        let defined = Self { id, version, shape: Shape::Struct(fields), limits };
        defined.check().map_err(|problem| format!("component `{}`: {problem}", defined.id))?;
        Ok(defined)
    }
}

impl Limits {
    /// Limits are of numbers, and the least comes first.
    fn check(&self, shape: &Shape) -> Result<(), String> {
        let any = self.least.is_some() || self.greatest.is_some();
        let number = !matches!(
            shape,
            Shape::Bool | Shape::String | Shape::Entity | Shape::Option(_) | Shape::List(_)
        );
        if any && !number {
            return Err("only numbers have `min` and `max`".to_owned());
        }
        match (&self.least, &self.greatest) {
            (Some(least), Some(greatest)) if !at_most(least, greatest) => {
                Err("`min` is greater than `max`".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn admit(&self, value: &Datum) -> Result<(), String> {
        let least = self.least.as_ref().filter(|least| !at_most(least, value));
        let greatest = self.greatest.as_ref().filter(|greatest| !at_most(value, greatest));
        match (least, greatest) {
            (Some(least), _) => Err(format!("{value} is less than {least}")),
            (_, Some(greatest)) => Err(format!("{value} is more than {greatest}")),
            (None, None) => Ok(()),
        }
    }
}

/// Of two numbers of one type.
fn at_most(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Int(a), Datum::Int(b)) => a <= b,
        (Datum::Float(a), Datum::Float(b)) => a <= b,
        _ => false,
    }
}

/// Types nest at most this deep.
const DEEPEST: usize = 3;

const KINDS: [(&str, Shape); 13] = [
    ("bool", Shape::Bool),
    ("u8", Shape::U8),
    ("u16", Shape::U16),
    ("u32", Shape::U32),
    ("u64", Shape::U64),
    ("i8", Shape::I8),
    ("i16", Shape::I16),
    ("i32", Shape::I32),
    ("i64", Shape::I64),
    ("f32", Shape::F32),
    ("f64", Shape::F64),
    ("text", Shape::String),
    ("entity", Shape::Entity),
];

/// The shape that a type names.
fn kind(text: &str) -> Option<Shape> {
    let shape = if let Some(of) = text.strip_suffix('?') {
        Shape::Option(Box::new(kind(of)?))
    } else if let Some(of) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Shape::List(Box::new(kind(of)?))
    } else {
        KINDS.iter().find(|(name, _)| *name == text)?.1.clone()
    };
    (text.len() <= LONGEST && is_kind(&shape, DEEPEST)).then_some(shape)
}

/// Whether a field can have this shape.
fn is_kind(shape: &Shape, depth: usize) -> bool {
    match shape {
        Shape::Option(of) | Shape::List(of) => depth > 1 && is_kind(of, depth - 1),
        primitive => KINDS.iter().any(|(_, known)| known == primitive),
    }
}

fn unknown_kind(text: &str) -> String {
    let names = || KINDS.iter().map(|(name, _)| *name);
    let known: Vec<_> = names().map(|name| format!("`{name}`")).collect();
    let near = did_you_mean(text, names());
    format!(
        "there is no type `{text}`{near}: there are {}, each with `?` or in brackets, up to \
         {DEEPEST} deep",
        known.join(", ")
    )
}

/// What a field has that has no default.
fn zero(shape: &Shape) -> Datum {
    match shape {
        Shape::Bool => Datum::Bool(false),
        Shape::F32 | Shape::F64 => Datum::Float(0.0),
        Shape::String => Datum::String(String::new()),
        Shape::Entity => Entity::NONE.into(),
        Shape::Option(_) => Datum::Option(None),
        Shape::List(_) => Datum::List(Vec::new()),
        _ => Datum::Int(0),
    }
}
