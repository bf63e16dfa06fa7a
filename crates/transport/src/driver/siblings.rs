//! The loops of one port. Each has a socket and an endpoint of its own; the system spreads packets
//! over the sockets by the address of their sender. A packet of a connection that another loop has,
//! because its client has a new address, is handed over to that one.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use super::core::Port;
use crate::quic::connection_ids::IdKey;

/// A packet, and what the system says of it.
pub(super) struct Stray {
    pub(super) from: SocketAddr,
    /// The address of this host to which it came, where the system says so.
    pub(super) to: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) packet: BytesMut,
}

/// Finds the loop that has a connection.
#[derive(Default)]
pub(super) struct Siblings(OnceLock<Family>);

struct Family {
    /// The loop that asks.
    own: usize,
    key: IdKey,
    /// All loops of the port by number, that one included.
    ports: Vec<Weak<Port>>,
}

impl Siblings {
    /// The loop that has the connection of this packet, if that is another one than the one that
    /// asks.
    pub(super) fn elsewhere(&self, packet: &[u8]) -> Option<Arc<Port>> {
        let Family { own, key, ports } = self.0.get()?;
        let number = key.loop_of(packet)?;
        if number == *own { None } else { ports.get(number)?.upgrade() }
    }
}

/// Makes the loops of one port known to each other. Called once, before packets come.
pub(crate) fn introduce(ports: &[Arc<Port>], key: u64) {
    for (own, port) in ports.iter().enumerate() {
        let ports = ports.iter().map(Arc::downgrade).collect();
        let told = port.siblings.0.set(Family { own, key: IdKey(key), ports });
        assert!(told.is_ok(), "loops are made known to each other once");
    }
}
