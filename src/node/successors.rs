//! Where the matches of this node go on next: clients are told, connect there ahead of time, and
//! are in at once when it happens.
//!
//! For each match that runs here: the node that it is on its way to ([`super::migrate`]), else the
//! standby that follows it ([`super::standby`]), else the node that claims it first if this one
//! dies. A guess that turns out wrong costs a client a search, as if it had none.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use rekindle_cluster::ownership::lease::RENEW_EVERY;
use rekindle_cluster::placement;
use rekindle_schema::member::Member;
use rekindle_schema::{Incarnation, MatchId};
use tokio::sync::watch;
use tokio::time::sleep;

use super::serving::Parts;
use super::standby::known::Addresses;

/// Says for each match of this node where it goes on. One for each node.
pub struct Successors {
    /// Where matches that move go, while they do.
    moving: watch::Sender<BTreeMap<MatchId, String>>,
    /// What clients are told.
    told: watch::Sender<Addresses>,
}

/// A match is on its way as long as this lives.
pub struct OnItsWay<'a> {
    successors: &'a Successors,
    match_id: MatchId,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.successors.moving.send_modify(|moving| {
            moving.remove(&self.match_id);
        });
    }
}

impl Successors {
    /// Nothing is said until `tell` runs.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { moving: watch::Sender::default(), told: watch::Sender::default() })
    }

    /// What clients are told: `host:port` by match. Changes whenever that changes.
    pub fn told(&self) -> watch::Receiver<Addresses> {
        self.told.subscribe()
    }

    /// A match begins to move to the node of which players reach `players`. They connect there
    /// while it does.
    pub fn moves(&self, match_id: MatchId, players: String) -> OnItsWay<'_> {
        self.moving.send_modify(|moving| {
            moving.insert(match_id, players);
        });
        OnItsWay { successors: self, match_id }
    }
}

/// Says where the matches of a node go on, again whenever that changes. Runs until it is dropped.
pub(super) async fn tell(parts: &Parts) -> Infallible {
    let Parts { successors, host, members, cluster, standings, standby, .. } = parts;
    let mut moving = successors.moving.subscribe();
    let mut standbys = standby.known().addresses();
    loop {
        let here: Vec<MatchId> = host.list().into_iter().map(|status| status.match_id).collect();
        let claims = parts.config.cluster.warm_clients;
        let dead = |node| cluster.looks_dead(node) || standings.is_dead(node);
        let others =
            if claims { claimants(parts.incarnation, &members.all(), dead) } else { Vec::new() };
        let made = {
            let (moving, standbys) = (moving.borrow_and_update(), standbys.borrow_and_update());
            addresses(&here, &Known { moving: &moving, standbys: &standbys, others: &others })
        };
        successors.told.send_if_modified(|told| {
            let changed = **told != made;
            if changed {
                *told = Arc::new(made);
            }
            changed
        });
        tokio::select! {
            biased;
            Ok(()) = moving.changed() => {}
            Ok(()) = standbys.changed() => {}
            () = sleep(RENEW_EVERY) => {}
        }
    }
}

/// What decides where matches go on.
struct Known<'a> {
    moving: &'a BTreeMap<MatchId, String>,
    standbys: &'a BTreeMap<MatchId, String>,
    /// Those that may claim matches of this node, and where players reach them.
    others: &'a [(Incarnation, String)],
}

/// The nodes that may claim matches of `me`: those of its region that take players. Members are
/// known for a while after their death: of a match that was just taken over from one, clients
/// would be sent back there.
fn claimants(
    me: Incarnation,
    members: &BTreeMap<Incarnation, Member>,
    dead: impl Fn(Incarnation) -> bool,
) -> Vec<(Incarnation, String)> {
    let Some(own) = members.get(&me) else { return Vec::new() };
    members
        .values()
        .filter(|member| {
            member.incarnation != me
                && !dead(member.incarnation)
                && member.region == own.region
                && !member.draining
                && !member.players.is_empty()
        })
        .map(|member| (member.incarnation, member.players.clone()))
        .collect()
}

fn addresses(matches: &[MatchId], known: &Known<'_>) -> BTreeMap<MatchId, String> {
    let first = |id: MatchId| {
        let nodes = || known.others.iter().map(|(node, _)| *node);
        known.others.iter().find(|(node, _)| placement::is_first(id, *node, nodes()))
    };
    matches
        .iter()
        .filter_map(|id| {
            let named = known.moving.get(id).or_else(|| known.standbys.get(id));
            let addr = named.or_else(|| first(*id).map(|(_, players)| players));
            Some((*id, addr?.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rekindle_schema::BuildId;

    use super::*;

    fn member(incarnation: u64, region: &str, draining: bool) -> (Incarnation, Member) {
        let member = Member {
            incarnation: Incarnation(incarnation),
            name: format!("n{incarnation}"),
            region: region.to_owned(),
            build: BuildId(1),
            host: String::new(),
            players: at(incarnation),
            admin: String::new(),
            peers: String::new(),
            speaks: (1, 1),
            draining,
            since_ms: 0,
            weight: 1,
        };
        (member.incarnation, member)
    }

    fn at(incarnation: u64) -> String {
        format!("192.0.2.{incarnation}:7777")
    }

    #[test]
    fn a_match_goes_on_where_it_moves_else_at_its_standby_else_at_its_first_claimant() {
        let members = BTreeMap::from([
            member(1, "home", false),
            member(2, "home", false),
            member(3, "away", false),
            member(4, "home", true),
            member(5, "home", false),
            member(6, "home", false),
        ]);
        let others = claimants(Incarnation(1), &members, |node| node == Incarnation(6));
        assert_eq!(others, [(Incarnation(2), at(2)), (Incarnation(5), at(5))]);
        let matches: Vec<MatchId> = (1..=40).map(MatchId).collect();
        let mut known =
            Known { moving: &BTreeMap::new(), standbys: &BTreeMap::new(), others: &others };
        let told = addresses(&matches, &known);
        for (id, addr) in &told {
            let node = if *addr == at(2) { 2 } else { 5 };
            let survivors = [Incarnation(2), Incarnation(5)];
            assert!(placement::is_first(*id, Incarnation(node), survivors), "{id} at {addr}");
        }
        assert_eq!(told.len(), 40);
        let (moving, standbys) = (
            BTreeMap::from([(MatchId(7), at(9))]),
            BTreeMap::from([(MatchId(7), at(8)), (MatchId(8), at(8)), (MatchId(99), at(8))]),
        );
        (known.moving, known.standbys) = (&moving, &standbys);
        let told = addresses(&matches, &known);
        assert_eq!((&told[&MatchId(7)], &told[&MatchId(8)]), (&at(9), &at(8)));
        known.others = &[];
        assert_eq!(addresses(&matches, &known).len(), 2, "and nothing about other nodes' matches");
    }

    #[tokio::test]
    async fn a_match_that_has_moved_is_no_longer_on_its_way() {
        let successors = Successors::new();
        let moving = successors.moving.subscribe();
        let on_its_way = successors.moves(MatchId(1), at(2));
        assert_eq!(moving.borrow().get(&MatchId(1)), Some(&at(2)));
        drop(on_its_way);
        assert!(moving.borrow().is_empty());
    }
}
