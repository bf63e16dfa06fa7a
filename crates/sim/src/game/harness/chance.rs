//! Values by chance, of any shape: what players might send that no bot does.
//!
//! Called by [`super::property`]. The same seed gives the same values.

use std::collections::BTreeMap;

use rekindle_schema::PlayerId;

use crate::Rng;
use crate::ecs::world::World;
use crate::storage::column::bits;
use crate::value::entity::Entity;
use crate::value::shape::{Datum, Field, Shape};

/// What a value may name: chosen from what there is, so that it means something now and then.
pub(super) struct Names {
    players: Vec<PlayerId>,
    entities: Vec<Entity>,
}

impl Names {
    pub(super) fn of(world: &World, players: &[PlayerId]) -> Self {
        let pages = world.entities.words().iter().enumerate();
        let slots = pages.flat_map(|(page, word)| bits(*word).map(move |bit| page * 64 + bit));
        let entities = slots.map(|slot| world.entities.in_slot(slot)).collect();
        Self { players: players.to_vec(), entities }
    }
}

/// The canonical bytes of a value of this shape, which must be one of the running build.
pub(super) fn bytes(shape: &Shape, rng: &mut Rng, names: &Names) -> Vec<u8> {
    let mut out = Vec::new();
    let drawn = shape.convert(&datum(shape, rng, names), &mut out);
    debug_assert!(drawn.is_ok(), "a value that was drawn for a shape has it: {drawn:?}");
    out
}

fn datum(shape: &Shape, rng: &mut Rng, names: &Names) -> Datum {
    let list = |count: u32, of: &Shape, rng: &mut Rng| {
        Datum::List((0..count).map(|_| datum(of, rng, names)).collect())
    };
    match shape {
        Shape::U8 => int(0, u8::MAX.into(), rng),
        Shape::U16 => int(0, u16::MAX.into(), rng),
        Shape::U32 => int(0, u32::MAX.into(), rng),
        Shape::U64 => int(0, u64::MAX.into(), rng),
        Shape::I8 => int(i8::MIN.into(), i8::MAX.into(), rng),
        Shape::I16 => int(i16::MIN.into(), i16::MAX.into(), rng),
        Shape::I32 => int(i32::MIN.into(), i32::MAX.into(), rng),
        Shape::I64 => int(i64::MIN.into(), i64::MAX.into(), rng),
        Shape::F32 => Datum::Float(float(rng, f32::MAX.into())),
        Shape::F64 => Datum::Float(float(rng, f64::MAX)),
        Shape::Bool => Datum::Bool(rng.one_in(2)),
        Shape::Entity => {
            let none = rng.one_in(8);
            let picked = rng.pick(&names.entities).filter(|_| !none);
            picked.map_or(Datum::Entity(u32::MAX, 0), |entity| {
                Datum::Entity(entity.slot(), entity.generation())
            })
        }
        Shape::String => {
            let texts = ["", "a", "hello", "Straße 🎲", "'; -- \"\\", &"x".repeat(100)];
            Datum::String(texts[rng.below(texts.len() as u32) as usize].to_owned())
        }
        Shape::Option(_) if rng.one_in(3) => Datum::Option(None),
        Shape::Option(of) => Datum::Option(Some(Box::new(datum(of, rng, names)))),
        Shape::Array(count, of) => list(*count, of, rng),
        Shape::List(of) => list(rng.below(5), of, rng),
        // One entry at most: keys are ascending.
        Shape::Map(key, value) => Datum::Map(
            (0..rng.below(2)).map(|_| (datum(key, rng, names), datum(value, rng, names))).collect(),
        ),
        Shape::Tuple(of) => Datum::List(of.iter().map(|of| datum(of, rng, names)).collect()),
        Shape::Struct(of) => Datum::Struct(fields(of, rng, names)),
        Shape::Enum(variants) => match rng.pick(variants) {
            Some((name, of)) => Datum::Enum(name.clone(), fields(of, rng, names)),
            None => Datum::Enum(String::new(), BTreeMap::new()),
        },
    }
}

fn fields(of: &[Field], rng: &mut Rng, names: &Names) -> BTreeMap<String, Datum> {
    let field = |field: &Field| {
        let player = rng.pick(&names.players).filter(|_| field.player && field.shape == Shape::U64);
        let value = match player {
            Some(player) => Datum::Int(player.0.into()),
            None => datum(&field.shape, rng, names),
        };
        (field.name.clone(), value)
    };
    of.iter().map(field).collect()
}

/// Mostly small ones, now and then the ends.
fn int(least: i128, most: i128, rng: &mut Rng) -> Datum {
    Datum::Int(match rng.below(8) {
        0 => least,
        1 => most,
        2 => 0,
        3 => least + i128::from(rng.next_u64()) % (most - least + 1),
        _ => i128::from(rng.below(17)).min(most),
    })
}

fn float(rng: &mut Rng, most: f64) -> f64 {
    match rng.below(16) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => -most,
        3 => 0.0,
        4 => 1.0,
        5 => -1.0,
        6..8 => f64::from(rng.range(-1000.0, 1000.0)),
        _ => f64::from(rng.range(-1.0, 1.0)),
    }
}
