//! What is done to the keys of a cluster's edge besides using them: sets are made, taken over from
//! the files of an earlier release, sealed and opened. The bytes are
//! [`rekindle_schema::keyring`]'s; where they are kept is the node's to say.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use bytes::Bytes;
use rekindle_schema::codec::CodecError;
use rekindle_schema::keyring::{KeptKeyring, KeySet, Keyring};

use crate::keys::{Keys, KeysError, Seeds};

/// What is sealed is bound to: bytes of another purpose are not opened as a keyring.
const PURPOSE: &[u8] = b"rekindle keyring";

/// Why a keyring that is kept cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is sealed, and there is no secret.
    #[error("the keys are sealed, and there is no secret to open them with")]
    NoSecret,
    /// It was sealed with another secret, or its bytes were changed.
    #[error("the keys were sealed with another secret, or were damaged")]
    WrongSecret,
    /// The bytes are no keyring.
    #[error("the keys cannot be read: {0}")]
    Malformed(#[from] CodecError),
}

/// Makes a set that signs from `signs_from_ms` on. With `before` it keeps that one's certificate
/// and its seed of connection ids, so that clients who pinned the certificate need not learn of it.
pub fn make_set(
    id: u64,
    (made_ms, signs_from_ms): (u64, u64),
    before: Option<&KeySet>,
) -> Result<KeySet, KeysError> {
    let seeds = Seeds::random()?;
    let (tls, reset) = before.map_or((seeds.tls, seeds.reset), |set| (set.tls, set.reset));
    let certificate = match before {
        Some(set) => set.certificate.clone(),
        None => Keys::from_seeds(&seeds)?.certificate_der(),
    };
    let signing = seeds.signing;
    let accepted_until_ms = None;
    Ok(KeySet { id, made_ms, signs_from_ms, accepted_until_ms, signing, tls, certificate, reset })
}

/// The set in the files `gateway.keys` and `cert.der` of an earlier release, if `dir` has them.
/// Nothing is made or changed.
pub fn import_set(dir: &Path, id: u64, now_ms: u64) -> Result<Option<KeySet>, KeysError> {
    let Some((Seeds { signing, tls, reset }, certificate)) = Keys::stored(dir)? else {
        return Ok(None);
    };
    let (made_ms, signs_from_ms, accepted_until_ms) = (now_ms, 0, None);
    let certificate = Bytes::from(certificate);
    Ok(Some(KeySet {
        id,
        made_ms,
        signs_from_ms,
        accepted_until_ms,
        signing,
        tls,
        certificate,
        reset,
    }))
}

/// Seals a keyring with a secret; without one it stays open.
pub fn seal(ring: &Keyring, secret: Option<&str>) -> Result<KeptKeyring, KeysError> {
    seal_bytes(ring.encode(), PURPOSE, secret)
}

/// Opens what [`seal`] made. A secret is not needed for what is open.
pub fn open(kept: &KeptKeyring, secret: Option<&str>) -> Result<Keyring, OpenError> {
    Ok(Keyring::decode(&open_bytes(kept, PURPOSE, secret)?)?)
}

/// Seals what the cluster keeps secret, for a purpose.
pub(crate) fn seal_bytes(
    mut bytes: Vec<u8>,
    purpose: &[u8],
    secret: Option<&str>,
) -> Result<KeptKeyring, KeysError> {
    let Some(secret) = secret else { return Ok(KeptKeyring::Open(bytes.into())) };
    let random =
        |out: &mut [u8]| getrandom::fill(out).map_err(|error| KeysError::Random(error.to_string()));
    let (mut salt, mut nonce) = ([0; 32], [0; 12]);
    random(&mut salt)?;
    random(&mut nonce)?;
    let crypto = |problem: aws_lc_rs::error::Unspecified| KeysError::Crypto {
        what: "seal of the keys",
        problem: problem.to_string(),
    };
    key(secret, &salt, purpose)
        .and_then(|key| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from(purpose), &mut bytes)
        })
        .map_err(crypto)?;
    Ok(KeptKeyring::Sealed { salt, nonce, sealed: bytes.into() })
}

