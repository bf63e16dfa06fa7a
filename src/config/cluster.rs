//! The keys under `cluster`: where other nodes reach this one, which nodes it joins, and the
//! certificates with which they know each other.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{ConfigError, Settings, bad, parse, text};

/// Most addresses to join.
const MAX_JOIN: usize = 64;

/// The keys under `cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Where it listens for other nodes: TCP for links, UDP of the same number for gossip. `None`:
    /// it has nothing to do with other nodes.
    pub listen: Option<SocketAddr>,
    /// Where other nodes reach it, if not at `listen`.
    pub public: Option<SocketAddr>,
    /// Addresses of nodes to join, besides those that the store knows.
    pub join: Vec<String>,
    /// Certificates; without, links are plain.
    pub tls: Option<TlsFiles>,
}

/// PEM files of a node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the authority that all nodes have theirs of.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

pub(super) fn load(settings: &Settings) -> Result<Cluster, ConfigError> {
    let address = |key: &str, expected: &str| match text(settings, key).as_str() {
        "" => Ok(None),
        _ => parse(settings, key, expected).map(Some),
    };
    let listen = address("cluster.listen", "an address like 10.0.0.1:7790, or nothing")?;
    let expected = "an address that other nodes can dial, like 10.0.0.1:7790";
    let public: Option<SocketAddr> = address("cluster.public", expected)?;
    if public.is_some_and(|public| public.ip().is_unspecified() || public.port() == 0) {
        return Err(bad(settings, "cluster.public", expected));
    }
    let cluster = Cluster { listen, public, join: join(settings)?, tls: tls(settings)? };
    check_together(&cluster)?;
    Ok(cluster)
}

fn join(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    let list = text(settings, "cluster.join");
    let nodes: Vec<String> =
        list.split(',').map(str::trim).filter(|node| !node.is_empty()).map(str::to_owned).collect();
    let is_address = |node: &String| {
        node.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    if nodes.len() <= MAX_JOIN && nodes.iter().all(is_address) {
        Ok(nodes)
    } else {
        let expected = "up to 64 addresses HOST:PORT with commas between them";
        Err(bad(settings, "cluster.join", expected))
    }
}

fn tls(settings: &Settings) -> Result<Option<TlsFiles>, ConfigError> {
    let file = |key: &str| Some(text(settings, key)).filter(|file| !file.is_empty());
    match (file("cluster.tls.ca"), file("cluster.tls.cert"), file("cluster.tls.key")) {
        (None, None, None) => Ok(None),
        (Some(ca), Some(cert), Some(key)) => {
            Ok(Some(TlsFiles { ca: ca.into(), cert: cert.into(), key: key.into() }))
        }
        _ => Err(ConfigError::Cluster(
            "RK-CONFIG-151: cluster.tls.ca, cluster.tls.cert and cluster.tls.key go together: set \
             all three, or none"
                .to_owned(),
        )),
    }
}

fn check_together(cluster: &Cluster) -> Result<(), ConfigError> {
    let Some(listen) = cluster.listen else { return Ok(()) };
    if !listen.ip().is_loopback() && cluster.tls.is_none() {
        return Err(ConfigError::Cluster(format!(
            "RK-CONFIG-150: cluster.listen = {listen} is not loopback and cluster.tls.* is not \
             set: whoever reaches it could speak as a node; make certificates with `rekindle ca \
             init ca` and `rekindle ca issue NAME --ca ca --out DIR`, or listen on 127.0.0.1"
        )));
    }
    if listen.ip().is_unspecified() && cluster.public.is_none() {
        return Err(ConfigError::Cluster(format!(
            "RK-CONFIG-152: cluster.listen = {listen} is every address of this host, so other \
             nodes cannot be told which to dial: set cluster.public, or listen on one address"
        )));
    }
    Ok(())
}
