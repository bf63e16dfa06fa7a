//! Which matches of a shard give way when it has more to do than its thread can, and when they go
//! at their own rate again.
//!
//! Pure: the shell (`crate::shard::overload`) looks at the matches of a shard at even intervals and
//! carries out what [`Shedding::look`] decides. A match that gives way is *slowed*: its ticks lie
//! two to four periods apart instead of one. They compute what they always would, only later.
//!
//! A shard is overloaded if one of its matches starts more than half of its ticks late. When it was
//! for [`Rules::late`] looks in a row, matches are slowed in the *shed order*: those without
//! players first, then by [`Priority`], then those that take most of the thread; each as far as its
//! game allows, until all that is left takes at most [`ROOM`] of the thread. When no match was late
//! for [`Rules::calm`] looks in a row, they get their rate back in the opposite order, as far as
//! they fit into the same room. Overload shows when the thread is full, and what comes back fits
//! into [`ROOM`]: in between nothing changes, so a steady load leads to a steady rate.

use rekindle_schema::MatchId;

/// The part of a thread that the ticks of its matches may take behind a change. The rest is for
/// what a tick costs besides its step, and for ticks that take longer than usual.
pub const ROOM: f64 = 0.75;
/// A return that did not last makes the next one wait twice as long, up to so many times
/// [`Rules::calm`].
const MOST_PATIENCE: u32 = 8;

/// Which matches give way first, besides that those without players do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before the others.
    Low,
    /// As most do.
    #[default]
    Normal,
    /// After the others.
    High,
}

impl Priority {
    /// The property of a match that says it.
    pub const PROPERTY: &str = "priority";

    /// What a match's property `priority` says: `low` or `high`; everything else is normal.
    pub fn of(property: Option<&str>) -> Self {
        match property {
            Some("low") => Self::Low,
            Some("high") => Self::High,
            _ => Self::Normal,
        }
    }
}

/// When matches are slowed, in looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Looks in a row that must see the shard overloaded before matches are slowed; 0: never.
    pub late: u32,
    /// Looks in a row that must see no match late before matches get their rate back.
    pub calm: u32,
}

/// What one look sees of a match.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// The match.
    pub match_id: MatchId,
    /// Ticks that it made since the look before.
    pub made: u64,
    /// How many of them started late.
    pub late: u64,
    /// What part of a thread its ticks take at its own rate.
    pub demand: f64,
    /// How many periods lie between two of its ticks now.
    pub periods: u8,
    /// How many may at most.
    pub most: u8,
    /// Players in it.
    pub players: usize,
    /// How early it gives way.
    pub priority: Priority,
}

impl Load {
    /// What part of a thread its ticks take with so many periods between them.
    fn share(&self, periods: u8) -> f64 {
        self.demand / f64::from(periods.max(1))
    }

    fn is_late(&self) -> bool {
        self.late * 2 > self.made
    }

    /// At most one tick in ten was late.
    fn is_calm(&self) -> bool {
        self.late * 10 <= self.made
    }

    /// Matches ascending by this give way in turn.
    fn order(&self) -> (bool, Priority, i64, MatchId) {
        // In millionths, so that the order is total.
        let demand = (self.demand * 1e6) as i64;
        (self.players > 0, self.priority, -demand, self.match_id)
    }
}

/// A match is to go with so many periods between its ticks from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The match.
    pub match_id: MatchId,
    /// Periods between two ticks, from 1 to what its game allows.
    pub periods: u8,
}

/// What looks at one shard have seen.
#[derive(Debug, Clone)]
pub struct Shedding {
    rules: Rules,
    /// Looks in a row that saw it overloaded.
    late: u32,
    /// Looks in a row that saw no match late.
    calm: u32,
    /// How many of those it takes: grows while returns do not last.
    patience: u32,
    /// Looks since matches got their rate back, until that has proved to last.
    returned: Option<u32>,
}

impl Shedding {
    /// Of a shard that was not looked at yet.
    pub fn new(rules: Rules) -> Self {
        let patience = rules.calm.max(1);
        Self { rules, late: 0, calm: 0, patience, returned: None }
    }

    /// Takes the next look; returns what is to change. Called at even intervals with all running
    /// matches of the shard.
    pub fn look(&mut self, loads: &[Load]) -> Vec<Change> {
        if self.rules.late == 0 {
            return Vec::new();
        }
        self.count(loads);
        let changes = if self.late >= self.rules.late {
            self.slow(loads)
        } else if self.calm >= self.patience {
            self.give_back(loads)
        } else {
            Vec::new()
        };
        if !changes.is_empty() {
            (self.late, self.calm) = (0, 0);
        }
        changes
    }

