//! The keys under `edge`: its threads, the web listener, which pages may connect, the certificate
//! for browsers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::available_parallelism;

use rekindle_transport::Origins;

use super::{ConfigError, Settings, at_least_one, bad, parse, text};

/// Most threads of the edge: a connection id names the loop that has it in one byte.
const MAX_THREADS: usize = 256;
/// The word that turns the web listener off.
const OFF: &str = "off";

/// The keys under `edge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where browsers reach the node over TCP.
    pub web: WebListen,
    /// Whose pages may connect.
    pub origins: Origins,
    /// Whoever asks gets a ticket.
    pub guests: bool,
    /// TCP connections at once.
    pub connections: usize,
    /// Threads of the edge, and loops of the game port: 1 to 256.
    pub threads: usize,
    /// A certificate that browsers trust. Without one the node makes its own.
    pub certificate: Option<CertificateFiles>,
}

/// Where the web listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebListen {
    /// At the address of `listen`, over TCP.
    AsPlayers,
    /// Here.
    At(SocketAddr),
    /// There is none.
    Off,
}

/// PEM files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
}

pub(super) fn load(settings: &Settings, listen: SocketAddr) -> Result<Edge, ConfigError> {
    let web = match text(settings, "edge.web").as_str() {
        "" => WebListen::AsPlayers,
        OFF => WebListen::Off,
        _ => WebListen::At(parse(settings, "edge.web", "an address like 127.0.0.1:7777, or off")?),
    };
    let loopback = match web {
        WebListen::AsPlayers => listen.ip().is_loopback(),
        WebListen::At(addr) => addr.ip().is_loopback(),
        WebListen::Off => false,
    };
    let origins = match text(settings, "edge.origins") {
        text if text.trim().is_empty() && loopback => Origins::any(),
        text => match text.parse() {
            Ok(origins) => origins,
            Err(error) => {
                let error: rekindle_transport::BadOrigin = error;
                return Err(bad(settings, "edge.origins", &error.to_string()));
            }
        },
    };
    let guests = match text(settings, "edge.guests").as_str() {
        "true" => true,
        "false" => false,
        _ => loopback,
    };
    let certificate = match (text(settings, "edge.certificate"), text(settings, "edge.private_key"))
    {
        (certificate, key) if certificate.is_empty() && key.is_empty() => None,
        (certificate, key) if !certificate.is_empty() && !key.is_empty() => {
            Some(CertificateFiles {
                certificate: PathBuf::from(certificate),
                private_key: PathBuf::from(key),
            })
        }
        _ => {
            return Err(ConfigError::Conflict(
                "edge.certificate and edge.private_key go together: set both, or neither"
                    .to_owned(),
            ));
        }
    };
    let connections = at_least_one(settings, "edge.connections")?;
    let threads = match parse(settings, "edge.threads", "a whole number")? {
        // The edge takes a little more than matches and journal together.
        0 => available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, MAX_THREADS)),
        threads if threads <= MAX_THREADS => threads,
        _ => return Err(bad(settings, "edge.threads", "a whole number, at most 256")),
    };
    Ok(Edge { web, origins, guests, connections, threads, certificate })
}
