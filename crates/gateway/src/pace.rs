//! How much the snapshots of one client may take: what the operator allows, and what the client's
//! link has shown that it carries.
//!
//! A link that is too narrow loses packets, or queues them so that all of them come late. Either is
//! seen once a second, and the rate is set by the rules of Google Congestion Control
//! (draft-ietf-rmcat-gcc-02): above 10 % loss it falls by half of the loss, below 2 % it grows by
//! 8 %, between them it stays (section 6); a queue makes it fall to 85 % (section 5.5). That
//! method finds queues by the trend of the delay; here a queue is what the smoothed round trip
//! exceeds the lowest one by. A client on a good link has no rate: its snapshots go with each tick.

use std::time::Duration;

use rekindle_transport::PathState;
use tokio::time::Instant;

use crate::config::Rate;
use crate::limits::Bucket;

/// What an allowance saves at least, in bytes: a whole datagram, for the first snapshot.
const MIN_SAVED: f64 = 1200.0;
/// How often a link is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Packets between two looks that say something about loss.
const MIN_PACKETS: u64 = 10;
/// Loss above this makes the rate fall.
const HIGH_LOSS: f64 = 0.10;
/// Loss below this lets it grow.
const LOW_LOSS: f64 = 0.02;
/// A round trip that is longer than the lowest one by more than this, at two looks in a row, is a
/// queue. One look alone may be a machine that was busy.
const QUEUE: Duration = Duration::from_millis(100);
/// A queue of more than this has to go at once: one look is enough.
const LONG_QUEUE: Duration = Duration::from_millis(400);
/// The lowest round trip is that of the last one to two of these: routes change.
const WINDOW: Duration = Duration::from_secs(30);
/// The lowest rate, bytes a second: ten packets of [`MIN_PACKET`].
const MIN_RATE: f64 = 2000.0;
/// Bytes that are saved up before a packet is made on a narrow link: smaller ones would be mostly
/// headers.
const MIN_PACKET: f64 = 200.0;
/// What a snapshot takes beside its bytes: the headers of IP and UDP, a short header of QUIC with
/// its tag, the frames around.
const HEADERS: f64 = 64.0;

/// What the snapshots of one client may take. What one of them leaves is for the next ones, a
/// quarter of a second's at most.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    /// See [`crate::Limits::snapshot_bytes`]. What one snapshot may take is not its business.
    allowed: Option<Bucket>,
    pace: Pace,
}

impl Allowance {
    /// `path`: as the handshake found it, when nothing was queued yet.
    pub(crate) fn new(per_second: Option<u32>, path: PathState, now: Instant) -> Self {
        let bucket = |per_second| Bucket::new(rate(f64::from(per_second)), now);
        Self { allowed: per_second.map(bucket), pace: Pace::new(path, now) }
    }

    /// Most bytes of the next snapshot, on a link that takes `most` at once. `None`: none is to be
    /// made yet.
    pub(crate) fn budget(&mut self, most: usize, now: Instant) -> Option<usize> {
        let carried = self.pace.budget(most, now)?;
        let Some(bucket) = &mut self.allowed else { return Some(carried) };
        Some(carried.min(bucket.available(now) as usize))
    }

    /// A snapshot of so many bytes was made, within the budget.
    pub(crate) fn spend(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.allowed {
            bucket.spend(bytes as f64);
        }
        self.pace.spend(bytes as f64 + HEADERS);
    }

    /// Whether the link is to be looked at.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.pace.looked) >= LOOK
    }

    /// Takes what is known of the link.
    pub(crate) fn look(&mut self, path: PathState, now: Instant) {
        self.pace.look(path, now);
    }

    /// What the link carries, bytes a second with headers. `None`: it has shown no bound.
    pub(crate) fn pace(&self) -> Option<u32> {
        self.pace.bucket.as_ref().map(|bucket| bucket.per_second() as u32)
    }
}

fn rate(per_second: f64) -> Rate {
    Rate::new(per_second, (per_second / 4.0).max(MIN_SAVED))
}

/// What the link carries.
#[derive(Debug, Clone)]
struct Pace {
    /// `None` as long as it has shown no bound.
    bucket: Option<Bucket>,
    /// Bytes since the last look, headers included.
    spent: f64,
    /// When it was last looked at.
    looked: Instant,
    /// What was known then.
    path: PathState,
    /// Looks in a row that found a queue.
    queues: u32,
    /// The lowest round trip of the window before and of this one.
    lowest: [Duration; 2],
    /// When this window began.
    window: Instant,
}

/// What a look at the link says about its rate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sign {
    /// It carries less: this part of what was sent.
    Less(f64),
    /// It may carry more.
    More,
    /// Neither.
    Same,
}

