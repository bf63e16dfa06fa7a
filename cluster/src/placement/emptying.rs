//! What a node does about an operator's wish that it be drained or decommissioned: it takes nothing
//! further, gives its matches away one after the other, and says how far it has come. Pure: time
//! and what the node sees are arguments, what it is to do comes back. Fed and obeyed by the node.
//!
//! The match with the most players goes first: whatever cuts a drain short (the node dies, a signal
//! stops it), the matches that then meet a takeover instead of a migration are those with the
//! fewest. Matches go at a bounded rate, so that neither the other nodes nor the clients that are
//! redirected meet all of them at once.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::wish::{DrainProgress, MAX_LEFT, Wanted};
use rekindle_schema::{Incarnation, MatchId};

/// How fast matches are given away. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Most matches that are on their way at once. At least 1.
    pub at_once: usize,
    /// Time between the beginnings of two.
    pub every_ms: u64,
    /// Time until one that stayed is tried again.
    pub again_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at_once: 4, every_ms: 50, again_ms: 1_000 }
    }
}

/// A match that runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The match.
    pub match_id: MatchId,
    /// Sessions in it.
    pub players: usize,
    /// It can be given away as it stands: it is not being repaired, and is not ending.
    pub movable: bool,
}

/// What a node sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What is wanted of the node, as it was read just now; `None`: that it runs matches.
    Wish(Option<Wanted>),
    /// The matches that run here now. Sent again and again while a wish stands.
    Holds(Vec<Held>),
    /// A match that was to be given away runs elsewhere; it stood still for so many milliseconds.
    Moved(MatchId, u64),
    /// A match that was to be given away is still here, and why.
    Stayed(MatchId, String),
}

/// What the node is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Take no further matches.
    Close,
    /// Take matches again, and forget how far it had come.
    Open,
    /// Give this match to another node; answered with [`Event::Moved`] or [`Event::Stayed`].
    Give(MatchId),
    /// Say this to operators.
    Tell(DrainProgress),
    /// Nothing runs here any more, and the process is to end.
    End,
}

/// A match that stayed: until when it is left alone, and why it stayed.
type Stuck = (u64, String);

/// A node that may be emptied.
#[derive(Debug)]
pub struct Emptying {
    node: String,
    me: Incarnation,
    pace: Pace,
    wanted: Option<Wanted>,
    under_way: BTreeSet<MatchId>,
    stuck: BTreeMap<MatchId, Stuck>,
    /// When one was begun last.
    last: Option<u64>,
    moved: u32,
    worst_pause_ms: u64,
    /// What operators were told last.
    told: Option<DrainProgress>,
    ended: bool,
}

impl Emptying {
    /// For the node of this name and run.
    pub fn new(node: &str, me: Incarnation, pace: Pace) -> Self {
        assert!(pace.at_once > 0, "nothing would ever move");
        Self {
            node: node.to_owned(),
            me,
            pace,
            wanted: None,
            under_way: BTreeSet::new(),
            stuck: BTreeMap::new(),
            last: None,
            moved: 0,
            worst_pause_ms: 0,
            told: None,
            ended: false,
        }
    }

    /// What is wanted of the node, as far as it knows.
    pub fn wanted(&self) -> Option<Wanted> {
        self.wanted
    }

