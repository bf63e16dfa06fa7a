//! What the entities of a match are made of.
//!
//! | entity | components |
//! |---|---|
//! | fighter | Body Position Velocity Health Trail, and Fighter Intent Aim Arms Score |
//! | drone | Body Position Velocity Health Trail, and Drone |
//! | rocket | Body Position Velocity, and Projectile |
//! | pickup | Body Position, and Pickup |
//! | the match itself | Clock |
//!
//! A fighter or drone that has lost all health stays where it fell and has `Dead` until it comes
//! back. Fields with a `net` attribute are in snapshots, quantised as it says; all others stay on
//! the server.

use rekindle_sim::{Component, Entity, Past, Place, PlayerId, Rewind, Tick, Value};

use crate::geometry::{Vec2, vec2};
use crate::map::MAX_SIZE;
use crate::movement::{DRONE_RADIUS, FIGHTER_RADIUS, VELOCITY_STEP};
use crate::phases::Phase;
use crate::weapons::{MAX_AMMO, Shot, WeaponKind};

/// Health of a fighter that just entered.
pub const FULL_HEALTH: u8 = 100;
/// Health of a new drone.
pub const DRONE_HEALTH: u8 = 40;
/// Radius of a pickup, metres.
pub const PICKUP_RADIUS: f32 = 0.6;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum BodyKind {
    /// Steered by a player.
    Fighter,
    /// Wanders about.
    Drone,
    /// On its way from a launcher.
    Rocket,
    /// Lies there to be taken.
    Pickup,
}

/// Makes an entity something that can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.body")]
pub struct Body {
    /// What it is.
    #[net(bits = 2)]
    pub kind: BodyKind,
}

impl Body {
    /// Radius in metres.
    pub fn radius(self) -> f32 {
        match self.kind {
            BodyKind::Fighter => FIGHTER_RADIUS,
            BodyKind::Drone => DRONE_RADIUS,
            BodyKind::Rocket => match WeaponKind::Launcher.stats().shot {
                Shot::Projectile { radius, .. } => radius,
                Shot::Hitscan { .. } => 0.0,
            },
            BodyKind::Pickup => PICKUP_RADIUS,
        }
    }
}

/// Snapshots can say places up to here, metres from the middle.
const EDGE: f32 = 64.0;
/// In steps of this: 14 bits.
const PLACE_STEP: f32 = 2.0 * EDGE / 16_384.0;
/// Snapshots can say velocities up to this, metres per second.
const TOP_SPEED: f32 = 32.0;

// What a client extrapolates is exact only if all velocities are multiples of what 9 bits can say.
const _: () = assert!(2.0 * TOP_SPEED / 512.0 == VELOCITY_STEP && MAX_SIZE / 2.0 < EDGE);

/// Where the middle of a body is, metres. In steps of 1/128 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "arena.position")]
pub struct Position {
    /// To the right.
    #[net(min = -EDGE, max = EDGE - PLACE_STEP, bits = 14, rate = "arena.velocity.x")]
    pub x: f32,
    /// Upwards.
    #[net(min = -EDGE, max = EDGE - PLACE_STEP, bits = 14, rate = "arena.velocity.y")]
    pub y: f32,
}

/// Metres per second. In steps of 1/8 on the wire, and in the simulation: see
/// [`crate::movement::VELOCITY_STEP`].
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "arena.velocity")]
pub struct Velocity {
    /// To the right.
    #[net(min = -TOP_SPEED, max = TOP_SPEED - VELOCITY_STEP, bits = 9)]
    pub x: f32,
    /// Upwards.
    #[net(min = -TOP_SPEED, max = TOP_SPEED - VELOCITY_STEP, bits = 9)]
    pub y: f32,
}

/// Conversions between a component with `x` and `y` and a vector.
macro_rules! as_vector {
    ($($type:ident),+) => {$(
        impl $type {
            /// As a vector.
            pub fn vec(self) -> Vec2 {
                vec2(self.x, self.y)
            }
        }

        impl From<Vec2> for $type {
            fn from(v: Vec2) -> Self {
                Self { x: v.x, y: v.y }
            }
        }
    )+};
}

