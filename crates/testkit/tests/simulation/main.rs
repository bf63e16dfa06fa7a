//! Whole nodes with clients, in simulation: each seed decides a history of crashes, power cuts, bad
//! disks and bad links, and nothing that a client was told may be undone by it.
//!
//! `cargo xtask sim --seeds 1000` runs more seeds; `--from 17 --seeds 1` runs one again.

mod cluster;
mod game;
mod node;
mod player;
mod run;

use std::sync::atomic::{AtomicU64, Ordering};

use rekindle_actors::Output;
use rekindle_testkit::disk::Mutant;
use rekindle_testkit::oracle::Rule;
use rekindle_testkit::trace::first_difference;

use crate::run::{Outcome, Undone, Variant, run};

/// Seeds in the suite.
const SEEDS: u64 = 50;
/// Seeds in the suite with more faults than a match can live through in peace.
const STORM_SEEDS: u64 = 6;
/// Seeds in the suite that show ticks before they are durable.
const HASTY_SEEDS: u64 = 8;
/// Seeds in the suite that play the arena.
const ARENA_SEEDS: u64 = 4;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number"))
    })
}

/// Runs `work` for each seed, as many at a time as there are cores.
fn each(first: u64, count: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    work(seed);
                }
            });
        }
    });
}

fn reproduce(seed: u64, variant: Variant) -> String {
    let (test, xtask) = match variant {
        Variant { arena: true, .. } => ("arena_holds", ""),
        Variant { storm: true, .. } => ("storms_hold", ""),
        _ => ("seeds_hold", "that is `cargo xtask sim --from N --seeds 1`; "),
    };
    format!(
        "REKINDLE_FIRST_SEED={seed} REKINDLE_SEEDS=1 cargo test -p rekindle-testkit --test \
         simulation -- --nocapture {test}\n({}REKINDLE_TRACE=1 prints the trace)",
        xtask.replace('N', &seed.to_string())
    )
}

/// Runs each seed twice: nothing may be broken, and both runs must be the same.
fn hold(first: u64, count: u64, variant: Variant) {
    let show = std::env::var_os("REKINDLE_TRACE").is_some();
    let failures = parking_lot::Mutex::new(Vec::new());
    each(first, count, |seed| {
        let outcome = run(seed, variant);
        let again = run(seed, variant);
        if show {
            outcome.trace.iter().for_each(|line| println!("{line}"));
        }
        let mut problems: Vec<String> =
            outcome.violations.iter().map(ToString::to_string).collect();
        problems.extend(first_difference(&outcome.trace, &again.trace));
        println!("seed {seed}: {outcome}{}", if problems.is_empty() { "" } else { " FAILED" });
        if !problems.is_empty() {
            failures.lock().push(format!(
                "seed {seed}:\n  {}\n{}",
                problems.join("\n  "),
                reproduce(seed, variant)
            ));
        }
    });
    let failures = failures.into_inner();
    assert!(
        failures.is_empty(),
        "{} of {count} seeds failed\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

#[test]
fn seeds_hold() {
    hold(number("REKINDLE_FIRST_SEED", 1), number("REKINDLE_SEEDS", SEEDS), Variant::default());
}

#[test]
fn storms_hold() {
    let seeds = number("REKINDLE_SEEDS", STORM_SEEDS);
    hold(number("REKINDLE_FIRST_SEED", 1), seeds, Variant { storm: true, ..Variant::default() });
}

#[test]
fn arena_holds() {
    let seeds = number("REKINDLE_SEEDS", ARENA_SEEDS);
    hold(number("REKINDLE_FIRST_SEED", 1), seeds, Variant { arena: true, ..Variant::default() });
}

#[test]
fn a_seed_decides_the_trace_in_another_process_too() {
    const CHILD: &str = "REKINDLE_TRACE_OF";
    if let Ok(seed) = std::env::var(CHILD) {
        let seed = seed.parse().expect("a seed");
        run(seed, Variant::default()).trace.iter().for_each(|line| println!("TRACE{line}"));
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "a_seed_decides_the_trace_in_another_process_too", "--nocapture"])
        .env(CHILD, "33")
        .output()
        .expect("the test binary starts");
    let printed = String::from_utf8(child.stdout).expect("text");
    let there: Vec<String> = printed
        .lines()
        .filter_map(|line| line.split_once("TRACE"))
        .map(|(_, line)| line.to_owned())
        .collect();
    assert_eq!(first_difference(&run(33, Variant::default()).trace, &there), None);
}

/// Runs seeds of the suite with a defect until an oracle objects, and says which rules were broken.
fn caught(variant: Variant) -> (u64, Vec<Rule>) {
    for seed in 1..=SEEDS {
        let Outcome { violations, .. } = run(seed, variant);
        if !violations.is_empty() {
            let mut rules: Vec<Rule> =
                violations.into_iter().map(|violation| violation.rule).collect();
            rules.sort_unstable();
            rules.dedup();
            return (seed, rules);
        }
    }
    panic!("{variant:?} went through {SEEDS} seeds unnoticed");
}

#[test]
fn a_store_that_acknowledges_before_it_syncs_is_caught() {
    let (seed, rules) =
        caught(Variant { mutant: Some(Mutant::AcknowledgeBeforeSync), ..Variant::default() });
    println!("caught by seed {seed}: {rules:?}");
    assert!(rules.contains(&Rule::InputsOnce) || rules.contains(&Rule::NothingUndone), "{rules:?}");
}

#[test]
fn a_store_that_drops_a_batch_is_caught() {
    let (seed, rules) = caught(Variant { mutant: Some(Mutant::DropBatch), ..Variant::default() });
    println!("caught by seed {seed}: {rules:?}");
    assert!(rules.contains(&Rule::InputsOnce) || rules.contains(&Rule::NothingUndone), "{rules:?}");
}

#[test]
fn a_takeover_that_does_not_settle_what_it_found_is_caught() {
    let (seed, rules) = caught(Variant { mutant: Some(Mutant::SkipSettle), ..Variant::default() });
    println!("caught by seed {seed}: {rules:?}");
}

#[test]
fn output_before_it_is_durable_is_caught() {
    let (seed, rules) = caught(Variant { output: Output::Immediate, ..Variant::default() });
    println!("caught by seed {seed}: {rules:?}");
    assert!(rules.contains(&Rule::NothingUndone), "{rules:?}");
}

/// Ticks are shown before they are durable, and may be undone.
const HASTY: Variant = Variant {
    mutant: None,
    output: Output::Immediate,
    undone: Undone::IfTold,
    storm: false,
    arena: false,
};

#[test]
fn what_is_shown_early_and_undone_is_told() {
    let failed = parking_lot::Mutex::new(Vec::new());
    let seeds = number("REKINDLE_SEEDS", HASTY_SEEDS);
    each(number("REKINDLE_FIRST_SEED", 1), seeds, |seed| {
        let Outcome { violations, .. } = run(seed, HASTY);
        failed
            .lock()
            .extend(violations.iter().map(|violation| format!("seed {seed}: {violation}")));
    });
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_rewind_that_is_not_told_is_caught() {
    let (seed, rules) = caught(Variant { undone: Undone::Untold, ..HASTY });
    println!("caught by seed {seed}: {rules:?}");
    assert!(seed <= HASTY_SEEDS && rules.contains(&Rule::NothingUndone), "{seed} {rules:?}");
}
