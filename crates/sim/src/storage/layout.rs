//! Where the parts of a checkpoint lie in its bytes.
//!
//! Written by [`crate::persist::checkpoint`] while it encodes, and by [`crate::persist::delta`],
//! which also reads what was noted of the base.

use std::ops::Range;

use rekindle_schema::Tick;

use crate::storage::stamp::Stamp;

/// Where a page of a column lies in the bytes of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageMark {
    /// The number of the page in its column.
    pub(crate) page: u32,
    /// Byte at which the page begins: number and presence, 12 bytes, then the values.
    pub(crate) start: u32,
    /// Byte at which the stamps of addition begin, behind the values.
    pub(crate) added: u32,
    /// Byte at which the stamps of change begin, behind those of addition.
    pub(crate) changed: u32,
    /// The first byte behind the page.
    pub(crate) end: u32,
}

/// Bytes of a page in front of its values.
pub(crate) const PAGE_HEAD: usize = 12;

const _: () = assert!(PAGE_HEAD == size_of::<u32>() + size_of::<u64>());

impl PageMark {
    /// The same page, beginning elsewhere.
    pub(crate) fn moved(self, to: usize) -> Self {
        let by = |place: u32| place - self.start + to as u32;
        Self {
            page: self.page,
            start: to as u32,
            added: by(self.added),
            changed: by(self.changed),
            end: by(self.end),
        }
    }

    pub(crate) fn head(self) -> Range<usize> {
        self.start as usize..self.start as usize + PAGE_HEAD
    }
    pub(crate) fn values(self) -> Range<usize> {
        self.start as usize + PAGE_HEAD..self.added as usize
    }
    pub(crate) fn added(self) -> Range<usize> {
        self.added as usize..self.changed as usize
    }
    pub(crate) fn changed(self) -> Range<usize> {
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

    /// Notes that a part ends at this byte.
    ///
    /// # Panics
    /// If that is before the end of the part before it, or beyond 4 GiB.
    pub(crate) fn end(&mut self, at: usize) {
        let end = u32::try_from(at).expect("a checkpoint is far smaller than 4 GiB");
        assert!(
            self.ends.last().is_none_or(|last| *last <= end),
            "the parts of a checkpoint ascend"
        );
        self.ends.push(end);
    }

    /// Notes that a column ends at this byte. Its pages were noted before.
    pub(crate) fn end_column(&mut self, at: usize) {
        self.end(at);
        self.columns.push(self.pages.len() as u32);
    }

    /// How many bytes it keeps.
    pub fn size(&self) -> usize {
        size_of_val(&*self.ends) + size_of_val(&*self.pages) + size_of_val(&*self.columns)
    }
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

impl Before<'_> {
    /// Which slots of a page had the component.
    pub(crate) fn presence(&self, mark: PageMark) -> u64 {
        let place = mark.start as usize + 4;
        self.bytes
            .get(place..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the parts of a checkpoint ascend")]
    fn parts_that_go_back_are_noticed() {
        let mut marks = Marks::new(Tick(1), 0);
        marks.end(20);
        marks.end(19);
    }
}
