//! What a node needs before it can do anything: its data directory to itself, keys, a store, a
//! lease.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use rekindle_cluster::ownership::lease::LEASE_MS;
use rekindle_gateway::keys::Keys;
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::wish::{NodeWish, Wanted};
use rekindle_schema::{BuildId, Incarnation};
use rekindle_store::{Store, wishes};
use tokio::time::Instant;

use super::build;
use super::card::{self, NodeCard};
use super::error::NodeError;
use super::keyring;
use super::naming::{self, Naming};
use crate::config::Config;
use crate::{clock, moment};

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
    /// The name of this node: the configured one, or another one if that was only the usual one.
    pub name: String,
    /// What computes the games.
    pub build: BuildId,
    /// This process's start time.
    pub pid_start: u64,
    /// What operators want of the node of this name.
    pub wish: Option<NodeWish>,
}

/// What [`take_lease`] has.
struct Leased {
    store: Store,
    keys: Keys,
    incarnation: Incarnation,
    name: String,
    pid_start: u64,
    wish: Option<NodeWish>,
}

/// How long a start waits before it asks again for a store that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often it says that it waits.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// Takes the data directory, opens the store and registers a new incarnation. A store that does not
/// answer is waited for, up to `store_wait_s`: `waiting` is told what it waits for. Dropping it
/// gives up.
pub async fn boot(config: &Config, mut waiting: impl FnMut(&str)) -> Result<Booted, NodeError> {
    let lock = lock(&config.data_dir)?;
    // Reads the whole executable, which takes seconds on a busy machine: before the lease, which
    // nobody renews yet when this returns.
    let build = build::of_this_executable()?;
    let (begun, mut said) = (Instant::now(), None::<Instant>);
    loop {
        let error = match take_lease(config).await {
            Ok(Leased { store, keys, incarnation, name, pid_start, wish }) => {
                return Ok(Booted { lock, keys, store, incarnation, name, build, pid_start, wish });
            }
            Err(NodeError::Store(error)) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        let waited = begun.elapsed();
        if waited >= config.store_wait {
            return Err(NodeError::StoreSilent { waited_s: waited.as_secs(), error });
        }
        if said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
            said = Some(Instant::now());
            let words = format!(
                "waiting for the store since {} s, for {} s at most: {error}",
                waited.as_secs(),
                config.store_wait.as_secs()
            );
            tracing::warn!(code = "RK-NODE-130", store = %config.store, "{words}");
            waiting(&words);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Opens the store, takes its cluster's keys, and registers a new incarnation: an attempt whose
/// answer was lost leaves one behind that owns nothing. A node that was decommissioned does not.
async fn take_lease(config: &Config) -> Result<Leased, NodeError> {
    let store = config.store.open().await?;
    let _served = wish(&store, &naming::preferred(config)).await?;
    // Before anything is written: a node with the wrong secret changes nothing.
    let keys = keyring::begin(config, &store).await?;
    // Before the first lease: a copy learns that it is one before it does anything.
    let identity = store.identity.ascertain(clock::fresh()).await?;
    tracing::info!(
        code = "RK-NODE-100", store = %config.store, id = %identity.id, floor = %identity.floor,
        "store identified"
    );
    let pid = std::process::id();
    let pid_start = card::process_start(pid).unwrap_or_default();
    let mut naming = Naming::new(config, &store, identity.id);
    loop {
        let name = naming.choose().await?;
        let wish = wish(&store, &name).await?;
        let lease = NodeLease {
            incarnation: clock::incarnation(),
            name: name.clone(),
            state: NodeState::Live,
            pid,
            pid_start,
            deadline_ms: clock::now_ms() + LEASE_MS,
            seal: None,
            host: card::this_host(),
            region: config.node_region.clone(),
            reached: None,
            loss_accepted_ms: None,
        };
        let incarnation = lease.incarnation;
        store.leases.register(lease).await?;
        if naming.is_alone(&name, incarnation).await? {
            naming.remember(&name);
            return Ok(Leased { store, keys, incarnation, name, pid_start, wish });
        }
        // Another node began at the same moment under this name. This run has written nothing.
        store.leases.stop(incarnation).await?;
    }
}

/// What operators want of the node of this name; an error if that is that there is none.
async fn wish(store: &Store, name: &str) -> Result<Option<NodeWish>, NodeError> {
    let wish = wishes::of(store, name).await?;
    match wish.as_ref().filter(|wish| wish.wanted == Wanted::Decommissioned) {
        Some(wish) => Err(NodeError::Decommissioned {
            node: wish.node.clone(),
            who: wish.who.clone(),
            since: moment::show(wish.since_ms),
        }),
        None => Ok(wish),
    }
}

/// Why no other node starts on a data directory, with the node that is there if it is known.
pub(crate) fn in_use(dir: &Path, card: Option<&NodeCard>) -> NodeError {
    let who = card.map(|card| format!(" (pid {}, http://{})", card.pid, card.admin));
    NodeError::InUse { dir: dir.to_owned(), who: who.unwrap_or_default() }
}

/// One node per data directory: the lock goes with the process, however it ends.
pub(crate) fn lock(dir: &Path) -> Result<File, NodeError> {
    let place = |error: std::io::Error| NodeError::DataDir { dir: dir.to_owned(), error };
    std::fs::create_dir_all(dir).map_err(place)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(card::LOCK_FILE))
        .map_err(place)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(dir, NodeCard::running(dir).as_ref())),
        Err(TryLockError::Error(error)) => Err(place(error)),
    }
}