as_vector!(Position, Velocity);

impl Place for Position {
    fn place(&self) -> [f32; 2] {
        [self.x, self.y]
    }

    fn set_place(&mut self, [x, y]: [f32; 2]) {
        (self.x, self.y) = (x, y);
    }
}

/// Where a fighter looks.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "arena.aim")]
pub struct Aim {
    /// Radians, counter-clockwise from the x axis.
    #[net(angle, bits = 8)]
    pub angle: f32,
    /// Whether the trigger is pulled: enough for a client to draw shots.
    #[net]
    pub firing: bool,
}

/// Hit points; 0 is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.health")]
pub struct Health {
    /// How many are left.
    #[net(bits = 7)]
    pub points: u8,
}

/// What a fighter carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.arms")]
pub struct Arms {
    /// In hand.
    #[net(bits = 2)]
    pub weapon: WeaponKind,
    /// Shots for the shotgun.
    #[net(bits = 6)]
    pub shells: u8,
    /// Shots for the launcher.
    #[net(bits = 6)]
    pub rockets: u8,
    /// When the next shot is possible.
    pub ready_at: Tick,
}

impl Arms {
    /// A blaster and nothing else.
    pub fn new() -> Self {
        Self::initial()
    }

    /// Shots left; `None` for a weapon that needs none.
    pub fn ammo(&self, weapon: WeaponKind) -> Option<u8> {
        match weapon {
            WeaponKind::Blaster => None,
            WeaponKind::Shotgun => Some(self.shells),
            WeaponKind::Launcher => Some(self.rockets),
        }
    }

    /// Whether the weapon could be fired.
    pub fn has(&self, weapon: WeaponKind) -> bool {
        self.ammo(weapon) != Some(0)
    }

    /// Adds shots, as many as can be carried.
    pub fn load(&mut self, weapon: WeaponKind, shots: u8) {
        let ammo = match weapon {
            WeaponKind::Blaster => return,
            WeaponKind::Shotgun => &mut self.shells,
            WeaponKind::Launcher => &mut self.rockets,
        };
        *ammo = ammo.saturating_add(shots).min(MAX_AMMO);
    }

    /// Takes one shot out of the weapon in hand; a weapon that is then empty is put away.
    pub fn spend(&mut self) {
        match self.weapon {
            WeaponKind::Blaster => {}
            WeaponKind::Shotgun => self.shells = self.shells.saturating_sub(1),
            WeaponKind::Launcher => self.rockets = self.rockets.saturating_sub(1),
        }
        if !self.has(self.weapon) {
            let left = WeaponKind::ALL.into_iter().rev().find(|weapon| self.has(*weapon));
            self.weapon = left.unwrap_or(WeaponKind::Blaster);
        }
    }
}

impl Default for Arms {
    fn default() -> Self {
        Self::new()
    }
}

/// Kills and deaths in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Component)]
#[component(id = "arena.score")]
pub struct Score {
    /// Opponents brought down.
    #[net(bits = 10)]
    pub kills: u16,
    /// Times brought down.
    #[net(bits = 10)]
    pub deaths: u16,
}

/// Who steers a fighter. In snapshots, so that displays know everybody: a player's number in two
/// halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.fighter")]
pub struct Fighter {
    #[net(bits = 32)]
    player_low: u32,
    #[net(bits = 32)]
    player_high: u32,
    /// The player does not want to wait in the lobby any longer.
    pub ready: bool,
}

impl Fighter {
    /// The fighter of a player.
    pub fn of(player: PlayerId) -> Self {
        Self { player_low: player.0 as u32, player_high: (player.0 >> 32) as u32, ready: false }
    }

    /// The player.
    pub fn player(self) -> PlayerId {
        PlayerId(u64::from(self.player_high) << 32 | u64::from(self.player_low))
    }
}

