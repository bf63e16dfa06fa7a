//! Decoders are given anything: they refuse, they never panic, and they never allocate what the
//! bytes do not justify.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::zoo::{Keeper, Mood, Plan, Push, Wish, Zoo};
use proptest::prelude::*;
use rekindle_schema::delta::{self, DeltaError};
use rekindle_sim::{Entity, GameType, Simulation, Typed, Value, value};

fn game() -> &'static Typed<Zoo> {
    static GAME: OnceLock<Typed<Zoo>> = OnceLock::new();
    GAME.get_or_init(|| Typed::new().unwrap())
}

fn sample() -> &'static [u8] {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let config = game().config_from_json(r#"{"animals": 20, "churn": 2}"#).unwrap();
        let mut made = Typed::create(game(), &config, 11).unwrap();
        let mut keeper = Keeper::new(11);
        for _ in 0..120 {
            let step = keeper.step(&made);
            made.step(&step).unwrap();
        }
        made.checkpoint().to_vec()
    })
}

/// Restores damaged bytes; if they pass for a state, that state must work.
fn try_restore(bytes: &[u8]) {
    let Ok(mut made) = game().restore(bytes) else { return };
    let again = game().restore(&made.checkpoint()).expect("the bytes of a state are a state");
    assert_eq!(again.state_hash(), made.state_hash());
    let mut view = rekindle_schema::net::NetView::default();
    made.extract(&mut view);
    made.describe();
    let next = rekindle_schema::record::Step { tick: made.tick().next(), ..Default::default() };
    // A game may panic over a state that no game made; the step catches it.
    let _ = made.step(&next);
}

#[test]
fn every_truncation_is_refused() {
    for len in 0..sample().len() {
        let error = game()
            .restore(&sample()[..len])
            .err()
            .unwrap_or_else(|| panic!("{len} bytes of {} were taken", sample().len()));
        assert!(error.to_string().starts_with("RK-SIM-002: checkpoint of game `zoo`: "), "{error}");
    }
    let longer = [sample(), &[0]].concat();
    assert!(game().restore(&longer).is_err());
}

