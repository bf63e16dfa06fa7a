//! What a bus counts. Read by the node, which publishes it as metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of a bus. All but the round trip only grow.
#[derive(Debug, Default)]
pub struct Figures {
    calls: AtomicU64,
    unknown: AtomicU64,
    busy: AtomicU64,
    no_link: AtomicU64,
    served: AtomicU64,
    trip_us: AtomicU64,
}

/// Their values at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests that were sent to other nodes, pings left out.
    pub calls: u64,
    /// Of those: no answer in time, or the link broke.
    pub unknown: u64,
    /// Requests that were not sent because too much waited for the node.
    pub busy: u64,
    /// Requests that were not sent because there was no link.
    pub no_link: u64,
    /// Requests of other nodes, pings included.
    pub served: u64,
    /// The last round trip of a ping, in microseconds.
    pub trip_us: u64,
}

impl Figures {
    pub(super) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn no_link(&self) {
        self.no_link.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn trip(&self, took: Duration) {
        self.trip_us.store(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// The values now.
    pub fn counted(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            calls: read(&self.calls),
            unknown: read(&self.unknown),
            busy: read(&self.busy),
            no_link: read(&self.no_link),
            served: read(&self.served),
            trip_us: read(&self.trip_us),
        }
    }
}
