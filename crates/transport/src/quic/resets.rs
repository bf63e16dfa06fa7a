//! How many stateless resets a node sends: at once for all clients of a full match or many, and
//! never more than a bounded number a second.
//!
//! A reset is smaller than the packet that it answers and needs a connection id that this node has
//! given out, so it amplifies nothing; but whoever has seen such an id may have resets sent to an
//! address of its choice, and each costs the node a hash and a packet. Hence the bound.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many leave at once, after a while without any.
const BURST: u32 = 1024;
/// Afterwards one in each of these.
const INTERVAL: Duration = Duration::from_millis(1);

/// Counts resets. Pure but for its lock: the time is told.
pub(super) struct Resets {
    /// When the allowance is full again; `None` if none was sent yet.
    full: Mutex<Option<Instant>>,
}

impl Resets {
    /// With the whole allowance.
    pub(super) fn new() -> Self {
        Self { full: Mutex::new(None) }
    }

    /// Whether one may be sent `now`. If so, it is counted.
    pub(super) fn allow(&self, now: Instant) -> bool {
        let mut full = self.full.lock();
        let next = full.map_or(now, |full| full.max(now)) + INTERVAL;
        let allowed = next <= now + INTERVAL * BURST;
        if allowed {
            *full = Some(next);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_a_flood_one_an_interval() {
        let (resets, begin) = (Resets::new(), Instant::now());
        let sent = |at: Instant| (0..10_000).filter(|_| resets.allow(at)).count() as u32;
        assert_eq!(sent(begin), BURST);
        assert_eq!(sent(begin), 0, "the allowance is used up");
        assert_eq!(sent(begin + INTERVAL * 5), 5);
        assert_eq!(sent(begin + INTERVAL * 5 + INTERVAL / 2), 0);
        assert_eq!(sent(begin + Duration::from_mins(1)), BURST, "and is full again, not fuller");
    }
}
