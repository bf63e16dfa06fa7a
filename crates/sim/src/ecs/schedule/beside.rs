//! Systems side by side: those that say so ([`IntoSystems::side_by_side`]) run on several threads,
//! if the match has some, and what comes of the tick is what one thread makes of it.
//!
//! A *batch* are such systems next to each other in the order, of one stage, of which none changes
//! what another one looks at. Each gets a world of its own, a *lane*, with just the columns,
//! resources and queues that it names: what it changes, or is the last to look at, is moved there
//! and back; the others that look at it have copies. So no thread sees what another one has, and
//! the compiler proves it. What the systems asked for (commands, events for players, effects) is
//! brought together in the order of the schedule, whoever was done first.
//!
//! Batches are made when the game is built ([`batches`]) and run by [`Schedule::run`], but not
//! while a step is measured: then systems run one after the other, so that each has its own time.
//!
//! [`IntoSystems::side_by_side`]: crate::IntoSystems::side_by_side
//! [`Schedule::run`]: crate::ecs::schedule::Schedule::run

use std::any::Any;
use std::collections::BTreeMap;
use std::mem::swap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ecs::registry::{Access, Touched};
use crate::ecs::schedule::Placed;
use crate::ecs::workers::Workers;
use crate::ecs::world::World;
use crate::storage::stamp::Run;

/// Systems that can run side by side: places in the order, one after the other.
pub(crate) struct Batch {
    pub(crate) from: usize,
    /// What each of them gets.
    lanes: Vec<Needs>,
}

/// What a system of a batch gets.
struct Needs {
    /// No other one of the batch has it, or the others have copies.
    moved: Vec<Touched>,
    /// Another one of the batch gets the thing itself.
    copied: Vec<Touched>,
}

impl Batch {
    /// The place behind its last system.
    pub(crate) fn to(&self) -> usize {
        self.from + self.lanes.len()
    }
}

/// Whether two systems can run at the same time: neither changes what the other one looks at, they
/// append to different queues, and what both look at can be copied.
fn apart(a: &Access, b: &Access) -> bool {
    let one_way = |a: &Access, b: &Access| {
        a.writes.keys().chain(a.appends.keys()).all(|changed| !b.named.contains(changed))
    };
    one_way(a, b)
        && one_way(b, a)
        && a.named.intersection(&b.named).all(|what| what.can_be_copied())
}

/// The batches of systems in their order, of those that `may` be in one; each has two at least.
pub(super) fn batches(systems: &[Placed], may: impl Fn(&Placed) -> bool) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut from = 0;
    while from < systems.len() {
        let first = &systems[from];
        let mut to = from + 1;
        while may(first)
            && let Some(next) = systems.get(to)
            && may(next)
            && next.stage == first.stage
            && systems[from..to].iter().all(|other| apart(&other.access, &next.access))
        {
            to += 1;
        }
        if to - from > 1 {
            batches.push(Batch { from, lanes: needs(&systems[from..to]) });
        }
        from = to;
    }
    batches
}

/// What each of these systems gets. Of those that look at the same thing, the last has it itself;
/// presence is never moved, since another one may have the column that it is of.
fn needs(systems: &[Placed]) -> Vec<Needs> {
    let mut last: BTreeMap<Touched, usize> = BTreeMap::new();
    for (lane, system) in systems.iter().enumerate() {
        last.extend(system.access.named.iter().map(|what| (*what, lane)));
    }
    let of = |(lane, system): (usize, &Placed)| {
        let named = system.access.named.iter().copied();
        let (moved, copied) = named.partition(|what| {
            last.get(what) == Some(&lane) && !matches!(what, Touched::Presence(_))
        });
        Needs { moved, copied }
    };
    systems.iter().enumerate().map(of).collect()
}

/// A system on its way, with its world.
struct Lane<'s> {
    system: &'s Placed,
    run: Run,
    world: World,
    /// What it panicked with.
    failed: Option<Box<dyn Any + Send>>,
}