/// Opens what [`seal_bytes`] made for the same purpose.
pub(crate) fn open_bytes(
    kept: &KeptKeyring,
    purpose: &[u8],
    secret: Option<&str>,
) -> Result<Bytes, OpenError> {
    match kept {
        KeptKeyring::Open(bytes) => Ok(bytes.clone()),
        KeptKeyring::Sealed { salt, nonce, sealed } => {
            let secret = secret.ok_or(OpenError::NoSecret)?;
            let mut bytes = sealed.to_vec();
            let key = key(secret, salt, purpose).map_err(|_| OpenError::WrongSecret)?;
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key
                .open_in_place(nonce, Aad::from(purpose), &mut bytes)
                .map_err(|_| OpenError::WrongSecret)?;
            Ok(Bytes::copy_from_slice(opened))
        }
    }
}

/// How long the key of the cipher is.
struct CipherKey;

impl KeyType for CipherKey {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

fn key(
    secret: &str,
    salt: &[u8; 32],
    purpose: &[u8],
) -> Result<LessSafeKey, aws_lc_rs::error::Unspecified> {
    let prk = Salt::new(HKDF_SHA256, salt).extract(secret.as_bytes());
    let mut bytes = [0; 32];
    prk.expand(&[purpose], CipherKey)?.fill(&mut bytes)?;
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Option<&str> = Some("a secret of some length");

    fn ring() -> Keyring {
        Keyring::new(make_set(7, (5, 5), None).unwrap())
    }

    #[test]
    fn what_is_sealed_opens_with_its_secret_alone() {
        let ring = ring();
        let kept = seal(&ring, SECRET).unwrap();
        assert_eq!(open(&kept, SECRET).unwrap(), ring);
        assert!(matches!(open(&kept, None), Err(OpenError::NoSecret)));
        let other = open(&kept, Some("another secret of some length"));
        assert!(matches!(other, Err(OpenError::WrongSecret)));
        let signing = ring.newest().signing;
        let bytes = kept.encode();
        assert!(!bytes.windows(32).any(|window| window == signing), "a secret lies open");
        assert_ne!(seal(&ring, SECRET).unwrap(), kept, "no nonce is used twice");
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        let kept = seal(&ring(), SECRET).unwrap();
        let KeptKeyring::Sealed { salt, nonce, sealed } = kept else { panic!("not sealed") };
        for index in 0..sealed.len() {
            let mut bytes = sealed.to_vec();
            bytes[index] ^= 1;
            let changed = KeptKeyring::Sealed { salt, nonce, sealed: bytes.into() };
            assert!(matches!(open(&changed, SECRET), Err(OpenError::WrongSecret)), "byte {index}");
        }
    }

    #[test]
    fn what_is_open_needs_no_secret() {
        let ring = ring();
        let kept = seal(&ring, None).unwrap();
        assert_eq!(open(&kept, None).unwrap(), ring);
        assert_eq!(open(&kept, SECRET).unwrap(), ring);
    }

    #[test]
    fn a_set_that_follows_another_keeps_its_certificate() {
        let first = make_set(1, (0, 0), None).unwrap();
        let second = make_set(2, (1, 1), Some(&first)).unwrap();
        assert_eq!((&second.certificate, second.tls), (&first.certificate, first.tls));
        assert_ne!(second.signing, first.signing);
        let other = make_set(3, (2, 2), None).unwrap();
        assert_ne!(other.certificate, first.certificate);
    }

    #[test]
    fn files_of_an_earlier_release_are_taken_over_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        assert!(import_set(dir.path(), 1, 5).unwrap().is_none());
        let files = Keys::load_or_create(dir.path()).unwrap();
        let set = import_set(dir.path(), 1, 5).unwrap().unwrap();
        let keys = Keys::of_ring(&Keyring::new(set), 5).unwrap();
        assert_eq!(keys.certificate_der(), files.certificate_der());
        assert_eq!(keys.connection_id_key(), files.connection_id_key());
        let resume = crate::ticket::Resume {
            match_id: rekindle_schema::MatchId(1),
            player: rekindle_schema::PlayerId(2),
            session: rekindle_schema::SessionId(3),
        };
        let token = files.issue_resume(&resume).unwrap();
        assert_eq!(keys.verify_resume(&token, 5).unwrap(), resume);
        std::fs::write(dir.path().join(crate::keys::KEY_FILE), "half of").unwrap();
        assert!(matches!(import_set(dir.path(), 1, 5), Err(KeysError::Malformed { .. })));
    }
}
