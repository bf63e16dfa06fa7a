//! Reaches a server: overlapping attempts over all known addresses, the first that completes its handshake wins.

use std::collections::VecDeque;
use std::fmt::Display;
use std::net::SocketAddr;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quinn::{Connection, Endpoint};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Timing;
use crate::tls::SERVER_NAME;

/// Most attempts that run at once.
const MAX_ATTEMPTS: usize = 8;
/// Most addresses that are remembered.
const MAX_ADDRS: usize = 32;

/// Knows where servers may be.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    quic: quinn::ClientConfig,
    timing: Timing,
    /// The next attempt goes to the first.
    addrs: VecDeque<SocketAddr>,
    /// What the last attempt that failed said.
    pub(crate) last_error: Option<String>,
}

impl Dialer {
    pub(crate) fn new(endpoint: Endpoint, quic: quinn::ClientConfig, timing: Timing, addrs: &[SocketAddr]) -> Self {
        Self { endpoint, quic, timing, addrs: addrs.iter().copied().take(MAX_ADDRS).collect(), last_error: None }
    }

    /// The next attempt goes to `addr`.
    pub(crate) fn prefer(&mut self, addr: SocketAddr) {
        self.addrs.retain(|known| *known != addr);
        self.addrs.truncate(MAX_ADDRS - 1);
        self.addrs.push_front(addr);
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
                        attempts.push(timeout(self.timing.attempt, connecting));
                    }
                    // Each attempt that is given up costs the server a little: few attempts, each of which knocks several times.
                    started += 1;
                    let round_is_over = started % self.addrs.len().max(1) == 0;
                    next = Instant::now() + if round_is_over { self.timing.redial_round } else { self.timing.redial };
                }
            }
        }
    }

    fn attempt(&mut self) -> Option<quinn::Connecting> {
        let addr = self.addrs.front().copied()?;
        self.addrs.rotate_left(1);
        match self.endpoint.connect_with(self.quic.clone(), addr, SERVER_NAME) {
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
