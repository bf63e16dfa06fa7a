//! A match that spawns and despawns all the time allocates nothing in a tick once it is warm: what
//! ends leaves its memory to what comes.
//!
//! The number covers the whole of `Simulation::step`: systems, commands, hooks, checks, machines,
//! indexes, grids, events, statistics. It does not cover what leaves the world and is made after
//! it: records, frames, checkpoints. What a game itself makes (texts, lists, maps in its values) is
//! the game's: see the zoo below.

#[expect(dead_code, unreachable_pub, reason = "the tests of `it` use all of it")]
#[path = "it/zoo.rs"]
mod zoo;

use crate::zoo::Zoo;
use rekindle_allocations::count;
use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    AtEdge, Bounds, Changed, Commands, Component, Entity, EntityTransitions, Event, EventReader,
    EventWriter, Game, GameBuilder, GameType, Hashed, Index, Indexed, IntoSystems, Local, Moving,
    Ordered, Past, Place, Query, Related, RemovedComponents, ResMut, Resource, Rewind, Simulation,
    Spatial, Stage, State, Statistic, Time, Typed, With, World,
};

#[global_allocator]
static ALLOCATOR: rekindle_allocations::Counting = rekindle_allocations::Counting;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "at")]
struct At {
    x: f32,
    y: f32,
}

impl Place for At {
    fn place(&self) -> [f32; 2] {
        [self.x, self.y]
    }
    fn set_place(&mut self, [x, y]: [f32; 2]) {
        (self.x, self.y) = (x, y);
    }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "speed")]
struct Speed {
    x: f32,
    y: f32,
}

impl Moving for Speed {
    fn velocity(&self) -> [f32; 2] {
        [self.x, self.y]
    }
    fn set_velocity(&mut self, [x, y]: [f32; 2]) {
        (self.x, self.y) = (x, y);
    }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "trail")]
struct Trail(Rewind<[f32; 2], 4>);

impl Past for Trail {
    type Of = At;
    const BACK: u64 = 3;
    fn record(&mut self, tick: Tick, place: [f32; 2]) {
        self.0.record(tick, place);
    }
    fn after(&self, tick: Tick) -> [f32; 2] {
        *self.0.after(tick)
    }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "bullet", requires(Trail))]
struct Bullet {
    #[value(within = 0..=8)]
    damage: u8,
    ends: Tick,
}

/// Of the turret that fired it.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "fired-by", relation = "remove")]
struct FiredBy(Entity);

/// A piece of its bullet, and gone with it.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "part-of", relation = "despawn")]
struct PartOf(Entity);

/// A tag: a component without fields.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "tracer")]
struct Tracer;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "turret")]
struct Turret {
    loaded: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Component)]
#[component(id = "fuse")]
enum Fuse {
    Safe,
    Armed,
    Spent,
}

#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "fired")]
struct Fired {
    bullet: Entity,
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "tally")]
struct Tally {
    added: u64,
    changed: u64,
    removed: u64,
    despawned: u64,
    read: u64,
    near: u64,
    spent: u64,
    indexed: u64,
}

struct ByDamage;
impl Index for ByDamage {
    type Of = Bullet;
    type Key = u8;
    type Map = Hashed<u8>;
    fn keys(bullet: &Bullet) -> impl IntoIterator<Item = u8> {
        [bullet.damage]
    }
}

/// A key for each bullet: keys come and go.
struct ByEnd;
impl Index for ByEnd {
    type Of = Bullet;
    type Key = (u64, u8);
    type Map = Ordered<(u64, u8)>;
    fn keys(bullet: &Bullet) -> impl IntoIterator<Item = (u64, u8)> {
        [(bullet.ends.0, bullet.damage)]
    }
}

struct Shots;
impl Statistic for Shots {
    const NAME: &'static str = "shots";
    const WINDOW: Option<u64> = Some(30);
    type Of = Fired;
}

struct Barrage;

