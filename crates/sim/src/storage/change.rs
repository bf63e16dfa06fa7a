//! Access to a value that notes when it was changed.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::storage::stamp::Stamp;

/// A component that can be changed: the first `&mut` access marks it as changed by this system in
/// this tick.
pub struct Mut<'a, T> {
    value: &'a mut T,
    changed: &'a Cell<Stamp>,
    stamp: Stamp,
    /// Whether it is marked. In a loop the compiler knows, and writes the stamp once a value.
    marked: bool,
}

impl<'a, T> Mut<'a, T> {
    pub(crate) fn new(value: &'a mut T, changed: &'a Cell<Stamp>, stamp: Stamp) -> Self {
        Self { value, changed, stamp, marked: false }
    }

    /// Notes the change. Stamps only grow: one that went back would hide the change from systems
    /// and from the next delta.
    #[inline]
    fn mark(&mut self) {
        if self.marked {
            return;
        }
        debug_assert!(
            self.changed.get() <= self.stamp,
            "a change with stamp {} after one with {}",
            self.stamp,
            self.changed.get()
        );
        self.changed.set(self.stamp);
        self.marked = true;
    }

    /// The value, marked as changed.
    pub fn into_inner(mut self) -> &'a mut T {
        self.mark();
        self.value
    }

    /// Sets the value, and marks it as changed only if it differs.
    pub fn set_if_neq(&mut self, value: T)
    where
        T: PartialEq,
    {
        if *self.value != value {
            **self = value;
        }
    }
}

impl<T> Deref for Mut<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Mut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.mark();
        self.value
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Mut<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noted_only_if_there_is_one() {
        let (mut value, changed) = (1, Cell::new(4));
        let mut access = Mut::new(&mut value, &changed, 5);
        access.set_if_neq(1);
        assert_eq!(changed.get(), 4);
        access.set_if_neq(2);
        assert_eq!((changed.get(), value), (5, 2));
    }

    #[test]
    #[should_panic(expected = "a change with stamp 5 after one with 6")]
    fn a_stamp_that_goes_back_is_noticed() {
        let (mut value, changed) = (1, Cell::new(6));
        *Mut::new(&mut value, &changed, 5) = 2;
    }
}