/// Runs those systems of a batch that are due, each given with its place and its run, on this
/// thread and on others. `running` is told the place of one that runs, as they begin and end.
///
/// # Panics
/// If a system does: with the panic of the first such in the order, after `running` was told of it.
pub(super) fn run(
    world: &mut World,
    batch: &Batch,
    systems: &[Placed],
    due: &[(usize, Run)],
    workers: &dyn Workers,
    running: &(dyn Fn(usize) + Sync),
) {
    let needs = |place: usize| &batch.lanes[place - batch.from];
    let mut worlds = std::mem::take(&mut world.lanes);
    while worlds.len() < due.len() {
        worlds.push(world.lane());
    }
    for ((place, _), lane) in due.iter().zip(&mut worlds) {
        world.copy_to(lane, needs(*place));
    }
    for ((place, _), lane) in due.iter().zip(&mut worlds) {
        world.swap_with(lane, needs(*place));
    }
    let spare = worlds.split_off(due.len());
    let lane = |((place, run), world): (&(usize, Run), World)| {
        Mutex::new(Lane { system: &systems[*place], run: *run, world, failed: None })
    };
    let lanes: Vec<Mutex<Lane<'_>>> = due.iter().zip(worlds).map(lane).collect();
    run_lanes(&lanes, due, workers, running);
    let mut failed = None;
    for (lane, (place, _)) in lanes.into_iter().zip(due) {
        let mut lane = lane.into_inner().unwrap_or_else(PoisonError::into_inner);
        world.swap_with(&mut lane.world, needs(*place));
        world.outbox.get_mut().append(lane.world.outbox.get_mut());
        world.lanes.push(lane.world);
        failed = failed.or_else(|| Some((*place, lane.failed?)));
    }
    world.lanes.extend(spare);
    if let Some((place, panic)) = failed {
        running(place);
        resume_unwind(panic);
    }
}