    fn count(&mut self, loads: &[Load]) {
        self.late = if loads.iter().any(Load::is_late) { self.late + 1 } else { 0 };
        self.calm = if loads.iter().all(Load::is_calm) { self.calm + 1 } else { 0 };
        self.returned = self.returned.map(|looks| looks + 1);
        if self.returned.is_some_and(|looks| looks > self.patience) {
            // It has lasted.
            self.returned = None;
            self.patience = self.rules.calm.max(1);
        }
    }

    fn slow(&mut self, loads: &[Load]) -> Vec<Change> {
        let mut order: Vec<&Load> = loads.iter().filter(|load| load.periods < load.most).collect();
        order.sort_by_key(|load| load.order());
        let mut total = total(loads);
        let mut changes = Vec::new();
        for load in order {
            let mut periods = load.periods;
            // The first one gives way in any case: late is late, whatever the sum says.
            let first = changes.is_empty();
            while periods < load.most && (total > ROOM || first && periods == load.periods) {
                total += load.share(periods + 1) - load.share(periods);
                periods += 1;
            }
            if periods == load.periods {
                break;
            }
            changes.push(Change { match_id: load.match_id, periods });
        }
        if !changes.is_empty() && self.returned.take().is_some() {
            self.patience = (self.patience * 2).min(self.rules.calm.max(1) * MOST_PATIENCE);
        }
        changes
    }

    fn give_back(&mut self, loads: &[Load]) -> Vec<Change> {
        let mut order: Vec<&Load> = loads.iter().filter(|load| load.periods > 1).collect();
        order.sort_by_key(|load| std::cmp::Reverse(load.order()));
        let mut total = total(loads);
        let mut changes = Vec::new();
        for load in order {
            let mut periods = load.periods;
            while periods > 1 {
                let more = load.share(periods - 1) - load.share(periods);
                if total + more > ROOM {
                    break;
                }
                total += more;
                periods -= 1;
            }
            if periods < load.periods {
                changes.push(Change { match_id: load.match_id, periods });
            }
        }
        if !changes.is_empty() {
            self.returned = Some(0);
        }
        changes
    }
}

