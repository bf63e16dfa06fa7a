//! Rapier moves a world that is saved and restored all the time: it stays identical to one that
//! never was.

use rekindle_physics_rapier::{Rapier, RapierTuning};
use rekindle_schema::record::{LeaveReason, Step};
use rekindle_sim::geometry::{Aabb, Vec2, vec2};
use rekindle_sim::{
    Collider, Commands, Component, Contact, Entity, EventReader, Game, GameBuilder, Harness,
    IntoSystems as _, Match, Met, Moving, Place, PlayerId, Query, ResMut, Resource, Response, Rng,
    Simulation as _, Solid, Stage, Tick, Typed, With, World,
};

#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "at")]
struct At(Vec2);

impl Place for At {
    fn place(&self) -> [f32; 2] {
        self.0.into()
    }
    fn set_place(&mut self, place: [f32; 2]) {
        self.0 = place.into();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "speed")]
struct Speed(Vec2);

impl Moving for Speed {
    fn velocity(&self) -> [f32; 2] {
        self.0.into()
    }
    fn set_velocity(&mut self, velocity: [f32; 2]) {
        self.0 = velocity.into();
    }
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "noted")]
struct Noted {
    digest: u64,
    walls: u64,
    bodies: u64,
}

/// A pit into which boxes and balls fall.
struct Pit;

