//! Where in the cluster a match is: its row in the directory names the owner, the owner's
//! [`Member`] entry in the registry says where players reach it.
//!
//! Called by [`super::links`] for what does not run here. What was found is remembered for a
//! moment: many clients ask for the same match when its node has died. A memory that is wrong costs
//! a client one more redirect; the node that is asked looks at its own matches first.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::member::Member;
use rekindle_schema::{Incarnation, MatchId};
use rekindle_sim::documents::collection_id;
use rekindle_store::{Store, StoreError, members};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How long an answer about a match is remembered.
const MATCH_KNOWN: Duration = Duration::from_millis(100);
/// How long it is remembered which nodes there are, and which matches they run.
const NODES_KNOWN: Duration = Duration::from_millis(500);
/// How often the list of nodes is read for the clients.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// Most matches of which answers are remembered.
const MAX_KNOWN: usize = 1024;

/// Where a match is, as the directory and the registry say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Players reach its owner here.
    At(Owner),
    /// Its row names this node.
    Here,
    /// It is over, and why.
    Ended(String),
    /// It does not run until an operator decides.
    Parked,
    /// Its owner is gone or cannot be reached by players: somebody takes it over.
    Nobody,
    /// There is no such match.
    Unknown,
}

/// A node that owns a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// This run of it.
    pub incarnation: Incarnation,
    /// Its configured name.
    pub node: String,
    /// Where players reach it: `host:port`, UDP.
    pub players: String,
}

impl Owner {
    /// The node that says this of itself.
    pub fn of(member: &Member) -> Self {
        Self {
            incarnation: member.incarnation,
            node: member.name.clone(),
            players: member.players.clone(),
        }
    }
}

/// Live nodes, as they say of themselves.
type Nodes = Arc<BTreeMap<Incarnation, Member>>;

/// Owners of running matches, and the games of those.
type Running = Vec<(Incarnation, String)>;

/// Something that was read, and when.
type Read<T> = (Instant, T);

/// Looks matches and nodes up in the store.
pub struct Lookup {
    store: Store,
    me: Incarnation,
    matches: Mutex<BTreeMap<MatchId, Read<Whereabouts>>>,
    members: Mutex<Option<Read<Nodes>>>,
    /// The owners of running matches and their games.
    running: Mutex<Option<Read<Running>>>,
    /// The addresses of all nodes that take players.
    addrs: watch::Sender<Vec<String>>,
}

impl Lookup {
    /// For the node whose run is `me`.
    pub fn new(store: Store, me: Incarnation) -> Self {
        Self {
            store,
            me,
            matches: Mutex::default(),
            members: Mutex::default(),
            running: Mutex::default(),
            addrs: watch::Sender::default(),
        }
    }

    /// Where a match is. An error is the store's: it does not answer.
    pub async fn of(&self, match_id: MatchId) -> Result<Whereabouts, StoreError> {
        let known = self.matches.lock().get(&match_id).cloned();
        if let Some((at, answer)) = known
            && at.elapsed() < MATCH_KNOWN
        {
            return Ok(answer);
        }
        let answer = match self.store.leases.get(match_id).await? {
            Some(row) => self.of_row(row).await?,
            None => Whereabouts::Unknown,
        };
        let now = Instant::now();
        let mut matches = self.matches.lock();
        if matches.len() >= MAX_KNOWN {
            matches.retain(|_, (at, _)| now.saturating_duration_since(*at) < MATCH_KNOWN);
        }
        if matches.len() < MAX_KNOWN {
            matches.insert(match_id, (now, answer.clone()));
        }
        Ok(answer)
    }

    async fn of_row(&self, row: MatchLease) -> Result<Whereabouts, StoreError> {
        match row.state {
            MatchState::Ended { reason } => return Ok(Whereabouts::Ended(reason)),
            MatchState::Parked { .. } => return Ok(Whereabouts::Parked),
            MatchState::Running => {}
        }
        if row.incarnation == self.me {
            return Ok(Whereabouts::Here);
        }
        let members = self.members_with(row.incarnation).await?;
        let member = members.get(&row.incarnation).filter(|member| !member.players.is_empty());
        Ok(member.map_or(Whereabouts::Nobody, |member| Whereabouts::At(Owner::of(member))))
    }

