//! Players of a node that lives but cannot reach the store are sent to the other nodes.
//!
//! Such a node acknowledges nothing, and others may fence it once its lease has stood still for as
//! long as a lease lasts: from then on its matches go on there. Its edge then closes its
//! connections with the words that make clients ask other nodes, and takes nobody in, until its
//! lease moves again. A node that hears of no other one that reaches the store keeps its players:
//! then the store is likely away for all, and they have nowhere to go.
//!
//! [`Contact`] decides, [`keep`] looks and acts; called by [`super::lifecycle`]. It is a courtesy
//! to players: what is acknowledged is decided by the store alone.

use std::convert::Infallible;
use std::time::Duration;

use rekindle_cluster::membership::Looks;
use rekindle_cluster::ownership::lease::LEASE_MS;
use tokio::time::{Instant, sleep, timeout};

use super::Serving;

/// How often the own lease is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the store may take to show it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// When this node's lease was last seen to move.
#[derive(Debug)]
struct Contact {
    /// Its deadline then.
    deadline_ms: u64,
    /// In milliseconds of the caller's clock, which never goes back.
    moved_ms: u64,
    /// Players have been sent away.
    away: bool,
}

/// What is to be done about players.
#[derive(Debug, PartialEq, Eq)]
enum Players {
    /// They go to other nodes.
    SendAway,
    /// They may come in again.
    LetIn,
}

impl Contact {
    fn new(now_ms: u64) -> Self {
        Self { deadline_ms: 0, moved_ms: now_ms, away: false }
    }

    /// The lease was read, with this deadline, or could not be; `others`: another node lives and
    /// reaches the store.
    fn look(&mut self, now_ms: u64, deadline_ms: Option<u64>, others: bool) -> Option<Players> {
        if let Some(deadline_ms) = deadline_ms.filter(|&deadline| deadline != self.deadline_ms) {
            self.deadline_ms = deadline_ms;
            self.moved_ms = now_ms;
        }
        let lost = now_ms.saturating_sub(self.moved_ms) >= LEASE_MS;
        match (lost, self.away) {
            (true, false) if others => {
                self.away = true;
                Some(Players::SendAway)
            }
            (false, true) => {
                self.away = false;
                Some(Players::LetIn)
            }
            _ => None,
        }
    }
}

/// Looks at this node's own lease, as long as it serves.
pub(super) async fn keep(node: &Serving) -> Infallible {
    let begun = Instant::now();
    let mut contact = Contact::new(0);
    let parts = node.parts();
    loop {
        let read = timeout(ANSWERS_WITHIN, parts.store.leases.node(parts.incarnation)).await;
        let lease = read.ok().and_then(Result::ok).flatten();
        let mut others = parts.cluster.seen().into_iter();
        let others = others.any(|other| {
            let reaches_store = other.load.is_some_and(|load| load.reaches_store);
            other.linked && other.looks == Looks::Alive && reaches_store
        });
        let now_ms = begun.elapsed().as_millis() as u64;
        match contact.look(now_ms, lease.map(|lease| lease.deadline_ms), others) {
            Some(Players::SendAway) => {
                tracing::warn!(
                    code = "RK-NODE-208",
                    players = parts.gateway.clients(),
                    "this node has not reached the store for as long as a lease lasts, and others \
                     do: its players are sent there"
                );
                parts.gateway.send_away(
                    "RK-NODE-208: this node cannot reach the store: your match goes on at another \
                     node",
                );
            }
            Some(Players::LetIn) => {
                tracing::info!(
                    code = "RK-NODE-209",
                    "this node reaches the store again and lets players in"
                );
                parts.gateway.let_in();
            }
            None => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_are_sent_away_once_the_lease_has_stood_still_for_as_long_as_it_lasts() {
        let mut contact = Contact::new(0);
        assert_eq!(contact.look(500, Some(4_500), true), None);
        assert_eq!(contact.look(500 + LEASE_MS - 1, None, true), None);
        assert_eq!(contact.look(500 + LEASE_MS, None, true), Some(Players::SendAway));
        assert_eq!(contact.look(501 + LEASE_MS, None, true), None, "once");
        assert_eq!(contact.look(9_000, Some(4_500), true), None, "read, and not renewed");
        assert_eq!(contact.look(9_500, Some(13_500), true), Some(Players::LetIn));
        assert_eq!(contact.look(9_501, Some(13_500), true), None);
    }

    #[test]
    fn players_stay_while_there_is_no_other_node_and_go_as_soon_as_there_is_one() {
        let mut contact = Contact::new(0);
        assert_eq!(contact.look(10_000, None, false), None);
        assert_eq!(contact.look(60_000, None, false), None);
        assert_eq!(contact.look(60_500, None, true), Some(Players::SendAway));
        assert_eq!(contact.look(61_000, None, false), None, "they are not called back for that");
        assert_eq!(contact.look(61_500, Some(1), false), Some(Players::LetIn));
    }

    #[test]
    fn a_lease_that_is_renewed_keeps_them_however_long_it_takes() {
        let mut contact = Contact::new(0);
        for second in 1..100 {
            assert_eq!(contact.look(second * 3_000, Some(second), true), None);
        }
    }
}
