//! Canonical bytes of a match, and a match from such bytes.
//!
//! | part | content |
//! |---|---|
//! | tag | `u16` [`STATE_TAG`]; [`CUSTOM_TAG`] if the match defines components of its own |
//! | game | name as string |
//! | schema | length as `u32`, then [`Schema`]: what follows is read by it |
//! | body | see [`encode_body`]; the state hash is BLAKE3 of it |
//!
//! All values in canonical form, see [`crate::value`]. If the schema is that of the running build,
//! byte for byte, the body is decoded directly. Otherwise each part whose schema differs is brought
//! up to date by field name, see [`crate::persist::migrate`].

use std::sync::Arc;

use rekindle_schema::Tick;
use rekindle_schema::record::{Effect, EffectId};

use crate::custom::define::{Defined, MOST, Row};
use crate::ecs::registry::{Registry, StoredType};
use crate::ecs::schedule::Schedule;
use crate::ecs::world::World;
use crate::storage::column::Column;
use crate::storage::entities::Entities;
use crate::storage::layout::Marks;
use crate::storage::stamp::Stamp;
use crate::value::entity::Entity;
use crate::value::shape::Shape;
use crate::value::{DecodeError, Reader, Value};

/// Format tag of a state.
pub(crate) const STATE_TAG: u16 = 0x2101;
/// Format tag of a state that begins with the definitions of [components](crate::custom) that the
/// match has beside those of its game.
pub(crate) const CUSTOM_TAG: u16 = 0x2102;
/// The form in which these definitions are written.
const CUSTOM_FORM: u16 = 1;

/// One stored type as a checkpoint knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) version: u16,
    pub(crate) shape: Shape,
}

/// What the body of a checkpoint consists of: components, resources and events ascending by id,
/// systems in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) components: Vec<Entry>,
    pub(crate) resources: Vec<Entry>,
    pub(crate) events: Vec<Entry>,
    pub(crate) systems: Vec<String>,
}

fn entries<S: ?Sized>(types: &[StoredType<S>]) -> Vec<Entry> {
    types
        .iter()
        .map(|stored| Entry {
            id: stored.id.to_owned(),
            version: stored.version,
            shape: stored.shape.clone(),
        })
        .collect()
}

impl Schema {
    pub(crate) fn of(registry: &Registry, schedule: &Schedule) -> Self {
        Self {
            components: entries(&registry.components.list),
            resources: entries(&registry.resources.list),
            events: entries(&registry.events.list),
            systems: schedule.names().map(str::to_owned).collect(),
        }
    }

    /// Three lists of (id, version, shape), then the names of the systems.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for list in [&self.components, &self.resources, &self.events] {
            (list.len() as u32).encode(&mut out);
            for entry in list {
                entry.id.encode(&mut out);
                entry.version.encode(&mut out);
                entry.shape.encode(&mut out);
            }
        }
        self.systems.encode(&mut out);
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let list = |input: &mut Reader<'_>| -> Result<Vec<Entry>, DecodeError> {
            let count = input.count(7)?;
            let entry = |_| {
                Ok::<_, DecodeError>(Entry {
                    id: String::decode(input)?,
                    version: u16::decode(input)?,
                    shape: Shape::decode(input)?,
                })
            };
            let list: Vec<Entry> = (0..count).map(entry).collect::<Result<_, _>>()?;
            let ascending = list.windows(2).all(|pair| pair[0].id < pair[1].id);
            if ascending {
                Ok(list)
            } else {
                Err(DecodeError::Invalid("the parts of the schema do not ascend"))
            }
        };
        let schema = Self {
            components: list(&mut input)?,
            resources: list(&mut input)?,
            events: list(&mut input)?,
            systems: Vec::decode(&mut input)?,
        };
        input.finish()?;
        Ok(schema)
    }
}

/// Appends the body: configuration as JSON, seed, tick rate, tick; entities; columns; removals;
/// resources; events; when each system last ran; open effects. `marks`, if wanted, are told where
/// each part ends.
pub(crate) fn encode_body(
    world: &World,
    config: &[u8],
    effects: &[Effect],
    out: &mut Vec<u8>,
    mut marks: Option<&mut Marks>,
) {
    fn end(marks: &mut Option<&mut Marks>, out: &[u8]) {
        if let Some(marks) = marks {
            marks.end(out.len());
        }
    }
    end(&mut marks, out);
    encode_start(world, config, out);
    end(&mut marks, out);
    world.entities.encode(out);
    end(&mut marks, out);
    for column in &world.columns {
        column.encode(out, marks.as_deref_mut().map(|marks| &mut marks.pages));
        if let Some(marks) = &mut marks {
            marks.end_column(out.len());
        }
    }
    world.encode_removed(out);
    end(&mut marks, out);
    for resource in &world.resources {
        resource.changed().encode(out);
        resource.encode_value(out);
        end(&mut marks, out);
    }
    for queue in &world.events {
        queue.encode(out);
        end(&mut marks, out);
    }
    world.last_runs.iter().for_each(|last| last.encode(out));
    end(&mut marks, out);
    encode_effects(effects, out);
    end(&mut marks, out);
}

