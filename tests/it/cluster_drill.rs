//! A cluster under load to which things are done, one after the other, in an order that a seed
//! decides: nodes are killed, frozen and drained, matches are sent to other nodes. Each node is
//! back before the next one goes. The suite does a few of each; `cargo xtask cluster drill` does
//! hundreds, with the counts in the variables that [`Plan::wanted`] reads.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_loadtest::{Evidence, Fact, Swarm};
use rekindle_schema::MatchId;
use serde_json::{Value, json};

use crate::checker::{self, Judged};
use crate::fleet::{FENCED, Fleet, Size, TICK_RATE, all_play, runtime};
use crate::store::Tables;
use crate::support::{Node, eventually, rekindle};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// SIGKILL of a node.
    Kill,
    /// SIGSTOP of a node until its matches run elsewhere, then SIGCONT: it must end by itself.
    Freeze,
    /// SIGTERM to a node: it must end with 0.
    Drain,
    /// `match migrate` of one match.
    Migrate,
    /// SIGKILL of a node whose matches have standbys.
    Promote,
}

impl Act {
    const ALL: [Self; 5] = [Self::Kill, Self::Freeze, Self::Drain, Self::Migrate, Self::Promote];

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Drain => "drain",
            Self::Migrate => "migrate",
            Self::Promote => "promote",
        }
    }
}

/// How much of what.
#[derive(Debug, Clone, Copy)]
struct Plan {
    size: Size,
    /// Kills, and for every two of them a freeze.
    failovers: usize,
    drains: usize,
    migrations: usize,
    promotions: usize,
    seed: u64,
}

/// A variable of the environment that `cargo xtask cluster` sets.
fn wanted(name: &str, usual: usize) -> usize {
    std::env::var(format!("REKINDLE_DRILL_{name}"))
        .map_or(usual, |text| text.parse().expect("a count"))
}

impl Plan {
    fn wanted() -> Self {
        let size = Size {
            nodes: wanted("NODES", 3),
            matches: wanted("MATCHES", 3),
            seats: wanted("SEATS", 3),
        };
        Self {
            size,
            failovers: wanted("FAILOVERS", 1),
            drains: wanted("DRAINS", 3),
            migrations: wanted("MIGRATIONS", 2),
            promotions: wanted("PROMOTIONS", 0),
            seed: wanted("SEED", 1) as u64,
        }
    }

    /// All acts, in an order that the seed decides.
    fn acts(&self, dice: &mut Dice) -> Vec<Act> {
        let failover = |turn: usize| if turn % 3 == 1 { Act::Freeze } else { Act::Kill };
        let mut acts: Vec<Act> = (0..self.failovers).map(failover).collect();
        acts.extend([Act::Drain].repeat(self.drains));
        acts.extend([Act::Migrate].repeat(self.migrations));
        acts.extend([Act::Promote].repeat(self.promotions));
        for last in (1..acts.len()).rev() {
            acts.swap(last, dice.below(last + 1));
        }
        acts
    }
}

/// Random numbers of a seed: `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// One thing that was done.
struct Done {
    act: Act,
    /// The matches that changed hands.
    moved: Vec<MatchId>,
    /// When, and when all played again; since the start of the swarm.
    at: Duration,
    until: Duration,
    /// How long the source of a migration says that the match stood still, in milliseconds.
    source_ms: Option<f64>,
}

impl Done {
    /// How long each bot in a match that changed hands was shown nothing new, in milliseconds. A
    /// process that is killed or frozen says nothing more: from the signal on.
    fn gaps(&self, evidence: &Evidence) -> Vec<f64> {
        let (at, until) = (self.at.as_micros() as u64, self.until.as_micros() as u64);
        let sudden = matches!(self.act, Act::Kill | Act::Freeze | Act::Promote);
        let gap = |fact: &Fact| match *fact {
            Fact::Gap { from_us, to_us, interrupted: true, .. }
                if at < to_us && from_us < until =>
            {
                let from = if sudden { from_us.max(at) } else { from_us };
                Some(to_us.saturating_sub(from))
            }
            _ => None,
        };
        let bots = evidence.bots.iter().filter(|bot| self.moved.contains(&bot.match_id));
        bots.filter_map(|bot| bot.facts.iter().filter_map(gap).max())
            .map(|us| us as f64 / 1_000.0)
            .collect()
    }
}

/// The cluster at play.
struct Drill<'a> {
    fleet: Fleet,
    store: &'a str,
    nodes: Vec<Option<Node>>,
    swarm: Swarm,
    runtime: &'a tokio::runtime::Runtime,
    dice: Dice,
    seats: usize,
    drained: usize,
}

