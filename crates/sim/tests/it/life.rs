//! Lifecycle hooks: their order, what they are told and what not, and a shadow that is restored all
//! the time.

use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Commands, Component, Entity, Game, GameBuilder, Harness, IntoSystems, Query, Resource, Rng,
    SimError, Simulation, Stage, Typed, World,
};

use crate::family::shadowed;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "cell", requires(Wall))]
pub struct Cell {
    #[value(within = 0..=40)]
    pub energy: u8,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "wall")]
pub struct Wall(#[value(default = 2)] pub u8);

/// What is left of a cell.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "husk")]
pub struct Husk {
    pub of: Entity,
    pub energy: u8,
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "told")]
pub struct Told {
    pub lines: Vec<String>,
    pub digest: u64,
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    pub despawned: u64,
}

fn tell(world: &mut World, what: &str, entity: Entity, value: u8) {
    let tick = world.tick().0;
    let mut told = world.resource_mut::<Told>();
    let line = format!("{tick} {what} {entity:?} {value}");
    let line_hash = line.bytes().fold(told.digest, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5)
    });
    told.digest = line_hash;
    told.lines.push(line);
    if told.lines.len() > 40 {
        told.lines.clear();
    }
}

fn watch<G: Game>(game: &mut GameBuilder<G>) {
    game.component::<Cell>().component::<Wall>().component::<Husk>().resource::<Told>();
    game.on_add::<Cell>(|world, entity| {
        world.resource_mut::<Told>().added += 1;
        let energy = world.get::<Cell>(entity).map_or(0, |cell| cell.energy);
        tell(world, "cell+", entity, energy);
    });
    game.on_add::<Wall>(|world, entity| {
        let wall = world.get::<Wall>(entity).map_or(0, |wall| wall.0);
        tell(world, "wall+", entity, wall);
    });
    game.on_change::<Cell>(|world, entity| {
        world.resource_mut::<Told>().changed += 1;
        let energy = world.get::<Cell>(entity).map_or(0, |cell| cell.energy);
        tell(world, "cell*", entity, energy);
        // What a hook writes is told to no hook, and checked all the same.
        if let Some(mut wall) = world.get_mut::<Wall>(entity) {
            wall.0 = wall.0.wrapping_add(1);
        }
        if energy == 7
            && let Some(mut cell) = world.get_mut::<Cell>(entity)
        {
            cell.energy = 99;
        }
    });
    game.on_remove::<Cell>(|world, entity, cell| {
        world.resource_mut::<Told>().removed += 1;
        tell(world, "cell-", entity, cell.energy);
    });
    game.on_despawn::<Cell>(|world, entity, cell| {
        world.resource_mut::<Told>().despawned += 1;
        tell(world, "cell!", entity, cell.energy);
        if cell.energy > 3 {
            world.spawn(Husk { of: entity, energy: cell.energy });
        }
    });
    game.on_add::<Husk>(|world, entity| {
        tell(world, "husk+", entity, 0);
        // A third round: every fourth husk becomes a cell.
        if entity.slot().is_multiple_of(4) {
            world.remove::<Husk>(entity);
            world.insert(entity, Cell { energy: 1 });
        }
    });
}

macro_rules! life {
    ($type:ident, |$game:ident| $more:expr) => {
        impl Game for $type {
            const NAME: &'static str = "life";
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $more;
            }
            fn max_players((): &()) -> usize {
                4
            }
            fn setup(world: &mut World, (): &()) {
                for energy in 0..3 {
                    world.spawn(Cell { energy });
                }
            }
            fn join(world: &mut World, _: PlayerId) {
                world.spawn(Cell { energy: 30 });
            }
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

pub struct Life;
life!(Life, |game| {
    watch(game);
    game.add_systems(Stage::Update, (grow, churn).chain())
        .add_systems(Stage::PostUpdate, decay.every(2));
});

fn grow(mut rng: Rng, mut cells: Query<&mut Cell>) {
    for mut cell in &mut cells {
        if rng.one_in(4) {
            cell.energy = cell.energy.wrapping_add(rng.below(9) as u8);
        }
    }
}

fn churn(mut commands: Commands, mut rng: Rng, all: Query<(Entity, Option<&Cell>)>) {
    let entities: Vec<_> = all.iter().map(|(entity, _)| entity).collect();
    let any = |rng: &mut Rng| match entities.get(rng.below(entities.len() as u32 + 1) as usize) {
        Some(entity) => *entity,
        None => Entity::NONE,
    };
    for _ in 0..4 {
        let one = any(&mut rng);
        match rng.below(8) {
            0..3 if entities.len() < 60 => {
                commands.spawn(Cell { energy: rng.below(9) as u8 });
            }
            3 => commands.despawn(one),
            4 => commands.remove::<Cell>(one),
            5 => commands.insert(one, Cell { energy: rng.below(50) as u8 }),
            6 => {
                let brief = commands.spawn(Cell { energy: 5 });
                commands.despawn(brief);
            }
            _ => {
                commands.remove::<Cell>(one);
                commands.insert(one, Cell { energy: 11 });
            }
        }
    }
}

fn decay(mut commands: Commands, husks: Query<(Entity, &Husk)>) {
    for (entity, _) in husks.iter().take(2) {
        commands.despawn(entity);
    }
}

#[test]
fn a_world_with_hooks_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let live = shadowed::<Life>(seed, 800);
        let told = live.world().resource::<Told>().clone();
        assert!(told.added > 500 && told.changed > 300 && told.despawned > 100, "{told:?}");
        assert!(told.removed > told.despawned, "{told:?}");
        let cells = live.world().len() as u64;
        assert!(told.added - told.removed <= cells, "each loss was an addition before");
    }
    Harness::<Life>::new(9).run(300).assert_replay_identical();
}

