//! What a game says of itself: the [`Game`] trait, and the builder that collects its parts.

use std::any::{Any, TypeId};
use std::marker::PhantomData;
use std::sync::Arc;

use rekindle_schema::PlayerId;
use rekindle_schema::net::NetSchema;
use rekindle_schema::record::LeaveReason;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ecs::registry::Registry;
use crate::ecs::schedule::Schedule;
use crate::ecs::schedule::declare::{IntoSystems, Stage};
use crate::ecs::schedule::order::Declarations;
use crate::ecs::validation::Rejected;
use crate::ecs::world::{Constants, World};
use crate::game::former::{FormerKeys, check_former};
use crate::game::net::{self, View};
use crate::game::players::Players;
use crate::game::simulation::SimError;
use crate::game::sketch::Sketch;
use crate::value::Value;
use crate::value::component::{Component, Event, Resource};

/// A game type. Everything that its matches do is a function of configuration, seed and steps.
///
/// The type itself is a name, usually an empty struct: state lives in the [`World`]. See the
/// [crate's documentation](crate) for a whole game.
///
/// ```
/// use rekindle_sim::doc_game::Duel;
/// use rekindle_sim::{GameType as _, Typed};
///
/// // Registering a game puts its parts in order, or says everything that is wrong with them.
/// let game = Typed::<Duel>::new()?;
/// assert_eq!((game.name(), game.tick_rate()), ("duel", 30));
/// // Configurations are JSON over the defaults; unknown keys are errors.
/// assert!(game.config_from_json(r#"{"goal": 10}"#).is_ok());
/// let problem = game.config_from_json(r#"{"gaol": 10}"#).unwrap_err().to_string();
/// assert!(problem.contains("unknown key `gaol`"));
/// # Ok::<(), rekindle_sim::SimError>(())
/// ```
pub trait Game: Sized + Send + Sync + 'static {
    /// The name in match specifications: `a-z`, `0-9`, `-`.
    const NAME: &'static str;
    /// Ticks per second.
    const TICK_RATE: u16 = 30;
    /// What a match can be configured with. Given as JSON; keys that are left out have the
    /// defaults, unknown keys are errors.
    type Config: Serialize + DeserializeOwned + Default + Send + Sync + 'static;
    /// What a player wants in a tick, `#[derive(Value)]`. Small: it is sent several times.
    type Input: Value;
    /// What a player can ask for reliably, `#[derive(Value)]`; `()` if nothing.
    type Command: Value;
    /// What a bot remembers from tick to tick, `#[derive(Value)]`; `()` if nothing.
    type Bot: Value;

    /// Declares components, resources, events and systems.
    fn build(game: &mut GameBuilder<Self>);

    /// Refuses a configuration that makes no sense, in words for the one who wrote it.
    fn validate(config: &Self::Config) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// Most players in a match.
    fn max_players(config: &Self::Config) -> usize;

    /// Fills the world of a new match.
    fn setup(world: &mut World, config: &Self::Config);

    /// A player enters, before the systems of the tick run. The player stands in [`Players`]
    /// already; give it an avatar here or in a system.
    fn join(world: &mut World, player: PlayerId);

    /// A player is about to be taken from [`Players`].
    fn leave(world: &mut World, player: PlayerId, reason: LeaveReason);

    /// A player asks for something, before the systems of the tick run; whether the game grants it.
    fn command(world: &mut World, player: PlayerId, command: Self::Command) -> bool {
        let _ = (world, player, command);
        false
    }

    /// Plays for `player` by what a client sees; `None` sends nothing in this tick.
    fn bot(
        player: PlayerId,
        view: &View<'_>,
        config: &Self::Config,
        memory: &mut Self::Bot,
    ) -> Option<Self::Input> {
        let _ = (player, view, config, memory);
        None
    }

    /// What a client sees, as shapes to draw; `None` leaves it to the display, which then knows
    /// positions only.
    fn sketch(view: &View<'_>, config: &Self::Config) -> Option<Sketch> {
        let _ = (view, config);
        None
    }
}

type MakeConstant<C> = Box<dyn Fn(&C) -> Arc<dyn Any + Send + Sync> + Send + Sync>;

/// Collects the parts of a game. Mistakes are collected too, and reported together when the game is
/// registered.
pub struct GameBuilder<G: Game> {
    registry: Registry,
    declarations: Declarations,
    constants: Vec<(TypeId, MakeConstant<G::Config>)>,
    position: Option<(String, String)>,
    retired: Vec<&'static str>,
    former: FormerKeys,
    game: PhantomData<G>,
}

impl<G: Game> GameBuilder<G> {
    fn new() -> Self {
        let mut registry = Registry::default();
        registry.add_resource::<Players>();
        registry.constants.push(TypeId::of::<G::Config>());
        Self {
            registry,
            declarations: Declarations::default(),
            constants: Vec::new(),
            position: None,
            retired: Vec::new(),
            former: FormerKeys::default(),
            game: PhantomData,
        }
    }

