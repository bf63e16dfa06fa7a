//! A zone that shrinks, as in battle royales: an [`Extension`] for games whose figures have a
//! place.
//!
//! The zone is a circle. It stands for a while, then shrinks to a smaller circle within it, which
//! everybody sees coming, and so on; who is outside is told to the game once a second. What becomes
//! of them, and when a round begins, the game decides: see `games/royale`.
//!
//! ```
//! use rekindle_sim::doc_game::{Duel, Rules};
//! use rekindle_sim::{
//!     Commands, Component, EventReader, GameBuilder, IntoSystems as _, Place, ResMut, Stage, Time,
//! };
//! use rekindle_zone::{Circle, Outside, Settings, Zone};
//!
//! /// A sheep, and where it is.
//! #[derive(Debug, Clone, PartialEq, Component)]
//! #[component(id = "sheep")]
//! struct Sheep {
//!     x: f32,
//!     y: f32,
//! }
//!
//! impl Place for Sheep {
//!     fn place(&self) -> [f32; 2] {
//!         [self.x, self.y]
//!     }
//!     fn set_place(&mut self, [x, y]: [f32; 2]) {
//!         (self.x, self.y) = (x, y);
//!     }
//! }
//!
//! fn build(game: &mut GameBuilder<Duel>) {
//!     // Sheep have to be inside, and the settings of the zone are always the same.
//!     game.component::<Sheep>();
//!     game.extend(Zone::<Sheep, Sheep, Rules>::new(|_rules| Settings::default()));
//!     game.add_systems(Stage::First, begin.run_if(|time: Time| time.tick.0 == 1));
//!     game.add_systems(Stage::PostUpdate, swallow.on_event::<Outside>());
//! }
//! fn begin(mut circle: ResMut<Circle>) {
//!     circle.begin();
//! }
//! fn swallow(outside: EventReader<Outside>, mut commands: Commands) {
//!     outside.read().for_each(|outside| commands.despawn(outside.entity));
//! }
//! ```

use std::marker::PhantomData;

use rekindle_sim::{
    Component, Const, Entity, Event, EventWriter, Extension, Game, GameBuilder, IntoSystems as _,
    Place, Query, Res, ResMut, Resource, Rng, Stage, Tick, Time, Value, With, World,
};
use serde::{Deserialize, Serialize};

/// The farthest that a zone can reach from the middle of the world, in units of length: clients are
/// sent places up to there.
pub const FARTHEST: f32 = 512.0;

/// How a zone shrinks: part of a game's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The middle at the beginning: x and y.
    pub middle: [f32; 2],
    /// The radius at the beginning.
    pub radius: f32,
    /// What happens then, one after the other; behind the last the zone stays as it is.
    pub steps: Vec<Shrinking>,
}

/// A circle that follows on one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shrinking {
    /// How long the zone stands before, seconds.
    pub wait_s: f32,
    /// How long it takes to shrink, seconds.
    pub shrink_s: f32,
    /// The radius to which it shrinks. Where the circle lies within the one before is left to
    /// chance.
    pub radius: f32,
}

impl Default for Settings {
    fn default() -> Self {
        let step = |wait_s, shrink_s, radius| Shrinking { wait_s, shrink_s, radius };
        let steps = vec![
            step(15.0, 10.0, 30.0),
            step(10.0, 8.0, 15.0),
            step(8.0, 6.0, 6.0),
            step(5.0, 5.0, 0.0),
        ];
        Self { middle: [0.0, 0.0], radius: 56.0, steps }
    }
}

impl Settings {
    /// Says what is wrong with them.
    fn check(&self) -> Result<(), String> {
        let [x, y] = self.middle;
        if !(x.abs() + self.radius <= FARTHEST && y.abs() + self.radius <= FARTHEST) {
            return Err(format!("the zone begins beyond {FARTHEST} from the middle of the world"));
        }
        let mut radius = self.radius;
        for (index, step) in self.steps.iter().enumerate() {
            if !(0.0..=radius).contains(&step.radius) {
                return Err(format!(
                    "step {index} shrinks from {radius} to {}: give a radius from 0 to that",
                    step.radius
                ));
            }
            if ![step.wait_s, step.shrink_s].iter().all(|seconds| (0.0..=3600.0).contains(seconds))
            {
                return Err(format!("step {index} takes no time from 0 to 3600 seconds"));
            }
            radius = step.radius;
        }
        if radius >= 0.0 { Ok(()) } else { Err(format!("a radius of {radius}")) }
    }
}

