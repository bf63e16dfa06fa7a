//! Whether a server is alive: told by the packets that come from it.

use std::time::Duration;

use rekindle_transport::Connection;
use tokio::time::{Instant, sleep};

use crate::config::Timing;

/// While it waits for a welcome, a client holds a server dead that sends no packet at all for this
/// long.
const DEAD: Duration = Duration::from_millis(900);
/// What is heard of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// It spoke just now.
    Fine,
    /// It has said nothing for a while: ask.
    Quiet,
    /// It does not answer.
    Silent,
}

/// Tells a dead server from a match that stands still: a dead one sends no packet at all, not even
/// to acknowledge ours.
pub(crate) struct Watch {
    /// A server that has sent nothing for so long, and for a round trip, is silent.
    patience: Duration,
    /// The length of a tick.
    tick: Duration,
    /// Packets that had come from the server when it was looked at last.
    packets: u64,
    /// When it last sent something.
    heard: Instant,
    /// When to look again.
    pub(crate) next: Instant,
}

impl Watch {
    pub(crate) fn new(timing: &Timing, tick: Duration, connection: &Connection) -> Self {
        let patience = timing.silence.max(tick * timing.silent_ticks);
        let heard = Instant::now();
        Self {
            patience,
            tick,
            packets: connection.packets_received(),
            heard,
            next: heard + patience / 2,
        }
    }

    /// The server has sent something that matters.
    pub(crate) fn heard(&mut self, connection: &Connection) {
        self.heard = Instant::now();
        self.packets = connection.packets_received();
    }

    /// Compares what came from the server with what had come when this was called last. Call it at
    /// [`Watch::next`].
    pub(crate) fn look(&mut self, connection: &Connection) -> Line {
        let now = Instant::now();
        if now < self.heard + self.patience / 2 {
            self.next = self.heard + self.patience / 2;
            return Line::Fine;
        }
        self.next = now + self.tick / 2;
        let packets = connection.packets_received();
        if packets != self.packets {
            self.packets = packets;
            self.heard = now;
        }
        // An answer takes a round trip.
        if now < self.heard + self.patience + connection.rtt() { Line::Quiet } else { Line::Silent }
    }
}

/// Resolves when the server has been dead for a while.
pub(crate) async fn dead(connection: &Connection) {
    let mut heard = Instant::now();
    let mut known = connection.packets_received();
    while heard.elapsed() < DEAD {
        sleep(DEAD / 8).await;
        let now = connection.packets_received();
        if now != known {
            known = now;
            heard = Instant::now();
        }
    }
}
