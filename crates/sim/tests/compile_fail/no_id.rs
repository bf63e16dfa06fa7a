use rekindle_sim::Component;

#[derive(Clone, Component)]
struct Position(f32);

fn main() {}
