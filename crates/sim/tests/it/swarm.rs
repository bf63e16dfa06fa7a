//! Indexes, grids, bounds, templates, tags, groups, timers and rings: through the public doors, and
//! with a shadow that is restored all the time.

use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::{
    AtEdge, Bounds, Bundle, ByGroup, ByTag, Changed, Commands, Component, Entity, Game,
    GameBuilder, Group, Harness, Hashed, Index, Indexed, IntoSystems, Moving, Or, Ordered, Place,
    Query, ResMut, Resource, Rewind, Rng, Spatial, Stage, Tags, Time, Timer, Typed, With, World,
};

use crate::family::shadowed;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "at")]
pub struct At {
    pub x: f32,
    pub y: f32,
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
#[component(id = "drift")]
pub struct Drift {
    pub x: f32,
    pub y: f32,
}

impl Moving for Drift {
    fn velocity(&self) -> [f32; 2] {
        [self.x, self.y]
    }
    fn set_velocity(&mut self, [x, y]: [f32; 2]) {
        (self.x, self.y) = (x, y);
    }
}

/// Where it is on a map that has no edges.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "map")]
pub struct OnMap(pub f32);

impl Place for OnMap {
    fn place(&self) -> [f32; 2] {
        [self.0, 0.0]
    }
    fn set_place(&mut self, [x, _]: [f32; 2]) {
        self.0 = x;
    }
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "bee")]
pub struct Bee {
    /// Brought into range at the end of the tick, without a stamp of its own.
    #[value(range = 0..=3)]
    pub team: u8,
    pub honey: u32,
    pub rest: Timer,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "path")]
pub struct Path(pub Rewind<f32, 4>);

pub struct ByTeam;
impl Index for ByTeam {
    type Of = Bee;
    type Key = u8;
    type Map = Hashed<u8>;
    fn keys(bee: &Bee) -> impl IntoIterator<Item = u8> {
        [bee.team]
    }
}

/// Bees with honey, by how much.
pub struct ByHoney;
impl Index for ByHoney {
    type Of = Bee;
    type Key = u32;
    type Map = Ordered<u32>;
    fn keys(bee: &Bee) -> impl IntoIterator<Item = u32> {
        (bee.honey > 0).then_some(bee.honey)
    }
}

#[derive(Bundle)]
pub struct Flight {
    pub at: At,
    pub drift: Drift,
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "hive")]
pub struct Hive {
    pub digest: u64,
    pub found: u64,
    pub near: u64,
    pub rested: u64,
    pub disbanded: u64,
    pub swarming: Timer,
}

impl Hive {
    fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
    }
}

pub struct Swarm;

impl Game for Swarm {
    const NAME: &'static str = "swarm";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>()
            .component::<Drift>()
            .component::<OnMap>()
            .component::<Bee>()
            .component::<Path>()
            .resource::<Hive>()
            .tags()
            .groups()
            .index::<ByTeam>()
            .index::<ByHoney>()
            .spatial::<At>(2.0)
            .bouncing_bounds::<At, Drift>(|()| {
                Bounds::new([-20.0, -10.0], [20.0, 10.0], AtEdge::Bounce)
            })
            .bounds::<OnMap>(|()| Bounds::new([0.0, -1.0], [9.0, 1.0], AtEdge::Despawn));
        game.template("bee", |bee| {
            bee.with(Bee { team: 1, honey: 0, rest: Timer::default() })
                .with(At { x: 0.0, y: 0.0 })
                .tagged(["flies"]);
        });
        game.template("armed", |armed| {
            armed.tagged(["flies", "stings"]).with(Path(Rewind::filled(1.0)));
        });
        game.template("wasp", |wasp| {
            wasp.extends("bee")
                .extends("armed")
                .change(|bee: &mut Bee| bee.team = 2)
                .with(Drift { x: 0.5, y: 0.25 });
        });
        game.template("lame", |lame| {
            lame.extends("wasp").without::<Drift>().in_group("brood");
        });
        game.add_systems(Stage::First, (look, neighbours).chain())
            .add_systems(Stage::Update, (fly, work, churn).chain())
            .add_systems(Stage::Last, trail);
    }

    fn max_players((): &()) -> usize {
        1
    }
    fn setup(world: &mut World, (): &()) {
        for place in 0..20 {
            let at = At { x: place as f32, y: 1.0 };
            world.spawn_template(["bee", "wasp", "lame"][place % 3], at);
        }
        world.resource_mut::<Hive>().swarming = Timer::every(rekindle_sim::Tick(0), 50);
    }
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

