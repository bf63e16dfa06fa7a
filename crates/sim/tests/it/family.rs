//! Relations, required components and what migrations keep: through the public doors, and with a
//! shadow that is restored all the time.

use std::sync::Arc;

use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::value::component::OldFields;
use rekindle_sim::value::shape::Datum;
use rekindle_sim::{
    Commands, Component, Entity, Event, Game, GameBuilder, Harness, IntoSystems, Match, OnDespawn,
    Query, Related, RemovedComponents, ResMut, Resource, Rng, Simulation, Stage, Typed, Value,
    World,
};

use crate::beside::Apart;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "child-of", relation = "despawn", requires(Place))]
pub struct ChildOf(pub Entity);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "aims-at", relation = "remove")]
pub struct AimsAt {
    pub target: Entity,
    pub since: Tick,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "killed-by", relation = "keep")]
pub struct KilledBy(pub Entity);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "place", requires(Weight))]
pub struct Place {
    #[value(default = 3.0)]
    pub x: f32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "weight")]
pub struct Weight(#[value(default = 7)] pub u32);

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "found")]
pub struct Found {
    pub digest: u64,
    pub related: u64,
    pub lost: u64,
    pub most: u64,
}

impl Found {
    fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
    }
}

pub struct Family;

impl Game for Family {
    const NAME: &'static str = "family";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<ChildOf>()
            .component::<AimsAt>()
            .component::<KilledBy>()
            .component::<Place>()
            .component::<Weight>()
            .resource::<Found>()
            .add_systems(Stage::First, (look, lost.on_remove::<AimsAt>()).chain())
            .add_systems(Stage::Update, churn);
    }

    fn max_players((): &()) -> usize {
        1
    }
    fn setup(world: &mut World, (): &()) {
        let root = world.spawn(Place { x: 0.0 });
        for _ in 0..20 {
            world.spawn(ChildOf(root));
        }
    }
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

/// Notes every relation backwards: a world that finds others has other bytes.
fn look(
    places: Query<(Entity, &Weight)>,
    children: Related<ChildOf>,
    hunters: Related<AimsAt>,
    victims: Related<KilledBy>,
    mut found: ResMut<Found>,
) {
    found.most = found.most.max(places.iter().count() as u64);
    for (entity, weight) in &places {
        let tree = children.tree(entity).chain(hunters.of(entity)).chain(victims.of(entity));
        for other in tree {
            found.related += 1;
            found.note(u64::from(other.slot()) << 32 | u64::from(other.generation()));
        }
        found.note(u64::from(weight.0) + children.count(entity) as u64);
    }
}

fn lost(removed: RemovedComponents<AimsAt>, mut found: ResMut<Found>) {
    for entity in removed.read() {
        found.lost += 1;
        found.note(u64::from(entity.slot()));
    }
}

/// Makes and ends entities, and gives them relations to living ones and to stale names.
fn churn(mut commands: Commands, mut rng: Rng, all: Query<Entity>, time: rekindle_sim::Time) {
    let entities: Vec<_> = all.iter().collect();
    let any = |rng: &mut Rng| match entities.get(rng.below(entities.len() as u32 + 1) as usize) {
        Some(entity) => *entity,
        None => Entity::NONE,
    };
    for _ in 0..6 {
        let (one, other) = (any(&mut rng), any(&mut rng));
        match rng.below(9) {
            0..4 if entities.len() < 120 => drop(commands.spawn(ChildOf(one))),
            4 => commands.insert(one, AimsAt { target: other, since: time.tick }),
            5 => commands.insert(one, KilledBy(other)),
            6 => commands.remove::<ChildOf>(one),
            7 if rng.one_in(3) => commands.despawn(one),
            _ => commands.insert(one, (ChildOf(other), KilledBy(other))),
        }
    }
    if entities.len() < 5 {
        commands.spawn(Weight(rng.below(9)));
    }
}

/// Runs a live world and a shadow that is restored every few ticks, also from what changed since an
/// earlier checkpoint, and compares their bytes after each tick. The systems of the shadow run side
/// by side wherever they can. Returns the live one.
pub fn shadowed<G: Game>(seed: u64, ticks: u64) -> Match<G> {
    let game = Typed::<G>::new().unwrap();
    let mut live = Typed::create(&game, b"", seed).unwrap();
    let restored = |bytes: &[u8]| {
        let mut shadow = Typed::restore(&game, bytes).unwrap();
        shadow.set_workers(Some(Arc::new(Apart)));
        shadow
    };
    let mut shadow = restored(&live.checkpoint());
    let (mut base, mut marks) = live.capture();
    for tick in 1..=ticks {
        let step = Step { tick: Tick(tick), ..Step::default() };
        assert_eq!(live.step(&step).unwrap(), shadow.step(&step).unwrap());
        let bytes = live.checkpoint();
        assert!(bytes == shadow.checkpoint(), "seed {seed}, tick {tick}: bytes differ");
        if tick % (1 + seed) == 0 {
            shadow = restored(&bytes);
        }
        if tick % 7 == 0 {
            let (operations, _) = live.changes(&base, &marks, usize::MAX).unwrap();
            let (_, state) = rekindle_schema::delta::seal(&base, &operations).unwrap();
            assert!(state == bytes, "seed {seed}, tick {tick}: a chain comes to other bytes");
            (base, marks) = live.capture();
        }
    }
    live
}

