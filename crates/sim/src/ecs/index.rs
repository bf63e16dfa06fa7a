//! Indexes: from a key to the entities whose component has it.
//!
//! They follow from the components, so they are in no checkpoint: at each fixed point
//! ([`crate::ecs::settle`]) what was written since the last one is indexed anew. Between two fixed
//! points they are as they were at the first of them, whatever systems write meanwhile, like
//! [`Related`](crate::Related). A grid ([`crate::space`]) is kept up to date the same way.

mod keys;

use std::any::{Any, TypeId, type_name};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::RangeBounds;

pub use crate::ecs::index::keys::{Hashed, KeyMap, Ordered};
use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::column::{AnyColumn, Column, bits};
use crate::storage::entities::Entities;
use crate::storage::sorted::EntitySet;
use crate::storage::stamp::{self, Run, Stamp, StampOf};
use crate::value::component::Component;
use crate::value::entity::Entity;

/// Finds entities by what is in a component of theirs. Declared with
/// [`GameBuilder::index`](crate::GameBuilder::index), read as [`Indexed`].
///
/// ```
/// use rekindle_sim::doc_game::Coin;
/// use rekindle_sim::{Index, Indexed, IntoSystems as _, Ordered, Query, ResMut};
/// # use rekindle_sim::doc_game::Score;
///
/// struct ByWorth;
/// impl Index for ByWorth {
///     type Of = Coin;
///     type Key = u8;
///     type Map = Ordered<u8>; // `Hashed<u8>` if nobody asks for ranges
///     fn keys(coin: &Coin) -> impl IntoIterator<Item = u8> {
///         [coin.worth] // none, one or many
///     }
/// }
///
/// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
/// game.index::<ByWorth>();
/// # }
/// fn count_treasures(coins: Indexed<ByWorth>, all: Query<&Coin>, mut score: ResMut<Score>) {
///     let ones = all.iter_many(coins.of(&1)).count();
///     let more = coins.range(2..).count();
///     score.total += (ones + 10 * more) as u64;
/// }
/// let system = count_treasures.every(30);
/// ```
pub trait Index: Send + Sync + 'static {
    /// The component whose entities are found.
    type Of: Component;
    /// What they are found by.
    type Key: Clone + PartialEq + Send + Sync + 'static;
    /// How keys are looked up: [`Hashed`] or [`Ordered`].
    type Map: KeyMap<Self::Key>;
    /// The keys of a value; each names the entity once.
    fn keys(of: &Self::Of) -> impl IntoIterator<Item = Self::Key>;
}

/// Something that follows from one column and is kept up to date at fixed points.
pub(crate) trait Follower: Any + Send + Sync {
    fn as_any(&self) -> &dyn Any;
    /// Takes over what was written later than `since`, and what went; everything, the first time.
    fn follow(&mut self, column: &dyn AnyColumn, entities: &Entities, since: Stamp);
}

/// A follower as a game declared it.
pub(crate) struct FollowerType {
    /// What systems find it by.
    pub(crate) type_id: TypeId,
    pub(crate) make: Box<dyn Fn() -> Box<dyn Follower> + Send + Sync>,
    /// Its component.
    pub(crate) find: fn(&Registry, &mut Access) -> usize,
    /// Words for errors: what it is, and its type.
    pub(crate) name: String,
    pub(crate) column: usize,
}

impl FollowerType {
    /// An index.
    pub(crate) fn index<I: Index>() -> Self {
        Self {
            type_id: TypeId::of::<Held<I>>(),
            make: Box::new(|| Box::new(Held::<I>::default())),
            find: Registry::component::<I::Of>,
            name: format!("index `{}`", type_name::<I>()),
            column: usize::MAX,
        }
    }
}

/// An index of a world.
pub(crate) struct Held<I: Index> {
    map: I::Map,
    /// Of each slot: the entity that is indexed, and by which keys. Of others what was last.
    noted: Vec<(Entity, Vec<I::Key>)>,
    /// The slots that are indexed, as words of bits.
    slots: Vec<u64>,
}

