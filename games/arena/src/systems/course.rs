//! The course of the match: applies the rules of [`crate::phases`].

use rekindle_sim::{
    Commands, Const, Entity, EventReader, EventWriter, Output, Players, Query, Res, ResMut, Rng,
    State, Time, Transitions, With,
};

use crate::components::{Clock, Dead, Fighter, Projectile, Score};
use crate::config::Config;
use crate::departed::Departed;
use crate::events::{Began, PhaseChange};
use crate::map::Spawns;
use crate::movement::TICK_RATE;
use crate::phases::{self, Facts, Outcome, Phase, Rounds, Standing, Turn};
use crate::spawn;

/// Asks the rules what happens, and says so.
pub fn advance(
    time: Time,
    config: Const<Config>,
    mut phase: Transitions<Phase>,
    mut rounds: ResMut<Rounds>,
    fighters: Query<(&Fighter, &Score)>,
    mut began: EventWriter<Began>,
    mut output: Output,
) {
    let facts = Facts {
        players: fighters.iter().count(),
        all_ready: fighters.iter().all(|(fighter, _)| fighter.ready),
        most_kills: fighters.iter().map(|(_, score)| score.kills).max().unwrap_or(0),
    };
    let after = time.tick.0.saturating_sub(phase.since().0);
    match phases::next(phase.now(), after, facts, &config) {
        Turn::Stay => {}
        Turn::Go(next, reason) => {
            phase.go(next).expect("the rules go the ways that are declared");
            rounds.begun += u32::from(next == Phase::Live);
            began.send(Began { phase: next, reason, after });
            output.publish(&PhaseChange { phase: next, reason });
        }
        Turn::End => output.end_match("the result stands"),
    }
}

/// When a fight begins, everybody starts from scratch and from a place of their own.
pub fn begin_fight(
    spawns: Const<Spawns>,
    time: Time,
    mut rng: Rng,
    began: EventReader<Began>,
    fighters: Query<Entity, With<Fighter>>,
    projectiles: Query<Entity, With<Projectile>>,
    mut departed: ResMut<Departed>,
    mut commands: Commands,
) {
    if !began.read().any(|began| began.phase == Phase::Live) {
        return;
    }
    departed.clear();
    for projectile in &projectiles {
        commands.despawn(projectile);
    }
    let mut places = Vec::new();
    for fighter in &fighters {
        let at = spawn::place(&spawns, &mut rng, &places);
        places.push(at);
        commands.remove::<Dead>(fighter);
        commands.insert(fighter, (spawn::fresh_fighter(at, time.tick), Score::default()));
    }
}

/// When a fight is decided, its result becomes an effect: once, because the podium begins once.
pub fn conclude(
    config: Const<Config>,
    rounds: Res<Rounds>,
    players: Res<Players>,
    departed: Res<Departed>,
    began: EventReader<Began>,
    mut fighters: Query<(&mut Fighter, &Score)>,
    mut output: Output,
) {
    for began in began.read().filter(|began| began.phase == Phase::Podium) {
        let mut standings: Vec<Standing> = departed.iter().cloned().collect();
        for (mut fighter, score) in &mut fighters {
            fighter.ready = false;
            let player = fighter.player();
            let name = players.get(player).map_or_else(String::new, |player| player.name.clone());
            standings.push(Standing {
                player,
                name,
                kills: score.kills,
                deaths: score.deaths,
                left: false,
            });
        }
        let (winner, standings) = phases::rank(standings);
        let (map, round) = (config.map.clone(), rounds.begun);
        output.effect_json(
            "result",
            &Outcome {
                game: "arena",
                map,
                round,
                reason: began.reason.text(),
                ticks: began.after,
                winner,
                standings,
            },
        );
    }
}

/// Keeps the clock that snapshots show.
pub fn show_clock(
    time: Time,
    config: Const<Config>,
    phase: Res<State<Phase>>,
    mut clocks: Query<&mut Clock>,
) {
    let left = phases::remaining(phase.now(), phase.since(), &config, time.tick).unwrap_or(0);
    let seconds = left.div_ceil(u64::from(TICK_RATE)).min(u64::from(u16::MAX)) as u16;
    for mut clock in &mut clocks {
        clock.set_if_neq(Clock { phase: phase.now(), seconds });
    }
}
