//! In which parts two states of one match differ, by their names: for people who look for what made
//! two nodes, or two builds, compute different worlds. Called by [`crate::Typed`] for two
//! checkpoints, and by a match for its own state and the sums of another.

use std::collections::BTreeSet;
use std::ops::Range;

use rekindle_schema::Tick;
use rekindle_schema::digest::{self, ValueSum};

use crate::ecs::registry::StoredType;
use crate::ecs::schedule::Schedule;
use crate::ecs::world::World;
use crate::storage::layout::Marks;
use crate::storage::stamp::{self, Stamp};
use crate::value::shape::Shape;

/// Bytes of a resource in front of its value: its stamp.
const RESOURCE_HEAD: usize = size_of::<Stamp>();

/// The names of the parts of a checkpoint, in the order of [`Marks::ends`].
fn names(world: &World) -> Vec<String> {
    fn of<S: ?Sized>(what: &str, types: &[StoredType<S>]) -> Vec<String> {
        types.iter().map(|stored| format!("{what} `{}`", stored.id)).collect()
    }
    let registry = &world.registry;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let components = world.components().map(|(id, _)| format!("component `{id}`"));
    [
        words(&["schema", "tick, seed and configuration", "entities"]),
        components.collect(),
        words(&["removals"]),
        of("resource", &registry.resources.list),
        of("event", &registry.events.list),
        words(&["last runs of systems", "effects"]),
    ]
    .concat()
}

/// The parts in which two checkpoints of a game differ, each with where its parts lie.
pub(crate) fn differing(
    world: &World,
    (a, marks_a): (&[u8], &Marks),
    (b, marks_b): (&[u8], &Marks),
) -> Vec<String> {
    let names = names(world);
    if marks_a.ends.len() != marks_b.ends.len() {
        return vec!["the components that the match defines".to_owned()];
    }
    assert_eq!(marks_a.ends.len(), names.len(), "each part of a checkpoint has a name");
    let (mut from_a, mut from_b) = (0, 0);
    let mut found = Vec::new();
    for (name, (end_a, end_b)) in names.into_iter().zip(marks_a.ends.iter().zip(&marks_b.ends)) {
        let (end_a, end_b) = (*end_a as usize, *end_b as usize);
        if a.get(from_a..end_a) != b.get(from_b..end_b) {
            found.push(name);
        }
        (from_a, from_b) = (end_a, end_b);
    }
    found
}

/// The fields of a value whose values all lie at the same places, each with where; of others none.
fn fields(shape: &Shape) -> impl Iterator<Item = (&str, Range<usize>)> {
    let of_struct = match (shape, shape.size()) {
        (Shape::Struct(fields), Some(1..)) => fields.as_slice(),
        _ => &[],
    };
    let mut at = 0;
    of_struct.iter().map(move |field| {
        let from = at;
        at += field.shape.size().unwrap_or(0);
        (field.name.as_str(), from..at)
    })
}

/// Sums of a body whose parts lie where `marks` says: of each part in order, then of each field of
/// the components whose values have a fixed size, then of each such field of the resources.
pub(crate) fn sums(world: &World, body: &[u8], marks: &Marks) -> Vec<u32> {
    let of = |range: Range<usize>| body.get(range).unwrap_or_default();
    let part = |ends: &[u32]| of(ends[0] as usize..ends[1] as usize);
    let mut sums: Vec<u32> =
        marks.ends.windows(2).map(|ends| digest::of_part(part(ends))).collect();
    let mut from = 0;
    for ((_, shape), &to) in world.components().zip(&marks.columns) {
        let pages = &marks.pages[from as usize..to as usize];
        from = to;
        let size = shape.size().unwrap_or(1);
        for (_, range) in fields(shape) {
            let mut sum = ValueSum::default();
            for value in pages.iter().flat_map(|page| of(page.values()).chunks_exact(size)) {
                sum.take(&value[range.clone()]);
            }
            sums.push(sum.finish());
        }
    }
    // Start, entities, columns, removals; then the resources.
    let first = world.columns.len() + 3;
    for (stored, ends) in world.registry.resources.list.iter().zip(marks.ends[first..].windows(2)) {
        let value = part(ends).get(RESOURCE_HEAD..).unwrap_or_default();
        for (_, range) in fields(&stored.shape) {
            let mut sum = ValueSum::default();
            sum.take(value.get(range).unwrap_or_default());
            sums.push(sum.finish());
        }
    }
    sums
}

