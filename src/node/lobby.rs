//! Which matches of the cluster players can join: [`Serving::open_matches`]. Each node says how
//! many players its matches have ([`crowds`]); called by `placing`, which answers other nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use rekindle_actors::Host;
use rekindle_cluster::bus::PeerBus;
use rekindle_schema::condition::Condition;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::peer::{MAX_CROWDS, PeerReply, PeerRequest};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_sim::documents::collection_id;

use super::listing::MatchReport;
use super::{ControlError, Serving};

/// How long another node may take to say how many players it has.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most questions to one node.
const PAGES: usize = 50;
/// Nodes that are asked at once.
const NODES_AT_ONCE: usize = 8;

fn sessions(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How many sessions the matches of this node have, those behind `after`.
pub(super) fn crowds(host: &Host, after: Option<MatchId>) -> PeerReply {
    let statuses = host.list().into_iter();
    let all: BTreeMap<MatchId, u32> =
        statuses.map(|status| (status.match_id, sessions(status.sessions))).collect();
    let mut behind = all.into_iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
    let crowds: Vec<(MatchId, u32)> = behind.by_ref().take(MAX_CROWDS).collect();
    PeerReply::Crowds { crowds, more: behind.next().is_some() }
}

/// What [`crowds`] says at another node; as far as it came, if that does not answer.
async fn crowds_at(peers: &dyn PeerBus, node: Incarnation) -> Vec<(MatchId, u32)> {
    let mut found = Vec::new();
    let mut after = None;
    for _ in 0..PAGES {
        let asked = peers.call(node, PeerRequest::Crowds { after }, PATIENCE).await;
        let Ok(PeerReply::Crowds { crowds, more }) = asked else { break };
        after = crowds.last().map(|(id, _)| *id).filter(|_| more);
        found.extend(crowds);
        if after.is_none() {
            break;
        }
    }
    found
}

impl Serving {
    /// Matches of all nodes that run and have a free seat, each with the players that it has now.
    /// Those of nodes that do not answer soon are left out.
    pub async fn open_matches(&self) -> Result<Vec<MatchReport>, ControlError> {
        let (matches, elsewhere) = tokio::join!(self.matches(), self.players_elsewhere());
        let mut matches = matches?;
        matches.retain_mut(|found| {
            if found.match_id == collection_id(&found.game) {
                return false;
            }
            found.players = match (found.condition, elsewhere.get(&found.match_id)) {
                (Condition::Running, _) => found.players,
                (Condition::Elsewhere, Some(players)) => {
                    // Its node has just been asked.
                    found.reason = None;
                    *players as usize
                }
                _ => return false,
            };
            found.seats.is_some_and(|seats| found.players < seats)
        });
        Ok(matches)
    }

    /// How many players the matches of the other nodes have, as far as those answer soon.
    async fn players_elsewhere(&self) -> BTreeMap<MatchId, u32> {
        let peers = &self.parts().peers;
        let asked: Vec<_> =
            peers.linked().into_iter().map(|node| crowds_at(&**peers, node).boxed()).collect();
        let answers = futures::stream::iter(asked).buffer_unordered(NODES_AT_ONCE);
        answers.flat_map(futures::stream::iter).collect().await
    }

    /// The same, with those of this node.
    pub(super) async fn players_of_all(&self) -> BTreeMap<MatchId, u32> {
        let mut players = self.players_elsewhere().await;
        let own = self.parts().host.list().into_iter();
        players.extend(own.map(|status| (status.match_id, sessions(status.sessions))));
        players
    }

    /// How many players a match has room for; `None` if this node does not have its game.
    pub(super) fn seats(&self, row: &MatchLease) -> Option<usize> {
        let game = self.parts().games.get(&row.spec.game).ok()?;
        Some(game.max_players(&row.spec.config))
    }
}
