//! What a demo with several nodes does to one of them, and what that cost: pure functions of what
//! the bots saw on the wire, and of what the other nodes logged.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_cluster::ownership::takeover::SEALED;
use rekindle_loadtest::{BotLog, Fact};
use rekindle_schema::MatchId;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::child::NodeEvent;
use crate::node::RESUMED;

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL.
    Kill,
    /// SIGKILL while another node follows its matches.
    Promote,
    /// SIGSTOP until its matches go on elsewhere, then SIGCONT.
    Freeze,
    /// SIGTERM, and it stops cleanly.
    Drain,
}

impl Act {
    /// In this order, again and again.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Promote, Self::Freeze, Self::Drain];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Promote => "standby",
            Self::Freeze => "freeze",
            Self::Drain => "drain",
        }
    }
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Outage {
    /// What.
    pub act: Act,
    /// To which node: its name.
    pub node: String,
    /// When, since the start of the swarm.
    pub at: Duration,
    /// When every bot played again, since the start of the swarm.
    pub until: Duration,
    /// The matches that it ran and others run since.
    pub moved: BTreeSet<MatchId>,
    /// What the others logged about it.
    pub phases: Phases,
    /// A frozen node that was woken ended by itself; true of all others.
    pub ended: bool,
}

/// What the other nodes logged of a takeover. Times are in milliseconds and end when the line was
/// read; `None`: nothing was logged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Phases {
    /// From the act to the beginning of the fence.
    pub detection_ms: Option<f64>,
    /// Fence, read the tail of its log, settle and seal it.
    pub fence_ms: Option<f64>,
    /// Restore and replay, of the match that took longest.
    pub replay_ms: Option<f64>,
    /// From the act until the last match was resumed.
    pub resumed_ms: Option<f64>,
    /// Ticks replayed, at most.
    pub replayed: u64,
    /// The matches that were recovered from checkpoint and journal.
    pub recovered: BTreeSet<MatchId>,
    /// A recovery found that a recorded hash differs.
    pub hash_differs: bool,
}

impl Phases {
    /// Of what was done to incarnation `victim` at `at`, from what the others logged since.
    pub fn of(at: Instant, victim: &str, heard: &[NodeEvent]) -> Self {
        let mut phases = Self::default();
        for event in heard.iter().filter(|event| event.at >= at) {
            let since = ms(event.at - at);
            let number = |name: &str| event.fields.get(name).and_then(Value::as_u64);
            match event.code.as_str() {
                // Several may secure the same log: the first one counts.
                SEALED
                    if event.fields.get("dead").and_then(Value::as_str) == Some(victim)
                        && phases.fence_ms.is_none() =>
                {
                    let took = number("took_ms").unwrap_or_default() as f64;
                    phases.fence_ms = Some(took);
                    phases.detection_ms = Some((since - took).max(0.0));
                }
                RESUMED => {
                    let took = number("took_ms").unwrap_or_default() as f64;
                    phases.replay_ms = Some(longer(phases.replay_ms, took));
                    phases.resumed_ms = Some(longer(phases.resumed_ms, since));
                    phases.replayed = phases.replayed.max(number("replayed").unwrap_or_default());
                    phases.hash_differs |= event.fields.get("hash_ok") != Some(&Value::Bool(true));
                    let id = event.fields.get("match_id").and_then(Value::as_str);
                    phases.recovered.extend(id.and_then(|id| id.parse::<MatchId>().ok()));
                }
                _ => {}
            }
        }
        phases
    }
}

fn longer(so_far: Option<f64>, ms: f64) -> f64 {
    so_far.map_or(ms, |so_far| so_far.max(ms))
}

/// A duration in milliseconds, to a tenth.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// How long the bots in `matches` were shown nothing new: of each the longest gap between the act
/// and the moment when all played again. A node that is killed or frozen says nothing more, so its
/// gaps begin with the act; one that is drained goes on for a while, so they begin with the last
/// snapshot.
fn gaps(bots: &[BotLog], outage: &Outage, matches: &BTreeSet<MatchId>) -> Vec<Duration> {
    let (at, until) = (outage.at.as_micros() as u64, outage.until.as_micros() as u64);
    let killed = outage.act != Act::Drain;
    let cut = |fact: &Fact| match *fact {
        Fact::Gap { from_us, to_us, interrupted: true, .. } if at < to_us && from_us < until => {
            let from = if killed { at } else { from_us };
            Some(Duration::from_micros(to_us.saturating_sub(from)))
        }
        _ => None,
    };
    bots.iter()
        .filter(|bot| matches.contains(&bot.match_id))
        .filter_map(|bot| bot.facts.iter().filter_map(cut).max())
        .collect()
}

/// The `share`th of sorted times, in milliseconds; `None` of none.
fn percentile(sorted: &[Duration], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|&time| ms(time))
}

