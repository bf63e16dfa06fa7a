//! The values of a column that were accepted, of a component that does not accept all.
//!
//! Kept by [`Column`](crate::storage::column::Column), page by page as its values.

use crate::storage::column::PAGE;

/// What was accepted last in each slot.
pub(super) struct Accepted<T>(Vec<Option<Box<[Option<T>]>>>);

impl<T> Default for Accepted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Accepted<T> {
    /// The place for the value of a slot.
    pub(super) fn place(&mut self, slot: usize) -> &mut Option<T> {
        let (page, bit) = (slot / PAGE, slot % PAGE);
        if page >= self.0.len() {
            self.0.resize_with(page + 1, || None);
        }
        &mut self.0[page].get_or_insert_with(|| (0..PAGE).map(|_| None).collect())[bit]
    }

    /// The component of a slot goes.
    pub(super) fn forget(&mut self, slot: usize) {
        if let Some(Some(page)) = self.0.get_mut(slot / PAGE) {
            page[slot % PAGE] = None;
        }
    }
}