pub(crate) fn encode_start(world: &World, config: &[u8], out: &mut Vec<u8>) {
    if !world.custom.is_empty() {
        CUSTOM_FORM.encode(out);
        (world.custom.len() as u32).encode(out);
        world.custom.iter().for_each(|defined| defined.encode(out));
    }
    (config.len() as u32).encode(out);
    out.extend_from_slice(config);
    world.seed.encode(out);
    world.tick_rate.encode(out);
    world.tick.encode(out);
}

/// The tick that a start, as [`encode_start`] wrote it, ends with; 0 if it is too short.
pub(crate) fn tick_of_start(start: &[u8]) -> Tick {
    start.last_chunk().map_or(Tick(0), |tick| Tick(u64::from_le_bytes(*tick)))
}

pub(crate) fn encode_effects(effects: &[Effect], out: &mut Vec<u8>) {
    (effects.len() as u32).encode(out);
    for effect in effects {
        effect.id.tick.encode(out);
        effect.id.ordinal.encode(out);
        (effect.kind.len() as u32).encode(out);
        out.extend_from_slice(effect.kind.as_bytes());
        (effect.payload.len() as u32).encode(out);
        out.extend_from_slice(&effect.payload);
    }
}

/// The parts of a checkpoint in front of its body.
pub(crate) struct Head<'a> {
    /// The body begins with definitions of components.
    pub(crate) custom: bool,
    pub(crate) game: String,
    pub(crate) schema: &'a [u8],
    pub(crate) body: &'a [u8],
}

pub(crate) fn encode_head(world: &World, game: &str, schema: &[u8], out: &mut Vec<u8>) {
    let tag = if world.custom.is_empty() { STATE_TAG } else { CUSTOM_TAG };
    tag.encode(out);
    (game.len() as u32).encode(out);
    out.extend_from_slice(game.as_bytes());
    (schema.len() as u32).encode(out);
    out.extend_from_slice(schema);
}

pub(crate) fn decode_head(bytes: &[u8]) -> Result<Head<'_>, String> {
    let mut input = Reader::new(bytes);
    let tag = u16::decode(&mut input).map_err(|error| error.to_string())?;
    let custom = tag == CUSTOM_TAG;
    if tag != STATE_TAG && !custom {
        return Err(format!(
            "format tag {tag:#06x} where {STATE_TAG:#06x} or {CUSTOM_TAG:#06x} was expected: other \
             data, or written by another version"
        ));
    }
    let mut rest = || {
        let game = String::decode(&mut input)?;
        let len = input.count(1)?;
        let schema = input.slice(len)?;
        Ok(Head { custom, game, schema, body: input.slice(input.remaining())? })
    };
    rest().map_err(|error: DecodeError| error.to_string())
}

/// What stands in a body before the entities.
pub(crate) struct Start<'a> {
    /// Definitions of components.
    pub(crate) custom: Vec<Defined>,
    pub(crate) config: &'a [u8],
    pub(crate) seed: u64,
    pub(crate) tick_rate: u16,
    pub(crate) tick: Tick,
}

pub(crate) fn decode_start<'a>(body: &mut Reader<'a>, custom: bool) -> Result<Start<'a>, String> {
    let custom = if custom { decode_custom(body)? } else { Vec::new() };
    let rest = |input: &mut Reader<'a>| {
        let len = input.count(1)?;
        let config = input.slice(len)?;
        let start = Start {
            custom,
            config,
            seed: u64::decode(input)?,
            tick_rate: u16::decode(input)?,
            tick: Tick::decode(input)?,
        };
        if start.tick_rate == 0 || start.tick.0 >= 1 << 62 {
            return Err(DecodeError::Invalid("a tick, or a tick rate, that no match has"));
        }
        Ok(start)
    };
    rest(body).map_err(|error| error.to_string())
}

