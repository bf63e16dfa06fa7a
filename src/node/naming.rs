//! Which name a node has among those of its store. Nodes are listed, drained and decommissioned by
//! name, so no two that live have the same one.
//!
//! Called by [`super::boot`]: [`Naming::choose`] before the lease is registered, and
//! [`Naming::is_alone`] behind it, for nodes that start at the same moment. A restart waits for
//! nobody. That a live lease is this node's own, of a run that was killed, is known of the data
//! directory, which remembers its last run, and of the processes of this host. Only a run on
//! another host is asked for, once, where it listens for other nodes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rekindle_cluster::bus::greeting::NoLink;
use rekindle_cluster::bus::ractor::who_is_at;
use rekindle_cluster::ownership::lease::LEASE_MS;
use rekindle_schema::Incarnation;
use rekindle_schema::hello::Hello;
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::peer::{PEER_VERSION, PEER_VERSION_MIN};
use rekindle_store::identity::{Holder, StoreId};
use rekindle_store::{Store, StoreError, members, wishes};

use super::card::NodeCard;
use super::error::NodeError;
use super::{alive, cluster};
use crate::clock;
use crate::config::{self, Config};

/// In the data directory of a node that has taken a name by itself: that name.
const NAME_FILE: &str = "name";

/// Whether a live lease is that of a node which lives.
enum Lives {
    /// It does; `at` says where, in words.
    Yes { at: String },
    /// Its process has ended, or is not one of this store.
    No,
    /// Nobody can tell from here without waiting.
    Perhaps,
}

/// Names a node. The data directory must be locked.
pub(super) struct Naming<'a> {
    config: &'a Config,
    store: &'a Store,
    store_id: StoreId,
    /// Live leases that were looked at.
    seen: BTreeSet<Incarnation>,
}

/// The name that a node is to have if nobody else has it: that which an operator has set, or the
/// one that it had before.
pub(super) fn preferred(config: &Config) -> String {
    let remembered = || std::fs::read_to_string(name_file(config)).ok();
    let remembered = if config.node_name_is_set { None } else { remembered() };
    let remembered = remembered.map(|name| name.trim().to_owned());
    remembered.filter(|name| config::is_name(name)).unwrap_or_else(|| config.node_name.clone())
}

fn name_file(config: &Config) -> PathBuf {
    config.data_dir.join(NAME_FILE)
}

impl<'a> Naming<'a> {
    pub(super) fn new(config: &'a Config, store: &'a Store, store_id: StoreId) -> Self {
        Self { config, store, store_id, seen: BTreeSet::new() }
    }

    /// The name under which this node may register its lease. An error if an operator has set one
    /// that a live node has.
    pub(super) async fn choose(&mut self) -> Result<String, NodeError> {
        let wanted = preferred(self.config);
        let nodes = self.store.leases.nodes().await?;
        let live = |node: &&NodeLease| node.state == NodeState::Live;
        self.seen.extend(nodes.iter().filter(live).map(|node| node.incarnation));
        let mut holder = None;
        for node in nodes.iter().filter(live).filter(|node| node.name == wanted) {
            match self.lives(node).await? {
                Lives::Yes { at } => holder = Some((node.incarnation, at)),
                // What an operator says counts: it may be this node's own.
                Lives::Perhaps if !self.config.node_name_is_set => {
                    holder = Some((node.incarnation, "another host".to_owned()));
                }
                Lives::Perhaps | Lives::No => {}
            }
        }
        let Some((node, at)) = holder else { return Ok(wanted) };
        // A certificate is for one name, so a node that has one cannot call itself otherwise.
        if self.config.node_name_is_set || self.config.cluster.tls.is_some() {
            return Err(NodeError::NameTaken { name: wanted, node, at });
        }
        let wishes = wishes::all(self.store).await?;
        let is_free = |name: &String| {
            !wishes.contains_key(name)
                && !nodes.iter().any(|node| live(&node) && node.name == *name)
        };
        let mut number = 2_u64;
        let free = loop {
            let name = format!("node-{number}");
            if is_free(&name) {
                break name;
            }
            number += 1;
        };
        tracing::warn!(
            code = "RK-NODE-251", name = free, taken = wanted, %node, at,
            "this node takes another name, since a live node of this store has the usual one; \
             node.name sets it"
        );
        Ok(free)
    }

