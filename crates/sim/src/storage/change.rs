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
}

impl<'a, T> Mut<'a, T> {
    pub(crate) fn new(value: &'a mut T, changed: &'a Cell<Stamp>, stamp: Stamp) -> Self {
        Self { value, changed, stamp }
    }

    /// The value, marked as changed.
    pub fn into_inner(self) -> &'a mut T {
        self.changed.set(self.stamp);
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
        self.changed.set(self.stamp);
        self.value
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Mut<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}
