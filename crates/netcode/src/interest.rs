//! How much each entity concerns a client, by its distance from the client's avatar.

use crate::layout::{Axis, Layout};
use crate::sight::Seen;

/// What a client sees, from where its avatar stands.
pub(crate) struct Interest<'a> {
    seen: Seen<'a>,
    stride: usize,
    axes: Option<(Axis, Axis)>,
    eye: Option<(f32, f32)>,
}

impl<'a> Interest<'a> {
    /// `focus` is the slot of the avatar.
    pub(crate) fn new(layout: &Layout, seen: Seen<'a>, focus: Option<u32>) -> Self {
        let mut interest = Self { seen, stride: layout.stride(), axes: layout.position, eye: None };
        let own = focus.and_then(|slot| seen.find(slot));
        interest.eye = own.and_then(|entry| interest.place(entry as usize));
        interest
    }

    fn place(&self, entry: usize) -> Option<(f32, f32)> {
        let (x, y) = self.axes?;
        let both = 1 << x.component | 1 << y.component;
        if self.seen.view.entry(entry)?.components & both != both {
            return None;
        }
        let row = self.seen.view.row(entry, self.stride);
        Some((x.at(row), y.at(row)))
    }

    /// Square of the distance to the avatar; none without avatar or position.
    pub(crate) fn distance2(&self, entry: usize) -> Option<f32> {
        let (eye, place) = (self.eye?, self.place(entry)?);
        Some((eye.0 - place.0).powi(2) + (eye.1 - place.1).powi(2))
    }
}
