//! Statistics: how many events of a kind there were, and what their values come to, of the whole
//! match and of each player, since its beginning and within a window of the last ticks.
//!
//! At the end of each tick, behind all systems, the engine takes the events that were sent in that
//! tick ([`World::count_events`]). What it keeps is a resource of the world, so it stands in
//! checkpoints and hashes, and a match that goes on elsewhere goes on counting. A window consists
//! of at most [`BUCKETS`] buckets, so its memory does not grow with its length, and a tick
//! allocates nothing once each player has had an event.

use std::any::TypeId;
use std::cell::Ref;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use rekindle_schema::{PlayerId, Tick};
use serde::Serialize;

use crate::ecs::registry::{Access, Registry, Touched};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::storage::stamp::{Run, stamp};
use crate::value::component::{Event, Stored as _};
use crate::value::shape::Shape;
use crate::value::{DecodeError, Reader, Value};

/// Most buckets of a window.
const BUCKETS: u64 = 60;
/// Longest window, in ticks: a year at 60 a second.
const LONGEST: u64 = 60 * 60 * 60 * 24 * 366;
/// Of most players a statistic is kept; then the one without events for the longest time goes.
const MOST_PLAYERS: usize = 1024;

/// What is counted of events of one type. Declared with
/// [`GameBuilder::statistic`](crate::GameBuilder::statistic), read by systems as [`Stats`], by
/// operators with `rekindle match stats`.
///
/// ```
/// use rekindle_sim::doc_game::{Collected, Duel, Score};
/// use rekindle_sim::{GameBuilder, IntoSystems as _, PlayerId, ResMut, Statistic, Stats};
///
/// /// What players have collected.
/// struct Collections;
///
/// impl Statistic for Collections {
///     const NAME: &'static str = "collections";
///     const WINDOW: Option<u64> = Some(30 * 60); // and that of the last minute
///     type Of = Collected;
///     fn value(event: &Collected) -> i64 {
///         event.worth.into() // left out, each event counts 1
///     }
///     fn player(event: &Collected) -> Option<PlayerId> {
///         Some(event.player) // left out, it is of the whole match alone
///     }
/// }
///
/// # fn build(game: &mut GameBuilder<Duel>) {
/// game.statistic::<Collections>();
/// # }
/// fn reward(collections: Stats<Collections>, mut score: ResMut<Score>) {
///     for (player, total) in collections.players() {
///         if total.sum >= 100 && collections.recent_of(player).max == 3 {
///             score.total += 1;
///         }
///     }
/// }
/// let system = reward.every(30);
/// ```
pub trait Statistic: Send + Sync + 'static {
    /// The name for operators, and in checkpoints: `a-z`, `0-9`, `-`, `_` and `.`.
    const NAME: &'static str;
    /// How many of the last ticks are summed up as well; none if only the whole match counts.
    ///
    /// Up to 60 ticks the window is exact. A longer one forgets in steps of a sixtieth of it
    /// (rounded up): it covers at least all but one such step of the ticks that it has.
    const WINDOW: Option<u64> = None;
    /// The event, which systems send with [`EventWriter`](crate::EventWriter).
    type Of: Event;

    /// The value of an event, for sums, least and greatest. For a fraction, in a smaller unit:
    /// integers are the same in whatever order they are added.
    fn value(event: &Self::Of) -> i64 {
        let _ = event;
        1
    }

    /// The player for whom it counts as well.
    fn player(event: &Self::Of) -> Option<PlayerId> {
        let _ = event;
        None
    }
}

/// How many ticks a bucket of a window has, and how many buckets the window has.
const fn buckets(window: u64) -> (u64, u64) {
    let window = if window == 0 { 1 } else { window };
    let step = window.div_ceil(BUCKETS);
    (step, window.div_ceil(step))
}

/// What a number of events come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, rekindle_derive::Value)]
pub struct Tally {
    /// How many there were.
    pub count: u64,
    /// The sum of their values. It stops at the limits of its type.
    pub sum: i64,
    /// The least value; 0 if there was no event.
    pub min: i64,
    /// The greatest value; 0 if there was no event.
    pub max: i64,
}