/// What an outage cost.
#[derive(Debug, Clone, PartialEq)]
struct Cost {
    outage: Outage,
    /// Of each bot in a match that moved, sorted.
    gaps: Vec<Duration>,
}

impl Cost {
    /// The matches that moved without being recovered: their owner handed them over.
    fn migrated(&self) -> BTreeSet<MatchId> {
        self.outage.moved.difference(&self.outage.phases.recovered).copied().collect()
    }

    fn json(&self) -> Value {
        let Outage { act, node, moved, phases, ended, .. } = &self.outage;
        json!({
            "event": act.word(),
            "node": node,
            "matches": moved.len(),
            "migrated": self.migrated().len(),
            "detection_ms": phases.detection_ms,
            "fence_ms": phases.fence_ms,
            "replay_ms_max": phases.replay_ms,
            "resumed_ms": phases.resumed_ms,
            "ticks_replayed_max": phases.replayed,
            "hash_ok": !phases.hash_differs,
            "players": self.gaps.len(),
            "gap_ms_p50": percentile(&self.gaps, 0.5),
            "gap_ms_p99": percentile(&self.gaps, 0.99),
            "gap_ms_max": percentile(&self.gaps, 1.0),
            "ended_by_itself": ended,
        })
    }

    fn words(&self) -> String {
        let Outage { act, node, moved, phases, .. } = &self.outage;
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        format!(
            "{:<7} {node:<5} {:>7} {:>7} {:>6} {:>7} {:>8} {:>7} {:>7} {:>7}  {}",
            act.word(),
            moved.len(),
            number(phases.detection_ms),
            number(phases.fence_ms),
            number(phases.replay_ms),
            number(phases.resumed_ms),
            number(percentile(&self.gaps, 0.5)),
            number(percentile(&self.gaps, 0.99)),
            number(percentile(&self.gaps, 1.0)),
            if phases.hash_differs { "DIFFERS" } else { "ok" },
        )
    }
}

/// What everything cost that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs(Vec<Cost>);

impl Costs {
    /// Of these acts, by what these bots saw.
    pub fn of(acts: &[Outage], bots: &[BotLog]) -> Self {
        let cost = |outage: &Outage| {
            let mut gaps = gaps(bots, outage, &outage.moved);
            gaps.sort_unstable();
            Cost { outage: outage.clone(), gaps }
        };
        Self(acts.iter().map(cost).collect())
    }

