//! What players send.

use rekindle_sim::Value;

use crate::geometry::{Vec2, turn, vec2};
use crate::weapons::WeaponKind;

/// What a player wants in a tick: five bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub struct Input {
    /// Where to go, -127 (left) to 127 (right).
    pub right: i8,
    /// Where to go, -127 (down) to 127 (up).
    pub up: i8,
    /// Where to look: 65,536 parts of a turn, counter-clockwise from the x axis.
    pub aim: u16,
    /// Pulls the trigger.
    pub fire: bool,
}

impl Input {
    /// The input that comes closest to these wishes: `direction` at most of length 1, `angle` in
    /// radians.
    pub fn new(direction: Vec2, angle: f32, fire: bool) -> Self {
        let part = |v: f32| (v * 127.0 + 0.5).floor().clamp(-127.0, 127.0) as i8;
        let turns = turn(0.0, angle) / std::f32::consts::TAU;
        let aim = (turns * 65_536.0 + 0.5).floor() as i32 as u16;
        Self { right: part(direction.x), up: part(direction.y), aim, fire }
    }

    /// Where to go, at most of length 1 whatever was sent.
    pub fn direction(self) -> Vec2 {
        vec2(f32::from(self.right) / 127.0, f32::from(self.up) / 127.0).clamped(1.0)
    }

    /// Where to look, radians, `-pi..pi`.
    pub fn angle(self) -> f32 {
        f32::from(self.aim as i16) / 65_536.0 * std::f32::consts::TAU
    }
}

/// What a player asks for reliably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum Command {
    /// Does not want to wait in the lobby. Granted while there is a lobby.
    Ready,
    /// Takes another weapon. Granted if it has ammunition.
    Switch(WeaponKind),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_input_makes_a_fighter_faster_than_others() {
        for (right, up) in [(127, 127), (-128, -128), (-128, 127), (127, 0)] {
            let length = Input { right, up, aim: 0, fire: false }.direction().length();
            assert!((0.99..=1.0 + 1e-6).contains(&length), "{length}");
        }
    }

    proptest! {
        #[test]
        fn an_input_keeps_what_it_was_made_from(
            angle in -9.0f32..9.0,
            x in -0.7f32..0.7,
            y in -0.7f32..0.7,
        ) {
            let input = Input::new(vec2(x, y), angle, true);
            prop_assert!(turn(input.angle(), angle).abs() < 1e-3);
            prop_assert!(input.direction().distance(vec2(x, y)) < 0.01);
        }
    }
}
