//! The secrets of a cluster's edge, as the registry keeps them: sets of keys, of which the newest
//! signs and the earlier ones are accepted for a while.
//!
//! This module has the bytes and what a rotation does to them. How they are sealed is in
//! `rekindle_gateway::keyring`, when they are made and read in the node.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};

/// Format tag of an encoded [`Keyring`].
pub const KEYRING_TAG: FormatTag = FormatTag(0x7003);
/// Format tag of an encoded [`KeptKeyring`].
pub const KEPT_TAG: FormatTag = FormatTag(0x7004);
/// The name of its entry in the registry.
pub const KEYRING_ENTRY: &str = "keys";
/// Most sets in a keyring: each of them is tried against a token.
pub const MAX_SETS: usize = 8;

/// One set of secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// Tells sets apart; no secret.
    pub id: u64,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// From when on it signs, in milliseconds since 1970: late enough that every node knows it.
    pub signs_from_ms: u64,
    /// Until when what it signed is accepted, in milliseconds since 1970; `None`: for good.
    pub accepted_until_ms: Option<u64>,
    /// Seed of the Ed25519 key that signs tickets and resume tokens.
    pub signing: [u8; 32],
    /// Seed of the Ed25519 key of the certificate.
    pub tls: [u8; 32],
    /// The certificate that clients pin, DER: these very bytes.
    pub certificate: Bytes,
    /// Seed of stateless resets and connection ids.
    pub reset: [u8; 32],
}

/// Secrets do not get into logs.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("id", &format_args!("{:016x}", self.id))
            .field("signs_from_ms", &self.signs_from_ms)
            .field("accepted_until_ms", &self.accepted_until_ms)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// Whether what it signed is accepted at `now_ms`.
    pub fn is_accepted(&self, now_ms: u64) -> bool {
        self.accepted_until_ms.is_none_or(|until| now_ms < until)
    }
}

/// All secrets of an edge, oldest set first, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    /// The sets.
    sets: Vec<KeySet>,
}

impl Keyring {
    /// Of one set.
    pub fn new(first: KeySet) -> Self {
        Self { sets: vec![first] }
    }

    /// The sets, oldest first.
    pub fn sets(&self) -> &[KeySet] {
        &self.sets
    }

    /// The set whose certificate native clients are shown at `now_ms`: the oldest that is accepted,
    /// so that clients who know no other have the whole overlap to learn of the next one.
    pub fn shown(&self, now_ms: u64) -> &KeySet {
        self.sets.iter().find(|set| set.is_accepted(now_ms)).unwrap_or_else(|| self.newest())
    }

    /// The certificates that clients are to trust at `now_ms`: the one that is shown, then those
    /// that are shown after it.
    pub fn certificates(&self, now_ms: u64) -> Vec<Bytes> {
        let mut certificates = vec![self.shown(now_ms).certificate.clone()];
        for set in self.sets.iter().filter(|set| set.is_accepted(now_ms)) {
            if !certificates.contains(&set.certificate) {
                certificates.push(set.certificate.clone());
            }
        }
        certificates
    }

    /// The set that was made last.
    pub fn newest(&self) -> &KeySet {
        &self.sets[self.sets.len() - 1]
    }

    /// The set that signs at `now_ms`: the newest that may; before the first may, the first.
    pub fn signer(&self, now_ms: u64) -> &KeySet {
        let may = self.sets.iter().rev().find(|set| set.signs_from_ms <= now_ms);
        may.unwrap_or(&self.sets[0])
    }

    /// Adds a set. What the one before it signed is accepted until `overlap_ms` after the new one
    /// begins to sign; sets that nobody accepts any more at `now_ms` go. An error, in words, if
    /// too many would be left.
    pub fn rotate(&mut self, next: KeySet, overlap_ms: u64, now_ms: u64) -> Result<(), String> {
        let until = next.signs_from_ms.saturating_add(overlap_ms);
        let mut sets = self.sets.clone();
        for set in &mut sets {
            set.accepted_until_ms = Some(set.accepted_until_ms.map_or(until, |at| at.min(until)));
        }
        sets.retain(|set| set.is_accepted(now_ms));
        sets.push(next);
        if sets.len() > MAX_SETS {
            return Err(format!("{MAX_SETS} sets of keys are accepted already"));
        }
        self.sets = sets;
        Ok(())
    }

    /// Its bytes, unsealed.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(KEYRING_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let ring: Self = codec::decode(KEYRING_TAG, bytes)?;
        if (1..=MAX_SETS).contains(&ring.sets.len()) {
            return Ok(ring);
        }
        let reason = format!("{} sets of keys where 1 to {MAX_SETS} may be", ring.sets.len());
        Err(CodecError::Malformed { tag: KEYRING_TAG.0, reason })
    }
}