struct Quiet;
life!(Quiet, |game| watch(game));

fn lines(harness: &mut Harness<Quiet>) -> Vec<String> {
    let mut world = harness.world_mut().resource_mut::<Told>();
    let line = |line: &String| line.split_once(' ').map_or("", |(_, line)| line).to_owned();
    std::mem::take(&mut world.lines).iter().map(line).collect()
}

#[test]
fn hooks_are_told_in_the_order_in_which_it_happened_then_of_changes_then_of_what_hooks_did() {
    let mut harness = Harness::<Quiet>::new(1);
    let setup = lines(&mut harness);
    assert_eq!(setup.len(), 6, "{setup:?}");
    assert_eq!(setup[..2], ["cell+ Entity(0v0) 0", "wall+ Entity(0v0) 2"]);
    let world = harness.world_mut();
    let [first, second]: [Entity; 2] =
        world.query::<Entity, (), _>(|all| [0, 1].map(|nth| all.iter().nth(nth).unwrap()));
    let new = world.spawn(Cell { energy: 9 });
    world.remove::<Cell>(second);
    world.despawn(first);
    harness.join(PlayerId(1));
    harness.tick();
    let told = lines(&mut harness);
    assert_eq!(
        told,
        [
            format!("cell+ {new:?} 9"),
            format!("wall+ {new:?} 2"),
            format!("cell- {second:?} 1"),
            format!("cell- {first:?} 0"),
            format!("cell! {first:?} 0"),
            // The join, in the slot that is free again.
            "cell+ Entity(0v1) 30".to_owned(),
            "wall+ Entity(0v1) 2".to_owned(),
        ]
    );
}

#[test]
fn what_comes_and_goes_between_two_fixed_points_is_told_to_nobody() {
    let mut harness = Harness::<Quiet>::new(1);
    lines(&mut harness);
    let world = harness.world_mut();
    let brief = world.spawn(Cell { energy: 30 });
    world.despawn(brief);
    let twice = world.spawn(Cell { energy: 1 });
    world.remove::<Cell>(twice);
    world.insert(twice, Cell { energy: 2 });
    harness.tick();
    let told = lines(&mut harness);
    assert_eq!(told, [format!("wall+ {twice:?} 2"), format!("cell+ {twice:?} 2")]);
}

#[test]
fn a_hook_sets_off_hooks_in_further_rounds() {
    let mut harness = Harness::<Quiet>::new(1);
    let world = harness.world_mut();
    let cell = world.spawn(Cell { energy: 9 });
    world.spawn(());
    harness.tick();
    lines(&mut harness);
    harness.world_mut().despawn(cell);
    harness.tick();
    let told = lines(&mut harness);
    assert_eq!(told[..2], [format!("cell- {cell:?} 9"), format!("cell! {cell:?} 9")]);
    assert!(told[2].starts_with("husk+") && told.len() == 3, "{told:?}");
}

struct Endless;
life!(Endless, |game| {
    game.component::<Cell>().component::<Wall>();
    game.on_add::<Cell>(|world, _| {
        if world.tick() > Tick(0) {
            world.spawn(Cell { energy: 1 });
        }
    });
});

struct Absent;
life!(Absent, |game| {
    game.component::<Cell>().component::<Wall>();
    game.on_change::<Husk>(|_, _| {});
});

#[test]
fn hooks_that_go_in_circles_and_hooks_of_nothing_are_named() {
    let game = Typed::<Endless>::new().unwrap();
    let mut made = Typed::create(&game, b"", 1).unwrap();
    made.world_mut().spawn(Cell { energy: 1 });
    let step = Step { tick: Tick(1), ..Step::default() };
    match made.step(&step) {
        Err(SimError::Panicked { system, message, .. }) => {
            assert_eq!(system, "on_add(cell)");
            assert!(
                message.contains("hooks and states set each other off for more than 16 rounds"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    let problem = Typed::<Absent>::new().err().unwrap().to_string();
    let words = "hook `on_change(husk)`: component `it::life::Husk` is not registered: add";
    assert!(problem.contains(words), "{problem}");
}