#[test]
fn a_world_with_relations_that_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let live = shadowed::<Family>(seed, 1_000);
        let found = live.world().resource::<Found>().clone();
        assert!(found.related > 10_000 && found.lost > 20 && found.most > 20, "{found:?}");
    }
    Harness::<Family>::new(9).run(300).assert_replay_identical();
}

fn scene() -> Harness<Family> {
    Harness::<Family>::new(1)
}

#[test]
fn children_end_with_their_parent_and_theirs_with_them() {
    let mut harness = scene();
    let world = harness.world_mut();
    let before = world.len();
    let parent = world.spawn(());
    let child = world.spawn(ChildOf(parent));
    let grandchild = world.spawn((ChildOf(child), AimsAt { target: parent, since: Tick(0) }));
    let hunter = world.spawn(AimsAt { target: grandchild, since: Tick(1) });
    let victim = world.spawn(KilledBy(parent));
    assert_eq!(world.related::<ChildOf>(parent).collect::<Vec<_>>(), [child]);
    assert_eq!(world.related::<AimsAt>(parent).collect::<Vec<_>>(), [grandchild]);

    assert!(world.despawn(parent));
    assert_eq!([parent, child, grandchild].map(|gone| world.contains(gone)), [false; 3]);
    assert_eq!(world.get::<AimsAt>(hunter), None, "the relation goes with its target");
    assert_eq!(world.get::<KilledBy>(victim), Some(KilledBy(parent)), "a name may be kept");
    assert_eq!(world.related::<KilledBy>(parent).count(), 0, "nobody is found from the dead");
    assert_eq!(world.len(), before + 2);
}

#[test]
fn a_relation_that_is_replaced_or_taken_away_is_gone_in_both_directions() {
    let mut harness = scene();
    let world = harness.world_mut();
    let [one, other] = [world.spawn(()), world.spawn(())];
    let child = world.spawn(ChildOf(one));
    world.insert(child, ChildOf(other));
    assert_eq!(world.related::<ChildOf>(one).count(), 0);
    assert_eq!(world.related::<ChildOf>(other).collect::<Vec<_>>(), [child]);
    world.despawn(one);
    assert!(world.contains(child));
    world.remove::<ChildOf>(child);
    assert_eq!(world.related::<ChildOf>(other).count(), 0);
    // Rings end as well.
    let ring = [world.spawn(()), world.spawn(ChildOf(child))];
    world.insert(ring[0], ChildOf(ring[1]));
    world.insert(ring[1], ChildOf(ring[0]));
    world.insert(child, ChildOf(child));
    assert!(world.despawn(ring[0]) && !world.contains(ring[1]) && world.contains(child));
    assert!(world.despawn(child));
}

#[test]
fn a_relation_to_the_dead_does_at_once_what_its_policy_says() {
    let mut harness = scene();
    let world = harness.world_mut();
    let dead = world.spawn(());
    world.despawn(dead);
    let child = world.spawn((ChildOf(dead), Weight(1)));
    assert!(!world.contains(child));
    let hunter = world.spawn((AimsAt { target: dead, since: Tick(0) }, Weight(2)));
    assert_eq!((world.get::<AimsAt>(hunter), world.contains(hunter)), (None, true));
    let victim = world.spawn(KilledBy(dead));
    assert_eq!(world.get::<KilledBy>(victim), Some(KilledBy(dead)));
    let nobodys = world.spawn(ChildOf(Entity::NONE));
    assert!(world.contains(nobodys), "to name nobody is no relation to the dead");
    assert_eq!(<ChildOf as Component>::RELATION, Some(OnDespawn::Despawn));
}

#[test]
fn required_components_come_with_the_one_that_requires_them_and_replace_nothing() {
    let mut harness = scene();
    let world = harness.world_mut();
    let entity = world.spawn(ChildOf(Entity::NONE));
    assert_eq!(world.get::<Place>(entity), Some(Place { x: 3.0 }));
    assert_eq!(world.get::<Weight>(entity), Some(Weight(7)), "required by what is required");
    let heavy = world.spawn((Weight(90), ChildOf(Entity::NONE), Place { x: 1.0 }));
    assert_eq!(world.get::<Weight>(heavy), Some(Weight(90)));
    assert_eq!(world.get::<Place>(heavy), Some(Place { x: 1.0 }));
}

#[test]
#[should_panic(expected = "relation `child-of` is not changed in place")]
fn a_relation_is_not_changed_in_place() {
    let mut harness = scene();
    let child = harness.world_mut().spawn(ChildOf(Entity::NONE));
    harness.world_mut().get_mut::<ChildOf>(child);
}

/// Makes a game type around one `build`, and says what is wrong with it.
macro_rules! problem {
    ($name:literal, |$game:ident| $build:expr) => {{
        build!(Broken, $name, |$game| $build, |_world| {});
        Typed::<Broken>::new().err().map_or_else(String::new, |error| error.to_string())
    }};
}

