//! How many connections are open, and how many of them are not yet let in. The accept loop asks
//! before it takes another ([`crate::limits`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::limits::{Knock, subscriber};
use crate::meters::Meters;

/// Counts connections. The guards that it hands out count down when they are dropped.
pub(crate) struct Connections {
    meters: Arc<Meters>,
    /// Connections that are open, let in or not.
    open: AtomicUsize,
    /// Connections that have not shown a good credential yet.
    pending: AtomicUsize,
    /// Of those, how many come from each source; a source with none has no entry.
    pending_by_source: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Connections {
    pub(crate) fn new(meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self {
            meters,
            open: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            pending_by_source: Mutex::default(),
        })
    }

    /// What is known of a connection from `source` that wants in. `validated`: it has proved its
    /// address.
    pub(crate) fn knock(&self, source: IpAddr, validated: bool) -> Knock {
        let from_source = self.pending_by_source.lock().get(&subscriber(source)).copied();
        Knock {
            source,
            validated,
            open: self.open.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            pending_from_source: from_source.unwrap_or(0),
        }
    }

    /// Counts a connection from `source` that is not yet let in.
    pub(crate) fn begin_pending(self: &Arc<Self>, source: IpAddr) -> PendingGuard {
        let source = subscriber(source);
        self.pending.fetch_add(1, Ordering::Relaxed);
        *self.pending_by_source.lock().entry(source).or_insert(0) += 1;
        PendingGuard { connections: Arc::clone(self), source }
    }

    /// Counts an open connection.
    pub(crate) fn begin_open(self: &Arc<Self>) -> OpenGuard {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.tell_meters();
        OpenGuard(Arc::clone(self))
    }

    fn tell_meters(&self) {
        self.meters.connections.set(self.open.load(Ordering::Relaxed) as f64);
        self.meters.pending.set(self.pending.load(Ordering::Relaxed) as f64);
    }
}

/// A connection is not yet let in as long as this.
pub(crate) struct PendingGuard {
    connections: Arc<Connections>,
    source: IpAddr,
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.connections.pending.fetch_sub(1, Ordering::Relaxed);
        let mut by_source = self.connections.pending_by_source.lock();
        if let Entry::Occupied(mut entry) = by_source.entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        drop(by_source);
        self.connections.tell_meters();
    }
}

/// A connection is open as long as this.
pub(crate) struct OpenGuard(Arc<Connections>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.tell_meters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_counts_no_more() {
        let connections = Connections::new(Arc::new(Meters::new()));
        let source = IpAddr::from([10, 0, 0, 1]);
        let counts = |connections: &Arc<Connections>| {
            let knock = connections.knock(source, false);
            (knock.open, knock.pending, knock.pending_from_source)
        };
        let open = connections.begin_open();
        let (first, second) =
            (connections.begin_pending(source), connections.begin_pending(source));
        let other = connections.begin_pending(IpAddr::from([10, 0, 0, 2]));
        assert_eq!(counts(&connections), (1, 3, 2));
        drop((first, other));
        assert_eq!(counts(&connections), (1, 1, 1));
        drop((open, second));
        assert_eq!(counts(&connections), (0, 0, 0));
        assert!(connections.pending_by_source.lock().is_empty());
    }
}
