//! A game with a system that always takes longer than its budget, and one that seldom runs.

use std::sync::Arc;
use std::time::Duration;

use rekindle_actors::Games;
use rekindle_schema::PlayerId;
use rekindle_sim::{
    Component, Game, GameBuilder, IntoSystems, LeaveReason, Query, Stage, Typed, World,
};

use crate::support::games;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "sum")]
struct Sum(#[net(bits = 16)] u32);

struct Greedy;

impl Game for Greedy {
    const NAME: &'static str = "greedy";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Sum>()
            .add_systems(Stage::Update, add.budget(Duration::ZERO))
            .add_systems(Stage::Last, look.every(10).budget(Duration::from_mins(1)));
    }

    fn max_players((): &()) -> usize {
        1
    }

    fn setup(world: &mut World, (): &()) {
        for at in 0..100 {
            world.spawn(Sum(at));
        }
    }

    fn join(_: &mut World, _: PlayerId) {}

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn add(mut sums: Query<&mut Sum>) {
    for mut sum in &mut sums {
        sum.0 = (sum.0 + 1) & 0xffff;
    }
}

fn look(sums: Query<&Sum>) {
    assert!(sums.iter().all(|sum| sum.0 <= 0xffff));
}

/// Beside the game that every node of these tests has.
pub(crate) fn greedy() -> Games {
    games().with(Arc::new(Typed::<Greedy>::new().expect("the game fits together")))
}