macro_rules! build {
    ($type:ident, $name:literal, |$game:ident| $build:expr, |$world:ident| $setup:expr) => {
        pub struct $type;
        impl Game for $type {
            const NAME: &'static str = $name;
            type Config = ();
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $build;
            }
            fn max_players((): &()) -> usize {
                1
            }
            fn setup($world: &mut World, (): &()) {
                $setup
            }
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

#[derive(Clone, Component)]
#[component(id = "wieght")]
struct Misspelt(u8);

#[test]
fn ties_to_what_is_not_there_are_refused_by_name() {
    fn change(_: Query<&mut ChildOf>) {}
    fn ask(_: Related<Weight>) {}
    let missing = problem!("broken", |game| game.component::<Place>().component::<Misspelt>());
    for words in ["component `place`", "requires `weight`", "did you mean `wieght`?"] {
        assert!(missing.contains(words), "{missing}");
    }
    let system = problem!("broken", |game| game
        .component::<ChildOf>()
        .component::<Place>()
        .component::<Weight>()
        .add_systems(Stage::Update, (change, ask.after(change))));
    for words in ["system `change`: relation `child-of`", "system `ask`: `Related` asks for"] {
        assert!(system.contains(words), "{system}");
    }
}

mod before {
    use super::*;

    #[derive(Clone, Value)]
    pub struct Item {
        pub heft: u8,
        pub rust: u8,
    }
    #[derive(Clone, Component)]
    #[component(id = "fuse")]
    pub struct Fuse {
        pub seconds: u32,
        pub colour: u8,
        pub items: Vec<Item>,
    }
    #[derive(Clone, Event)]
    #[event(id = "heard")]
    pub struct Heard {
        pub what: String,
    }
    build!(Build, "renaming", |game| game.component::<Fuse>().event::<Heard>(), |world| {
        let items = vec![Item { heft: 4, rust: 1 }];
        world.spawn(Fuse { seconds: 2, colour: 9, items });
        world.send(Heard { what: "x".to_owned() });
    });
}

mod after {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Value)]
    pub struct Item {
        #[value(alias = "heft")]
        pub weight: u16,
    }
    #[derive(Debug, Clone, PartialEq, Component)]
    #[component(id = "fuse", version = 3, migrate(1 => in_ticks, 2 => doubled))]
    pub struct Fuse {
        #[value(alias = "ticks", alias = "delay")]
        pub left: u32,
        pub items: Vec<Item>,
    }
    /// Version 1 had seconds.
    fn in_ticks(fields: &mut OldFields) -> Result<(), String> {
        match fields.remove("seconds") {
            Some(Datum::Int(seconds)) => {
                fields.insert("ticks".to_owned(), Datum::Int(seconds * 30));
                Ok(())
            }
            other => Err(format!("seconds are {other:?}")),
        }
    }
    /// Version 2 burnt twice as fast.
    fn doubled(fields: &mut OldFields) -> Result<(), String> {
        match fields.get_mut("ticks") {
            Some(Datum::Int(ticks)) => *ticks *= 2,
            other => return Err(format!("{other:?} are no ticks")),
        }
        Ok(())
    }
    #[derive(Clone, Event)]
    #[event(id = "heard")]
    pub struct Heard {
        #[value(alias = "what")]
        pub text: String,
    }
    build!(Build, "renaming", |game| game.component::<Fuse>().event::<Heard>(), |_world| {});
}

#[test]
fn a_renamed_field_keeps_its_value_and_what_is_dropped_is_said() {
    let old = Typed::<before::Build>::new().unwrap().create(b"", 1).unwrap().checkpoint();
    let game = Typed::<after::Build>::new().unwrap();
    let mut made = game.restore(&old).unwrap();
    assert_eq!(made.dropped(), ["fuse.colour", "fuse.items.rust"]);
    let fuses = made
        .world_mut()
        .query::<&after::Fuse, (), _>(|fuses| fuses.iter().cloned().collect::<Vec<_>>());
    assert_eq!(fuses, [after::Fuse { left: 120, items: vec![after::Item { weight: 4 }] }]);
    let again = game.restore(&made.checkpoint()).unwrap();
    assert!(again.dropped().is_empty(), "said once, by the build that drops it");
}

#[test]
fn steps_of_a_migration_run_from_the_version_that_is_there() {
    use rekindle_sim::value::component::Stored as _;
    let fields = |name: &str, value| Datum::Struct([(name.to_owned(), Datum::Int(value))].into());
    let mut second = fields("ticks", 7);
    after::Fuse::migrate(2, &mut second).unwrap();
    assert_eq!(second, fields("ticks", 14));
    let mut broken = fields("tocks", 7);
    let problem = after::Fuse::migrate(2, &mut broken).unwrap_err();
    assert_eq!(problem, "migration from version 2: None are no ticks");
    let mut number = Datum::Int(1);
    assert!(after::Fuse::migrate(1, &mut number).unwrap_err().contains("has no fields"));
}
