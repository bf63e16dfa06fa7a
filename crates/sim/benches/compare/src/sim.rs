//! The game on rekindle-sim, ticked as a node does it.

use std::sync::LazyLock;

use rekindle_schema::Tick;
use rekindle_schema::record::Step;
use rekindle_sim::{
    Component, Game as _, GameBuilder, IntoSystems as _, LeaveReason, Match, PlayerId, Query,
    ResMut, Resource, Simulation as _, Stage, Time, Typed, With, World,
};

#[derive(Clone, Component)]
#[component(id = "position")]
struct Position {
    x: f32,
    y: f32,
}

#[derive(Clone, Component)]
#[component(id = "velocity")]
struct Velocity {
    x: f32,
    y: f32,
}

#[derive(Clone, Component)]
#[component(id = "health")]
struct Health {
    points: u16,
}

#[derive(Clone, Component)]
#[component(id = "weapon")]
struct Weapon {
    ready_at: u64,
    ammunition: u16,
}

#[derive(Clone, Component)]
#[component(id = "pilot")]
struct Pilot {
    player: u64,
}

#[derive(Clone, Default, Resource)]
#[resource(id = "score")]
struct Score {
    steps: u64,
}

struct Rules<const SIX: bool>;

impl<const SIX: bool> rekindle_sim::Game for Rules<SIX> {
    const NAME: &'static str = "flock";
    type Config = u32;
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>().component::<Velocity>().component::<Health>();
        game.component::<Weapon>().component::<Pilot>().resource::<Score>();
        if SIX {
            game.add_systems(
                Stage::Update,
                (drag, movement, walls, fire, regenerate, count).chain(),
            );
        } else {
            game.add_systems(Stage::Update, movement);
        }
    }

    fn max_players(_: &u32) -> usize {
        1
    }

    fn setup(world: &mut World, entities: &u32) {
        for number in 0..*entities {
            let [x, y, vx, vy] = crate::start(number);
            let entity = world.spawn((
                Position { x, y },
                Velocity { x: vx, y: vy },
                Health { points: 100 - (number % 50) as u16 },
                Weapon { ready_at: u64::from(number % 60), ammunition: 1_000 },
            ));
            if number % 6 == 0 {
                world.insert(entity, Pilot { player: number.into() });
            }
        }
    }

    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn drag(mut velocities: Query<&mut Velocity, With<Pilot>>) {
    for mut velocity in &mut velocities {
        velocity.x *= 0.999;
        velocity.y *= 0.999;
    }
}

fn movement(mut moving: Query<(&mut Position, &Velocity)>) {
    for (mut position, velocity) in &mut moving {
        position.x += velocity.x * crate::DELTA;
        position.y += velocity.y * crate::DELTA;
    }
}

fn walls(mut moving: Query<(&Position, &mut Velocity)>) {
    for (position, mut velocity) in &mut moving {
        if position.x.abs() > 99.0 {
            velocity.x = -velocity.x;
        }
        if position.y.abs() > 99.0 {
            velocity.y = -velocity.y;
        }
    }
}

fn fire(time: Time, mut weapons: Query<(&mut Weapon, &Position)>) {
    for (mut weapon, position) in &mut weapons {
        if weapon.ready_at <= time.tick.0 && position.x > 0.0 {
            weapon.ready_at = time.tick.0 + 60;
            weapon.ammunition = weapon.ammunition.saturating_sub(1);
        }
    }
}

fn regenerate(mut healths: Query<&mut Health>) {
    for mut health in &mut healths {
        if health.points < 100 {
            health.points += 1;
        }
    }
}

fn count(pilots: Query<&Pilot>, mut score: ResMut<Score>) {
    score.steps += pilots.iter().map(|pilot| pilot.player).sum::<u64>();
}

/// One world.
pub(crate) struct Flock<const SIX: bool> {
    world: Match<Rules<SIX>>,
    step: Step,
}

impl<const SIX: bool> Flock<SIX> {
    pub(crate) fn new(entities: u32) -> Self {
        // A node has one description of a game for all its matches.
        static MOVE: LazyLock<Typed<Rules<false>>> = LazyLock::new(sound);
        static ALL: LazyLock<Typed<Rules<true>>> = LazyLock::new(sound);
        let config = entities.to_string();
        let game: &dyn std::any::Any = if SIX { &*ALL } else { &*MOVE };
        let game: &Typed<Rules<SIX>> = game.downcast_ref().expect("the one of the two");
        let world = Typed::create(game, config.as_bytes(), 1).expect("a valid configuration");
        Self { world, step: Step::default() }
    }
}

fn sound<const SIX: bool>() -> Typed<Rules<SIX>> {
    assert_eq!(Rules::<SIX>::NAME, "flock");
    Typed::new().expect("the game is sound")
}

impl<const SIX: bool> crate::Game for Flock<SIX> {
    fn tick(&mut self) {
        self.step.tick = Tick(self.step.tick.0 + 1);
        drop(self.world.step(&self.step).expect("no system panics"));
    }

    fn query(&mut self) {
        self.world.world_mut().query::<(&mut Position, &Velocity), (), _>(movement);
    }

    fn sum(&mut self) -> f32 {
        self.world.world_mut().query::<&Position, (), _>(|all| {
            all.iter().map(|position| position.x + position.y).sum()
        })
    }
}
