//! What a game says of itself: the [`Game`] trait, and the builder that collects its parts.
//! What it says of space stands in [`space`], what of its world as a whole in [`values`], and the
//! parts that several games can have in [`extensions`].

pub(crate) mod extensions;
mod shows;
mod space;
mod values;

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rekindle_schema::PlayerId;
use rekindle_schema::net::NetSchema;
use rekindle_schema::record::LeaveReason;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::documents::wire::CollectionInfo;
use crate::ecs::hooks::{DeclaredHook, Hooks, Moment};
use crate::ecs::index::{ByGroup, ByTag, FollowerType, Group, Index, Tags};
use crate::ecs::params::RulesVersion;
use crate::ecs::registry::Registry;
use crate::ecs::schedule::Schedule;
use crate::ecs::schedule::declare::{IntoSystems, Stage};
use crate::ecs::schedule::order::Declarations;
use crate::ecs::states::machine::AnyMachine;
use crate::ecs::states::of_entity::EntityMachine;
use crate::ecs::states::of_match::Machine;
use crate::ecs::states::{EntityRefused, Refused, State, States};
use crate::ecs::stats::Statistic;
use crate::ecs::template::{Template, Templates};
use crate::ecs::validation::Rejected;
use crate::ecs::values::DeclaredValues;
use crate::ecs::watch::{self, StepPart};
use crate::ecs::world::{Constants, World};
use crate::game::builder::extensions::{Claims, Extensions};
use crate::game::former::{FormerKeys, check_former};
use crate::game::net::{self, View};
use crate::game::payloads::{Payloads, Told, delivery_kind};
use crate::game::players::Players;
use crate::game::simulation::SimError;
use crate::game::sketch::Sketch;
use crate::game::visibility::decide::Rules;
use crate::game::visibility::{Interest, Visibility};
use crate::space::scenery::Scenery;
use crate::value::Value;
use crate::value::component::{Component, Event, Resource};
use crate::value::entity::Entity;

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
    /// Ticks per second, unless a match says otherwise.
    const TICK_RATE: u16 = 30;
    /// The rates that a match may have (`match create --tick-rate`). More than one only if the
    /// systems go by [`Time`](crate::Time), and not by a number of ticks that is a constant.
    const TICK_RATES: RangeInclusive<u16> = Self::TICK_RATE..=Self::TICK_RATE;
    /// How many tick periods may lie between two ticks of a match at most, 1 to 4. More than 1 lets
    /// a node with too much to do slow a match down: everything in it goes 2, 3 or 4 times slower
    /// for its players, evenly, instead of stumbling. No tick computes anything else, and
    /// [`Time`](crate::Time) goes with the ticks. A game whose players
    /// count real seconds leaves it at 1.
    const MAX_SLOWDOWN: u8 = 1;
    /// The newest version of the rules. A match keeps the version that it began with, and systems
    /// ask for it ([`RulesVersion`](crate::RulesVersion)): raise it when matches that are played
    /// are to go on by the old rules.
    const RULES: u32 = 1;
    /// The oldest version of the rules that this build still plays. Matches of older ones wait for
    /// a build that does.
    const OLDEST_RULES: u32 = 1;
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

    /// Plays for `player` by commands: asked after [`Game::bot`], with the same memory. What it
    /// asks for shows in a later view: remember it, or it is asked for again.
    fn bot_command(
        player: PlayerId,
        view: &View<'_>,
        config: &Self::Config,
        memory: &mut Self::Bot,
    ) -> Option<Self::Command> {
        let _ = (player, view, config, memory);
        None
    }

    /// Answers a question from outside, between two ticks; `None` if the game has no answers. It
    /// sees the world and changes nothing.
    fn answer(world: &World, question: &[u8]) -> Option<Vec<u8>> {
        let _ = (world, question);
        None
    }

    /// What the documents are that its world holds, if it is a
    /// [`Collection`](crate::Collection); other games are none.
    #[doc(hidden)]
    fn collection() -> Option<CollectionInfo> {
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
    hooks: Vec<DeclaredHook>,
    templates: Vec<Template>,
    constants: Vec<(TypeId, MakeConstant<G::Config>)>,
    values: DeclaredValues,
    position: Option<(String, String)>,
    visibility: Visibility,
    /// Players see only so far.
    interest: bool,
    /// Something moves the bodies.
    physics: bool,
    /// The events that players are told, by their ids.
    told: BTreeMap<String, Told>,
    retired: Vec<&'static str>,
    former: FormerKeys,
    extensions: Extensions<G>,
    /// Who declared what.
    claims: Claims,
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
            hooks: Vec::new(),
            templates: Vec::new(),
            constants: Vec::new(),
            values: DeclaredValues::default(),
            position: None,
            visibility: Visibility::default(),
            interest: false,
            physics: false,
            told: BTreeMap::new(),
            retired: Vec::new(),
            former: FormerKeys::default(),
            extensions: Extensions(Vec::new()),
            claims: Claims::default(),
            game: PhantomData,
        }
    }

    /// With all that the game declares, and what goes without saying.
    fn filled() -> Self {
        let mut builder = Self::new();
        G::build(&mut builder);
        builder.check_extensions();
        if builder.physics && !builder.registry.constants.contains(&TypeId::of::<Scenery>()) {
            builder.scenery(|_| Vec::new());
        }
        builder
    }

    /// Something is wrong with what was declared: said at start-up with everything else.
    pub(crate) fn refuse(&mut self, problems: Vec<String>) {
        self.registry.errors.extend(problems);
    }

    /// Entities can have a `T`.
    pub fn component<T: Component>(&mut self) -> &mut Self {
        if self.may_store::<T>("component") {
            self.registry.add_component::<T>();
        }
        self
    }

    /// The world has a `T`.
    pub fn resource<T: Resource>(&mut self) -> &mut Self {
        if self.may_store::<T>("resource") {
            self.registry.add_resource::<T>();
        }
        self
    }

    /// Systems can send a `T`.
    pub fn event<T: Event>(&mut self) -> &mut Self {
        if self.may_store::<T>("event") {
            self.registry.add_event::<T>();
        }
        self
    }

    /// Players are told of a `T` with [`Output::publish`](crate::Output::publish). With this,
    /// `rekindle events` and `rekindle journal` show it by its fields. It is not sent to systems:
    /// for that it is declared with [`GameBuilder::event`].
    ///
    /// ```
    /// use rekindle_sim::{Event, Output, PlayerId};
    ///
    /// #[derive(Clone, Event)]
    /// #[event(id = "kill")]
    /// struct Kill {
    ///     killer: PlayerId,
    ///     victim: PlayerId,
    /// }
    ///
    /// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
    /// game.tells::<Kill>();
    /// # }
    /// fn fall(mut output: Output) {
    ///     output.publish(&Kill { killer: PlayerId(1), victim: PlayerId(2) });
    /// }
    /// ```
    pub fn tells<T: Event>(&mut self) -> &mut Self {
        self.tell::<T>(false);
        self
    }

    /// As [`GameBuilder::tells`], and each such event is an effect as well, for functions that the
    /// executable registers with `Node::on_event::<T>`. It stays in the state of the match until
    /// they have it, and the store remembers it: for what matters outside of the match, and not for
    /// each shot.
    pub fn delivers<T: Event>(&mut self) -> &mut Self {
        self.tell::<T>(true);
        self
    }

    fn tell<T: Event>(&mut self, delivered: bool) {
        if !self.may_store::<T>("event that players are told") {
            return;
        }
        let new = Told { shape: T::shape(), delivered };
        match self.told.get_mut(T::ID) {
            Some(known) if known.shape == new.shape => known.delivered |= delivered,
            Some(_) => self
                .registry
                .errors
                .push(format!("two types are told as `{}`: give one of them another id", T::ID)),
            None => drop(self.told.insert(T::ID.to_owned(), new)),
        }
    }

    /// The engine counts events: see [`Statistic`]. Their type need not be declared.
    pub fn statistic<S: Statistic>(&mut self) -> &mut Self {
        if self.may("statistic", S::NAME, Some(TypeId::of::<S>())) {
            self.registry.add_statistic::<S>();
        }
        self
    }

    /// A value that is computed from the configuration, when a match is made and when it is
    /// restored: maps, tables. Systems read it as `Const<T>`. It is no state, so it must depend on
    /// nothing but the configuration.
    pub fn constant<T: Send + Sync + 'static>(
        &mut self,
        make: impl Fn(&G::Config) -> T + Send + Sync + 'static,
    ) -> &mut Self {
        if self.may_be_constant::<T>() {
            let id = TypeId::of::<T>();
            self.registry.constants.push(id);
            self.constants.push((id, Box::new(move |config| Arc::new(make(config)))));
        }
        self
    }

    /// Systems run in this stage.
    pub fn add_systems<M>(&mut self, stage: Stage, systems: impl IntoSystems<M>) -> &mut Self {
        let systems = self.own_systems(systems.into_systems());
        self.declarations.add(stage, systems);
        self
    }

    /// `hook` runs when an entity got a `T`, at the next fixed point: after `setup`, before the
    /// systems of a tick, at the end of each stage. What it does is done at once.
    ///
    /// At each fixed point hooks are told first of what was added and removed, in the order in
    /// which it happened; then of what was changed, ascending by component id and slot; then, in
    /// further rounds, of what hooks added and removed. A component that is added and removed
    /// between two fixed points is told to nobody.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Score};
    /// use rekindle_sim::{Entity, GameBuilder, World};
    ///
    /// # fn build<G: rekindle_sim::Game>(game: &mut GameBuilder<G>) {
    /// game.on_add::<Coin>(|world, coin| {
    ///     let worth = world.get::<Coin>(coin).map_or(0, |coin| coin.worth);
    ///     world.resource_mut::<Score>().total += u64::from(worth);
    /// })
    /// .on_remove::<Coin>(|world, _coin, lost: &Coin| {
    ///     world.resource_mut::<Score>().total -= u64::from(lost.worth);
    /// });
    /// # }
    /// ```
    pub fn on_add<T: Component>(
        &mut self,
        hook: impl Fn(&mut World, Entity) + Send + Sync + 'static,
    ) -> &mut Self {
        self.hooks.push(DeclaredHook::of::<T>(Moment::Add, hook));
        self
    }

    /// `hook` runs when the `T` of an entity was written, at the next fixed point, as
    /// [`GameBuilder::on_add`]: once, however often it was written, and not for what is new or for
    /// what hooks wrote.
    pub fn on_change<T: Component>(
        &mut self,
        hook: impl Fn(&mut World, Entity) + Send + Sync + 'static,
    ) -> &mut Self {
        self.hooks.push(DeclaredHook::of::<T>(Moment::Change, hook));
        self
    }

    /// `hook` runs when an entity lost its `T`, by `remove` or by a despawn, at the next fixed
    /// point, as [`GameBuilder::on_add`]. It gets what the `T` was; the entity may be gone.
    pub fn on_remove<T: Component>(
        &mut self,
        hook: impl Fn(&mut World, Entity, &T) + Send + Sync + 'static,
    ) -> &mut Self {
        self.hooks.push(DeclaredHook::of_loss::<T>(Moment::Remove, hook));
        self
    }

    /// `hook` runs when an entity with a `T` ended, behind the `on_remove` of this `T`, as
    /// [`GameBuilder::on_add`]. It gets what the `T` was; the entity is gone.
    pub fn on_despawn<T: Component>(
        &mut self,
        hook: impl Fn(&mut World, Entity, &T) + Send + Sync + 'static,
    ) -> &mut Self {
        self.hooks.push(DeclaredHook::of_loss::<T>(Moment::Despawn, hook));
        self
    }

    /// Entities can be found by what is in a component: see [`Index`].
    pub fn index<I: Index>(&mut self) -> &mut Self {
        self.registry.add_follower(FollowerType::index::<I>());
        self
    }

    /// Entities can have [`Tags`], and are found by them: [`ByTag`].
    pub fn tags(&mut self) -> &mut Self {
        self.component::<Tags>().index::<ByTag>()
    }

    /// Entities can belong to a [`Group`], and are found by it: [`ByGroup`].
    pub fn groups(&mut self) -> &mut Self {
        self.component::<Group>().index::<ByGroup>()
    }

    /// The match is always in one state of `S`, an enum without fields: `say` declares the
    /// transitions between them. See [`Transitions`](crate::Transitions), [`State`] and
    /// [`World::go`](crate::World::go). A state that is never reached, and a transition that is
    /// declared twice, are errors.
    pub fn states<S: States>(&mut self, say: impl FnOnce(&mut Machine<S>)) -> &mut Self {
        let mut machine = Machine::new();
        say(&mut machine);
        self.registry.errors.extend(machine.graph.check(false));
        if machine.graph.is_guarded() {
            self.event::<Refused>();
        }
        self.machine(machine).resource::<State<S>>()
    }

    /// Entities can have a machine of their own, each in one state of `S`, an enum without fields:
    /// `say` declares the transitions between them. An entity has one if it is spawned with
    /// [`State::new`]. See [`EntityTransitions`](crate::EntityTransitions), [`State`] and
    /// [`World::go_entity`](crate::World::go_entity). A state that is neither reached nor left, and
    /// a transition that is declared twice, are errors.
    pub fn entity_states<S: States>(
        &mut self,
        say: impl FnOnce(&mut EntityMachine<S>),
    ) -> &mut Self {
        let mut machine = EntityMachine::new();
        say(&mut machine);
        self.registry.errors.extend(machine.graph.check(true));
        if machine.graph.is_guarded() {
            self.event::<EntityRefused>();
        }
        self.machine(machine).component::<State<S>>()
    }

    fn machine(&mut self, machine: impl AnyMachine + 'static) -> &mut Self {
        let id = machine.id();
        if !self.may("state machine", id, None) {
            return self;
        }
        if self.registry.machines.iter().any(|known| known.id() == id) {
            self.registry.errors.push(format!(
                "two state machines have the id `{id}`: declare it once, or give one of the enums \
                 another id"
            ));
        }
        self.registry.machines.push(Box::new(machine));
        self
    }

    /// Entities of this kind are made of what `say` says: see
    /// [`World::spawn_template`](crate::World::spawn_template).
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Position, Velocity};
    /// use rekindle_sim::{Commands, IntoSystems as _};
    ///
    /// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
    /// game.template("coin", |coin| {
    ///     coin.with(Position { x: 0.0, y: 0.0 }).with(Coin { worth: 1 });
    /// });
    /// game.template("runaway", |coin| {
    ///     coin.extends("coin").with(Velocity { x: 2.0 });
    ///     coin.change(|coin: &mut Coin| coin.worth *= 5);
    /// });
    /// # }
    /// fn release(mut commands: Commands) {
    ///     commands.spawn_template("runaway", Position { x: 5.0, y: 0.0 });
    /// }
    /// let system = release.every(300);
    /// ```
    pub fn template(&mut self, name: &str, say: impl FnOnce(&mut Template)) -> &mut Self {
        if self.may("template", name, None) {
            let mut template = Template::new(name);
            say(&mut template);
            self.templates.push(template);
        }
        self
    }

    /// The two networked fields of `T` that say where an entity is: snapshots put near entities
    /// first.
    pub fn position<T: Component>(&mut self, x: &str, y: &str) -> &mut Self {
        let new = (format!("{}.{x}", T::ID), format!("{}.{y}", T::ID));
        if let Some((x, y)) = self.position.as_ref().filter(|known| **known != new) {
            self.registry.errors.push(format!(
                "`position` is said twice, as `{x}`, `{y}` and as `{}`, `{}`: keep one",
                new.0, new.1
            ));
        }
        self.position = Some(new);
        self
    }

    /// Who sees what: `say` declares it. What a viewer may not see, player or spectator, is in no
    /// byte of that viewer's snapshots. May be called several times: rules add up.
    ///
    /// ```
    /// use rekindle_sim::{Component, Entity, GameBuilder, PlayerId, Viewer};
    ///
    /// #[derive(Clone, Component)]
    /// #[component(id = "tank")]
    /// struct Tank {
    ///     player: PlayerId,
    ///     #[net(bits = 4)]
    ///     team: u32,
    ///     #[net(bits = 8, owner)] // for others the component has 0 here
    ///     shells: u8,
    ///     #[net(bits = 7, team)]
    ///     health: u8,
    ///     #[net] // everybody's
    ///     in_bush: bool,
    /// }
    ///
    /// #[derive(Clone, Component)]
    /// #[component(id = "mine")]
    /// struct Mine {
    ///     #[net(bits = 4)]
    ///     team: u32,
    /// }
    ///
    /// /// Who is in a bush is seen by the own team alone.
    /// fn out_of_the_bush(viewer: &Viewer<'_>, _tank: Entity, tank: &Tank) -> bool {
    ///     !tank.in_bush || viewer.team() == Some(tank.team)
    /// }
    ///
    /// # fn build<G: rekindle_sim::Game>(game: &mut GameBuilder<G>) {
    /// game.component::<Tank>().component::<Mine>().visibility(|see| {
    ///     see.owned_by(|tank: &Tank| tank.player)
    ///         .team(|tank: &Tank| tank.team)
    ///         .team(|mine: &Mine| mine.team)
    ///         .team_only::<Mine>()
    ///         .visible_if(out_of_the_bush);
    /// });
    /// # }
    /// ```
    ///
    /// A component of whose fields a viewer sees none is absent for that viewer, and so is an
    /// entity without other components; a hidden field beside visible ones has the quantum 0.
    ///
    /// Whoever sees that an entity has a high slot, or a high generation, may guess that there are
    /// or were others. What a game tells by [`Output`](crate::Output) is told to whom it says.
    pub fn visibility(&mut self, say: impl FnOnce(&mut Visibility)) -> &mut Self {
        say(&mut self.visibility);
        self
    }

    /// How far a player sees from its avatar; needs [`GameBuilder::position`]. A player without an
    /// avatar that has a position sees, of what has one, its own and what is always relevant; so do
    /// spectators, unless [`Visibility::spectators_see_all`].
    ///
    /// ```
    /// # use rekindle_sim::doc_game::{Coin, Duel, Position};
    /// use rekindle_sim::{GameBuilder, Interest};
    ///
    /// # fn build(game: &mut GameBuilder<Duel>) {
    /// game.position::<Position>("x", "y")
    ///     .interest(|_rules| Interest::new(30.0, 5.0))
    ///     .visibility(|see| {
    ///         see.always_relevant::<Coin>();
    ///     });
    /// # }
    /// ```
    pub fn interest(
        &mut self,
        make: impl Fn(&G::Config) -> Interest + Send + Sync + 'static,
    ) -> &mut Self {
        if std::mem::replace(&mut self.interest, true) {
            self.registry.errors.push("`interest` is said twice: keep one".to_owned());
        }
        self.constant(make)
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

/// What is wrong with the name and the pace of a game, and with the keys of its configuration.
fn check_constants<G: Game>(former: &FormerKeys) -> Vec<String> {
    let mut problems = check_former(former, &G::Config::default());
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if G::NAME.is_empty() || !G::NAME.chars().all(good) {
        let words = "has other characters than `a-z`, `0-9` and `-`";
        problems.push(format!("the name `{}` {words}", G::NAME));
    }
    if G::TICK_RATE == 0 {
        problems.push("a tick rate of 0".to_owned());
    }
    if !G::TICK_RATES.contains(&G::TICK_RATE) || *G::TICK_RATES.start() == 0 {
        let (rate, rates) = (G::TICK_RATE, G::TICK_RATES);
        problems.push(format!("`TICK_RATES` {rates:?} without the usual rate {rate}, or from 0"));
    }
    problems
}

/// A game whose parts fit together.
pub(crate) struct Built<G: Game> {
    pub(crate) registry: Arc<Registry>,
    pub(crate) schedule: Schedule,
    /// What a step is made of, for those who measure it.
    pub(crate) parts: Arc<[StepPart]>,
    pub(crate) net: NetSchema,
    /// Who sees what; none if everybody sees everything.
    pub(crate) rules: Option<Rules>,
    /// The encoded schema that stands in checkpoints.
    pub(crate) schema: Vec<u8>,
    pub(crate) retired: Vec<&'static str>,
    /// Keys of configurations that earlier builds had.
    pub(crate) former: FormerKeys,
    pub(crate) payloads: Payloads,
    /// The ids of events that are delivered as effects, each with the kind of that effect.
    pub(crate) delivered: BTreeMap<String, String>,
    pub(crate) extensions: Extensions<G>,
    constants: Vec<(TypeId, MakeConstant<G::Config>)>,
}

impl<G: Game> Built<G> {
    pub(crate) fn new() -> Result<Self, SimError> {
        let GameBuilder {
            mut registry,
            declarations,
            hooks,
            templates,
            constants,
            values,
            position,
            visibility,
            interest,
            told,
            retired,
            former,
            extensions,
            ..
        } = GameBuilder::<G>::filled();
        let fail = |problems: Vec<String>| SimError::Schedule {
            game: G::NAME.to_owned(),
            problem: problems.join("; "),
        };
        let mut problems = check_constants::<G>(&former);
        registry.tie_components();
        if !registry.validated.is_empty() {
            registry.add_event::<Rejected>();
        }
        let (hooks, errors) = Hooks::resolve(hooks, &registry);
        registry.hooks = hooks;
        problems.extend(errors);
        let (templates, errors) = Templates::resolve(templates, &registry);
        registry.templates = templates;
        problems.extend(errors);
        registry.tie_followers();
        registry.tie_statistics();
        problems.extend(values.resolve(&mut registry));
        registry.networked = net::networked(&registry);
        let net = net::schema(&registry, position.as_ref()).unwrap_or_else(|errors| {
            problems.extend(errors);
            NetSchema::default()
        });
        let rules = Rules::new(visibility, interest, &registry, &net).unwrap_or_else(|errors| {
            problems.extend(errors);
            None
        });
        let schedule = match declarations.build(&mut registry) {
            Ok(schedule) if problems.is_empty() => schedule,
            Ok(_) => return Err(fail(problems)),
            Err(errors) => return Err(fail(problems.into_iter().chain(errors).collect())),
        };
        let schema = crate::persist::checkpoint::Schema::of(&registry, &schedule).to_bytes();
        let registry = Arc::new(registry);
        let parts = watch::parts(&schedule).into();
        let delivered = told.iter().filter(|(_, told)| told.delivered);
        let delivered = delivered.map(|(id, _)| (id.clone(), delivery_kind(id))).collect();
        let payloads = Payloads::new(G::Input::shape(), G::Command::shape(), told);
        Ok(Self {
            registry,
            schedule,
            parts,
            net,
            rules,
            schema,
            retired,
            former,
            payloads,
            delivered,
            extensions,
            constants,
        })
    }

    /// Constants of a match with this configuration, by rules of this version.
    pub(crate) fn constants(&self, config: Arc<G::Config>, rules: u32) -> Arc<Constants> {
        let mut constants: Constants =
            self.constants.iter().map(|(id, make)| (*id, make(&config))).collect();
        constants.insert(TypeId::of::<G::Config>(), config);
        constants.insert(TypeId::of::<RulesVersion>(), Arc::new(RulesVersion(rules)));
        Arc::new(constants)
    }
}