impl Game for Barrage {
    const NAME: &'static str = "barrage";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>()
            .component::<Speed>()
            .component::<Trail>()
            .component::<Bullet>()
            .component::<FiredBy>()
            .component::<PartOf>()
            .component::<Tracer>()
            .component::<Turret>()
            .resource::<Tally>()
            .event::<Fired>()
            .statistic::<Shots>()
            .index::<ByDamage>()
            .index::<ByEnd>()
            .spatial::<At>(4.0)
            .rewind::<Trail>()
            .bouncing_bounds::<At, Speed>(|()| {
                Bounds::new([-40.0, -40.0], [40.0, 40.0], AtEdge::Despawn)
            })
            .template("shell", |shell| {
                shell.with(Bullet { damage: 1, ends: Tick(0) }).with(Tracer);
            })
            .entity_states::<Fuse>(|fuse| {
                fuse.timeout(Fuse::Safe, Fuse::Armed, |_, _| 3);
                fuse.allow(Fuse::Armed, Fuse::Spent);
                fuse.on_enter(Fuse::Spent, |world, _| world.resource_mut::<Tally>().spent += 1);
            });
        game.on_add::<Bullet>(|world, _| world.resource_mut::<Tally>().added += 1)
            .on_change::<Bullet>(|world, _| world.resource_mut::<Tally>().changed += 1)
            .on_remove::<Bullet>(|world, _, lost| {
                world.resource_mut::<Tally>().removed += u64::from(lost.damage);
            })
            .on_despawn::<Bullet>(|world, _, _| world.resource_mut::<Tally>().despawned += 1);
        game.add_systems(Stage::Update, (fly, fire, age, arm).chain())
            .add_systems(Stage::PostUpdate, hit)
            .add_systems(Stage::Last, notice);
    }

    fn max_players((): &()) -> usize {
        4
    }

    fn setup(world: &mut World, (): &()) {
        for turret in 0..5_u8 {
            let x = f32::from(turret) * 4.0;
            world.spawn((At { x, y: -10.0 }, Turret { loaded: turret }));
        }
    }

    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn fly(time: Time, mut flying: Query<(&mut At, &Speed)>) {
    for (mut at, speed) in &mut flying {
        at.x += speed.x * time.delta;
        at.y += speed.y * time.delta;
    }
}

/// Each turret fires every third tick, a bullet of which a part flies beside it.
fn fire(
    time: Time,
    mut commands: Commands,
    turrets: Query<(Entity, &At, &Turret)>,
    mut fired: EventWriter<Fired>,
) {
    for (turret, at, Turret { loaded }) in &turrets {
        if !(time.tick.0 + u64::from(*loaded)).is_multiple_of(3) {
            continue;
        }
        let ends = Tick(time.tick.0 + 20 + u64::from(*loaded));
        let bullet = commands.spawn_template(
            "shell",
            (
                Bullet { damage: loaded + 1, ends },
                (At { x: at.x, y: at.y }, Speed { x: 2.0, y: 30.0 }),
                FiredBy(turret),
                State::new(Fuse::Safe),
            ),
        );
        let part = commands.spawn((At { x: at.x, y: at.y + 1.0 }, PartOf(bullet)));
        commands.insert(part, Speed { x: 2.0, y: 30.0 });
        fired.send(Fired { bullet });
    }
}

/// Bullets get weaker until they end. A write that is not accepted is undone.
fn age(
    time: Time,
    mut commands: Commands,
    mut bullets: Query<(Entity, &mut Bullet)>,
    mut runs: Local<u64>,
) {
    *runs += 1;
    for (entity, mut bullet) in &mut bullets {
        if bullet.ends <= time.tick {
            commands.despawn(entity);
        } else if bullet.damage > 1 && runs.is_multiple_of(7) {
            bullet.damage -= 1;
        } else if runs.is_multiple_of(11) {
            commands.remove::<Tracer>(entity);
        }
    }
}

fn arm(
    fuses: EntityTransitions<Fuse>,
    mut bullets: Query<(Entity, &mut State<Fuse>), With<Bullet>>,
) {
    for (bullet, mut fuse) in &mut bullets {
        if fuse.is(Fuse::Armed) {
            fuses.go(bullet, &mut fuse, Fuse::Spent).expect("Armed leads to Spent");
        }
    }
}