impl<I: Index> Default for Held<I> {
    fn default() -> Self {
        Self { map: I::Map::default(), noted: Vec::new(), slots: Vec::new() }
    }
}

impl<I: Index> Held<I> {
    fn forget(&mut self, slot: usize) {
        if let Some((entity, keys)) = self.noted.get_mut(slot) {
            for key in keys.drain(..) {
                self.map.remove(&key, *entity);
            }
        }
    }

    /// Indexes an entity by what its component is now.
    fn note(&mut self, slot: usize, entity: Entity, value: &I::Of) {
        if slot >= self.noted.len() {
            self.noted.resize_with(slot + 1, || (Entity::NONE, Vec::new()));
        }
        let (known, keys) = &mut self.noted[slot];
        // Most of what is written keeps its keys.
        let mut before = keys.iter();
        let same = I::keys(value).into_iter().all(|key| before.next() == Some(&key));
        if same && before.next().is_none() && *known == entity {
            return;
        }
        self.forget(slot);
        let (known, keys) = &mut self.noted[slot];
        *known = entity;
        keys.extend(I::keys(value));
        for key in keys.iter() {
            self.map.add(key.clone(), entity);
        }
    }
}

impl<I: Index> Follower for Held<I> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn follow(&mut self, column: &dyn AnyColumn, entities: &Entities, since: Stamp) {
        let Some(column) = column.as_any().downcast_ref::<Column<I::Of>>() else { return };
        let pages = column.present().len().max(self.slots.len());
        self.slots.resize(pages, 0);
        for page in 0..pages {
            let (present, held) = (column.presence(page), self.slots[page]);
            let written = column.newer(page, since, StampOf::Change) | present & !held;
            for bit in bits(held & !present) {
                self.forget(page * 64 + bit);
            }
            for bit in bits(written) {
                let slot = page * 64 + bit;
                column.with(slot, |value| self.note(slot, entities.in_slot(slot), value));
            }
            self.slots[page] = present;
        }
    }
}

/// Reads an index: which entities have a key. As of the last fixed point: after `setup`, before the
/// systems of a tick, at the end of each stage. See [`Index`].
pub struct Indexed<'w, I: Index> {
    map: &'w I::Map,
}

impl<'w, I: Index> Indexed<'w, I> {
    /// The entities that the key names, ascending by slot.
    pub fn of(&self, key: &I::Key) -> impl DoubleEndedIterator<Item = Entity> + use<'w, I> {
        self.map.of(key).into_iter().flat_map(EntitySet::iter)
    }

    /// How many entities the key names.
    pub fn count(&self, key: &I::Key) -> usize {
        self.map.of(key).map_or(0, EntitySet::len)
    }

    /// Whether the key names this entity.
    pub fn has(&self, key: &I::Key, entity: Entity) -> bool {
        self.map.of(key).is_some_and(|entities| entities.contains(entity))
    }
}

impl<I: Index<Map = Ordered<<I as Index>::Key>>> Indexed<'_, I>
where
    I::Key: Ord,
{
    /// Keys in a range with the entities that they name: ascending by key, then by slot.
    pub fn range(
        &self,
        keys: impl RangeBounds<I::Key>,
    ) -> impl DoubleEndedIterator<Item = (&I::Key, Entity)> {
        let range = self.map.range(keys);
        range.flat_map(|(key, entities)| entities.iter().map(move |entity| (key, entity)))
    }
}

impl<I: Index> SystemParam for Indexed<'_, I> {
    type State = usize;
    type Item<'w> = Indexed<'w, I>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        registry.follower::<Held<I>>(access, || {
            format!(
                "index `{0}` is not declared: add `game.index::<{0}>()` in `Game::build`",
                type_name::<I>()
            )
        })
    }
    fn get<'w>(state: &'w usize, world: &'w World, _run: &Run) -> Option<Indexed<'w, I>> {
        Some(Indexed { map: &world.follower::<Held<I>>(*state)?.map })
    }
}

