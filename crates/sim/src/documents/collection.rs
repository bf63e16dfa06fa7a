//! The game that keeps the documents of one kind.

use std::marker::PhantomData;
use std::sync::Arc;

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;

use super::apply::{Setting, Stage, Staged, apply};
use super::declare::{Declaration, Document};
use super::wire::{CollectionInfo, Order, Outcome, Refusal, Source, Submission};
use super::{CLERK, read, words};
use crate::ecs::index::{Hashed, Index};
use crate::ecs::world::World;
use crate::game::builder::{Game, GameBuilder};
use crate::value::entity::Entity;
use crate::{Component, Event, Resource, Value};

/// Most matches of which a collection remembers effects. Those that are over are forgotten.
const MOST_SOURCES: u64 = 200_000;
/// The longest refusal that is remembered, in bytes.
const MAX_REMEMBERED: usize = 4 << 10;

/// The documents of the kind `D`: a game whose world they are. Registered by
/// `rekindle::Node::document`; in tests it runs in a [`Harness`](crate::Harness).
///
/// ```
/// use rekindle_sim::documents::wire::{Call, Caller, Order, Outcome};
/// use rekindle_sim::documents::{CLERK, Submit};
/// use rekindle_sim::{Action, Collection, Component, Declaration, Document, Harness};
/// use serde::Serialize;
/// use serde_json::json;
///
/// #[derive(Clone, Component, Serialize)]
/// #[component(id = "wins")]
/// struct Wins {
///     count: u32,
/// }
///
/// const WON: Action<Wins> = Action::new("won");
///
/// impl Document for Wins {
///     const KIND: &'static str = "wins";
///     fn declare(wins: &mut Declaration<Self>) {
///         wins.upsert(WON, |wins, (), _| {
///             wins.count += 1;
///             Ok(wins.count)
///         });
///     }
/// }
///
/// let mut wins = Harness::<Collection<Wins>>::new(1);
/// wins.join(CLERK);
/// let call = Call { action: "won".into(), key: "7".into(), args: json!(null), if_version: None };
/// let order = Order { caller: Caller::Operator, source: None, calls: vec![call] };
/// wins.command(CLERK, &Submit::order(1, &order));
/// wins.tick();
/// let (ticket, outcome) = Submit::answers(&wins.last_event("rekindle.answer").unwrap()).unwrap();
/// assert_eq!(ticket, 1);
/// assert!(matches!(outcome, Outcome::Done(done) if done[0].out == json!(1)));
/// wins.assert_replay_identical();
/// ```
pub struct Collection<D>(PhantomData<D>);

/// A command of a collection: who brings it knows the answer by the ticket.
#[derive(Debug, Clone, PartialEq, Value)]
pub struct Submit {
    /// Drawn by who brings it.
    ticket: u64,
    /// A [`Submission`] as JSON.
    json: String,
}

/// What a collection says to a [`Submit`], as an event.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "rekindle.answer")]
pub struct Answered {
    /// That of the command.
    ticket: u64,
    /// An [`Outcome`] as JSON.
    json: String,
}

impl Submit {
    /// The command that brings this.
    pub fn new(ticket: u64, submission: &Submission) -> Self {
        // None of these types holds what JSON has not.
        Self { ticket, json: serde_json::to_string(submission).unwrap_or_default() }
    }

    /// The command that brings an order.
    pub fn order(ticket: u64, order: &Order) -> Self {
        Self::new(ticket, &Submission::Order(order.clone()))
    }

    /// Ticket and outcome of an answer; none if it is of another build.
    pub fn answers(answered: &Answered) -> Option<(u64, Outcome)> {
        Some((answered.ticket, serde_json::from_str(&answered.json).ok()?))
    }
}

/// What an entity has besides the document that it is.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "rekindle.document")]
pub(crate) struct Entry {
    /// Its key.
    pub(crate) key: String,
    /// Its version: which change of the collection was its last.
    pub(crate) version: u64,
}