impl Pace {
    fn new(path: PathState, now: Instant) -> Self {
        let mut pace = Self {
            bucket: None,
            spent: 0.0,
            looked: now,
            path,
            queues: 0,
            lowest: [Duration::MAX; 2],
            window: now,
        };
        pace.queue(path.rtt, now);
        pace
    }

    fn budget(&mut self, most: usize, now: Instant) -> Option<usize> {
        let Some(bucket) = &mut self.bucket else { return Some(most) };
        let saved = bucket.available(now);
        (saved >= MIN_PACKET).then(|| most.min((saved - HEADERS) as usize))
    }

    fn spend(&mut self, bytes: f64) {
        self.spent += bytes;
        if let Some(bucket) = &mut self.bucket {
            bucket.spend(bytes);
        }
    }

    fn look(&mut self, path: PathState, now: Instant) {
        let seconds = now.saturating_duration_since(self.looked).as_secs_f64();
        let used = self.spent / seconds.max(f64::EPSILON);
        let sign = self.sign(path, now);
        (self.looked, self.path, self.spent) = (now, path, 0.0);
        match (sign, &mut self.bucket) {
            (Sign::Less(part), Some(bucket)) => {
                let less = bucket.per_second().min(used) * part;
                bucket.set_rate(rate(less.max(MIN_RATE)), now);
            }
            (Sign::Less(part), none) => {
                *none = Some(Bucket::new(rate((used * part).max(MIN_RATE)), now));
            }
            // The snapshots need much less than that: it bounds nothing any more.
            (Sign::More, Some(bucket)) if bucket.per_second() > 2.0 * used => self.bucket = None,
            (Sign::More, Some(bucket)) => bucket.set_rate(rate(bucket.per_second() * 1.08), now),
            (Sign::More | Sign::Same, _) => {}
        }
    }

    fn sign(&mut self, path: PathState, now: Instant) -> Sign {
        let queue = self.queue(path.rtt, now);
        self.queues = if queue > QUEUE { self.queues + 1 } else { 0 };
        // A path that was replaced counts from 0.
        let sent = path.sent.saturating_sub(self.path.sent);
        let lost = path.lost.saturating_sub(self.path.lost).min(sent);
        let loss = if sent < MIN_PACKETS { 0.0 } else { lost as f64 / sent as f64 };
        match () {
            () if queue > LONG_QUEUE => Sign::Less(0.5),
            () if self.queues >= 2 => Sign::Less(0.85),
            () if loss > HIGH_LOSS => Sign::Less(1.0 - loss / 2.0),
            () if self.queues == 0 && loss < LOW_LOSS => Sign::More,
            () => Sign::Same,
        }
    }

