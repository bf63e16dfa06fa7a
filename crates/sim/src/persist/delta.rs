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

use crate::ecs::world::World;
use crate::persist::checkpoint::{encode_effects, encode_start, tick_of_start};
use crate::storage::layout::{Before, Marks};
use crate::storage::stamp;
use crate::value::Value;

/// How many parts a checkpoint has.
fn parts(world: &World) -> usize {
    let registry = &world.registry;
    3 + world.columns.len() + 1 + registry.resources.list.len() + registry.events.list.len() + 2
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
    let ours = marks.ends.len() == parts(world)
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
    let mut parts = Parts::new(base, marks, Marks::new(world.tick, edits));
    parts.copy()?;
    parts.compare(|out| encode_start(world, config, out))?;
    parts.compare(|out| world.entities.encode(out))?;
    parts.columns(world, marks, limit)?;
    parts.compare(|out| world.encode_removed(out))?;
    for resource in &world.resources {
        if resource.changed() > stamp::last_of(marks.tick) {
            parts.compare(|out| {
                resource.changed().encode(out);
                resource.encode_value(out);
            })?;
        } else {
            parts.copy()?;
        }
    }
    for queue in &world.events {
        parts.compare(|out| queue.encode(out))?;
    }
    parts.compare(|out| world.last_runs.iter().for_each(|last| last.encode(out)))?;
    parts.compare(|out| encode_effects(effects, out))?;
    let (operations, new) = parts.finish();
    (operations.len() <= limit).then_some((operations, new))
}

/// Goes through the parts of a base from front to back, and writes for each what leads to that part
/// of the bytes of now.
struct Parts<'a> {
    base: &'a [u8],
    /// Where the parts of the base end, in bytes; those that were gone through are left out.
    ends: std::slice::Iter<'a, u32>,
    /// Where the next part of the base begins.
    at: usize,
    writer: DeltaWriter<'a>,
    /// Where the parts of the bytes of now end.
    new: Marks,
    scratch: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn new(base: &'a [u8], marks: &'a Marks, new: Marks) -> Self {
        let writer = DeltaWriter::new(base);
        Self { base, ends: marks.ends.iter(), at: 0, writer, new, scratch: Vec::new() }
    }

    /// The next part of the base; `None` if there is no more.
    fn next(&mut self) -> Option<Range<usize>> {
        let end = *self.ends.next()? as usize;
        Some(std::mem::replace(&mut self.at, end)..end)
    }

    /// The next part is as in the base.
    fn copy(&mut self) -> Option<()> {
        let part = self.next()?;
        self.writer.copy(part);
        self.new.end(self.writer.position());
        Some(())
    }

    /// The next part is what `encode` writes: what it shares with the base is copied.
    fn compare(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
        let part = self.next()?;
        self.scratch.clear();
        encode(&mut self.scratch);
        self.writer.replace(part, &self.scratch);
        self.new.end(self.writer.position());
        Some(())
    }

    /// The next parts are the columns. `None` if the operations take more than `limit` bytes.
    fn columns(&mut self, world: &World, marks: &Marks, limit: usize) -> Option<()> {
        let mut from = 0;
        // The size of what data defines may have changed since.
        let sizes = world.registry.components.list.iter().map(|stored| stored.size);
        let sizes = sizes.chain(world.custom.iter().map(|_| None));
        for ((column, size), &to) in world.columns.iter().zip(sizes).zip(&marks.columns) {
            let before = Before {
                bytes: self.base,
                start: self.next()?.start,
                pages: &marks.pages[from..to as usize],
                size,
                since: stamp::last_of(marks.tick),
            };
            column.encode_changes(&before, &mut self.writer, &mut self.new.pages);
            self.new.end_column(self.writer.position());
            from = to as usize;
            if self.writer.size() > limit {
                return None;
            }
        }
        Some(())
    }

    fn finish(self) -> (Vec<u8>, Marks) {
        (self.writer.finish(), self.new)
    }
}
