//! Relations between entities: components that name another entity.
//!
//! Forwards a relation is a component like any other. Backwards (which entities name this one?) the
//! world keeps [`Sources`] per relation. They follow from the components, so they are in no
//! checkpoint: [`World::relate_all`] makes them anew when a world is restored. An entity that is
//! gone has no sources, whether or not components still name it.
//!
//! Relations change by insertion, removal and despawns only, never in place, so that nobody sees
//! the two directions disagree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::{Sources, World};
use crate::storage::sorted::EntitySet;
use crate::storage::stamp::Run;
use crate::value::component::{Component, OnDespawn};
use crate::value::entity::Entity;

/// A relation backwards: which entities name an entity by their `T`.
///
/// The state is that of the start of the stage, like that of every component.
///
/// ```
/// use rekindle_sim::{Component, Entity, IntoSystems as _, Query, Related};
///
/// #[derive(Clone, Component)]
/// #[component(id = "carried-by", relation = "despawn")]
/// struct CarriedBy(Entity);
/// #[derive(Clone, Component)]
/// #[component(id = "weight")]
/// struct Weight { own: u32, carried: u32 }
///
/// /// Sums up what each entity carries, and what that carries.
/// fn load(carried: Related<CarriedBy>, mut weights: Query<(Entity, &mut Weight)>) {
///     let own: Vec<_> = weights.iter().map(|(entity, weight)| (entity, weight.own)).collect();
///     for (entity, _) in own {
///         let sum = carried.tree(entity).filter_map(|part| Some(weights.get(part)?.1.own)).sum();
///         if let Some((_, mut weight)) = weights.get_mut(entity) {
///             weight.carried = sum;
///         }
///     }
/// }
/// let system = load.every(10);
/// ```
pub struct Related<'w, T> {
    sources: Option<&'w Sources>,
    relation: PhantomData<T>,
}

impl<T> Related<'_, T> {
    /// The entities whose `T` names `target`, ascending by slot.
    pub fn of(&self, target: Entity) -> impl DoubleEndedIterator<Item = Entity> {
        let sources = self.sources.and_then(|sources| sources.get(&target));
        sources.into_iter().flat_map(EntitySet::iter)
    }

    /// How many entities name `target`.
    pub fn count(&self, target: Entity) -> usize {
        self.sources.and_then(|sources| sources.get(&target)).map_or(0, EntitySet::len)
    }

    /// The entities that name `target`, then those that name them, and so on: each once, without
    /// `target`.
    pub fn tree(&self, target: Entity) -> impl Iterator<Item = Entity> {
        let mut seen = BTreeSet::from([target]);
        let mut waiting: VecDeque<Entity> = self.of(target).collect();
        std::iter::from_fn(move || {
            loop {
                let next = waiting.pop_front()?;
                if seen.insert(next) {
                    waiting.extend(self.of(next));
                    return Some(next);
                }
            }
        })
    }
}

impl<T: Component> SystemParam for Related<'_, T> {
    type State = usize;
    type Item<'w> = Related<'w, T>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        if T::RELATION.is_none() {
            access.errors.push(format!(
                "`Related` asks for `{0}`, which is no relation: add `relation = \"keep\"` (or \
                 `\"remove\"`, `\"despawn\"`) to its `#[component(…)]`",
                T::ID
            ));
        }
        let index = registry.presence::<T>(access);
        access.reads::<T>(index);
        access.named.insert(Touched::Related(index));
        index
    }
    fn get<'w>(state: &'w usize, world: &'w World, _run: &Run) -> Option<Related<'w, T>> {
        Some(Related { sources: world.sources.get(state), relation: PhantomData })
    }
}

impl World {
    /// The entities whose `T` names `target`, ascending by slot.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Duel, HeldBy};
    /// use rekindle_sim::Harness;
    ///
    /// let mut duel = Harness::<Duel>::with_config(7, r#"{"coins": 0}"#);
    /// let world = duel.world_mut();
    /// let purse = world.spawn(());
    /// let coins = [1, 2].map(|worth| world.spawn((Coin { worth }, HeldBy(purse))));
    /// assert_eq!(world.related::<HeldBy>(purse).collect::<Vec<_>>(), coins);
    /// // `relation = "despawn"`: who held them is gone, and so are they.
    /// world.despawn(purse);
    /// assert!(world.is_empty());
    /// ```
    pub fn related<T: Component>(&self, target: Entity) -> impl Iterator<Item = Entity> {
        let index = self.registry.components.of::<T>();
        let sources = index.and_then(|index| self.sources.get(&index)?.get(&target));
        sources.into_iter().flat_map(EntitySet::iter)
    }

