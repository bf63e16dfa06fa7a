//! The packets of a batch. Their memory is kept from batch to batch.

use quinn::udp;
use quinn_proto::Transmit;

/// Packets of connections that are made before they are sent.
const BATCH: usize = 64;
/// Packets that wait at most, with those that belong to no connection (refusals, Retry, resets).
/// What comes beyond is dropped, as a network may.
pub(super) const MAX_WAITING: usize = 1024;
/// Buffers that are kept.
const KEPT: usize = 2 * BATCH;
const _: () = assert!(BATCH <= KEPT && KEPT <= MAX_WAITING, "a batch fits, and is kept");

/// One packet, or several of the same size to the same address.
pub(crate) struct Packet {
    bytes: Vec<u8>,
    transmit: Transmit,
}

impl Packet {
    /// What is sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As the system is told of it.
    pub(crate) fn as_udp(&self) -> udp::Transmit<'_> {
        let Transmit { destination, ecn, segment_size, src_ip, .. } = self.transmit;
        let ecn = ecn.and_then(|mark| udp::EcnCodepoint::from_bits(mark as u8));
        udp::Transmit { destination, ecn, contents: &self.bytes, segment_size, src_ip }
    }
}

/// Packets that wait to be sent, oldest first.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Vec<Packet>,
    /// Buffers of packets that were sent.
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    /// Whether a batch is full: connections are asked for no more.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= BATCH
    }

    /// An empty buffer for the next packet.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// A packet that was written to `bytes`.
    pub(super) fn push(&mut self, transmit: Transmit, bytes: Vec<u8>) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(Packet { bytes, transmit });
        } else {
            self.give_back(bytes);
        }
    }

    /// A buffer that was not needed.
    pub(super) fn give_back(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < KEPT {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// The packets that wait.
    pub(crate) fn waiting(&self) -> &[Packet] {
        &self.waiting
    }

    /// The first `count` packets were sent, or dropped.
    pub(crate) fn sent(&mut self, count: usize) {
        let Self { waiting, spare } = self;
        for mut packet in waiting.drain(..count) {
            if spare.len() < KEPT {
                packet.bytes.clear();
                spare.push(packet.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_its_memory() {
        let transmit = || Transmit {
            destination: ([127, 0, 0, 1], 1).into(),
            ecn: None,
            size: 1,
            segment_size: None,
            src_ip: None,
        };
        let mut outbox = Outbox::default();
        for count in 0..2 * MAX_WAITING {
            assert_eq!(outbox.is_full(), count >= BATCH);
            outbox.push(transmit(), vec![7]);
        }
        assert_eq!(outbox.waiting().len(), MAX_WAITING);
        outbox.sent(1);
        assert_eq!(outbox.waiting().len(), MAX_WAITING - 1);
        outbox.sent(MAX_WAITING - 1);
        assert!(outbox.waiting().is_empty() && outbox.spare.len() == KEPT);
        let buffer = outbox.buffer();
        assert!(buffer.is_empty() && buffer.capacity() > 0);
    }
}
