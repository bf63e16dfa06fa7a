//! Connection ids that a key recognises: the process after a restart sees which packets were for
//! the one before, tells those clients that it is gone, and stays silent to everything else.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use tokio::time::Instant;

use super::resets::Resets;

/// Bytes of an id that are random.
const NONCE: usize = 5;
/// Bytes that prove that the id is ours.
const PROOF: usize = 3;
/// Bytes of an id.
const LENGTH: usize = 8;
const _: () = assert!(NONCE + PROOF == LENGTH, "an id is its nonce and its proof");

/// Makes and recognises ids. QUIC calls it for each new connection and for each packet whose
/// connection it does not know.
pub(super) struct KeyedIds {
    /// The same in all processes of a node.
    key: u64,
    /// Grows with each id.
    state: u64,
    /// How many packets of an earlier process are answered.
    resets: Resets,
}

impl KeyedIds {
    /// `start` must differ between processes: the ids follow from it.
    pub(super) fn new(key: u64, start: u64) -> Self {
        Self { key, state: start, resets: Resets::new() }
    }

    /// Whether `cid` was given out with this key.
    fn knows(&self, cid: &ConnectionId) -> bool {
        cid.split_at_checked(NONCE).is_some_and(|(nonce, proof)| self.proof(nonce) == proof)
    }

    fn proof(&self, nonce: &[u8]) -> [u8; PROOF] {
        let mut word = [0; 8];
        word[..NONCE].copy_from_slice(nonce);
        let [a, b, c, ..] = mix(self.key ^ mix(u64::from_le_bytes(word))).to_le_bytes();
        [a, b, c]
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
        let proof = self.proof(&id[..NONCE]);
        id[NONCE..].copy_from_slice(&proof);
        ConnectionId::new(&id)
    }

    /// QUIC asks this of packets whose connection it does not know, and answers with a reset if it
    /// is `Ok`.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        if self.knows(cid) && self.resets.allow(Instant::now()) { Ok(()) } else { Err(InvalidCid) }
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
        let (mut before, after) = (KeyedIds::new(7, 1), KeyedIds::new(7, 2));
        let other_node = KeyedIds::new(8, 2);
        for _ in 0..100 {
            let id = before.generate_cid();
            assert!(id.len() == LENGTH && after.validate(&id).is_ok());
            assert!(!other_node.knows(&id) && other_node.validate(&id).is_err());
            let mut changed = [0; LENGTH];
            changed.copy_from_slice(&id);
            changed[0] ^= 1;
            assert!(!after.knows(&ConnectionId::new(&changed)));
        }
        assert!(!after.knows(&ConnectionId::new(&[1, 2])));
    }
}
