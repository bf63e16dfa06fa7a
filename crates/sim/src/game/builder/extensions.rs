//! Parts that several games can have, and who declared what: two extensions that claim one name or
//! id do not go together, and whoever builds the game is told so at its start.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;

use crate::ecs::registry::did_you_mean;
use crate::ecs::schedule::declare::Systems;
use crate::ecs::world::World;
use crate::game::builder::{Game, GameBuilder};
use crate::value::component::Stored;

/// A part that several games can have: a zone that shrinks, a day with its nights, an economy. It
/// declares what a game declares, and a game adds it with [`GameBuilder::extend`].
///
/// What belongs to the game is given to it as it is made: how its settings are found in the game's
/// configuration, what becomes of a player. It is no state: what changes in a match belongs into
/// its resources and components.
///
/// ```
/// use rekindle_sim::doc_game::{Duel, Rules};
/// use rekindle_sim::{
///     Const, Extension, Game, GameBuilder, IntoSystems as _, Output, Resource, ResMut, Stage,
///     World,
/// };
///
/// /// How long a match takes at most.
/// struct TimeLimit<C> {
///     ticks: fn(&C) -> u64,
/// }
///
/// #[derive(Debug, Clone, PartialEq, Resource)]
/// #[resource(id = "time-limit.left")]
/// struct Left {
///     ticks: u64,
/// }
///
/// impl<G: Game> Extension<G> for TimeLimit<G::Config> {
///     fn name(&self) -> &'static str {
///         "time-limit"
///     }
///     fn build(&self, game: &mut GameBuilder<G>) {
///         game.resource::<Left>().add_systems(Stage::Last, count_down);
///     }
///     fn validate(&self, config: &G::Config) -> Result<(), String> {
///         if (self.ticks)(config) == 0 { Err("a match of no ticks".to_owned()) } else { Ok(()) }
///     }
///     fn setup(&self, world: &mut World, config: &G::Config) {
///         world.insert_resource(Left { ticks: (self.ticks)(config) });
///     }
/// }
///
/// fn count_down(mut left: ResMut<Left>, mut output: Output) {
///     left.ticks = left.ticks.saturating_sub(1);
///     if left.ticks == 0 {
///         output.end_match("the time is over");
///     }
/// }
///
/// fn build(game: &mut GameBuilder<Duel>) {
///     game.extend(TimeLimit { ticks: |rules: &Rules| u64::from(rules.goal) * 300 });
/// }
/// ```
pub trait Extension<G: Game>: Send + Sync + 'static {
    /// What errors call it: `a-z`, `0-9`, `-`. Begin with it the ids and names that it declares, as
    /// in `zone.circle`, so that they are nobody else's.
    fn name(&self) -> &'static str;

    /// Declares components, resources, events and systems, as [`Game::build`].
    fn build(&self, game: &mut GameBuilder<G>);

    /// The names of the extensions without which this one does nothing: a game that has it must
    /// have them.
    fn requires(&self) -> &'static [&'static str] {
        &[]
    }

    /// Refuses a configuration that makes no sense to it, behind [`Game::validate`].
    fn validate(&self, config: &G::Config) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// Fills the world of a new match, behind [`Game::setup`].
    fn setup(&self, world: &mut World, config: &G::Config) {
        let _ = (world, config);
    }

    /// A player enters: called behind [`Game::join`], when the player has what the game gave it.
    fn join(&self, world: &mut World, player: PlayerId) {
        let _ = (world, player);
    }

    /// A player leaves: called before [`Game::leave`], while the player still has what the game
    /// gave it.
    fn leave(&self, world: &mut World, player: PlayerId, reason: LeaveReason) {
        let _ = (world, player, reason);
    }
}

/// The extensions of a game, in the order in which they were added.
pub(crate) struct Extensions<G: Game>(pub(crate) Vec<Box<dyn Extension<G>>>);

impl<G: Game> Extensions<G> {
    /// Refuses a configuration that makes no sense to one of them.
    pub(crate) fn validate(&self, config: &G::Config) -> Result<(), String> {
        self.0.iter().try_for_each(|extension| {
            let refused = |problem| format!("extension `{}`: {problem}", extension.name());
            extension.validate(config).map_err(refused)
        })
    }