/// What the zone does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum Doing {
    /// Nothing: it has no effect.
    Off,
    /// It stands; the next circle is known.
    Stands,
    /// It becomes the next circle.
    Shrinks,
    /// It stays as it is.
    Stays,
}

/// The zone of a match, and the circle that it becomes. Clients see both
/// ([`View::resource`](rekindle_sim::View::resource)).
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "zone.circle")]
pub struct Circle {
    /// The middle: x.
    #[net(min = -512.0, max = 512.0, bits = 14)]
    pub x: f32,
    /// The middle: y.
    #[net(min = -512.0, max = 512.0, bits = 14)]
    pub y: f32,
    /// The radius.
    #[net(min = 0.0, max = 512.0, bits = 13)]
    pub radius: f32,
    /// The middle of the next circle: x.
    #[net(min = -512.0, max = 512.0, bits = 14)]
    pub next_x: f32,
    /// The middle of the next circle: y.
    #[net(min = -512.0, max = 512.0, bits = 14)]
    pub next_y: f32,
    /// The radius of the next circle.
    #[net(min = 0.0, max = 512.0, bits = 13)]
    pub next_radius: f32,
    /// What it does now.
    #[net(bits = 2)]
    pub doing: Doing,
    /// Seconds until it does something else.
    #[net(bits = 12)]
    pub seconds: u16,
    /// The step that comes or is made.
    step: u32,
    /// It begins with the next tick.
    begins: bool,
    /// When what it does began, and when it ends.
    since: Tick,
    until: Tick,
    /// The circle that it shrinks from.
    from_x: f32,
    from_y: f32,
    from_radius: f32,
}

impl Circle {
    fn new(settings: &Settings) -> Self {
        let ([x, y], radius) = (settings.middle, settings.radius);
        Self {
            x,
            y,
            radius,
            next_x: x,
            next_y: y,
            next_radius: radius,
            doing: Doing::Off,
            seconds: 0,
            step: 0,
            begins: false,
            since: Tick(0),
            until: Tick(0),
            from_x: x,
            from_y: y,
            from_radius: radius,
        }
    }

    /// From the next tick on the zone is as the settings say, and shrinks. Called by a game when a
    /// round begins.
    pub fn begin(&mut self) {
        self.begins = true;
    }

    /// The zone has no effect until it begins again. Called by a game when a round is over.
    pub fn stop(&mut self) {
        (self.begins, self.doing, self.seconds) = (false, Doing::Off, 0);
    }

    /// How far outside a place is: 0 inside, and everywhere while the zone has no effect.
    pub fn beyond(&self, [x, y]: [f32; 2]) -> f32 {
        let (x, y) = (x - self.x, y - self.y);
        let beyond = (x * x + y * y).sqrt() - self.radius;
        if self.doing == Doing::Off { 0.0 } else { beyond.max(0.0) }
    }

    /// What a tick does.
    fn advance(&mut self, settings: &Settings, time: &Time, rng: &mut Rng) {
        if self.begins {
            *self = Self::new(settings);
            self.stand(settings, time, rng);
        }
        match self.doing {
            Doing::Off | Doing::Stays => return,
            Doing::Stands if time.tick >= self.until => {
                let Some(step) = settings.steps.get(self.step as usize) else { return };
                self.doing = Doing::Shrinks;
                (self.since, self.until) = (time.tick, after(time, step.shrink_s));
                (self.from_x, self.from_y, self.from_radius) = (self.x, self.y, self.radius);
            }
            Doing::Stands => {}
            Doing::Shrinks if time.tick >= self.until => {
                (self.x, self.y, self.radius) = (self.next_x, self.next_y, self.next_radius);
                self.step += 1;
                self.stand(settings, time, rng);
            }
            Doing::Shrinks => {
                let whole = (self.until.0 - self.since.0) as f32;
                let part = (time.tick.0 - self.since.0) as f32 / whole;
                let between = |from: f32, to: f32| from + (to - from) * part;
                self.x = between(self.from_x, self.next_x);
                self.y = between(self.from_y, self.next_y);
                self.radius = between(self.from_radius, self.next_radius);
            }
        }
        let left = self.until.0.saturating_sub(time.tick.0).div_ceil(u64::from(time.rate.max(1)));
        self.seconds = left.min(u64::from(u16::MAX)) as u16;
    }

