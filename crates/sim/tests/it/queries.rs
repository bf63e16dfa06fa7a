//! What a query goes over, in whatever pattern the slots have its components: neighbours are gone
//! over as runs, others one by one, and it must not be seen which.

use proptest::prelude::*;
use rekindle_schema::PlayerId;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::doc_game::{Coin, Duel, Position, Velocity};
use rekindle_sim::{
    Changed, Component, Const, Entity, Game, GameBuilder, Harness, IntoSystems, Query, Stage, With,
    Without, World,
};

/// Which components an entity has: position, velocity, coin.
type Has = (bool, bool, bool);

/// Entities in stretches of equals, so that there are long runs, short ones and gaps.
fn entities() -> impl Strategy<Value = Vec<Has>> {
    let stretch = (any::<Has>(), prop_oneof![1..4usize, 4..20usize, 60..140usize]);
    prop::collection::vec(stretch, 1..12).prop_map(|stretches| {
        stretches.into_iter().flat_map(|(has, length)| vec![has; length]).collect()
    })
}

/// The entities, each with its number as the value of all that it has. They get it from the last
/// one to the first, if `backwards`: pages of columns come in any order.
fn spawn(world: &mut World, entities: &[Has], backwards: bool) -> Vec<Entity> {
    let names: Vec<Entity> = entities.iter().map(|_| world.spawn(())).collect();
    let mut all: Vec<(usize, Entity, &Has)> =
        names.iter().zip(entities).enumerate().map(|(n, (name, has))| (n, *name, has)).collect();
    if backwards {
        all.reverse();
    }
    for (number, entity, has) in all {
        let value = number as f32 / 100.0;
        if has.0 {
            world.insert(entity, Position { x: value, y: 0.0 });
        }
        if has.1 {
            world.insert(entity, Velocity { x: value });
        }
        if has.2 {
            world.insert(entity, Coin { worth: number as u8 });
        }
    }
    names
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "at")]
struct At(u32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "moves")]
struct Moves;

/// In how many ticks a system saw its `At` changed.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "seen")]
struct Seen(u32);

/// Every so many of those that move are changed by a loop, and the next ones by a fold.
struct Marks;

impl Game for Marks {
    const NAME: &'static str = "marks";
    type Config = (Vec<Has>, usize);
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<At>().component::<Moves>().component::<Seen>();
        game.add_systems(Stage::Update, (step, fold, look).chain());
    }

    fn max_players(_: &Self::Config) -> usize {
        1
    }

    fn setup(world: &mut World, (all, _): &Self::Config) {
        for has in all {
            let entity = world.spawn(());
            if has.0 {
                world.insert(entity, (At(0), Seen(0)));
            }
            if has.1 {
                world.insert(entity, Moves);
            }
        }
    }

    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn step(config: Const<(Vec<Has>, usize)>, mut moving: Query<(&mut At, &Moves)>) {
    for (index, (mut at, _)) in moving.iter_mut().enumerate() {
        if index % config.1 == 0 {
            at.0 += 1;
            at.0 += 1;
        }
    }
}

fn fold(config: Const<(Vec<Has>, usize)>, mut moving: Query<(Entity, &mut At), With<Moves>>) {
    moving.iter_mut().enumerate().for_each(|(index, (_, mut at))| {
        if index % config.1 == 1 {
            at.0 += 3;
        }
    });
}

fn look(mut changed: Query<&mut Seen, Changed<At>>) {
    for mut seen in &mut changed {
        seen.0 += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn a_query_gives_each_entity_once_with_its_own_values(
        all in entities(),
        backwards in any::<bool>(),
    ) {
        let mut duel = Harness::<Duel>::with_config(1, r#"{"coins": 0}"#);
        let world = duel.world_mut();
        let names = spawn(world, &all, backwards);
        let wanted = |which: fn(&Has) -> bool| -> Vec<(Entity, f32)> {
            let these = names.iter().zip(&all).enumerate().filter(|(_, (_, has))| which(has));
            these.map(|(number, (name, _))| (*name, number as f32 / 100.0)).collect()
        };

        let read = world.query::<(Entity, &Position, &Velocity), Without<Coin>, _>(|query| {
            let mut folded = Vec::new();
            query.iter().for_each(|(entity, at, _)| folded.push((entity, at.x)));
            let mut stepped = Vec::new();
            for (entity, at, velocity) in &query {
                assert_eq!(at.x.to_bits(), velocity.x.to_bits(), "of one entity");
                assert!(query.get(entity).is_some_and(|(name, _, _)| name == entity));
                stepped.push((entity, at.x));
            }
            assert_eq!(folded, stepped);
            // A fold that begins in the middle of a run.
            let mut rest = query.iter();
            let skipped = rest.by_ref().take(3).count();
            assert_eq!(skipped + rest.fold(0, |count, _| count + 1), stepped.len());
            stepped
        });
        prop_assert_eq!(read, wanted(|has| has.0 && has.1 && !has.2));

        let optional = world.query::<(Entity, &Position, Option<&Velocity>), (), _>(|query| {
            let value = |(entity, at, v): (_, &Position, Option<&Velocity>)| {
                (entity, v.map_or(at.x, |v| v.x))
            };
            query.iter().map(value).collect::<Vec<_>>()
        });
        prop_assert_eq!(optional, wanted(|has| has.0));
    }

    #[test]
    fn what_a_query_changes_is_marked_and_nothing_else(all in entities(), every in 1..5usize) {
        let config = serde_json::to_string(&(&all, every)).unwrap();
        let mut marks = Harness::<Marks>::with_config(1, &config);
        // In the first tick all is new.
        marks.tick();
        marks.tick();
        let world = marks.world_mut();
        let seen = world.query::<(&At, &Seen), (), _>(|query| {
            query.iter().map(|(at, seen)| (at.0, seen.0)).collect::<Vec<_>>()
        });
        let mut moving = 0;
        let wanted = |has: &Has| {
            moving += usize::from(has.1);
            match (has.1, (moving - usize::from(has.1)) % every) {
                (true, 0) => (4, 2),
                (true, 1) => (6, 2),
                _ => (0, 1),
            }
        };
        prop_assert_eq!(seen, all.iter().filter(|has| has.0).map(wanted).collect::<Vec<_>>());
    }
}
