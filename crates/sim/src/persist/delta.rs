//! What changed since an earlier checkpoint: operations on its bytes that lead to the bytes of now.
//!
//! While a full checkpoint is encoded, [`Marks`] notes where each part lies. Later the world goes
//! through its parts again and asks the change stamps: a page of a column without a newer stamp is
//! copied from the base, of a page with some the changed values and the stamps are encoded and
//! compared with what stands there, and likewise resources. What has no stamps (entities, queues,
//! the systems' last runs, effects) is encoded and compared. So the cost goes by what changed. The
//! result of the operations is, byte for byte, the full checkpoint of now: `tests/it/shadow.rs`
//! compares.

use std::ops::Range;

use rekindle_schema::delta::DeltaWriter;
use rekindle_schema::record::Effect;

use crate::ecs::registry::Registry;
use crate::ecs::world::World;
use crate::persist::checkpoint::{encode_effects, encode_start, tick_of_start};
use crate::storage::layout::{Before, Marks};
use crate::storage::stamp;
use crate::value::Value;

/// How many parts a checkpoint has.
fn parts(registry: &Registry) -> usize {
    3 + registry.components.list.len()
        + 1
        + registry.resources.list.len()
        + registry.events.list.len()
        + 2
}

/// The operations that lead from `base`, whose parts lie where `marks` says, to the bytes of now;
/// and where the parts lie in those. `None` if they would take more than `limit` bytes, or if
/// stamps do not tell what changed since.
pub(crate) fn encode(
    world: &World,
    config: &[u8],
    effects: &[Effect],
    edits: u64,
    base: &[u8],
    marks: &Marks,
    limit: usize,
) -> Option<(Vec<u8>, Marks)> {
    let registry = &world.registry;
    let ours = marks.ends.len() == parts(registry)
        && marks.ends.last() == Some(&u32::try_from(base.len()).ok()?);
    if !ours
        || marks.edits != edits
        || world.tick < marks.tick
        || !stamp::same_era(marks.tick, world.tick)
    {
        return None;
    }
    let start = marks.ends[0] as usize..marks.ends[1] as usize;
    let of_base = tick_of_start(&base[start]);
    assert_eq!(
        of_base, marks.tick,
        "the base is a checkpoint of tick {of_base}, its marks are of tick {}",
        marks.tick
    );
    let since = stamp::last_of(marks.tick);
    let mut old = marks
        .ends
        .iter()
        .scan(0, |start, &end| Some(std::mem::replace(start, end as usize)..end as usize));
    let mut new = Marks::new(world.tick, edits);
    let mut writer = DeltaWriter::new(base);
    let mut scratch = Vec::new();
    let mut compare = |writer: &mut DeltaWriter<'_>,
                       new: &mut Marks,
                       old: Range<usize>,
                       encode: &dyn Fn(&mut Vec<u8>)| {
        scratch.clear();
        encode(&mut scratch);
        writer.replace(old, &scratch);
        new.end(writer.position());
    };

    writer.copy(old.next()?);
    new.end(writer.position());
    compare(&mut writer, &mut new, old.next()?, &|out| encode_start(world, config, out));
    compare(&mut writer, &mut new, old.next()?, &|out| world.entities.encode(out));
    let mut from = 0;
    for ((column, stored), &to) in
        world.columns.iter().zip(&registry.components.list).zip(&marks.columns)
    {
        let part = old.next()?;
        let before = Before {
            bytes: base,
            start: part.start,
            pages: &marks.pages[from..to as usize],
            size: stored.size,
            since,
        };
        column.encode_changes(&before, &mut writer, &mut new.pages);
        new.end_column(writer.position());
        from = to as usize;
        if writer.size() > limit {
            return None;
        }
    }
    compare(&mut writer, &mut new, old.next()?, &|out| world.encode_removed(out));
    for resource in &world.resources {
        let part = old.next()?;
        if resource.changed() > since {
            compare(&mut writer, &mut new, part, &|out| {
                resource.changed().encode(out);
                resource.encode_value(out);
            });
        } else {
            writer.copy(part);
            new.end(writer.position());
        }
    }
    for queue in &world.events {
        compare(&mut writer, &mut new, old.next()?, &|out| queue.encode(out));
    }
    compare(&mut writer, &mut new, old.next()?, &|out| {
        world.last_runs.iter().for_each(|last| last.encode(out))
    });
    compare(&mut writer, &mut new, old.next()?, &|out| encode_effects(effects, out));
    let operations = writer.finish();
    (operations.len() <= limit).then_some((operations, new))
}