    /// What reports of panics call what they do in a step: of each `leave`, then of each `join`.
    pub(crate) fn callbacks(&self) -> impl Iterator<Item = String> {
        let of = |callback| self.0.iter().map(move |it| format!("{callback}({})", it.name()));
        of("leave").chain(of("join"))
    }

    /// Says what is wrong with them together.
    fn check(&self) -> Vec<String> {
        let names = || self.0.iter().map(|extension| extension.name());
        let mut problems = Vec::new();
        for (index, extension) in self.0.iter().enumerate() {
            let name = extension.name();
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || !name.chars().all(good) {
                problems.push(format!(
                    "extension `{name}` has other characters in its name than `a-z`, `0-9` and `-`"
                ));
            }
            if names().take(index).any(|other| other == name) {
                problems.push(format!("extension `{name}` is added twice: add it once"));
            }
            for required in extension.requires() {
                if !names().any(|other| other == *required) {
                    problems.push(format!(
                        "extension `{name}` requires extension `{required}`{}: add it with \
                         `game.extend(…)` in `Game::build`",
                        did_you_mean(required, names())
                    ));
                }
            }
        }
        problems
    }
}

/// Who declared something.
type Owner = Option<&'static str>;

/// What was declared under a name, and by whom.
#[derive(Default)]
pub(super) struct Claims {
    /// The extension that declares now; none is the game itself.
    owner: Owner,
    of: BTreeMap<(&'static str, String), (Owner, Option<TypeId>)>,
}

impl Claims {
    /// Notes that something of this kind has this name. The error says that it is another one's:
    /// whoever declares it has only that to say. The same type may be everybody's. What one and the
    /// same declares twice is found when the game is put together.
    fn claim(&mut self, kind: &'static str, name: &str, of: Option<TypeId>) -> Result<(), String> {
        let new = (self.owner, of);
        let (owner, known) = *self.of.entry((kind, name.to_owned())).or_insert(new);
        if owner == self.owner || (of.is_some() && of == known) {
            return Ok(());
        }
        let by = |owner: Owner| match owner {
            Some(name) => format!("extension `{name}`"),
            None => "the game".to_owned(),
        };
        let (first, second) = (by(owner), by(self.owner));
        Err(format!(
            "{first} and {second} do not go together: both have the {kind} `{name}`; give one of \
             them another name, or leave one out"
        ))
    }
}

impl<G: Game> GameBuilder<G> {
    /// Adds an extension. What it declares comes behind what was declared before. A name or id that
    /// the game or another extension has already is an error that names both; a type that both of
    /// them declare is shared.
    pub fn extend(&mut self, extension: impl Extension<G>) -> &mut Self {
        let before = self.claims.owner.replace(extension.name());
        extension.build(self);
        self.claims.owner = before;
        self.extensions.0.push(Box::new(extension));
        self
    }

    /// Whether something of this kind may be declared under this name; if not, that is said at
    /// start-up.
    pub(super) fn may(&mut self, kind: &'static str, name: &str, of: Option<TypeId>) -> bool {
        let claimed = self.claims.claim(kind, name, of);
        let may = claimed.is_ok();
        self.registry.errors.extend(claimed.err());
        may
    }

    /// The same of a type that is stored.
    pub(super) fn may_store<T: Stored>(&mut self, kind: &'static str) -> bool {
        self.may(kind, T::ID, Some(TypeId::of::<T>()))
    }

    /// Whether a constant may be declared: each type of them once.
    pub(super) fn may_be_constant<T: 'static>(&mut self) -> bool {
        let new = !self.registry.constants.contains(&TypeId::of::<T>());
        if self.may("constant", type_name::<T>(), None) && !new {
            self.registry.errors.push(format!(
                "the constant `{}` is said twice: keep one, or give one a type of its own",
                type_name::<T>()
            ));
        }
        new
    }

    /// These systems without those whose names are others' already.
    pub(super) fn own_systems(&mut self, mut systems: Systems) -> Systems {
        systems.list.retain(|system| self.may("system", &system.name, None));
        systems
    }

    /// Says what is wrong with the extensions together.
    pub(super) fn check_extensions(&mut self) {
        let problems = self.extensions.check();
        self.registry.errors.extend(problems);
    }
}
