//! Scenery, physics and the past: through the public doors, and with a shadow that is restored all
//! the time.

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::geometry::{Aabb, Vec2, vec2};
use rekindle_sim::{
    Collider, Commands, Component, Const, Contact, Entity, EventReader, Form, Game, GameBuilder,
    Harness, IntoSystems, Kinematics, Met, Moving, Past, Place, Query, ResMut, Resource, Response,
    Rewind, Rewound, Rng, Scenery, Solid, Stage, Tick, Time, Typed, With, Without, World,
};

use crate::family::shadowed;

macro_rules! vectors {
    ($($name:ident $id:literal),*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Component)]
        #[component(id = $id)]
        pub struct $name(pub Vec2);
    )*};
}

vectors!(At "at", Speed "speed");

impl Place for At {
    fn place(&self) -> [f32; 2] {
        self.0.into()
    }
    fn set_place(&mut self, place: [f32; 2]) {
        self.0 = place.into();
    }
}

impl Moving for Speed {
    fn velocity(&self) -> [f32; 2] {
        self.0.into()
    }
    fn set_velocity(&mut self, velocity: [f32; 2]) {
        self.0 = velocity.into();
    }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "trail")]
pub struct Trail(pub Rewind<Vec2, 6>);

impl Past for Trail {
    type Of = At;
    const BACK: u64 = 5;
    fn record(&mut self, tick: Tick, place: [f32; 2]) {
        self.0.record(tick, place.into());
    }
    fn after(&self, tick: Tick) -> [f32; 2] {
        (*self.0.after(tick)).into()
    }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "ghost")]
pub struct Ghost;

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "noted")]
pub struct Noted {
    pub digest: u64,
    pub walls: u64,
    pub bodies: u64,
    pub ghosts: u64,
    pub shots: u64,
    pub seen: u64,
}

impl Noted {
    fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
    }
}

const HALF: f32 = 12.0;

/// Four walls around a table of pillars and posts.
fn table() -> Vec<Solid> {
    let wall = |x: f32, y: f32, w: f32, h: f32| Solid::Box(Aabb::around(vec2(x, y), w, h));
    let side = 2.0 * HALF + 4.0;
    let mut solids = vec![
        wall(-HALF - 1.0, 0.0, 2.0, side),
        wall(HALF + 1.0, 0.0, 2.0, side),
        wall(0.0, -HALF - 1.0, side, 2.0),
        wall(0.0, HALF + 1.0, side, 2.0),
    ];
    for x in -2..=2 {
        for y in -2..=2 {
            let at = vec2(x as f32 * 4.0, y as f32 * 4.0);
            solids.push(if (x + y) % 2 == 0 {
                Solid::Circle { at, radius: 0.6 }
            } else {
                Solid::Box(Aabb::around(at, 1.0, 0.7))
            });
        }
    }
    solids
}

pub struct Table;

