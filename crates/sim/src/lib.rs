//! The deterministic world of a match, and how to write a game for it.
//!
//! A match is a function of its configuration, its seed and its
//! [steps](rekindle_schema::record::Step): joins, leaves, inputs, commands. On another machine, or
//! after a crash, the same steps make the same world, bit for bit. Called by the match actor and
//! the node through [`simulation`]; calls nothing but mathematics. No clock, no thread, no file, no
//! randomness from outside.
//!
//! # How to write a game
//!
//! `rekindle new my-game` makes a small one that runs at once; `docs/GAMES.md` goes on from there,
//! and `docs/book` has a page for each part.
//!
//! The vocabulary is bevy's. A whole small game is in `src/game/doc_game.rs`; a real one in
//! `games/arena`. In parts:
//!
//! **Components** are data of entities. The id stands in checkpoints and never changes; `#[value]`
//! sets defaults and ranges, `#[net]` says which fields snapshots carry and how coarsely. Fields
//! are numbers, `bool`, [`Entity`], `PlayerId`, `Tick`, `String`, `Option`, `Vec`, arrays,
//! `BTreeMap`, and types that derive [`Value`](macro@Value).
//!
//! ```
//! use rekindle_sim::{Component, Event, Resource, Value};
//!
//! #[derive(Clone, Component)]
//! #[component(id = "position")]
//! struct Position {
//!     // Clients extrapolate x by velocity.x.
//!     #[net(min = -100.0, max = 100.0, bits = 16, rate = "velocity.x")]
//!     x: f32,
//!     #[net(angle, bits = 10)] // radians
//!     heading: f32,
//! }
//!
//! #[derive(Clone, Component)]
//! #[component(id = "health", version = 2)]
//! struct Health {
//!     #[net(bits = 7)]
//!     #[value(default = 100, range = 0..=120)] // kept in range at the end of each tick
//!     points: u8,
//!     weapon: Weapon,
//! }
//!
//! #[derive(Clone, PartialEq, Value)]
//! enum Weapon { Pistol, Laser { charge: f32 } } // the first variant is the default
//!
//! #[derive(Clone, Resource)]
//! #[resource(id = "phase")]
//! struct Phase { ends_at: u64 } // a world has it once, always, at first with its defaults
//!
//! #[derive(Clone, Event)]
//! #[event(id = "hit")]
//! struct Hit { damage: u8 }
//! ```
//!
//! **Entities name each other** by relations: components with one [`Entity`], declared with what
//! happens to their owner when that entity is despawned. [`Related`] goes the other way: who names
//! this one? An entity gets what a component `requires` along with it.
//!
//! ```
//! use rekindle_sim::{Commands, Component, Entity, Query, Related, With};
//!
//! #[derive(Clone, Component)]
//! #[component(id = "ship")]
//! struct Ship;
//! #[derive(Clone, Component)]
//! #[component(id = "mass")]
//! struct Mass(#[value(default = 10)] u32);
//! /// Cargo goes down with its ship. `"remove"` takes away the relation, `"keep"` leaves it.
//! #[derive(Clone, Component)]
//! #[component(id = "cargo-of", relation = "despawn", requires(Mass))]
//! struct CargoOf(Entity);
//!
//! fn jettison(
//!     mut commands: Commands,
//!     ships: Query<Entity, With<Ship>>,
//!     cargo: Related<CargoOf>,
//! ) {
//!     for ship in &ships {
//!         if let Some(last) = cargo.of(ship).next_back() {
//!             commands.insert(last, CargoOf(Entity::NONE)); // relations are replaced by insertion
//!         }
//!     }
//! }
//! ```
//!
//! **Values that must not be**: `#[value(within = 1..=20)]` and `#[component(validate = f)]` reject
//! a write instead of bringing it into range: the component has its former value again at the end
//! of the stage, and systems read a [`Rejected`] event.
//!
//! **Fields change from build to build.** A renamed field keeps its value by `#[value(alias =
//! "former")]`; a field with another meaning by a step from the version that had the old one.
//! What an old checkpoint has and the build has not is left out and named:
//! [`Simulation::dropped`].
//!
//! ```
//! use rekindle_sim::Component;
//! use rekindle_sim::value::component::OldFields;
//! use rekindle_sim::value::shape::Datum;
//!
//! /// Version 1 had seconds.
//! fn in_ticks(fields: &mut OldFields) -> Result<(), String> {
//!     if let Some(Datum::Int(left)) = fields.get_mut("left") {
//!         *left *= 30;
//!     }
//!     Ok(())
//! }
//!
//! #[derive(Clone, Component)]
//! #[component(id = "fuse", version = 2, migrate(1 => in_ticks))]
//! struct Fuse {
//!     #[value(alias = "left")]
//!     ticks: u32,
//! }
//! ```
//!
//! **Data defines components, too**: a match gets them from its configuration or by a command
//! ([`World::define`]); systems read and write them by name: [`Custom`], [`CustomMut`],
//! [`Commands::insert_custom`].
//!
//! **Systems** are functions; their parameters say what they touch: [`Query`], [`Res`], [`ResMut`],
//! [`Commands`], [`EventReader`], [`EventWriter`], [`RemovedComponents`], [`Inputs`], [`Time`],
//! [`Rng`], [`Const`], [`Output`], [`Related`], [`Local`] (state of the system, in checkpoints).
//!
//! ```
//! # use rekindle_sim::doc_game::*;
//! use rekindle_sim::{Query, Time, With};
//!
//! fn movement(time: Time, mut moving: Query<(&mut Position, &Velocity), With<Runner>>) {
//!     for (mut position, velocity) in &mut moving {
//!         position.x += velocity.x * time.delta;
//!     }
//! }
//! ```
//!
//! * A query goes over entities ascending by slot. `&T`, `&mut T`, `Option<&T>`, [`Entity`];
//!   filters [`With`], [`Without`], [`Added`], [`Changed`]. Two queries of one system must not ask
//!   for the same component if one changes it (filters do not help): use one query and `get_mut`.
//! * Spawning, despawning, inserting, removing through [`Commands`] is done at the end of the
//!   [`Stage`]. [`Commands::spawn`] returns the name at once.
//! * An event is seen by each reader once: by systems that run later in this tick, or by earlier
//!   ones in the next.
//! * `Rng` is a fresh stream for each system and tick.
//!
//! **Order**: stages ([`Stage`]) one after the other; within a stage `after`, `before`, `chain`,
//! `priority`. Two systems of a stage that touch the same component or resource, one of them
//! changing it, must be put in order: otherwise the game is refused with both names. **When**:
//! every tick; `.every(30)`; `.on_event::<Hit>()`, `.on_add::<T>()`, `.on_change::<T>()`,
//! `.on_remove::<T>()` run a system only if there is something new for it; `.run_if(f)` only if `f`
//! holds: a function with parameters of systems, which only looks.
//!
//! **Hooks** are told when an entity gets, changes and loses a component or ends, in one order:
//! [`GameBuilder::on_add`]. **Kinds of entities** are [templates](GameBuilder::template), which
//! extend each other, and structs that derive [`Bundle`](macro@Bundle). **Found** they are by
//! [`Index`] ([`Hashed`], [`Ordered`]), [`Tags`], [`Group`], and in space by a grid
//! ([`GameBuilder::spatial`]: circle, box, ray, nearest). **Bounds** of the world wrap, clamp,
//! bounce or despawn: [`GameBuilder::bounds`]. A [`Timer`] is a field that says when something is
//! due; [`Rewind`] and [`History`] look back. **Phases** are state machines, with guards, hooks and
//! timeouts: [`GameBuilder::states`], [`Transitions`], [`in_state`]; entities can each have their
//! own: [`GameBuilder::entity_states`], [`EntityTransitions`].
//!
//! **Several threads** go over one query with [`Query::par_for_each`] and [`Query::par_map`], and
//! run systems [side by side](IntoSystems::side_by_side), if a node has some for its matches; what
//! a world computes is the same with any number of them. See [`Workers`] and
//! [`IntoSystems::budget`].
//!
//! **Values of the whole world** have names: [`GameBuilder::calculation`] and
//! [`GameBuilder::aggregates`] declare them, [`World::value`] and `rekindle match values` read
//! them. What must hold is a [`GameBuilder::validation`].
//!
//! **The game** is a type that implements [`Game`]: `build` registers all of the above, `setup`
//! fills a new world, `join`, `leave` and `command` change it before the systems of a tick run,
//! `bot` plays, `sketch` draws. The avatar of a player is set in [`Players`], a resource.
//! [`Game::Config`] comes as JSON over its defaults; systems read it as `Const<Config>`, and so
//! what is computed from it with [`GameBuilder::constant`] (maps, tables).
//!
//! **Who sees what** is declared: a field is for its entity's owner or team (`#[net(owner)]`,
//! `#[net(team)]`), an entity for its owner, its team, those near enough or those for whom a
//! function holds: [`GameBuilder::visibility`], [`GameBuilder::interest`]. A client is sent nothing
//! else, and a spectator what everybody may see.
//!
//! ```
//! use rekindle_schema::net::NetView;
//! use rekindle_sim::{
//!     Component, Game, GameBuilder, Harness, LeaveReason, PlayerId, Players, Simulation as _,
//!     World,
//! };
//!
//! #[derive(Clone, Component)]
//! #[component(id = "hand")]
//! struct Hand {
//!     #[net(bits = 6)]
//!     cards: u8, // how many: everybody sees that
//!     #[net(bits = 6, owner)]
//!     trump: u8, // which one: for the player
//! }
//!
//! struct Cards;
//!
//! impl Game for Cards {
//!     const NAME: &'static str = "cards";
//!     type Config = ();
//!     type Input = ();
//!     type Command = ();
//!     type Bot = ();
//!     fn build(game: &mut GameBuilder<Self>) {
//!         game.component::<Hand>();
//!     }
//!     fn max_players((): &()) -> usize {
//!         4
//!     }
//!     fn setup(_: &mut World, (): &()) {}
//!     fn join(world: &mut World, player: PlayerId) {
//!         let hand = world.spawn(Hand { cards: 5, trump: 10 + player.0 as u8 });
//!         world.resource_mut::<Players>().set_avatar(player, hand); // an avatar is its player's
//!     }
//!     fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
//! }
//!
//! let mut cards = Harness::<Cards>::new(1);
//! cards.join(PlayerId(1));
//! cards.join(PlayerId(2));
//! cards.tick();
//! let mut view = NetView::default();
//! cards.simulation().extract(&mut view);
//! assert_eq!(view.seen_by(PlayerId(1)).values, [5, 11, 5, 0]); // cards, trump; cards, trump
//! assert_eq!(view.seen_by(PlayerId(2)).values, [5, 0, 5, 12]);
//! assert_eq!(view.values[..4], [5, 0, 5, 0]); // a spectator
//! ```
//!
//! **What goes out**: [`Output::announce`] and [`Output::tell`] for players, [`Output::effect`] for
//! sinks (`result`: the id makes it exactly once), [`Output::end_match`].
//!
//! **Test it**: `Harness::<Duel>::new(7).bots(4).run(600).assert_replay_identical()`, see
//! [`Harness`].
//!
//! # What keeps a game deterministic
//!
//! Systems see nothing but the world, the tick and the inputs. Use `+ - * / sqrt` and [`math`] for
//! floats; `f32::sin` and its like differ between machines. Do not iterate over a `HashMap`, read
//! clocks, or keep state in statics: `assert_replay_identical` finds most of it. A NaN is brought
//! into one form, and ranges are kept, at the end of each tick.

