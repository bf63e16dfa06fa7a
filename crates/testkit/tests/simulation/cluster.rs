//! Three nodes on one store, in simulation: each seed decides a history of deaths, pauses, wrong
//! suspicions, and requests that are late, lost, doubled by a retry or overtaken, and nothing that
//! a player was told may be undone by it.
//!
//! `cargo xtask sim --nodes 3 --seeds 1000` runs more seeds; `--from 17 --seeds 1` runs one again.

mod faults;
mod link;
mod mover;
mod node;
mod peers;
mod player;
mod run;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use rekindle_testkit::oracle::Rule;
use rekindle_testkit::trace::first_difference;

use self::faults::Schedule;
use self::link::Mutant;
use self::run::{Outcome, play_seed, run};
use crate::{each, number};

/// Seeds in the suite.
const SEEDS: u64 = 300;
/// Each defect is found within so many seeds.
const MUTANT_SEEDS: u64 = 100;

/// What a suite must have seen.
const SUSPECTED: &str = "a node was wrongly suspected";
const FENCED_AWAKE: &str = "a paused node woke up fenced";
const RACED: &str = "two nodes raced for a match";
const ADOPTED: &str = "a seal was adopted that was not one's own";
const LATE: &str = "a request arrived after its process had died";
const UNKNOWN: &str = "what was asked was done and the answer was lost";
const DURING_TROUBLE: &str = "taken over while the store was in trouble";
const OFTEN: &str = "a match moved three times";
const ALL_DOWN: &str = "all nodes were down";
const FOLLOWED: &str = "a player followed its match to another node";
const MOVED: &str = "a match moved between live nodes";
const MOVED_IN_TROUBLE: &str = "migrated while the store was down";
const SOURCE_DIED: &str = "source died after the commit";
const TARGET_DIED: &str = "target died before the commit";
const SETTLED: &str = "an unknown outcome was settled";
const DRAINED: &str = "a drained node gave all away";
const PROMOTED: &str = "standby promoted";
const PROMOTED_ON_ITS_WAY: &str = "standby promoted during a migration";
const FELL_BACK: &str = "a standby that was behind fell back to recovery";
const MARKS: [&str; 19] = [
    SUSPECTED,
    FENCED_AWAKE,
    RACED,
    ADOPTED,
    LATE,
    UNKNOWN,
    DURING_TROUBLE,
    OFTEN,
    ALL_DOWN,
    FOLLOWED,
    MOVED,
    MOVED_IN_TROUBLE,
    SOURCE_DIED,
    TARGET_DIED,
    SETTLED,
    DRAINED,
    PROMOTED,
    PROMOTED_ON_ITS_WAY,
    FELL_BACK,
];

/// Most runs that the faults of one report take to be made fewer.
const SHRINK_RUNS: usize = 60;

/// What is wrong with a seed, in words: rules that are broken, and runs that differ.
fn problems(seed: u64, schedule: &Schedule) -> (Outcome, Vec<String>, Vec<String>) {
    let played = play_seed(seed, schedule, None);
    let again = play_seed(seed, schedule, None);
    let outcome = played.judge();
    let mut problems: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    let trace = played.trace();
    problems.extend(first_difference(&trace, &again.trace()));
    (outcome, problems, trace)
}

/// Fewer faults with which it still `fails`: each is left out in turn, until none can be or it was
/// tried `runs` times.
fn shrink(mut schedule: Schedule, mut runs: usize, fails: impl Fn(&Schedule) -> bool) -> Schedule {
    let mut index = 0;
    let mut kept_since = 0;
    while kept_since < schedule.len() && runs > 0 {
        runs -= 1;
        let mut fewer = schedule.clone();
        fewer.remove(index % schedule.len());
        if fails(&fewer) {
            schedule = fewer;
            kept_since = 0;
        } else {
            index += 1;
            kept_since += 1;
        }
    }
    schedule
}

fn report(seed: u64, problems: &[String], schedule: Schedule) -> String {
    let differs = problems.iter().any(|problem| problem.contains("traces of two runs"));
    let fails = |fewer: &Schedule| {
        let played = play_seed(seed, fewer, None);
        !played.judge().violations.is_empty()
            || differs && played.trace() != play_seed(seed, fewer, None).trace()
    };
    let all = schedule.len();
    let faults: Vec<String> = shrink(schedule, SHRINK_RUNS, fails)
        .iter()
        .map(|(at, fault)| format!("    {:.3} s {fault:?}", at.as_secs_f64()))
        .collect();
    format!(
        "seed {seed}:\n  {}\n  {} of its {all} faults do:\n{}\n  cargo xtask sim --nodes 3 --from \
         {seed} --seeds 1   (REKINDLE_TRACE=1 prints the trace)",
        problems.join("\n  "),
        faults.len(),
        faults.join("\n")
    )
}

