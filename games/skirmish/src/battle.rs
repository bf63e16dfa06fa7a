//! What units do in a tick, and who wins.

use rekindle_sim::{
    Commands, Const, Entity, EventWriter, Grid, Output, Place as _, PlayerId, Query, Res, Time,
    World,
};

use crate::rules::{AGGRO, Kind, Rules, SQUADS, muster};
use crate::{Commander, Duty, Felled, Foe, Order, Position, Round, Unit, Won};

/// Units look for enemies and hit every so many ticks: twice a second.
pub const EVERY: u64 = 5;

/// Puts all units where they begin.
pub fn array(world: &mut World, rules: &Rules) {
    for side in 0..rules.sides {
        for squad in 0..SQUADS {
            let kind = Kind::of_squad(squad);
            for number in 0..rules.squad() {
                let unit = Unit { side, squad, number, kind, health: kind.health() };
                let goal = unit.post(muster(side, squad));
                world.spawn((goal, unit, Duty { order: Order::Stop, goal, foe: None }));
            }
        }
    }
}

/// Who is nearer than this is found without looking at all that are in reach, metres.
const CLOSE: f32 = 4.0;

/// Each unit that may fight takes the nearest enemy for its foe. Each decides by itself, so several
/// threads may do it; the world is the same with one.
pub fn aim(
    rules: Const<Rules>,
    all: Query<(Entity, &Position, &Unit)>,
    mut units: Query<(&Position, &Unit, &mut Duty)>,
) {
    // A grid for each side: in a crowd most neighbours are one's own.
    let mut sides = vec![Vec::new(); usize::from(rules.sides)];
    // Places by slot, for threads may not share a query.
    let mut places: Vec<Option<Position>> = Vec::new();
    for (entity, at, unit) in &all {
        sides[usize::from(unit.side)].push((entity, at.place()));
        places.resize(entity.slot() as usize, None);
        places.push(Some(*at));
    }
    let grids: Vec<Grid> = sides.into_iter().map(|side| Grid::new(CLOSE, side)).collect();
    let nearest = |from: Position, side: u8, reach: f32| {
        let others = || (0u8..).zip(&grids).filter(|(other, _)| *other != side);
        [CLOSE.min(reach), reach].into_iter().find_map(|radius| {
            let near = others().flat_map(|(_, grid)| grid.within(from.place(), radius));
            let enemies = near.filter_map(|entity| {
                Some(Foe { entity, at: (*places.get(entity.slot() as usize)?)? })
            });
            // Of two that are as far the first: of the lower side, then of the lower slot.
            enemies.min_by(|a, b| from.distance(a.at).total_cmp(&from.distance(b.at)))
        })
    };
    units.par_for_each(|(at, unit, mut duty)| {
        let foe = match duty.order {
            Order::Move => None,
            Order::Stop => nearest(*at, unit.side, unit.kind.range()),
            Order::Attack => nearest(*at, unit.side, AGGRO),
        };
        // Only what changes is written: what is written costs in checkpoints and snapshots.
        if duty.foe != foe {
            duty.foe = foe;
        }
    });
}

/// Each unit hits its foe if it is in range. All hit at once: the order of units decides nothing.
pub fn strike(
    mut units: Query<(Entity, &Position, &mut Unit, &Duty)>,
    commanders: Query<&Commander>,
    mut felled: EventWriter<Felled>,
    mut commands: Commands,
) {
    let hits = units.iter().filter_map(|(_, at, unit, duty)| {
        let foe = duty.foe.filter(|foe| at.distance(foe.at) <= unit.kind.range())?;
        Some((foe.entity, unit.kind.damage(), unit.side))
    });
    let hits: Vec<(Entity, u8, u8)> = hits.collect();
    for (foe, damage, by) in hits {
        let Some((entity, _, mut unit, _)) = units.get_mut(foe) else { continue };
        if unit.health == 0 {
            continue;
        }
        unit.health = unit.health.saturating_sub(damage);
        if unit.health == 0 {
            commands.despawn(entity);
            let killer = commanders.iter().find(|one| one.side == by).map(|one| one.player);
            if let Some(by) = killer {
                felled.send(Felled { by });
            }
        }
    }
}

/// Units go after their foe until it is in range, and else where they were ordered.
pub fn march(time: Time, mut units: Query<(&mut Position, &Unit, &mut Duty)>) {
    units.par_for_each(|(mut at, unit, mut duty)| {
        let chased = duty.foe.filter(|_| duty.order == Order::Attack);
        if duty.foe.is_some_and(|foe| at.distance(foe.at) <= unit.kind.range()) {
            return;
        }
        let goal = chased.map_or(duty.goal, |foe| foe.at);
        let (length, step) = (at.distance(goal), unit.kind.speed() * time.delta);
        if length > step {
            let share = step / length;
            at.x += (goal.x - at.x) * share;
            at.y += (goal.y - at.y) * share;
            return;
        }
        if length > 0.0 {
            *at = goal;
        }
        if duty.order == Order::Move {
            duty.order = Order::Stop;
        }
    });
}

/// Ends the round when one side alone has units, or when its time is over. The effect `result`
/// leaves the node once, whatever happens to the node.
pub fn decide(
    rules: Const<Rules>,
    round: Res<Round>,
    time: Time,
    units: Query<(Entity, &Unit)>,
    commanders: Query<&Commander>,
    mut commands: Commands,
    mut output: Output,
) {
    let mut left = vec![0u32; usize::from(rules.sides)];
    units.iter().for_each(|(_, unit)| left[usize::from(unit.side)] += 1);
    let limit = u64::from(rules.round_s) * u64::from(time.rate);
    let over = time.tick.0 - round.began.0 >= limit;
    if !over && left.iter().filter(|units| **units > 0).count() > 1 {
        return;
    }
    let most = left.iter().copied().max().unwrap_or_default();
    let mut best = (0u8..).zip(&left).filter(|(_, units)| **units == most).map(|(side, _)| side);
    // As many as another one: nobody wins.
    let side = best.next().filter(|_| best.next().is_none());
    let winner = commanders.iter().find(|one| Some(one.side) == side);
    let player: Option<PlayerId> = winner.map(|one| one.player);
    output.publish(&Won { side, player });
    let player = player.map(|player| player.0);
    let result = serde_json::json!({ "side": side, "player": player, "left": left });
    output.effect_json("result", &result);
    if !rules.rematch {
        output.end_match(if over { "the time is over" } else { "one side is left" });
        return;
    }
    units.iter().for_each(|(entity, _)| commands.despawn(entity));
    let next = Round { began: time.tick, number: round.number + 1 };
    commands.add(move |world: &mut World| {
        *world.resource_mut() = next;
        let rules = world.constant::<Rules>().clone();
        array(world, &rules);
    });
}
