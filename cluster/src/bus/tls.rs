//! Mutual TLS between nodes. Each shows a certificate of one private authority, which is for its
//! own name and for [`PEER_NAME`].

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::greeting::NoLink;
use super::tap::Wire;

/// The name that the certificates of all nodes are for, besides the node's own.
pub const PEER_NAME: &str = "peer.rekindle";
/// The largest file of certificates or keys that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why the files of `cluster.tls.*` are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("RK-PEER-012: {path}: {problem}; `rekindle ca issue` makes these files")]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The files do not belong together.
    #[error("RK-PEER-013: the files of cluster.tls.* do not go together: {0}")]
    Mismatch(String),
}

/// This node's certificate, and the authority that others must show one of.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    /// Reads the authority's certificate, this node's certificate and its key, all PEM.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| file(ca, &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(cert)?;
        let pem = read(key)?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| file(key, &error))?;
        let mismatch = |error: rustls::Error| TlsError::Mismatch(error.to_string());
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&roots))
            .build()
            .map_err(|error| TlsError::Mismatch(error.to_string()))?;
        let server = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private.clone_key())
            .map_err(mismatch)?;
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(mismatch)?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }

    /// Secures a stream that was accepted. Returns the other node's certificate, too.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<(Box<dyn Wire>, Shown), NoLink> {
        let stream = self.acceptor.accept(stream).await.map_err(failed)?;
        let shown = Shown::of(stream.get_ref().1.peer_certificates());
        Ok((Box::new(stream), shown))
    }

    /// Secures a stream that was dialled.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
    ) -> Result<(Box<dyn Wire>, Shown), NoLink> {
        let name =
            ServerName::try_from(PEER_NAME).map_err(|error| NoLink::Tls(error.to_string()))?;
        let stream = self.connector.connect(name, stream).await.map_err(failed)?;
        let shown = Shown::of(stream.get_ref().1.peer_certificates());
        Ok((Box::new(stream), shown))
    }
}

/// The certificate that the other node showed; none without TLS.
#[derive(Debug, Default)]
pub(super) struct Shown(Option<CertificateDer<'static>>);

impl Shown {
    fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        Self(chain.and_then(<[_]>::first).map(|first| first.clone().into_owned()))
    }

    /// Refuses a node that calls itself by a name that its certificate is not for.
    pub(super) fn is_for(&self, name: &str) -> Result<(), NoLink> {
        let Some(certificate) = &self.0 else { return Ok(()) };
        let other = || NoLink::OtherName(name.to_owned());
        let parsed = ParsedCertificate::try_from(certificate).map_err(|_| other())?;
        let subject = ServerName::try_from(name).map_err(|_| other())?;
        verify_server_name(&parsed, &subject).map_err(|_| other())
    }
}

fn failed(error: io::Error) -> NoLink {
    NoLink::Tls(error.to_string())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| file(path, &error))?;
    if all.is_empty() { Err(file(path, &"there is no certificate in it")) } else { Ok(all) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(|error| file(path, &error))?;
    BufReader::new(opened)
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| file(path, &error))?;
    Ok(bytes)
}

fn file(path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.display().to_string(), problem: problem.to_string() }
}
