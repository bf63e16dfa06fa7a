//! The course of a match: fighters gather, one round is fought, it is over, and if the rules say so
//! the next one follows.

use rekindle_sim::{
    Const, Entity, Event, Machine, Output, PlayerId, Query, Resource, Time, Transitions, World,
};
use rekindle_zone::Circle;

use crate::{Fighter, Out, Rules, somewhere};

/// How long the winner is looked at, seconds.
const OVER_S: f32 = 4.0;

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Resource)]
#[resource(id = "royale.course")]
pub enum Course {
    /// Fighters come together; nobody can be struck, and the zone has no effect.
    Gathering,
    /// Until one is left.
    Fight,
    /// It is decided.
    Over,
}

/// Somebody is the last one standing: told to everybody, `rekindle events --type won` lists it.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "won")]
pub struct Won {
    /// Who; nobody if the last ones fell together.
    pub player: Option<PlayerId>,
}

/// The ways from one to another, and what happens on them.
pub(crate) fn declare(course: &mut Machine<Course>) {
    course
        .allow(Course::Gathering, Course::Fight)
        .allow(Course::Fight, Course::Over)
        .allow(Course::Over, Course::Gathering)
        .on_enter(Course::Fight, |world| world.resource_mut::<Circle>().begin())
        .on_exit(Course::Fight, |world| world.resource_mut::<Circle>().stop())
        .on_enter(Course::Gathering, raise_all);
}

/// Everybody begins anew, somewhere else.
fn raise_all(world: &mut World) {
    let fighters: Vec<(Entity, PlayerId)> = world.query::<(Entity, &Fighter), (), _>(|all| {
        all.iter().map(|(it, of)| (it, of.player)).collect()
    });
    let mut rng = world.rng(1);
    for (entity, player) in fighters {
        world.remove::<Out>(entity);
        world.insert(entity, (Fighter::fresh(player), somewhere(&mut rng)));
    }
}

/// Decides when what begins. The effect `result` leaves the node once for each round.
pub(crate) fn advance(
    time: Time,
    rules: Const<Rules>,
    mut course: Transitions<Course>,
    fighters: Query<(&Fighter, Option<&Out>)>,
    mut output: Output,
) {
    let lasted = time.tick.0.saturating_sub(course.since().0);
    let there = fighters.iter().count();
    let standing = fighters.iter().filter(|(fighter, out)| out.is_none() && fighter.health > 0);
    let left: Vec<PlayerId> = standing.map(|(fighter, _)| fighter.player).collect();
    let next = match course.now() {
        Course::Gathering if there >= 2 && lasted >= time.ticks(rules.gather_s.into()) => {
            Course::Fight
        }
        Course::Fight if left.len() <= 1 => {
            let won = Won { player: left.first().copied() };
            let winner = won.player.map(|player| player.0.to_string());
            let result = serde_json::json!({ "winner": winner, "ticks": lasted, "players": there });
            output.publish(&won);
            output.effect_json("result", &result);
            Course::Over
        }
        Course::Over if lasted >= time.ticks(OVER_S) && rules.rematch => Course::Gathering,
        Course::Over if lasted >= time.ticks(OVER_S) => return output.end_match("one is left"),
        _ => return,
    };
    course.go(next).expect("the ways are declared");
}