extern crate self as rekindle_sim;

#[cfg(doctest)]
mod book;
mod custom;
pub mod documents;
mod ecs;
mod game;
pub mod math;
mod persist;
mod space;
mod storage;
pub mod value;

/// Types that stand in the signatures of [`SystemParam`], [`QueryData`], [`QueryFilter`] and
/// [`IntoSystems`]. Their contents are this crate's own: a parameter of one's own is put together
/// from parameters that are here, and hands these types on to them.
///
/// ```
/// use rekindle_sim::doc_game::Score;
/// use rekindle_sim::signature::{Access, Registry, Run};
/// use rekindle_sim::{IntoSystems as _, ResMut, SystemParam, Time, World};
///
/// /// The score, and the time it is.
/// struct Clocked<'w> {
///     time: Time,
///     score: ResMut<'w, Score>,
/// }
///
/// type State = (<Time as SystemParam>::State, <ResMut<'static, Score> as SystemParam>::State);
///
/// impl SystemParam for Clocked<'_> {
///     type State = State;
///     type Item<'w> = Clocked<'w>;
///     fn init(registry: &Registry, access: &mut Access) -> State {
///         (Time::init(registry, access), ResMut::<Score>::init(registry, access))
///     }
///     fn get<'w>(state: &'w State, world: &'w World, run: &Run) -> Option<Clocked<'w>> {
///         let (time, score) = state;
///         let score = ResMut::<Score>::get(score, world, run)?;
///         Some(Clocked { time: Time::get(time, world, run)?, score })
///     }
/// }
///
/// fn count(mut clocked: Clocked) {
///     clocked.score.total = clocked.time.tick.0;
/// }
/// let system = count.every(2);
/// ```
pub mod signature {
    pub use crate::ecs::query::cursor::{ReadCursor, ReadGuard, WriteCursor, WriteGuard};
    pub use crate::ecs::query::parallel::{
        EntityLot, ReadLot, ReadPage, Unmarked, WriteLot, WritePage,
    };
    pub use crate::ecs::query::{QueryIter, QueryIterMut};
    pub use crate::ecs::registry::{Access, Registry};
    pub use crate::ecs::schedule::declare::Trigger;
    pub use crate::storage::column::Column;
    pub use crate::storage::entities::Entities;
    pub use crate::storage::stamp::{Run, Stamp};
}

