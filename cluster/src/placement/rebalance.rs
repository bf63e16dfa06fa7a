//! Which match should move because one node runs more than its share. Pure: loads and time are
//! arguments. Each node plans for its own matches alone, so two never move the same one.
//!
//! It moves as little as it can: it begins at a clear difference, ends at a small one, and moves so
//! many a minute and no more. It moves nothing while nodes come and go: what looks like too much
//! here may be what a node that is about to be back has left.

use std::collections::BTreeSet;

use rekindle_schema::{Incarnation, MatchId};

use super::Candidate;

/// When and how fast matches are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Most moves that one node begins in a minute. At least 1.
    pub moves_per_minute: u32,
    /// It begins when a node is so much above the mean, in percent of it.
    pub begin_percent: u32,
    /// It ends when the node is at most so much above the mean.
    pub end_percent: u32,
    /// The nodes have to be the same for so long before anything moves, in milliseconds.
    pub steady_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { moves_per_minute: 6, begin_percent: 25, end_percent: 10, steady_ms: 60_000 }
    }
}

/// A match that should move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The match.
    pub match_id: MatchId,
    /// Where.
    pub target: Incarnation,
}

/// Remembers whether it is at work, and when it moved something.
#[derive(Debug)]
pub struct Rebalance {
    me: Incarnation,
    pace: Pace,
    /// It has begun, and has not come to its end.
    moving: bool,
    /// When the last match was moved, in milliseconds of the caller's clock.
    last: Option<u64>,
    /// The nodes that there were last, and since when they are the same.
    there: (BTreeSet<Incarnation>, u64),
}

impl Rebalance {
    /// For the matches of `me`. `pace` must end below where it begins.
    pub fn new(me: Incarnation, pace: Pace) -> Self {
        assert!(pace.end_percent < pace.begin_percent, "it would move matches back and forth");
        assert!(pace.moves_per_minute > 0, "a pace of nothing a minute");
        Self { me, pace, moving: false, last: None, there: (BTreeSet::new(), 0) }
    }

    /// A node may be dying: nothing moves until the nodes have been the same for a while.
    pub fn disturbed(&mut self, now_ms: u64) {
        self.there.1 = now_ms;
        self.moving = false;
    }

    /// Whether the nodes have been the same for long enough.
    fn is_steady(&mut self, now_ms: u64, nodes: &[Candidate]) -> bool {
        let there: BTreeSet<Incarnation> = nodes.iter().map(|node| node.node).collect();
        if there != self.there.0 {
            self.there.0 = there;
            self.disturbed(now_ms);
        }
        now_ms.saturating_sub(self.there.1) >= self.pace.steady_ms
    }

    /// The match that should move now, if any. `nodes` has this node and all others, `mine` the
    /// matches that run here. A match that is planned counts as moved, whatever comes of it.
    pub fn plan(&mut self, now_ms: u64, nodes: &[Candidate], mine: &[MatchId]) -> Option<Planned> {
        if !self.is_steady(now_ms, nodes) {
            return None;
        }
        let here = nodes.iter().find(|node| node.node == self.me)?;
        let peers: Vec<&Candidate> =
            nodes.iter().filter(|node| node.region == here.region && !node.draining).collect();
        if here.draining || peers.len() < 2 {
            self.moving = false;
            return None;
        }
        let matches: u64 = peers.iter().map(|node| node.matches as u64).sum();
        let weights: u64 = peers.iter().map(|node| u64::from(node.weight.max(1))).sum();
        let mean = matches * 1_000 / weights;
        let percent = if self.moving { self.pace.end_percent } else { self.pace.begin_percent };
        let most = mean + mean * u64::from(percent) / 100;
        // A move must make things better at once: the target is behind this node afterwards.
        let target = peers
            .into_iter()
            .filter(|node| node.node != self.me && after(node, 1) < here.load())
            .min_by_key(|node| (node.load(), node.node));
        self.moving = here.load() > most && target.is_some();
        let target = target.filter(|_| self.moving)?;
        let pause = 60_000 / u64::from(self.pace.moves_per_minute);
        if self.last.is_some_and(|last| now_ms.saturating_sub(last) < pause) {
            return None;
        }
        let match_id = *mine.iter().min()?;
        self.last = Some(now_ms);
        Some(Planned { match_id, target: target.node })
    }
}

