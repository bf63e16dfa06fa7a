use rekindle_sim::{Component, Value};

#[derive(Clone, Value)]
enum Colour {
    Red,
    Green,
    Blue,
}

#[derive(Clone, Component)]
#[component(id = "paint")]
struct Paint {
    #[net(bits = 2)]
    good: Colour,
    #[net(bits = 1)]
    bad: Colour,
}

fn main() {}
