//! Fixed points of a tick: what was done is completed before the next systems see it.
//!
//! There is one after `setup`, one before the systems of a tick, and one at the end of each stage.
//! At each, in this order:
//!
//! 1. Values that are not accepted are undone ([`crate::ecs::validation`]); not before the systems
//!    of a tick, whose first stage does it.
//! 2. State machines make the transitions that were asked for ([`crate::ecs::states`]); before the
//!    systems of a tick, those of timeouts too.
//! 3. Hooks run ([`crate::ecs::hooks`]), and what they wrote is checked as 1. 2 and 3
//!    again, until nothing is left to do.
//! 4. Indexes and grids take over what was written ([`crate::ecs::index`]).
//!
//! A game that declares none of it pays looks at empty lists.

use crate::ecs::hooks::ROUNDS;
use crate::ecs::world::World;

impl World {
    /// Completes what was done since the last fixed point. `system` names the system with a place
    /// in the tick; `running` is told the place of each hook before it starts.
    pub(crate) fn settle<'n>(
        &mut self,
        system: impl Fn(u32) -> Option<&'n str>,
        running: &dyn Fn(usize),
    ) {
        self.validate(&system);
        self.react(running, |world| {
            // What hooks wrote has the stamp of this fixed point, up to which all was checked.
            world.checked = world.checked.min(world.now.stamp.saturating_sub(1));
            world.validate(&system);
        });
        self.follow();
    }

    /// The fixed point before the systems of a tick.
    pub(crate) fn settle_begin(&mut self, running: &dyn Fn(usize)) {
        self.time_out();
        self.react(running, |_| {});
        self.follow_begin();
    }

    /// Lets machines move and hooks run until nothing is left to do; `check` looks at what they
    /// wrote.
    ///
    /// # Panics
    /// If they set each other off without end.
    fn react(&mut self, running: &dyn Fn(usize), check: impl Fn(&mut Self)) {
        if self.registry.hooks.is_empty() && self.registry.machines.is_empty() {
            return;
        }
        for _ in 0..ROUNDS {
            let moved = self.carry_out(running);
            let ran = self.run_hooks(running);
            if !moved && !ran {
                self.moved = self.now.stamp;
                return;
            }
            check(self);
        }
        panic!(
            "hooks and states set each other off for more than {ROUNDS} rounds at one fixed point"
        );
    }
}
