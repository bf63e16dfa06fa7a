//! Reads a checkpoint of another build: parts are matched by id, and those whose fields or version
//! differ are converted by field name.
//!
//! | the old build has | this build has | |
//! |---|---|---|
//! | same version and fields | | taken as it is |
//! | other version or fields | | [`Stored::migrate`], then fields by name, or defaults |
//! | a higher version | | refused: the checkpoint is of a newer build |
//! | a field | none of that name, and none that had it | left out, and said: [`dropped`] |
//! | nothing | something | empty, or the defaults |
//! | something | nothing | refused, unless it is [`retired`] or there is none of it |
//! | state of a system, a statistic | none of that name | left out, and said: [`dropped`] |
//! | an entity without what it must have | a component requires it | defaults, said: [`filled`] |
//!
//! [`Stored::migrate`]: crate::value::component::Stored::migrate
//! [`dropped`]: crate::Simulation::dropped
//! [`filled`]: crate::Simulation::filled
//! [`retired`]: crate::GameBuilder::retired

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rekindle_schema::record::Effect;

use crate::ecs::registry::{self, StoredType, StoredTypes};
use crate::ecs::world::World;
use crate::persist::checkpoint::{
    Entry, Schema, decode_custom_columns, decode_custom_removed, decode_effects, decode_removed,
    within,
};
use crate::storage::column::{bits, slots};
use crate::storage::entities::Entities;
use crate::storage::stamp::Stamp;
use crate::value::shape::Shape;
use crate::value::{DecodeError, Reader, Value};

/// How the entry of an old schema is read.
enum Fate<'k, S: ?Sized> {
    /// As it is, into the part with this index.
    Same(usize),
    /// Converted, into the part with this index.
    Converted(usize, &'k StoredType<S>),
    /// Read and left out.
    Retired,
    /// Refused if there is any.
    Unknown,
}

fn fate<'k, S: ?Sized>(
    old: &Entry,
    types: &'k StoredTypes<S>,
    retired: &[&str],
) -> Result<Fate<'k, S>, String> {
    let Ok(index) = types.list.binary_search_by(|stored| stored.id.cmp(&old.id)) else {
        // The state of a system goes with it, and what a statistic had counted.
        let goes = retired.contains(&old.id.as_str())
            || old.id.starts_with(registry::LOCAL)
            || old.id.starts_with(registry::STATISTIC);
        return Ok(if goes { Fate::Retired } else { Fate::Unknown });
    };
    let stored = &types.list[index];
    if old.version > stored.version {
        return Err(format!(
            "its version {} is newer than version {} of this build: run the build that wrote it",
            old.version, stored.version
        ));
    }
    let same = old.version == stored.version && encoded(&old.shape) == encoded(&stored.shape);
    Ok(if same { Fate::Same(index) } else { Fate::Converted(index, stored) })
}

fn encoded(shape: &Shape) -> Vec<u8> {
    let mut out = Vec::new();
    shape.encode(&mut out);
    out
}

/// Reads one old value, and returns its bytes in today's form.
fn convert<S: ?Sized>(
    old: &Entry,
    stored: &StoredType<S>,
    input: &mut Reader<'_>,
    dropped: &mut BTreeSet<String>,
) -> Result<Vec<u8>, String> {
    let mut datum = old.shape.read(input).map_err(|error| error.to_string())?;
    (stored.migrate)(old.version, &mut datum)?;
    stored.shape.unread(&datum, &format!("{}.", old.id), dropped);
    let mut out = Vec::new();
    stored.shape.convert(&datum, &mut out)?;
    Ok(out)
}

fn unknown(what: &str) -> String {
    format!(
        "this build has no such {what}: if it was dropped on purpose, say so with \
         `game.retired(\"…\")`"
    )
}

/// What a checkpoint of another build brought.
pub(crate) struct Migrated {
    /// The open effects.
    pub(crate) effects: Vec<Effect>,
    /// What has no place in this build, ascending: `component-id.field`, or the id of something
    /// retired.
    pub(crate) dropped: Vec<String>,
    /// What entities got because other components of theirs require it, ascending.
    pub(crate) filled: Vec<String>,
}

