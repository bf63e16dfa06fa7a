//! Events: what systems tell each other, and the removals that hooks wait for.
//!
//! A queue ([`crate::storage::queue`]) keeps events with the stamp of their sender. A reader gets
//! those that are newer than its own last run, so each system sees each event once, in the tick it
//! was sent in or in the next.

use std::cell::Ref;
use std::marker::PhantomData;

use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::queue::Queue;
use crate::storage::stamp::{Run, Stamp};
use crate::value::component::{Component, Event};
use crate::value::entity::Entity;

/// The events that were sent since this system last ran.
///
/// ```
/// use rekindle_sim::doc_game::{Collected, Duel, Score};
/// use rekindle_sim::{EventReader, Harness, IntoSystems as _, PlayerId, ResMut};
///
/// fn tally(collected: EventReader<Collected>, mut score: ResMut<Score>) {
///     for event in collected.read() {
///         score.total += u64::from(event.worth);
///     }
/// }
/// let system = tally.on_event::<Collected>();
///
/// // The game of this documentation has such a system.
/// let mut duel = Harness::<Duel>::new(7);
/// duel.world_mut().send(Collected { player: PlayerId(1), worth: 2 });
/// duel.tick();
/// duel.tick();
/// assert_eq!(duel.world().resource::<Score>().total, 2); // each event is seen once
/// ```
pub struct EventReader<'w, T> {
    events: Ref<'w, Vec<(Stamp, T)>>,
    from: usize,
}

impl<T> EventReader<'_, T> {
    /// In the order in which they were sent.
    pub fn read(&self) -> impl Iterator<Item = &T> {
        self.events[self.from..].iter().map(|(_, event)| event)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.events.len() - self.from
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Event> SystemParam for EventReader<'_, T> {
    type State = usize;
    type Item<'w> = EventReader<'w, T>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        let index = registry.event::<T>(access);
        access.read(Touched::Event(index), T::ID);
        access.events.insert(index);
        index
    }
    fn get<'w>(state: &'w usize, world: &'w World, run: &Run) -> Option<EventReader<'w, T>> {
        let events = world.queue::<T>(*state)?.events.try_borrow().ok()?;
        let from = events.partition_point(|(stamp, _)| *stamp <= run.last);
        Some(EventReader { events, from })
    }
}

/// Sends events.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Collected};
/// use rekindle_sim::{EventWriter, IntoSystems as _, PlayerId, Query};
///
/// fn tax(coins: Query<&Coin>, mut collected: EventWriter<Collected>) {
///     for coin in &coins {
///         collected.send(Collected { player: PlayerId(1), worth: coin.worth });
///     }
/// }
/// let system = tax.every(300);
/// ```
pub struct EventWriter<'w, T> {
    queue: &'w Queue<T>,
    stamp: Stamp,
}

impl<T: Event> EventWriter<'_, T> {
    /// Adds an event to the queue.
    pub fn send(&mut self, event: T) {
        self.queue.send(self.stamp, event);
    }
}

impl<T: Event> SystemParam for EventWriter<'_, T> {
    type State = usize;
    type Item<'w> = EventWriter<'w, T>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        let index = registry.event::<T>(access);
        access.append(Touched::Event(index), T::ID);
        index
    }
    fn get<'w>(state: &'w usize, world: &'w World, run: &Run) -> Option<EventWriter<'w, T>> {
        Some(EventWriter { queue: world.queue::<T>(*state)?, stamp: run.stamp })
    }
}

/// The entities that lost their `T` (by `remove` or by a despawn) since this system last ran.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Score};
/// use rekindle_sim::{IntoSystems as _, RemovedComponents, ResMut};
///
/// fn count(gone: RemovedComponents<Coin>, mut score: ResMut<Score>) {
///     score.total += gone.read().count() as u64;
/// }
/// let system = count.on_remove::<Coin>();
/// ```
pub struct RemovedComponents<'w, T> {
    removed: &'w [(Stamp, Entity)],
    of: PhantomData<T>,
}

impl<T> RemovedComponents<'_, T> {
    /// In the order in which they lost it. The entity may be gone.
    pub fn read(&self) -> impl Iterator<Item = Entity> {
        self.removed.iter().map(|(_, entity)| *entity)
    }
}

impl<T: Component> SystemParam for RemovedComponents<'_, T> {
    type State = usize;
    type Item<'w> = RemovedComponents<'w, T>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        let index = registry.presence::<T>(access);
        access.removals.insert(index);
        access.named.insert(Touched::Removed(index));
        index
    }
    fn get<'w>(state: &'w usize, world: &'w World, run: &Run) -> Option<RemovedComponents<'w, T>> {
        let removed = world.removed(*state);
        Some(RemovedComponents {
            removed: &removed[removed.partition_point(|(stamp, _)| *stamp <= run.last)..],
            of: PhantomData,
        })
    }
}
