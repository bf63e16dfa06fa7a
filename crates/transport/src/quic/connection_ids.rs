//! Connection ids that a key recognises: the process after a restart sees which packets were for
//! the one before, tells those clients that it is gone, and stays silent to everything else.
//!
//! The first byte of an id is the number of the loop that gave it out. The system spreads packets
//! over the loops of a port by the addresses of their senders, and a client that has a new address
//! all at once (another network, a NAT that forgot it) may come to another loop than the one that
//! knows its connection: the id says which.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use tokio::time::Instant;

use super::resets::Resets;

/// Bytes of an id that are its own: the loop, and random ones.
const NONCE: usize = 5;
/// Bytes that prove that the id is ours.
const PROOF: usize = 3;
/// Bytes of an id.
const LENGTH: usize = 8;
const _: () = assert!(NONCE + PROOF == LENGTH, "an id is its nonce and its proof");

/// Recognises ids that were given out by this node, in this process or an earlier one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdKey(pub(crate) u64);

impl IdKey {
    /// The loop that gave out the id for which a packet is, if that is one of ours.
    pub(crate) fn loop_of(self, packet: &[u8]) -> Option<usize> {
        let cid = match packet.first()? {
            // A long header: four bytes of version, then the id behind its length.
            long if long & 0x80 != 0 => {
                packet.get(6..).filter(|_| usize::from(packet[5]) == LENGTH)?
            }
            _ => packet.get(1..)?,
        };
        let cid = cid.get(..LENGTH)?;
        self.knows(cid).then(|| usize::from(cid[0]))
    }

    fn knows(self, cid: &[u8]) -> bool {
        cid.split_at_checked(NONCE).is_some_and(|(nonce, proof)| self.proof(nonce) == proof)
    }

    fn proof(self, nonce: &[u8]) -> [u8; PROOF] {
        let mut word = [0; 8];
        word[..NONCE].copy_from_slice(nonce);
        let [a, b, c, ..] = mix(self.0 ^ mix(u64::from_le_bytes(word))).to_le_bytes();
        [a, b, c]
    }
}

/// Makes and recognises ids. QUIC calls it for each new connection and for each packet whose
/// connection it does not know.
pub(super) struct KeyedIds {
    /// The same in all processes of a node.
    key: IdKey,
    /// The loop that gives them out.
    number: u8,
    /// Grows with each id.
    state: u64,
    /// How many packets of an earlier process are answered.
    resets: Resets,
}

impl KeyedIds {
    /// Of loop `number`. `start` must differ between processes and loops: the ids follow from it.
    pub(super) fn new(key: IdKey, number: u8, start: u64) -> Self {
        Self { key, number, state: start, resets: Resets::new() }
    }
}

/// The finaliser of `SplitMix64`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl ConnectionIdGenerator for KeyedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut id = mix(self.state).to_le_bytes();
        id[0] = self.number;
        let proof = self.key.proof(&id[..NONCE]);
        id[NONCE..].copy_from_slice(&proof);
        ConnectionId::new(&id)
    }

    /// QUIC asks this of packets whose connection it does not know, and answers with a reset if it
    /// is `Ok`.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        if self.key.knows(cid) && self.resets.allow(Instant::now()) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_knows_the_ids_and_no_others() {
        let ids = |key, start| KeyedIds::new(IdKey(key), 3, start);
        let (mut before, after) = (ids(7, 1), ids(7, 2));
        let other_node = ids(8, 2);
        for _ in 0..100 {
            let id = before.generate_cid();
            assert!(id.len() == LENGTH && after.validate(&id).is_ok());
            assert!(!other_node.key.knows(&id) && other_node.validate(&id).is_err());
            let mut changed = [0; LENGTH];
            changed.copy_from_slice(&id);
            changed[1] ^= 1;
            assert!(!after.key.knows(&changed));
        }
        assert!(!after.key.knows(&[1, 2]));
    }

    #[test]
    fn packets_name_the_loop_that_gave_out_their_id() {
        let key = IdKey(7);
        let id = KeyedIds::new(key, 3, 1).generate_cid();
        let short = |id: &[u8]| [&[0x40][..], id, &[0xaa; 20]].concat();
        let long = |id: &[u8], length: u8| [&[0xc0, 0, 0, 0, 1, length][..], id, &[0; 20]].concat();
        assert_eq!(key.loop_of(&short(&id)), Some(3));
        assert_eq!(key.loop_of(&long(&id, 8)), Some(3));
        assert_eq!(key.loop_of(&long(&id, 7)), None, "a client's own id");
        assert_eq!(IdKey(8).loop_of(&short(&id)), None, "another node's");
        for len in 0..9 {
            assert_eq!(key.loop_of(&short(&id)[..len]), None, "{len} bytes");
        }
    }
}
