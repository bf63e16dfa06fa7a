use rekindle_sim::{Component, Resource};

#[derive(Clone, Component)]
#[component(id = "Position!")]
struct Position(f32);

#[derive(Clone, Resource)]
#[resource(name = "score")]
struct Score(u64);

fn main() {}
