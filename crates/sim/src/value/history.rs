//! The recent past of something, for lag compensation: what stood where when the player aimed.

use std::collections::VecDeque;

use rekindle_schema::Tick;

use crate::value::shape::Shape;
use crate::value::{DecodeError, Reader, Value};

/// Values of the last ticks, one each. Make it a field of a resource or component: what systems
/// look back on is part of the state.
///
/// ```
/// use rekindle_sim::{History, Tick};
///
/// let mut places = History::default();
/// for tick in 1..=10 {
///     places.record(Tick(tick), tick as f32, 4); // keeps four ticks
/// }
/// assert_eq!(places.at(Tick(8)), Some(&8.0));
/// assert_eq!(places.at(Tick(1)), Some(&7.0)); // further back: the oldest
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<T> {
    /// The tick of the last entry.
    newest: Tick,
    entries: VecDeque<T>,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self { newest: Tick(0), entries: VecDeque::new() }
    }
}

impl<T> History<T> {
    /// Adds the value of `tick` and keeps the newest `keep` values. A gap in the ticks empties the
    /// history.
    pub fn record(&mut self, tick: Tick, value: T, keep: usize) {
        if tick != self.newest.next() {
            self.entries.clear();
        }
        self.newest = tick;
        while self.entries.len() >= keep.max(1) {
            self.entries.pop_front();
        }
        self.entries.push_back(value);
    }

    /// The value of `tick`; the oldest if it is further back, the newest if it is in the future;
    /// `None` if nothing was recorded.
    pub fn at(&self, tick: Tick) -> Option<&T> {
        let last = self.entries.len().checked_sub(1)?;
        let back = usize::try_from(self.newest.0.saturating_sub(tick.0)).unwrap_or(usize::MAX);
        self.entries.get(last - back.min(last))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T: Value> Value for History<T> {
    const MIN_SIZE: usize = 12;
    const CANONICALISES: bool = T::CANONICALISES;
    fn initial() -> Self {
        Self::default()
    }
    fn shape() -> Shape {
        Shape::Tuple(vec![Shape::U64, VecDeque::<T>::shape()])
    }
    fn encode(&self, out: &mut Vec<u8>) {
        self.newest.encode(out);
        self.entries.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { newest: Tick::decode(input)?, entries: VecDeque::decode(input)? })
    }
    fn canonicalise(&mut self) {
        self.entries.canonicalise();
    }
}

/// Values of the last `N` ticks in a ring, always full: for what has always been somewhere, and is
/// written in every tick. It takes the bytes of `N` values and nothing else. [`History`] is for
/// what is written now and then, or keeps a number of ticks that is configured.
///
/// ```
/// use rekindle_sim::{Component, Inputs, IntoSystems as _, Query, Rewind, Tick, Time};
///
/// #[derive(Clone, Component)]
/// #[component(id = "at")]
/// struct At(f32);
/// #[derive(Clone, Component)]
/// #[component(id = "trail")]
/// struct Trail(Rewind<f32, 8>);
///
/// /// Runs last. A shot asks for `trail.0.after(input.view_tick)`: where the shooter saw it.
/// fn record(time: Time, mut bodies: Query<(&At, &mut Trail)>) {
///     for (at, mut trail) in &mut bodies {
///         trail.0.record(time.tick, at.0);
///     }
/// }
/// let system = record.priority(-1);
///
/// let mut trail = Rewind::<f32, 8>::filled(0.0); // it has always been there
/// (1..=20).for_each(|tick| trail.record(Tick(tick), tick as f32));
/// assert_eq!((*trail.after(Tick(20)), *trail.after(Tick(13))), (20.0, 13.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewind<T, const N: usize> {
    /// The value after tick `t` at `t % N`.
    values: [T; N],
}

impl<T: Clone, const N: usize> Rewind<T, N> {
    /// It has always been this value.
    pub fn filled(value: T) -> Self {
        const { assert!(N > 0, "a ring of no ticks holds nothing") };
        Self { values: std::array::from_fn(|_| value.clone()) }
    }
}

impl<T, const N: usize> Rewind<T, N> {
    /// Notes the value after `tick`. To be called in every tick.
    pub fn record(&mut self, tick: Tick, value: T) {
        self.values[Self::place(tick)] = value;
    }

    /// The value after `tick`, one of the last `N`.
    pub fn after(&self, tick: Tick) -> &T {
        &self.values[Self::place(tick)]
    }

    fn place(tick: Tick) -> usize {
        (tick.0 % N as u64) as usize
    }
}

impl<T: Value, const N: usize> Value for Rewind<T, N> {
    const MIN_SIZE: usize = <[T; N]>::MIN_SIZE;
    const CANONICALISES: bool = T::CANONICALISES;
    fn initial() -> Self {
        Self { values: Value::initial() }
    }
    fn shape() -> Shape {
        <[T; N]>::shape()
    }
    fn encode(&self, out: &mut Vec<u8>) {
        self.values.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { values: Value::decode(input)? })
    }
    fn canonicalise(&mut self) {
        self.values.canonicalise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_back_as_far_as_it_was_told_to_keep() {
        let mut history = History::default();
        assert_eq!(history.at(Tick(3)), None);
        for tick in 1..=10 {
            history.record(Tick(tick), tick * 10, 4);
        }
        assert_eq!(history.len(), 4);
        assert_eq!(
            [1, 7, 8, 10, 99].map(|tick| history.at(Tick(tick)).copied()),
            [70, 70, 80, 100, 100].map(Some)
        );
        history.record(Tick(20), 7, 4);
        assert_eq!((history.len(), history.at(Tick(9))), (1, Some(&7)));
    }
}
