//! Who should run what, by weighted rendezvous hashing with equal weights: every survivor computes
//! the same order for each match, so that they seldom race for one, and a node that joins or leaves
//! moves only its own share.
//!
//! A rule of courtesy, not of safety: two nodes that disagree race, and the store lets one of them
//! win.

use rekindle_schema::{Incarnation, MatchId};

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
}
