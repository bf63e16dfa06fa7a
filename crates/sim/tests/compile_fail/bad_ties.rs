use rekindle_sim::{Component, Entity, Value};

#[derive(Clone, Component)]
#[component(id = "no-policy", relation = "cascade")]
struct NoPolicy(Entity);

#[derive(Clone, Component)]
#[component(id = "no-target", relation = "keep")]
struct NoTarget(u8);

#[derive(Clone, Component)]
#[component(id = "no-component", requires(Plain))]
struct NoComponent(u8);

#[derive(Clone, Value)]
struct Plain {
    #[value(alias = "other")]
    level: u8,
    other: u8,
}

#[derive(Clone, Component)]
#[component(id = "nowhere", version = 2, migrate(1 => step, 2 => step))]
struct Nowhere(u8);

fn main() {}
