//! What the bytes in a game's journal say: inputs, commands and told events, by the names of their
//! fields. For people and programs that look into a journal without being written for the game.
//!
//! Made by [`crate::Typed`] from the game's declarations; read through
//! [`GameType::payloads`](crate::GameType::payloads).

use std::collections::BTreeMap;

use rekindle_schema::PlayerId;
use rekindle_schema::record::Event as Fact;
use serde_json::Value as Json;

use crate::ecs::registry::did_you_mean;
use crate::persist::describe::datum_json;
use crate::persist::spell;
use crate::value::shape::{Datum, Field, Shape};
use crate::value::{DecodeError, Reader};

/// What effects are called that hand a told event to functions of the executable: this and the
/// event's id.
const DELIVERY: &str = "event:";

/// The kind of the effect that hands the events with this id to functions of the executable.
pub fn delivery_kind(id: &str) -> String {
    format!("{DELIVERY}{id}")
}

/// A kind of event that players are told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) shape: Shape,
    /// It is handed to functions of the executable as well.
    pub(crate) delivered: bool,
}

/// How inputs, commands and told events of a game are read.
///
/// ```
/// use rekindle_sim::doc_game::{Collected, Duel};
/// use rekindle_sim::{GameType as _, PlayerId, Typed, value};
///
/// let game = Typed::<Duel>::new()?;
/// let payloads = game.payloads();
/// let bytes = value::to_bytes(&Collected { player: PlayerId(7), worth: 2 });
/// let read = payloads.event("collected", &bytes).unwrap();
/// assert_eq!(read.to_string(), r#"{"player":7,"worth":2}"#);
/// let why = payloads.event("colected", &bytes).unwrap_err();
/// assert!(why.contains("did you mean `collected`?"));
/// # Ok::<(), rekindle_sim::SimError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Payloads {
    input: Option<Shape>,
    command: Option<Shape>,
    told: BTreeMap<String, Told>,
}

impl Payloads {
    pub(crate) fn new(input: Shape, command: Shape, told: BTreeMap<String, Told>) -> Self {
        Self { input: Some(input), command: Some(command), told }
    }

    /// The kinds of event that the game declares, ascending.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.told.keys().map(String::as_str)
    }

    /// Whether events of this kind are handed to functions of the executable.
    pub fn delivers(&self, kind: &str) -> bool {
        self.told.get(kind).is_some_and(|told| told.delivered)
    }

    /// An input by its fields; why not, if it cannot be read.
    pub fn input(&self, payload: &[u8]) -> Result<Json, String> {
        read(self.input.as_ref(), payload)
    }

    /// A command by its fields; why not, if it cannot be read.
    pub fn command(&self, payload: &[u8]) -> Result<Json, String> {
        read(self.command.as_ref(), payload)
    }

    /// The bytes of an input from its fields: the way back from [`Payloads::input`].
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Ask, Duel};
    /// use rekindle_sim::{GameType as _, Typed, value};
    /// use serde_json::json;
    ///
    /// let game = Typed::<Duel>::new()?;
    /// let say = json!({ "Say": { "text": "hello" } });
    /// let bytes = game.payloads().command_from(&say).unwrap();
    /// assert_eq!(bytes, value::to_bytes(&Ask::Say { text: "hello".into() }));
    /// assert_eq!(game.payloads().command(&bytes), Ok(say));
    /// let why = game.payloads().command_from(&json!({ "Say": { "txt": "?" } })).unwrap_err();
    /// assert!(why.contains("no field `txt`; there are `text`"), "{why}");
    /// # Ok::<(), rekindle_sim::SimError>(())
    /// ```
    pub fn input_from(&self, fields: &Json) -> Result<Vec<u8>, String> {
        spelled(self.input.as_ref(), fields)
    }

    /// The bytes of a command from its fields: the way back from [`Payloads::command`].
    pub fn command_from(&self, fields: &Json) -> Result<Vec<u8>, String> {
        spelled(self.command.as_ref(), fields)
    }

    /// The layouts of inputs and of commands.
    pub(crate) fn asked(&self) -> [Option<&Shape>; 2] {
        [self.input.as_ref(), self.command.as_ref()]
    }

    /// A told event by its fields; why not, if it cannot be read.
    pub fn event(&self, kind: &str, payload: &[u8]) -> Result<Json, String> {
        let told = self.told.get(kind).ok_or_else(|| {
            format!("the game declares no event `{kind}`{}", did_you_mean(kind, self.kinds()))
        })?;
        read(Some(&told.shape), payload)
    }

    /// Whether an event concerns a player: it was told to that player alone, or one of its fields
    /// is that player.
    pub fn concerns(&self, event: &Fact, player: PlayerId) -> bool {
        let in_fields = || {
            let shape = &self.told.get(&event.kind)?.shape;
            let datum = datum(shape, &event.payload).ok()?;
            Some(names(shape, &datum, player))
        };
        event.player == Some(player) || in_fields().unwrap_or(false)
    }
}

fn read(shape: Option<&Shape>, payload: &[u8]) -> Result<Json, String> {
    let shape = shape.ok_or_else(|| "the game does not say what is in it".to_owned())?;
    datum(shape, payload).map(|datum| datum_json(&datum)).map_err(|error| error.to_string())
}

fn spelled(shape: Option<&Shape>, fields: &Json) -> Result<Vec<u8>, String> {
    let shape = shape.ok_or_else(|| "the game does not say what is in it".to_owned())?;
    spell::bytes(shape, fields)
}

/// A value that takes all of the bytes.
fn datum(shape: &Shape, payload: &[u8]) -> Result<Datum, DecodeError> {
    let mut input = Reader::new(payload);
    let datum = shape.read(&mut input)?;
    input.finish()?;
    Ok(datum)
}

/// Whether a field of the value, or of what is in it, is this player.
fn names(shape: &Shape, datum: &Datum, player: PlayerId) -> bool {
    let of_fields = |fields: &[Field], data: &BTreeMap<String, Datum>| {
        fields.iter().any(|field| {
            data.get(&field.name).is_some_and(|datum| {
                if field.player { is(datum, player) } else { names(&field.shape, datum, player) }
            })
        })
    };
    match (shape, datum) {
        (Shape::Struct(fields), Datum::Struct(data)) => of_fields(fields, data),
        (Shape::Enum(variants), Datum::Enum(name, data)) => variants
            .iter()
            .find(|(variant, _)| variant == name)
            .is_some_and(|(_, fields)| of_fields(fields, data)),
        (Shape::Option(of), Datum::Option(Some(datum))) => names(of, datum, player),
        (Shape::Array(_, of) | Shape::List(of), Datum::List(all)) => {
            all.iter().any(|datum| names(of, datum, player))
        }
        _ => false,
    }
}

/// Whether a value that consists of players names this one.
fn is(datum: &Datum, player: PlayerId) -> bool {
    match datum {
        Datum::Int(number) => *number == i128::from(player.0),
        Datum::Option(of) => of.as_ref().is_some_and(|of| is(of, player)),
        Datum::List(all) => all.iter().any(|datum| is(datum, player)),
        _ => false,
    }
}