/// Bees that drift, or that changed.
type Drifting = Or<(With<Drift>, Changed<Bee>)>;

/// Notes everything that the indexes say.
fn look(
    teams: Indexed<ByTeam>,
    honey: Indexed<ByHoney>,
    tags: Indexed<ByTag>,
    groups: Indexed<ByGroup>,
    bees: Query<(Entity, &Bee), Drifting>,
    mut hive: ResMut<Hive>,
) {
    for team in 0..5 {
        hive.note(teams.count(&team) as u64);
        for (entity, bee) in bees.iter_many(teams.of(&team)) {
            hive.found += 1;
            hive.note(u64::from(entity.slot()) << 32 | u64::from(bee.honey));
        }
    }
    for (honey, entity) in honey.range(2..40).rev() {
        hive.note(u64::from(*honey) << 32 | u64::from(entity.slot()));
    }
    let stings = tags.of(&"stings".to_owned()).chain(groups.of(&"brood".to_owned()));
    for entity in stings {
        hive.note(u64::from(entity.generation()));
    }
}

fn neighbours(grid: Spatial<At>, places: Query<(Entity, &At)>, mut hive: ResMut<Hive>) {
    for (entity, at) in places.iter().step_by(5) {
        let near = grid.within(at.place(), 3.0);
        assert!(near.contains(&entity), "a grid is up to date when a tick begins");
        hive.near += near.len() as u64;
        let ray = grid.ray(at.place(), [1.0, 0.5], 9.0, 0.5);
        for hit in grid.nearest(at.place(), 3).iter().chain(&ray) {
            hive.note(u64::from(hit.entity.slot()) << 32 | u64::from(hit.distance.to_bits()));
        }
    }
}

fn fly(mut rng: Rng, mut flying: Query<(&mut At, &mut Drift)>) {
    for (mut at, mut drift) in &mut flying {
        if rng.one_in(9) {
            drift.x = rng.range(-3.0, 3.0);
        }
        let (x, y) = (at.x + drift.x, at.y + drift.y);
        at.set_place([x, y]);
        if rng.one_in(200) {
            at.x = f32::NAN;
        }
    }
}

fn work(time: Time, mut rng: Rng, mut bees: Query<&mut Bee>, mut hive: ResMut<Hive>) {
    for mut bee in &mut bees {
        if bee.rest.is_due(time.tick) {
            hive.rested += u64::from(bee.rest.fire(time.tick));
        }
        match rng.below(8) {
            0 => bee.honey = (bee.honey + 7) % 45,
            1 => bee.team = rng.below(6) as u8,
            2 => bee.rest = Timer::after(time.tick, 3),
            _ => {}
        }
    }
}

fn churn(
    time: Time,
    mut commands: Commands,
    mut rng: Rng,
    bees: Query<Entity, With<Bee>>,
    mut hive: ResMut<Hive>,
) {
    let count = bees.iter().count() as u32;
    if let Some(bee) = bees.iter().nth(rng.below(count + 9) as usize) {
        commands.despawn(bee);
    }
    if count < 50 {
        let (x, y) = (rng.range(-19.0, 19.0), rng.range(-9.0, 9.0));
        let over = Flight { at: At { x, y }, drift: Drift { x: 1.0, y: 0.0 } };
        let new = commands.spawn_template(["bee", "wasp", "lame"][rng.below(3) as usize], over);
        if rng.one_in(4) {
            commands.insert(new, (Tags::new(["stings", "new"]), OnMap(rng.range(-5.0, 12.0))));
        }
    }
    if hive.swarming.is_due(time.tick) {
        hive.disbanded += u64::from(hive.swarming.fire(time.tick));
        commands.add(|world| {
            let brood = world.find::<ByGroup>(&"brood".to_owned()).len();
            assert_eq!(world.despawn_group("brood"), brood);
        });
    }
}

