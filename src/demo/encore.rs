//! What follows when a match of the demo ends: another one of the same configuration, into which
//! its bots go on.
//!
//! The bots of a match ask [`Encores::next`] when they have seen its end. The first of them has a
//! node create the next match; nodes may be dead, frozen or draining at that moment, so all are
//! asked in turn until one has done it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_admin::api::{CreateMatch, MatchView};
use rekindle_admin::client::AdminClient;
use rekindle_schema::MatchId;
use tokio::sync::OnceCell;

use super::Cast;
use crate::exit::Failure;
use crate::node::card::NodeCard;

/// A node that takes longer to create a match is frozen, and another one is asked.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// From one node's refusal to the question to the next.
const ASKED_AGAIN: Duration = Duration::from_millis(50);

/// The match and the node that runs it, which its bots ask first.
type Place = (MatchId, SocketAddr);

/// Called with a match that has ended, and the one that follows it.
type Followed = Box<dyn Fn(MatchId, Place) + Send + Sync>;

/// Creates the matches of the demo: the first ones, and one for each that ends.
pub(super) struct Encores {
    game: String,
    config: serde_json::Value,
    /// Of the next match that is created.
    seed: AtomicU64,
    /// Data directories of the nodes, where their cards lie.
    nodes: Vec<PathBuf>,
    /// For each match that has ended, what follows.
    next: Mutex<BTreeMap<MatchId, Arc<OnceCell<Place>>>>,
    followed: Followed,
}

impl Encores {
    /// Matches of `cast` on nodes with these data directories; their seeds count from `seed` on.
    /// `followed` is told of each match that follows another one.
    pub(super) fn new(cast: &Cast, nodes: Vec<PathBuf>, seed: u64, followed: Followed) -> Self {
        Self {
            game: cast.game.clone(),
            config: cast.config.clone(),
            seed: AtomicU64::new(seed),
            nodes,
            next: Mutex::default(),
            followed,
        }
    }

    /// Has a node create a match.
    pub(super) async fn create(&self, card: &NodeCard) -> Result<MatchId, Failure> {
        let wanted = CreateMatch {
            game: self.game.clone(),
            config: self.config.clone(),
            properties: BTreeMap::new(),
            house_bots: 0,
            seed: Some(self.seed.fetch_add(1, Ordering::Relaxed)),
            tick_rate: None,
            on: Some(card.incarnation.clone()),
            seats: Vec::new(),
            ttl_s: None,
        };
        let admin = AdminClient::new(card.admin, None);
        let created: MatchView = admin.post("/v1/matches", &wanted).await?;
        Ok(created.id.parse::<MatchId>()?)
    }

    /// The match that follows this one, which has ended.
    pub(super) async fn next(&self, ended: MatchId) -> Place {
        let place = Arc::clone(self.next.lock().entry(ended).or_default());
        let (match_id, addr) = place
            .get_or_init(|| async {
                let place = self.create_somewhere().await;
                (self.followed)(ended, place);
                place
            })
            .await;
        (*match_id, *addr)
    }

    /// How many matches have ended and were followed by another one.
    pub(super) fn count(&self) -> usize {
        self.next.lock().values().filter(|place| place.initialized()).count()
    }

    async fn create_somewhere(&self) -> Place {
        let first = self.count();
        for node in self.nodes.iter().cycle().skip(first % self.nodes.len().max(1)) {
            if let Some(card) = NodeCard::read(node) {
                let created = tokio::time::timeout(ANSWERS_WITHIN, self.create(&card)).await;
                if let Ok(Ok(match_id)) = created {
                    return (match_id, card.listen);
                }
            }
            tokio::time::sleep(ASKED_AGAIN).await;
        }
        // A demo has a node at least.
        std::future::pending().await
    }
}
