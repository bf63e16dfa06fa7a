//! Inputs become intents.

use rekindle_sim::{Inputs, Past as _, Players, Query, Res, Time, Without, judged_by};

use crate::Arena;
use crate::components::{Aim, Dead, Intent, Trail};

/// Gives each fighter the newest input of its player. Fighters without one go on as before.
pub fn steer(
    inputs: Inputs<Arena>,
    players: Res<Players>,
    time: Time,
    mut fighters: Query<(&mut Intent, &mut Aim), Without<Dead>>,
) {
    for given in &inputs {
        let Some((mut intent, mut aim)) =
            players.avatar(given.player).and_then(|avatar| fighters.get_mut(avatar))
        else {
            continue;
        };
        let seen = judged_by(given.view_tick, time.tick, Trail::BACK);
        let behind = (time.tick.0 - seen.0) as u8;
        *intent = Intent {
            direction: given.input.direction(),
            fire: given.input.fire,
            behind,
            since: time.tick,
        };
        aim.set_if_neq(Aim { angle: given.input.angle(), firing: given.input.fire });
    }
}