fn decode_custom(input: &mut Reader<'_>) -> Result<Vec<Defined>, String> {
    let form = u16::decode(input).map_err(|error| error.to_string())?;
    if form != CUSTOM_FORM {
        return Err(format!(
            "its definitions of components have form {form}, and this build reads form \
             {CUSTOM_FORM}: run the build that wrote it"
        ));
    }
    let count = input.count(10).map_err(|error| error.to_string())?;
    if count > MOST {
        return Err(format!("it defines {count} components: a match has at most {MOST}"));
    }
    (0..count).map(|_| Defined::decode(input)).collect()
}

/// Gives a new world what its match defines.
pub(crate) fn define_all(world: &mut World, custom: Vec<Defined>) -> Result<(), String> {
    for defined in custom {
        let id = defined.id.clone();
        world.refuse_id(&id).map_err(within("component that the match defines", &id))?;
        if world.custom.iter().any(|known| known.id == id) {
            return Err(format!("it defines component `{id}` twice"));
        }
        world.push_custom(defined);
    }
    Ok(())
}

/// Reads the columns of what the match defines, behind those of the game.
pub(crate) fn decode_custom_columns(
    world: &mut World,
    input: &mut Reader<'_>,
) -> Result<(), String> {
    let first = world.registry.components.list.len();
    for (column, defined) in world.columns[first..].iter_mut().zip(&world.custom) {
        if let Some(column) = column.as_any_mut().downcast_mut::<Column<Row>>() {
            column
                .decode_pages(input, &world.entities, |input| defined.read(input))
                .map_err(within("component", &defined.id))?;
        }
    }
    Ok(())
}

/// Reads what was removed of them, behind what was of the game's components.
pub(crate) fn decode_custom_removed(
    world: &mut World,
    input: &mut Reader<'_>,
) -> Result<(), String> {
    let first = world.registry.components.list.len();
    for (removed, defined) in world.removed[first..].iter_mut().zip(&world.custom) {
        *removed = decode_removed(input).map_err(within("removals of component", &defined.id))?;
    }
    Ok(())
}

/// Fills a new world from the rest of a body that has the schema of the running build, and returns
/// the open effects.
pub(crate) fn decode_world(
    world: &mut World,
    input: &mut Reader<'_>,
) -> Result<Vec<Effect>, String> {
    let registry = Arc::clone(&world.registry);
    world.entities = Entities::decode(input).map_err(within("entities", ""))?;
    for (column, stored) in world.columns.iter_mut().zip(&registry.components.list) {
        column.decode(input, &world.entities).map_err(within("component", stored.id))?;
    }
    decode_custom_columns(world, input)?;
    for (removed, stored) in world.removed.iter_mut().zip(&registry.components.list) {
        *removed = decode_removed(input).map_err(within("removals of component", stored.id))?;
    }
    decode_custom_removed(world, input)?;
    for (resource, stored) in world.resources.iter_mut().zip(&registry.resources.list) {
        let result = u32::decode(input).and_then(|changed| {
            resource.set_changed(changed);
            resource.decode_value(input)
        });
        result.map_err(within("resource", stored.id))?;
    }
    for (queue, stored) in world.events.iter_mut().zip(&registry.events.list) {
        queue.decode(input).map_err(within("event", stored.id))?;
    }
    for last in &mut world.last_runs {
        *last = u32::decode(input).map_err(within("systems", ""))?;
    }
    world.relate_all();
    decode_effects(input).map_err(within("effects", ""))
}

/// Says in which part of a body an error is.
pub(crate) fn within<'a, E: ToString>(
    what: &'a str,
    id: &'a str,
) -> impl Fn(E) -> String + use<'a, E> {
    move |error| format!("{what} `{id}`: {}", error.to_string())
}

pub(crate) fn decode_removed(input: &mut Reader<'_>) -> Result<Vec<(Stamp, Entity)>, DecodeError> {
    let count = input.count(12)?;
    (0..count).map(|_| Ok((u32::decode(input)?, Entity::decode(input)?))).collect()
}

pub(crate) fn decode_effects(input: &mut Reader<'_>) -> Result<Vec<Effect>, DecodeError> {
    let count = input.count(20)?;
    let effect = |_| {
        let id = EffectId { tick: Tick::decode(input)?, ordinal: u32::decode(input)? };
        let kind = String::decode(input)?;
        let len = input.count(1)?;
        Ok(Effect { id, kind, payload: bytes::Bytes::copy_from_slice(input.slice(len)?) })
    };
    (0..count).map(effect).collect()
}
