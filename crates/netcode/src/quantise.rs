//! From quanta to numbers and back, as `FieldKind` says.

use rekindle_schema::net::FieldKind;

/// The number that a quantum stands for: floats in their unit, angles in radians, unsigned integers and booleans as they are.
pub fn dequantise(kind: FieldKind, quantum: u32) -> f32 {
    match kind {
        FieldKind::Float { min, max, bits } => {
            let step = (f64::from(max) - f64::from(min)) / f64::from(u32::MAX >> (32 - u32::from(bits.clamp(1, 24))));
            (f64::from(min) + f64::from(quantum) * step) as f32
        }
        FieldKind::Angle { bits } => {
            let step = std::f64::consts::TAU / f64::from(1u32 << bits.clamp(1, 24));
            (f64::from(quantum) * step - std::f64::consts::PI) as f32
        }
        FieldKind::Unsigned { .. } | FieldKind::Bool => quantum as f32,
    }
}

/// The nearest quantum to a number. What is no number becomes the smallest.
pub fn quantise(kind: FieldKind, value: f32) -> u32 {
    let value = f64::from(value);
    match kind {
        FieldKind::Float { min, max, bits } => {
            let most = f64::from(u32::MAX >> (32 - u32::from(bits.clamp(1, 24))));
            let part = (value - f64::from(min)) / (f64::from(max) - f64::from(min));
            (part * most).round().clamp(0.0, most) as u32
        }
        FieldKind::Angle { bits } => {
            let whole = f64::from(1u32 << bits.clamp(1, 24));
            let quantum = ((value + std::f64::consts::PI) / std::f64::consts::TAU * whole).round().rem_euclid(whole);
            quantum as u32
        }
        FieldKind::Unsigned { bits } => value.clamp(0.0, f64::from(u32::MAX >> (32 - u32::from(bits.clamp(1, 32))))) as u32,
        FieldKind::Bool => u32::from(value != 0.0),
    }
}
