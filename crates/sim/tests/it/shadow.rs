//! The gate of determinism: a world that is saved and restored again and again stays byte-identical to one that never was.

use crate::zoo::{Keeper, Seen, Zoo};
use rekindle_schema::Tick;
use rekindle_schema::net::NetView;
use rekindle_sim::{GameType, Rng, Simulation, Typed, checkpoint_hash};

/// Runs a live world and its shadow for `ticks` from tick `start`, restoring the shadow every `1..=gap` ticks, and compares their bytes after each.
fn shadow(seed: u64, start: u64, ticks: u64, gap: u32, config: &str) -> (u64, u64, usize) {
    let game = Typed::<Zoo>::new().unwrap();
    let config = game.config_from_json(config).unwrap();
    let mut live = Typed::create(&game, &config, seed).unwrap();
    live.skip_to(Tick(start));
    let mut shadow = Typed::restore(&game, &live.checkpoint()).unwrap();
    let mut keeper = Keeper::new(seed);
    let mut rng = Rng::stream(seed, Tick(0), 5);
    let (mut next, mut restores) = (1, 0);
    let mut views = [NetView::default(), NetView::default()];
    for tick in 1..=ticks {
        let step = keeper.step(&live);
        let (a, b) = (live.step(&step).unwrap(), shadow.step(&step).unwrap());
        assert_eq!(a, b, "seed {seed}, tick {tick}: outputs differ");
        live.extract(&mut views[0]);
        shadow.extract(&mut views[1]);
        assert!(views[0] == views[1], "seed {seed}, tick {tick}: snapshots differ");
        let (left, right) = (live.checkpoint(), shadow.checkpoint());
        if left != right {
            let place = left.iter().zip(&right).position(|(a, b)| a != b);
            panic!("seed {seed}, start {start}, tick {tick}, {restores} restores: bytes differ at {place:?} of {}", left.len());
        }
        if tick >= next {
            shadow = Typed::restore(&game, &right).unwrap();
            assert_eq!(shadow.checkpoint(), right, "seed {seed}, tick {tick}: a restored world has other bytes");
            assert_eq!(shadow.sessions(), live.sessions());
            assert_eq!(shadow.state_hash(), live.state_hash());
            assert_eq!(checkpoint_hash(&right), Some(live.state_hash()));
            restores += 1;
            next = tick + 1 + u64::from(rng.below(gap));
        }
    }
    let seen = live.world().resource::<Seen>().clone();
    assert!(seen.added > 0 && seen.changed > 0 && seen.removed > 0 && seen.events > 0 && seen.inputs > 0, "{seen:?}");
    (seen.spawned, seen.despawned, restores)
}

#[test]
fn a_restored_world_stays_identical_over_ten_thousand_ticks() {
    for seed in [1, 2, 3] {
        let (spawned, despawned, restores) = shadow(seed, 0, 10_000, 40, "{}");
        assert!(spawned > 20_000 && despawned > 20_000, "{spawned} spawns, {despawned} despawns");
        assert!(restores > 300, "{restores}");
    }
}

#[test]
fn a_world_that_is_restored_after_every_tick_stays_identical() {
    shadow(4, 0, 1_500, 1, "{}");
}

#[test]
fn stamps_move_down_at_the_end_of_an_era_without_a_trace() {
    shadow(5, (1 << 20) - 600, 1_200, 20, "{}");
    shadow(6, (1 << 40) - 300, 600, 20, "{}");
}

#[test]
fn big_and_small_worlds_stay_identical() {
    shadow(7, 0, 150, 30, r#"{"animals": 5000, "churn": 200}"#);
    shadow(8, 0, 3_000, 30, r#"{"animals": 3, "churn": 1}"#);
}
