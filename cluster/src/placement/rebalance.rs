//! Which match should move because one node runs more than its share. Pure: loads and time are
//! arguments. There is one rule, `target`. Each node asks it for its own matches alone, now and
//! then ([`Rebalance`]), so two never move the same one; an operator has it applied to all nodes at
//! once ([`even_out`]).
//!
//! A node moves as little as it can: it begins at a clear difference, ends at a small one, and
//! moves so many a minute and no more. It moves nothing while nodes come and go: what looks like
//! too much here may be what a node that is about to be back has left.

use std::collections::{BTreeMap, BTreeSet};

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
        let percent = if self.moving { self.pace.end_percent } else { self.pace.begin_percent };
        let target = target(here, nodes, percent);
        self.moving = target.is_some();
        let target = target?.node;
        let pause = 60_000 / u64::from(self.pace.moves_per_minute);
        if self.last.is_some_and(|last| now_ms.saturating_sub(last) < pause) {
            return None;
        }
        let match_id = *mine.iter().min()?;
        self.last = Some(now_ms);
        Some(Planned { match_id, target })
    }
}

/// The nodes between which matches of `here` move: those of its region that are not drained.
fn peers<'a>(here: &Candidate, nodes: &'a [Candidate]) -> Vec<&'a Candidate> {
    nodes.iter().filter(|node| node.region == here.region && !node.draining).collect()
}

/// Matches for each unit of what `peers` can carry, in thousandths.
fn mean(peers: &[&Candidate]) -> u64 {
    let matches: u64 = peers.iter().map(|node| node.matches as u64).sum();
    let weights: u64 = peers.iter().map(|node| u64::from(node.weight.max(1))).sum();
    matches * 1_000 / weights.max(1)
}

/// How many matches `here` runs if loads are even, in thousandths. 0 if it is drained.
pub fn share(here: &Candidate, nodes: &[Candidate]) -> u64 {
    if here.draining {
        return 0;
    }
    mean(&peers(here, nodes)) * u64::from(here.weight.max(1))
}

/// The node that should get a match of `here`, which is one of `nodes`; `None` if `here` is at most
/// `percent` above the mean, or no move makes things better.
fn target<'a>(here: &Candidate, nodes: &'a [Candidate], percent: u32) -> Option<&'a Candidate> {
    let peers = peers(here, nodes);
    if here.draining || peers.len() < 2 {
        return None;
    }
    let mean = mean(&peers);
    if here.load() <= mean + mean * u64::from(percent) / 100 {
        return None;
    }
    // A move must make things better at once: the target is behind this node afterwards.
    peers
        .into_iter()
        .filter(|node| node.node != here.node && after(node, 1) < here.load())
        .min_by_key(|node| (node.load(), node.node))
}

/// One match on the way to even loads, and how the two nodes stood before it moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The match.
    pub match_id: MatchId,
    /// The node that runs it, which has more than its share.
    pub from: Incarnation,
    /// How many matches that node runs.
    pub from_matches: usize,
    /// The node that should run it.
    pub target: Incarnation,
    /// How many matches that one runs.
    pub target_matches: usize,
}

/// What has to move so that no node is more than `percent` above the mean, most loaded node first,
/// smallest id first. `nodes` are all nodes of one build, `matches` what can move of what they run.
/// Each match moves once at most; applied to nodes that are even already it is empty.
pub fn even_out(
    nodes: &[Candidate],
    matches: &BTreeMap<Incarnation, BTreeSet<MatchId>>,
    percent: u32,
) -> Vec<Step> {
    let (mut nodes, mut left, mut steps) = (nodes.to_vec(), matches.clone(), Vec::new());
    loop {
        let mut order: Vec<&Candidate> = nodes.iter().collect();
        order.sort_by_key(|node| (std::cmp::Reverse(node.load()), node.node));
        let next = order.into_iter().find_map(|here| {
            let match_id = *left.get(&here.node)?.first()?;
            let target = target(here, &nodes, percent)?;
            let (from, from_matches) = (here.node, here.matches);
            let target_matches = target.matches;
            Some(Step { match_id, from, from_matches, target: target.node, target_matches })
        });
        let Some(step) = next else { return steps };
        for node in &mut nodes {
            if node.node == step.from {
                node.matches = node.matches.saturating_sub(1);
            } else if node.node == step.target {
                node.matches += 1;
            }
        }
        if let Some(own) = left.get_mut(&step.from) {
            own.remove(&step.match_id);
        }
        steps.push(step);
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

    /// The matches of each node, with ids of their own.
    fn held(nodes: &[Candidate]) -> BTreeMap<Incarnation, BTreeSet<MatchId>> {
        let of = |node: &Candidate| {
            let first = node.node.0 * 10_000;
            (node.node, (first..first + node.matches as u64).map(MatchId).collect())
        };
        nodes.iter().map(of).collect()
    }

    /// How many matches each node has behind these steps.
    fn applied(nodes: &[Candidate], steps: &[Step]) -> Vec<Candidate> {
        let mut nodes = nodes.to_vec();
        for step in steps {
            for node in &mut nodes {
                if node.node == step.from {
                    assert_eq!(node.matches, step.from_matches);
                    node.matches -= 1;
                } else if node.node == step.target {
                    assert_eq!(node.matches, step.target_matches);
                    node.matches += 1;
                }
            }
        }
        nodes
    }

    #[test]
    fn an_operator_gets_even_nodes_at_once_and_then_nothing_is_left_to_do() {
        let pace = Pace::default();
        let mut three = nodes(&[12, 3, 0]);
        three.push(Candidate { draining: true, ..nodes(&[0, 0, 0, 9])[3].clone() });
        let steps = even_out(&three, &held(&three), pace.end_percent);
        let even = applied(&three, &steps);
        let counts: Vec<usize> = even.iter().map(|node| node.matches).collect();
        assert_eq!(counts, [5, 5, 5, 9], "the drained one empties itself");
        assert_eq!(steps[0].match_id, MatchId(10_000), "smallest id first");
        assert_eq!((share(&three[0], &three), share(&three[3], &three)), (5_000, 0));
        assert!(even_out(&even, &held(&even), pace.end_percent).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn the_whole_plan_moves_each_match_once_and_ends_where_nodes_would_end_by_themselves(
            shapes in proptest::collection::vec(
                (0_usize..40, 1_u32..4, proptest::bool::ANY, 0_u8..2), 1..6,
            ),
        ) {
            let of = |(node, &(matches, weight, draining, region)): (u64, &(_, _, _, u8))| {
                let (node, region) = (Incarnation(node), format!("r{region}"));
                Candidate { node, weight, matches, draining, region }
            };
            let before: Vec<Candidate> = (1..).zip(&shapes).map(of).collect();
            let held = held(&before);
            let steps = even_out(&before, &held, 10);
            let moved: BTreeSet<MatchId> = steps.iter().map(|step| step.match_id).collect();
            proptest::prop_assert_eq!(moved.len(), steps.len());
            let after = applied(&before, &steps);
            for node in &after {
                let came = steps.iter().filter(|step| step.target == node.node).count();
                // Only one that got a match that may not move on could be left above.
                if came == 0 {
                    proptest::prop_assert_eq!(target(node, &after, 10), None, "{:?}", after);
                }
            }
            for step in &steps {
                let at = |of: Incarnation| before.iter().find(|node| node.node == of).unwrap();
                let (from, to) = (at(step.from), at(step.target));
                proptest::prop_assert!(!from.draining && !to.draining && from.region == to.region);
            }
        }
    }
}