/// The newest effect of a match that was applied. A match delivers its effects in order, each until
/// it has an answer: so all before it were applied as well.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "rekindle.applied")]
pub(crate) struct Applied {
    /// The match.
    pub(crate) match_id: u64,
    tick: u64,
    ordinal: u32,
    /// The collection's tick in which it came.
    pub(crate) seen: u64,
    /// The outcome as JSON, if it was refused: it is told again to who asks again.
    refused: String,
}

/// Counts of a collection.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "rekindle.counts")]
pub(crate) struct Counts {
    /// Documents were changed so often.
    pub(crate) changes: u64,
    /// Documents that there are.
    pub(crate) documents: u64,
    /// Matches of which effects are remembered.
    pub(crate) sources: u64,
}

/// Finds documents by key.
pub(crate) struct ByKey;

impl Index for ByKey {
    type Of = Entry;
    type Key = String;
    type Map = Hashed<String>;
    fn keys(of: &Entry) -> impl IntoIterator<Item = String> {
        [of.key.clone()]
    }
}

/// Finds what is remembered of a match.
struct ByMatch;

impl Index for ByMatch {
    type Of = Applied;
    type Key = u64;
    type Map = Hashed<u64>;
    fn keys(of: &Applied) -> impl IntoIterator<Item = u64> {
        [of.match_id]
    }
}

/// What is declared of a kind, shared by the worlds of its collection.
pub(crate) struct Declared<D>(pub(crate) Arc<Declaration<D>>);

impl<D: Document> Game for Collection<D> {
    const NAME: &'static str = D::KIND;
    const TICK_RATE: u16 = 20;
    type Config = ();
    type Input = ();
    type Command = Submit;
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<D>().component::<Entry>().component::<Applied>().resource::<Counts>();
        game.index::<ByKey>().index::<ByMatch>().tells::<Answered>();
        let (declared, problems) = Declaration::<D>::of_kind();
        game.refuse(problems);
        let declared = Arc::new(declared);
        game.constant(move |()| Declared(Arc::clone(&declared)));
    }

    fn max_players((): &()) -> usize {
        1
    }

    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}

    fn command(world: &mut World, player: PlayerId, Submit { ticket, json }: Submit) -> bool {
        if player != CLERK {
            return false;
        }
        let outcome = match serde_json::from_str(&json) {
            Ok(Submission::Order(order)) => take::<D>(world, &order),
            Ok(Submission::Forget { matches, idle }) => forget(world, &matches, idle),
            Err(error) => {
                Outcome::Refused { at: 0, why: Refusal::Malformed { problem: words::of(&error) } }
            }
        };
        let changed = matches!(outcome, Outcome::Done(_));
        let json = serde_json::to_string(&outcome).unwrap_or_default();
        world.output().publish_to(CLERK, &Answered { ticket, json });
        changed
    }

    fn answer(world: &World, question: &[u8]) -> Option<Vec<u8>> {
        serde_json::to_vec(&read::answer::<D>(world, question)).ok()
    }

    fn collection() -> Option<CollectionInfo> {
        Some(Declaration::<D>::of_kind().0.info())
    }
}

/// Applies an order, unless it is an effect that was applied before.
fn take<D: Document>(world: &mut World, order: &Order) -> Outcome {
    if let Err(why) = order.check() {
        return Outcome::Refused { at: 0, why };
    }
    let remembered = match order.source.map(|source| admit(world, source)) {
        None => None,
        Some(Ok(entity)) => entity,
        Some(Err(outcome)) => return outcome,
    };
    let mut stage = Stage::new();
    for call in &order.calls {
        if !stage.contains_key(&call.key) {
            let entity = find::<ByKey>(world, &call.key, |entry| entry.key == call.key);
            stage.insert(call.key.clone(), staged::<D>(world, entity));
        }
    }
    let outcome = outcome_of(world, order, &mut stage);
    if let Outcome::Done(done) = &outcome {
        write(world, stage, done.len() as u64);
    }
    if let Some(source) = order.source {
        remember(world, remembered, source, &outcome);
    }
    outcome
}

