//! Storage of the pending events of one type.
//!
//! A queue keeps events with the stamp of their sender, ascending. Those that every reader has seen
//! are dropped at the start of a tick. Queues are part of the state.

use std::any::Any;
use std::cell::RefCell;

use crate::storage::stamp::{Stamp, age};
use crate::value::component::Event;
use crate::value::{DecodeError, Reader, Value};

/// Pending events of one type, ascending by stamp.
pub(crate) struct Queue<T> {
    pub(crate) events: RefCell<Vec<(Stamp, T)>>,
}

impl<T: Event> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { events: RefCell::new(Vec::new()) }
    }

    pub(crate) fn send(&self, stamp: Stamp, mut event: T) {
        event.canonicalise();
        let mut events = self.events.borrow_mut();
        debug_assert!(
            events.last().is_none_or(|(last, _)| *last <= stamp),
            "an event with stamp {stamp} behind a newer one: readers would miss it"
        );
        events.push((stamp, event));
    }
}

/// A queue without its type.
pub(crate) trait AnyQueue: Any + Send {
    fn as_any(&self) -> &dyn Any;
    /// Takes the events of a queue of the same type.
    fn copy_from(&mut self, other: &dyn AnyQueue);
    /// Drops events that are not newer than `before`.
    fn trim(&mut self, before: Stamp);
    fn any_newer(&self, last: Stamp) -> bool;
    fn age(&mut self);
    /// Count, then stamp and value of each.
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(&mut self, input: &mut Reader<'_>) -> Result<(), DecodeError>;
    /// Adds one event from its stamp and encoded value.
    fn push_encoded(&mut self, stamp: Stamp, bytes: &[u8]) -> Result<(), DecodeError>;
}

impl<T: Event> AnyQueue for Queue<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn copy_from(&mut self, other: &dyn AnyQueue) {
        if let Some(other) = other.as_any().downcast_ref::<Self>() {
            self.events.get_mut().clone_from(&*other.events.borrow());
        }
    }
    fn trim(&mut self, before: Stamp) {
        let events = self.events.get_mut();
        let old = events.partition_point(|(stamp, _)| *stamp < before);
        events.drain(..old);
    }
    fn any_newer(&self, last: Stamp) -> bool {
        self.events.borrow().last().is_some_and(|(stamp, _)| *stamp > last)
    }
    fn age(&mut self) {
        self.events.get_mut().iter_mut().for_each(|(stamp, _)| age(stamp));
    }
    fn encode(&self, out: &mut Vec<u8>) {
        let events = self.events.borrow();
        (events.len() as u32).encode(out);
        for (stamp, event) in events.iter() {
            stamp.encode(out);
            event.encode(out);
        }
    }
    fn decode(&mut self, input: &mut Reader<'_>) -> Result<(), DecodeError> {
        let events = self.events.get_mut();
        let mut newest = 0;
        for _ in 0..input.count(4 + T::MIN_SIZE)? {
            let stamp = u32::decode(input)?;
            if stamp < newest {
                return Err(DecodeError::Invalid("events are not in order"));
            }
            newest = stamp;
            events.push((stamp, T::decode(input)?));
        }
        Ok(())
    }
    fn push_encoded(&mut self, stamp: Stamp, bytes: &[u8]) -> Result<(), DecodeError> {
        self.events.get_mut().push((stamp, crate::value::from_bytes(bytes)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlayerId;
    use crate::game::doc_game::Collected;

    #[test]
    #[should_panic(expected = "an event with stamp 4 behind a newer one")]
    fn events_that_go_back_are_noticed() {
        let queue = Queue::new();
        queue.send(5, Collected { player: PlayerId(1), worth: 1 });
        queue.send(4, Collected { player: PlayerId(1), worth: 1 });
    }
}