/// Fills a new world from the rest of a body with an old schema.
pub(crate) fn decode_world(
    world: &mut World,
    old: &Schema,
    names: &[&str],
    retired: &[&str],
    input: &mut Reader<'_>,
) -> Result<Migrated, String> {
    let mut dropped = BTreeSet::new();
    let registry = Arc::clone(&world.registry);
    world.entities = Entities::decode(input).map_err(within("entities", ""))?;
    for entry in &old.components {
        let result = match fate(entry, &registry.components, retired) {
            Ok(Fate::Same(index)) => world.columns[index]
                .decode(input, &world.entities)
                .map_err(|error| error.to_string()),
            Ok(Fate::Converted(index, stored)) => {
                world.columns[index].decode_with(input, &world.entities, &mut |input| {
                    convert(entry, stored, input, &mut dropped)
                })
            }
            Ok(Fate::Retired) => match skip_column(&entry.shape, input) {
                Ok(0) => Ok(()),
                Ok(_) => {
                    dropped.insert(entry.id.clone());
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
            Ok(Fate::Unknown) => match skip_column(&entry.shape, input) {
                Ok(0) => Ok(()),
                Ok(_) => Err(unknown("component")),
                Err(error) => Err(error.to_string()),
            },
            Err(problem) => Err(problem),
        };
        result.map_err(within("component", &entry.id))?;
    }
    decode_custom_columns(world, input)?;
    for entry in &old.components {
        let removed = decode_removed(input).map_err(within("removals of component", &entry.id))?;
        if let Ok(index) =
            registry.components.list.binary_search_by(|stored| stored.id.cmp(&entry.id))
        {
            world.removed[index] = removed;
        }
    }
    decode_custom_removed(world, input)?;
    for entry in &old.resources {
        resource(world, entry, retired, input, &mut dropped)
            .map_err(within("resource", &entry.id))?;
    }
    for entry in &old.events {
        events(world, entry, retired, input, &mut dropped).map_err(within("event", &entry.id))?;
    }
    for name in &old.systems {
        let last = Stamp::decode(input).map_err(within("systems", ""))?;
        if let Some(index) = names.iter().position(|known| known == name) {
            world.last_runs[index] = last;
        }
    }
    let filled = fill_required(world);
    world.relate_all();
    let effects = decode_effects(input).map_err(within("effects", ""))?;
    Ok(Migrated { effects, dropped: dropped.into_iter().collect(), filled })
}

/// Gives entities what this build requires for what they have, as if they had got both at once:
/// the former build may not have required it. What they got, in words.
fn fill_required(world: &mut World) -> Vec<String> {
    let registry = Arc::clone(&world.registry);
    let now = world.now.stamp;
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (&index, required) in &registry.required {
        let owners: Vec<usize> = slots(world.columns[index].present()).collect();
        for &other in required {
            let column = &mut world.columns[other];
            let lacked = owners.iter().filter(|slot| column.insert_initial(**slot, now));
            *counts.entry(other).or_default() += lacked.count();
        }
    }
    counts.retain(|_, count| *count > 0);
    for &index in counts.keys() {
        let column = &mut world.columns[index];
        column.canonicalise(now - 1);
        // A default that is not accepted is on no entity.
        for refused in column.validate(now - 1) {
            column.remove(refused.slot);
        }
    }
    let id = |index: usize| registry.components.list[index].id;
    counts.into_iter().map(|(index, count)| format!("{} ({count})", id(index))).collect()
}

fn resource(
    world: &mut World,
    entry: &Entry,
    retired: &[&str],
    input: &mut Reader<'_>,
    dropped: &mut BTreeSet<String>,
) -> Result<(), String> {
    let registry = Arc::clone(&world.registry);
    let text = |error: DecodeError| error.to_string();
    let changed = Stamp::decode(input).map_err(text)?;
    match fate(entry, &registry.resources, retired)? {
        Fate::Same(index) => {
            world.resources[index].set_changed(changed);
            world.resources[index].decode_value(input).map_err(text)
        }
        Fate::Converted(index, stored) => {
            let bytes = convert(entry, stored, input, dropped)?;
            world.resources[index].set_changed(changed);
            world.resources[index].decode_value(&mut Reader::new(&bytes)).map_err(text)
        }
        Fate::Retired => {
            dropped.insert(entry.id.clone());
            entry.shape.read(input).map(|_| ()).map_err(text)
        }
        Fate::Unknown => Err(unknown("resource")),
    }
}

fn events(
    world: &mut World,
    entry: &Entry,
    retired: &[&str],
    input: &mut Reader<'_>,
    dropped: &mut BTreeSet<String>,
) -> Result<(), String> {
    let registry = Arc::clone(&world.registry);
    let text = |error: DecodeError| error.to_string();
    let fate = fate(entry, &registry.events, retired)?;
    if let Fate::Same(index) = fate {
        return world.events[index].decode(input).map_err(text);
    }
    for _ in 0..input.count(4).map_err(text)? {
        let stamp = Stamp::decode(input).map_err(text)?;
        match fate {
            Fate::Converted(index, stored) => {
                let bytes = convert(entry, stored, input, dropped)?;
                world.events[index].push_encoded(stamp, &bytes).map_err(text)?;
            }
            Fate::Retired => {
                dropped.insert(entry.id.clone());
                entry.shape.read(input).map_err(text)?;
            }
            Fate::Same(_) | Fate::Unknown => return Err(unknown("event")),
        }
    }
    Ok(())
}

/// Reads over a column; how many values it had.
fn skip_column(shape: &Shape, input: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let mut values = 0;
    for _ in 0..input.count(12)? {
        u32::decode(input)?;
        let present = u64::decode(input)?;
        values += present.count_ones();
        for _ in bits(present) {
            shape.read(input)?;
        }
        for _ in ["added", "changed"] {
            let stamps = if bool::decode(input)? { present.count_ones() } else { 1 };
            input.slice(4 * stamps as usize)?;
        }
    }
    Ok(values)
}