    /// What follows from an event. `now_ms` is in milliseconds of a clock that never goes back.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        match event {
            Event::Wish(wanted) => self.wish(wanted),
            Event::Holds(held) => self.holds(now_ms, &held),
            Event::Moved(match_id, pause_ms) => {
                self.under_way.remove(&match_id);
                self.stuck.remove(&match_id);
                self.moved = self.moved.saturating_add(1);
                self.worst_pause_ms = self.worst_pause_ms.max(pause_ms);
                Vec::new()
            }
            Event::Stayed(match_id, why) => {
                self.under_way.remove(&match_id);
                self.stuck.insert(match_id, (now_ms.saturating_add(self.pace.again_ms), why));
                Vec::new()
            }
        }
    }

    fn wish(&mut self, wanted: Option<Wanted>) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.wanted, wanted);
        match (before, wanted) {
            (None, Some(_)) => {
                (self.moved, self.worst_pause_ms, self.told) = (0, 0, None);
                self.stuck.clear();
                vec![Effect::Close]
            }
            (Some(_), None) => vec![Effect::Open],
            (None, None) | (Some(_), Some(_)) => Vec::new(),
        }
    }

    fn holds(&mut self, now_ms: u64, held: &[Held]) -> Vec<Effect> {
        let Some(wanted) = self.wanted else { return Vec::new() };
        let here: BTreeSet<MatchId> = held.iter().map(|held| held.match_id).collect();
        self.stuck.retain(|id, _| here.contains(id));
        let mut effects: Vec<Effect> =
            self.next(now_ms, held).map(Effect::Give).into_iter().collect();
        let progress = DrainProgress {
            node: self.node.clone(),
            incarnation: self.me,
            moved: self.moved,
            // One that is on its way has gone when that is heard of: then it is counted as moved.
            left: u32::try_from(here.union(&self.under_way).count()).unwrap_or(u32::MAX),
            stuck: self
                .stuck
                .iter()
                .take(MAX_LEFT)
                .map(|(id, (_, why))| (*id, why.clone()))
                .collect(),
            worst_pause_ms: self.worst_pause_ms,
        };
        if self.told.as_ref() != Some(&progress) {
            self.told = Some(progress.clone());
            effects.push(Effect::Tell(progress));
        }
        let empty = held.is_empty() && self.under_way.is_empty();
        if wanted == Wanted::Decommissioned && empty && !self.ended {
            self.ended = true;
            effects.push(Effect::End);
        }
        effects
    }

    /// The match to begin with now, if any.
    fn next(&mut self, now_ms: u64, held: &[Held]) -> Option<MatchId> {
        let too_soon = |last| now_ms.saturating_sub(last) < self.pace.every_ms;
        if self.under_way.len() >= self.pace.at_once || self.last.is_some_and(too_soon) {
            return None;
        }
        let rests = |id| self.stuck.get(id).is_some_and(|(until, _)| now_ms < *until);
        let next = held
            .iter()
            .filter(|held| held.movable && !self.under_way.contains(&held.match_id))
            .filter(|held| !rests(&held.match_id))
            .max_by_key(|held| (held.players, std::cmp::Reverse(held.match_id)))?;
        self.last = Some(now_ms);
        self.under_way.insert(next.match_id);
        Some(next.match_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn emptying() -> Emptying {
        Emptying::new("n1", Incarnation(7), Pace { at_once: 2, every_ms: 10, again_ms: 100 })
    }

    fn held(id: u64, players: usize) -> Held {
        Held { match_id: MatchId(id), players, movable: true }
    }

    fn given(effects: &[Effect]) -> Vec<u64> {
        effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Give(id) => Some(id.0),
                _ => None,
            })
            .collect()
    }

    fn told(effects: &[Effect]) -> Option<&DrainProgress> {
        effects.iter().find_map(|effect| match effect {
            Effect::Tell(progress) => Some(progress),
            _ => None,
        })
    }

    #[test]
    fn without_a_wish_nothing_happens() {
        let mut node = emptying();
        assert_eq!(node.handle(0, Event::Holds(vec![held(1, 3)])), []);
        assert_eq!(node.handle(0, Event::Wish(None)), []);
    }

    #[test]
    fn the_most_players_go_first_so_many_at_once_and_not_faster_than_its_pace() {
        let mut node = emptying();
        let all = vec![held(1, 3), held(2, 9), held(3, 9), held(4, 0)];
        assert_eq!(node.handle(0, Event::Wish(Some(Wanted::Drained))), [Effect::Close]);
        assert_eq!(given(&node.handle(0, Event::Holds(all.clone()))), [2]);
        assert_eq!(given(&node.handle(9, Event::Holds(all.clone()))), [], "too soon");
        assert_eq!(given(&node.handle(10, Event::Holds(all.clone()))), [3]);
        assert_eq!(given(&node.handle(20, Event::Holds(all.clone()))), [], "two are on their way");
        node.handle(21, Event::Moved(MatchId(2), 12));
        let effects = node.handle(21, Event::Holds(all[..1].to_vec()));
        assert_eq!(given(&effects), [1]);
        let told = told(&effects).unwrap();
        assert_eq!((told.moved, told.left, told.worst_pause_ms), (1, 2, 12), "1, and 3 on its way");
    }

    #[test]
    fn one_that_stays_is_tried_again_later_and_the_reason_is_told() {
        let mut node = emptying();
        node.handle(0, Event::Wish(Some(Wanted::Drained)));
        node.handle(0, Event::Holds(vec![held(1, 3)]));
        node.handle(5, Event::Stayed(MatchId(1), "no node takes it".to_owned()));
        let effects = node.handle(50, Event::Holds(vec![held(1, 3)]));
        assert_eq!(given(&effects), []);
        let stuck = (MatchId(1), "no node takes it".to_owned());
        assert_eq!(told(&effects).unwrap().stuck, [stuck]);
        let effects = node.handle(60, Event::Holds(vec![held(1, 3)]));
        assert_eq!(effects, [], "told once");
        assert_eq!(given(&node.handle(105, Event::Holds(vec![held(1, 3)]))), [1]);
    }

    #[test]
    fn what_is_being_repaired_is_waited_for() {
        let mut node = emptying();
        node.handle(0, Event::Wish(Some(Wanted::Decommissioned)));
        let broken = Held { movable: false, ..held(1, 3) };
        let effects = node.handle(0, Event::Holds(vec![broken]));
        assert_eq!(given(&effects), []);
        assert!(!effects.contains(&Effect::End));
        assert_eq!(given(&node.handle(1, Event::Holds(vec![held(1, 3)]))), [1]);
    }

    #[test]
    fn a_decommissioned_node_ends_once_it_is_empty_and_a_drained_one_does_not() {
        let mut node = emptying();
        node.handle(0, Event::Wish(Some(Wanted::Drained)));
        assert!(!node.handle(0, Event::Holds(vec![])).contains(&Effect::End));
        assert_eq!(node.handle(1, Event::Wish(Some(Wanted::Decommissioned))), []);
        assert!(node.handle(1, Event::Holds(vec![])).contains(&Effect::End));
        assert_eq!(node.handle(2, Event::Holds(vec![])), [], "once");
    }

    #[test]
    fn a_wish_that_is_taken_back_opens_the_node_and_the_next_one_begins_anew() {
        let mut node = emptying();
        node.handle(0, Event::Wish(Some(Wanted::Drained)));
        node.handle(0, Event::Holds(vec![held(1, 3)]));
        assert_eq!(node.handle(1, Event::Wish(None)), [Effect::Open]);
        node.handle(2, Event::Moved(MatchId(1), 30));
        assert_eq!(node.handle(50, Event::Holds(vec![held(2, 3)])), [], "nothing goes any more");
        assert_eq!(node.handle(51, Event::Wish(Some(Wanted::Drained))), [Effect::Close]);
        let effects = node.handle(51, Event::Holds(vec![held(2, 3)]));
        assert_eq!(given(&effects), [2]);
        assert_eq!(told(&effects).unwrap().moved, 0);
    }

    proptest! {
        /// Whatever fails on the way, a node ends up empty, never has more on their way than it
        /// may, and never gives away what is on its way already.
        #[test]
        fn a_node_ends_up_empty(
            players in prop::collection::vec(0_usize..20, 0..30),
            fails in prop::collection::vec(any::<bool>(), 200),
        ) {
            let mut node = emptying();
            let mut here: Vec<Held> =
                (0..).zip(&players).map(|(id, &players)| held(id, players)).collect();
            let (mut away, mut fails) = (Vec::<u64>::new(), fails.into_iter());
            node.handle(0, Event::Wish(Some(Wanted::Decommissioned)));
            for round in 0..2_000_u64 {
                let now = round * 10;
                let effects = node.handle(now, Event::Holds(here.clone()));
                if effects.contains(&Effect::End) {
                    prop_assert!(here.is_empty() && away.is_empty());
                    return Ok(());
                }
                for id in given(&effects) {
                    prop_assert!(!away.contains(&id));
                    away.push(id);
                }
                prop_assert!(away.len() <= 2);
                if round % 3 == 0 && let Some(id) = away.pop() {
                    let event = if fails.next().unwrap_or(false) {
                        Event::Stayed(MatchId(id), "not now".to_owned())
                    } else {
                        here.retain(|held| held.match_id.0 != id);
                        Event::Moved(MatchId(id), 5)
                    };
                    node.handle(now, event);
                }
            }
            prop_assert!(false, "it never ends");
        }
    }
}