/// What all seeds of a run have seen together.
#[derive(Default)]
struct Total {
    marks: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    blows: BTreeMap<&'static str, u64>,
    ticks: u64,
    inputs: usize,
}

impl Total {
    fn add(&mut self, outcome: &Outcome, schedule: &Schedule) {
        let count = |map: &mut BTreeMap<&'static str, u64>, names: &mut dyn Iterator<Item = _>| {
            names.for_each(|name| *map.entry(name).or_default() += 1);
        };
        count(&mut self.marks, &mut outcome.marks.iter().copied());
        count(&mut self.faults, &mut schedule.iter().map(|(_, fault)| fault.name()));
        count(&mut self.blows, &mut outcome.blows.iter().copied());
        self.ticks += outcome.judged.0;
        self.inputs += outcome.judged.1;
    }
}

#[test]
fn cluster_seeds_hold() {
    let first = number("REKINDLE_FIRST_SEED", 1);
    let count = number("REKINDLE_SEEDS", SEEDS);
    let show = std::env::var_os("REKINDLE_TRACE").is_some();
    let began = std::time::Instant::now();
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new(Total::default());
    each(first, count, |seed| {
        let schedule = faults::schedule(seed);
        let (outcome, problems, trace) = problems(seed, &schedule);
        if show {
            for line in &trace {
                println!("{line}");
            }
        }
        total.lock().add(&outcome, &schedule);
        if !problems.is_empty() {
            println!("seed {seed} FAILED");
            failures.lock().push(report(seed, &problems, schedule));
        }
    });
    let Total { marks, faults, blows, ticks, inputs } = total.into_inner();
    println!(
        "{count} seeds, each twice, in {:.0} s: {ticks} ticks, {inputs} durable inputs",
        began.elapsed().as_secs_f64()
    );
    println!("faults: {faults:?}");
    println!("in the middle of migrations: {blows:?}");
    println!("marks: {marks:#?}");
    let failures = failures.into_inner();
    assert!(
        failures.is_empty(),
        "{} of {count} seeds failed\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    let missing: Vec<&str> = MARKS.into_iter().filter(|mark| !marks.contains_key(mark)).collect();
    assert!(count < SEEDS || missing.is_empty(), "never seen: {missing:?}");
}

#[test]
fn what_a_failure_does_not_take_is_left_out_of_its_report() {
    let schedule = (1..=1_000)
        .map(faults::schedule)
        .find(|schedule| schedule.len() >= 5)
        .expect("some seed has five faults");
    let (first, last) = (schedule[0], schedule[schedule.len() - 1]);
    let takes = |fewer: &Schedule| fewer.contains(&first) && fewer.contains(&last);
    assert_eq!(shrink(schedule.clone(), SHRINK_RUNS, takes), [first, last]);
    assert_eq!(shrink(schedule.clone(), 0, takes), schedule, "it ends");
}

/// Runs seeds with a defect until a judge objects.
fn caught(mutant: Mutant) -> String {
    for seed in 1..=MUTANT_SEEDS {
        let Outcome { violations, .. } = run(seed, &faults::schedule(seed), Some(mutant));
        if !violations.is_empty() {
            let rules: BTreeSet<Rule> = violations.iter().map(|violation| violation.rule).collect();
            return format!("{mutant:?}: seed {seed}: {rules:?}");
        }
    }
    panic!("{mutant:?} went through {MUTANT_SEEDS} seeds unnoticed");
}

#[test]
fn every_seeded_bug_of_a_cluster_is_caught() {
    let mutants = [
        Mutant::EarlyAcknowledgement,
        Mutant::NoVerifyingRead,
        Mutant::NoFence,
        Mutant::TailBeforeFence,
        Mutant::EpochNotBumped,
        Mutant::StaleLineage,
        Mutant::SealIgnored,
        Mutant::LostClaimWon,
        Mutant::TrimTooEarly,
        Mutant::DropBatch,
        Mutant::ShownBeforeDurable,
        Mutant::NoSettle,
        Mutant::SettledByRead,
        Mutant::CommitsTooEarly,
        Mutant::RunTwice,
        Mutant::DroppedInFlight,
        Mutant::PromotedPastSeal,
        Mutant::TicksTwiceAfterWake,
    ];
    each(0, mutants.len() as u64, |index| println!("{}", caught(mutants[index as usize])));
}
