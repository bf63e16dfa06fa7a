//! TLS to the server, by rustls with the one provider of this project.

use std::sync::Arc;

use rekindle_store::StoreError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::options::{PostgresOptions, Tls};

fn refuse(problem: String) -> StoreError {
    StoreError::Refused { place: "TLS to Postgres".to_owned(), problem }
}

/// What `sslmode` asks for. A root file, if given, is always heeded.
pub(super) fn connector(options: &PostgresOptions) -> Result<MakeRustlsConnect, StoreError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?;
    if let Some(path) = &options.root {
        let failed = |error: String| {
            refuse(format!("the root certificates in {} cannot be used: {error}", path.display()))
        };
        let mut roots = RootCertStore::empty();
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(failed("there are none".to_owned()));
        }
        return Ok(MakeRustlsConnect::new(
            builder.with_root_certificates(roots).with_no_client_auth(),
        ));
    }
    if options.tls == Tls::VerifyFull {
        // Takes the process's provider: the node installs the same one before anything else.
        let _ = aws_lc_rs::default_provider().install_default();
        let (connector, problems) = MakeRustlsConnect::with_native_certs().map_err(|_| {
            refuse(
                "this system has no root certificates; name a file with `sslrootcert=`".to_owned(),
            )
        })?;
        for problem in problems {
            tracing::warn!(code = "RK-STORE-030", %problem, "a root certificate of this system \
                cannot be used");
        }
        return Ok(connector);
    }
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// What `prefer` and `require` mean in libpq and everywhere else: encrypted, whoever the server is.
/// That it holds the key of the certificate that it shows is checked all the same.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
