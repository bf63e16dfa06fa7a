//! The weapons and what they do. A table; to balance the game, change it.

use rekindle_sim::Value;

/// What a fighter can hold. The order is the number in snapshots and commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Value)]
pub enum WeaponKind {
    /// Everybody has it, and it never runs dry: a quick single ray.
    Blaster,
    /// A fan of rays for close quarters.
    Shotgun,
    /// Rockets that burst.
    Launcher,
}

/// How a weapon reaches its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shot {
    /// Hits in the tick of the shot, what the shooter saw.
    Hitscan {
        /// How far it reaches, metres.
        range: f32,
        /// How many rays.
        rays: u8,
        /// Each ray strays at most this far to either side, radians.
        spread: f32,
    },
    /// Sends something on its way.
    Projectile {
        /// Metres per second, a multiple of [`crate::movement::VELOCITY_STEP`].
        speed: f32,
        /// Its own radius, metres.
        radius: f32,
        /// How far its burst reaches, metres.
        blast: f32,
        /// It bursts by itself after so many ticks.
        lifetime: u16,
        /// Metres per second that a body right at the burst gets away from it.
        knockback: f32,
    },
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weapon {
    /// For people and results.
    pub name: &'static str,
    /// Hit points per ray, or at the middle of a burst.
    pub damage: u8,
    /// Ticks between two shots.
    pub cooldown: u8,
    /// Shots that a pickup brings; `None` for a weapon that needs none.
    pub magazine: Option<u8>,
    /// How it reaches its target.
    pub shot: Shot,
}

/// A fighter carries at most this much of one kind of ammunition.
pub const MAX_AMMO: u8 = 60;

const BLASTER: Weapon = Weapon {
    name: "blaster",
    damage: 9,
    cooldown: 5,
    magazine: None,
    shot: Shot::Hitscan { range: 28.0, rays: 1, spread: 0.02 },
};
const SHOTGUN: Weapon = Weapon {
    name: "shotgun",
    damage: 8,
    cooldown: 24,
    magazine: Some(8),
    shot: Shot::Hitscan { range: 14.0, rays: 7, spread: 0.14 },
};
const LAUNCHER: Weapon = Weapon {
    name: "launcher",
    damage: 70,
    cooldown: 27,
    magazine: Some(6),
    shot: Shot::Projectile { speed: 20.0, radius: 0.2, blast: 2.6, lifetime: 75, knockback: 8.0 },
};

impl WeaponKind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Blaster, Self::Shotgun, Self::Launcher];

    /// Its line of the table.
    pub const fn stats(self) -> &'static Weapon {
        match self {
            Self::Blaster => &BLASTER,
            Self::Shotgun => &SHOTGUN,
            Self::Launcher => &LAUNCHER,
        }
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::movement::{TICK, VELOCITY_STEP, snap};

    #[test]
    fn numbers_and_table_agree() {
        for (index, kind) in WeaponKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
        assert!(WeaponKind::Blaster.stats().magazine.is_none(), "a fighter can always shoot");
    }

    #[test]
    fn no_weapon_kills_with_one_shot_and_every_weapon_kills_within_three_seconds() {
        for kind in WeaponKind::ALL {
            let weapon = kind.stats();
            let rays =
                if let Shot::Hitscan { rays, .. } = weapon.shot { u32::from(rays) } else { 1 };
            let shot = u32::from(weapon.damage) * rays;
            assert!(shot < 100, "{}", weapon.name);
            let shots = 100u32.div_ceil(shot);
            assert!(shots * u32::from(weapon.cooldown) <= 90, "{}", weapon.name);
            assert!(weapon.magazine.is_none_or(|shots| shots <= MAX_AMMO));
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these numbers are exact")]
    fn a_projectile_lives_long_enough_to_get_somewhere() {
        for kind in WeaponKind::ALL {
            if let Shot::Projectile { speed, lifetime, .. } = kind.stats().shot {
                assert!(speed * TICK * f32::from(lifetime) > 30.0);
                assert_eq!(snap(crate::geometry::vec2(speed, VELOCITY_STEP)).x, speed);
            }
        }
    }
}
