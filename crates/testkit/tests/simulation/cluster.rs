//! Three nodes on one store, in simulation: each seed decides a history of deaths, pauses, wrong
//! suspicions, and requests that are late, lost, doubled by a retry or overtaken, and nothing that
//! a player was told may be undone by it.
//!
//! `cargo xtask sim --nodes 3 --seeds 1000` runs more seeds; `--from 17 --seeds 1` runs one again.

mod faults;
mod link;
mod node;
mod player;
mod run;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use rekindle_testkit::oracle::Rule;
use rekindle_testkit::trace::first_difference;

use self::faults::Schedule;
use self::link::Mutant;
use self::run::{Outcome, run};
use crate::{each, number};

/// Seeds in the suite.
const SEEDS: u64 = 120;
/// Each defect is found within so many seeds.
const MUTANT_SEEDS: u64 = 60;

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
const MARKS: [&str; 10] = [
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
];

/// What is wrong with a seed, in words: rules that are broken, and runs that differ.
fn problems(seed: u64, schedule: &Schedule) -> (Outcome, Vec<String>) {
    let outcome = run(seed, schedule, None);
    let again = run(seed, schedule, None);
    let mut problems: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    problems.extend(first_difference(&outcome.trace, &again.trace));
    (outcome, problems)
}

/// The fewest of the faults with which it still `fails`: each is left out in turn.
fn shrink(mut schedule: Schedule, fails: impl Fn(&Schedule) -> bool) -> Schedule {
    let mut index = 0;
    while index < schedule.len() {
        let mut fewer = schedule.clone();
        fewer.remove(index);
        if fails(&fewer) {
            schedule = fewer;
        } else {
            index += 1;
        }
    }
    schedule
}

fn report(seed: u64, problems: &[String], schedule: Schedule) -> String {
    let fails = |fewer: &Schedule| !run(seed, fewer, None).violations.is_empty();
    let faults: Vec<String> = shrink(schedule, fails)
        .iter()
        .map(|(at, fault)| format!("    {:.3} s {fault:?}", at.as_secs_f64()))
        .collect();
    format!(
        "seed {seed}:\n  {}\n  faults that it takes:\n{}\n  cargo xtask sim --nodes 3 --from \
         {seed} --seeds 1   (REKINDLE_TRACE=1 prints the trace)",
        problems.join("\n  "),
        faults.join("\n")
    )
}

#[test]
fn cluster_seeds_hold() {
    let first = number("REKINDLE_FIRST_SEED", 1);
    let count = number("REKINDLE_SEEDS", SEEDS);
    let show = std::env::var_os("REKINDLE_TRACE").is_some();
    let failures = Mutex::new(Vec::new());
    let marks = Mutex::new(BTreeMap::<&str, u64>::new());
    let injected = Mutex::new(BTreeMap::<&str, u64>::new());
    let judged = Mutex::new((0, 0));
    each(first, count, |seed| {
        let schedule = faults::schedule(seed);
        let (outcome, problems) = problems(seed, &schedule);
        if show {
            outcome.trace.iter().for_each(|line| println!("{line}"));
        }
        for mark in outcome.marks {
            *marks.lock().entry(mark).or_default() += 1;
        }
        for (_, fault) in &schedule {
            *injected.lock().entry(fault.name()).or_default() += 1;
        }
        let mut judged = judged.lock();
        *judged = (judged.0 + outcome.judged.0, judged.1 + outcome.judged.1);
        drop(judged);
        if !problems.is_empty() {
            println!("seed {seed} FAILED");
            failures.lock().push(report(seed, &problems, schedule));
        }
    });
    let (marks, (ticks, inputs)) = (marks.into_inner(), judged.into_inner());
    println!("{count} seeds: {ticks} ticks, {inputs} durable inputs");
    println!("faults: {:?}", injected.into_inner());
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
    assert_eq!(shrink(schedule, takes), [first, last]);
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
    ];
    each(0, mutants.len() as u64, |index| println!("{}", caught(mutants[index as usize])));
}
