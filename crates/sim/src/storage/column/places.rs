//! Where the pages of a column lie: those that exist one behind the other, ascending.
//!
//! Kept by [`Column`](crate::storage::column::Column). So pages with neighbouring numbers that
//! exist are neighbours in memory too.

use std::ops::Range;

use crate::storage::column::PAGE;

/// What [`Places`] says of a page that does not exist.
const NONE: u32 = u32::MAX;

/// Of each page, where its slots begin in the vectors of the column.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<u32>);

impl Places {
    /// Where a slot lies; none if its page does not exist.
    #[inline]
    pub(crate) fn of(&self, slot: usize) -> Option<usize> {
        place(&self.0, slot)
    }

    /// Where the slots of a page lie; none if it does not exist.
    #[inline]
    pub(crate) fn range(&self, page: usize) -> Option<Range<usize>> {
        let start = self.of(page * PAGE)?;
        Some(start..start + PAGE)
    }

    /// How much less than its number the place of a slot of a page is that exists. It is the same
    /// for pages that follow each other.
    #[inline]
    pub(crate) fn offset(&self, page: usize) -> usize {
        let start = self.0.get(page).map_or(0, |start| *start as usize);
        (page * PAGE).saturating_sub(start)
    }

    /// Where each page begins, for [`place`].
    pub(crate) fn starts(&self) -> &[u32] {
        &self.0
    }

    /// Becomes as the other one, in the memory that it has.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }

    /// Adds a page that does not exist; where it begins. Those behind it lie one page further on
    /// from now.
    pub(super) fn add(&mut self, page: usize) -> usize {
        if page >= self.0.len() {
            self.0.resize(page + 1, NONE);
        }
        debug_assert_eq!(self.0[page], NONE, "page {page} is added twice");
        let before = self.0[..page].iter().rev().find(|start| **start != NONE);
        let start = before.map_or(0, |before| before + PAGE as u32);
        self.0[page] = start;
        for later in self.0[page + 1..].iter_mut().filter(|start| **start != NONE) {
            *later += PAGE as u32;
        }
        start as usize
    }

    /// Forgets a page, as nothing but a bug does.
    #[cfg(test)]
    pub(super) fn lose(&mut self, page: usize) {
        self.0[page] = NONE;
    }
}

/// Where a slot lies, by where its page begins.
#[inline]
pub(crate) fn place(starts: &[u32], slot: usize) -> Option<usize> {
    let start = *starts.get(slot / PAGE)?;
    if start == NONE { None } else { Some(start as usize + slot % PAGE) }
}

/// Makes room for a page at the end. Few pages are added one by one, so that a small world has no
/// memory to spare; of many, a quarter more.
pub(super) fn room<T>(all: &mut Vec<T>) {
    if all.capacity() < all.len() + PAGE {
        all.reserve_exact((all.len() / 4).next_multiple_of(PAGE).max(PAGE));
    }
}

/// Puts a page of such values at `start`.
pub(super) fn open<T>(all: &mut Vec<T>, start: usize, value: impl FnMut() -> T) {
    room(all);
    all.resize_with(all.len() + PAGE, value);
    all[start..].rotate_right(PAGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lie_ascending_in_whatever_order_they_come() {
        let (mut places, mut values) = (Places::default(), Vec::new());
        for page in [5, 0, 9, 2, 3] {
            open(&mut values, places.add(page), || page);
        }
        let ascending: Vec<usize> = values.iter().step_by(PAGE).copied().collect();
        assert_eq!(ascending, [0, 2, 3, 5, 9]);
        for page in 0..12 {
            let held = places.range(page).map(|range| &values[range]);
            assert!(held.is_none_or(|held| held.iter().all(|of| *of == page)));
            assert_eq!(held.is_some(), [0, 2, 3, 5, 9].contains(&page), "page {page}");
        }
        assert_eq!([2, 3, 5].map(|page| places.offset(page)), [PAGE, PAGE, 2 * PAGE]);
        assert_eq!(places.of(9 * PAGE + 7), Some(4 * PAGE + 7));
        assert_eq!(places.of(100 * PAGE), None);
    }
}