    /// Notes that `source` names `target` by the relation with this index, which it is about to
    /// get. Whether it may have it.
    pub(crate) fn relate(&mut self, source: Entity, target: Entity, index: usize) -> bool {
        self.unrelate(source, index);
        let Some(&policy) = self.registry.relations.get(&index) else { return true };
        if self.entities.contains(target) {
            let spare = &mut self.spare_sources;
            let sources = self.sources.entry(index).or_default();
            let of_target = sources.get_or_insert_with(target, || spare.pop().unwrap_or_default());
            of_target.insert(source);
        } else if target != Entity::NONE {
            match policy {
                OnDespawn::Despawn => self.orphans.push(source),
                OnDespawn::Remove => return false,
                OnDespawn::Keep => {}
            }
        }
        true
    }

    /// Forgets whom `source` names by the relation with this index, which it is about to lose.
    pub(crate) fn unrelate(&mut self, source: Entity, index: usize) {
        let Some(sources) = self.sources.get_mut(&index) else { return };
        let Some(target) = self.columns[index].target(source.slot() as usize) else { return };
        if let Some(of_target) = sources.get_mut(&target) {
            of_target.remove(source);
            if of_target.is_empty() {
                self.spare_sources.extend(sources.remove(&target));
            }
        }
    }

    /// Does what relations say about the end of `first`: entities that name it end too, or lose
    /// the relation; then those that name them. In the order of the relations' ids, then ascending
    /// by slot.
    pub(crate) fn cascade(&mut self, first: Entity) {
        let registry = Arc::clone(&self.registry);
        let mut ended = std::mem::take(&mut self.ended);
        ended.push(first);
        let mut next = 0;
        while let Some(&target) = ended.get(next) {
            next += 1;
            for (&index, policy) in &registry.relations {
                let sources = self.sources.get_mut(&index).and_then(|all| all.remove(&target));
                let Some(mut sources) = sources else { continue };
                for source in sources.iter() {
                    match policy {
                        OnDespawn::Despawn if self.end(source) => ended.push(source),
                        OnDespawn::Remove => {
                            self.remove_index(source, index);
                        }
                        OnDespawn::Despawn | OnDespawn::Keep => {}
                    }
                }
                sources.clear();
                self.spare_sources.push(sources);
            }
        }
        ended.clear();
        self.ended = ended;
    }

    /// Ends the entities that got a relation to an entity that was gone already.
    pub(crate) fn end_orphans(&mut self) {
        while let Some(orphan) = self.orphans.pop() {
            self.despawn(orphan);
        }
    }

    /// What [`World::sources`] holds, made anew from the components.
    pub(crate) fn sources_of_components(&self) -> BTreeMap<usize, Sources> {
        let mut all: BTreeMap<usize, Sources> = BTreeMap::new();
        for &index in self.registry.relations.keys() {
            let column = &self.columns[index];
            for slot in crate::storage::column::slots(column.present()) {
                if let Some(target) = column.target(slot)
                    && self.entities.contains(target)
                {
                    let source = self.entities.in_slot(slot);
                    let sources = all.entry(index).or_default();
                    sources.get_or_insert_with(target, EntitySet::default).insert(source);
                }
            }
        }
        all
    }

    /// Whether its relations backwards are these. A relation that nobody has need not be there.
    #[cfg(debug_assertions)]
    pub(crate) fn has_sources(&self, others: &BTreeMap<usize, Sources>) -> bool {
        fn used(all: &BTreeMap<usize, Sources>) -> impl Iterator<Item = (&usize, &Sources)> {
            all.iter().filter(|(_, sources)| !sources.is_empty())
        }
        used(&self.sources).eq(used(others))
    }

    /// Makes the other direction of all relations anew: the world was just decoded.
    pub(crate) fn relate_all(&mut self) {
        self.sources = self.sources_of_components();
    }
}
