//! The certificates of a node's port, and which of them a client is shown. They may change while
//! the port is open: handshakes that begin from then on have the new ones.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::SetupError;
use crate::webtransport;

/// The certificates of a port. Shared by the port and by whoever changes them.
#[derive(Debug)]
pub struct Certificates {
    /// For native clients, who pin it.
    native: RwLock<Arc<CertifiedKey>>,
    /// For browsers. Without one they are not served.
    browsers: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// With one for native clients alone.
    pub fn new(
        certificate: CertificateDer<'static>,
        private_key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>, SetupError> {
        let native = RwLock::new(certified(vec![certificate], private_key)?);
        Ok(Arc::new(Self { native, browsers: RwLock::new(None) }))
    }

    /// Shows another one to native clients.
    pub fn set_native(
        &self,
        certificate: CertificateDer<'static>,
        private_key: PrivateKeyDer<'static>,
    ) -> Result<(), SetupError> {
        *self.native.write() = certified(vec![certificate], private_key)?;
        Ok(())
    }

    /// Shows another one, with its chain, to browsers.
    pub fn set_browsers(
        &self,
        chain: Vec<CertificateDer<'static>>,
        private_key: PrivateKeyDer<'static>,
    ) -> Result<(), SetupError> {
        *self.browsers.write() = Some(certified(chain, private_key)?);
        Ok(())
    }

    /// Whether a certificate, with its chain, could be shown.
    pub fn check(
        chain: Vec<CertificateDer<'static>>,
        private_key: PrivateKeyDer<'static>,
    ) -> Result<(), SetupError> {
        certified(chain, private_key).map(drop)
    }

    /// What browsers are shown.
    pub fn browsers(&self) -> Option<Arc<CertifiedKey>> {
        self.browsers.read().clone()
    }
}

/// A certificate that fits its key.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    private_key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, SetupError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(chain, private_key, &provider)
        .map_err(|error| SetupError::Tls(error.to_string()))?;
    key.keys_match().map_err(|error| SetupError::Tls(error.to_string()))?;
    Ok(Arc::new(key))
}

/// For the game port: by what the client wants to speak.
impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut wanted = hello.alpn()?;
        // As the port picks: what is native comes first.
        if wanted.all(|protocol| protocol == webtransport::ALPN) {
            self.browsers()
        } else {
            Some(Arc::clone(&self.native.read()))
        }
    }
}

/// For the web listener: whoever comes there is a browser.
#[derive(Debug)]
struct ForBrowsers(Arc<Certificates>);

impl ResolvesServerCert for ForBrowsers {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.browsers()
    }
}

/// How a web listener speaks TLS with what `certificates` has for browsers.
pub fn web_tls(certificates: Arc<Certificates>) -> Result<Arc<rustls::ServerConfig>, SetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ForBrowsers(certificates)));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

/// What TLS is given to show the certificate in a PEM file with its chain. `private_key` is a PEM
/// file, too. That they fit is checked by whoever takes them.
pub fn identity_from_pem(
    certificate: &[u8],
    private_key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SetupError> {
    let bad =
        |what: &str, error: &dyn std::fmt::Display| SetupError::Tls(format!("{what}: {error}"));
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad("the certificate", &error))?;
    if chain.is_empty() {
        return Err(bad("the certificate", &"no certificate is in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(private_key).map_err(|error| bad("the key", &error))?;
    Ok((chain, key))
}
