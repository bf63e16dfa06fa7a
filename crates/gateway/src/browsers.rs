//! Certificates for browsers: made, renewed, sealed. When that is to be done is
//! [`rekindle_schema::browsers`]'s; where they are kept, and who does it, the node's.

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rekindle_schema::browsers::{BrowserCertificate, BrowserCertificates, Renewal};
use rekindle_schema::keyring::KeptKeyring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::keyring::{OpenError, open_bytes, seal_bytes};
use crate::keys::{KeysError, SERVER_NAME, crypto};

/// What is sealed is bound to.
const PURPOSE: &[u8] = b"rekindle browser certificates";

/// The certificates as they are to be at `now_ms`, if that is not as they are.
pub fn renewed(
    there: Option<&BrowserCertificates>,
    now_ms: u64,
) -> Result<Option<BrowserCertificates>, KeysError> {
    let (present, next) = match (BrowserCertificates::renewal(there, now_ms), there) {
        (Renewal::Keep, _) | (Renewal::Advance(_), None) => return Ok(None),
        (Renewal::Advance(at), Some(there)) => (there.next.clone(), make(at)?),
        (Renewal::Anew(present, next), _) => (make(present)?, make(next)?),
    };
    Ok(Some(BrowserCertificates { present, next }))
}

/// A certificate that is shown from `shown_from_ms` on. Browsers want P-256.
fn make(shown_from_ms: u64) -> Result<BrowserCertificate, KeysError> {
    const WHAT: &str = "certificate for browsers";
    let moment = |ms: u64| {
        OffsetDateTime::from_unix_timestamp((ms / 1_000).cast_signed())
            .map_err(|error| crypto(WHAT, &error))
    };
    let (from, until) = BrowserCertificate::validity(shown_from_ms);
    let key =
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| crypto(WHAT, &error))?;
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])
        .map_err(|error| crypto(WHAT, &error))?;
    (params.not_before, params.not_after) = (moment(from)?, moment(until)?);
    let made = params.self_signed(&key).map_err(|error| crypto(WHAT, &error))?;
    let (certificate, key) = (made.der().to_vec().into(), key.serialize_der().into());
    Ok(BrowserCertificate { shown_from_ms, certificate, key })
}

/// What TLS is given to show a certificate.
pub fn identity(
    certificate: &BrowserCertificate,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from(certificate.certificate.to_vec())];
    (chain, PrivatePkcs8KeyDer::from(certificate.key.to_vec()).into())
}

/// Seals certificates with a secret; without one they stay open.
pub fn seal(
    certificates: &BrowserCertificates,
    secret: Option<&str>,
) -> Result<KeptKeyring, KeysError> {
    seal_bytes(certificates.encode(), PURPOSE, secret)
}

/// Opens what [`seal`] made.
pub fn open(kept: &KeptKeyring, secret: Option<&str>) -> Result<BrowserCertificates, OpenError> {
    let bytes: Bytes = open_bytes(kept, PURPOSE, secret)?;
    Ok(BrowserCertificates::decode(&bytes)?)
}

#[cfg(test)]
mod tests {
    use rekindle_schema::browsers::SHOWN_MS;

    use super::*;
    use crate::keyring;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn a_certificate_fits_its_key_and_is_renewed_half_way() {
        let first = renewed(None, NOW).unwrap().unwrap();
        assert_eq!(renewed(Some(&first), NOW + SHOWN_MS - 1).unwrap(), None);
        let second = renewed(Some(&first), NOW + SHOWN_MS).unwrap().unwrap();
        assert_eq!(second.present, first.next);
        assert_ne!(second.next.certificate, first.next.certificate);
        for certificate in [&first.present, &first.next, &second.next] {
            let (chain, key) = identity(certificate);
            let keys = crate::Keys::ephemeral([1; 32]).unwrap();
            keys.certificates().set_browsers(chain.clone(), key).unwrap();
            let key = crate::keys::tls_key(&[1; 32]);
            assert!(keys.certificates().set_browsers(chain, key).is_err(), "another's key");
        }
    }

    #[test]
    fn what_is_sealed_opens_with_its_secret_alone_and_as_nothing_else() {
        let made = renewed(None, NOW).unwrap().unwrap();
        let secret = Some("a secret of some length");
        let kept = seal(&made, secret).unwrap();
        assert_eq!(open(&kept, secret).unwrap(), made);
        assert!(matches!(open(&kept, None), Err(OpenError::NoSecret)));
        assert!(matches!(open(&kept, Some("another one")), Err(OpenError::WrongSecret)));
        assert!(matches!(keyring::open(&kept, secret), Err(OpenError::WrongSecret)));
        assert_eq!(open(&seal(&made, None).unwrap(), None).unwrap(), made);
    }
}