impl Tally {
    /// The mean of the values; none if there was no event. For display: systems keep to integers.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    fn add(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        let first = self.count == 0;
        self.min = if first { other.min } else { self.min.min(other.min) };
        self.max = if first { other.max } else { self.max.max(other.max) };
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// The events of some ticks in a row.
#[derive(Debug, Clone, rekindle_derive::Value)]
struct Bucket {
    /// Its ticks, divided by their number in a bucket.
    number: u64,
    tally: Tally,
}

/// The events of the match, or of a player.
#[derive(Debug, Clone, rekindle_derive::Value)]
struct Series {
    total: Tally,
    /// The tick of the newest one.
    newest: Tick,
    /// Buckets of the window that have events, ascending.
    recent: Vec<Bucket>,
}

impl Series {
    fn take(&mut self, tick: Tick, bucket: Option<u64>, tally: Tally) {
        self.total.add(tally);
        self.newest = tick;
        match (bucket, self.recent.last_mut()) {
            (None, _) => {}
            (Some(number), Some(last)) if last.number == number => last.tally.add(tally),
            (Some(number), _) => self.recent.push(Bucket { number, tally }),
        }
    }

    fn sum_of_recent(&self) -> Tally {
        let mut sum = Tally::default();
        self.recent.iter().for_each(|bucket| sum.add(bucket.tally));
        sum
    }
}

/// What is kept of a statistic.
#[derive(Debug, Clone, rekindle_derive::Value)]
struct Book {
    /// Ticks of a bucket; 0 without a window. Another build may have had others.
    step: u64,
    whole: Series,
    players: BTreeMap<PlayerId, Series>,
    /// How many players were left out, because there were others without end.
    forgotten: u64,
}

impl Book {
    fn of_player(&mut self, player: PlayerId) -> &mut Series {
        if self.players.len() >= MOST_PLAYERS && !self.players.contains_key(&player) {
            let oldest = self.players.iter().min_by_key(|(id, series)| (series.newest, **id));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.players.remove(&oldest);
                self.forgotten += 1;
            }
        }
        self.players.entry(player).or_insert_with(Series::initial)
    }

    /// Drops buckets up to the one with this number; whether there were any.
    fn forget(&mut self, up_to: Option<u64>) -> bool {
        let mut dropped = false;
        for series in self.players.values_mut().chain([&mut self.whole]) {
            let before = series.recent.len();
            series.recent.retain(|bucket| up_to.is_some_and(|up_to| bucket.number > up_to));
            dropped |= series.recent.len() < before;
        }
        dropped
    }
}

/// What is kept of a statistic, as the resource that it is.
pub(crate) struct Kept<S>(Book, PhantomData<fn() -> S>);

impl<S> Clone for Kept<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<S: Statistic> Kept<S> {
    const STEP: u64 = match S::WINDOW {
        Some(window) => buckets(window).0,
        None => 0,
    };

    /// The bucket of a tick.
    fn bucket(tick: Tick) -> Option<u64> {
        tick.0.checked_div(Self::STEP)
    }

    /// The newest bucket that is not in the window that ends with a tick, if there is one.
    fn past(tick: Tick) -> Option<u64> {
        Self::bucket(tick)?.checked_sub(buckets(S::WINDOW?).1)
    }

    /// Takes the events of a tick; whether anything changed.
    fn take<'e>(&mut self, tick: Tick, events: impl Iterator<Item = &'e S::Of>) -> bool {
        let book = &mut self.0;
        let mut changed = false;
        if book.step != Self::STEP {
            // Another build had another window: what its buckets say belongs to no tick of ours.
            book.forget(None);
            book.step = Self::STEP;
            changed = true;
        }
        if Self::STEP > 0 && tick.0.is_multiple_of(Self::STEP) {
            changed |= Self::past(tick).is_some_and(|past| book.forget(Some(past)));
        }
        for event in events {
            let value = S::value(event);
            let tally = Tally { count: 1, sum: value, min: value, max: value };
            book.whole.take(tick, Self::bucket(tick), tally);
            if let Some(player) = S::player(event) {
                book.of_player(player).take(tick, Self::bucket(tick), tally);
            }
            changed = true;
        }
        changed
    }

    fn recent(&self, series: &Series) -> Tally {
        if self.0.step == Self::STEP { series.sum_of_recent() } else { Tally::default() }
    }
}

