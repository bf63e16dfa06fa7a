//! Who may see what of a match: what a game declares, and what one viewer is.
//!
//! Declared with [`GameBuilder::visibility`](crate::GameBuilder::visibility),
//! [`GameBuilder::interest`](crate::GameBuilder::interest) and `#[net(owner)]`, `#[net(team)]` on
//! fields. Applied to what a tick extracted ([`decide`]), before anything is encoded: what a viewer
//! may not see is in no byte that leaves for that viewer. The rules are functions of the world
//! alone and change nothing in it, so they are no part of its state, and a game that declares none
//! pays nothing.

pub(crate) mod cells;
pub(crate) mod decide;
pub(crate) mod levels;

use std::any::{TypeId, type_name};

use rekindle_schema::PlayerId;

use crate::ecs::registry::Registry;
use crate::ecs::world::World;
use crate::value::component::{Component, SeenBy};
use crate::value::entity::Entity;

/// How far a player sees: see [`GameBuilder::interest`](crate::GameBuilder::interest).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interest {
    radius: f32,
    margin: f32,
}

impl Interest {
    /// An entity comes into view within `radius` of the player's avatar, and leaves it beyond
    /// `radius + margin`, both in the units of the position. With a margin, what moves to and fro
    /// at the border does not come and go.
    ///
    /// # Panics
    /// If the radius is not positive, the margin is negative, or one of them is not finite. A match
    /// whose configuration leads to that is refused with these words.
    pub fn new(radius: f32, margin: f32) -> Self {
        assert!(
            radius > 0.0 && margin >= 0.0 && (radius + margin).is_finite(),
            "an interest of radius {radius} and margin {margin}: give a positive radius, and a \
             margin of 0 or more"
        );
        Self { radius, margin }
    }
}

/// For whom it is decided what is seen: a player, or a spectator.
#[derive(Clone, Copy)]
pub struct Viewer<'w> {
    world: &'w World,
    player: Option<PlayerId>,
    avatar: Option<Entity>,
    team: Option<u32>,
}

impl<'w> Viewer<'w> {
    /// The player. None: a spectator.
    pub fn player(&self) -> Option<PlayerId> {
        self.player
    }

    /// The entity that the player steers.
    pub fn avatar(&self) -> Option<Entity> {
        self.avatar
    }

    /// The team of the player, by [`Visibility::player_team`] or [`Visibility::team`].
    pub fn team(&self) -> Option<u32> {
        self.team
    }

    /// The world after the tick that is to be seen.
    pub fn world(&self) -> &'w World {
        self.world
    }
}

/// Something that is read from an entity; none if it lacks the component.
type Read<R> = Box<dyn Fn(&World, Entity) -> Option<R> + Send + Sync>;

/// A rule about the entities with a component.
struct Rule<R> {
    component: TypeId,
    name: &'static str,
    find: fn(&Registry) -> Option<usize>,
    read: Read<R>,
}

impl<R> Rule<R> {
    fn new<T: Component>(
        read: impl Fn(&World, Entity) -> Option<R> + Send + Sync + 'static,
    ) -> Self {
        Self {
            component: TypeId::of::<T>(),
            name: type_name::<T>(),
            find: |registry| registry.components.of::<T>(),
            read: Box::new(read),
        }
    }

    fn is_registered(&self, registry: &Registry) -> Result<(), String> {
        match (self.find)(registry) {
            Some(_) => Ok(()),
            None => Err(format!(
                "a rule of visibility is about `{0}`, which is no component of the game: add \
                 `game.component::<{0}>()`",
                self.name
            )),
        }
    }
}