impl Game for Table {
    const NAME: &'static str = "table";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>()
            .component::<Speed>()
            .component::<Trail>()
            .component::<Ghost>()
            .resource::<Noted>()
            .scenery(|()| table())
            .physics::<Kinematics, At, Speed>(|()| ())
            .rewind::<Trail>()
            .add_systems(Stage::Update, (push, churn, shoot).chain())
            .add_systems(Stage::PostUpdate, note);
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn push(mut rng: Rng, mut moving: Query<&mut Speed>) {
    for mut speed in &mut moving {
        if rng.one_in(15) {
            speed.0 = vec2(rng.range(-25.0, 25.0), rng.range(-25.0, 25.0));
        }
    }
}

fn churn(mut commands: Commands, mut rng: Rng, all: Query<Entity, With<At>>) {
    let count = all.iter().count() as u32;
    if count < 30 {
        let at = vec2(rng.range(-10.0, 10.0), 2.0 + 4.0 * (rng.below(4) as f32 - 2.0));
        let collider = match rng.below(3) {
            0 => Collider::circle(rng.range(0.1, 0.5)),
            1 => Collider::rectangle(rng.range(0.2, 1.0), 0.5),
            _ => Collider::circle(0.3).meeting(Collider::SCENERY),
        };
        let response = [Response::Slide, Response::Bounce, Response::Stop, Response::Pass]
            [rng.below(4) as usize];
        let body = (At(at), Speed(Vec2::ZERO), collider.responding(response));
        let new = commands.spawn((body.0, body.1, body.2, Trail(Rewind::filled(at))));
        if response == Response::Pass {
            commands.insert(new, Ghost);
        }
    } else if rng.one_in(4)
        && let Some(last) = all.iter().nth(rng.below(count) as usize)
    {
        commands.despawn(last);
    }
}

/// Shoots at where things were, and looks at what stands in the way.
fn shoot(
    time: Time,
    scenery: Const<Scenery>,
    targets: Rewound<Trail, Without<Ghost>>,
    mut rng: Rng,
    mut noted: ResMut<Noted>,
) {
    let seen = Tick(time.tick.0.saturating_sub(u64::from(rng.below(9))));
    assert!(targets.tick(seen).0 + 5 >= time.tick.0);
    let from = vec2(rng.range(-10.0, 10.0), 2.0);
    let way = vec2(rng.range(-1.0, 1.0), rng.range(-1.0, 1.0));
    for hit in targets.ray(from.into(), way.into(), 20.0, seen, |_| Some(0.5)) {
        noted.shots += 1;
        noted.note(u64::from(hit.entity.slot()) << 32 | u64::from(hit.distance.to_bits()));
    }
    noted.seen += targets.within(from.into(), 6.0, seen).len() as u64;
    for met in scenery.ray(from, way, 20.0, 0.1) {
        noted.note((met.solid as u64) << 32 | u64::from(met.distance.to_bits()));
    }
}

fn note(contacts: EventReader<Contact>, ghosts: Query<&Ghost>, mut noted: ResMut<Noted>) {
    let mut before = None;
    for contact in contacts.read() {
        assert!(before < Some((contact.entity, contact.with)), "each pair once, in order");
        before = Some((contact.entity, contact.with));
        noted.ghosts += u64::from(ghosts.contains(contact.entity));
        match contact.with {
            Met::Scenery { solid } => {
                noted.walls += 1;
                noted.note(u64::from(solid));
            }
            Met::Body { entity } => {
                assert!(contact.entity < entity, "the lower slot is first");
                noted.bodies += 1;
                noted.note(u64::from(entity.slot()));
            }
        }
        noted.note(u64::from(contact.normal.x.to_bits()));
    }
}

#[test]
fn a_world_with_bodies_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let live = shadowed::<Table>(seed, 600);
        let noted = live.world().resource::<Noted>().clone();
        let few = [noted.walls, noted.bodies, noted.ghosts, noted.shots, noted.seen];
        assert!(few.iter().all(|count| *count > 150), "{noted:?}");
    }
    Harness::<Table>::new(9).run(300).assert_replay_identical();
}

#[test]
fn no_body_is_ever_in_a_wall_or_beyond_it() {
    let mut harness = Harness::<Table>::new(5);
    let (mut looked, mut moved) = (0, 0);
    for _ in 0..1_500 {
        harness.tick();
        harness.world_mut().query::<(&At, &Speed, &Collider), (), _>(|bodies| {
            for (at, speed, collider) in &bodies {
                if collider.response == Response::Pass {
                    continue;
                }
                for solid in table() {
                    let (gap, _) = solid.gap(collider.form, at.0);
                    assert!(gap > -1e-3, "{at:?} {collider:?} is {gap} within {solid:?}");
                }
                assert!(at.0.x.abs() < HALF && at.0.y.abs() < HALF, "{at:?} got out");
                looked += 1;
                moved += u32::from(speed.0.length() > 1.0);
            }
        });
    }
    assert!(looked > 10_000 && moved > 5_000, "{moved} of {looked} moved");
}

/// A body in the middle of nothing, another one, and what became of them after `ticks`.
fn meet(
    (at, speed, collider): (Vec2, Vec2, Collider),
    other: (Vec2, Vec2, Collider),
    ticks: u64,
) -> [(Vec2, Vec2); 2] {
    let mut harness = Harness::<Bare>::new(1);
    let world = harness.world_mut();
    let first = world.spawn((At(at), Speed(speed), collider));
    let second = world.spawn((At(other.0), Speed(other.1), other.2));
    let mut harness = harness.run(ticks);
    let world = harness.world_mut();
    [first, second]
        .map(|entity| (world.get::<At>(entity).unwrap().0, world.get::<Speed>(entity).unwrap().0))
}

/// A world of bodies without scenery.
struct Bare;