impl Drill<'_> {
    fn act(&mut self, act: Act) -> Done {
        match act {
            Act::Migrate => self.migrate(),
            Act::Drain => {
                let place = self.drained % self.nodes.len();
                self.drained += 1;
                self.outage(act, place)
            }
            Act::Kill | Act::Freeze | Act::Promote => {
                let owners: Vec<usize> = self.fleet.owners().into_values().collect();
                let place = owners[self.dice.below(owners.len())];
                self.outage(act, place)
            }
        }
    }

    /// Ends a node, waits until every bot plays again, and has it back.
    fn outage(&mut self, act: Act, place: usize) -> Done {
        let owners = self.fleet.owners();
        let mine = owners.into_iter().filter(|(_, owner)| *owner == place);
        let moved: Vec<MatchId> = mine.map(|(id, _)| id).collect();
        if act == Act::Promote {
            self.stand_by(place, &moved);
        }
        let resumed = self.swarm.progress().resumed + (moved.len() * self.seats) as u64;
        let mut node = self.nodes[place].take().expect("every node is back");
        let at = self.swarm.elapsed();
        match act {
            Act::Freeze => node.signal(rustix::process::Signal::STOP),
            Act::Drain => node.signal(rustix::process::Signal::TERM),
            Act::Kill | Act::Promote | Act::Migrate => {
                node.signal(rustix::process::Signal::KILL);
            }
        }
        self.all_play(resumed);
        let until = self.swarm.elapsed();
        if act == Act::Freeze && !moved.is_empty() {
            node.signal(rustix::process::Signal::CONT);
        }
        if act == Act::Freeze && moved.is_empty() {
            node.signal(rustix::process::Signal::KILL);
        }
        let code = node.wait();
        match act {
            Act::Drain => assert_eq!(code, 0, "a node that was drained: {:#?}", node.seen),
            // On a local store whoever fences a process ends it.
            Act::Freeze => assert!([FENCED, -1].contains(&code), "exit code {code}"),
            Act::Kill | Act::Promote | Act::Migrate => {}
        }
        self.nodes[place] = Some(self.fleet.start(place, self.store));
        if act == Act::Promote {
            // The next kill is one without standbys.
            for id in &moved {
                let id = id.to_string();
                self.fleet.ask(place, &["match", "standby", &id, "off"]).expect(0);
            }
        }
        Done { act, moved, at, until, source_ms: None }
    }

    /// Has a standby for each of these matches, and waits until it follows.
    fn stand_by(&self, place: usize, matches: &[MatchId]) {
        for id in matches {
            let id = id.to_string();
            self.fleet.ask(place, &["match", "standby", &id, "on"]).expect(0);
            eventually("a standby that follows", || {
                let shown = self.fleet.ask(place, &["match", "show", &id, "--json"]).expect(0);
                let followers = shown.json()["followers"].as_array().map_or(0, Vec::len);
                (followers > 0).then_some(())
            });
        }
    }

    /// Sends a match to another node.
    fn migrate(&mut self) -> Done {
        let resumed = self.swarm.progress().resumed + self.seats as u64;
        let (id, moved, at) = eventually("a migration", || {
            // A node that has just come back may not know the others well enough: asked again.
            let owners: Vec<(MatchId, usize)> = self.fleet.owners().into_iter().collect();
            let (id, from) = owners[self.dice.below(owners.len())];
            let to = (from + 1 + self.dice.below(self.nodes.len() - 1)) % self.nodes.len();
            let (name, target) = (id.to_string(), Fleet::name(to));
            let at = self.swarm.elapsed();
            let args = ["match", "migrate", &name, "--to", &target, "--json"];
            let done = self.fleet.ask(from, &args);
            (done.code == 0).then(|| (id, done.json(), at))
        });
        self.all_play(resumed);
        let until = self.swarm.elapsed();
        let source_ms = moved["pause_ms"].as_f64();
        Done { act: Act::Migrate, moved: vec![id], at, until, source_ms }
    }

    fn all_play(&self, resumed: u64) {
        all_play(self.runtime, &self.swarm, self.fleet.players(), resumed);
    }
}

/// The `share`th of sorted values; nothing of none.
fn share(sorted: &[f64], share: f64) -> Value {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(Value::Null, |ms| json!((ms * 10.0).round() / 10.0))
}

fn spread(mut values: Vec<f64>) -> Value {
    values.sort_unstable_by(f64::total_cmp);
    json!({
        "count": values.len(), "p50": share(&values, 0.5), "p99": share(&values, 0.99),
        "max": share(&values, 1.0),
    })
}