    /// Stands until the next step, and says where that leads; or stays, if there is none.
    fn stand(&mut self, settings: &Settings, time: &Time, rng: &mut Rng) {
        (self.next_x, self.next_y, self.next_radius) = (self.x, self.y, self.radius);
        let Some(step) = settings.steps.get(self.step as usize) else {
            (self.doing, self.since, self.until) = (Doing::Stays, time.tick, time.tick);
            return;
        };
        self.doing = Doing::Stands;
        (self.since, self.until) = (time.tick, after(time, step.wait_s));
        // The new circle lies within this one.
        let room = self.radius - step.radius;
        let (x, y) = in_a_disc(rng);
        self.next_x += x * room;
        self.next_y += y * room;
        self.next_radius = step.radius;
    }
}

/// The tick that comes so many seconds later.
fn after(time: &Time, seconds: f32) -> Tick {
    Tick(time.tick.0 + time.ticks(seconds))
}

/// A place in the disc of radius 1, each as likely as any other: places of the square around it are
/// drawn until one is in it.
fn in_a_disc(rng: &mut Rng) -> (f32, f32) {
    // Each try hits with a chance of 0.78.
    for _ in 0..32 {
        let (x, y) = (rng.range(-1.0, 1.0), rng.range(-1.0, 1.0));
        if x * x + y * y <= 1.0 {
            return (x, y);
        }
    }
    (0.0, 0.0)
}

/// A figure is outside of the zone: sent to systems once a second for each.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "zone.outside")]
pub struct Outside {
    /// Which.
    pub entity: Entity,
    /// How far outside.
    pub beyond: f32,
}

/// The extension: entities with an `M` and a place `P` should be inside. `C` is the configuration
/// of the game.
pub struct Zone<P, M, C> {
    settings: fn(&C) -> Settings,
    of: PhantomData<fn() -> (P, M)>,
}

impl<P, M, C> Zone<P, M, C> {
    /// `settings` finds the zone's settings in the configuration of a match.
    pub fn new(settings: fn(&C) -> Settings) -> Self {
        Self { settings, of: PhantomData }
    }
}

impl<G: Game, P: Place, M: Component> Extension<G> for Zone<P, M, G::Config> {
    fn name(&self) -> &'static str {
        "zone"
    }

    fn build(&self, game: &mut GameBuilder<G>) {
        let shrink = shrink.named("zone.shrink");
        let tell = tell_outside::<P, M>.named("zone.outside");
        game.shows::<Circle>()
            .event::<Outside>()
            .constant(self.settings)
            .add_systems(Stage::PreUpdate, (shrink, tell).chain());
    }

    fn validate(&self, config: &G::Config) -> Result<(), String> {
        (self.settings)(config).check()
    }

    fn setup(&self, world: &mut World, config: &G::Config) {
        world.insert_resource(Circle::new(&(self.settings)(config)));
    }
}

fn shrink(settings: Const<Settings>, time: Time, mut circle: ResMut<Circle>, mut rng: Rng) {
    circle.advance(&settings, &time, &mut rng);
}

fn tell_outside<P: Place, M: Component>(
    time: Time,
    circle: Res<Circle>,
    figures: Query<(Entity, &P), With<M>>,
    mut outside: EventWriter<Outside>,
) {
    if !time.tick.0.is_multiple_of(u64::from(time.rate.max(1))) {
        return;
    }
    for (entity, place) in &figures {
        let beyond = circle.beyond(place.place());
        if beyond > 0.0 {
            outside.send(Outside { entity, beyond });
        }
    }
}
