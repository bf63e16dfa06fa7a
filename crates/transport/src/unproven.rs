//! How much may be sent to addresses that have not proved that they are where they say: three times
//! what came from there (RFC 9000, section 8.1).
//!
//! QUIC's own count lets a whole packet begin while a byte of the allowance is left, so the last
//! one goes beyond it. This count is exact. A connection that is taken enters
//! its address ([`crate::Incoming::accept`]), the socket ([`crate::socket`]) counts and drops what
//! is too much: to QUIC it is a lost packet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// How many bytes may be sent for each one received.
const FACTOR: usize = 3;
/// The least that a client's first packet has: QUIC looks at no smaller one.
const FIRST_PACKET: usize = 1200;

#[derive(Debug, Default)]
struct Address {
    /// Connections from there whose handshake is not complete.
    pending: usize,
    /// Those whose handshake is: whoever is there receives what is sent there. Many clients may
    /// share an address.
    proven: usize,
    /// What may still be sent there while nothing is proved.
    bytes: usize,
}

impl Address {
    fn is_limited(&self) -> bool {
        self.proven == 0
    }
}

/// All addresses with connections, and what may still be sent to those that have not proved
/// themselves.
#[derive(Debug, Default)]
pub(crate) struct Unproven {
    /// How many are limited: mostly none, and then nothing is locked.
    limited: AtomicUsize,
    addresses: Mutex<BTreeMap<SocketAddr, Address>>,
}

/// Keeps the address of a connection in the table of addresses, while the connection is served.
#[derive(Debug)]
pub struct AddressGuard {
    table: Arc<Unproven>,
    addr: SocketAddr,
    /// The connection's handshake is complete: its client receives what is sent to `addr`.
    proven: bool,
}

impl Unproven {
    /// A connection from `addr` is accepted; its first packet has been received. `proven`: with
    /// that it has proved its address.
    pub(crate) fn enter(self: &Arc<Self>, addr: SocketAddr, proven: bool) -> AddressGuard {
        self.change(addr, |address| {
            address.pending += 1;
            address.bytes += FACTOR * FIRST_PACKET;
        });
        let mut guard = AddressGuard { table: Arc::clone(self), addr, proven: false };
        if proven {
            guard.prove();
        }
        guard
    }

    /// Whether no address is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.limited.load(Ordering::Acquire) == 0
    }

    /// So many bytes came from `addr`.
    pub(crate) fn received(&self, addr: SocketAddr, bytes: usize) {
        if let Some(address) = self.addresses.lock().get_mut(&addr) {
            address.bytes = address.bytes.saturating_add(FACTOR * bytes);
        }
    }

    /// Whether so many bytes may be sent to `addr`. If so, they are counted.
    pub(crate) fn may_send(&self, addr: SocketAddr, bytes: usize) -> bool {
        let mut addresses = self.addresses.lock();
        let Some(address) = addresses.get_mut(&addr).filter(|address| address.is_limited()) else {
            return true;
        };
        let left = address.bytes.checked_sub(bytes);
        if let Some(left) = left {
            address.bytes = left;
        }
        left.is_some()
    }

    fn change(&self, addr: SocketAddr, change: impl FnOnce(&mut Address)) {
        let mut addresses = self.addresses.lock();
        let before = usize::from(addresses.get(&addr).is_some_and(Address::is_limited));
        let address = addresses.entry(addr).or_default();
        change(address);
        let gone = address.pending + address.proven == 0;
        let after = usize::from(!gone && address.is_limited());
        if gone {
            addresses.remove(&addr);
        }
        // Under the lock, so that no count is lost.
        self.limited
            .store(self.limited.load(Ordering::Relaxed) + after - before, Ordering::Release);
    }
}

impl AddressGuard {
    /// The handshake is complete.
    pub(crate) fn prove(&mut self) {
        if !self.proven {
            self.proven = true;
            self.table.change(self.addr, |address| {
                address.pending -= 1;
                address.proven += 1;
            });
        }
    }

    /// Whether it is.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        let proven = self.proven;
        self.table.change(self.addr, |address| {
            *(if proven { &mut address.proven } else { &mut address.pending }) -= 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_what_came_and_not_a_byte_more() {
        let table = Arc::new(Unproven::default());
        let (one, other) =
            (SocketAddr::from(([10, 0, 0, 1], 5)), SocketAddr::from(([10, 0, 0, 2], 5)));
        assert!(table.is_empty() && table.may_send(one, 100_000));
        let guard = table.enter(one, false);
        assert!(
            !table.is_empty() && table.may_send(other, 100_000),
            "that one is proved, or nobody"
        );
        assert!(
            table.may_send(one, 3_599)
                && !table.may_send(one, 2)
                && table.may_send(one, 1)
                && !table.may_send(one, 1)
        );
        table.received(one, 10);
        assert!(table.may_send(one, 30) && !table.may_send(one, 1));
        let second = table.enter(one, false);
        drop(guard);
        assert!(!table.may_send(one, 3_601) && table.may_send(one, 3_600));
        drop(second);
        assert!(
            table.is_empty() && table.may_send(one, 100_000) && table.addresses.lock().is_empty()
        );
    }

    #[test]
    fn clients_that_share_an_address_prove_it_for_each_other() {
        let table = Arc::new(Unproven::default());
        let addr = SocketAddr::from(([10, 0, 0, 1], 5));
        let mut first = table.enter(addr, false);
        let second = table.enter(addr, false);
        first.prove();
        first.prove();
        assert!(
            first.is_proven() && table.is_empty() && table.may_send(addr, 100_000),
            "the second one waits for nothing"
        );
        drop(first);
        assert!(
            !table.is_empty() && !table.may_send(addr, 100_000),
            "whoever is there now has not proved it"
        );
        drop(second);
        let third = table.enter(addr, true);
        assert!(table.is_empty() && table.may_send(addr, 100_000));
        drop(third);
        assert!(table.is_empty() && table.addresses.lock().is_empty());
    }
}