type PlayerTeam = Box<dyn Fn(&World, PlayerId) -> Option<u32> + Send + Sync>;
type Filter = Box<dyn Fn(&Viewer<'_>, Entity) -> Option<bool> + Send + Sync>;

/// The rules of a game about who sees what; made with
/// [`GameBuilder::visibility`](crate::GameBuilder::visibility).
///
/// An entity about which nothing is said is seen by everybody. A rule is about all entities with
/// some component; if several speak of an entity, all of them must allow it. What a player owns,
/// its avatar first, it always sees, whole.
#[derive(Default)]
pub struct Visibility {
    owners: Vec<Rule<Option<PlayerId>>>,
    teams: Vec<Rule<Option<u32>>>,
    player_team: Option<PlayerTeam>,
    /// Entities that only some see.
    closed: Vec<(SeenBy, Rule<()>)>,
    filters: Vec<(Rule<()>, Filter)>,
    always: Vec<Rule<()>>,
    spectators_see_all: bool,
    errors: Vec<String>,
}

impl Visibility {
    /// An entity with a `T` belongs to the player that `owner` says; `None`: to nobody. An avatar
    /// belongs to its player in any case.
    pub fn owned_by<T: Component, R: Into<Option<PlayerId>>>(
        &mut self,
        owner: impl Fn(&T) -> R + Send + Sync + 'static,
    ) -> &mut Self {
        let rule = Rule::new::<T>(move |world, entity| world.read(entity, |t| owner(t).into()));
        self.once(&rule, "owned_by", |this| &this.owners);
        self.owners.push(rule);
        self
    }

    /// An entity with a `T` is on the team that `team` says; `None`: on none.
    pub fn team<T: Component, R: Into<Option<u32>>>(
        &mut self,
        team: impl Fn(&T) -> R + Send + Sync + 'static,
    ) -> &mut Self {
        let rule = Rule::new::<T>(move |world, entity| world.read(entity, |t| team(t).into()));
        self.once(&rule, "team", |this| &this.teams);
        self.teams.push(rule);
        self
    }

    /// The team of a player. Without this a player is on the team of its avatar.
    pub fn player_team(
        &mut self,
        team: impl Fn(&World, PlayerId) -> Option<u32> + Send + Sync + 'static,
    ) -> &mut Self {
        if self.player_team.replace(Box::new(team)).is_some() {
            self.errors.push("`player_team` is said twice: keep one".to_owned());
        }
        self
    }

    /// Entities with a `T` are seen by their owners alone.
    pub fn owner_only<T: Component>(&mut self) -> &mut Self {
        self.closed.push((SeenBy::Owner, has::<T>()));
        self
    }

    /// Entities with a `T` are seen by players of their team, and by their owners.
    pub fn team_only<T: Component>(&mut self) -> &mut Self {
        self.closed.push((SeenBy::Team, has::<T>()));
        self
    }

    /// Entities with a `T` are seen by those viewers for whom `rule` holds. It is asked for each
    /// viewer and each such entity that the other rules allow, in every tick that somebody sees,
    /// and for spectators as well; not about what the viewer owns. What takes long is better kept
    /// in a resource by a system, and looked up here:
    ///
    /// ```
    /// use rekindle_sim::doc_game::Position;
    /// use rekindle_sim::{Entity, Resource, Viewer};
    ///
    /// /// Where somebody of a team is near: (team, x, y), in squares of ten metres.
    /// #[derive(Clone, Resource)]
    /// #[resource(id = "lit")]
    /// struct Lit(Vec<(u32, i32, i32)>);
    ///
    /// fn out_of_the_fog(viewer: &Viewer<'_>, _: Entity, at: &Position) -> bool {
    ///     let square = |metres: f32| (metres / 10.0).floor() as i32;
    ///     let lit = viewer.world().resource::<Lit>();
    ///     viewer.team().is_some_and(|team| lit.0.contains(&(team, square(at.x), square(at.y))))
    /// }
    ///
    /// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
    /// game.resource::<Lit>().visibility(|see| {
    ///     see.visible_if(out_of_the_fog);
    /// });
    /// # }
    /// ```
    ///
    /// A rule that panics is an error in the game: the match fails as if the tick could not be
    /// shown, is rebuilt, and parked if that does not help.
    pub fn visible_if<T: Component>(
        &mut self,
        rule: impl Fn(&Viewer<'_>, Entity, &T) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        let filter: Filter = Box::new(move |viewer, entity| {
            viewer.world.read(entity, |value| rule(viewer, entity, value))
        });
        self.filters.push((has::<T>(), filter));
        self
    }

    /// Entities with a `T` are seen at any distance: [`GameBuilder::interest`] does not count.
    ///
    /// [`GameBuilder::interest`]: crate::GameBuilder::interest
    pub fn always_relevant<T: Component>(&mut self) -> &mut Self {
        self.always.push(has::<T>());
        self
    }

    /// Spectators see all entities, whatever other rules say; of their fields those that everybody
    /// sees. A player may watch the own match on a second connection, so nothing of that is secret
    /// from anybody. Without this a spectator sees what nobody is kept from: no entity that is for
    /// its owner or a team, none that a `visible_if` refuses to a viewer without a player, and, in
    /// a game with [`GameBuilder::interest`], only what is relevant at any distance.
    ///
    /// [`GameBuilder::interest`]: crate::GameBuilder::interest
    pub fn spectators_see_all(&mut self) -> &mut Self {
        self.spectators_see_all = true;
        self
    }

    fn once<R>(&mut self, rule: &Rule<R>, what: &str, of: impl Fn(&Self) -> &Vec<Rule<R>>) {
        if of(self).iter().any(|known| known.component == rule.component) {
            self.errors.push(format!("`{what}::<{}>` is said twice: keep one", rule.name));
        }
    }

    /// Whether nothing was declared.
    fn is_empty(&self) -> bool {
        let Self { owners, teams, player_team, closed, filters, always, .. } = self;
        owners.is_empty()
            && teams.is_empty()
            && player_team.is_none()
            && closed.is_empty()
            && filters.is_empty()
            && always.is_empty()
            && !self.spectators_see_all
            && self.errors.is_empty()
    }

    /// What is wrong with the rules. `teams`: fields are for teams.
    fn check(&self, registry: &Registry, team_fields: bool) -> Vec<String> {
        let mut errors = self.errors.clone();
        let checks = self.owners.iter().map(|rule| rule.is_registered(registry));
        let checks = checks.chain(self.teams.iter().map(|rule| rule.is_registered(registry)));
        let presence = self.closed.iter().map(|(_, rule)| rule);
        let presence =
            presence.chain(self.filters.iter().map(|(rule, _)| rule)).chain(&self.always);
        let checks = checks.chain(presence.map(|rule| rule.is_registered(registry)));
        errors.extend(checks.filter_map(Result::err));
        let team_rule = self.closed.iter().any(|(closed, _)| *closed == SeenBy::Team);
        if (team_fields || team_rule) && self.teams.is_empty() {
            errors.push(
                "something is for teams only, and no entity has a team: say \
                 `game.visibility(|see| { see.team(|t: &T| t.team); })`"
                    .to_owned(),
            );
        }
        errors
    }
}

fn has<T: Component>() -> Rule<()> {
    Rule::new::<T>(|world, entity| world.read(entity, |_: &T| ()))
}
