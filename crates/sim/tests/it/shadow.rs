//! The gate of determinism: a world that is saved and restored again and again stays byte-identical
//! to one that never was.

use std::sync::Arc;

use crate::beside::Apart;
use crate::zoo::{Keeper, Seen, Zoo};
use rekindle_schema::net::NetView;
use rekindle_schema::{Tick, delta};
use rekindle_sim::{GameType, Rng, Simulation, Typed, checkpoint_hash};

/// Runs a live world and its shadow for `ticks` from tick `start`, restoring the shadow every
/// `1..=gap` ticks, and compares their bytes after each.
fn shadow(seed: u64, start: u64, ticks: u64, gap: u32, config: &str) -> (u64, u64, usize) {
    let game = Typed::<Zoo>::new().unwrap();
    let config = game.config_from_json(config).unwrap();
    let mut live = Typed::create(&game, &config, seed).unwrap();
    live.skip_to(Tick(start));
    let restored = |bytes: &[u8]| {
        let mut shadow = Typed::restore(&game, bytes).unwrap();
        shadow.set_workers(Some(Arc::new(Apart)));
        shadow
    };
    let mut shadow = restored(&live.checkpoint());
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
            panic!(
                "seed {seed}, start {start}, tick {tick}, {restores} restores: bytes differ at \
                 {place:?} of {}",
                left.len()
            );
        }
        if tick >= next {
            shadow = restored(&right);
            assert_eq!(
                shadow.checkpoint(),
                right,
                "seed {seed}, tick {tick}: a restored world has other bytes"
            );
            assert_eq!(shadow.sessions(), live.sessions());
            assert_eq!(shadow.state_hash(), live.state_hash());
            assert_eq!(checkpoint_hash(&right), Some(live.state_hash()));
            restores += 1;
            next = tick + 1 + u64::from(rng.below(gap));
        }
    }
    let seen = live.world().resource::<Seen>().clone();
    assert!(
        seen.added > 0
            && seen.changed > 0
            && seen.removed > 0
            && seen.events > 0
            && seen.inputs > 0,
        "{seen:?}"
    );
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

/// What the chains of a run consisted of.
#[derive(Debug, Default)]
struct Chains {
    full: u64,
    deltas: u64,
    full_bytes: usize,
    delta_bytes: usize,
}

/// Runs a live world and a shadow that is restored, every `1..=gap` ticks, from a full checkpoint
/// and up to `links` deltas on it, and compares their bytes.
fn chained(seed: u64, start: u64, ticks: u64, gap: u32, links: u32, config: &str) -> Chains {
    let game = Typed::<Zoo>::new().unwrap();
    let config = game.config_from_json(config).unwrap();
    let mut live = Typed::create(&game, &config, seed).unwrap();
    live.skip_to(Tick(start));
    let mut shadow = Typed::restore(&game, &live.checkpoint()).unwrap();
    let (mut keeper, mut rng) = (Keeper::new(seed), Rng::stream(seed, Tick(0), 6));
    let (mut next, mut chains) = (1, Chains::default());
    let (first, mut marks) = live.capture();
    // Of the chain: the full checkpoint, the deltas, and what they come to.
    let (mut full, mut deltas, mut newest) = (first.to_vec(), Vec::new(), first.to_vec());
    for tick in 1..=ticks {
        let step = keeper.step(&live);
        let (a, b) = (live.step(&step).unwrap(), shadow.step(&step).unwrap());
        assert_eq!(a, b, "seed {seed}, tick {tick}: outputs differ");
        if tick < next {
            continue;
        }
        next = tick + 1 + u64::from(rng.below(gap));
        let (state, places) = live.capture();
        let changes = (deltas.len() < rng.below(links + 1) as usize)
            .then(|| live.changes(&newest, &marks, usize::MAX))
            .flatten();
        if let Some((operations, now)) = changes {
            let (delta, made) = delta::seal(&newest, &operations).unwrap();
            if made != state {
                let place = made.iter().zip(&state).position(|(a, b)| a != b);
                panic!(
                    "seed {seed}, tick {tick}, link {}: bytes differ at {place:?} of {}",
                    deltas.len() + 1,
                    state.len()
                );
            }
            assert_eq!(now, places, "seed {seed}, tick {tick}: parts lie elsewhere");
            assert!(
                live.changes(&newest, &marks, operations.len()).is_some()
                    && live.changes(&newest, &marks, operations.len() - 1).is_none()
            );
            chains.deltas += 1;
            chains.delta_bytes += delta.len();
            deltas.push(delta);
            (newest, marks) = (made, now);
        } else {
            chains.full += 1;
            (full, newest, marks) = (state.to_vec(), state.to_vec(), places);
            deltas.clear();
        }
        chains.full_bytes += state.len();
        let restored =
            deltas.iter().fold(full.clone(), |base, delta| delta::apply(&base, delta).unwrap());
        assert_eq!(restored, state, "seed {seed}, tick {tick}: the chain comes to other bytes");
        assert_eq!(
            shadow.checkpoint(),
            state,
            "seed {seed}, tick {tick}: the shadow went its own way"
        );
        shadow = Typed::restore(&game, &restored).unwrap();
    }
    chains
}