/// The load of a node with so many matches more.
fn after(node: &Candidate, more: usize) -> u64 {
    Candidate { matches: node.matches + more, ..node.clone() }.load()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn nodes(matches: &[usize]) -> Vec<Candidate> {
        let numbered = (1..).zip(matches);
        numbered
            .map(|(node, &matches)| Candidate {
                node: Incarnation(node),
                weight: 1,
                matches,
                draining: false,
                region: "main".to_owned(),
            })
            .collect()
    }

    fn at_once() -> Rebalance {
        Rebalance::new(Incarnation(1), Pace { steady_ms: 0, ..Pace::default() })
    }

    fn ids(count: usize) -> Vec<MatchId> {
        (0..count as u64).map(MatchId).collect()
    }

    /// Plans once a second for all nodes until nothing has moved for ten minutes; how many moves
    /// there were.
    fn settle(nodes: &mut [Candidate]) -> usize {
        let mut planners: Vec<Rebalance> =
            nodes.iter().map(|node| Rebalance::new(node.node, Pace::default())).collect();
        let (mut moves, mut last, mut now) = (0, 0, 0);
        while now - last < 10 * MINUTE {
            for (at, planner) in planners.iter_mut().enumerate() {
                let mine = ids(nodes[at].matches);
                let Some(planned) = planner.plan(now, nodes, &mine) else { continue };
                nodes[at].matches -= 1;
                nodes.iter_mut().find(|node| node.node == planned.target).unwrap().matches += 1;
                (moves, last) = (moves + 1, now);
            }
            now += 1_000;
            assert!(moves < 10_000, "it never ends");
        }
        moves
    }

    #[test]
    fn a_node_that_joins_gets_its_share_and_then_all_is_quiet() {
        let mut three = nodes(&[50, 50, 0]);
        let moves = settle(&mut three);
        assert!((25..=34).contains(&moves), "{moves} moves");
        assert!(three.iter().all(|node| node.matches <= 37), "{three:?}");
    }

    #[test]
    fn small_differences_and_few_matches_are_left_alone() {
        for loads in [vec![10, 12, 11], vec![1, 0], vec![0, 0], vec![1, 1, 0], vec![5]] {
            assert_eq!(settle(&mut nodes(&loads)), 0, "{loads:?}");
        }
    }

    #[test]
    fn it_moves_no_more_than_so_many_a_minute() {
        let all = nodes(&[60, 0]);
        let mut planner = at_once();
        let planned = (0..MINUTE / 1_000)
            .filter_map(|second| planner.plan(second * 1_000, &all, &ids(60)))
            .count();
        assert_eq!(planned, 6);
    }

    #[test]
    fn nothing_moves_to_nodes_that_are_drained_or_elsewhere() {
        let mut all = nodes(&[60, 0, 0]);
        all[1].draining = true;
        all[2].region = "other".to_owned();
        let mut planner = at_once();
        assert_eq!(planner.plan(0, &all, &ids(60)), None);
    }

    #[test]
    fn nothing_moves_while_nodes_come_and_go() {
        let mut planner = Rebalance::new(Incarnation(1), Pace::default());
        let (two, three) = (nodes(&[60, 0]), nodes(&[60, 0, 0]));
        assert_eq!(planner.plan(0, &two, &ids(60)), None);
        assert_eq!(planner.plan(MINUTE - 1, &two, &ids(60)), None);
        assert_eq!(planner.plan(MINUTE, &three, &ids(60)), None, "one has joined");
        planner.disturbed(MINUTE + 10);
        assert_eq!(planner.plan(2 * MINUTE, &three, &ids(60)), None, "one may be dying");
        assert!(planner.plan(2 * MINUTE + 10, &three, &ids(60)).is_some());
    }

    #[test]
    fn weights_count() {
        let mut all = nodes(&[30, 60]);
        all[1].weight = 2;
        assert_eq!(settle(&mut all), 0);
    }
}
