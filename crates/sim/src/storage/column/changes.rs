//! What changed in a column since a base: operations on the bytes of the base.
//!
//! Called by [`crate::persist::delta`] through [`AnyColumn::encode_changes`].
//!
//! [`AnyColumn::encode_changes`]: crate::storage::column::AnyColumn::encode_changes

use std::ops::Range;

use rekindle_schema::delta::DeltaWriter;

use crate::storage::column::{Column, bits, encode_page_head, encode_stamps, missing};
use crate::storage::layout::{Before, PAGE_HEAD, PageMark};
use crate::storage::stamp::StampOf;
use crate::value::component::Component;

/// So many changed values of a page are encoded one by one; of more, all are encoded and compared.
const FEW: u32 = 8;

impl<T: Component> Column<T> {
    /// See [`AnyColumn::encode_changes`](crate::storage::column::AnyColumn::encode_changes).
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
        let still = self.still_since(page, before.since);
        let newer = if still { 0 } else { self.newer(page, before.since, StampOf::Change) };
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
                assert_eq!(
                    scratch.len(),
                    size,
                    "a `{}` takes another number of bytes than its shape says",
                    T::ID
                );
                writer.replace(at..from, scratch);
            }
            writer.copy(from..mark.values().end);
        } else {
            self.encode_values(page, present, scratch);
            writer.replace(mark.values(), scratch);
        }
        let added = writer.position();
        if self.newer(page, before.since, StampOf::Addition) == 0 {
            writer.copy(mark.added());
        } else {
            self.encode_page_stamps(page, present, StampOf::Addition, scratch);
            writer.replace(mark.added(), scratch);
        }
        let changed = writer.position();
        self.encode_page_stamps(page, present, StampOf::Change, scratch);
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
        self.encode_page_stamps(page, present, StampOf::Addition, scratch);
        put(writer, mark.map(PageMark::added), scratch);
        let changed = writer.position();
        self.encode_page_stamps(page, present, StampOf::Change, scratch);
        put(writer, mark.map(PageMark::changed), scratch);
        page_mark(page, start, added, changed, writer.position())
    }

    /// Replaces what is in `out` by the values of these slots of a page.
    fn encode_values(&self, page: usize, slots: u64, out: &mut Vec<u8>) {
        out.clear();
        let Some(range) = self.places.range(page) else { missing(page) };
        let values = &self.values.borrow()[range];
        bits(slots).for_each(|bit| values[bit].encode(out));
    }

    /// Replaces what is in `out` by the stamps of a page.
    fn encode_page_stamps(&self, page: usize, present: u64, of: StampOf, out: &mut Vec<u8>) {
        out.clear();
        let (Some(added), Some(changed)) = (self.added_in(page), self.changed_in(page)) else {
            missing(page)
        };
        match of {
            StampOf::Addition => encode_stamps(present, |bit| added[bit], out),
            StampOf::Change => encode_stamps(present, |bit| changed[bit].get(), out),
        }
    }
}

/// Notes where a page lies.
fn page_mark(page: usize, start: usize, added: usize, changed: usize, end: usize) -> PageMark {
    debug_assert!(start + PAGE_HEAD <= added && added < changed && changed < end);
    PageMark {
        page: page as u32,
        start: start as u32,
        added: added as u32,
        changed: changed as u32,
        end: end as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::doc_game::Coin;
    use crate::storage::column::AnyColumn as _;

    /// What leads from a column with one coin to one in which it is worth more, if all coins take
    /// `size` bytes.
    fn changes(size: usize) -> Vec<u8> {
        let (mut base, mut marks) = (Vec::new(), Vec::new());
        let mut column = Column::new();
        column.insert(3, Coin { worth: 1 }, 10);
        column.encode(&mut base, Some(&mut marks));
        column.insert(3, Coin { worth: 2 }, 20);
        let before = Before { bytes: &base, start: 0, pages: &marks, size: Some(size), since: 10 };
        let mut writer = DeltaWriter::new(&base);
        column.write_changes(&before, &mut writer, &mut Vec::new());
        let mut now = Vec::new();
        column.encode(&mut now, None);
        let (_, state) = rekindle_schema::delta::seal(&base, &writer.finish()).unwrap();
        assert_eq!(state, now);
        now
    }

    #[test]
    fn what_changed_leads_to_the_bytes_of_now() {
        assert!(!changes(1).is_empty());
    }

    #[test]
    #[should_panic(expected = "a `coin` takes another number of bytes than its shape says")]
    fn a_value_of_another_size_is_noticed() {
        changes(2);
    }
}
