use rekindle_sim::{Component, Value};

#[derive(Clone, Value)]
struct Open {
    #[value(range = 1..5)]
    level: u8,
}

#[derive(Clone, Value)]
struct Empty {
    #[value(range = 5..=1)]
    level: u8,
}

#[derive(Clone, Value)]
struct Unknown {
    #[value(deflaut = 5)]
    level: u8,
}

#[derive(Clone, Component)]
#[component(id = "misplaced")]
struct Misplaced {
    #[component(default = 5)]
    level: u8,
}

fn main() {}
