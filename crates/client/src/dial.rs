//! Reaches a server: overlapping attempts over all known addresses, the first that completes its
//! handshake wins.
//!
//! Whoever serves many clients and has just come back is busiest when all of them knock. So rounds
//! of attempts come at growing intervals, each client's at moments of its own, and later attempts
//! may take longer: an attempt that is given up has cost the server a handshake for nothing.

use std::collections::VecDeque;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rekindle_schema::wire::{MAX_ADDR, MAX_NODES};
use rekindle_transport::{ClientEndpoint, ClientSetup, Connecting, Connection};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Timing;

/// Between the first two tries at a server that answers and does not serve; longer between later
/// ones.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Of the time that a client has been trying, it waits this part before it tries again: whoever has
/// to wait for long asks rarely.
const PART: u32 = 6;
/// No pause is longer, but for the quarter by which pauses differ.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// A client that was told where its match is waits so many times longer before it asks others.
const TOLD: u32 = 5;
/// Most attempts that run at once.
const MAX_ATTEMPTS: usize = 8;
/// Intervals between rounds, and the time that attempts may take, double this often at most.
const DOUBLINGS: u32 = 2;
/// Most addresses that are remembered.
const MAX_ADDRS: usize = 32;

// Those that were given and what a server may name of them fit, but for a few.
const _: () = assert!(MAX_NODES <= MAX_ADDRS);

/// Knows where servers may be.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    endpoint: ClientEndpoint,
    setup: ClientSetup,
    timing: Timing,
    /// The next attempt goes to the first.
    addrs: VecDeque<SocketAddr>,
    /// Those that the game named. No server makes the client forget them.
    given: Vec<SocketAddr>,
    /// Makes this client's moments differ from those of others.
    seed: u64,
    /// Rounds over all addresses since a server last took the session on.
    rounds: u32,
    /// A server has said that the match is at the first address: the others are asked later than
    /// usual, since all that they can say is the same.
    told: bool,
    /// What the last attempt that failed said.
    pub(crate) last_error: Option<String>,
}

impl Dialer {
    /// `seed` should differ between clients, and be the same for the same one: a simulation's must
    /// repeat itself.
    pub(crate) fn new(
        endpoint: ClientEndpoint,
        setup: ClientSetup,
        timing: Timing,
        addrs: &[SocketAddr],
        seed: u64,
    ) -> Self {
        let given: Vec<SocketAddr> = addrs.iter().copied().take(MAX_ADDRS).collect();
        let addrs = given.iter().copied().collect();
        Self {
            endpoint,
            setup,
            timing,
            addrs,
            given,
            seed,
            rounds: 0,
            told: false,
            last_error: None,
        }
    }

    /// A server has taken the session on, or answers: the next search begins as hastily as the
    /// first.
    pub(crate) fn calm(&mut self) {
        (self.rounds, self.told) = (0, false);
    }

    /// The match is at `addr`, says a server.
    pub(crate) fn lead_to(&mut self, addr: SocketAddr) {
        self.calm();
        self.prefer(addr);
        self.told = true;
    }

    fn pause(&self, first: Duration, times: u32) -> Duration {
        spread(doubled(first, times), self.seed, times)
    }

    /// How long to wait after a server answered and did not serve, be it that it said "not now", or
    /// that it took the session on and let it fall at once: the `times`th time in a row (from 0),
    /// `trying` after the first.
    pub(crate) fn back_off(&self, times: u32, trying: Duration) -> Duration {
        spread(doubled(TRY_AGAIN, times).max(trying / PART).min(LONGEST_PAUSE), self.seed, times)
    }

    /// Whether there is another address than `addr` to ask.
    pub(crate) fn knows_another(&self, addr: SocketAddr) -> bool {
        self.addrs.iter().any(|known| *known != addr)
    }

    /// No other address than `addr` is asked any more.
    pub(crate) fn only(&mut self, addr: SocketAddr) {
        (self.addrs, self.given, self.rounds) = ([addr].into(), vec![addr], 0);
    }

    /// The next attempt goes to `addr`.
    pub(crate) fn prefer(&mut self, addr: SocketAddr) {
        self.addrs.retain(|known| *known != addr);
        self.addrs.push_front(addr);
        while self.addrs.len() > MAX_ADDRS {
            let given = &self.given;
            let spare = self.addrs.iter().rposition(|known| !given.contains(known));
            // The one in front, if all others were given.
            self.addrs.remove(spare.unwrap_or(0));
        }
    }

    /// The cluster's nodes are at `named`, says the server at `keep`: what was learnt before and is
    /// not among them is forgotten. Each client takes new ones in an order of its own, so that not
    /// all run to the same node when theirs has died.
    pub(crate) fn learn(&mut self, named: &[String], keep: SocketAddr) {
        let mut named: Vec<SocketAddr> =
            named.iter().take(MAX_NODES).filter_map(|addr| usable(addr)).collect();
        let turns = named.len().max(1) as u64;
        named.rotate_left((self.seed % turns) as usize);
        let given = &self.given;
        self.addrs.retain(|known| *known == keep || given.contains(known) || named.contains(known));
        for addr in named {
            if self.addrs.len() < MAX_ADDRS && !self.addrs.contains(&addr) {
                self.addrs.push_back(addr);
            }
        }
    }

    /// The next attempt does not go to `addr` if there is another.
    pub(crate) fn avoid(&mut self, addr: SocketAddr) {
        if let Some(index) = self.addrs.iter().position(|known| *known == addr) {
            self.addrs.remove(index);
            self.addrs.push_back(addr);
        }
    }