/// In what a state whose sums are `ours` differs from one with the sums `theirs`, for people: parts
/// by name, of components and resources the fields, and the systems that changed them after the
/// tick `since`.
pub(crate) fn explain(
    world: &World,
    schedule: &Schedule,
    (ours, theirs): (&[u32], &[u32]),
    since: Tick,
) -> Vec<String> {
    let names = names(world);
    let components: Vec<&Shape> = world.components().map(|(_, shape)| shape).collect();
    let resources: Vec<&Shape> =
        world.registry.resources.list.iter().map(|stored| &stored.shape).collect();
    let counts = components.iter().chain(&resources).map(|shape| fields(shape).count());
    let total = names.len() - 1 + counts.sum::<usize>();
    if ours.len() != total || theirs.len() != total {
        let words = "this build keeps other components, resources or fields than the build that \
            played: which of them differ cannot be told";
        return vec![words.to_owned()];
    }
    let differs = |index: usize| ours[index] != theirs[index];
    let mut place = names.len() - 1;
    let mut named = |names: Vec<&str>| {
        let begins = place;
        place += names.len();
        let differing = names.iter().enumerate().filter(|(index, _)| differs(begins + index));
        let fields: Vec<String> = differing.map(|(_, name)| format!("`{name}`")).collect();
        (names.is_empty(), fields)
    };
    let mut of_all = |shapes: &[&Shape]| -> Vec<_> {
        let names = shapes.iter().map(|shape| fields(shape).map(|(name, _)| name).collect());
        names.map(&mut named).collect()
    };
    let (columns, values) = (of_all(&components), of_all(&resources));
    let mut found = Vec::new();
    for (index, name) in names.iter().skip(1).enumerate().filter(|(index, _)| differs(*index)) {
        let column = index.checked_sub(2).filter(|column| *column < components.len());
        let resource =
            index.checked_sub(components.len() + 3).filter(|index| *index < resources.len());
        let (details, writers) = match (column, resource) {
            (Some(column), _) => {
                (Some(&columns[column]), world.columns[column].changes_after(stamp::last_of(since)))
            }
            (_, Some(resource)) => {
                let changed = world.resources[resource].changed();
                let new = (changed > stamp::last_of(since)).then_some(changed);
                (Some(&values[resource]), new.into_iter().collect())
            }
            _ => (None, BTreeSet::new()),
        };
        found.push(format!("{name}{}{}", detail(details), written_by(schedule, &writers)));
    }
    found
}

fn detail(fields: Option<&(bool, Vec<String>)>) -> String {
    match fields {
        None | Some((true, _)) => String::new(),
        Some((false, fields)) if fields.is_empty() => {
            " (not its values: when it was changed, or where it is)".to_owned()
        }
        Some((false, fields)) => format!(" field {}", fields.join(", ")),
    }
}

fn written_by(schedule: &Schedule, stamps: &BTreeSet<Stamp>) -> String {
    let positions: BTreeSet<u32> = stamps.iter().map(|&stamp| stamp::position(stamp)).collect();
    let systems: Vec<String> = positions
        .iter()
        .filter_map(|&position| schedule.system_at(position))
        .map(|name| format!("`{name}`"))
        .collect();
    if systems.is_empty() { String::new() } else { format!(", written by {}", systems.join(", ")) }
}
