//! Whether a server is alive: told by the packets that come from it.

use std::time::Duration;

use rekindle_transport::Connection;
use tokio::time::{Instant, sleep};

use crate::config::Timing;

/// While it waits for a welcome, a client holds a server dead that sends no packet at all for this
/// long.
const DEAD: Duration = Duration::from_millis(900);
/// A server that speaks steadily is silent after so many of its longest pauses.
const PAUSES: u32 = 2;
/// Its longest pause counts less with each packet that comes: half after about a second at 30 Hz.
const FADING: f64 = 0.98;
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
    /// A server that has sent nothing for so long, and for a round trip, is silent. Between these
    /// bounds the longest pause of late decides: a line that never stutters is missed sooner.
    patience: (Duration, Duration),
    /// The longest time between two packets of late. It begins as if the line stuttered.
    pause: Duration,
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
        let most = timing.silence.max(tick * timing.silent_ticks);
        let heard = Instant::now();
        let mut watch = Self {
            patience: (timing.steady_silence.max(tick * PAUSES).min(most), most),
            pause: most,
            tick,
            packets: connection.packets_received(),
            heard,
            next: heard,
        };
        watch.next = heard + watch.patience() / 2;
        watch
    }

    fn patience(&self) -> Duration {
        let (least, most) = self.patience;
        (self.pause * PAUSES).clamp(least, most)
    }

    fn spoke(&mut self, now: Instant) {
        self.pause = self.pause.mul_f64(FADING).max(now - self.heard);
        self.heard = now;
    }

    /// The server has sent something that matters.
    pub(crate) fn heard(&mut self, connection: &Connection) {
        self.spoke(Instant::now());
        self.packets = connection.packets_received();
    }

    /// Compares what came from the server with what had come when this was called last. Call it at
    /// [`Watch::next`].
    pub(crate) fn look(&mut self, connection: &Connection) -> Line {
        let now = Instant::now();
        let asks = self.heard + self.patience() / 2;
        if now < asks {
            self.next = asks;
            return Line::Fine;
        }
        let packets = connection.packets_received();
        if packets != self.packets {
            self.packets = packets;
            self.spoke(now);
        }
        // An answer takes a round trip.
        let silent = self.heard + self.patience() + connection.path().rtt;
        let next = now + self.tick / 2;
        self.next = if now < silent { next.min(silent) } else { next };
        if now < silent { Line::Quiet } else { Line::Silent }
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