impl<S: Statistic> Value for Kept<S> {
    const MIN_SIZE: usize = Book::MIN_SIZE;
    fn initial() -> Self {
        Self(Book { step: Self::STEP, ..Book::initial() }, PhantomData)
    }
    fn shape() -> Shape {
        Book::shape()
    }
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Book::decode(input)?, PhantomData))
    }
}

/// A declared statistic.
pub(crate) struct StatisticType {
    pub(crate) type_id: TypeId,
    /// Resource and queue, once all are registered.
    places: (usize, usize),
    find: fn(&Registry) -> (usize, usize),
    take: fn(&World, (usize, usize)),
    view: fn(&World, usize) -> Option<StatisticView>,
}

impl StatisticType {
    pub(crate) fn of<S: Statistic>() -> Self {
        Self {
            type_id: TypeId::of::<S>(),
            places: (usize::MAX, usize::MAX),
            find: |registry| {
                let (kept, of) =
                    (registry.resources.of::<Kept<S>>(), registry.events.of::<S::Of>());
                (kept.unwrap_or(usize::MAX), of.unwrap_or(usize::MAX))
            },
            take: take::<S>,
            view: view::<S>,
        }
    }

    /// What is wrong with it.
    pub(crate) fn check<S: Statistic>() -> Result<(), String> {
        check_name("statistic", S::NAME)?;
        match S::WINDOW {
            Some(window) if !(1..=LONGEST).contains(&window) => Err(format!(
                "statistic `{}` has a window of {window} ticks: give it 1 to {LONGEST}",
                S::NAME
            )),
            _ => Ok(()),
        }
    }

    /// Finds its places, once all resources and events are registered.
    pub(crate) fn tie(&mut self, registry: &Registry) {
        self.places = (self.find)(registry);
    }
}

fn take<S: Statistic>(world: &World, (kept, queue): (usize, usize)) {
    let (Some(cell), Some(queue)) = (world.cell::<Kept<S>>(kept), world.queue::<S::Of>(queue))
    else {
        return;
    };
    let events = queue.events.borrow();
    let first = stamp(world.tick(), 0);
    let new = &events[events.partition_point(|(stamp, _)| *stamp < first)..];
    let new = new.iter().map(|(_, event)| event);
    if cell.value.borrow_mut().take(world.tick(), new) {
        cell.changed.set(world.now.stamp);
    }
}

fn view<S: Statistic>(world: &World, kept: usize) -> Option<StatisticView> {
    let kept = world.cell::<Kept<S>>(kept)?.value.borrow();
    let recent = |series: &Series| S::WINDOW.map(|_| kept.recent(series));
    let of_player = |(player, series): (&PlayerId, &Series)| PlayerTally {
        player: *player,
        total: series.total,
        recent: recent(series),
    };
    let from = Kept::<S>::past(world.tick()).map_or(0, |past| (past + 1) * Kept::<S>::STEP);
    Some(StatisticView {
        name: S::NAME.to_owned(),
        of: S::Of::ID.to_owned(),
        window: S::WINDOW,
        window_from: S::WINDOW.map(|_| Tick(from)),
        total: kept.0.whole.total,
        recent: recent(&kept.0.whole),
        players: kept.0.players.iter().map(of_player).collect(),
        forgotten: kept.0.forgotten,
    })
}

/// A statistic as it stands, for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatisticView {
    /// Its name.
    pub name: String,
    /// The id of the event that is counted.
    pub of: String,
    /// The length of its window, in ticks.
    pub window: Option<u64>,
    /// The first tick that is in the window.
    pub window_from: Option<Tick>,
    /// All events of the match.
    pub total: Tally,
    /// Those in the window.
    pub recent: Option<Tally>,
    /// Of each player, ascending.
    pub players: Vec<PlayerTally>,
    /// How many players are left out, because there were too many others.
    pub forgotten: u64,
}

