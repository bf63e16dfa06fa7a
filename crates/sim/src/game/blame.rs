//! At which entity a system panics.
//!
//! A panic tells what the system was doing in words of the game, and not which entity it had come
//! to; to note that in each loop over a query would make all loops slower. So the step is made
//! again, from the state before it, with a [`QueryLimit`]: loops of the system see only the
//! entities in the first so many slots. The least number of slots with which the system still
//! panics in the same words names the entity, after log2 of all slots trials. The world that plays
//! pays nothing.
//!
//! Called for a step that failed: by [`Harness`](crate::Harness), and through
//! [`GameType::at_entity`](crate::GameType::at_entity) by those who report it.

use rekindle_schema::record::Step;

use crate::ecs::limit::{QueryLimit, at_entity};
use crate::game::builder::Game;
use crate::game::matches::Match;
use crate::game::simulation::{SimError, Simulation as _};
use crate::game::typed::Typed;
use crate::storage::column::PAGE;

impl<G: Game> Typed<G> {
    /// The error with which a step fails, with the entity at which it does, if that can be told;
    /// `checkpoint` is the state before the step.
    pub(crate) fn blame(&self, checkpoint: &[u8], step: &Step, error: SimError) -> SimError {
        let SimError::Panicked { system, tick, message } = &error else { return error };
        let Some(position) = self.position_of(system) else { return error };
        // A match whose system sees so many slots, after it failed in the same way.
        let fails = |slots: usize| -> Option<Match<G>> {
            let mut made = Self::restore(self, checkpoint).ok()?;
            made.world.query_limit = Some(Box::new(QueryLimit::new(position, slots)));
            (made.step(step).as_ref().err() == Some(&error)).then_some(made)
        };
        let Some(whole) = fails(usize::MAX) else { return error };
        // With none it does not fail, with all it does.
        let (mut none, mut all) = (0, whole.world.entities.words().len() * PAGE);
        if all == 0 || fails(none).is_some() {
            return error;
        }
        while all - none > 1 {
            let middle = none + (all - none) / 2;
            match fails(middle) {
                Some(_) => all = middle,
                None => none = middle,
            }
        }
        let entity = whole.world.entities.in_slot(all - 1);
        let message = at_entity(message, entity);
        SimError::Panicked { system: system.clone(), tick: *tick, message }
    }
}