/// The part of the thread that all ticks take as the matches go now.
fn total(loads: &[Load]) -> f64 {
    loads.iter().map(|load| load.share(load.periods)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { late: 5, calm: 10 };

    fn load(id: u64, demand: f64, players: usize) -> Load {
        Load {
            match_id: MatchId(id),
            made: 30,
            late: 0,
            demand,
            periods: 1,
            most: 4,
            players,
            priority: Priority::Normal,
        }
    }

    /// A thread: all of its matches are late if they want more of it than there is.
    fn look(shedding: &mut Shedding, loads: &mut [Load]) -> Vec<Change> {
        let late = if total(loads) > 1.0 { 30 } else { 0 };
        for load in &mut *loads {
            load.late = late;
        }
        let changes = shedding.look(loads);
        for change in &changes {
            let load = loads.iter_mut().find(|load| load.match_id == change.match_id).unwrap();
            load.periods = change.periods;
        }
        changes
    }

    fn looks(shedding: &mut Shedding, loads: &mut [Load], count: u32) -> Vec<Change> {
        (0..count).flat_map(|_| look(shedding, loads)).collect()
    }

    fn change(id: u64, periods: u8) -> Change {
        Change { match_id: MatchId(id), periods }
    }

    #[test]
    fn a_late_match_is_slowed_after_the_looks_that_it_takes_and_comes_back_when_it_fits() {
        let mut shedding = Shedding::new(RULES);
        let mut loads = [load(1, 1.4, 3)];
        assert_eq!(looks(&mut shedding, &mut loads, 4), []);
        assert_eq!(look(&mut shedding, &mut loads), [change(1, 2)], "1.4 / 2 fits");
        assert_eq!(looks(&mut shedding, &mut loads, 100), [], "at its own rate it would not fit");
        loads[0].demand = 0.76;
        assert_eq!(looks(&mut shedding, &mut loads, 100), [], "it would run, but without room");
        loads[0].demand = 0.7;
        assert_eq!(looks(&mut shedding, &mut loads, 10), [change(1, 1)]);
    }

    #[test]
    fn those_without_players_give_way_first_then_low_priority_then_the_most_expensive() {
        let mut shedding = Shedding::new(RULES);
        let mut loads =
            [load(1, 0.3, 2), load(2, 0.4, 2), load(3, 0.2, 0), load(4, 0.2, 5), load(5, 0.3, 1)];
        loads[3].priority = Priority::Low;
        loads[0].priority = Priority::High;
        let changes = looks(&mut shedding, &mut loads, 5);
        // 1.4: without 3's and 4's they take 1.1, and 2 is dearer than 5.
        assert_eq!(changes, [change(3, 4), change(4, 4), change(2, 4), change(5, 2)]);
        for load in &mut loads {
            load.demand /= 4.0;
        }
        let back = looks(&mut shedding, &mut loads, 10);
        let ids: Vec<u64> = back.iter().map(|change| change.match_id.0).collect();
        assert_eq!(ids, [5, 2, 4, 3], "in the opposite order");
    }

    #[test]
    fn what_may_not_be_slowed_stays_as_it_is() {
        let mut shedding = Shedding::new(RULES);
        let mut loads = [Load { most: 1, ..load(1, 3.0, 0) }, load(2, 0.1, 1)];
        assert_eq!(looks(&mut shedding, &mut loads, 50), [change(2, 4)]);
        let mut never = Shedding::new(Rules { late: 0, calm: 1 });
        assert_eq!(looks(&mut never, &mut [load(1, 9.0, 1)], 50), []);
    }

    #[test]
    fn a_return_that_does_not_last_makes_the_next_one_wait_longer() {
        let mut shedding = Shedding::new(RULES);
        let mut loads = [load(1, 1.4, 1)];
        let mut waits = Vec::new();
        for _ in 0..6 {
            loads[0].demand = 1.4;
            assert_eq!(looks(&mut shedding, &mut loads, 5), [change(1, 2)]);
            // It is cheap as long as it is slowed.
            loads[0].demand = 0.5;
            let waited = (1..200).find(|_| !look(&mut shedding, &mut loads).is_empty()).unwrap();
            waits.push(waited);
        }
        assert_eq!(waits, [10, 20, 40, 80, 80, 80]);
    }

    proptest! {
        /// Whatever the demands do from look to look: no match leaves its bounds, nothing changes
        /// twice within the looks that a change takes, and a match that was slowed is not given
        /// its rate back before [`Rules::calm`] looks.
        #[test]
        fn rates_stay_in_their_bounds_and_do_not_swing(
            demands in prop::collection::vec((0.0..2.0, 0.0..2.0, 0.0..0.5), 1..300),
            most in (1u8..=4, 1u8..=4, 1u8..=4),
            players in (0usize..3, 0usize..3, 0usize..3),
        ) {
            let mut shedding = Shedding::new(RULES);
            let mut loads =
                [load(1, 0.0, players.0), load(2, 0.0, players.1), load(3, 0.0, players.2)];
            (loads[0].most, loads[1].most, loads[2].most) = most;
            let (mut last, mut slowed) = (None, [None; 3]);
            for (at, demand) in demands.into_iter().enumerate() {
                (loads[0].demand, loads[1].demand, loads[2].demand) = demand;
                let before = loads;
                if look(&mut shedding, &mut loads).is_empty() {
                    continue;
                }
                prop_assert!(last.is_none_or(|last| at - last >= RULES.late as usize));
                last = Some(at);
                for index in 0..loads.len() {
                    let (was, is) = (before[index].periods, loads[index].periods);
                    prop_assert!((1..=loads[index].most).contains(&is));
                    if is > was {
                        slowed[index] = Some(at);
                    } else if is < was {
                        let since = slowed[index].map(|slowed| at - slowed);
                        prop_assert!(since.is_some_and(|looks| looks >= RULES.calm as usize));
                    }
                }
            }
        }

        /// A steady load leads to steady rates: behind a few changes there are none.
        #[test]
        fn a_steady_load_leads_to_steady_rates(
            demands in prop::collection::vec((0.01..1.5, 0usize..3), 1..12),
        ) {
            let mut shedding = Shedding::new(RULES);
            let mut loads: Vec<Load> = (1..)
                .zip(demands)
                .map(|(id, (demand, players))| load(id, demand, players))
                .collect();
            looks(&mut shedding, &mut loads, 200);
            prop_assert_eq!(looks(&mut shedding, &mut loads, 400), []);
            let fits = total(&loads) <= 1.0;
            prop_assert!(fits || loads.iter().all(|load| load.periods == load.most));
        }
    }
}
