//! The certificate that browsers are shown. Made by the first node of a store and renewed half-way
//! through its life by whichever node is there first, or the operator's own, from files.
//!
//! The cluster's are in the entry `browser-certificates` of the store's registry, sealed with
//! `cluster.secret`. When they are renewed is in `rekindle_schema::browsers`.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_gateway::browsers::{identity, open, renewed, seal};
use rekindle_gateway::keys::fingerprint;
use rekindle_schema::browsers::{BROWSERS_ENTRY, BrowserCertificates};
use rekindle_schema::keyring::KeptKeyring;
use rekindle_schema::registry::RegistryEntry;
use rekindle_store::{Store, StoreError};
use rekindle_transport::{Certificates, SetupError, identity_from_pem};

use super::keyring::{KeyringError, busy, revealed};
use crate::clock;
use crate::config::edge::CertificateFiles;
use crate::config::{Config, Secret};

/// How often it is looked whether there is another certificate.
const LOOK: Duration = Duration::from_secs(10);
/// How often a change that meets another one is tried again.
const TRIES: usize = 8;

/// Why there is no certificate for browsers.
#[derive(Debug, thiserror::Error)]
pub enum BrowsersError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Its name.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// TLS does not accept it.
    #[error("{0}")]
    Tls(#[from] SetupError),
    /// Those of the cluster cannot be had.
    #[error(transparent)]
    Kept(#[from] KeyringError),
}

/// The certificate that browsers are shown, as it is now.
pub struct Browsers {
    certificates: Arc<Certificates>,
    shown: Mutex<Option<Shown>>,
}

/// What was shown last.
#[derive(Clone, PartialEq, Eq)]
enum Shown {
    /// The cluster's: hashes of the present one and of the next one.
    Cluster([[u8; 32]; 2]),
    /// The operator's: what was in the files.
    Operator(Vec<u8>, Vec<u8>),
}

impl Browsers {
    /// None is shown yet. `certificates` are those of the game port.
    pub fn new(certificates: Arc<Certificates>) -> Self {
        Self { certificates, shown: Mutex::new(None) }
    }

    /// The certificates of the game port.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// The hashes that a page must know; none for the operator's certificate. `None`: browsers
    /// have no WebTransport here.
    pub fn hashes(&self) -> Option<Vec<[u8; 32]>> {
        self.shown.lock().as_ref().map(|shown| match shown {
            Shown::Cluster(hashes) => hashes.to_vec(),
            Shown::Operator(..) => Vec::new(),
        })
    }

    /// Shows the certificate that is to be shown now.
    pub async fn refresh(&self, config: &Config, store: &Store) -> Result<(), BrowsersError> {
        if let Some(files) = &config.edge.certificate {
            return self.show_operators(files);
        }
        let now_ms = clock::now_ms();
        let kept = ascertain(store, config.cluster_secret.as_ref(), now_ms).await?;
        let present = kept.shown(now_ms);
        let other = if present == &kept.next { &kept.present } else { &kept.next };
        let hashes = [present, other].map(|certificate| fingerprint(&certificate.certificate));
        let mut shown = self.shown.lock();
        let wanted = Some(Shown::Cluster(hashes));
        if *shown != wanted {
            let (chain, key) = identity(present);
            self.certificates.set_browsers(chain, key)?;
            *shown = wanted;
        }
        Ok(())
    }

    fn show_operators(&self, files: &CertificateFiles) -> Result<(), BrowsersError> {
        let (certificate, key) = (read(&files.certificate)?, read(&files.private_key)?);
        let mut shown = self.shown.lock();
        let wanted = Some(Shown::Operator(certificate.clone(), key.clone()));
        if *shown != wanted {
            let (chain, key) = identity_from_pem(&certificate, &key)?;
            self.certificates.set_browsers(chain, key)?;
            tracing::info!(
                code = "RK-GATE-154", certificate = %files.certificate.display(),
                "browsers are shown the certificate of edge.certificate"
            );
            *shown = wanted;
        }
        Ok(())
    }

    /// Looks again and again. What cannot be had leaves the one that is shown.
    pub async fn keep(&self, config: &Config, store: &Store) -> Infallible {
        let mut said = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            match self.refresh(config, store).await {
                Ok(()) => said.clear(),
                Err(BrowsersError::Kept(KeyringError::Store(error))) if error.is_transient() => {}
                Err(error) => tell(&error, &mut said),
            }
        }
    }

    /// The first look. Native players do not need it, so a node starts without.
    pub async fn begin(
        certificates: &Arc<Certificates>,
        config: &Config,
        store: &Store,
    ) -> Arc<Self> {
        let browsers = Self::new(Arc::clone(certificates));
        if let Err(error) = browsers.refresh(config, store).await {
            tell(&error, &mut String::new());
        }
        Arc::new(browsers)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BrowsersError> {
    std::fs::read(path)
        .map_err(|error| BrowsersError::File { path: path.display().to_string(), error })
}

/// Whether the operator's certificate can be shown. Changes nothing.
pub fn check(files: &CertificateFiles) -> Result<(), BrowsersError> {
    let (chain, key) = identity_from_pem(&read(&files.certificate)?, &read(&files.private_key)?)?;
    Ok(Certificates::check(chain, key)?)
}

/// Says what is wrong, once.
fn tell(error: &BrowsersError, said: &mut String) {
    let words = error.to_string();
    if *said != words {
        tracing::error!(
            code = "RK-GATE-153", error = %words,
            "the certificate for browsers cannot be had: they are shown the one before, or have no \
             WebTransport; mend edge.certificate and edge.private_key, or the store"
        );
        *said = words;
    }
}

/// The certificates of the store as they are to be at `now_ms`: adopted, made or renewed.
async fn ascertain(
    store: &Store,
    secret: Option<&Secret>,
    now_ms: u64,
) -> Result<BrowserCertificates, KeyringError> {
    for _ in 0..TRIES {
        let entry = store.registry.get(BROWSERS_ENTRY).await?;
        let version = entry.as_ref().map_or(1, |entry| entry.version + 1);
        let kept = entry.map(|entry| KeptKeyring::decode(&entry.value)).transpose();
        let kept = kept.map_err(|error| KeyringError::Malformed(error.to_string()))?;
        let there = kept.as_ref().map(|kept| open(kept, revealed(secret))).transpose()?;
        // What lay open is sealed as soon as a node has a secret.
        let lies_open = secret.is_some() && matches!(kept, Some(KeptKeyring::Open(_)));
        let renewed = renewed(there.as_ref(), now_ms)?;
        let wanted = match (renewed, there) {
            (Some(renewed), _) => renewed,
            (None, Some(there)) if lies_open => there,
            (None, Some(there)) => return Ok(there),
            (None, None) => return Err(KeyringError::None),
        };
        let value = seal(&wanted, revealed(secret))?.encode().into();
        let entry = RegistryEntry { name: BROWSERS_ENTRY.to_owned(), version, value };
        if store.registry.put(entry).await?.is_ok() {
            tracing::info!(
                code = "RK-GATE-155",
                version,
                shown_from_ms = wanted.present.shown_from_ms,
                "the cluster's certificates for browsers are written"
            );
            return Ok(wanted);
        }
    }
    Err(busy())
}

impl From<StoreError> for BrowsersError {
    fn from(error: StoreError) -> Self {
        Self::Kept(error.into())
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::browsers::SHOWN_MS;
    use rekindle_store_memory::MemoryStore;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[tokio::test]
    async fn nodes_that_start_or_renew_at_once_show_the_same() {
        let store = MemoryStore::new().store();
        let secret = Some(Secret::new("a secret of some length"));
        for now in [NOW, NOW + SHOWN_MS, NOW + 2 * SHOWN_MS, NOW + 10 * SHOWN_MS] {
            let (a, b) = tokio::join!(
                ascertain(&store, secret.as_ref(), now),
                ascertain(&store, secret.as_ref(), now),
            );
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a, b);
            assert_eq!(ascertain(&store, secret.as_ref(), now + 1).await.unwrap(), a);
        }
        let refused = ascertain(&store, None, NOW).await.unwrap_err();
        assert!(matches!(refused, KeyringError::NoSecret), "{refused}");
    }

    #[tokio::test]
    async fn open_certificates_are_sealed_as_soon_as_there_is_a_secret() {
        let store = MemoryStore::new().store();
        let open = ascertain(&store, None, NOW).await.unwrap();
        let secret = Some(Secret::new("a secret of some length"));
        assert_eq!(ascertain(&store, secret.as_ref(), NOW).await.unwrap(), open);
        let refused = ascertain(&store, None, NOW).await.unwrap_err();
        assert!(matches!(refused, KeyringError::NoSecret), "{refused}");
    }

    #[tokio::test]
    async fn the_operators_certificate_is_read_again_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, private_key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let write = |cert: &str, key: &str| {
            std::fs::write(&certificate, cert).unwrap();
            std::fs::write(&private_key, key).unwrap();
        };
        let made = || rcgen::generate_simple_self_signed(["play.example".to_owned()]).unwrap();
        let (first, second) = (made(), made());
        write(&first.cert.pem(), &first.signing_key.serialize_pem());
        let native = rekindle_gateway::keyring::make_set(1, (0, 0), None).unwrap();
        let pinned = native.certificate.to_vec().into();
        let key = rekindle_gateway::keys::tls_key(&native.tls);
        let browsers = Browsers::new(Certificates::new(pinned, key).unwrap());
        let files =
            CertificateFiles { certificate: certificate.clone(), private_key: private_key.clone() };
        let shown = || browsers.certificates.browsers().unwrap().cert[0].to_vec();
        assert_eq!(browsers.hashes(), None);
        browsers.show_operators(&files).unwrap();
        assert_eq!((shown(), browsers.hashes()), (first.cert.der().to_vec(), Some(Vec::new())));
        for (cert, key) in [
            (second.cert.pem(), first.signing_key.serialize_pem()),
            ("no certificate".to_owned(), first.signing_key.serialize_pem()),
            (second.cert.pem(), String::new()),
        ] {
            write(&cert, &key);
            assert!(browsers.show_operators(&files).is_err());
            assert_eq!(shown(), first.cert.der().to_vec());
        }
        write(&second.cert.pem(), &second.signing_key.serialize_pem());
        browsers.show_operators(&files).unwrap();
        assert_eq!(shown(), second.cert.der().to_vec());
    }
}