    /// What must not have happened, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for Cost { outage, .. } in &self.0 {
            let (node, word) = (&outage.node, outage.act.word());
            if !outage.ended {
                faults.push(format!(
                    "node {node} was frozen until its matches ran elsewhere, and did not end by \
                     itself when it was woken"
                ));
            }
            if outage.phases.hash_differs {
                faults.push(format!("{word} of {node}: a recovery found that a hash differs"));
            }
            if outage.moved.is_empty() {
                faults.push(format!("{word} of {node} proves nothing: it ran no match"));
            }
        }
        faults
    }

    /// All gaps of the bots at acts of one kind, sorted.
    fn gaps_at(&self, act: Act) -> Vec<Duration> {
        let of = self.0.iter().filter(|cost| cost.outage.act == act);
        let mut gaps: Vec<_> = of.flat_map(|cost| cost.gaps.iter().copied()).collect();
        gaps.sort_unstable();
        gaps
    }

    /// The fields of the verdict. `rolled_back` is how many ticks were taken back, at most, that a
    /// bot had been shown.
    pub fn json(&self, rolled_back: u64) -> Map<String, Value> {
        let (kills, hangs) = (self.gaps_at(Act::Kill), self.gaps_at(Act::Freeze));
        let migrated = self.0.iter().any(|cost| !cost.migrated().is_empty());
        let pauses = if migrated { self.gaps_at(Act::Drain) } else { Vec::new() };
        let (drains, promotions) = (self.gaps_at(Act::Drain), self.gaps_at(Act::Promote));
        [
            ("failover_ms_p50", json!(percentile(&kills, 0.5))),
            ("failover_ms_p99", json!(percentile(&kills, 0.99))),
            ("failover_ms_max", json!(percentile(&kills, 1.0))),
            ("hang_failover_ms_max", json!(percentile(&hangs, 1.0))),
            ("drain_pause_ms_p50", json!(percentile(&drains, 0.5))),
            ("drain_pause_ms_p99", json!(percentile(&drains, 0.99))),
            ("migration_pause_ms_p50", json!(percentile(&pauses, 0.5))),
            ("migration_pause_ms_p99", json!(percentile(&pauses, 0.99))),
            ("ticks_lost_by_migration", if migrated { json!(rolled_back) } else { Value::Null }),
            ("standby_failover_ms_p99", json!(percentile(&promotions, 0.99))),
            ("events", self.0.iter().map(Cost::json).collect()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// A table, one line for each thing that was done.
    pub fn words(&self) -> Vec<String> {
        let head = format!(
            "{:<7} {:<5} {:>7} {:>7} {:>6} {:>7} {:>8} {:>7} {:>7} {:>7}  {}",
            "event",
            "node",
            "matches",
            "detect",
            "fence",
            "replay",
            "resumed",
            "gap p50",
            "p99",
            "max",
            "hashes"
        );
        let mut lines = vec![String::new(), head];
        lines.extend(self.0.iter().map(Cost::words));
        lines.push(
            "(milliseconds; gap: how long a bot in a match that moved was shown nothing new)"
                .to_owned(),
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use rekindle_loadtest::Tally;
    use rekindle_schema::{PlayerId, Tick};

    use super::*;

    const MATCH: MatchId = MatchId(7);

    fn outage(act: Act, at_ms: u64, until_ms: u64) -> Outage {
        Outage {
            act,
            node: "n1".to_owned(),
            at: Duration::from_millis(at_ms),
            until: Duration::from_millis(until_ms),
            moved: [MATCH].into(),
            phases: Phases { recovered: [MATCH].into(), ..Phases::default() },
            ended: true,
        }
    }

    fn bot(match_id: MatchId, gaps: &[(u64, u64, bool)]) -> BotLog {
        let facts = gaps.iter().map(|&(from, to, interrupted)| Fact::Gap {
            from_us: from * 1_000,
            to_us: to * 1_000,
            from_tick: Tick(1),
            to_tick: Tick(2),
            interrupted,
        });
        BotLog { player: PlayerId(1), match_id, facts: facts.collect(), tally: Tally::default() }
    }

    #[test]
    fn a_kill_is_counted_from_the_signal_and_a_drain_from_the_last_snapshot() {
        let bots = [
            bot(MATCH, &[(10, 40, false), (990, 1_400, true), (5_000, 9_100, true)]),
            bot(MatchId(8), &[(990, 9_000, true)]),
        ];
        let of = |act| {
            let costs = Costs::of(&[outage(act, 1_000, 2_000)], &bots);
            costs.0[0].gaps.clone()
        };
        assert_eq!(of(Act::Kill), [Duration::from_millis(400)]);
        assert_eq!(of(Act::Drain), [Duration::from_millis(410)]);
    }

    #[test]
    fn what_did_not_take_part_is_null_and_not_zero() {
        let bots = [bot(MATCH, &[(990, 1_400, true)])];
        let costs = Costs::of(&[outage(Act::Kill, 1_000, 2_000)], &bots);
        let fields = costs.json(0);
        assert_eq!(fields["failover_ms_p50"], 400.0);
        for name in [
            "hang_failover_ms_max",
            "migration_pause_ms_p99",
            "ticks_lost_by_migration",
            "standby_failover_ms_p99",
        ] {
            assert!(fields[name].is_null(), "{name}");
        }
        let mut drained = outage(Act::Drain, 1_000, 2_000);
        drained.phases.recovered.clear();
        let fields = Costs::of(&[drained], &bots).json(0);
        assert_eq!(
            (&fields["migration_pause_ms_p50"], &fields["ticks_lost_by_migration"]),
            (&json!(410.0), &json!(0))
        );
    }

    #[test]
    fn a_zombie_a_differing_hash_and_an_idle_victim_are_faults() {
        let good = outage(Act::Freeze, 1, 2);
        assert!(Costs::of(std::slice::from_ref(&good), &[]).faults().is_empty());
        let zombie = Outage { ended: false, ..good.clone() };
        let idle = Outage { moved: BTreeSet::new(), ..good.clone() };
        let mut differs = good;
        differs.phases.hash_differs = true;
        for bad in [zombie, idle, differs] {
            assert_eq!(Costs::of(&[bad], &[]).faults().len(), 1);
        }
    }

    #[test]
    fn phases_are_those_of_this_victim_since_the_act() {
        let at = Instant::now();
        let event = |after: u64, code: &str, fields: Value| NodeEvent {
            at: at + Duration::from_millis(after),
            code: code.to_owned(),
            fields,
        };
        let id = MATCH.to_string();
        let heard = [
            event(90, SEALED, json!({ "dead": "other", "took_ms": 3 })),
            event(120, SEALED, json!({ "dead": "me", "took_ms": 20 })),
            event(130, SEALED, json!({ "dead": "me", "took_ms": 1 })),
            event(
                180,
                RESUMED,
                json!({ "match_id": id, "took_ms": 40, "replayed": 12, "hash_ok": true }),
            ),
        ];
        let phases = Phases::of(at, "me", &heard);
        assert_eq!(
            (phases.detection_ms, phases.fence_ms, phases.replay_ms, phases.resumed_ms),
            (Some(100.0), Some(20.0), Some(40.0), Some(180.0))
        );
        assert!(phases.recovered.contains(&MATCH) && !phases.hash_differs);
        assert_eq!(Phases::of(at + Duration::from_secs(1), "me", &heard), Phases::default());
    }
}
