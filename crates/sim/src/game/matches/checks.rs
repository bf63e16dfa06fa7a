//! What builds with debug assertions check at each checkpoint: that it comes back as the same
//! bytes, and that what changed leads to it. A check costs about as much as the checkpoint.

use std::sync::Arc;

use crate::ecs::world::World;
use crate::game::builder::Game;
use crate::game::matches::Match;
use crate::persist::checkpoint;
use crate::value::Reader;

impl<G: Game> Match<G> {
    /// Panics if `state`, which was just encoded, does not come back as the same bytes. A world
    /// that was edited outside of steps may hold values that are not in canonical form yet.
    pub(super) fn assert_restorable(&self, state: &[u8]) {
        if self.edits > 0 {
            return;
        }
        let world = &self.world;
        let restored = || {
            let head = checkpoint::decode_head(state)?;
            let mut input = Reader::new(head.body);
            let start = checkpoint::decode_start(&mut input, head.custom)?;
            let mut copy = World::new(
                Arc::clone(&world.registry),
                Arc::clone(&world.constants),
                world.last_runs.len(),
                start.seed,
                start.tick_rate,
            );
            copy.stand_at(start.tick);
            checkpoint::define_all(&mut copy, start.custom)?;
            let effects = checkpoint::decode_world(&mut copy, &mut input)?;
            input.finish().map_err(|error| error.to_string())?;
            if !copy.stamps_are_past() {
                return Err("it has changes that are newer than its tick".to_owned());
            }
            if !copy.has_sources(&world.sources_of_components())
                || !copy.has_sources(&world.sources)
            {
                return Err("its relations have another direction back".to_owned());
            }
            let mut again = Vec::with_capacity(state.len());
            checkpoint::encode_head(&copy, &head.game, head.schema, &mut again);
            checkpoint::encode_body(&copy, start.config, &effects, &mut again, None);
            Ok::<_, String>(again)
        };
        match restored() {
            Ok(again) => {
                let place = again.iter().zip(state).position(|(a, b)| a != b);
                assert!(
                    again == state,
                    "tick {}: the checkpoint comes back with other bytes, from byte {place:?} on",
                    world.tick
                );
            }
            Err(problem) => {
                panic!("tick {}: the checkpoint does not come back: {problem}", world.tick)
            }
        }
    }

    /// Panics if `operations`, carried out on `base`, do not make the bytes of a checkpoint of now.
    pub(super) fn assert_leads_here(&self, base: &[u8], operations: &[u8]) {
        let (_, state) = rekindle_schema::delta::seal(base, operations)
            .unwrap_or_else(|error| panic!("tick {}: {error}", self.world.tick));
        let mut now = Vec::with_capacity(state.len());
        checkpoint::encode_head(&self.world, G::NAME, &self.built.schema, &mut now);
        checkpoint::encode_body(&self.world, &self.config, &self.effects, &mut now, None);
        let place = now.iter().zip(&state).position(|(a, b)| a != b);
        assert!(
            now == state,
            "tick {}: what changed does not lead to the checkpoint, from byte {place:?} on",
            self.world.tick
        );
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::record::{Join, Step};

    use super::*;
    use crate::game::doc_game::{Coin, Duel, Position};
    use crate::storage::column::Column;
    use crate::{Entity, PlayerId, SessionId, Simulation as _, Tick, Typed};

    fn duel() -> Match<Duel> {
        let game = Typed::<Duel>::new().unwrap_or_else(|error| panic!("{error}"));
        game.create(b"", 7).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Breaks a world behind its back, as a bug would.
    fn coins(made: &mut Match<Duel>) -> &mut Column<Coin> {
        let index = made.world.registry.components.of::<Coin>().unwrap();
        made.world.columns[index].as_any_mut().downcast_mut().unwrap()
    }

    #[test]
    fn a_sound_world_comes_back_and_what_changed_leads_to_it() {
        let mut made = duel();
        let (base, marks) = made.capture();
        for tick in 1..=40 {
            made.step(&Step { tick: Tick(tick), ..Step::default() }).unwrap();
        }
        made.checkpoint();
        assert!(made.changes(&base, &marks, usize::MAX).is_some());
    }

    #[test]
    #[should_panic(expected = "the checkpoint does not come back: component `coin`")]
    fn a_component_without_an_entity_is_noticed() {
        let mut made = duel();
        let first = made.world.entities.in_slot(0);
        made.world.entities.free(first);
        made.checkpoint();
    }

    #[test]
    #[should_panic(expected = "it has changes that are newer than its tick")]
    fn a_stamp_of_tomorrow_is_noticed() {
        let mut made = duel();
        made.world.last_runs[0] = u32::MAX;
        made.checkpoint();
    }

    #[test]
    #[should_panic(expected = "what changed does not lead to the checkpoint")]
    fn a_change_without_a_stamp_is_noticed() {
        let mut made = duel();
        let (base, marks) = made.capture();
        if let Some((coin, _)) = coins(&mut made).get_mut(0) {
            coin.worth = 9;
        }
        made.changes(&base, &marks, usize::MAX);
    }

    #[test]
    #[should_panic(expected = "the base is a checkpoint of tick 0, its marks are of tick 3")]
    fn marks_of_another_checkpoint_are_noticed() {
        let mut made = duel();
        let (base, mut marks) = made.capture();
        for tick in 1..=4 {
            made.step(&Step { tick: Tick(tick), ..Step::default() }).unwrap();
        }
        marks.tick = Tick(3);
        made.changes(&base, &marks, usize::MAX);
    }

    #[test]
    fn a_step_that_is_not_in_order_stops_the_match() {
        let mut made = duel();
        let join = |player| Join {
            player: PlayerId(player),
            session: SessionId(player),
            name: String::new(),
        };
        let step = Step { tick: Tick(1), joins: vec![join(2), join(1)], ..Step::default() };
        let problem = made.step(&step).unwrap_err().to_string();
        assert!(problem.contains("the step of tick 1 is not in order"), "{problem}");
    }

    #[test]
    fn a_checkpoint_with_changes_of_tomorrow_is_refused() {
        let mut made = duel();
        made.world.get_mut::<Position>(Entity::from_parts(0, 0)).unwrap().x = 1.0;
        made.edits = 1;
        made.world.last_runs[0] = u32::MAX;
        let game = Typed::<Duel>::new().unwrap();
        let problem = game.restore(&made.checkpoint()).err().unwrap().to_string();
        assert!(problem.contains("newer than its tick 0"), "{problem}");
    }
}
