//! The ownership protocol as a model: leases, rows, logs, and processes that stop at any moment.
//! Every order of steps within bounds is tried (`stateright`), and every way to get the protocol
//! wrong that is known must be found.
//!
//! `state` says what there is, `protocol` what can happen, `rules` what must hold. The rows of new
//! owners and the places where logs are cut come from the product's own functions. A model is as
//! true as its likeness: what runs is checked by the simulation in `crates/testkit`, on real code.
//!
//! `cargo xtask model` looks deeper (minutes).

mod protocol;
mod rules;
mod state;

use std::time::{Duration, Instant};

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

use crate::protocol::{Bounds, Mutant, Protocol};

/// Nothing may happen but crashes and takeovers.
const PLAIN: Bounds = Bounds {
    matches: 1,
    second: None,
    records: 2,
    epochs: 3,
    crashes: 1,
    moves: 0,
    follows: 0,
    lost: 0,
    third: true,
    trimming: false,
    liveness: false,
};
/// Two matches whose records share batches, of which one may be with another owner.
const PAIR: Bounds = Bounds { matches: 2, records: 1, epochs: 2, third: false, ..PLAIN };
const MIGRATION: Bounds = Bounds { moves: 1, lost: 2, crashes: 0, third: false, ..PLAIN };
const STANDBY: Bounds = Bounds { follows: 1, crashes: 0, ..PLAIN };
const TRIMMING: Bounds =
    Bounds { matches: 2, records: 2, crashes: 0, third: false, trimming: true, epochs: 2, ..PLAIN };

/// Names of the states that a run must come to, so that it says something.
const ZOMBIE: &str = "a zombie's batch lies behind a seal";
const HANDED: &str = "a source in doubt has handed over";
const STAYED: &str = "a source in doubt has named itself";
const PROMOTED: &str = "a standby was promoted";
const READ_TOO_FAR: &str = "a standby has read behind the seal";
const CUT: &str = "a log was cut";
const THIRD: &str = "the third owner runs a match";

/// Looks at all states within bounds, at most so deep: nothing may be broken, and these states must
/// be among them.
fn hold(name: &str, bounds: Bounds, depth: usize, witnesses: &[&'static str]) {
    let checker = Protocol { bounds, mutant: None }.checker().target_max_depth(depth);
    judge(name, checker, witnesses);
}

fn judge(name: &str, checker: CheckerBuilder<Protocol>, witnesses: &[&'static str]) {
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker =
        checker.threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{name}: {} states ({} steps), depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    let found = checker.discoveries();
    for rule in protocol::RULES {
        if let Some(path) = found.get(rule) {
            panic!("{name}: not so: {rule}\n{:#?}", path.clone().into_actions());
        }
    }
    for witness in witnesses {
        assert!(found.contains_key(witness), "{name}: no state in which {witness}");
    }
}

/// Looks for what a mutant breaks.
fn found(mutant: Mutant, bounds: Bounds) {
    let checker = Protocol { bounds, mutant: Some(mutant) }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let broken = checker.discoveries();
    let (rule, path) = protocol::RULES
        .iter()
        .find_map(|rule| broken.get(rule).map(|path| (rule, path.clone())))
        .unwrap_or_else(|| {
            panic!("{mutant:?} was not found in {} states", checker.unique_state_count())
        });
    let steps = path.into_actions();
    println!(
        "{mutant:?}: found after {} states, {} steps: not so: {rule}",
        checker.unique_state_count(),
        steps.len()
    );
    if std::env::var_os("REKINDLE_TRACE").is_some() {
        println!("{steps:#?}");
    }
}

#[test]
fn takeovers_hold() {
    hold("takeovers", PLAIN, 100, &[ZOMBIE, THIRD]);
}

#[test]
fn takeovers_of_two_matches_hold() {
    hold("two matches, one owner", PAIR, 100, &[ZOMBIE]);
    hold("two matches, two owners", Bounds { second: Some(1), ..PAIR }, 100, &[ZOMBIE]);
}

#[test]
fn migrations_hold() {
    hold("migration", MIGRATION, 100, &[HANDED, STAYED]);
}

#[test]
fn promotions_of_standbys_hold() {
    hold("standby", STANDBY, 22, &[ZOMBIE, PROMOTED, READ_TOO_FAR]);
}

#[test]
fn trimming_holds() {
    let one = Bounds { matches: 1, crashes: 1, records: 3, ..TRIMMING };
    hold("trimming, one match", one, 24, &[CUT]);
    hold("trimming, two matches", TRIMMING, 14, &[]);
}

#[test]
fn orphans_are_taken() {
    let bounds = Bounds { liveness: true, records: 1, ..PLAIN };
    hold("orphans", bounds, 100, &[ZOMBIE]);
    let moves = Bounds { crashes: 1, moves: 1, lost: 1, epochs: 2, third: false, ..bounds };
    hold("orphans of migrations", moves, 100, &[HANDED]);
}

#[test]
fn every_mutant_is_found() {
    found(Mutant::AcknowledgeBeforeVerifying, PLAIN);
    found(Mutant::TailBeforeFence, PLAIN);
    found(Mutant::NoFence, PLAIN);
    found(Mutant::NoSettle, PLAIN);
    found(Mutant::SealIgnored, PLAIN);
    found(Mutant::EpochNotBumped, PLAIN);
    found(Mutant::StaleLineage, PLAIN);
    found(Mutant::TrimByOwnMatches, TRIMMING);
    found(Mutant::MoveSettledByRead, MIGRATION);
    found(Mutant::TargetRunsEarly, MIGRATION);
    found(Mutant::PromotedPastSeal, STANDBY);
    found(Mutant::PromotedTooEarly, STANDBY);
}

/// Everything at once, breadth first, as deep as the time allows.
#[test]
#[ignore = "minutes: `cargo xtask model`"]
fn everything_at_once_holds() {
    let seconds = std::env::var("REKINDLE_MODEL_SECONDS").map_or(240, |text| {
        text.parse().unwrap_or_else(|_| panic!("REKINDLE_MODEL_SECONDS={text} is not a number"))
    });
    let all = Bounds { moves: 1, follows: 1, lost: 1, crashes: 1, ..PLAIN };
    let pair = Bounds { matches: 2, second: Some(1), ..all };
    let cases = [
        ("one match, everything", all),
        ("two matches, everything", pair),
        ("two matches, everything and trimming", Bounds { trimming: true, lost: 0, ..pair }),
        ("orphans, everything", Bounds { liveness: true, ..all }),
    ];
    for (name, bounds) in cases {
        let checker = Protocol { bounds, mutant: None }.checker();
        judge(name, checker.timeout(Duration::from_secs(seconds)), &[ZOMBIE]);
    }
}