/// Runs the systems on this thread and on others; each takes the next when it is done with one.
fn run_lanes(
    lanes: &[Mutex<Lane<'_>>],
    due: &[(usize, Run)],
    workers: &dyn Workers,
    running: &(dyn Fn(usize) + Sync),
) {
    let next = AtomicUsize::new(0);
    workers.everywhere(&|| {
        loop {
            let taken = next.fetch_add(1, Ordering::Relaxed);
            let Some((lane, (place, _))) = lanes.get(taken).zip(due.get(taken)) else { return };
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            running(*place);
            let Lane { system, run, world, .. } = &*lane;
            let done = catch_unwind(AssertUnwindSafe(|| system.system.run(world, run)));
            lane.failed = done.err();
            drop(lane);
            // A lane that is locked is one whose system still runs.
            let runs = lanes.iter().zip(due).find(|(lane, _)| lane.try_lock().is_err());
            if let Some((_, (place, _))) = runs {
                running(*place);
            }
        }
    });
}

impl World {
    /// An empty world of the same game and match, for a system of a batch.
    fn lane(&self) -> Self {
        let (registry, constants) = (Arc::clone(&self.registry), Arc::clone(&self.constants));
        Self::new(registry, constants, 0, self.seed, self.tick_rate)
    }

    /// Gives a lane its time, the entities, what data defines, and copies of what others have.
    fn copy_to(&self, lane: &mut Self, needs: &Needs) {
        (lane.tick, lane.now) = (self.tick, self.now);
        lane.custom.clone_from(&self.custom);
        if !needs.moved.contains(&Touched::Commands) {
            lane.entities.copy_from(&self.entities);
        }
        for what in &needs.copied {
            match *what {
                Touched::Component(index) => lane.columns[index].copy_from(&*self.columns[index]),
                Touched::Presence(index) => {
                    lane.columns[index].copy_presence_from(&*self.columns[index]);
                }
                Touched::Resource(index) => {
                    lane.resources[index].copy_from(&*self.resources[index]);
                }
                Touched::Event(index) => lane.events[index].copy_from(&*self.events[index]),
                _ => unreachable!("{what:?} cannot be copied: only one of a batch names it"),
            }
        }
    }

    /// Moves to a lane what is only there; called again, moves it back.
    fn swap_with(&mut self, lane: &mut Self, needs: &Needs) {
        for what in &needs.moved {
            match *what {
                Touched::Component(index) => {
                    swap(&mut self.columns[index], &mut lane.columns[index]);
                }
                Touched::Resource(index) => {
                    swap(&mut self.resources[index], &mut lane.resources[index]);
                }
                Touched::Event(index) => swap(&mut self.events[index], &mut lane.events[index]),
                Touched::Follower(index) => {
                    swap(&mut self.followers[index], &mut lane.followers[index]);
                }
                Touched::Removed(index) => {
                    swap(&mut self.removed[index], &mut lane.removed[index]);
                }
                Touched::Related(index) => {
                    let (mine, its) = (self.sources.remove(&index), lane.sources.remove(&index));
                    self.sources.extend(its.map(|its| (index, its)));
                    lane.sources.extend(mine.map(|mine| (index, mine)));
                }
                Touched::Custom => {
                    let first = self.registry.components.list.len();
                    let mine = self.columns.split_off(first);
                    self.columns.extend(lane.columns.drain(first..));
                    lane.columns.extend(mine);
                }
                Touched::Inputs => swap(&mut self.inputs, &mut lane.inputs),
                Touched::Commands => {
                    swap(&mut self.entities, &mut lane.entities);
                    swap(&mut self.commands, &mut lane.commands);
                }
                Touched::Presence(_) => unreachable!("presence is copied"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::Tick;

    use super::*;
    use crate::ecs::rng::Rng;
    use crate::ecs::schedule::declare::Stage;
    use crate::ecs::system::System;

    struct Nothing;
    impl System for Nothing {
        fn run(&self, _: &World, _: &Run) {}
    }

    /// What a system by chance does with a thing.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Does {
        Nothing,
        Looks,
        Changes,
    }

    const THINGS: [Touched; 8] = [
        Touched::Component(0),
        Touched::Component(1),
        Touched::Component(2),
        Touched::Resource(0),
        Touched::Event(0),
        Touched::Inputs,
        Touched::Commands,
        Touched::Follower(0),
    ];

    fn drawn(rng: &mut Rng) -> [Does; THINGS.len()] {
        THINGS.map(|what| match (rng.below(8), what.can_be_copied()) {
            (0, true) => Does::Changes,
            (1 | 2, true) | (1, false) => Does::Looks,
            _ => Does::Nothing,
        })
    }

    fn placed(does: &[Does], stage: Stage, side_by_side: bool) -> Placed {
        let mut access = Access::default();
        for (what, does) in THINGS.into_iter().zip(does) {
            match (does, what) {
                (Does::Nothing, _) => continue,
                (Does::Looks, _) => {}
                (Does::Changes, Touched::Event(_)) => access.append(what, "x"),
                (Does::Changes, _) => access.write(what, "x"),
            }
            access.named.insert(what);
        }
        Placed {
            name: String::new(),
            stage,
            system: Box::new(Nothing),
            access,
            after: Vec::new(),
            before: Vec::new(),
            priority: 0,
            every: 1,
            triggers: Vec::new(),
            conditions: Vec::new(),
            budget: None,
            side_by_side,
            stream: 0,
            position: 0,
        }
    }

    /// Whether two such systems need the same thing in a way that only one of them can have it.
    fn clash(a: &[Does], b: &[Does]) -> bool {
        let both = THINGS.iter().zip(a.iter().zip(b));
        both.into_iter().any(|(what, (a, b))| {
            *a != Does::Nothing
                && *b != Does::Nothing
                && (*a == Does::Changes || *b == Does::Changes || !what.can_be_copied())
        })
    }

    #[test]
    fn batches_of_schedules_by_chance_hold_all_neighbours_that_do_not_clash_and_no_others() {
        let mut rng = Rng::stream(7, Tick(0), 0);
        let (mut all, mut longest) = (0, 0);
        for _ in 0..500 {
            let does: Vec<_> = (0..12).map(|_| drawn(&mut rng)).collect();
            let says: Vec<bool> = (0..12).map(|_| !rng.one_in(6)).collect();
            let stage = |place| if place < 7 { Stage::Update } else { Stage::Last };
            let systems: Vec<_> =
                (0..12).map(|place| placed(&does[place], stage(place), says[place])).collect();
            let batches = batches(&systems, |system| system.side_by_side);
            let mut behind = 0;
            for batch in &batches {
                let (from, to) = (batch.from, batch.to());
                assert!(behind <= from && from + 1 < to && to <= 12);
                let free = |a: usize, b: usize| {
                    says[a] && says[b] && stage(a) == stage(b) && !clash(&does[a], &does[b])
                };
                assert!((from..to).all(|b| (from..b).all(|a| free(a, b))), "{does:?}");
                // The next one has a reason not to be in it, and those before it have one not to
                // be with each other.
                assert!(to == 12 || (from..to).any(|a| !free(a, to)), "{does:?}");
                assert!((behind + 1..=from).all(|b| !free(b - 1, b)), "{does:?}");
                check_needs(batch, &does);
                (behind, all, longest) = (to, all + 1, longest.max(to - from));
            }
        }
        assert!(all > 300 && longest > 3, "{all} batches, of {longest} systems at most");
    }

    /// Each thing is moved to one lane, to that of the system that changes it if one does; the
    /// others that look at it have copies.
    fn check_needs(batch: &Batch, does: &[[Does; THINGS.len()]]) {
        for (thing, what) in THINGS.iter().enumerate() {
            let lanes = batch.lanes.iter().zip(&does[batch.from..]);
            let (mut moved, mut users) = (0, 0);
            for (needs, does) in lanes {
                let has = needs.moved.contains(what);
                let uses = does[thing] != Does::Nothing;
                assert_eq!(has || needs.copied.contains(what), uses);
                assert!(has || does[thing] != Does::Changes);
                (moved, users) = (moved + usize::from(has), users + usize::from(uses));
            }
            assert_eq!(moved, usize::from(users > 0));
        }
    }
}
