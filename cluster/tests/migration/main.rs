//! Many random interleavings of one migration: messages are lost, doubled and late, either side
//! crashes or is fenced anywhere, the store answers late, or not at all and does it later.
//!
//! At every step at most one node runs the match, and it is the one that the row names, in the
//! row's epoch, right behind what was acknowledged. When the faults are over, exactly one runs it.
//! Two rules are broken on purpose, and the same walks find it.

mod nodes;
mod world;

use world::{Broken, World};

/// How many interleavings one test walks.
const WALKS: u64 = 8_000;

/// Walks until `broken` is found out, or to the end.
fn walk(broken: Broken) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for seed in 0..WALKS {
        let mut world = World::new(seed, broken);
        world.storm().map_err(|wrong| format!("seed {seed}: {wrong}\n{}", world.trace()))?;
        world.calm().map_err(|wrong| format!("seed {seed}: {wrong}\n{}", world.trace()))?;
        tally.count(&world);
    }
    Ok(tally)
}

/// What was seen on the way: an explorer that never gets anywhere proves nothing.
#[derive(Debug, Default)]
struct Tally {
    moved: u64,
    kept: u64,
    kept_in_a_later_epoch: u64,
    taken_by_the_third: u64,
    recovered_at_the_target: u64,
}

impl Tally {
    fn count(&mut self, world: &World) {
        self.moved += u64::from(world.runs_at_the_target());
        self.kept += u64::from(world.runs_at_the_source());
        self.kept_in_a_later_epoch += u64::from(world.settled);
        self.taken_by_the_third += u64::from(world.runs_at_the_third());
        self.recovered_at_the_target += u64::from(world.recovered);
    }
}

#[test]
fn at_most_one_node_runs_a_match_and_in_the_end_exactly_one() {
    let tally = walk(Broken::Nothing).unwrap_or_else(|wrong| panic!("{wrong}"));
    let Tally { moved, kept, kept_in_a_later_epoch, taken_by_the_third, recovered_at_the_target } =
        tally;
    let seen = [moved, kept, kept_in_a_later_epoch, taken_by_the_third, recovered_at_the_target];
    assert!(seen.iter().all(|&count| count > 20), "each end is reached now and then: {tally:?}");
}

#[test]
fn a_source_that_believes_a_read_makes_two_owners() {
    let found = walk(Broken::BelievesReads);
    assert!(found.as_ref().is_err_and(|wrong| wrong.contains("two nodes")), "{found:?}");
}

#[test]
fn a_target_that_runs_before_the_row_names_it_makes_two_owners() {
    let found = walk(Broken::RunsWhenReady);
    assert!(found.as_ref().is_err_and(|wrong| wrong.contains("two nodes")), "{found:?}");
}

#[test]
fn without_faults_a_match_moves_and_stands_still_for_one_round_of_messages() {
    let mut world = World::new(1, Broken::Nothing);
    world.calm().unwrap_or_else(|wrong| panic!("{wrong}\n{}", world.trace()));
    assert!(world.runs_at_the_target() && !world.recovered, "{}", world.trace());
}