fn trail(time: Time, mut paths: Query<(&At, &mut Path)>) {
    for (at, mut path) in &mut paths {
        path.0.record(time.tick, at.x);
    }
}

#[test]
fn a_world_with_indexes_grids_and_templates_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let live = shadowed::<Swarm>(seed, 600);
        let hive = live.world().resource::<Hive>().clone();
        assert!(hive.found > 5_000 && hive.near > 3_000 && hive.rested > 500, "{hive:?}");
        assert_eq!(hive.disbanded, 12);
    }
    Harness::<Swarm>::new(9).run(300).assert_replay_identical();
}

#[test]
fn nothing_is_outside_of_the_bounds_when_a_tick_ends() {
    let mut harness = Harness::<Swarm>::new(3);
    let mut turned = 0;
    for _ in 0..400 {
        harness.tick();
        harness.world_mut().query::<(&At, Option<&Drift>), (), _>(|all| {
            for (at, drift) in &all {
                assert!(at.x.abs() <= 20.0 && at.y.abs() <= 10.0, "{at:?}");
                turned += u32::from(drift.is_some_and(|drift| drift.y < 0.0));
            }
        });
        harness.world_mut().query::<&OnMap, (), _>(|all| {
            assert!(all.iter().all(|map| (0.0..=9.0).contains(&map.0)));
        });
    }
    assert!(turned > 0, "what is thrown back flies back: {turned}");
}

#[test]
fn a_template_has_what_it_extends_with_what_it_says_over_it() {
    let mut harness = Harness::<Swarm>::new(3);
    let world = harness.world_mut();
    let lame = world.spawn_template("lame", At { x: 5.0, y: 0.0 });
    assert_eq!(world.get::<Bee>(lame).map(|bee| bee.team), Some(2), "changed by `wasp`");
    assert_eq!(world.get::<At>(lame).map(|at| at.x), Some(5.0), "given at the spawn");
    assert_eq!(world.get::<Tags>(lame), Some(Tags::new(["flies", "stings"])));
    assert_eq!(
        (world.get::<Drift>(lame), world.get::<Group>(lame)),
        (None, Some(Group::new("brood")))
    );
    assert!(world.get::<Path>(lame).is_some(), "from `armed`");
    assert!(world.find::<ByTeam>(&2).contains(&lame));
    let near = world.grid::<At>().within([5.0, 0.0], 0.1);
    assert_eq!(near, [lame], "a grid is up to date for who has the world whole");
}

fn ask(_: Indexed<ByHoney>, _: Spatial<At>) {}

struct Wrong;
impl Game for Wrong {
    const NAME: &'static str = "wrong";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>();
        game.template("a", |a| {
            a.extends("b").change(|drift: &mut At| drift.x = 1.0);
        });
        game.template("b", |b| {
            b.extends("c").without::<At>();
        });
        game.template("c", |c| {
            c.extends("a").extends("bb").with(Drift { x: 0.0, y: 0.0 });
        });
        game.template("c", |_| {});
        game.index::<ByTeam>().spatial::<At>(0.0).spatial::<OnMap>(1.0);
        game.add_systems(Stage::Update, ask);
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn wrong_templates_indexes_and_grids_are_all_told_when_the_game_is_built() {
    let problem = Typed::<Wrong>::new().err().unwrap().to_string();
    for words in [
        "templates extend each other in a circle: `a` extends `b` extends `c` extends `a`",
        "template `c` extends `bb`, which is not declared, did you mean `b`?: add",
        "two templates are named `c`",
        "template `a` changes `at`, which nothing that it extends has: use `with`",
        "template `b` leaves out `at`, which nothing that it extends has",
        "template `c`: component `it::swarm::Drift` is not registered: add",
        "index `it::swarm::ByTeam`: component `it::swarm::Bee` is not registered",
        "with cells of 1: component `it::swarm::OnMap` is not registered",
        "the grid of `at` has cells of size 0: give a positive one",
        "system `ask`: index `it::swarm::ByHoney` is not declared: add `game.index::<",
    ] {
        assert!(problem.contains(words), "{words} is missing in: {problem}");
    }
}
