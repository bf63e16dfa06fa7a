//! Pickups are taken, and come back.

use rekindle_sim::{Output, Query, Tick, Time, Without};

use crate::components::{
    Arms, Dead, FULL_HEALTH, Fighter, Health, PICKUP_RADIUS, Pickup, PickupKind, Position,
};
use crate::config::Config;
use crate::events::Taken;
use crate::movement::FIGHTER_RADIUS;
use crate::weapons::{MAX_AMMO, WeaponKind};

/// Hit points of a health pickup.
const HEALING: u8 = 50;
/// Seconds until a pickup is there again.
const BACK_AFTER_S: u32 = 8;

/// Who can take something.
type Takers<'w> = Query<
    'w,
    (&'static Fighter, &'static Position, &'static mut Health, &'static mut Arms),
    Without<Dead>,
>;

/// Fighters take what they touch, if they have a use for it.
pub fn take(
    time: Time,
    mut pickups: Query<(&Position, &mut Pickup)>,
    mut takers: Takers,
    mut output: Output,
) {
    let reach = PICKUP_RADIUS + FIGHTER_RADIUS;
    for (place, mut pickup) in &mut pickups {
        if !pickup.there {
            if time.tick >= pickup.back_at {
                pickup.there = true;
            }
            continue;
        }
        for (fighter, position, mut health, mut arms) in &mut takers {
            let near = (position.vec() - place.vec()).length_squared() <= reach * reach;
            if near && health.points > 0 && give(pickup.kind, &mut health, &mut arms) {
                pickup.there = false;
                pickup.back_at = Tick(time.tick.0 + Config::ticks(BACK_AFTER_S));
                output.publish(&Taken { player: fighter.player(), kind: pickup.kind });
                break;
            }
        }
    }
}

/// Whether there was a use for it. A weapon goes into the hand at once.
fn give(kind: PickupKind, health: &mut Health, arms: &mut Arms) -> bool {
    let weapon = match kind {
        PickupKind::Health if health.points >= FULL_HEALTH => return false,
        PickupKind::Health => {
            health.points = health.points.saturating_add(HEALING).min(FULL_HEALTH);
            return true;
        }
        PickupKind::Shotgun => WeaponKind::Shotgun,
        PickupKind::Launcher => WeaponKind::Launcher,
    };
    if arms.ammo(weapon) == Some(MAX_AMMO) {
        return false;
    }
    arms.load(weapon, weapon.stats().magazine.unwrap_or(0));
    arms.weapon = weapon;
    true
}
