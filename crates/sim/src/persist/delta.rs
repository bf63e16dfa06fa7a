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

use rekindle_schema::Tick;
use rekindle_schema::delta::DeltaWriter;
use rekindle_schema::record::Effect;

use crate::ecs::registry::Registry;
use crate::ecs::world::World;
use crate::persist::checkpoint::{encode_effects, encode_start};
use crate::storage::column::{Column, bits, encode_page_head, encode_stamps};
use crate::storage::stamp::{self, Stamp};
use crate::value::Value;
use crate::value::component::Component;

/// Where a page of a column lies in the bytes of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageMark {
    pub(crate) page: u32,
    /// Number and presence, 12 bytes, then the values.
    pub(crate) start: u32,
    /// Stamps of addition.
    pub(crate) added: u32,
    /// Stamps of change.
    pub(crate) changed: u32,
    /// Behind it.
    pub(crate) end: u32,
}

/// So many changed values of a page are encoded one by one; of more, all are encoded and compared.
const FEW: u32 = 8;
/// Bytes of a page in front of its values.
const PAGE_HEAD: usize = 12;

impl PageMark {
    /// The same page, beginning elsewhere.
    fn moved(self, to: usize) -> Self {
        let by = |place: u32| place - self.start + to as u32;
        Self {
            page: self.page,
            start: to as u32,
            added: by(self.added),
            changed: by(self.changed),
            end: by(self.end),
        }
    }

    fn head(self) -> Range<usize> {
        self.start as usize..self.start as usize + PAGE_HEAD
    }
    fn values(self) -> Range<usize> {
        self.start as usize + PAGE_HEAD..self.added as usize
    }
    fn added(self) -> Range<usize> {
        self.added as usize..self.changed as usize
    }
    fn changed(self) -> Range<usize> {
        self.changed as usize..self.end as usize
    }
}

/// Where the parts of a checkpoint lie in its bytes, so that what changed since can be told from
/// it: see [`crate::Simulation::capture`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Where the world stood.
    pub(crate) tick: Tick,
    /// How often the world had been changed outside of steps.
    pub(crate) edits: u64,
    /// Where each part ends, in order: head; start of the body; entities; each column; removals;
    /// each resource; each queue; last runs; effects.
    pub(crate) ends: Vec<u32>,
    /// Pages of all columns.
    pub(crate) pages: Vec<PageMark>,
    /// How many of them there are up to each column's end.
    pub(crate) columns: Vec<u32>,
}

impl Marks {
    pub(crate) fn new(tick: Tick, edits: u64) -> Self {
        Self { tick, edits, ..Self::default() }
    }

    pub(crate) fn end(&mut self, at: usize) {
        self.ends.push(at as u32);
    }

    pub(crate) fn end_column(&mut self, at: usize) {
        self.end(at);
        self.columns.push(self.pages.len() as u32);
    }

    /// How many bytes it keeps.
    pub fn size(&self) -> usize {
        size_of_val(&*self.ends) + size_of_val(&*self.pages) + size_of_val(&*self.columns)
    }
}

/// How many parts a checkpoint has.
fn parts(registry: &Registry) -> usize {
    3 + registry.components.list.len()
        + 1
        + registry.resources.list.len()
        + registry.events.list.len()
        + 2
}

/// A column's part of the base.
pub(crate) struct Before<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: usize,
    pub(crate) pages: &'a [PageMark],
    /// Bytes of a value, if all have as many.
    pub(crate) size: Option<usize>,
    /// What has a greater stamp was changed since.
    pub(crate) since: Stamp,
}

impl<T: Component> Column<T> {
    /// See [`crate::storage::column::AnyColumn::encode_changes`].
    pub(crate) fn write_changes(
        &self,
        before: &Before<'_>,
        writer: &mut DeltaWriter<'_>,
        marks: &mut Vec<PageMark>,
    ) {
        let mut scratch = Vec::new();
        let mut old = before.pages.iter().copied().peekable();
        writer
            .replace(before.start..before.start + 4, &(self.pages().count() as u32).to_le_bytes());
        for (page, present) in self.pages() {
            while old.next_if(|mark| (mark.page as usize) < page).is_some() {}
            let mark = old.next_if(|mark| mark.page as usize == page);
            let now = match mark {
                Some(mark) if before.presence(mark) == present => {
                    self.write_kept(page, present, before, mark, writer, &mut scratch)
                }
                _ => self.write_page(page, present, mark, writer, &mut scratch),
            };
            marks.push(now);
        }
    }

