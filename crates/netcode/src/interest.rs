//! Which entities concern a client, and how much.

use rekindle_schema::net::NetView;

use crate::layout::{Axis, Layout};

/// An entity that is shown stays shown up to this factor of the radius, so that it does not flicker
/// at the border.
const LEAVE: f32 = 1.1;

/// The world as seen from one avatar.
pub(crate) struct Interest<'a> {
    view: &'a NetView,
    stride: usize,
    axes: Option<(Axis, Axis)>,
    eye: Option<(f32, f32)>,
    radius: f32,
    focus: Option<u32>,
    filter: bool,
}

impl<'a> Interest<'a> {
    pub(crate) fn new(
        layout: &Layout,
        view: &'a NetView,
        focus: Option<u32>,
        radius: Option<f32>,
    ) -> Self {
        let mut interest = Self {
            view,
            stride: layout.stride(),
            axes: layout.position,
            eye: None,
            radius: radius.unwrap_or(f32::INFINITY),
            focus,
            filter: false,
        };
        interest.eye =
            focus.and_then(|slot| view.index_of(slot)).and_then(|index| interest.place(index));
        interest.filter = interest.eye.is_some() && radius.is_some();
        interest
    }

    /// Whether it keeps anything from the client.
    pub(crate) fn is_bounded(&self) -> bool {
        self.filter
    }

    fn place(&self, index: usize) -> Option<(f32, f32)> {
        let (x, y) = self.axes?;
        let both = 1 << x.component | 1 << y.component;
        if self.view.entities[index].components & both != both {
            return None;
        }
        let row = self.view.row(index, self.stride);
        Some((x.at(row), y.at(row)))
    }

    /// Square of the distance to the avatar; none without avatar or position.
    pub(crate) fn distance2(&self, index: usize) -> Option<f32> {
        let (eye, place) = (self.eye?, self.place(index)?);
        Some((eye.0 - place.0).powi(2) + (eye.1 - place.1).powi(2))
    }

    /// Whether the `index`th entity of the view concerns the client, which has it already or not.
    #[inline]
    pub(crate) fn sees(&self, index: usize, known: bool) -> bool {
        if !self.filter || self.focus == Some(self.view.entities[index].slot) {
            return true;
        }
        let reach = if known { self.radius * LEAVE } else { self.radius };
        self.distance2(index).is_none_or(|distance2| distance2 <= reach * reach)
    }
}
