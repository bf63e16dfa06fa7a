//! What the nodes of a store say of the matches that they follow, as it was read last.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rekindle_schema::member::Member;
use rekindle_schema::peer::Purpose;
use rekindle_schema::standby::{FollowReport, FollowState, FollowedMatch};
use rekindle_schema::{Epoch, Incarnation, MatchId};
use tokio::sync::watch;

/// A node that follows a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// This run of it.
    pub incarnation: Incarnation,
    /// Its configured name.
    pub node: String,
    /// The ownership that it follows.
    pub epoch: Epoch,
    /// What for.
    pub purpose: Purpose,
    /// How far.
    pub state: FollowState,
}

impl Follower {
    /// Whether it would go on with the match if its owner, of this epoch, died now.
    pub fn is_ready(&self, epoch: Epoch) -> bool {
        self.purpose == Purpose::Standby
            && self.epoch == epoch
            && matches!(self.state, FollowState::Follows { .. })
    }

    /// In words, for people: who, what for, how far.
    pub fn words(&self) -> String {
        let what = if self.purpose == Purpose::Audit { "audits it" } else { "follows it" };
        match &self.state {
            FollowState::Starting => format!("{} is being brought to it", self.node),
            FollowState::Follows { tick, lag } => {
                format!("{} {what}, {lag} ticks behind, at tick {tick} when it said so", self.node)
            }
            FollowState::Stopped(why) => format!("{} cannot follow it: {why}", self.node),
            FollowState::Differs(words) => {
                format!("{} computes something else: {words}", self.node)
            }
        }
    }
}

/// Where players reach the standbys of matches, as `host:port`.
pub type Addresses = Arc<BTreeMap<MatchId, String>>;

/// What all live nodes say.
#[derive(Default)]
pub struct Known {
    followers: Mutex<BTreeMap<MatchId, Vec<Follower>>>,
    addresses: watch::Sender<Addresses>,
}

impl Known {
    /// Puts what was read in place of what was known. Reports of nodes that are not among the live
    /// `members` count for nothing.
    pub fn replace(
        &self,
        reports: BTreeMap<Incarnation, FollowReport>,
        members: &BTreeMap<Incarnation, Member>,
    ) {
        let (mut followers, mut addresses) =
            (BTreeMap::<MatchId, Vec<Follower>>::new(), BTreeMap::new());
        for (incarnation, report) in reports {
            let Some(member) = members.get(&incarnation) else { continue };
            for FollowedMatch { match_id, epoch, purpose, state } in report.matches {
                let node = member.name.clone();
                let follower = Follower { incarnation, node, epoch, purpose, state };
                if follower.is_ready(epoch) && !member.draining && !member.players.is_empty() {
                    addresses.entry(match_id).or_insert_with(|| member.players.clone());
                }
                followers.entry(match_id).or_default().push(follower);
            }
        }
        *self.followers.lock() = followers;
        self.addresses.send_if_modified(|known| {
            let changed = **known != addresses;
            if changed {
                *known = Arc::new(addresses);
            }
            changed
        });
    }

    /// Whether nobody is known to follow anything.
    pub fn is_empty(&self) -> bool {
        self.followers.lock().is_empty()
    }

    /// Who follows a match.
    pub fn of(&self, match_id: MatchId) -> Vec<Follower> {
        self.followers.lock().get(&match_id).cloned().unwrap_or_default()
    }

    /// For each match that has a standby which follows it: the first of them.
    pub fn standbys(&self) -> BTreeMap<MatchId, Incarnation> {
        let followers = self.followers.lock();
        let ready = followers.iter().filter_map(|(id, all)| {
            let first = all.iter().find(|follower| follower.is_ready(follower.epoch))?;
            Some((*id, first.incarnation))
        });
        ready.collect()
    }

    /// Where players reach the standbys of matches. Changes whenever one comes or goes.
    pub fn addresses(&self) -> watch::Receiver<Addresses> {
        self.addresses.subscribe()
    }
}