    /// Tries until a handshake is complete. Giving up the future gives up all attempts.
    pub(crate) async fn dial(&mut self) -> Connection {
        let mut attempts = FuturesUnordered::new();
        let mut next = Instant::now();
        let mut started = 0;
        loop {
            tokio::select! {
                biased;
                Some(outcome) = attempts.next(), if !attempts.is_empty() => match outcome {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err(error)) => self.failed(&error),
                    Err(_) => self.failed(&"no answer"),
                },
                () = sleep_until(next) => {
                    if attempts.len() < MAX_ATTEMPTS
                        && let Some(connecting) = self.attempt()
                    {
                        let patience = doubled(self.timing.attempt, self.rounds);
                        attempts.push(timeout(patience, connecting));
                    }
                    started += 1;
                    let round_is_over = started % self.addrs.len().max(1) == 0;
                    let pause = match round_is_over {
                        true => self.pause(self.timing.redial_round, self.rounds),
                        false if self.told && started == 1 => self.timing.redial * TOLD,
                        false => self.timing.redial,
                    };
                    next = Instant::now() + pause;
                    self.rounds = self.rounds.saturating_add(u32::from(round_is_over));
                }
            }
        }
    }

    fn attempt(&mut self) -> Option<Connecting> {
        let addr = self.addrs.front().copied()?;
        self.addrs.rotate_left(1);
        match self.endpoint.connect(&self.setup, addr) {
            Ok(connecting) => Some(connecting),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn failed(&mut self, error: &dyn Display) {
        tracing::debug!(code = "RK-CLIENT-010", %error, "an attempt to connect failed");
        self.last_error = Some(error.to_string());
    }
}

/// The address in `text`, if it is one that can be dialled.
pub(crate) fn usable(text: &str) -> Option<SocketAddr> {
    if text.len() > MAX_ADDR {
        return None;
    }
    let addr: SocketAddr = text.parse().ok()?;
    let ip = addr.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    (addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast).then_some(addr)
}

fn doubled(time: Duration, times: u32) -> Duration {
    time * (1 << times.min(DOUBLINGS))
}

/// `time` and up to a quarter more or less, as `seed` and `round` decide, in whole milliseconds:
/// timers know no finer ones.
fn spread(time: Duration, seed: u64, round: u32) -> Duration {
    // The finaliser of SplitMix64.
    let mut z =
        seed.wrapping_add(u64::from(round).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = f64::from((z >> 32) as u32) / f64::from(u32::MAX);
    Duration::from_millis((time.as_millis() as f64 * (0.75 + part / 2.0)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(400);

    fn pauses(seed: u64) -> Vec<Duration> {
        (0..8).map(|round| spread(doubled(FIRST, round), seed, round)).collect()
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_stay_near_their_mean() {
        for seed in 0..100 {
            for (round, pause) in pauses(seed).into_iter().enumerate() {
                let mean = FIRST * [1, 2, 4][round.min(2)];
                assert!(
                    pause >= mean.mul_f64(0.75) && pause <= mean.mul_f64(1.25),
                    "seed {seed}, round {round}: {pause:?}"
                );
            }
        }
    }

    fn dialer(given: &[SocketAddr]) -> Dialer {
        let endpoint = ClientEndpoint::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let trust = rekindle_transport::Trust::Certificate(Vec::new());
        let setup = ClientSetup::new(&trust).unwrap();
        Dialer::new(endpoint, setup, Timing::default(), given, 7)
    }

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[tokio::test]
    async fn what_servers_name_is_bounded_and_never_drives_out_what_the_game_named() {
        let given = [at(1), at(2)];
        let mut dialer = dialer(&given);
        let named: Vec<String> = (100..10_100).map(|port| at(port).to_string()).collect();
        dialer.learn(&named, at(1));
        assert_eq!(dialer.addrs.len(), MAX_ADDRS);
        for port in 20_000..30_000 {
            dialer.prefer(at(port));
        }
        assert_eq!((dialer.addrs.len(), dialer.addrs[0]), (MAX_ADDRS, at(29_999)));
        assert!(given.iter().all(|addr| dialer.addrs.contains(addr)));
        // A list that says something else replaces what was learnt before.
        dialer.learn(&[at(7).to_string(), "nonsense".to_owned(), at(7).to_string()], at(2));
        let mut known: Vec<u16> = dialer.addrs.iter().map(SocketAddr::port).collect();
        known.sort_unstable();
        assert_eq!(known, [1, 2, 7]);
    }

    #[test]
    fn nobody_is_at_some_addresses() {
        assert_eq!(usable("192.0.2.1:7777"), Some(at(7777)));
        assert!(usable("[2001:db8::1]:7777").is_some());
        let long = "9".repeat(MAX_ADDR + 1);
        for text in [
            "",
            "x",
            "192.0.2.1",
            "192.0.2.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            &long,
        ] {
            assert_eq!(usable(text), None, "{text}");
        }
    }

    #[test]
    fn clients_differ_from_each_other_and_each_repeats_itself() {
        assert_eq!(pauses(7), pauses(7));
        let mut firsts: Vec<Duration> = (0..100).map(|seed| pauses(seed)[0]).collect();
        let half = firsts.iter().filter(|pause| **pause < FIRST).count();
        assert!((30..70).contains(&half), "{half} of 100 lie below the mean");
        firsts.sort_unstable();
        firsts.dedup();
        // Of 200 different milliseconds.
        assert!(firsts.len() > 50, "{} different first pauses of 100 clients", firsts.len());
    }
}
