//! What a node needs before it can do anything: its data directory to itself, keys, a store, a lease.

use std::fs::{File, TryLockError};
use std::path::Path;

use rekindle_cluster::lease::LEASE_MS;
use rekindle_gateway::keys::Keys;
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::{BuildId, Incarnation};
use rekindle_store::Store;

use super::card::{self, NodeCard};
use super::{build, clock};
use crate::cli::exit::{Exit, Failure};
use crate::config::Config;

/// A node that may begin: its lease is registered and live.
pub struct Booted {
    /// Keeps other processes from this data directory until it is dropped.
    pub lock: File,
    /// Signs tickets, shows the certificate.
    pub keys: Keys,
    /// Where durable things go.
    pub store: Store,
    /// This run.
    pub incarnation: Incarnation,
    /// What computes the games.
    pub build: BuildId,
    /// This process's start time.
    pub pid_start: u64,
}

/// Takes the data directory, opens the store and registers a new incarnation.
pub async fn boot(config: &Config) -> Result<Booted, Failure> {
    let lock = lock(&config.data_dir)?;
    let keys = Keys::load_or_create(&config.data_dir)?;
    let store = config.store.open().await?;
    let pid = std::process::id();
    let pid_start = card::process_start(pid).unwrap_or_default();
    let lease = NodeLease {
        incarnation: clock::incarnation(),
        name: config.node_name.clone(),
        state: NodeState::Live,
        pid,
        pid_start,
        deadline_ms: clock::now_ms() + LEASE_MS,
        seal: None,
        host: card::this_host(),
        region: config.node_region.clone(),
    };
    let incarnation = lease.incarnation;
    store.leases.register(lease).await?;
    Ok(Booted { lock, keys, store, incarnation, build: build::of_this_executable()?, pid_start })
}

/// One node per data directory: the lock goes with the process, however it ends.
pub(crate) fn lock(dir: &Path) -> Result<File, Failure> {
    let place = |error: std::io::Error| {
        let message = format!("RK-NODE-021: data directory {}: {error}; choose another with --data-dir", dir.display());
        Failure::new(Exit::Failed, message)
    };
    std::fs::create_dir_all(dir).map_err(place)?;
    let file = File::options().create(true).truncate(false).write(true).open(dir.join("lock")).map_err(place)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let who = NodeCard::read(dir).map_or_else(String::new, |card| format!(" (pid {}, http://{})", card.pid, card.admin));
            let message = format!(
                "RK-NODE-022: a live node{who} uses {}; stop it with `rekindle drain`, or choose another directory with --data-dir",
                dir.display()
            );
            Err(Failure::new(Exit::InUse, message))
        }
        Err(TryLockError::Error(error)) => Err(place(error)),
    }
}