impl Game for Pit {
    const NAME: &'static str = "pit";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>()
            .component::<Speed>()
            .resource::<Noted>()
            .scenery(|()| {
                let wall = |x, y, w, h| Solid::Box(Aabb::around(vec2(x, y), w, h));
                vec![
                    wall(0.0, -1.0, 14.0, 2.0),
                    wall(-7.0, 10.0, 2.0, 24.0),
                    wall(7.0, 10.0, 2.0, 24.0),
                    Solid::Circle { at: vec2(0.0, 3.0), radius: 1.5 },
                ]
            })
            .physics::<Rapier, At, Speed>(|()| RapierTuning { gravity: [0.0, -9.81] });
        game.add_systems(Stage::Update, (kick, churn).chain());
        game.add_systems(Stage::PostUpdate, note);
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn kick(mut rng: Rng, mut bodies: Query<(&mut At, &mut Speed, &mut Collider)>) {
    for (mut at, mut speed, mut collider) in &mut bodies {
        if rng.one_in(120) {
            speed.0 = vec2(rng.range(-6.0, 6.0), rng.range(0.0, 9.0));
        }
        if rng.one_in(600) {
            at.0 = vec2(rng.range(-5.0, 5.0), 14.0);
        }
        if rng.one_in(900) {
            *collider = Collider::circle(rng.range(0.2, 0.5));
        }
    }
}

fn churn(mut commands: Commands, mut rng: Rng, all: Query<Entity, With<At>>) {
    let count = all.iter().count() as u32;
    if count < 40 {
        let collider = match rng.below(3) {
            0 => Collider::circle(rng.range(0.2, 0.5)),
            1 => Collider::rectangle(rng.range(0.4, 1.0), 0.6),
            _ => Collider::circle(0.3).meeting(Collider::SCENERY),
        };
        let response = [Response::Slide, Response::Bounce, Response::Stop][rng.below(3) as usize];
        let at = vec2(rng.range(-5.0, 5.0), rng.range(8.0, 16.0));
        commands.spawn((At(at), Speed(Vec2::ZERO), collider.responding(response)));
    } else if rng.one_in(20)
        && let Some(one) = all.iter().nth(rng.below(count) as usize)
    {
        commands.despawn(one);
    }
}

fn note(contacts: EventReader<Contact>, mut noted: ResMut<Noted>) {
    for contact in contacts.read() {
        let what = match contact.with {
            Met::Scenery { solid } => {
                noted.walls += 1;
                u64::from(solid)
            }
            Met::Body { entity } => {
                noted.bodies += 1;
                u64::from(entity.slot()) << 32
            }
        };
        let what = what ^ u64::from(contact.normal.x.to_bits());
        noted.digest = (noted.digest ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
    }
}

#[test]
fn a_world_moved_by_rapier_that_is_restored_at_random_ticks_stays_identical() {
    for seed in 1..=3 {
        let game = Typed::<Pit>::new().unwrap();
        let mut live: Match<Pit> = Typed::create(&game, b"", seed).unwrap();
        let mut shadow = Typed::restore(&game, &live.checkpoint()).unwrap();
        let mut rng = Rng::stream(seed, Tick(0), 9);
        let (mut next, mut restores) = (1, 0);
        for tick in 1..=900 {
            let step = Step { tick: Tick(tick), ..Step::default() };
            assert_eq!(live.step(&step).unwrap(), shadow.step(&step).unwrap());
            let bytes = live.checkpoint();
            assert!(bytes == shadow.checkpoint(), "seed {seed}, tick {tick}, {restores} restores");
            if tick >= next {
                shadow = Typed::restore(&game, &bytes).unwrap();
                assert!(shadow.checkpoint() == bytes, "seed {seed}, tick {tick}: restored bytes");
                assert_eq!(shadow.state_hash(), live.state_hash());
                restores += 1;
                next = tick + 1 + u64::from(rng.below(12));
            }
        }
        let noted = live.world().resource::<Noted>().clone();
        assert!(restores > 80 && noted.walls > 2_000 && noted.bodies > 2_000, "{noted:?}");
        let bodies = live.world().resource::<Rapier>().len();
        println!("seed {seed}: {} bytes, {bodies} bodies", live.checkpoint().len());
    }
    Harness::<Pit>::new(9).run(300).assert_replay_identical();
}

#[test]
fn what_falls_comes_to_rest_on_the_ground_and_in_no_wall() {
    let mut pit = Harness::<Pit>::new(4).run(1_200);
    let mut resting = 0;
    pit.world_mut().query::<(&At, &Speed, &Collider), (), _>(|bodies| {
        for (at, speed, collider) in &bodies {
            let half = collider.form.extent();
            assert!(at.0.y - half.y > -0.2, "{at:?} {collider:?} is in the ground");
            assert!(at.0.x.abs() + half.x < 6.2, "{at:?} {collider:?} is in a wall");
            resting += u32::from(speed.0.length() < 0.5);
        }
    });
    assert!(resting > 5, "{resting} rest");
}

#[test]
fn a_damaged_state_is_refused() {
    let game = Typed::<Pit>::new().unwrap();
    let pit = Harness::<Pit>::new(4).run(30);
    let bytes = pit.simulation().checkpoint();
    for length in (0..bytes.len()).step_by(101) {
        assert!(game.restore(&bytes[..length]).is_err(), "cut to {length} bytes");
    }
}

/// A pit after 250 ticks, as the released form with tag 0x9001 has it.
const STATE: &[u8] = include_bytes!("../../../schema/golden/state-rapier-1.bin");
const STATE_HASH: &str = include_str!("golden/state-rapier-1.txt");

#[test]
fn the_golden_state_is_still_read_and_goes_on() {
    let game = Typed::<Pit>::new().unwrap();
    let mut made = game.restore(STATE).unwrap();
    assert_eq!(format!("{}\n", made.state_hash()), STATE_HASH);
    assert!(made.checkpoint() == STATE, "it is written as it was read");
    assert_eq!((made.tick(), made.world().resource::<Rapier>().len()), (Tick(250), 40));
    for tick in 251..=350 {
        made.step(&Step { tick: Tick(tick), ..Step::default() }).unwrap();
    }
}

#[test]
#[ignore = "writes the golden files: only for a new form, under a new name"]
fn write_the_golden_files() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let pit = Harness::<Pit>::new(11).run(250);
    let state = pit.simulation().checkpoint();
    std::fs::write(root.join("../../schema/golden/state-rapier-1.bin"), &state).unwrap();
    std::fs::create_dir_all(root.join("tests/golden")).unwrap();
    let hash = format!("{}\n", pit.simulation().state_hash());
    std::fs::write(root.join("tests/golden/state-rapier-1.txt"), hash).unwrap();
}
