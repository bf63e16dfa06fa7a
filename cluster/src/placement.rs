//! Who should run what, by rendezvous hashing: every node computes the same order of nodes for each
//! match, so that survivors seldom race for one, and a node that joins or leaves moves only its own
//! share. New matches and drained ones take the less loaded of their first two nodes.
//!
//! * [`is_first`]: which survivor takes over a match; called by the caretaker.
//! * [`in_order`]: that order for something that has no id yet; called for matches that clients
//!   have made.
//! * [`place`]: the order behind it; called for standbys, which are the first to take over.
//! * [`choose`]: where a match that moves should go; called by drains and by whoever creates one.
//! * [`rebalance`]: which match should move now because loads differ.
//! * [`emptying`]: which match goes next from a node that an operator wants empty.
//!
//! A rule of courtesy, not of safety: two nodes that disagree race, and the store lets one of them
//! win.

pub mod emptying;
pub mod rebalance;

use rekindle_schema::{Incarnation, MatchId};

/// A node that might run a match.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: Incarnation,
    /// How much it can carry, relative to others: cores, or what an operator says. At least 1.
    pub weight: u32,
    /// How many matches it runs.
    pub matches: usize,
    /// It takes no further matches.
    pub draining: bool,
    /// Where it runs.
    pub region: String,
}

impl Candidate {
    /// Matches for each unit of what it can carry, in thousandths.
    pub fn load(&self) -> u64 {
        self.matches as u64 * 1_000 / u64::from(self.weight.max(1))
    }
}

/// How a node scores for a match: the highest is asked to run it. The finaliser of `SplitMix64`
/// (Steele, Lea, Flood: *Fast Splittable Pseudorandom Number Generators*, 2014) over both ids.
fn score(match_id: MatchId, node: Incarnation) -> u64 {
    let mix = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    mix(mix(match_id.0).wrapping_add(node.0))
}

/// Whether `me` comes first among `nodes` for this match. True if `me` is the only one, or none is
/// named.
pub fn is_first(
    match_id: MatchId,
    me: Incarnation,
    nodes: impl IntoIterator<Item = Incarnation>,
) -> bool {
    let mine = (score(match_id, me), me);
    nodes.into_iter().all(|node| (score(match_id, node), node) <= mine)
}

/// `nodes` in the order of [`is_first`].
pub fn in_order(
    match_id: MatchId,
    nodes: impl IntoIterator<Item = Incarnation>,
) -> Vec<Incarnation> {
    let mut nodes: Vec<Incarnation> = nodes.into_iter().collect();
    nodes.sort_by_key(|node| std::cmp::Reverse((score(match_id, *node), *node)));
    nodes
}

/// How many of `nodes` come before `me` for this match, in the order of [`is_first`].
pub fn place(
    match_id: MatchId,
    me: Incarnation,
    nodes: impl IntoIterator<Item = Incarnation>,
) -> usize {
    let mine = (score(match_id, me), me);
    nodes.into_iter().filter(|node| (score(match_id, *node), *node) > mine).count()
}