    /// A page with the same entities as before.
    fn write_kept(
        &self,
        page: usize,
        present: u64,
        before: &Before<'_>,
        mark: PageMark,
        writer: &mut DeltaWriter<'_>,
        scratch: &mut Vec<u8>,
    ) -> PageMark {
        let start = writer.position();
        // All stamps first, also of slots without the component: a comparison of whole registers,
        // and most pages are still.
        let still = self
            .stamps
            .get(page)
            .and_then(Option::as_ref)
            .is_some_and(|stamps| stamps.still_since(before.since));
        let newer = if still { 0 } else { self.newer(page, before.since, false) };
        if newer == 0 {
            writer.copy(mark.start as usize..mark.end as usize);
            return mark.moved(start);
        }
        writer.copy(mark.head());
        let mut from = mark.values().start;
        if let Some(size) = before.size.filter(|_| newer.count_ones() <= FEW) {
            for bit in bits(newer) {
                let rank = (present & ((1 << bit) - 1)).count_ones() as usize;
                let at = mark.values().start + rank * size;
                writer.copy(from..at);
                from = at + size;
                self.encode_values(page, 1 << bit, scratch);
                writer.replace(at..from, scratch);
            }
            writer.copy(from..mark.values().end);
        } else {
            self.encode_values(page, present, scratch);
            writer.replace(mark.values(), scratch);
        }
        let added = writer.position();
        if self.newer(page, before.since, true) == 0 {
            writer.copy(mark.added());
        } else {
            self.encode_page_stamps(page, present, true, scratch);
            writer.replace(mark.added(), scratch);
        }
        let changed = writer.position();
        self.encode_page_stamps(page, present, false, scratch);
        writer.replace(mark.changed(), scratch);
        page_mark(page, start, added, changed, writer.position())
    }

    /// A page with other entities than before, if there was one.
    fn write_page(
        &self,
        page: usize,
        present: u64,
        mark: Option<PageMark>,
        writer: &mut DeltaWriter<'_>,
        scratch: &mut Vec<u8>,
    ) -> PageMark {
        let put = |writer: &mut DeltaWriter<'_>, old: Option<Range<usize>>, bytes: &[u8]| match old
        {
            Some(old) => writer.replace(old, bytes),
            None => writer.write(bytes),
        };
        let start = writer.position();
        scratch.clear();
        encode_page_head(page, present, scratch);
        put(writer, mark.map(PageMark::head), scratch);
        self.encode_values(page, present, scratch);
        put(writer, mark.map(PageMark::values), scratch);
        let added = writer.position();
        self.encode_page_stamps(page, present, true, scratch);
        put(writer, mark.map(PageMark::added), scratch);
        let changed = writer.position();
        self.encode_page_stamps(page, present, false, scratch);
        put(writer, mark.map(PageMark::changed), scratch);
        page_mark(page, start, added, changed, writer.position())
    }

    /// Replaces what is in `out` by the values of these slots of a page.
    fn encode_values(&self, page: usize, slots: u64, out: &mut Vec<u8>) {
        out.clear();
        if let Some(Some(values)) = self.values.borrow().get(page) {
            bits(slots).for_each(|bit| values[bit].encode(out));
        }
    }

    /// Replaces what is in `out` by the stamps of a page.
    fn encode_page_stamps(&self, page: usize, present: u64, added: bool, out: &mut Vec<u8>) {
        out.clear();
        if let Some(Some(stamps)) = self.stamps.get(page) {
            encode_stamps(
                present,
                |bit| if added { stamps.added[bit] } else { stamps.changed[bit].get() },
                out,
            );
        }
    }
}

fn page_mark(page: usize, start: usize, added: usize, changed: usize, end: usize) -> PageMark {
    PageMark {
        page: page as u32,
        start: start as u32,
        added: added as u32,
        changed: changed as u32,
        end: end as u32,
    }
}

impl Before<'_> {
    /// Which slots of a page had the component.
    fn presence(&self, mark: PageMark) -> u64 {
        let place = mark.start as usize + 4;
        self.bytes
            .get(place..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
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
    for ((column, kind), &to) in
        world.columns.iter().zip(&registry.components.list).zip(&marks.columns)
    {
        let part = old.next()?;
        let before = Before {
            bytes: base,
            start: part.start,
            pages: &marks.pages[from..to as usize],
            size: kind.size,
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
