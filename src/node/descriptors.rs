//! How many files and sockets a node needs open at once, and how many it may have.
//!
//! Players cost none over QUIC: they share one UDP socket. Those that come by WebSocket cost one
//! each. Compared at the start, and by `rekindle doctor`.

use rekindle_store_open::address::StoreAddress;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::config::edge::WebListen;

/// Runtimes, the game port, logs, node.json, and what commands of the system open for a moment.
const PROCESS: u64 = 64;
/// The log's segments, checkpoints, `node.db` with what belongs to it, and what jobs read beside
/// them.
const LOCAL_STORE: u64 = 64;
/// Connections to servers, those that are being made again included.
const SERVERS: u64 = 128;
/// The admin listener has at least so many connections, however few descriptors there are.
const FEWEST_ADMINS: usize = 4;

/// What a node with this configuration needs.
pub fn needed(config: &Config) -> u64 {
    let web = match config.edge.web {
        WebListen::Off => 0,
        WebListen::AsPlayers | WebListen::At(_) => config.edge.connections as u64,
    };
    without_admins(config) + config.admin_connections as u64 + web
}

fn without_admins(config: &Config) -> u64 {
    let store = match config.store {
        StoreAddress::Local(_) => LOCAL_STORE,
        StoreAddress::Memory => 0,
        StoreAddress::Postgres(_) | StoreAddress::Cql(_) => SERVERS,
    };
    PROCESS + store
}

/// Takes as many descriptors as the system allows this process (the hard limit), and gives how many
/// that are; `None`: any number.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum
        || setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err()
    {
        return current;
    }
    maximum
}

/// How many connections the web listener may have: not so many that the store gets none.
pub fn web_connections(config: &Config) -> usize {
    let most = config.edge.connections;
    let Some(limit) = getrlimit(Resource::Nofile).current else { return most };
    usize::try_from(limit / 2).map_or(most, |half| half.clamp(1, most))
}

/// Raises the limit, says so if it is lower than what the configuration needs, and gives how many
/// connections the admin listener may have.
pub fn prepare(config: &Config) -> usize {
    let limit = raise();
    let (needed, most) = (needed(config), config.admin_connections);
    let Some(limit) = limit.filter(|&limit| limit < needed) else { return most };
    let left = usize::try_from(limit.saturating_sub(without_admins(config))).unwrap_or(most);
    let admins = left.clamp(FEWEST_ADMINS, most.max(FEWEST_ADMINS));
    tracing::warn!(
        code = "RK-NODE-120",
        limit,
        needed,
        admin_connections = admins,
        "the system allows fewer open files than this configuration may need: raise LimitNOFILE \
         (systemd) or `ulimit -n`"
    );
    admins
}
