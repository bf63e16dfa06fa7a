//! The nodes of this store, as this one knows them: what it says of itself, and a view of what the
//! others say. The view is in memory and answers at once; it is read again each second, and
//! whenever somebody asks for that. Made in [`super::lifecycle`].

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_cluster::ownership::lease::RENEW_EVERY;
use rekindle_schema::member::Member;
use rekindle_schema::peer::{PEER_VERSION, PEER_VERSION_MIN};
use rekindle_schema::{BuildId, Incarnation};
use rekindle_store::{Store, StoreError, members};
use tokio::time::Instant;

use super::card;
use crate::config::Config;
use crate::{clock, dial};

/// A view that was read so shortly ago is not read again for whoever asks.
const FRESH: Duration = Duration::from_millis(100);

/// Members whose leases are live, by incarnation.
pub type View = Arc<BTreeMap<Incarnation, Member>>;

/// The members of this store.
pub struct Members {
    store: Store,
    /// What this node says of itself.
    own: Mutex<Member>,
    /// Held by whoever writes that into the registry: changes arrive in their order.
    writing: tokio::sync::Mutex<()>,
    view: Mutex<View>,
    /// Held by whoever reads the view again.
    reading: tokio::sync::Mutex<()>,
    /// When that was done last.
    read_at: Mutex<Option<Instant>>,
}

impl Members {
    /// Of this store; `own` is this node, which is announced later.
    pub fn new(store: Store, own: Member) -> Self {
        Self {
            store,
            own: Mutex::new(own),
            writing: tokio::sync::Mutex::default(),
            view: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            read_at: Mutex::default(),
        }
    }

    /// What this node says of itself.
    pub fn own(&self) -> Member {
        self.own.lock().clone()
    }

    /// All members as they were read last, this node among them once it is announced.
    pub fn all(&self) -> View {
        Arc::clone(&self.view.lock())
    }

    /// One of them.
    pub fn get(&self, incarnation: Incarnation) -> Option<Member> {
        self.view.lock().get(&incarnation).cloned()
    }

    /// Those that take no more matches, as far as is known; this node may be among them.
    pub fn draining(&self) -> BTreeSet<Incarnation> {
        let own = self.own();
        let others = self.all();
        let others = others.values().filter(|member| member.draining);
        let own = own.draining.then_some(own.incarnation);
        others
            .map(|member| member.incarnation)
            .filter(|node| Some(*node) != own)
            .chain(own)
            .collect()
    }

    /// Reads the view again. Many who ask at once cost one read, and a view that is as good as new
    /// is not read again. Never longer than the store takes to answer two requests.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _turn = self.reading.lock().await;
        if self.were_read_within(FRESH) {
            return Ok(());
        }
        let found = Arc::new(members::live(&self.store).await?);
        *self.view.lock() = found;
        *self.read_at.lock() = Some(Instant::now());
        Ok(())
    }

    /// Whether the view is at most so old: the store has answered since.
    pub fn were_read_within(&self, age: Duration) -> bool {
        self.read_at.lock().is_some_and(|at| at.elapsed() < age)
    }

    /// Changes what this node says of itself, and writes it into the registry. What was changed
    /// stays changed if that fails: [`Members::keep`] writes it later.
    pub async fn announce(&self, change: impl FnOnce(&mut Member)) -> Result<(), StoreError> {
        change(&mut self.own.lock());
        let _turn = self.writing.lock().await;
        let own = self.own();
        members::announce(&self.store, &own).await
    }

    /// Takes this node out of the registry: at its clean stop.
    pub async fn withdraw(&self) -> Result<(), StoreError> {
        let _turn = self.writing.lock().await;
        let incarnation = self.own.lock().incarnation;
        members::withdraw(&self.store, incarnation).await
    }

    /// Reads the view again each second, and announces this node again if the registry has
    /// something else of it.
    pub async fn keep(&self) -> Infallible {
        loop {
            let kept = async {
                self.refresh().await?;
                let own = self.own();
                match self.get(own.incarnation) {
                    Some(standing) if standing == own => Ok(()),
                    _ => self.announce(|_| {}).await,
                }
            };
            if let Err(error) = kept.await {
                tracing::debug!(code = "RK-NODE-163", %error, "which nodes there are was not read \
                    again");
            }
            tokio::time::sleep(RENEW_EVERY).await;
        }
    }
}

