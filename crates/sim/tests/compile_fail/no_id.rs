use rekindle_sim::{Component, Resource, Value};

#[derive(Clone, Component)]
struct Position(f32);

fn main() {}