#[test]
fn a_world_restored_from_chains_of_deltas_stays_identical() {
    for seed in [11, 12, 13] {
        let chains = chained(seed, 0, 6_000, 12, 8, "{}");
        assert!(chains.deltas > 500 && chains.full > 50, "{chains:?}");
    }
}

#[test]
fn deltas_of_neighbouring_ticks_and_of_distant_ones_come_to_the_same_bytes() {
    let near = chained(14, 0, 1_500, 1, 30, "{}");
    assert!(near.deltas > 1_200, "{near:?}");
    let far = chained(15, 0, 6_000, 400, 8, "{}");
    assert!(far.deltas > 5, "{far:?}");
}

#[test]
fn chains_of_big_and_small_worlds_come_to_the_same_bytes() {
    let big = chained(16, 0, 150, 10, 8, r#"{"animals": 5000, "churn": 200}"#);
    assert!(big.deltas > 5, "{big:?}");
    let small = chained(17, 0, 3_000, 30, 8, r#"{"animals": 3, "churn": 1}"#);
    assert!(small.deltas > 50, "{small:?}");
}

#[test]
fn no_delta_reaches_over_the_end_of_an_era() {
    let chains = chained(18, (1 << 20) - 300, 600, 10, 8, "{}");
    assert!(chains.deltas > 50, "{chains:?}");
    let game = Typed::<Zoo>::new().unwrap();
    let mut live = Typed::create(&game, &game.config_from_json("{}").unwrap(), 1).unwrap();
    live.skip_to(Tick((1 << 20) - 1));
    let (base, marks) = live.capture();
    assert!(live.changes(&base, &marks, usize::MAX).is_some());
    let step = Keeper::new(1).step(&live);
    live.step(&step).unwrap();
    assert!(live.changes(&base, &marks, usize::MAX).is_none());
}

#[test]
fn marks_of_something_else_are_no_base() {
    let game = Typed::<Zoo>::new().unwrap();
    let config = game.config_from_json("{}").unwrap();
    let mut live = Typed::create(&game, &config, 1).unwrap();
    let (base, marks) = live.capture();
    assert!(live.changes(&base, &rekindle_sim::Marks::default(), usize::MAX).is_none());
    assert!(live.changes(&base[1..], &marks, usize::MAX).is_none());
    // Stamps do not tell what a test changed by hand after the step.
    live.world_mut();
    assert!(live.changes(&base, &marks, usize::MAX).is_none());
}

#[test]
fn parts_in_which_two_checkpoints_differ_are_named() {
    let game = Typed::<Zoo>::new().unwrap();
    let config = game.config_from_json("{}").unwrap();
    let mut one = Typed::create(&game, &config, 3).unwrap();
    let mut keeper = Keeper::new(3);
    for _ in 0..40 {
        let step = keeper.step(&one);
        one.step(&step).unwrap();
    }
    let checkpoint = one.checkpoint();
    assert_eq!(game.differing_parts(&checkpoint, &checkpoint), [""; 0]);
    let mut other = Typed::restore(&game, &checkpoint).unwrap();
    other.world_mut().resource_mut::<Seen>().added += 1;
    let parts = game.differing_parts(&checkpoint, &other.checkpoint());
    assert!(parts.len() == 1 && parts[0].starts_with("resource `"), "{parts:?}");
    assert_eq!(game.differing_parts(&checkpoint, b"none"), [""; 0]);
}