    /// Entities can have a `T`.
    pub fn component<T: Component>(&mut self) -> &mut Self {
        self.registry.add_component::<T>();
        self
    }

    /// The world has a `T`.
    pub fn resource<T: Resource>(&mut self) -> &mut Self {
        self.registry.add_resource::<T>();
        self
    }

    /// Systems can send a `T`.
    pub fn event<T: Event>(&mut self) -> &mut Self {
        self.registry.add_event::<T>();
        self
    }

    /// A value that is computed from the configuration, when a match is made and when it is
    /// restored: maps, tables. Systems read it as `Const<T>`. It is no state, so it must depend on
    /// nothing but the configuration.
    pub fn constant<T: Send + Sync + 'static>(
        &mut self,
        make: impl Fn(&G::Config) -> T + Send + Sync + 'static,
    ) -> &mut Self {
        self.registry.constants.push(TypeId::of::<T>());
        self.constants.push((TypeId::of::<T>(), Box::new(move |config| Arc::new(make(config)))));
        self
    }

    /// Systems run in this stage.
    pub fn add_systems<M>(&mut self, stage: Stage, systems: impl IntoSystems<M>) -> &mut Self {
        self.declarations.add(stage, systems.into_systems());
        self
    }

    /// The two networked fields of `T` that say where an entity is: snapshots put near entities
    /// first.
    pub fn position<T: Component>(&mut self, x: &str, y: &str) -> &mut Self {
        self.position = Some((format!("{}.{x}", T::ID), format!("{}.{y}", T::ID)));
        self
    }

    /// A component, resource or event of earlier builds that is gone: its data in old checkpoints
    /// is left out. Without this, a checkpoint that has it is refused.
    pub fn retired(&mut self, id: &'static str) -> &mut Self {
        self.retired.push(id);
        self
    }

    /// A key of earlier builds' configurations that is gone: what they say about it is left out. A
    /// dotted path, as in `map.width`. Without this a match whose configuration has the key waits
    /// for the build that knows it. A key that is new needs nothing: it has its default.
    pub fn config_retired(&mut self, key: &'static str) -> &mut Self {
        self.former.retired.push(key);
        self
    }

    /// A key of earlier builds' configurations that has another name or place now; both are dotted
    /// paths. Its values keep their meaning.
    pub fn config_renamed(&mut self, former: &'static str, now: &'static str) -> &mut Self {
        self.former.renamed.push((former, now));
        self
    }
}

/// A game whose parts fit together.
pub(crate) struct Built<G: Game> {
    pub(crate) registry: Arc<Registry>,
    pub(crate) schedule: Schedule,
    pub(crate) net: NetSchema,
    /// The encoded schema that stands in checkpoints.
    pub(crate) schema: Vec<u8>,
    pub(crate) retired: Vec<&'static str>,
    /// Keys of configurations that earlier builds had.
    pub(crate) former: FormerKeys,
    constants: Vec<(TypeId, MakeConstant<G::Config>)>,
}

impl<G: Game> Built<G> {
    pub(crate) fn new() -> Result<Self, SimError> {
        let mut builder = GameBuilder::<G>::new();
        G::build(&mut builder);
        let GameBuilder {
            mut registry, declarations, constants, position, retired, former, ..
        } = builder;
        let fail = |problems: Vec<String>| SimError::Schedule {
            game: G::NAME.to_owned(),
            problem: problems.join("; "),
        };
        let mut problems = Vec::new();
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if G::NAME.is_empty() || !G::NAME.chars().all(good) {
            problems.push(format!(
                "the name `{}` has other characters than `a-z`, `0-9` and `-`",
                G::NAME
            ));
        }
        if G::TICK_RATE == 0 {
            problems.push("a tick rate of 0".to_owned());
        }
        problems.extend(check_former(&former, &G::Config::default()));
        registry.tie_components();
        if !registry.validated.is_empty() {
            registry.add_event::<Rejected>();
        }
        registry.networked = net::networked(&registry);
        let net = net::schema(&registry, position.as_ref()).unwrap_or_else(|errors| {
            problems.extend(errors);
            NetSchema::default()
        });
        let schedule = match declarations.build(&mut registry) {
            Ok(schedule) if problems.is_empty() => schedule,
            Ok(_) => return Err(fail(problems)),
            Err(errors) => return Err(fail(problems.into_iter().chain(errors).collect())),
        };
        let schema = crate::persist::checkpoint::Schema::of(&registry, &schedule).to_bytes();
        Ok(Self { registry: Arc::new(registry), schedule, net, schema, retired, former, constants })
    }

    /// Constants of a match with this configuration.
    pub(crate) fn constants(&self, config: Arc<G::Config>) -> Arc<Constants> {
        let mut constants: Constants =
            self.constants.iter().map(|(id, make)| (*id, make(&config))).collect();
        constants.insert(TypeId::of::<G::Config>(), config);
        Arc::new(constants)
    }
}