    /// Whether no other node registered itself under this name at the same moment. Of two that did,
    /// the later one is not alone.
    pub(super) async fn is_alone(&self, name: &str, me: Incarnation) -> Result<bool, NodeError> {
        for node in self.store.leases.nodes().await? {
            let rivals = node.state == NodeState::Live && node.name == name;
            if !rivals || node.incarnation >= me || self.seen.contains(&node.incarnation) {
                continue;
            }
            match self.lives(&node).await? {
                Lives::No => {}
                Lives::Perhaps if self.config.node_name_is_set => {}
                Lives::Yes { .. } | Lives::Perhaps => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Writes down a name that this node has taken by itself, so that it has it again.
    pub(super) fn remember(&self, name: &str) {
        if self.config.node_name_is_set || name == preferred(self.config) {
            return;
        }
        if let Err(error) = std::fs::write(name_file(self.config), format!("{name}\n")) {
            tracing::warn!(code = "RK-NODE-252", name, %error, "this node's name could not be \
                written down: it may have another one when it starts again");
        }
    }

    async fn lives(&self, node: &NodeLease) -> Result<Lives, StoreError> {
        let lapsed = node.deadline_ms.saturating_add(LEASE_MS) < clock::now_ms();
        // An attempt to register whose answer was lost is this very process.
        if lapsed || alive::is_gone(node) || alive::is_here(node) && node.pid == std::process::id()
        {
            return Ok(Lives::No);
        }
        let member = members::live(self.store).await?.remove(&node.incarnation);
        let at = |place: String| match &member {
            Some(member) => format!("{} ({place})", member.players),
            None => place,
        };
        if alive::is_here(node) {
            let holder = self.store.identity.holder(node).await?;
            let gone = matches!(holder, Holder::Gone | Holder::Stranger);
            let process = format!("process {} of this host", node.pid);
            return Ok(if gone { Lives::No } else { Lives::Yes { at: at(process) } });
        }
        // Nobody else has the data directory now, so its last run is over.
        let last = NodeCard::read(&self.config.data_dir);
        if last.is_some_and(|last| last.incarnation == node.incarnation.to_string()) {
            return Ok(Lives::No);
        }
        let listens = member.as_ref().map(|member| member.peers.clone());
        let Some(address) = listens.filter(|address| !address.is_empty()) else {
            return Ok(Lives::Perhaps);
        };
        Ok(match self.who_is_at(&address).await {
            Ok(there) if there == node.incarnation => {
                Lives::Yes { at: at(format!("on another host, for nodes {address}")) }
            }
            Ok(_) | Err(NoLink::NobodyListens) => Lives::No,
            Err(_) => Lives::Perhaps,
        })
    }

    async fn who_is_at(&self, address: &str) -> Result<Incarnation, NoLink> {
        let tls = cluster::tls(&self.config.cluster);
        let tls = tls.map_err(|error| NoLink::Tls(error.to_string()))?;
        let ours = Hello {
            speaks: (PEER_VERSION_MIN, PEER_VERSION),
            store: self.store_id.0,
            from: clock::incarnation(),
            name: self.config.node_name.clone(),
            to: None,
        };
        Ok(who_is_at(address, &ours, tls.as_ref()).await?.from)
    }
}

#[cfg(test)]
mod tests {
    use rekindle_cluster::bus::ractor::{Bus, BusParts};
    use rekindle_schema::BuildId;
    use rekindle_schema::lease::DEFAULT_REGION;
    use rekindle_schema::member::Member;
    use rekindle_store_memory::MemoryStore;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Settings, Sources};

    const STORE: StoreId = StoreId(7);

    /// The configuration of a node with this data directory; `set` is its name if one is set.
    fn config(dir: &std::path::Path, set: Option<&str>) -> Config {
        let flag = |key: &str, value: &str| ("test".to_owned(), key.to_owned(), value.to_owned());
        let mut flags = vec![flag("data_dir", dir.to_str().unwrap())];
        flags.extend(set.map(|name| flag("node.name", name)));
        let settings = Settings::load(&Sources { flags, ..Sources::default() }).unwrap();
        Config::from_settings(&settings).unwrap()
    }

    /// A live lease of another host.
    async fn register(store: &Store, incarnation: u64, name: &str) {
        let lease = NodeLease {
            incarnation: Incarnation(incarnation),
            name: name.to_owned(),
            state: NodeState::Live,
            pid: 7,
            pid_start: 7,
            deadline_ms: clock::now_ms() + LEASE_MS,
            seal: None,
            host: "elsewhere".to_owned(),
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        };
        store.leases.register(lease).await.unwrap();
    }

    /// It says that it listens there for other nodes.
    async fn listens(store: &Store, incarnation: u64, peers: &str) {
        let member = Member {
            incarnation: Incarnation(incarnation),
            name: String::new(),
            region: DEFAULT_REGION.to_owned(),
            build: BuildId(1),
            host: "elsewhere".to_owned(),
            players: "192.0.2.1:7777".to_owned(),
            admin: String::new(),
            peers: peers.to_owned(),
            speaks: (PEER_VERSION_MIN, PEER_VERSION),
            draining: false,
            since_ms: 1,
            weight: 1,
        };
        members::announce(store, &member).await.unwrap();
    }

    async fn chosen(config: &Config, store: &Store) -> Result<String, NodeError> {
        Naming::new(config, store, STORE).choose().await
    }

    #[tokio::test]
    async fn a_run_on_another_host_has_its_name_if_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let (usual, set) = (config(dir.path(), None), config(dir.path(), Some("node-1")));
        let store = MemoryStore::new().store();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        register(&store, 5, "node-1").await;

        // Of one that has not said where it is nobody knows: only what is set counts.
        assert_eq!(chosen(&usual, &store).await.unwrap(), "node-2");
        assert_eq!(chosen(&set, &store).await.unwrap(), "node-1");
        let me = Hello {
            speaks: (PEER_VERSION_MIN, PEER_VERSION),
            store: STORE.0,
            from: Incarnation(5),
            name: "node-1".to_owned(),
            to: None,
        };
        let bus = Bus::start(BusParts { me, listener, tls: None }).await.unwrap();
        listens(&store, 5, &address).await;
        assert_eq!(chosen(&usual, &store).await.unwrap(), "node-2");
        let taken = chosen(&set, &store).await.unwrap_err().to_string();
        for part in ["RK-NODE-250", "192.0.2.1:7777", &address, "--node"] {
            assert!(taken.contains(part), "{part}: {taken}");
        }

        // A later run of it, or nobody: it is gone.
        register(&store, 4, "a").await;
        listens(&store, 4, &address).await;
        assert_eq!(chosen(&config(dir.path(), Some("a")), &store).await.unwrap(), "a");
        bus.stop();
        drop(bus);
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        listens(&store, 5, &free.to_string()).await;
        for config in [&usual, &set] {
            assert_eq!(chosen(config, &store).await.unwrap(), "node-1");
        }
    }

    #[tokio::test]
    async fn of_two_that_begin_at_the_same_moment_the_later_one_looks_for_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let (usual, store) = (config(dir.path(), None), MemoryStore::new().store());
        let mut naming = Naming::new(&usual, &store, STORE);
        assert_eq!(naming.choose().await.unwrap(), "node-1");
        register(&store, 4, "node-1").await;
        register(&store, 5, "node-1").await;
        assert!(!naming.is_alone("node-1", Incarnation(5)).await.unwrap());
        assert!(naming.is_alone("node-1", Incarnation(4)).await.unwrap());
        // A name that an operator wants something of is nobody's to take.
        store.leases.stop(Incarnation(5)).await.unwrap();
        let wish = rekindle_schema::wish::NodeWish {
            node: "node-2".to_owned(),
            wanted: rekindle_schema::wish::Wanted::Drained,
            since_ms: 1,
            who: "test".to_owned(),
        };
        wishes::wish(&store, &wish).await.unwrap();
        let name = naming.choose().await.unwrap();
        assert_eq!(name, "node-3");
        naming.remember(&name);
        assert_eq!(preferred(&usual), "node-3");
        assert_eq!(preferred(&config(dir.path(), Some("a"))), "a");
    }
}