/// What a node says of itself that listens for players at `players` and for operators at `admin`,
/// as they are bound, and for other nodes at `peers`, if it has links.
pub fn describe(
    config: &Config,
    (incarnation, build): (Incarnation, BuildId),
    (players, admin): (SocketAddr, SocketAddr),
    peers: Option<String>,
) -> Member {
    Member {
        incarnation,
        name: config.node_name.clone(),
        region: config.node_region.clone(),
        build,
        host: card::this_host(),
        players: config.public.unwrap_or_else(|| dial::from_here(players)).to_string(),
        admin: dial::from_here(admin).to_string(),
        peers: peers.unwrap_or_default(),
        speaks: (PEER_VERSION_MIN, PEER_VERSION),
        draining: false,
        since_ms: clock::now_ms(),
        weight: config.cluster.weight,
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::lease::{NodeLease, NodeState};
    use rekindle_store::registry::MAX_VALUE;
    use rekindle_store_memory::MemoryStore;

    use super::*;

    fn member(incarnation: u64) -> Member {
        Member {
            incarnation: Incarnation(incarnation),
            name: format!("node-{incarnation}"),
            region: "home".to_owned(),
            build: BuildId(1),
            host: String::new(),
            players: "127.0.0.1:7777".to_owned(),
            admin: "127.0.0.1:7780".to_owned(),
            peers: String::new(),
            speaks: (1, 1),
            draining: false,
            since_ms: 5,
            weight: 1,
        }
    }

    async fn register(store: &Store, incarnation: u64) {
        let lease = NodeLease {
            incarnation: Incarnation(incarnation),
            name: String::new(),
            state: NodeState::Live,
            pid: 0,
            pid_start: 0,
            deadline_ms: 0,
            seal: None,
            host: String::new(),
            region: "home".to_owned(),
            reached: None,
            loss_accepted_ms: None,
        };
        store.leases.register(lease).await.unwrap();
    }

    fn incarnations(members: &Members) -> Vec<u64> {
        members.all().keys().map(|incarnation| incarnation.0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_see_each_other_from_their_announcement_to_their_withdrawal() {
        let store = MemoryStore::new().store();
        let (a, b) =
            (Members::new(store.clone(), member(1)), Members::new(store.clone(), member(2)));
        register(&store, 1).await;
        register(&store, 2).await;
        a.announce(|_| {}).await.unwrap();
        b.announce(|own| own.peers = "127.0.0.1:9".to_owned()).await.unwrap();
        a.refresh().await.unwrap();
        assert_eq!(incarnations(&a), [1, 2]);
        assert_eq!(a.get(Incarnation(2)).unwrap().peers, "127.0.0.1:9");
        b.announce(|own| own.draining = true).await.unwrap();
        a.refresh().await.unwrap();
        assert!(!a.get(Incarnation(2)).unwrap().draining, "a fresh view is not read again");
        tokio::time::advance(FRESH).await;
        a.refresh().await.unwrap();
        assert!(a.get(Incarnation(2)).unwrap().draining);
        b.withdraw().await.unwrap();
        b.withdraw().await.unwrap();
        tokio::time::advance(FRESH).await;
        a.refresh().await.unwrap();
        assert_eq!(incarnations(&a), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_whose_lease_is_not_live_counts_for_nothing() {
        let store = MemoryStore::new().store();
        let a = Members::new(store.clone(), member(1));
        register(&store, 1).await;
        register(&store, 2).await;
        for incarnation in 1..=3 {
            members::announce(&store, &member(incarnation)).await.unwrap();
        }
        store.leases.fence(Incarnation(2)).await.unwrap();
        a.refresh().await.unwrap();
        assert_eq!(incarnations(&a), [1], "2 is fenced, 3 has no lease");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_hides_no_other_member() {
        let store = MemoryStore::new().store();
        let a = Members::new(store.clone(), member(1));
        register(&store, 1).await;
        a.announce(|_| {}).await.unwrap();
        for (name, value) in [
            ("members/0000000000000009", vec![0xff; MAX_VALUE]),
            ("members/zz", Vec::new()),
            ("members/0000000000000008", member(1).encode()),
        ] {
            let entry = rekindle_schema::registry::RegistryEntry {
                name: name.to_owned(),
                version: 1,
                value: value.into(),
            };
            store.registry.put(entry).await.unwrap().unwrap();
        }
        a.refresh().await.unwrap();
        assert_eq!(incarnations(&a), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_entry_went_is_announced_again() {
        let store = MemoryStore::new().store();
        let a = Members::new(store.clone(), member(1));
        register(&store, 1).await;
        a.announce(|_| {}).await.unwrap();
        members::withdraw(&store, Incarnation(1)).await.unwrap();
        let again = async {
            while members::live(&store).await.unwrap().is_empty() {
                tokio::time::sleep(RENEW_EVERY).await;
            }
        };
        tokio::select! {
            () = again => {}
            never = a.keep() => match never {},
        }
    }
}