pub use custom::define::{CustomDefinition, CustomError, CustomField};
pub use custom::systems::{Custom, CustomMut};
pub use custom::world::CustomId;
pub use documents::collection::Collection;
pub use documents::declare::{Action, Calling, Declaration, Denied, Document, Rule, Who};
pub use ecs::bundle::Bundle;
pub use ecs::events::{EventReader, EventWriter, RemovedComponents};
pub use ecs::index::{ByGroup, ByTag, Group, Hashed, Index, Indexed, KeyMap, Ordered, Tags};
pub use ecs::local::Local;
pub use ecs::output::Output;
pub use ecs::params::{Commands, Const, RulesVersion, Time};
pub use ecs::query::Query;
pub use ecs::query::aggregate::Aggregate;
pub use ecs::query::data::QueryData;
pub use ecs::query::filter::{Added, Changed, Or, QueryFilter, With, Without};
pub use ecs::query::parallel::ParallelData;
pub use ecs::registry::did_you_mean;
pub use ecs::relations::Related;
pub use ecs::resources::{Res, ResMut};
pub use ecs::rng::Rng;
pub use ecs::schedule::declare::{IntoSystems, Stage, SystemName, Systems};
pub use ecs::states::of_entity::{EntityMachine, EntityTransitions};
pub use ecs::states::of_match::{Machine, Transitions};
pub use ecs::states::{EntityRefused, Refused, State, States, TransitionError, in_state};
pub use ecs::stats::{PlayerTally, Statistic, StatisticView, Stats, Tally};
pub use ecs::system::{Calculation, Condition, SystemFunction, SystemParam};
pub use ecs::template::Template;
pub use ecs::validation::Rejected;
pub use ecs::values::{Aggregates, Broken, IfBroken, ValidationView, ValueView};
pub use ecs::watch::{StepPart, StepWatch};
pub use ecs::workers::Workers;
pub use ecs::world::World;
pub use game::builder::extensions::Extension;
pub use game::builder::{Game, GameBuilder};
pub use game::config::{RULES, rules_of};
#[doc(hidden)]
pub use game::doc_game;
pub use game::harness::Harness;
pub use game::harness::property::{Counterexample, Property};
pub use game::harness::script::{Act, Deed, Move};
pub use game::inputs::{Inputs, PlayerInput};
pub use game::matches::Match;
pub use game::net::{View, ViewEntity};
pub use game::payloads::{Payloads, delivery_kind};
pub use game::players::{Player, Players};
pub use game::properties::{PROPERTIES, Properties, properties_of, property};
pub use game::shrink::{Minimal, minimal};
pub use game::simulation::{GameType, SessionState, SimError, Simulation, StepOutput};
pub use game::typed::{Typed, checkpoint_hash};
pub use game::visibility::{Interest, Viewer, Visibility};
pub use game::{net, simulation, sketch};
pub use rekindle_derive::{Bundle, Component, Event, Resource, Value};
pub use rekindle_schema::record::LeaveReason;
pub use rekindle_schema::{PlayerId, SessionId, Tick};
pub use space::bounds::{AtEdge, Bounds};
pub use space::grid::{Grid, Near, Spatial};
pub use space::kinematics::Kinematics;
pub use space::past::{Past, Rewound, judged_by, record_past};
pub use space::physics::{Body, Collider, Contact, Met, Physics, PhysicsStep, Response};
pub use space::scenery::{Form, Found, Scenery, Solid};
pub use space::{Moving, Place, geometry};
pub use storage::change::Mut;
pub use storage::layout::Marks;
pub use storage::sorted::EntitySet;
pub use value::Value;
pub use value::component::{Component, Event, OnDespawn, Resource, SeenBy};
pub use value::entity::Entity;
pub use value::history::{History, Rewind};
pub use value::timer::Timer;
