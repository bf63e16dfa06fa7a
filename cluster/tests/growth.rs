//! How long it takes until a death is noticed and until its matches have owners again, from 3 nodes
//! to 30: the product's gossip, membership, caretaker and claims in virtual time, over a network
//! and a store that answer within milliseconds.
//!
//! The suite looks at a few deaths; `cargo xtask growth` prints the whole table. Gossip draws its
//! partners by chance that no seed decides, so figures differ a little from run to run.

#[path = "growth/world.rs"]
mod world;

use std::time::Duration;

use world::{Seen, World};

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its process dies: its links close and nobody listens at its address.
    Dies,
    /// It does nothing any more, and its links stay.
    Hangs,
}

/// Lets a node of `nodes` end, once everybody knows everybody.
fn trial(nodes: u64, end: End, number: u64) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::start(nodes).await;
        // Not in step with anything that happens each second.
        world.settle(Duration::from_millis(5_000 + number * 137 % 1_000)).await;
        world.end(1 + number % nodes, end).await
    })
}

/// The value below which so many of 100 lie.
fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    assert!(!sorted.is_empty(), "nothing was measured");
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_millis()
}

fn trials(nodes: u64, end: End, count: u64) -> Seen {
    let mut all = Seen::default();
    for number in 0..count {
        let seen = trial(nodes, end, number);
        all.noticed.extend(seen.noticed);
        all.taken.extend(seen.taken);
        all.wrong += seen.wrong;
    }
    all.noticed.sort_unstable();
    all.taken.sort_unstable();
    all
}

#[test]
fn deaths_are_noticed_at_once_and_hangs_within_seconds_by_three_nodes_and_by_ten() {
    for (nodes, count) in [(3, 2), (10, 1)] {
        for (end, noticed_ms, taken_ms) in [(End::Dies, 100, 400), (End::Hangs, 2_500, 3_000)] {
            let Seen { noticed, taken, wrong } = trials(nodes, end, count);
            let seen = (percentile(&noticed, 99), percentile(&taken, 99));
            assert!(
                seen.0 <= noticed_ms && seen.1 <= taken_ms,
                "{nodes} nodes, one {end:?}: noticed and taken over after {seen:?} ms"
            );
            assert_eq!(wrong, 0, "{nodes} nodes, one {end:?}: living nodes looked dead");
        }
    }
}

/// The whole table: `cargo xtask growth`.
#[test]
#[ignore = "minutes"]
fn table() {
    let count = std::env::var("REKINDLE_TRIALS").map_or(20, |text| text.parse().expect("a number"));
    println!("| nodes | one | noticed p50 | p99 | taken over p50 | p99 | wrongly suspected |");
    println!("|---|---|---|---|---|---|---|");
    for nodes in [3, 5, 10, 20, 30] {
        for end in [End::Dies, End::Hangs] {
            let Seen { noticed, taken, wrong } = trials(nodes, end, count);
            println!(
                "| {nodes} | {end:?} | {} ms | {} ms | {} ms | {} ms | {wrong} |",
                percentile(&noticed, 50),
                percentile(&noticed, 99),
                percentile(&taken, 50),
                percentile(&taken, 99)
            );
        }
    }
}
