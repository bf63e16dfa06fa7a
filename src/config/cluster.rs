//! The keys under `cluster`: where other nodes reach this one, which nodes it joins, and the
//! certificates with which they know each other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rekindle_cluster::standby::wishes::Wishes;
use rekindle_schema::standby::MAX_REPORTED;

use super::{ConfigError, Settings, at_least_one, bad, parse, text};

/// Most addresses to join.
const MAX_JOIN: usize = 64;
/// Highest `cluster.weight`.
pub const MAX_WEIGHT: u32 = 1_000;

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
    /// How many standbys matches have, and which share of them is audited. What operators want of
    /// single matches is in the store.
    pub standby: Wishes,
    /// Most matches that are followed at once.
    pub standbys_max: usize,
    /// Clients connect ahead of time to the node that claims their match first, where it has no
    /// standby.
    pub warm_clients: bool,
    /// How much this node can carry, relative to others: 1 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// How long the nodes have to be the same before matches move to much less loaded ones. `None`:
    /// they do not.
    pub rebalance: Option<Duration>,
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
    let cluster = Cluster {
        listen,
        public,
        join: join(settings)?,
        tls: tls(settings)?,
        standby: standby(settings)?,
        standbys_max: standbys_max(settings)?,
        warm_clients: parse(settings, "cluster.warm_clients", "true or false")?,
        weight: weight(settings)?,
        rebalance: rebalance(settings)?,
    };
    check_together(&cluster)?;
    Ok(cluster)
}

fn weight(settings: &Settings) -> Result<u32, ConfigError> {
    let weight = at_least_one(settings, "cluster.weight")?;
    if weight > MAX_WEIGHT {
        return Err(bad(settings, "cluster.weight", "a whole number from 1 to 1000"));
    }
    Ok(weight)
}

fn rebalance(settings: &Settings) -> Result<Option<Duration>, ConfigError> {
    let after_s: u32 = at_least_one(settings, "cluster.rebalance_after_s")?;
    let on: bool = parse(settings, "cluster.rebalance", "true or false")?;
    Ok(on.then(|| Duration::from_secs(u64::from(after_s))))
}

/// Standbys by game, and the share of matches that is audited.
fn standby(settings: &Settings) -> Result<Wishes, ConfigError> {
    let said = text(settings, "cluster.standby");
    let mut wishes = Wishes::parse(&said)
        .map_err(|error| bad(settings, "cluster.standby", &error.to_string()))?;
    let share: f64 = parse(settings, "cluster.audit", "a share from 0 to 1, like 0.05")?;
    if !(0.0..=1.0).contains(&share) {
        return Err(bad(settings, "cluster.audit", "a share from 0 to 1, like 0.05"));
    }
    wishes.audit = (share * 1e6).round() as u32;
    Ok(wishes)
}

fn standbys_max(settings: &Settings) -> Result<usize, ConfigError> {
    let most: usize = parse(settings, "cluster.standbys_max", "a whole number")?;
    if most > MAX_REPORTED {
        let expected = format!("at most {MAX_REPORTED}");
        return Err(bad(settings, "cluster.standbys_max", &expected));
    }
    Ok(most)
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
