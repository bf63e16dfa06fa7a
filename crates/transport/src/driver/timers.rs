//! When connections want to be called.
//!
//! A connection moves its next deadline with almost every packet, mostly to a later time. So its
//! entry is moved only when the deadline comes nearer; one that is due before its connection's
//! deadline is found to be early, and made again.

use std::collections::BTreeSet;
use std::time::Instant;

use quinn_proto::ConnectionHandle;

/// At most one entry for each connection.
#[derive(Default)]
pub(super) struct Timers {
    /// By time.
    entries: BTreeSet<(Instant, usize)>,
    /// The time of each connection's entry, by handle.
    armed: Vec<Option<Instant>>,
}

impl Timers {
    /// `handle` is to be called at `at`, or before.
    pub(super) fn arm(&mut self, handle: ConnectionHandle, at: Instant) {
        let ConnectionHandle(handle) = handle;
        if self.armed.len() <= handle {
            self.armed.resize(handle + 1, None);
        }
        let armed = &mut self.armed[handle];
        if armed.is_none_or(|before| at < before) {
            if let Some(before) = armed.replace(at) {
                self.entries.remove(&(before, handle));
            }
            self.entries.insert((at, handle));
        }
    }

    /// `handle` is gone.
    pub(super) fn disarm(&mut self, ConnectionHandle(handle): ConnectionHandle) {
        if let Some(at) = self.armed.get_mut(handle).and_then(Option::take) {
            self.entries.remove(&(at, handle));
        }
    }

    /// When the next entry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// Takes an entry that is due at `now`, the earliest first.
    pub(super) fn pop(&mut self, now: Instant) -> Option<ConnectionHandle> {
        if self.next()? > now {
            return None;
        }
        let (_, handle) = self.entries.pop_first()?;
        self.armed[handle] = None;
        Some(ConnectionHandle(handle))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_connection_has_one_entry_the_earliest_and_they_come_in_the_order_of_time() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut timers = Timers::default();
        for (ms, handle) in [(30, 1), (10, 2), (20, 3), (11, 1), (25, 2), (5, 4)] {
            timers.arm(ConnectionHandle(handle), at(ms));
        }
        timers.disarm(ConnectionHandle(4));
        timers.disarm(ConnectionHandle(9));
        assert_eq!(timers.entries.len(), 3);
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.next(), Some(at(10)));
        let due: Vec<_> = std::iter::from_fn(|| timers.pop(at(19))).collect();
        assert_eq!(due, [2, 1].map(ConnectionHandle));
        timers.arm(ConnectionHandle(1), at(40));
        assert_eq!((timers.next(), timers.entries.len()), (Some(at(20)), 2));
    }
}