    /// The members as they were read a moment ago; read again if `wanted` is not among them.
    async fn members_with(&self, wanted: Incarnation) -> Result<Nodes, StoreError> {
        let members = self.members().await?;
        if members.contains_key(&wanted) {
            return Ok(members);
        }
        *self.members.lock() = None;
        self.members().await
    }

    /// The nodes whose leases are live, as they say of themselves.
    async fn members(&self) -> Result<Nodes, StoreError> {
        if let Some((at, members)) = self.members.lock().clone()
            && at.elapsed() < NODES_KNOWN
        {
            return Ok(members);
        }
        let members = Arc::new(members::live(&self.store).await?);
        *self.members.lock() = Some((Instant::now(), Arc::clone(&members)));
        Ok(members)
    }

    /// The next node, in the order of their incarnations, that takes players and runs a match (of
    /// this game, if one is named). Whether it has room, it alone knows. `hops` nodes have sent the
    /// client on already: `None` once every node was asked.
    pub async fn next_room(
        &self,
        game: Option<&str>,
        hops: u8,
    ) -> Result<Option<Owner>, StoreError> {
        let running = self.running().await?;
        let members = self.members().await?;
        let mut nodes = members.values().filter(|member| {
            member.incarnation != self.me
                && takes_players(member)
                && running.iter().any(|(owner, of)| {
                    *owner == member.incarnation && game.is_none_or(|game| of == game)
                })
        });
        if usize::from(hops) >= nodes.clone().count() {
            return Ok(None);
        }
        let next = nodes.clone().find(|member| member.incarnation > self.me);
        Ok(next.or_else(|| nodes.next()).map(Owner::of))
    }

    async fn running(&self) -> Result<Vec<(Incarnation, String)>, StoreError> {
        if let Some((at, running)) = self.running.lock().clone()
            && at.elapsed() < NODES_KNOWN
        {
            return Ok(running);
        }
        let rows = self.store.leases.matches().await?.into_iter();
        let mut running: Vec<_> = rows
            .filter(|row| matches!(row.state, MatchState::Running))
            .filter(|row| row.match_id != collection_id(&row.spec.game))
            .map(|row| (row.incarnation, row.spec.game))
            .collect();
        running.sort();
        running.dedup();
        *self.running.lock() = Some((Instant::now(), running.clone()));
        Ok(running)
    }

    /// The addresses of all nodes that take players, for the clients. [`Lookup::keep_listing`]
    /// keeps them up to date.
    pub fn addrs(&self) -> watch::Receiver<Vec<String>> {
        self.addrs.subscribe()
    }

    /// Reads the list of nodes again and again. Runs until it is dropped.
    pub async fn keep_listing(&self) -> Infallible {
        loop {
            // A store that is silent leaves what was known.
            if let Ok(members) = self.members().await {
                let addrs: Vec<String> = members
                    .values()
                    .filter(|member| takes_players(member))
                    .map(|member| member.players.clone())
                    .collect();
                self.addrs.send_if_modified(|known| {
                    let changed = *known != addrs;
                    *known = addrs;
                    changed
                });
            }
            sleep(LIST_EVERY).await;
        }
    }
}

/// Whether clients may be sent there.
fn takes_players(member: &Member) -> bool {
    !member.draining && !member.players.is_empty()
}

#[cfg(test)]
mod tests {
    use rekindle_schema::lease::{Lineage, MatchSpec, NodeLease, NodeState};
    use rekindle_schema::{BatchNo, BuildId, Epoch, Seq};
    use rekindle_store_memory::MemoryStore;

    use super::*;

    const M: MatchId = MatchId(7);