/// The value of the entry [`KEYRING_ENTRY`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptKeyring {
    /// An encoded [`Keyring`]: whoever reads the store can forge tickets.
    Open(Bytes),
    /// An encoded [`Keyring`] under AES-256-GCM, with a key that HKDF-SHA256 makes of the secret of
    /// the cluster.
    Sealed {
        /// Of the HKDF.
        salt: [u8; 32],
        /// Of the cipher.
        nonce: [u8; 12],
        /// The sealed bytes and their tag.
        sealed: Bytes,
    },
}

impl KeptKeyring {
    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(KEPT_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(KEPT_TAG, bytes)
    }
}

impl fmt::Debug for KeptKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "KeptKeyring::Open",
            Self::Sealed { .. } => "KeptKeyring::Sealed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(id: u64, signs_from_ms: u64) -> KeySet {
        KeySet {
            id,
            made_ms: signs_from_ms,
            signs_from_ms,
            accepted_until_ms: None,
            signing: [1; 32],
            tls: [2; 32],
            certificate: Bytes::from_static(b"certificate"),
            reset: [3; 32],
        }
    }

    fn ids(ring: &Keyring) -> Vec<u64> {
        ring.sets().iter().map(|set| set.id).collect()
    }

    #[test]
    fn a_rotation_overlaps_and_old_sets_go() {
        let mut ring = Keyring::new(set(1, 0));
        ring.rotate(set(2, 110), 50, 100).unwrap();
        assert_eq!((ids(&ring), ring.newest().id), (vec![1, 2], 2));
        assert_eq!((ring.signer(109).id, ring.signer(110).id), (1, 2));
        assert!(ring.sets()[0].is_accepted(159) && !ring.sets()[0].is_accepted(160));
        ring.rotate(set(3, 130), 1_000, 120).unwrap();
        assert_eq!(ring.sets()[0].accepted_until_ms, Some(160), "no rotation prolongs a set");
        ring.rotate(set(4, 180), 0, 170).unwrap();
        assert_eq!(ids(&ring), [2, 3, 4]);
        assert!(
            !ring.sets()[0].is_accepted(180),
            "an overlap of 0 ends all that was signed before"
        );
        assert_eq!(ring.signer(180).id, 4);
    }

    #[test]
    fn a_certificate_is_shown_until_its_overlap_is_over_and_the_next_one_is_known_before() {
        let with = |id: u64, signs_from_ms, certificate: &'static [u8]| KeySet {
            certificate: Bytes::from_static(certificate),
            ..set(id, signs_from_ms)
        };
        let mut ring = Keyring::new(with(1, 0, b"a"));
        ring.rotate(with(2, 110, b"a"), 50, 100).unwrap();
        assert_eq!(ring.certificates(120), [Bytes::from_static(b"a")]);
        ring.rotate(with(3, 130, b"b"), 1_000, 120).unwrap();
        for (now, known) in [(120, "ab"), (1_129, "ab"), (1_130, "b"), (9_999, "b")] {
            assert_eq!(ring.certificates(now).concat(), known.as_bytes(), "at {now}");
            assert_eq!(ring.shown(now).certificate, known.as_bytes()[..1]);
        }
    }

    #[test]
    fn a_keyring_has_a_limit_and_a_refused_rotation_changes_nothing() {
        let mut ring = Keyring::new(set(0, 0));
        for id in 1..MAX_SETS as u64 {
            ring.rotate(set(id, id), 1_000, id).unwrap();
        }
        let before = ring.clone();
        assert!(ring.rotate(set(99, 9), 1_000, 9).is_err());
        assert_eq!(ring, before);
        assert!(ring.rotate(set(99, 2_000), 1_000, 2_000).is_ok());
        assert_eq!(ids(&ring), [MAX_SETS as u64 - 1, 99], "the expired ones have gone");
    }

    #[test]
    fn an_empty_keyring_is_not_read_and_no_secret_is_shown() {
        let empty = Keyring { sets: Vec::new() };
        assert!(Keyring::decode(&empty.encode()).is_err());
        let ring = Keyring::new(set(1, 0));
        assert_eq!(Keyring::decode(&ring.encode()).unwrap(), ring);
        let shown = format!("{ring:?} {:?}", KeptKeyring::Open(ring.encode().into()));
        assert!(!shown.contains("1, 1, 1") && !shown.contains("signing"), "{shown}");
    }
}