fn hit(
    grid: Spatial<At>,
    weak: Indexed<ByDamage>,
    ends: Indexed<ByEnd>,
    fired: Related<FiredBy>,
    turrets: Query<(Entity, &At), With<Turret>>,
    mut tally: ResMut<Tally>,
) {
    for (turret, at) in &turrets {
        grid.each_within(at.place(), 6.0, |_| tally.near += 1);
        tally.indexed += fired.count(turret) as u64 + weak.count(&1) as u64;
    }
    tally.indexed += ends.range(..(10, 0)).count() as u64;
}

fn notice(
    fired: EventReader<Fired>,
    changed: Query<Entity, Changed<Bullet>>,
    gone: RemovedComponents<Tracer>,
    mut tally: ResMut<Tally>,
) {
    tally.read += (fired.len() + changed.iter().count() + gone.read().count()) as u64;
}

/// Allocations of each of `ticks` ticks without inputs.
fn allocations(running: &mut impl Simulation, ticks: u64) -> Vec<u64> {
    let first = running.tick().0 + 1;
    let steps = (first..first + ticks).map(|tick| Step { tick: Tick(tick), ..Step::default() });
    steps.map(|step| count(|| running.step(&step).unwrap()).1).collect()
}

#[test]
fn a_tick_that_spawns_and_despawns_allocates_nothing_once_it_is_warm() {
    let game = Typed::<Barrage>::new().unwrap();
    let mut barrage = Typed::create(&game, b"", 7).unwrap();
    let cold: u64 = allocations(&mut barrage, 1_500).iter().sum();
    assert!(cold > 0, "a world that grows allocates");
    let before = barrage.world().resource::<Tally>().clone();
    let warm = allocations(&mut barrage, 1_200);
    let bad: Vec<_> = warm.iter().enumerate().filter(|(_, count)| **count > 0).collect();
    assert!(bad.is_empty(), "ticks that allocate, and how often: {bad:?}");
    let after = barrage.world().resource::<Tally>().clone();
    let lived = [
        after.added - before.added,
        after.changed - before.changed,
        after.removed - before.removed,
        after.despawned - before.despawned,
        after.read - before.read,
        after.near - before.near,
        after.spent - before.spent,
        after.indexed - before.indexed,
    ];
    assert!(lived.iter().all(|count| *count > 1_000), "{lived:?}");
}

#[test]
fn a_restored_match_is_warm_again_after_a_few_seconds() {
    let game = Typed::<Barrage>::new().unwrap();
    let mut barrage = Typed::create(&game, b"", 7).unwrap();
    allocations(&mut barrage, 400);
    let mut restored = Typed::restore(&game, &barrage.checkpoint()).unwrap();
    allocations(&mut restored, 1_500);
    assert_eq!(allocations(&mut restored, 600).iter().sum::<u64>(), 0);
}

#[test]
fn a_world_that_uses_memory_again_is_what_a_restored_one_is() {
    let game = Typed::<Barrage>::new().unwrap();
    let mut live = Typed::create(&game, b"", 3).unwrap();
    let mut shadow = Typed::restore(&game, &live.checkpoint()).unwrap();
    for tick in 1..=400 {
        let step = Step { tick: Tick(tick), ..Step::default() };
        assert_eq!(live.step(&step).unwrap(), shadow.step(&step).unwrap());
        let bytes = live.checkpoint();
        assert!(bytes == shadow.checkpoint(), "tick {tick}: bytes differ");
        if tick % 7 == 0 {
            shadow = Typed::restore(&game, &bytes).unwrap();
        }
    }
}

/// What a zoo allocates is its own: the texts, lists and maps that its animals have, and what it
/// tells and asks for.
#[test]
fn a_zoo_allocates_what_its_own_values_are_made_of() {
    let game = Typed::<Zoo>::new().unwrap();
    let mut zoo = Typed::create(&game, &game.config_from_json("{}").unwrap(), 1).unwrap();
    allocations(&mut zoo, 600);
    let warm = allocations(&mut zoo, 600);
    let (sum, most) = (warm.iter().sum::<u64>(), warm.iter().max().copied().unwrap_or(0));
    assert!((1..600 * 5).contains(&sum) && most < 40, "{sum} in 600 ticks, {most} at most");
}