/// What a statistic says of a player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlayerTally {
    /// The player.
    pub player: PlayerId,
    /// All events of the match that count for the player.
    pub total: Tally,
    /// Those in the window.
    pub recent: Option<Tally>,
}

/// A statistic, as it was at the end of the tick before.
pub struct Stats<'w, S> {
    kept: Ref<'w, Kept<S>>,
}

impl<S: Statistic> Stats<'_, S> {
    /// All events of the match.
    pub fn total(&self) -> Tally {
        self.kept.0.whole.total
    }

    /// The events in the window; nothing if the statistic has none.
    pub fn recent(&self) -> Tally {
        self.kept.recent(&self.kept.0.whole)
    }

    /// All events of the match that count for this player.
    pub fn of(&self, player: PlayerId) -> Tally {
        self.kept.0.players.get(&player).map(|series| series.total).unwrap_or_default()
    }

    /// The events in the window that count for this player.
    pub fn recent_of(&self, player: PlayerId) -> Tally {
        let series = self.kept.0.players.get(&player);
        series.map(|series| self.kept.recent(series)).unwrap_or_default()
    }

    /// The players for whom events count, ascending, each with all of them.
    pub fn players(&self) -> impl Iterator<Item = (PlayerId, Tally)> {
        self.kept.0.players.iter().map(|(player, series)| (*player, series.total))
    }
}

impl<S: Statistic> SystemParam for Stats<'_, S> {
    type State = usize;
    type Item<'w> = Stats<'w, S>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        let index = registry.statistic::<S>(access);
        access.read(Touched::Resource(index), S::NAME);
        index
    }
    fn get<'w>(state: &'w usize, world: &'w World, _run: &Run) -> Option<Stats<'w, S>> {
        Some(Stats { kept: world.cell::<Kept<S>>(*state)?.value.try_borrow().ok()? })
    }
}

impl World {
    /// A statistic, as it was at the end of the tick before.
    ///
    /// # Panics
    /// If the game does not declare it.
    pub fn stats<S: Statistic>(&self) -> Stats<'_, S> {
        let index = self.registry.resources.of::<Kept<S>>();
        let cell = index.and_then(|index| self.cell::<Kept<S>>(index));
        let cell = cell.unwrap_or_else(|| panic!("{}", undeclared::<S>()));
        Stats { kept: cell.value.borrow() }
    }

    /// Lets a statistic begin anew: a new round. What was sent in this tick counts for the new one.
    ///
    /// # Panics
    /// If the game does not declare it.
    pub fn restart_stats<S: Statistic>(&mut self) {
        let index = self.registry.resources.of::<Kept<S>>();
        let cell = index.and_then(|index| self.cell::<Kept<S>>(index));
        let cell = cell.unwrap_or_else(|| panic!("{}", undeclared::<S>()));
        *cell.value.borrow_mut() = Kept::initial();
        cell.changed.set(self.now.stamp);
    }

    /// Takes the events of the tick into the statistics. Behind all systems and hooks.
    pub(crate) fn count_events(&self) {
        for statistic in &self.registry.statistics {
            (statistic.take)(self, statistic.places);
        }
    }

    /// All statistics, in the order in which they were declared.
    pub(crate) fn statistics(&self) -> Vec<StatisticView> {
        let all = &self.registry.statistics;
        all.iter().filter_map(|statistic| (statistic.view)(self, statistic.places.0)).collect()
    }
}

/// What is wrong with a name that operators use.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let good =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return Err(format!(
            "{what} `{name}`: a name is 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`"
        ));
    }
    Ok(())
}

/// What to do about a statistic that the game does not declare.
pub(crate) fn undeclared<S: Statistic>() -> String {
    let name = std::any::type_name::<S>();
    format!("statistic `{name}` is not declared: add `game.statistic::<…>()` in `Game::build`")
}