impl Registry {
    /// The place of a follower by its type; or the problem, if it was not declared.
    pub(crate) fn follower<F: Follower>(
        &self,
        access: &mut Access,
        problem: impl FnOnce() -> String,
    ) -> usize {
        let place = self.follower_of::<F>().unwrap_or_else(|| {
            access.errors.push(problem());
            usize::MAX
        });
        access.named.insert(Touched::Follower(place));
        place
    }

    fn follower_of<F: Follower>(&self) -> Option<usize> {
        self.followers.iter().position(|follower| follower.type_id == TypeId::of::<F>())
    }
}

impl World {
    /// The entities that a key names, ascending by slot, as things are now. For `setup`, `join`,
    /// `leave`, `command`, hooks and tests; systems have [`Indexed`].
    ///
    /// # Panics
    /// If the index is not declared.
    ///
    /// ```
    /// use rekindle_sim::{ByTag, Harness, Tags};
    /// # use rekindle_sim::{Game, GameBuilder, LeaveReason, PlayerId, World};
    /// # struct Tagged;
    /// # impl Game for Tagged {
    /// #     const NAME: &'static str = "tagged";
    /// #     type Config = ();
    /// #     type Input = ();
    /// #     type Command = ();
    /// #     type Bot = ();
    /// #     fn build(game: &mut GameBuilder<Self>) {
    /// #         game.tags();
    /// #     }
    /// #     fn max_players((): &()) -> usize { 1 }
    /// #     fn setup(_: &mut World, (): &()) {}
    /// #     fn join(_: &mut World, _: PlayerId) {}
    /// #     fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
    /// # }
    /// let mut game = Harness::<Tagged>::new(1); // a game whose `build` says `game.tags()`
    /// let world = game.world_mut();
    /// let boss = world.spawn(Tags::new(["boss", "flying"]));
    /// let bird = world.spawn(Tags::new(["flying"]));
    /// assert_eq!(world.find::<ByTag>(&"flying".to_owned()), [boss, bird]);
    /// assert_eq!(world.find::<ByTag>(&"boss".to_owned()), [boss]);
    /// ```
    pub fn find<I: Index>(&mut self, key: &I::Key) -> Vec<Entity> {
        let Some(place) = self.registry.follower_of::<Held<I>>() else {
            panic!(
                "index `{0}` is not declared: add `game.index::<{0}>()` in `Game::build`",
                type_name::<I>()
            );
        };
        self.follow_one(place);
        let held = self.follower::<Held<I>>(place);
        held.and_then(|held| held.map.of(key)).into_iter().flat_map(EntitySet::iter).collect()
    }

    /// The first entity that a key named at the last fixed point. It may be gone by now, or have
    /// another key.
    pub(crate) fn found_before<I: Index>(&self, key: &I::Key) -> Option<Entity> {
        let held = self.follower::<Held<I>>(self.registry.follower_of::<Held<I>>()?)?;
        held.map.of(key)?.iter().next()
    }

    pub(crate) fn follower<F: Follower>(&self, place: usize) -> Option<&F> {
        self.followers.get(place)?.as_any().downcast_ref()
    }

    /// As [`World::follower`], of its type, up to date; `None` if it was not declared.
    pub(crate) fn follower_now<F: Follower>(&mut self) -> Option<&F> {
        let place = self.registry.follower_of::<F>()?;
        self.follow_one(place);
        self.follower(place)
    }

    /// Takes over what was written since the last fixed point, that of its own stamp included: it
    /// may be written on.
    fn follow_one(&mut self, place: usize) {
        let (column, since) = (self.registry.followers[place].column, self.followed);
        let column = &*self.columns[column];
        self.followers[place].follow(column, &self.entities, since.saturating_sub(1));
    }

    /// Brings all indexes and grids up to date: a fixed point.
    pub(crate) fn follow(&mut self) {
        for place in 0..self.followers.len() {
            self.follow_one(place);
        }
        self.followed = self.now.stamp;
    }

    /// As [`World::follow`], at the start of a tick: the canonical form that values got at the end
    /// of the last one has no stamp of its own, so all that was written in it is taken over again.
    pub(crate) fn follow_begin(&mut self) {
        self.followed = self.followed.min(stamp::before(self.tick, 1));
        self.follow();
    }
}

