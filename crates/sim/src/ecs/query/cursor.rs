//! How a query goes over one column: a *guard* holds the borrow of the column, a *cursor* goes over
//! its pages in ascending order.

use std::cell::{Cell, Ref, RefMut};
use std::iter::Zip;
use std::ops::Range;
use std::{mem, slice};

use crate::storage::change::Mut;
use crate::storage::column::{Column, PAGE, Pages, Stamps};
use crate::storage::stamp::Stamp;
use crate::value::component::Component;

/// The borrow of a column that is read.
pub struct ReadGuard<'w, T> {
    pub(super) column: &'w Column<T>,
    pub(super) values: Ref<'w, Pages<T>>,
}

/// Goes over a column that is read.
pub struct ReadCursor<'g, T> {
    present: &'g [u64],
    pages: &'g [Option<Box<[T]>>],
    page: Option<&'g [T]>,
    mask: u64,
}

impl<'g, T> ReadCursor<'g, T> {
    pub(super) fn new(guard: &'g ReadGuard<'_, T>) -> Self {
        Self::over(guard.column, &guard.values)
    }

    pub(super) fn over(column: &'g Column<T>, pages: &'g Pages<T>) -> Self {
        Self { present: &column.present, pages, page: None, mask: 0 }
    }

    #[inline]
    pub(super) fn seek(&mut self, page: usize) -> u64 {
        self.mask = self.present.get(page).copied().unwrap_or(0);
        self.page = self.pages.get(page).and_then(Option::as_deref);
        self.mask
    }

    #[inline]
    pub(super) fn item(&self, bit: usize) -> Option<&'g T> {
        self.page?.get(bit)
    }

    /// The values of neighbouring slots that all have the component.
    #[inline]
    pub(super) fn run(&self, bits: Range<usize>) -> slice::Iter<'g, T> {
        self.page.and_then(|page| page.get(bits)).unwrap_or_default().iter()
    }

    #[inline]
    pub(super) fn item_if_present(&self, bit: usize) -> Option<&'g T> {
        if self.mask >> bit & 1 == 1 { self.item(bit) } else { None }
    }
}

/// The borrow of a column that is changed.
pub struct WriteGuard<'w, T> {
    pub(super) column: &'w Column<T>,
    pub(super) values: RefMut<'w, Pages<T>>,
}

/// Values of neighbouring slots, with their stamps.
pub(super) type WriteRun<'g, T> = Zip<slice::IterMut<'g, T>, slice::Iter<'g, Cell<Stamp>>>;

/// Goes over a column that is changed.
pub struct WriteCursor<'g, T> {
    present: &'g [u64],
    stamps: &'g [Option<Box<Stamps>>],
    pages: slice::IterMut<'g, Option<Box<[T]>>>,
    next_page: usize,
    values: slice::IterMut<'g, T>,
    next_bit: usize,
    changed: Option<&'g [Cell<Stamp>; PAGE]>,
    mask: u64,
    stamp: Stamp,
}

impl<'g, T> WriteCursor<'g, T> {
    pub(super) fn new(guard: &'g mut WriteGuard<'_, T>, stamp: Stamp) -> Self {
        let (pages, values) = (guard.values.iter_mut(), [].iter_mut());
        let Column { present, stamps, .. } = guard.column;
        Self {
            present,
            stamps,
            pages,
            next_page: 0,
            values,
            next_bit: 0,
            changed: None,
            mask: 0,
            stamp,
        }
    }

    #[inline]
    pub(super) fn seek(&mut self, page: usize) -> u64 {
        self.mask = self.present.get(page).copied().unwrap_or(0);
        if self.mask != 0 {
            debug_assert!(page >= self.next_page, "pages are asked for in ascending order");
            let values = self.pages.nth(page - self.next_page).and_then(Option::as_deref_mut);
            self.next_page = page + 1;
            self.values = values.unwrap_or_default().iter_mut();
            self.next_bit = 0;
            self.changed =
                self.stamps.get(page).and_then(Option::as_deref).map(|stamps| &stamps.changed);
        }
        self.mask
    }

    #[inline]
    pub(super) fn item(&mut self, bit: usize) -> Option<Mut<'g, T>> {
        debug_assert!(bit >= self.next_bit, "slots are asked for in ascending order");
        let value = self.values.nth(bit - self.next_bit)?;
        self.next_bit = bit + 1;
        Some(Mut::new(value, &self.changed?[bit], self.stamp))
    }

    /// The values of neighbouring slots that all have the component, with their stamps.
    #[inline]
    pub(super) fn run(&mut self, bits: Range<usize>) -> WriteRun<'g, T> {
        let values = mem::take(&mut self.values).into_slice();
        let skipped = bits.start.saturating_sub(self.next_bit).min(values.len());
        let values = &mut values[skipped..];
        let (run, rest) = values.split_at_mut(bits.len().min(values.len()));
        self.values = rest.iter_mut();
        self.next_bit = bits.end;
        let changed = self.changed.and_then(|changed| changed.get(bits)).unwrap_or_default();
        run.iter_mut().zip(changed)
    }

    #[inline]
    pub(super) fn item_if_present(&mut self, bit: usize) -> Option<Mut<'g, T>> {
        if self.mask >> bit & 1 == 1 { self.item(bit) } else { None }
    }
}

pub(super) fn write_get<'g, T: Component>(
    guard: &'g mut WriteGuard<'_, T>,
    slot: usize,
    stamp: Stamp,
) -> Option<Mut<'g, T>> {
    if !guard.column.has(slot) {
        return None;
    }
    let value = guard.values.get_mut(slot / PAGE)?.as_mut()?.get_mut(slot % PAGE)?;
    let changed = &guard.column.stamps.get(slot / PAGE)?.as_ref()?.changed[slot % PAGE];
    Some(Mut::new(value, changed, stamp))
}

pub(super) fn read_get<'g, T>(
    column: &Column<T>,
    values: &'g Pages<T>,
    slot: usize,
) -> Option<&'g T> {
    if column.has(slot) { values.get(slot / PAGE)?.as_ref()?.get(slot % PAGE) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::doc_game::Coin;

    #[test]
    #[should_panic(expected = "pages are asked for in ascending order")]
    fn a_cursor_that_goes_back_is_noticed() {
        let mut column = Column::new();
        column.insert(3, Coin { worth: 1 }, 1);
        column.insert(70, Coin { worth: 1 }, 1);
        let mut guard = WriteGuard { column: &column, values: column.values.borrow_mut() };
        let mut cursor = WriteCursor::new(&mut guard, 2);
        cursor.seek(1);
        cursor.seek(0);
    }
}
