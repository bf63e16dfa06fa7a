//! Why an endpoint cannot be made.

/// Why an endpoint cannot be made. Its owner gives it a code and a next step.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS does not accept the certificate or the key.
    #[error("{0}")]
    Tls(String),
    /// The system has no randomness to give.
    #[error("{0}")]
    Random(String),
    /// The UDP port cannot be had.
    #[error("{0}")]
    Bind(std::io::Error),
    /// QUIC cannot use the socket.
    #[error("{0}")]
    Endpoint(std::io::Error),
}
