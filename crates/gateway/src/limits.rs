//! Who may knock, and how often: token buckets and the decision on a new connection. Pure: the time
//! comes from the caller.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Limits, Rate};

/// Most source addresses that have a bucket of their own; the others share one.
const MAX_SOURCES: usize = 16 << 10;

/// What one source may have pending at least, however small the bound for all is: a household or a
/// local swarm.
const MIN_SHARE: usize = 64;

/// Lets through what a [`Rate`] allows.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    rate: Rate,
    /// What may be taken now; negative while turns are reserved.
    tokens: f64,
    /// When `tokens` was computed.
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate.per_second).min(self.rate.burst);
        self.at = self.at.max(now);
    }

    /// What may be taken now.
    pub(crate) fn available(&mut self, now: Instant) -> f64 {
        self.refill(now);
        self.tokens
    }

    /// Takes `amount`, which is there.
    pub(crate) fn spend(&mut self, amount: f64) {
        self.tokens -= amount;
    }

    /// What it gains a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.rate.per_second
    }

    /// Gains and saves as `rate` says from now on. What it has it keeps, as far as that may be
    /// saved.
    pub(crate) fn set_rate(&mut self, rate: Rate, now: Instant) {
        self.refill(now);
        self.rate = rate;
        self.tokens = self.tokens.min(rate.burst);
    }

    /// Takes `amount` if it is there.
    pub(crate) fn take(&mut self, amount: f64, now: Instant) -> bool {
        self.refill(now);
        if self.tokens < amount {
            return false;
        }
        self.tokens -= amount;
        true
    }

    /// Takes one in any case and says how long to wait for it.
    pub(crate) fn reserve(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 || self.rate.per_second <= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.tokens / self.rate.per_second)
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.rate.burst
    }
}

/// What to do with a connection that wants in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Shake hands.
    Accept,
    /// Have it prove its address first.
    Retry,
    /// Say no.
    Refuse(&'static str),
    /// Say nothing: it may not even be where it claims to be.
    Ignore(&'static str),
}

/// What is known of a connection that wants in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knock {
    /// The address that it says it comes from.
    pub(crate) source: IpAddr,
    /// It has proved that it receives what is sent to `source`.
    pub(crate) validated: bool,
    /// Connections that are open now, let in or not.
    pub(crate) open: usize,
    /// Connections that are not yet let in.
    pub(crate) pending: usize,
    /// Those of them that come from `source`, by [`subscriber`].
    pub(crate) pending_from_source: usize,
}

/// Decides on new connections.
#[derive(Debug)]
pub(crate) struct Gatekeeper {
    /// See [`Limits::max_connections`].
    max_connections: usize,
    /// See [`Limits::max_pending`].
    max_pending: usize,
    /// See [`Limits::retry_above`].
    retry_above: usize,
    /// What all sources together may do.
    all: Bucket,
    /// What each source may do.
    per_source: Rate,
    /// By address, and whether it was proved.
    sources: BTreeMap<(IpAddr, bool), Bucket>,
    /// What the sources together may do that have no bucket of their own.
    others: Bucket,
    /// When buckets that are full again were last forgotten.
    swept: Instant,
}

impl Gatekeeper {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            max_connections: limits.max_connections,
            max_pending: limits.max_pending,
            retry_above: limits.retry_above,
            all: Bucket::new(limits.handshakes, now),
            per_source: limits.handshakes_per_source,
            sources: BTreeMap::new(),
            others: Bucket::new(limits.handshakes_per_source, now),
            swept: now,
        }
    }

    pub(crate) fn decide(&mut self, knock: Knock, now: Instant) -> Verdict {
        if knock.pending >= self.max_pending {
            return Verdict::Ignore("pending");
        }
        if knock.open >= self.max_connections {
            // Only to those who are where they say: anybody else's address would get our packets.
            return if knock.validated {
                Verdict::Refuse("connections")
            } else {
                Verdict::Ignore("connections")
            };
        }
        if knock.pending >= self.retry_above && !knock.validated {
            return Verdict::Retry;
        }
        // No source takes all places of those who knock: a spoofed one gets few, a real one half.
        if !knock.validated && knock.pending_from_source >= (self.max_pending / 8).max(MIN_SHARE) {
            return Verdict::Retry;
        }
        if knock.pending_from_source >= (self.max_pending / 2).max(MIN_SHARE) {
            return Verdict::Refuse("source_pending");
        }
        // Who has not proved its address pays from a bucket apart: it could be spending another's.
        if !self.source((subscriber(knock.source), knock.validated), now).take(1.0, now) {
            return if knock.validated { Verdict::Refuse("source") } else { Verdict::Retry };
        }
        if !self.all.take(1.0, now) {
            return Verdict::Ignore("handshakes");
        }
        Verdict::Accept
    }

    fn source(&mut self, source: (IpAddr, bool), now: Instant) -> &mut Bucket {
        if self.sources.len() >= MAX_SOURCES
            && now.saturating_duration_since(self.swept) >= Duration::from_secs(1)
        {
            self.swept = now;
            self.sources.retain(|_, bucket| !bucket.is_full(now));
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            return &mut self.others;
        }
        let rate = self.per_source;
        self.sources.entry(source).or_insert_with(|| Bucket::new(rate, now))
    }
}

