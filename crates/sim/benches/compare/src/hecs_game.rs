//! The game on hecs: it has no schedule, so a tick is functions.

use hecs::{With, World};

struct Position {
    x: f32,
    y: f32,
}

struct Velocity {
    x: f32,
    y: f32,
}

struct Health {
    points: u16,
}

struct Weapon {
    ready_at: u64,
    ammunition: u16,
}

struct Pilot {
    player: u64,
}

/// One world.
pub(crate) struct Flock {
    world: World,
    six: bool,
    tick: u64,
    steps: u64,
}

fn drag(world: &mut World) {
    for velocity in world.query_mut::<With<&mut Velocity, &Pilot>>() {
        velocity.x *= 0.999;
        velocity.y *= 0.999;
    }
}

fn movement(world: &mut World) {
    for (position, velocity) in world.query_mut::<(&mut Position, &Velocity)>() {
        position.x += velocity.x * crate::DELTA;
        position.y += velocity.y * crate::DELTA;
    }
}

fn walls(world: &mut World) {
    for (position, velocity) in world.query_mut::<(&Position, &mut Velocity)>() {
        if position.x.abs() > 99.0 {
            velocity.x = -velocity.x;
        }
        if position.y.abs() > 99.0 {
            velocity.y = -velocity.y;
        }
    }
}

fn fire(world: &mut World, tick: u64) {
    for (weapon, position) in world.query_mut::<(&mut Weapon, &Position)>() {
        if weapon.ready_at <= tick && position.x > 0.0 {
            weapon.ready_at = tick + 60;
            weapon.ammunition = weapon.ammunition.saturating_sub(1);
        }
    }
}

fn regenerate(world: &mut World) {
    for health in world.query_mut::<&mut Health>() {
        if health.points < 100 {
            health.points += 1;
        }
    }
}

fn count(world: &mut World) -> u64 {
    world.query_mut::<&Pilot>().into_iter().map(|pilot| pilot.player).sum()
}

impl Flock {
    pub(crate) fn new(entities: u32, six: bool) -> Self {
        let mut world = World::new();
        for number in 0..entities {
            let [x, y, vx, vy] = crate::start(number);
            let entity = world.spawn((
                Position { x, y },
                Velocity { x: vx, y: vy },
                Health { points: 100 - (number % 50) as u16 },
                Weapon { ready_at: u64::from(number % 60), ammunition: 1_000 },
            ));
            if number % 6 == 0 {
                let pilot = Pilot { player: number.into() };
                world.insert_one(entity, pilot).expect("it was spawned just now");
            }
        }
        Self { world, six, tick: 0, steps: 0 }
    }
}

impl crate::Game for Flock {
    fn tick(&mut self) {
        self.tick += 1;
        if !self.six {
            return movement(&mut self.world);
        }
        drag(&mut self.world);
        movement(&mut self.world);
        walls(&mut self.world);
        fire(&mut self.world, self.tick);
        regenerate(&mut self.world);
        self.steps += count(&mut self.world);
    }

    fn query(&mut self) {
        movement(&mut self.world);
    }

    fn sum(&mut self) -> f32 {
        let all = self.world.query_mut::<&Position>().into_iter();
        all.map(|position| position.x + position.y).sum()
    }
}
