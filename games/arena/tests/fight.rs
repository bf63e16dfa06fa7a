//! Bots fight: what holds in every match.

use std::collections::BTreeMap;

use rekindle_arena::Arena;
use rekindle_arena::components::{Body, BodyKind, Dead, Health, PickupKind, Position};
use rekindle_arena::config::Config;
use rekindle_arena::events::{Kill, PhaseChange, Taken};
use rekindle_arena::phases::Phase;
use rekindle_arena::weapons::WeaponKind;
use rekindle_sim::value::{Value, from_bytes};
use rekindle_sim::{Harness, Without};

/// The payloads of all events of a kind.
fn told<T: Value>(match_: &Harness<Arena>, kind: &str) -> Vec<T> {
    match_
        .events()
        .filter(|event| event.kind == kind)
        .map(|event| from_bytes(&event.payload).unwrap())
        .collect()
}

#[test]
fn bots_kill_each_other_with_every_weapon_and_take_every_kind_of_pickup() {
    let fight = Harness::<Arena>::with_config(3, r#"{"endless": true}"#).bots(8).run(1800);
    let mut by_weapon = BTreeMap::new();
    for kill in told::<Kill>(&fight, "kill") {
        *by_weapon.entry(kill.weapon).or_insert(0) += 1;
    }
    println!("kills in a minute by weapon: {by_weapon:?}");
    for weapon in WeaponKind::ALL {
        assert!(
            by_weapon.get(&weapon).is_some_and(|kills| *kills >= 3),
            "{weapon:?}: {by_weapon:?}"
        );
    }
    let taken = told::<Taken>(&fight, "pickup");
    for kind in [PickupKind::Health, PickupKind::Shotgun, PickupKind::Launcher] {
        assert!(taken.iter().any(|taken| taken.kind == kind), "nobody took {kind:?}");
    }
    assert!(told::<PhaseChange>(&fight, "phase").iter().any(|change| change.phase == Phase::Live));
    fight.assert_replay_identical();
}

#[test]
fn nobody_ever_stands_in_a_wall_or_out_of_the_arena() {
    for seed in 0..12 {
        let map = ["pillars", "crossing", "open"][seed as usize % 3];
        let config = Config { map: map.to_owned(), endless: true, movers: 20, ..Config::default() };
        let mut fight =
            Harness::<Arena>::with_config(seed, &serde_json::to_string(&config).unwrap()).bots(8);
        let map = config.map();
        for _ in 0..400 {
            fight.tick();
            fight.world_mut().query::<(&Body, &Position), (), _>(|bodies| {
                for (body, position) in &bodies {
                    assert!(
                        map.is_free(position.vec(), body.radius(), 2e-3),
                        "seed {seed}: {body:?} at {position:?}"
                    );
                }
            });
        }
    }
}

#[test]
fn sixty_four_players_and_a_hundred_drones_fight() {
    let config =
        r#"{"width": 90, "height": 60, "max_players": 64, "endless": true, "movers": 100}"#;
    let mut fight = Harness::<Arena>::with_config(1, config).bots(64).run(450);
    assert!(told::<Kill>(&fight, "kill").len() > 20);
    let alive = fight.world_mut().query::<(&Body, &Health), Without<Dead>, _>(|bodies| {
        bodies
            .iter()
            .filter(|(body, health)| body.kind == BodyKind::Drone && health.points > 0)
            .count()
    });
    assert!((20..=100).contains(&alive), "{alive} drones are alive");
    fight.assert_replay_identical();
}