    async fn node(store: &Store, incarnation: u64, draining: bool) {
        let lease = NodeLease {
            incarnation: Incarnation(incarnation),
            name: format!("n{incarnation}"),
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
        let member = Member {
            incarnation: Incarnation(incarnation),
            name: format!("n{incarnation}"),
            region: "home".to_owned(),
            build: BuildId(1),
            host: String::new(),
            players: addr(incarnation),
            admin: String::new(),
            peers: String::new(),
            speaks: (1, 1),
            draining,
            since_ms: 0,
            weight: 1,
        };
        members::announce(store, &member).await.unwrap();
    }

    fn addr(incarnation: u64) -> String {
        format!("192.0.2.{incarnation}:7777")
    }

    fn row(match_id: MatchId, owner: u64, game: &str) -> MatchLease {
        MatchLease {
            match_id,
            version: 1,
            epoch: Epoch(1),
            incarnation: Incarnation(owner),
            state: MatchState::Running,
            attempts: 0,
            lineage: vec![Lineage {
                epoch: Epoch(1),
                incarnation: Incarnation(owner),
                first_batch: BatchNo(1),
                first_seq: Seq(1),
            }],
            spec: MatchSpec {
                game: game.to_owned(),
                config: bytes::Bytes::new(),
                seed: 1,
                tick_rate: 30,
                house_bots: 0,
                created_ms: 0,
            },
            region: "home".to_owned(),
        }
    }

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_match_is_where_its_owner_says_that_players_reach_it() {
        let store = MemoryStore::new().store();
        let lookup = Lookup::new(store.clone(), Incarnation(1));
        node(&store, 1, false).await;
        node(&store, 2, false).await;
        assert_eq!(lookup.of(M).await.unwrap(), Whereabouts::Unknown);
        store.leases.create(row(M, 2, "arena")).await.unwrap();
        assert_eq!(lookup.of(M).await.unwrap(), Whereabouts::Unknown, "for a moment");
        pass(MATCH_KNOWN).await;
        let Whereabouts::At(owner) = lookup.of(M).await.unwrap() else { panic!("it has an owner") };
        assert_eq!((owner.node.as_str(), owner.players), ("n2", addr(2)));
        // The owner is fenced: nobody has it, until a row says who.
        store.leases.fence(Incarnation(2)).await.unwrap();
        pass(NODES_KNOWN).await;
        assert_eq!(lookup.of(M).await.unwrap(), Whereabouts::Nobody);
        let mine = MatchLease {
            version: 2,
            epoch: Epoch(2),
            incarnation: Incarnation(1),
            ..row(M, 2, "arena")
        };
        store.leases.compare_and_set(mine.clone()).await.unwrap().unwrap();
        pass(MATCH_KNOWN).await;
        assert_eq!(lookup.of(M).await.unwrap(), Whereabouts::Here);
        let state = MatchState::Ended { reason: "blue won".to_owned() };
        store
            .leases
            .compare_and_set(MatchLease { version: 3, state, ..mine })
            .await
            .unwrap()
            .unwrap();
        pass(MATCH_KNOWN).await;
        assert_eq!(lookup.of(M).await.unwrap(), Whereabouts::Ended("blue won".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_for_room_is_sent_round_once() {
        let store = MemoryStore::new().store();
        for (incarnation, draining) in [(1, false), (2, false), (3, true), (4, false)] {
            node(&store, incarnation, draining).await;
            let game = if incarnation == 4 { "chess" } else { "arena" };
            store.leases.create(row(MatchId(incarnation), incarnation, game)).await.unwrap();
        }
        let next = async |me: u64, game: Option<&'static str>, hops| {
            let lookup = Lookup::new(store.clone(), Incarnation(me));
            lookup.next_room(game, hops).await.unwrap().map(|owner| owner.incarnation.0)
        };
        assert_eq!(next(1, None, 0).await, Some(2));
        assert_eq!(next(2, None, 1).await, Some(4), "3 takes nobody");
        assert_eq!(next(4, None, 2).await, None, "all were asked");
        assert_eq!(next(1, Some("chess"), 0).await, Some(4));
        assert_eq!(next(2, Some("arena"), 1).await, None, "1 has sent it here");
        assert_eq!(next(4, None, 0).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_hear_of_the_nodes_that_take_players_and_of_every_change() {
        let store = MemoryStore::new().store();
        let lookup = Arc::new(Lookup::new(store.clone(), Incarnation(1)));
        node(&store, 1, false).await;
        let mut addrs = lookup.addrs();
        let listing = tokio::spawn({
            let lookup = Arc::clone(&lookup);
            async move { lookup.keep_listing().await }
        });
        addrs.changed().await.unwrap();
        assert_eq!(*addrs.borrow_and_update(), [addr(1)]);
        node(&store, 2, false).await;
        node(&store, 3, true).await;
        addrs.changed().await.unwrap();
        assert_eq!(*addrs.borrow_and_update(), [addr(1), addr(2)]);
        listing.abort();
    }
}
