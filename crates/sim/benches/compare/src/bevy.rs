//! The game on `bevy_ecs`: a world with a schedule of its own, which runs on one thread.

use bevy_ecs::prelude::*;
use bevy_ecs::schedule::SingleThreadedExecutor;

#[derive(Component)]
struct Position {
    x: f32,
    y: f32,
}

#[derive(Component)]
struct Velocity {
    x: f32,
    y: f32,
}

#[derive(Component)]
struct Health {
    points: u16,
}

#[derive(Component)]
struct Weapon {
    ready_at: u64,
    ammunition: u16,
}

#[derive(Component)]
struct Pilot {
    player: u64,
}

#[derive(Default, Resource)]
struct Score {
    steps: u64,
}

#[derive(Default, Resource)]
struct Clock {
    tick: u64,
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

fn fire(clock: Res<Clock>, mut weapons: Query<(&mut Weapon, &Position)>) {
    for (mut weapon, position) in &mut weapons {
        if weapon.ready_at <= clock.tick && position.x > 0.0 {
            weapon.ready_at = clock.tick + 60;
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
pub(crate) struct Flock {
    world: World,
    schedule: Schedule,
    moving: QueryState<(&'static mut Position, &'static Velocity)>,
}

impl Flock {
    pub(crate) fn new(entities: u32, six: bool) -> Self {
        let mut world = World::new();
        world.init_resource::<Score>();
        world.init_resource::<Clock>();
        for number in 0..entities {
            let [x, y, vx, vy] = crate::start(number);
            let mut entity = world.spawn((
                Position { x, y },
                Velocity { x: vx, y: vy },
                Health { points: 100 - (number % 50) as u16 },
                Weapon { ready_at: u64::from(number % 60), ammunition: 1_000 },
            ));
            if number % 6 == 0 {
                entity.insert(Pilot { player: number.into() });
            }
        }
        let mut schedule = Schedule::default();
        schedule.set_executor(SingleThreadedExecutor::new());
        if six {
            schedule.add_systems((drag, movement, walls, fire, regenerate, count).chain());
        } else {
            schedule.add_systems(movement);
        }
        let moving = world.query();
        Self { world, schedule, moving }
    }
}

impl crate::Game for Flock {
    fn tick(&mut self) {
        self.world.resource_mut::<Clock>().tick += 1;
        self.schedule.run(&mut self.world);
    }

    fn query(&mut self) {
        for (mut position, velocity) in self.moving.iter_mut(&mut self.world) {
            position.x += velocity.x * crate::DELTA;
            position.y += velocity.y * crate::DELTA;
        }
    }

    fn sum(&mut self) -> f32 {
        let mut all = self.world.query::<&Position>();
        all.iter(&self.world).map(|position| position.x + position.y).sum()
    }
}