/// What an order does to what it names, in this world; the world itself is not changed.
pub(crate) fn outcome_of<D: Document>(
    world: &World,
    order: &Order,
    stage: &mut Stage<D>,
) -> Outcome {
    let (declared, counts) = (world.constant::<Declared<D>>(), world.resource::<Counts>());
    let setting = Setting {
        declared: &*declared.0,
        tick: world.tick(),
        tick_rate: world.tick_rate(),
        changes: counts.changes,
        documents: counts.documents,
    };
    apply(&setting, order, stage)
}

/// A document as it stands.
pub(crate) fn staged<D: Document>(world: &World, entity: Option<Entity>) -> Staged<D> {
    let version = entity.and_then(|entity| world.read::<Entry, _>(entity, |entry| entry.version));
    let now = entity.and_then(|entity| world.get::<D>(entity));
    Staged { entity, version: version.unwrap_or(0), now, changed: false }
}

/// Writes what an order has changed.
fn write<D: Document>(world: &mut World, stage: Stage<D>, calls: u64) {
    let mut documents = world.resource::<Counts>().documents;
    for (key, Staged { entity, version, now, changed }) in stage {
        match (entity, now) {
            _ if !changed => {}
            (Some(entity), Some(document)) => {
                world.insert(entity, (document, Entry { key, version }));
            }
            (Some(entity), None) => {
                world.despawn(entity);
                documents -= 1;
            }
            (None, Some(document)) => {
                world.spawn((document, Entry { key, version }));
                documents += 1;
            }
            (None, None) => {}
        }
    }
    let mut counts = world.resource_mut::<Counts>();
    counts.documents = documents;
    counts.changes += calls;
}

/// What is remembered of the match whose effect this is; or the outcome, if it was applied before.
fn admit(world: &mut World, source: Source) -> Result<Option<Entity>, Outcome> {
    let id = source.match_id;
    let entity = find::<ByMatch>(world, &id, |applied| applied.match_id == id);
    let Some(applied) = entity.and_then(|entity| world.get::<Applied>(entity)) else {
        let full = world.resource::<Counts>().sources >= MOST_SOURCES;
        return if full { Err(Outcome::Later) } else { Ok(None) };
    };
    let (newest, this) = ((applied.tick, applied.ordinal), (source.tick, source.ordinal));
    if this > newest {
        return Ok(entity);
    }
    let refused = (this == newest).then(|| serde_json::from_str(&applied.refused).ok()).flatten();
    Err(refused.unwrap_or(Outcome::Repeated))
}

/// Remembers that an effect was applied, or refused: it is not applied again.
fn remember(world: &mut World, entity: Option<Entity>, source: Source, outcome: &Outcome) {
    let refused = match outcome {
        Outcome::Refused { .. } => serde_json::to_string(outcome).unwrap_or_default(),
        _ => String::new(),
    };
    let applied = Applied {
        match_id: source.match_id,
        tick: source.tick,
        ordinal: source.ordinal,
        seen: world.tick().0,
        refused: if refused.len() <= MAX_REMEMBERED { refused } else { String::new() },
    };
    if let Some(entity) = entity {
        world.insert(entity, applied);
    } else {
        world.spawn(applied);
        world.resource_mut::<Counts>().sources += 1;
    }
}

/// Forgets matches that are over and of which nothing came for a while.
fn forget(world: &mut World, matches: &[u64], idle: u64) -> Outcome {
    for id in matches {
        let entity = find::<ByMatch>(world, id, |applied| applied.match_id == *id);
        let Some(entity) = entity else { continue };
        let seen = world.read::<Applied, _>(entity, |applied| applied.seen).unwrap_or(u64::MAX);
        if world.tick().0.saturating_sub(seen) >= idle && world.despawn(entity) {
            world.resource_mut::<Counts>().sources -= 1;
        }
    }
    Outcome::Done(Vec::new())
}

/// The entity of a key. What was there at the last fixed point is found at once; only for what was
/// made since, the index is brought up to date.
fn find<I: Index>(world: &mut World, key: &I::Key, is: impl Fn(&I::Of) -> bool) -> Option<Entity> {
    let known = world.found_before::<I>(key);
    let known = known.filter(|entity| world.read::<I::Of, _>(*entity, &is) == Some(true));
    known.or_else(|| world.find::<I>(key).first().copied())
}
