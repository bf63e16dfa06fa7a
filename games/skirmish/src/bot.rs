//! A player that is none: a pure function of what a client of its side sees, and of what it
//! remembers. It has no eyes in the fog either.

use rekindle_sim::{PlayerId, Tick, Value, View};

use crate::rules::{HOMES, Rules, SQUADS};
use crate::{Commander, Order, Orders, Position, Unit};

/// From one order to the next, ticks.
const EVERY: u64 = 5;

/// What a bot remembers.
#[derive(Debug, Clone, Default, PartialEq, Value)]
pub struct Mind {
    /// When it orders again.
    due: Tick,
    /// Which squad is next.
    squad: u8,
}

/// Twice a second one squad, in turn, goes for the enemy that is nearest to it. As long as none is
/// seen it looks at the homes of the others, and at the middle of the map.
pub fn command(
    player: PlayerId,
    view: &View<'_>,
    rules: &Rules,
    mind: &mut Mind,
) -> Option<Orders> {
    let Commander { side, .. } = view.avatar(player)?.get()?;
    if view.tick() < mind.due {
        return None;
    }
    let mut own: [Option<Position>; SQUADS as usize] = [None; SQUADS as usize];
    let mut enemies: Vec<Position> = Vec::new();
    for entity in view.entities() {
        let (Some(unit), Some(at)) = (entity.get::<Unit>(), entity.get::<Position>()) else {
            continue;
        };
        if unit.side != side {
            enemies.push(at);
        } else if let Some(first) = own.get_mut(usize::from(unit.squad)) {
            first.get_or_insert(at);
        }
    }
    // The next squad that has units left.
    let turns = (0..SQUADS).map(|turn| (mind.squad + turn) % SQUADS);
    let (squad, from) = turns.into_iter().find_map(|squad| Some((squad, own[squad as usize]?)))?;
    let nearest =
        enemies.into_iter().min_by(|a, b| from.distance(*a).total_cmp(&from.distance(*b)));
    let target = nearest.unwrap_or_else(|| search(view.tick(), side, squad, rules));
    *mind = Mind { due: Tick(view.tick().0 + EVERY), squad: (squad + 1) % SQUADS };
    Some(Orders { squads: vec![squad], order: Order::Attack, target })
}

/// Where a squad looks for enemies: every other 20 seconds in the middle of the map, where those
/// who search meet, and in between at the homes of the others, in turn.
fn search(tick: Tick, side: u8, squad: u8, rules: &Rules) -> Position {
    let turn = tick.0 / 200;
    if turn % 2 == 1 {
        return Position { x: 0.0, y: 0.0 };
    }
    let others = (0u8..).zip(&HOMES[..usize::from(rules.sides)]);
    let others: Vec<&Position> =
        others.filter(|(home, _)| *home != side).map(|(_, home)| home).collect();
    *others[(turn / 2 + u64::from(squad) / 3) as usize % others.len()]
}
