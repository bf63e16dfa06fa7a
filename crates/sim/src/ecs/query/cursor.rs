//! How a query goes over one column: a *guard* holds the borrow of the column, a *cursor* goes over
//! its pages in ascending order.

use std::cell::{Cell, Ref, RefMut};
use std::iter::Zip;
use std::ops::Range;
use std::{mem, slice};

use crate::storage::change::Mut;
use crate::storage::column::Column;
use crate::storage::stamp::Stamp;
use crate::value::component::Component;

/// The borrow of a column that is read.
pub struct ReadGuard<'w, T> {
    pub(super) column: &'w Column<T>,
    pub(super) values: Ref<'w, Vec<T>>,
}

/// Goes over a column that is read.
pub struct ReadCursor<'g, T> {
    column: &'g Column<T>,
    values: &'g Vec<T>,
    /// How much less than its number the place of a slot is, in this page and those right behind
    /// it.
    offset: usize,
}

impl<'g, T> ReadCursor<'g, T> {
    pub(super) fn new(guard: &'g ReadGuard<'_, T>) -> Self {
        Self::over(guard.column, &guard.values)
    }

    pub(super) fn over(column: &'g Column<T>, values: &'g Vec<T>) -> Self {
        Self { column, values, offset: 0 }
    }

    /// Goes to a page; the slots that have the component.
    #[inline]
    pub(super) fn seek(&mut self, page: usize) -> u64 {
        let present = self.column.presence(page);
        if present != 0 {
            self.offset = self.column.places.offset(page);
        }
        present
    }

    #[inline]
    pub(super) fn item(&self, slot: usize) -> Option<&'g T> {
        self.values.get(slot.wrapping_sub(self.offset))
    }

    /// The values of neighbouring slots that all have the component.
    #[inline]
    pub(super) fn run(&self, slots: Range<usize>) -> slice::Iter<'g, T> {
        let (start, end) = (slots.start - self.offset, slots.end - self.offset);
        self.values.get(start..end).unwrap_or_default().iter()
    }

    #[inline]
    pub(super) fn item_if_present(&self, slot: usize) -> Option<&'g T> {
        if self.column.has(slot) { self.item(slot) } else { None }
    }
}

/// The borrow of a column that is changed.
pub struct WriteGuard<'w, T> {
    pub(super) column: &'w Column<T>,
    pub(super) values: RefMut<'w, Vec<T>>,
}

/// Values of neighbouring slots, with their stamps.
pub(super) type WriteRun<'g, T> = Zip<slice::IterMut<'g, T>, slice::Iter<'g, Cell<Stamp>>>;

/// Goes over a column that is changed.
pub struct WriteCursor<'g, T> {
    column: &'g Column<T>,
    /// Those that are still to come, up to the last one of the column.
    values: &'g mut [T],
    /// As in [`ReadCursor`].
    offset: usize,
}

impl<'g, T> WriteCursor<'g, T> {
    pub(super) fn new(guard: &'g mut WriteGuard<'_, T>) -> Self {
        Self { column: guard.column, values: &mut guard.values, offset: 0 }
    }

    /// Goes to a page; the slots that have the component.
    #[inline]
    pub(super) fn seek(&mut self, page: usize) -> u64 {
        let present = self.column.presence(page);
        if present != 0 {
            self.offset = self.column.places.offset(page);
        }
        present
    }

    #[inline]
    pub(super) fn item(&mut self, slot: usize, stamp: Stamp) -> Option<Mut<'g, T>> {
        let (value, changed) = self.run(slot..slot + 1).next()?;
        Some(Mut::new(value, changed, stamp))
    }

    /// The values of neighbouring slots that all have the component, with their stamps.
    #[inline]
    pub(super) fn run(&mut self, slots: Range<usize>) -> WriteRun<'g, T> {
        let changed = self.column.changed.as_slice();
        let (start, end) = (slots.start - self.offset, slots.end - self.offset);
        let next = changed.len() - self.values.len();
        debug_assert!(start >= next, "slots are asked for in ascending order");
        let values = mem::take(&mut self.values);
        let (run, later) = values.split_at_mut_checked(end - next).unwrap_or_default();
        self.values = later;
        let run = run.get_mut(start.wrapping_sub(next)..).unwrap_or_default();
        run.iter_mut().zip(changed.get(start..end).unwrap_or_default())
    }

    #[inline]
    pub(super) fn item_if_present(&mut self, slot: usize, stamp: Stamp) -> Option<Mut<'g, T>> {
        if self.column.has(slot) { self.item(slot, stamp) } else { None }
    }
}

pub(super) fn write_get<'g, T: Component>(
    guard: &'g mut WriteGuard<'_, T>,
    slot: usize,
    stamp: Stamp,
) -> Option<Mut<'g, T>> {
    let at = guard.column.place(slot)?;
    Some(Mut::new(guard.values.get_mut(at)?, guard.column.changed.get(at)?, stamp))
}

pub(super) fn read_get<'g, T>(column: &Column<T>, values: &'g [T], slot: usize) -> Option<&'g T> {
    values.get(column.place(slot)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::doc_game::Coin;

    #[test]
    #[should_panic(expected = "slots are asked for in ascending order")]
    fn a_cursor_that_goes_back_is_noticed() {
        let mut column = Column::new();
        column.insert(3, Coin { worth: 1 }, 1);
        column.insert(70, Coin { worth: 1 }, 1);
        let mut guard = WriteGuard { column: &column, values: column.values.borrow_mut() };
        let mut cursor = WriteCursor::new(&mut guard);
        cursor.seek(1);
        cursor.item(70, 2);
        cursor.seek(0);
        cursor.item(3, 2);
    }
}
