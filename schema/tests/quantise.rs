//! Quantisation keeps the bounds that it documents.

use proptest::prelude::*;
use rekindle_schema::net::FieldKind;

const PI: f32 = std::f32::consts::PI;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(4000)
    })]

    #[test]
    fn floats_come_back_within_half_a_quantum(
        low in -1e6f32..1e6,
        size in 1e-2f32..1e6,
        bits in 1u8..=24,
        part in -0.5f32..1.5,
    ) {
        let (min, max) = (low, low + size);
        prop_assume!(min < max);
        let kind = FieldKind::Float { min, max, bits };
        let value = min + part * (max - min);
        let quantum = kind.quantise(value);
        prop_assert!(quantum <= kind.max_quantum());
        let back = kind.dequantise(quantum);
        let half = (f64::from(max) - f64::from(min)) / f64::from(kind.max_quantum()) / 2.0;
        let bound = half + 2.0 * f64::from(f32::EPSILON) * f64::from(min.abs().max(max.abs()));
        let error = (f64::from(back) - f64::from(value.clamp(min, max))).abs();
        prop_assert!(error <= bound, "{value} came back as {back}");
        prop_assert!((min..=max).contains(&back));
        prop_assert!(kind.quantise(back).abs_diff(quantum) <= 1);
    }

    #[test]
    fn quanta_of_floats_grow_with_the_value(
        a in -2.0f32..2.0,
        b in -2.0f32..2.0,
        bits in 1u8..=24,
    ) {
        let kind = FieldKind::Float { min: -1.0, max: 1.0, bits };
        prop_assert!(a > b || kind.quantise(a) <= kind.quantise(b));
    }

    #[test]
    fn angles_come_back_within_half_a_quantum_along_the_circle(
        value in -100.0f32..100.0,
        bits in 1u8..=24,
    ) {
        let kind = FieldKind::Angle { bits };
        let quantum = kind.quantise(value);
        prop_assert!(quantum <= kind.max_quantum());
        let back = kind.dequantise(quantum);
        prop_assert!((-PI..=PI).contains(&back));
        let turn = std::f64::consts::TAU;
        let difference = (f64::from(back) - f64::from(value)).rem_euclid(turn);
        let half = std::f64::consts::PI / f64::from(1u32 << bits);
        let bound = half + 1e-6 * (1.0 + f64::from(value.abs()));
        prop_assert!(difference.min(turn - difference) <= bound, "{value} came back as {back}");
    }

    #[test]
    fn whole_numbers_are_exact_or_clamped(value in any::<u64>(), bits in 1u8..=32) {
        let kind = FieldKind::Unsigned { bits };
        let quantum = kind.clamp_unsigned(value);
        prop_assert_eq!(u64::from(quantum), value.min((1u64 << bits) - 1));
    }

    #[test]
    fn every_quantum_of_a_coarse_field_is_stable(
        low in -1e3f32..1e3,
        size in 1.0f32..1e3,
        bits in 1u8..=12,
        quantum in any::<u32>(),
    ) {
        let quantum = quantum & (u32::MAX >> (32 - u32::from(bits)));
        let float = FieldKind::Float { min: low, max: low + size, bits };
        for kind in [float, FieldKind::Angle { bits }, FieldKind::Unsigned { bits }] {
            prop_assert_eq!(kind.quantise(kind.dequantise(quantum)), quantum);
        }
    }
}

#[test]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
fn what_is_no_number_has_a_quantum_too() {
    let float = FieldKind::Float { min: -1.0, max: 1.0, bits: 8 };
    let all = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -1.0, 1.0];
    assert_eq!(all.map(|value| float.quantise(value)), [0, 0, 255, 0, 255]);
    assert_eq!(
        [float.dequantise(0), float.dequantise(255), float.dequantise(0x1ff)],
        [-1.0, 1.0, 1.0]
    );
    let angle = FieldKind::Angle { bits: 4 };
    assert_eq!(
        [0.0, f32::NAN, f32::INFINITY, PI, -PI, 3.0 * PI].map(|value| angle.quantise(value)),
        [8, 8, 8, 0, 0, 0]
    );
    assert_eq!(FieldKind::Bool.bits(), 1);
    assert_eq!([0.0, 1.0, f32::NAN].map(|value| FieldKind::Bool.quantise(value)), [0, 1, 0]);
    assert_eq!(FieldKind::Unsigned { bits: 32 }.max_quantum(), u32::MAX);
}
