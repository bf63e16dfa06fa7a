//! Worlds as JSON, for people.

use serde_json::{Map, Value as Json, json};

use crate::ecs::world::World;
use crate::storage::column::bits;
use crate::value::Reader;
use crate::value::shape::{Datum, Shape};

/// Tick, resources by id, and entities with their components by id.
pub(crate) fn world(world: &World) -> Json {
    let mut bytes = Vec::new();
    let mut resources = Map::new();
    for (resource, stored) in world.resources.iter().zip(&world.registry.resources.list) {
        bytes.clear();
        resource.encode_value(&mut bytes);
        resources.insert(stored.id.to_owned(), read(&stored.shape, &bytes));
    }
    let mut entities = Vec::new();
    for (page, word) in world.entities.words().iter().enumerate() {
        for bit in bits(*word) {
            let slot = page * 64 + bit;
            let mut components = Map::new();
            for (column, (id, shape)) in world.columns.iter().zip(world.components()) {
                bytes.clear();
                if column.encode_slot(slot, &mut bytes) {
                    components.insert(id.to_owned(), read(shape, &bytes));
                }
            }
            let entity = world.entities.in_slot(slot);
            entities.push(json!({
                "slot": entity.slot(),
                "generation": entity.generation(),
                "components": components,
            }));
        }
    }
    json!({
        "tick": world.tick.0,
        "tick_rate": world.tick_rate,
        "seed": world.seed,
        "resources": resources,
        "entities": entities,
    })
}

fn read(shape: &Shape, bytes: &[u8]) -> Json {
    shape.read(&mut Reader::new(bytes)).map_or(Json::Null, |datum| datum_json(&datum))
}

pub(crate) fn datum_json(datum: &Datum) -> Json {
    let fields = |fields: &std::collections::BTreeMap<String, Datum>| {
        Json::Object(fields.iter().map(|(name, datum)| (name.clone(), datum_json(datum))).collect())
    };
    match datum {
        Datum::Int(number) => u64::try_from(*number)
            .map(Json::from)
            .or_else(|_| i64::try_from(*number).map(Json::from))
            .unwrap_or_else(|_| json!(number.to_string())),
        // JSON knows no NaN and no infinities.
        Datum::Float(number) => serde_json::Number::from_f64(*number)
            .map_or_else(|| json!(number.to_string()), Json::Number),
        Datum::Bool(flag) => json!(flag),
        Datum::Entity(u32::MAX, 0) => Json::Null,
        Datum::Entity(slot, generation) => json!(format!("{slot}v{generation}")),
        Datum::String(text) => json!(text),
        Datum::Option(of) => of.as_ref().map_or(Json::Null, |datum| datum_json(datum)),
        Datum::List(of) => Json::Array(of.iter().map(datum_json).collect()),
        Datum::Map(of) => Json::Array(
            of.iter().map(|(key, value)| json!([datum_json(key), datum_json(value)])).collect(),
        ),
        Datum::Struct(of) if of.is_empty() => json!(true),
        Datum::Struct(of) => fields(of),
        Datum::Enum(name, of) if of.is_empty() => json!(name),
        Datum::Enum(name, of) => json!({ name.as_str(): fields(of) }),
    }
}