/// What each kind of act cost.
fn report(plan: &Plan, done: &[Done], evidence: &Evidence, judged: &Judged) -> Value {
    let period = 1_000.0 / f64::from(TICK_RATE);
    let mut acts = BTreeMap::new();
    for act in Act::ALL {
        let of: Vec<&Done> = done.iter().filter(|done| done.act == act).collect();
        if of.is_empty() {
            continue;
        }
        let gaps: Vec<f64> = of.iter().flat_map(|done| done.gaps(evidence)).collect();
        let beyond = gaps.iter().map(|gap| (gap - period).max(0.0) / period).collect();
        let source = of.iter().filter_map(|done| done.source_ms).collect();
        let matches: usize = of.iter().map(|done| done.moved.len()).sum();
        acts.insert(
            act.word(),
            json!({
                "done": of.len(), "matches": matches, "gap_ms": spread(gaps),
                "ticks_beyond_period": spread(beyond), "source_pause_ms": spread(source),
            }),
        );
    }
    let summary = evidence.summary();
    json!({
        "seed": plan.seed, "nodes": plan.size.nodes, "matches": plan.size.matches,
        "bots": plan.size.matches * plan.size.seats, "acts": acts,
        "inputs_durable": judged.inputs, "hashes_compared": judged.beats,
        "sessions_resumed": summary.sessions_resumed, "sessions_lost": summary.joins_again,
        "client_moved_ms": {
            "count": summary.moved.count, "p50": summary.moved.p50_ms, "p99": summary.moved.p99_ms,
            "max": summary.moved.max_ms,
        },
        "ticks_rolled_back_max": summary.ticks_rolled_back_max,
        "epochs": judged.epochs.iter().map(|epoch| epoch.0).collect::<Vec<_>>(),
        "promises_broken": judged.broken,
    })
}

fn table(report: &Value) -> String {
    let mut lines = vec![format!(
        "{:<8} {:>5} {:>7} {:>5} {:>9} {:>9} {:>9} {:>12} {:>11}",
        "act", "done", "matches", "gaps", "p50 ms", "p99 ms", "max ms", "p99 beyond", "source p99"
    )];
    for (word, act) in report["acts"].as_object().into_iter().flatten() {
        let gap = &act["gap_ms"];
        let text = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            value => value.to_string(),
        };
        lines.push(format!(
            "{word:<8} {:>5} {:>7} {:>5} {:>9} {:>9} {:>9} {:>12} {:>11}",
            text(&act["done"]),
            text(&act["matches"]),
            text(&gap["count"]),
            text(&gap["p50"]),
            text(&gap["p99"]),
            text(&gap["max"]),
            text(&act["ticks_beyond_period"]["p99"]),
            text(&act["source_pause_ms"]["p99"]),
        ));
    }
    lines.push(
        "(gap: how long a bot in a match that changed hands was shown nothing new, after a kill or \
         a freeze from the signal on; beyond: in ticks, less the period of one)"
            .to_owned(),
    );
    lines.join("\n")
}

/// Where the nodes keep everything: on the server that was asked for, else in a directory.
fn tables() -> Option<Tables> {
    let url = std::env::var("REKINDLE_DRILL_STORE").ok()?;
    let tables = Tables::new(&url);
    rekindle(&std::env::temp_dir(), &["store", "migrate", "--store", &tables.url()]).expect(0);
    Some(tables)
}

#[test]
fn nodes_that_are_killed_frozen_and_drained_under_load_break_no_promise() {
    let plan = Plan::wanted();
    let tables = tables();
    let mut fleet = Fleet::new(plan.size);
    let store = tables.as_ref().map_or_else(|| fleet.local(), Tables::url);
    let nodes = fleet.start_all(&store).into_iter().map(Some).collect();
    let runtime = runtime();
    let swarm = runtime.block_on(async { fleet.swarm() });
    let mut dice = Dice(plan.seed);
    let acts = plan.acts(&mut dice);
    let seats = plan.size.seats;
    let mut drill =
        Drill { fleet, store: &store, nodes, swarm, runtime: &runtime, dice, seats, drained: 0 };
    drill.all_play(0);
    let mut done = Vec::new();
    for (number, act) in acts.iter().enumerate() {
        done.push(drill.act(*act));
        let (took, word) = (done[number].until.saturating_sub(done[number].at), act.word());
        println!(
            "{} of {}: {word}, all play after {} ms",
            number + 1,
            acts.len(),
            took.as_millis()
        );
    }
    let Drill { fleet: _fleet, nodes, swarm, .. } = drill;
    let evidence = crate::fleet::evidence(&runtime, swarm);
    for node in nodes.into_iter().flatten() {
        assert_eq!(node.terminate(), 0);
    }
    let judged = checker::examine(&store, &evidence);
    let report = report(&plan, &done, &evidence, &judged);
    println!("{}\n{report}", table(&report));
    if let Ok(path) = std::env::var("REKINDLE_DRILL_REPORT") {
        std::fs::write(path, report.to_string()).unwrap();
    }
    assert!(judged.broken.is_empty(), "promises are broken: {:#?}", judged.broken);
    assert!(judged.inputs >= 500 && judged.beats >= 20, "{judged:?}");
    let hurt: usize = done.iter().map(|done| done.moved.len()).sum();
    assert!(hurt >= acts.len() - plan.drains, "the acts hit no match: they prove nothing");
}