#[test]
fn every_flipped_bit_is_refused_or_makes_a_state() {
    let mut bytes = sample().to_vec();
    for bit in (0..bytes.len() * 8).step_by(7) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        try_restore(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A base, the delta of ten ticks, and what it comes to.
fn link() -> &'static (Vec<u8>, Vec<u8>, Vec<u8>) {
    static LINK: OnceLock<(Vec<u8>, Vec<u8>, Vec<u8>)> = OnceLock::new();
    LINK.get_or_init(|| {
        let mut made = Typed::restore(game(), sample()).unwrap();
        let mut keeper = Keeper::new(12);
        let (base, marks) = made.capture();
        for _ in 0..10 {
            let step = keeper.step(&made);
            made.step(&step).unwrap();
        }
        let (operations, _) = made.changes(&base, &marks, usize::MAX).unwrap();
        let (delta, state) = delta::seal(&base, &operations).unwrap();
        assert_eq!(made.checkpoint(), state);
        assert!(delta.len() < state.len());
        (base.to_vec(), delta, state)
    })
}

#[test]
fn a_delta_is_refused_for_any_other_base() {
    let (base, delta, state) = link();
    assert_eq!(delta::apply(base, delta).as_ref(), Ok(state));
    let error = delta::apply(state, delta).unwrap_err();
    assert!(
        matches!(error, DeltaError::WrongBase { .. })
            && error.to_string().starts_with("it is a delta to a state with the hash "),
        "{error}"
    );
    let mut other = base.clone();
    for bit in (0..base.len() * 8).step_by(61) {
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(delta::apply(&other, delta), Err(DeltaError::WrongBase { .. })));
        other[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(matches!(delta::apply(base, state), Err(DeltaError::Tag { found: 0x2101 })));
}

#[test]
fn every_flipped_bit_and_every_truncation_of_a_delta_is_refused() {
    let (base, delta, state) = link();
    let mut damaged = delta.clone();
    for bit in 0..damaged.len() * 8 {
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Numbers of an operation can be written in more than one way: what is taken must come to
        // the same.
        let made = delta::apply(base, &damaged);
        assert!(made.is_err() || made.as_ref() == Ok(state), "bit {bit}");
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    for len in 0..delta.len() {
        assert!(delta::apply(base, &delta[..len]).is_err(), "{len} bytes of {}", delta.len());
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    prop_oneof![
        Just(Plan::Idle),
        (any::<u32>(), any::<u8>())
            .prop_map(|(_, patience)| Plan::Hunt { target: Entity::NONE, patience }),
        any::<[f32; 2]>().prop_map(Plan::Flee),
    ]
}

fn round_trip<T: Value + std::fmt::Debug>(mut given: T) {
    let bytes = value::to_bytes(&given);
    assert!(bytes.len() >= T::MIN_SIZE);
    let back: T = value::from_bytes(&bytes).unwrap();
    assert!(!given.is_canonical() || format!("{given:?}") == format!("{back:?}"), "{given:?}");
    given.canonicalise();
    assert_eq!(value::to_bytes(&back), value::to_bytes(&given), "{back:?} {given:?}");
    assert!(value::from_bytes::<T>(&[&bytes[..], &[0]].concat()).is_err());
    if !bytes.is_empty() {
        assert!(value::from_bytes::<T>(&bytes[..bytes.len() - 1]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    #[test]
    fn random_bytes_are_no_checkpoint(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(game().restore(&bytes).is_err());
    }

    #[test]
    fn damaged_checkpoints_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        splice in prop::option::of((any::<prop::sample::Index>(), 0usize..64)),
    ) {
        let mut bytes = sample().to_vec();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some((place, len)) = splice {
            let from = place.index(bytes.len());
            bytes.drain(from..(from + len).min(bytes.len()));
        }
        try_restore(&bytes);
    }

    #[test]
    fn random_operations_never_panic_or_allocate_beyond_their_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        claim in any::<u32>(),
        head in any::<bool>(),
    ) {
        let (base, delta, _) = link();
        if let Ok((_, state)) = delta::seal(base, &bytes) {
            prop_assert!(state.len() <= base.len() + bytes.len());
        }
        let mut made_up = if head { delta[..66].to_vec() } else { Vec::new() };
        if head {
            made_up.extend_from_slice(&claim.to_le_bytes());
        }
        made_up.extend_from_slice(&bytes);
        prop_assert!(delta::apply(base, &made_up).is_err());
    }

    #[test]
    fn random_payloads_are_inputs_or_not(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(push) = value::from_bytes::<Push>(&bytes) {
            prop_assert!((-1.0..=1.0).contains(&push.y));
            prop_assert!(game().accepts_input(&bytes));
        }
        game().accepts_command(&bytes);
    }

    #[test]
    fn values_survive_their_bytes(
        a in any::<(u8, i16, u32, i64)>(),
        f in any::<f32>(),
        d in any::<f64>(),
        text in ".{0,12}",
        list in prop::collection::vec(any::<u16>(), 0..9),
        map in prop::collection::btree_map(any::<u8>(), any::<(i64, bool)>(), 0..5),
        plan in plans(),
        some in any::<Option<u64>>(),
    ) {
        round_trip(a);
        round_trip(f);
        round_trip(d);
        round_trip(text.clone());
        round_trip(list);
        round_trip(map);
        round_trip(plan);
        round_trip(some);
        round_trip(Wish::Rename(text));
        round_trip(Push { x: a.0 as i8, y: f });
        round_trip([f; 3]);
        round_trip((f, a.2));
    }
}

#[test]
fn a_nan_has_one_form() {
    let strange = f32::from_bits(0xffc1_2345);
    assert_eq!(value::to_bytes(&strange), 0x7fc0_0000u32.to_le_bytes());
    assert_eq!(
        value::from_bytes::<f32>(&strange.to_bits().to_le_bytes()).unwrap().to_bits(),
        0x7fc0_0000
    );
    assert_eq!(
        value::from_bytes::<f64>(&u64::MAX.to_le_bytes()).unwrap().to_bits(),
        0x7ff8_0000_0000_0000
    );
    // Kept in range, a NaN is the lower bound.
    assert_eq!(
        value::from_bytes::<Push>(&[&[1][..], &strange.to_bits().to_le_bytes()].concat()).unwrap(),
        Push { x: 1, y: -1.0 }
    );
}

#[test]
fn claims_of_many_elements_are_refused_before_anything_is_allocated() {
    let huge = u32::MAX.to_le_bytes();
    assert!(value::from_bytes::<Vec<u64>>(&huge).is_err());
    assert!(value::from_bytes::<String>(&huge).is_err());
    assert!(value::from_bytes::<BTreeMap<u8, u8>>(&huge).is_err());
    assert!(
        value::from_bytes::<Vec<Vec<u64>>>(&[2, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]).is_err()
    );
    assert!(
        value::from_bytes::<BTreeMap<u8, u8>>(&[2, 0, 0, 0, 5, 0, 5, 1]).is_err(),
        "keys must ascend"
    );
    assert!(value::from_bytes::<bool>(&[2]).is_err());
    assert!(value::from_bytes::<Mood>(&[3]).is_err());
}