/// The weighted score (Schindelhauer, Schomaker: *Weighted Distributed Hash Tables*, 2005): with
/// equal weights its order is that of [`is_first`], and a node with twice the weight comes first
/// for twice as many matches.
fn weighted(match_id: MatchId, candidate: &Candidate) -> f64 {
    // Between 0 and 1, both excluded.
    let part = ((score(match_id, candidate.node) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(candidate.weight.max(1)) / part.ln()
}

/// Where a match of `region` should run: the less loaded of the two nodes that come first for it
/// among those of its region that are not drained. `None` if there is no such node.
pub fn choose<'a>(
    match_id: MatchId,
    region: &str,
    candidates: impl IntoIterator<Item = &'a Candidate>,
) -> Option<&'a Candidate> {
    let mut fit: Vec<&Candidate> = candidates
        .into_iter()
        .filter(|candidate| !candidate.draining && candidate.region == region)
        .collect();
    fit.sort_by(|a, b| {
        weighted(match_id, b).total_cmp(&weighted(match_id, a)).then(b.node.cmp(&a.node))
    });
    // The first of equals is the one that comes first for the match.
    fit.into_iter().take(2).min_by_key(|candidate| candidate.load())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_match_has_one_first_and_the_shares_are_even() {
        let nodes: Vec<Incarnation> = (1..=5).map(|n| Incarnation(n * 0x1111)).collect();
        let mut shares = [0; 5];
        for id in 0..5_000 {
            let firsts: Vec<usize> = (0..5)
                .filter(|&n| is_first(MatchId(id), nodes[n], nodes.iter().copied()))
                .collect();
            assert_eq!(firsts.len(), 1);
            let order = in_order(MatchId(id), nodes.iter().copied());
            let places = order.iter().map(|node| place(MatchId(id), *node, nodes.iter().copied()));
            assert!(places.eq(0..5), "{order:?}");
            shares[firsts[0]] += 1;
        }
        assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_share() {
        let nodes: Vec<Incarnation> = (1..=4).map(Incarnation).collect();
        for id in 0..1_000 {
            let first = |among: &[Incarnation]| {
                among.iter().copied().find(|&n| is_first(MatchId(id), n, among.iter().copied()))
            };
            let before = first(&nodes).unwrap();
            if before != nodes[3] {
                assert_eq!(first(&nodes[..3]), Some(before));
            }
        }
    }

    fn candidate(node: u64, weight: u32, matches: usize) -> Candidate {
        let region = "main".to_owned();
        Candidate { node: Incarnation(node), weight, matches, draining: false, region }
    }

    #[test]
    fn the_less_loaded_of_the_first_two_is_chosen_and_loads_stay_even() {
        let mut nodes: Vec<Candidate> = (1..=4).map(|n| candidate(n * 0x77, 1, 0)).collect();
        for id in 0..4_000 {
            let chosen = choose(MatchId(id), "main", &nodes).unwrap().node;
            nodes.iter_mut().find(|node| node.node == chosen).unwrap().matches += 1;
        }
        // By hashing alone shares of a thousand differ by some dozens.
        assert!(nodes.iter().all(|node| (990..=1_010).contains(&node.matches)), "{nodes:?}");
    }

    #[test]
    fn a_node_of_twice_the_weight_takes_twice_as_many() {
        let mut nodes = [candidate(1, 1, 0), candidate(2, 2, 0), candidate(3, 1, 0)];
        for id in 0..4_000 {
            let chosen = choose(MatchId(id), "main", &nodes).unwrap().node;
            nodes.iter_mut().find(|node| node.node == chosen).unwrap().matches += 1;
        }
        assert!((1_900..=2_100).contains(&nodes[1].matches), "{nodes:?}");
    }

    #[test]
    fn drained_nodes_and_other_regions_are_left_out() {
        let mut nodes = [candidate(1, 1, 50), candidate(2, 1, 0), candidate(3, 1, 0)];
        nodes[1].draining = true;
        nodes[2].region = "other".to_owned();
        for id in 0..100 {
            let chosen = choose(MatchId(id), "main", &nodes).map(|chosen| chosen.node);
            assert_eq!(chosen, Some(Incarnation(1)));
        }
        nodes[0].draining = true;
        assert_eq!(choose(MatchId(1), "main", &nodes), None);
    }

    #[test]
    fn with_equal_weights_and_loads_it_is_the_one_that_takes_over_first() {
        let nodes: Vec<Candidate> = (1..=5).map(|n| candidate(n, 3, 7)).collect();
        for id in 0..1_000 {
            let chosen = choose(MatchId(id), "main", &nodes).unwrap().node;
            assert!(is_first(MatchId(id), chosen, nodes.iter().map(|node| node.node)));
        }
    }
}
