//! The certificates that a cluster shows to browsers, as the registry keeps them: the one that is
//! shown and the next one, so that a page that knows both can go on for a week.
//!
//! Browsers take a certificate that no authority signed if they know its hash, and if it is valid
//! for two weeks at most. So it is replaced often, by the clock alone: every node of the cluster
//! shows the same one at the same time. This module has the bytes and the calendar; they are made
//! in `rekindle_gateway::browsers`.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};

/// Format tag of encoded [`BrowserCertificates`].
pub const BROWSERS_TAG: FormatTag = FormatTag(0x700a);
/// The name of their entry in the registry. Its value is sealed as the keyring is.
pub const BROWSERS_ENTRY: &str = "browser-certificates";

const HOUR_MS: u64 = 3_600_000;
/// How long a certificate is shown: half of its life.
pub const SHOWN_MS: u64 = 13 * 12 * HOUR_MS;
/// How long it is valid. Browsers take no more than 14 days.
pub const VALID_MS: u64 = 13 * 24 * HOUR_MS;
/// It is valid for so long before it is shown: clocks of browsers may be behind.
pub const EARLY_MS: u64 = 24 * HOUR_MS;
const _: () = assert!(VALID_MS < 14 * 24 * HOUR_MS && EARLY_MS + SHOWN_MS < VALID_MS);

/// One certificate with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserCertificate {
    /// From when on it is shown, in milliseconds since 1970.
    pub shown_from_ms: u64,
    /// The certificate, DER.
    pub certificate: Bytes,
    /// Its key, PKCS #8.
    pub key: Bytes,
}

/// Secrets do not get into logs.
impl fmt::Debug for BrowserCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserCertificate")
            .field("shown_from_ms", &self.shown_from_ms)
            .finish_non_exhaustive()
    }
}

impl BrowserCertificate {
    /// From when until when a certificate that is shown from `shown_from_ms` on is valid.
    pub fn validity(shown_from_ms: u64) -> (u64, u64) {
        let from = shown_from_ms.saturating_sub(EARLY_MS);
        (from, from.saturating_add(VALID_MS))
    }

    /// Whether it is valid at `now_ms`.
    pub fn is_valid(&self, now_ms: u64) -> bool {
        let (from, until) = Self::validity(self.shown_from_ms);
        (from..until).contains(&now_ms)
    }
}

/// The certificate that is shown, and the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserCertificates {
    /// Shown until the next one is.
    pub present: BrowserCertificate,
    /// Shown from its time on.
    pub next: BrowserCertificate,
}

/// What is to be done about the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing.
    Keep,
    /// The next one is the present one now. One that is shown from this time on follows it.
    Advance(u64),
    /// None of them is of use: two new ones, shown from these times on.
    Anew(u64, u64),
}

impl BrowserCertificates {
    /// The one that is shown at `now_ms`.
    pub fn shown(&self, now_ms: u64) -> &BrowserCertificate {
        if now_ms >= self.next.shown_from_ms { &self.next } else { &self.present }
    }

    /// What is to be done at `now_ms` about the certificates that there are.
    pub fn renewal(there: Option<&Self>, now_ms: u64) -> Renewal {
        let anew = Renewal::Anew(now_ms, now_ms.saturating_add(SHOWN_MS));
        let Some(there) = there else { return anew };
        let (from, follows) =
            (there.next.shown_from_ms, there.next.shown_from_ms.saturating_add(SHOWN_MS));
        if !there.shown(now_ms).is_valid(now_ms) || now_ms >= follows {
            anew
        } else if now_ms < from {
            Renewal::Keep
        } else {
            Renewal::Advance(follows)
        }
    }

    /// Their bytes, unsealed.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(BROWSERS_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(BROWSERS_TAG, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(shown_from_ms: u64) -> BrowserCertificate {
        let certificate = Bytes::copy_from_slice(&shown_from_ms.to_le_bytes());
        BrowserCertificate { shown_from_ms, certificate, key: Bytes::from_static(b"key") }
    }

    fn renewed(there: Option<BrowserCertificates>, now_ms: u64) -> BrowserCertificates {
        match (BrowserCertificates::renewal(there.as_ref(), now_ms), there) {
            (Renewal::Keep, Some(there)) => there,
            (Renewal::Advance(at), Some(there)) => {
                BrowserCertificates { present: there.next, next: made(at) }
            }
            (Renewal::Anew(present, next), _) => {
                BrowserCertificates { present: made(present), next: made(next) }
            }
            (renewal, None) => panic!("{renewal:?} of nothing"),
        }
    }

    #[test]
    fn a_page_goes_on_for_half_a_life_with_the_hashes_that_it_has() {
        let (mut there, begin) = (None, 1_700_000_000_000);
        // What a page that came at a time was told.
        let mut told: Vec<(u64, [BrowserCertificate; 2])> = Vec::new();
        let mut shown = Vec::new();
        for hour in 0..24 * 90 {
            let now = begin + hour * HOUR_MS;
            let ring = renewed(there.take(), now);
            let present = ring.shown(now).clone();
            assert!(present.is_valid(now) && present.is_valid(now + 5 * 24 * HOUR_MS), "{hour}");
            assert!(ring.next.shown_from_ms > now, "the next one is there ahead");
            for (at, known) in told.iter().filter(|(at, _)| now - at < SHOWN_MS) {
                assert!(known.contains(&present), "told at {at}, now {now}");
            }
            told.push((now, [ring.present.clone(), ring.next.clone()]));
            if shown.last() != Some(&present) {
                shown.push(present);
            }
            there = Some(ring);
        }
        assert_eq!(shown.len(), 14, "one each half life");
    }

    #[test]
    fn nodes_that_have_not_renewed_yet_show_the_same_one() {
        let before = renewed(None, 0);
        for now in [SHOWN_MS - 1, SHOWN_MS, SHOWN_MS + HOUR_MS] {
            let after = renewed(Some(before.clone()), now);
            assert_eq!(before.shown(now), after.shown(now));
        }
    }

    #[test]
    fn after_a_long_absence_or_with_another_clock_all_is_made_anew() {
        let there = renewed(None, 100 * SHOWN_MS);
        for now in [103 * SHOWN_MS, 200 * SHOWN_MS, 90 * SHOWN_MS] {
            let anew = renewed(Some(there.clone()), now);
            assert!(anew.shown(now).is_valid(now) && anew.present.shown_from_ms == now);
        }
        let back = 100 * SHOWN_MS - HOUR_MS;
        assert_eq!(BrowserCertificates::renewal(Some(&there), back), Renewal::Keep);
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", renewed(None, 0));
        assert!(!shown.contains("key"), "{shown}");
    }
}