/// Words that name an entity: many entities can have a word, an entity many words.
///
/// `game.tags()` registers it with its index [`ByTag`]. Where a tag is known when the game is
/// written, a component without fields and the filter `With` do the same and cost less.
#[derive(Debug, Clone, PartialEq, Eq, crate::Component)]
#[component(id = "rekindle.tags")]
pub struct Tags {
    /// Ascending, each once.
    names: Vec<String>,
}

impl Tags {
    /// These words.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        Self { names: names.into_iter().collect() }
    }

    /// Whether this word is among them.
    pub fn has(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Adds a word; whether it is new.
    pub fn add(&mut self, name: &str) -> bool {
        let place = self.place(name);
        if let Err(place) = place {
            self.names.insert(place, name.to_owned());
        }
        place.is_err()
    }

    /// Takes a word away; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let place = self.place(name);
        if let Ok(place) = place {
            self.names.remove(place);
        }
        place.is_ok()
    }

    /// The words, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|known| known.as_str().cmp(name))
    }
}

/// Entities by each of their [`Tags`].
pub struct ByTag(PhantomData<()>);

impl Index for ByTag {
    type Of = Tags;
    type Key = String;
    type Map = Hashed<String>;
    fn keys(tags: &Tags) -> impl IntoIterator<Item = String> {
        tags.names.clone()
    }
}

/// The group that an entity belongs to: a name that all of its members have. `game.groups()`
/// registers it with its index [`ByGroup`]; [`World::despawn_group`] ends a group.
#[derive(Debug, Clone, PartialEq, Eq, crate::Component)]
#[component(id = "rekindle.group")]
pub struct Group {
    /// The group's name.
    pub name: String,
}

impl Group {
    /// The group of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

/// Entities by their [`Group`].
pub struct ByGroup(PhantomData<()>);

impl Index for ByGroup {
    type Of = Group;
    type Key = String;
    type Map = Hashed<String>;
    fn keys(group: &Group) -> impl IntoIterator<Item = String> {
        [group.name.clone()]
    }
}

impl World {
    /// Ends all members of a group, ascending by slot; how many there were. A system asks for it
    /// through [`Commands::add`](crate::Commands::add).
    ///
    /// # Panics
    /// If the game does not declare `game.groups()`.
    pub fn despawn_group(&mut self, name: &str) -> usize {
        let members = self.find::<ByGroup>(&name.to_owned());
        members.iter().filter(|member| self.despawn(**member)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::doc_game::Coin;

    struct ByWorth;
    impl Index for ByWorth {
        type Of = Coin;
        type Key = u8;
        type Map = Ordered<u8>;
        fn keys(coin: &Coin) -> impl IntoIterator<Item = u8> {
            [coin.worth]
        }
    }

    #[test]
    fn an_index_follows_what_is_written_and_what_goes() {
        let (mut column, mut entities) = (Column::<Coin>::new(), Entities::default());
        let all: Vec<Entity> = (0..70).map(|_| entities.spawn()).collect();
        for entity in &all {
            column.insert(entity.slot() as usize, Coin { worth: entity.slot() as u8 % 3 }, 5);
        }
        let mut held = Held::<ByWorth>::default();
        held.follow(&column, &entities, 5);
        assert_eq!(held.map.of(&0).map(EntitySet::len), Some(24), "the first time takes all");
        column.insert(3, Coin { worth: 9 }, 6);
        column.take(66);
        held.follow(&column, &entities, 5);
        assert_eq!(held.map.of(&0).map(EntitySet::len), Some(22));
        assert_eq!(held.map.of(&9).map(|of| of.iter().collect()), Some(vec![all[3]]));
        column.take(3);
        held.follow(&column, &entities, 6);
        assert_eq!(held.map.of(&9), None, "a key that nobody has takes no room");
    }

    #[test]
    fn tags_are_kept_in_order_and_once() {
        let mut tags = Tags::new(["b", "a", "b"]);
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(tags.add("aa") && !tags.add("aa") && tags.remove("a") && !tags.remove("a"));
        assert_eq!((tags.has("aa"), tags.has("a")), (true, false));
    }
}