impl Game for Bare {
    const NAME: &'static str = "bare";
    const TICK_RATE: u16 = 10;
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>().component::<Speed>().physics::<Kinematics, At, Speed>(|()| ());
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn a_body_slides_bounces_stops_or_passes_as_it_says() {
    let block = (vec2(5.0, 0.0), Vec2::ZERO, Collider::rectangle(2.0, 40.0));
    let ball =
        |response| (Vec2::ZERO, vec2(60.0, 20.0), Collider::circle(1.0).responding(response));
    let near = |a: Vec2, b: Vec2| a.distance(b) < 1e-3;
    // 6 to the right and 2 upwards in a tick; at 3 it touches.
    let slid = meet(ball(Response::Slide), block, 1)[0];
    assert!(near(slid.0, vec2(3.0, 2.0)) && near(slid.1, vec2(0.0, 20.0)), "{slid:?}");
    let bounced = meet(ball(Response::Bounce), block, 1)[0];
    assert!(near(bounced.0, vec2(0.0, 2.0)) && near(bounced.1, vec2(-60.0, 20.0)), "{bounced:?}");
    let stopped = meet(ball(Response::Stop), block, 1)[0];
    assert!(near(stopped.0, vec2(3.0, 1.0)) && near(stopped.1, Vec2::ZERO), "{stopped:?}");
    let passed = meet(ball(Response::Pass), block, 1)[0];
    assert!(near(passed.0, vec2(6.0, 2.0)) && near(passed.1, vec2(60.0, 20.0)), "{passed:?}");
    // Who stands in the way is not pushed.
    assert_eq!(meet(ball(Response::Bounce), block, 1)[1], (block.0, Vec2::ZERO));
    // Of other layers, it is not there.
    let other = (block.0, block.1, block.2.in_layers(2));
    let (at, speed, collider) = ball(Response::Stop);
    assert!(near(meet((at, speed, collider.meeting(1)), other, 1)[0].0, vec2(6.0, 2.0)));
    // Nothing is too fast to be met.
    let bullet = (vec2(-4_000.0, 0.0), vec2(90_000.0, 0.0), Collider::circle(0.01));
    let stopped = meet(bullet, block, 1)[0];
    assert!((stopped.0.x - 3.99).abs() < 0.01, "{stopped:?}");
}

#[test]
fn what_overlaps_is_freed_and_what_is_pressed_against_a_wall_stays_there() {
    let fixed = (Vec2::ZERO, Vec2::ZERO, Collider::circle(1.0).responding(Response::Stop));
    let inside = (vec2(0.5, 0.0), Vec2::ZERO, Collider::rectangle(1.0, 1.0));
    let [one, two] = meet(fixed, inside, 3);
    let gap = Form::Circle { radius: 1.0 }.at(one.0).gap(inside.2.form, two.0).0;
    assert!(gap > -1e-4, "they overlap by {gap}: {one:?} {two:?}");
    let wall = (vec2(3.0, 0.0), Vec2::ZERO, Collider::rectangle(2.0, 40.0));
    let pressed = (Vec2::ZERO, vec2(5.0, 5.0), Collider::circle(1.0));
    for ticks in [10, 20] {
        let at = meet(pressed, wall, ticks)[0].0;
        assert!((at.x - 1.0).abs() < 1e-3, "held by the wall: {at:?}");
        assert!((at.y - 0.5 * ticks as f32).abs() < 1e-2, "not held along it: {at:?}");
    }
}

#[test]
fn a_collider_of_no_size_is_rejected() {
    let mut harness = Harness::<Bare>::new(1);
    let world = harness.world_mut();
    let body = (At(Vec2::ZERO), Speed(vec2(1.0, 0.0)), Collider::circle(0.5));
    let entity = world.spawn(body);
    let mut harness = harness.run(1);
    harness.world_mut().insert(entity, Collider::circle(f32::NAN));
    let harness = harness.run(1);
    assert_eq!(harness.world().get::<Collider>(entity), Some(Collider::circle(0.5)));
}

struct Twice;

impl Game for Twice {
    const NAME: &'static str = "twice";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>();
        game.physics::<Kinematics, At, Speed>(|()| ()).physics::<Kinematics, At, Speed>(|()| ());
        game.rewind::<Trail>();
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn wrong_declarations_of_bodies_are_all_told_when_the_game_is_built() {
    let problem = Typed::<Twice>::new().err().unwrap().to_string();
    for words in [
        "`physics` is said twice: keep one",
        "system `physics(rekindle.kinematics)`: component `it::bodies::Speed` is not registered",
        "system `rewind(trail)`: component `it::bodies::Trail` is not registered",
    ] {
        assert!(problem.contains(words), "{words} is missing in: {problem}");
    }
}