    /// How long packets wait on the way.
    fn queue(&mut self, rtt: Duration, now: Instant) -> Duration {
        if now.saturating_duration_since(self.window) >= WINDOW {
            self.lowest = [self.lowest[1], Duration::MAX];
            self.window = now;
        }
        if !rtt.is_zero() {
            self.lowest[1] = self.lowest[1].min(rtt);
        }
        rtt.saturating_sub(self.lowest[0].min(self.lowest[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that carries so many bytes a second, with a queue of `room` bytes before it, behind
    /// which packets are lost, and a part of the others too.
    struct Link {
        carries: f64,
        room: f64,
        loses: f64,
        queued: f64,
        path: PathState,
        sent: f64,
        lost: f64,
    }

    const FIRST: PathState = PathState { rtt: Duration::from_millis(50), sent: 0, lost: 0 };
    const TICK: Duration = Duration::from_millis(33);

    impl Link {
        fn new(carries: f64, room: f64, loses: f64) -> Self {
            Self { carries, room, loses, queued: 0.0, path: FIRST, sent: 0.0, lost: 0.0 }
        }

        /// `budget` bytes are sent, or none; then a tick passes.
        fn tick(&mut self, bytes: Option<usize>) {
            if let Some(bytes) = bytes {
                self.sent += 1.0;
                let whole = bytes as f64 + HEADERS;
                if self.queued + whole > self.room {
                    self.lost += 1.0;
                } else {
                    self.queued += whole;
                    self.lost += self.loses;
                }
            }
            self.queued = (self.queued - self.carries * TICK.as_secs_f64()).max(0.0);
            let rtt = FIRST.rtt + Duration::from_secs_f64(self.queued / self.carries);
            self.path = PathState { rtt, sent: self.sent as u64, lost: self.lost as u64 };
        }
    }

    /// What came of a while: of each tick, the bytes sent and the round trip after it.
    fn play(link: &mut Link, wanted: usize, seconds: u32) -> (Allowance, Vec<(usize, Duration)>) {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(None, FIRST, now);
        let mut seen = Vec::new();
        for _ in 0..seconds * 30 {
            now += TICK;
            if allowance.is_due(now) {
                allowance.look(link.path, now);
            }
            let bytes = allowance.budget(1200, now).map(|budget| budget.min(wanted));
            if let Some(bytes) = bytes {
                allowance.spend(bytes);
            }
            link.tick(bytes);
            seen.push((bytes.unwrap_or(0), link.path.rtt));
        }
        (allowance, seen)
    }

    #[test]
    fn a_good_link_gets_everything_with_each_tick_also_if_it_loses_some() {
        for loses in [0.0, 0.01, 0.05, 0.09] {
            let mut link = Link::new(1e6, 1e6, loses);
            let (allowance, seen) = play(&mut link, 800, 60);
            assert!(seen.iter().all(|&(bytes, _)| bytes == 800), "{loses}");
            assert_eq!(allowance.pace(), None);
        }
    }

    #[test]
    fn a_narrow_link_is_used_well_and_its_queue_stays_short() {
        for carries in [4e3, 8e3, 16e3] {
            // A queue that takes a minute to fill, as in many a modem.
            let mut link = Link::new(carries, carries * 60.0, 0.0);
            let (allowance, seen) = play(&mut link, 1000, 120);
            let late = &seen[60 * 30..];
            let used: f64 = late.iter().map(|&(bytes, _)| bytes as f64).sum::<f64>() / 60.0;
            assert!(used > carries * 0.5, "{used} of {carries} bytes a second");
            let mut trips: Vec<Duration> = late.iter().map(|&(_, rtt)| rtt).collect();
            trips.sort_unstable();
            let (p50, p99) = (trips[trips.len() / 2], trips[trips.len() * 99 / 100]);
            assert!(p50 < Duration::from_millis(250), "{carries}: p50 {p50:?}");
            assert!(p99 < Duration::from_millis(700), "{carries}: p99 {p99:?}");
            let pace = f64::from(allowance.pace().expect("a rate"));
            assert!((carries * 0.6..carries * 1.5).contains(&pace), "{pace} of {carries}");
            let rate = late.iter().filter(|&&(bytes, _)| bytes > 0).count() / 60;
            assert!(rate >= 9, "{rate} snapshots a second");
        }
    }

    #[test]
    fn a_link_that_loses_what_it_does_not_carry_gets_less() {
        let mut link = Link::new(12e3, 3000.0, 0.0);
        let (_, seen) = play(&mut link, 1000, 60);
        let (sent, lost) = (link.sent, link.lost);
        let mut same = Link::new(12e3, 3000.0, 0.0);
        (0..60 * 30).for_each(|_| same.tick(Some(1000)));
        let part = |lost: f64, sent: f64| lost / sent;
        assert!(part(same.lost, same.sent) > 0.5, "without a rate most is lost");
        assert!(part(lost, sent) < 0.15, "{lost} of {sent} were lost");
        assert!(seen.iter().filter(|&&(bytes, _)| bytes > 0).count() > 500);
    }

    #[test]
    fn a_link_that_becomes_wide_again_gets_everything_again() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(None, FIRST, now);
        let mut link = Link::new(6e3, 1e6, 0.0);
        let mut last = Vec::new();
        for tick in 0..90 * 30 {
            if tick == 30 * 30 {
                assert!(allowance.pace().is_some(), "it was narrow");
                link.carries = 1e6;
            }
            now += TICK;
            if allowance.is_due(now) {
                allowance.look(link.path, now);
            }
            let bytes = allowance.budget(1200, now).map(|budget| budget.min(300));
            allowance.spend(bytes.unwrap_or(0));
            link.tick(bytes);
            last.push(bytes);
        }
        assert_eq!(allowance.pace(), None);
        assert!(last.iter().rev().take(300).all(|bytes| *bytes == Some(300)));
    }

    #[test]
    fn a_busy_machine_and_a_path_that_is_replaced_are_no_narrow_link() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(None, FIRST, now);
        for (rtt, sent, lost) in
            [(20, 30, 0), (400, 60, 0), (25, 90, 0), (20, 5, 5), (20, 35, 5), (0, 0, 0)]
        {
            now += LOOK;
            allowance.spend(500);
            allowance.look(PathState { rtt: Duration::from_millis(rtt), sent, lost }, now);
            assert_eq!(allowance.pace(), None, "{rtt} ms, {lost} of {sent}");
        }
    }

    #[test]
    fn what_the_operator_allows_holds_whatever_the_link_carries() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(Some(3000), FIRST, now);
        let mut sent = 0;
        for _ in 0..10 * 30 {
            now += TICK;
            let budget = allowance.budget(1200, now).unwrap();
            allowance.spend(budget);
            sent += budget;
        }
        assert!((29_000..=31_500).contains(&sent), "{sent} bytes in ten seconds");
    }
}