/// What a player wants a fighter to do: the last input, until another comes.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "arena.intent")]
pub struct Intent {
    /// Where to, at most of length 1.
    pub direction: Vec2,
    /// Pulls the trigger.
    pub fire: bool,
    /// How many ticks ago what the player saw was true; at most [`REWIND`].
    pub behind: u8,
    /// When this was said.
    pub since: Tick,
}

/// A fighter whose player has not been heard of for so many ticks does nothing.
const PATIENCE: u64 = 10;

impl Intent {
    /// Whether the player has been heard of lately.
    pub fn is_fresh(&self, now: Tick) -> bool {
        now.0.saturating_sub(self.since.0) <= PATIENCE
    }
}

/// Shots are judged by where their targets were at most so many ticks ago: 233 ms at 30 Hz, the
/// most that fits into 250 ms.
pub const REWIND: u8 = 7;

/// Where a body was after each of the last ticks.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "arena.trail")]
pub struct Trail {
    /// The places after the last ticks.
    places: Rewind<Vec2, { REWIND as usize + 1 }>,
}

impl Trail {
    /// A body that has always been `at` one place: it has just appeared there.
    pub fn at(at: Vec2) -> Self {
        Self { places: Rewind::filled(at) }
    }
}

impl Past for Trail {
    type Of = Position;
    const BACK: u64 = REWIND as u64;

    fn record(&mut self, tick: Tick, place: [f32; 2]) {
        self.places.record(tick, place.into());
    }

    fn after(&self, tick: Tick) -> [f32; 2] {
        (*self.places.after(tick)).into()
    }
}

/// Lies where it fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.dead")]
pub struct Dead {
    /// When it comes back.
    pub until: Tick,
}

/// A target that wanders about.
#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "arena.drone")]
pub struct Drone {
    /// The velocity that it wants.
    pub course: Vec2,
    /// When it will want another.
    pub turns_at: Tick,
}

/// Something on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.projectile")]
pub struct Projectile {
    /// The fighter who sent it.
    pub shooter: Entity,
    /// The player who steers that fighter.
    pub player: PlayerId,
    /// Out of what.
    pub weapon: WeaponKind,
    /// When it bursts by itself.
    pub expires: Tick,
}

/// What a pickup gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum PickupKind {
    /// Hit points.
    Health,
    /// Shells, and the shotgun in hand.
    Shotgun,
    /// Rockets, and the launcher in hand.
    Launcher,
}

/// Something to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.pickup")]
pub struct Pickup {
    /// What it gives.
    #[net(bits = 2)]
    pub kind: PickupKind,
    /// Whether it is there.
    #[net]
    pub there: bool,
    /// If it is not: when it will be.
    pub back_at: Tick,
}

/// What a display shows of the match itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(id = "arena.clock")]
pub struct Clock {
    /// What goes on.
    #[net(bits = 2)]
    pub phase: Phase,
    /// Seconds until it ends; 0 if nothing is set.
    #[net(bits = 14)]
    pub seconds: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_weapon_is_put_away_for_the_best_that_is_left() {
        let mut arms = Arms { weapon: WeaponKind::Launcher, shells: 1, rockets: 1, ..Arms::new() };
        arms.spend();
        assert_eq!((arms.weapon, arms.rockets), (WeaponKind::Shotgun, 0));
        arms.spend();
        assert_eq!((arms.weapon, arms.shells), (WeaponKind::Blaster, 0));
        arms.spend();
        assert_eq!(arms.weapon, WeaponKind::Blaster);
        arms.load(WeaponKind::Shotgun, 200);
        assert_eq!(arms.shells, MAX_AMMO);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these numbers are exact")]
    fn a_trail_remembers_as_far_as_shots_go_back() {
        let mut trail = Trail::at(vec2(-1.0, 0.0));
        for tick in 100..=120 {
            trail.record(Tick(tick), [tick as f32, 0.0]);
        }
        for back in 0..=u64::from(REWIND) {
            assert_eq!(trail.after(Tick(120 - back)), [(120 - back) as f32, 0.0]);
        }
    }
}
