//! Wounds, deaths, and coming back.

use rekindle_sim::{
    Commands, Const, Entity, EventReader, Output, Query, Res, Rng, State, Tick, Time, With, Without,
};

use crate::components::{Dead, Fighter, Health, Position, Score, Velocity};
use crate::config::Config;
use crate::events::{Hit, Kill, Respawn};
use crate::geometry::Vec2;
use crate::map::Spawns;
use crate::movement::{MAX_SPEED, snap};
use crate::phases::Phase;
use crate::spawn;

/// Seconds that a fighter is out.
const FIGHTER_OUT_S: u32 = 2;
/// Seconds until a drone is replaced.
const DRONE_OUT_S: u32 = 4;

/// What a hit changes.
type Victims<'w> = Query<
    'w,
    (&'static mut Health, &'static mut Velocity, Option<&'static Fighter>),
    Without<Dead>,
>;

/// Takes hits off healths, and counts who brought down whom.
pub fn wound(
    time: Time,
    phase: Res<State<Phase>>,
    hits: EventReader<Hit>,
    mut victims: Victims,
    mut scores: Query<&mut Score>,
    mut output: Output,
    mut commands: Commands,
) {
    if !phase.is(Phase::Live) {
        return;
    }
    for hit in hits.read() {
        let Some((mut health, mut velocity, fighter)) = victims.get_mut(hit.target) else {
            continue;
        };
        if health.points == 0 {
            continue;
        }
        health.points = health.points.saturating_sub(hit.damage);
        if health.points > 0 {
            velocity.set_if_neq(snap((velocity.vec() + hit.push).clamped(MAX_SPEED)).into());
            continue;
        }
        velocity.set_if_neq(Vec2::ZERO.into());
        let out = if fighter.is_some() { FIGHTER_OUT_S } else { DRONE_OUT_S };
        commands.insert(hit.target, Dead { until: Tick(time.tick.0 + Config::ticks(out)) });
        let Some(fighter) = fighter else { continue };
        let (killer, victim) = (hit.player, fighter.player());
        output.publish(&Kill { killer, victim, weapon: hit.weapon });
        if let Some(mut score) = scores.get_mut(hit.target) {
            score.deaths = score.deaths.saturating_add(1);
        }
        if hit.target != hit.shooter
            && let Some(mut score) = scores.get_mut(hit.shooter)
        {
            score.kills = score.kills.saturating_add(1);
        }
    }
}

/// Brings back those whose time has come.
pub fn revive(
    spawns: Const<Spawns>,
    time: Time,
    mut rng: Rng,
    dead: Query<(Entity, &Dead, Option<&Fighter>)>,
    living: Query<&Position, (With<Fighter>, Without<Dead>)>,
    mut output: Output,
    mut commands: Commands,
) {
    if !dead.iter().any(|(_, dead, _)| time.tick >= dead.until) {
        return;
    }
    let opponents: Vec<Vec2> = living.iter().map(|position| position.vec()).collect();
    for (entity, _, fighter) in dead.iter().filter(|(_, dead, _)| time.tick >= dead.until) {
        let at = spawn::place(&spawns, &mut rng, &opponents);
        commands.remove::<Dead>(entity);
        match fighter {
            Some(fighter) => {
                commands.insert(entity, spawn::fresh_fighter(at, time.tick));
                output.publish(&Respawn { player: fighter.player() });
            }
            None => commands.insert(entity, spawn::drone(at)),
        }
    }
}