/// Who counts as one source: whoever has one IPv6 address has its whole /64.
pub fn subscriber(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(last: u8, validated: bool) -> Knock {
        Knock {
            source: IpAddr::from([10, 0, 0, last]),
            validated,
            open: 0,
            pending: 0,
            pending_from_source: 0,
        }
    }

    fn limits() -> Limits {
        Limits {
            handshakes: Rate::new(100.0, 50.0),
            handshakes_per_source: Rate::new(1.0, 5.0),
            ..Limits::default()
        }
    }

    #[test]
    fn a_bucket_lets_through_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate::new(10.0, 3.0), start);
        assert_eq!((0..5).filter(|_| bucket.take(1.0, start)).count(), 3);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..5).filter(|_| bucket.take(1.0, later)).count(), 2);
        assert!(!bucket.take(1.0, start), "a clock that goes back gives nothing");
    }

    #[test]
    fn reserved_turns_come_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate::new(10.0, 1.0), start);
        assert_eq!(bucket.reserve(start), Duration::ZERO);
        assert_eq!(bucket.reserve(start), Duration::from_millis(100));
        assert_eq!(bucket.reserve(start), Duration::from_millis(200));
    }

    #[test]
    fn a_source_over_its_rate_must_prove_its_address_and_is_then_refused() {
        let now = Instant::now();
        let mut gatekeeper = Gatekeeper::new(&limits(), now);
        for _ in 0..5 {
            assert_eq!(gatekeeper.decide(knock(1, false), now), Verdict::Accept);
        }
        assert_eq!(gatekeeper.decide(knock(1, false), now), Verdict::Retry);
        for _ in 0..5 {
            assert_eq!(
                gatekeeper.decide(knock(1, true), now),
                Verdict::Accept,
                "whoever abused the address did not own it"
            );
        }
        assert_eq!(gatekeeper.decide(knock(1, true), now), Verdict::Refuse("source"));
        assert_eq!(
            gatekeeper.decide(knock(2, false), now),
            Verdict::Accept,
            "another source has its own"
        );
    }

    #[test]
    fn all_sources_together_have_a_rate_too() {
        let now = Instant::now();
        let mut gatekeeper = Gatekeeper::new(&limits(), now);
        let accepted = (0..=255)
            .filter(|&last| gatekeeper.decide(knock(last, true), now) == Verdict::Accept)
            .count();
        assert_eq!(accepted, 50);
    }

    #[test]
    fn many_pending_handshakes_ask_for_proof_and_too_many_are_ignored() {
        let now = Instant::now();
        let mut gatekeeper =
            Gatekeeper::new(&Limits { retry_above: 10, max_pending: 20, ..limits() }, now);
        let at = |pending| Knock { pending, ..knock(1, false) };
        assert_eq!(gatekeeper.decide(at(9), now), Verdict::Accept);
        assert_eq!(gatekeeper.decide(at(10), now), Verdict::Retry);
        assert_eq!(gatekeeper.decide(Knock { validated: true, ..at(10) }, now), Verdict::Accept);
        assert_eq!(gatekeeper.decide(at(20), now), Verdict::Ignore("pending"));
    }

    #[test]
    fn one_source_does_not_take_all_pending_places() {
        let now = Instant::now();
        let mut gatekeeper =
            Gatekeeper::new(&Limits { retry_above: 2_000, max_pending: 1_024, ..limits() }, now);
        let at = |pending_from_source, validated| Knock {
            pending: 600,
            pending_from_source,
            ..knock(1, validated)
        };
        assert_eq!(gatekeeper.decide(at(127, false), now), Verdict::Accept);
        assert_eq!(
            gatekeeper.decide(at(128, false), now),
            Verdict::Retry,
            "it may be somebody else's address"
        );
        assert_eq!(gatekeeper.decide(at(511, true), now), Verdict::Accept);
        assert_eq!(gatekeeper.decide(at(512, true), now), Verdict::Refuse("source_pending"));
        let other = Knock { pending: 600, ..knock(2, false) };
        assert_eq!(gatekeeper.decide(other, now), Verdict::Accept, "another source still gets in");
        let mut small = Gatekeeper::new(&Limits { max_pending: 80, ..limits() }, now);
        assert_eq!(
            small.decide(Knock { pending: 63, pending_from_source: 63, ..knock(3, false) }, now),
            Verdict::Accept
        );
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let now = Instant::now();
        let limits = Limits { handshakes: Rate::new(1e9, 1e9), ..limits() };
        let mut gatekeeper = Gatekeeper::new(&limits, now);
        for n in 0..3 * MAX_SOURCES as u32 {
            gatekeeper
                .decide(Knock { source: IpAddr::from(n.to_be_bytes()), ..knock(0, true) }, now);
        }
        assert!(gatekeeper.sources.len() <= MAX_SOURCES);
        let later = now + Duration::from_secs(10);
        gatekeeper.decide(knock(1, true), later);
        assert_eq!(gatekeeper.sources.len(), 1, "sources that have been quiet are forgotten");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let of = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
